"""Folders of pairs to a bag and back: which pairs, in what order, with the very same pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ros_attn.bag import BagReader, BagWriter
from ros_attn.convert.conversion import ConversionError
from ros_attn.convert.image_files import read_pixels
from ros_attn.convert.image_pairs import bag_to_pairs, pairs_to_bag
from ros_attn.errors import TopicError
from ros_attn.values import Image, Text, Value

RNG = np.random.default_rng(5)


def save(path: Path, *shape: int, dtype: type = np.uint8) -> np.ndarray:
    """A random image file; returns the pixels as OpenCV stores them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, np.iinfo(dtype).max, size=shape).astype(dtype)
    assert cv2.imwrite(str(path), pixels)
    return pixels


def values(bag: Path) -> dict[str, list[Value]]:
    found: dict[str, list[Value]] = {}
    with BagReader(bag) as reader:
        for message in reader.messages():
            found.setdefault(message.topic, []).append(reader.decode(message))
    return found


def images(bag: Path, topic: str) -> list[Image]:
    return [value for value in values(bag)[topic] if isinstance(value, Image)]


def names(bag: Path) -> list[str]:
    return [value.data for value in values(bag)["/pair_name"] if isinstance(value, Text)]


def test_one_pair_a_tick_in_natural_order(tmp_path: Path) -> None:
    for stem in ("frame10", "frame9", "frame100"):
        save(tmp_path / "set" / "vi" / f"{stem}.png", 4, 6, 3)
        save(tmp_path / "set" / "ir" / f"{stem}.bmp", 4, 6)
    result = pairs_to_bag(tmp_path / "set", tmp_path / "bag", rate_hz=30.0)
    assert result.counts == {"/pair_name": 3, "/visible/image": 3, "/infrared/image": 3}
    assert result.remarks == ()
    assert names(tmp_path / "bag") == ["frame9", "frame10", "frame100"]
    visible, infrared = (
        images(tmp_path / "bag", "/visible/image"),
        images(tmp_path / "bag", "/infrared/image"),
    )
    stamps = [10**9, 10**9 + 33_333_333, 10**9 + 66_666_667]
    assert [image.stamp_ns for image in visible] == [image.stamp_ns for image in infrared] == stamps
    assert {(image.encoding, image.frame_id) for image in visible} == {("rgb8", "visible_optical")}
    assert {(image.encoding, image.frame_id) for image in infrared} == {("mono8", "infrared_optical")}
    with BagReader(tmp_path / "bag") as reader:
        order = [(message.arrival_ns, message.topic) for message in reader.messages()]
    expected = [(t, topic) for t in stamps for topic in ("/pair_name", "/visible/image", "/infrared/image")]
    assert order == expected


def test_colours_are_rgb(tmp_path: Path) -> None:
    stored = save(tmp_path / "set" / "vi" / "a.png", 3, 5, 3)
    save(tmp_path / "set" / "ir" / "a.png", 3, 5)
    pairs_to_bag(tmp_path / "set", tmp_path / "a.mcap")
    np.testing.assert_array_equal(images(tmp_path / "a.mcap", "/visible/image")[0].data, stored[..., ::-1])


@pytest.mark.parametrize(
    ("shape", "dtype", "suffix", "encoding"),
    [
        ((5, 7), np.uint8, ".png", "mono8"),
        ((5, 7), np.uint16, ".png", "mono16"),
        ((5, 7), np.uint16, ".tif", "mono16"),
        ((5, 7, 3), np.uint8, ".tiff", "rgb8"),
        ((5, 7, 3), np.uint16, ".PNG", "rgb16"),
        ((5, 7, 4), np.uint8, ".png", "rgba8"),
    ],
)
def test_there_and_back_is_lossless(
    tmp_path: Path, shape: tuple[int, ...], dtype: type, suffix: str, encoding: str
) -> None:
    visible = {stem: save(tmp_path / "set" / "vi" / f"{stem}{suffix}", *shape, dtype=dtype) for stem in "ab"}
    for stem in "ab":
        save(tmp_path / "set" / "ir" / f"{stem}.png", 5, 7)
    pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    assert images(tmp_path / "bag", "/visible/image")[0].encoding == encoding
    result = bag_to_pairs(tmp_path / "bag", tmp_path / "png")
    assert result.counts == {"/visible/image": 2, "/infrared/image": 2}
    for stem, pixels in visible.items():
        back = cv2.imread(str(tmp_path / "png" / "visible_image" / f"{stem}.png"), cv2.IMREAD_UNCHANGED)
        assert back is not None
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, pixels)


def test_the_folder_that_comes_back_converts_again(tmp_path: Path) -> None:
    for side, shape in (("vi", (4, 6, 3)), ("ir", (4, 6))):
        save(tmp_path / "set" / side / "a.png", *shape)
    pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    bag_to_pairs(tmp_path / "bag", tmp_path / "png")
    pairs_to_bag(tmp_path / "png", tmp_path / "again", visible="visible_image", infrared="infrared_image")
    for topic in ("/visible/image", "/infrared/image"):
        first, second = images(tmp_path / "bag", topic), images(tmp_path / "again", topic)
        np.testing.assert_array_equal(first[0].data, second[0].data)


@pytest.mark.parametrize("folders", [("Vis", "Ir"), ("visible", "infrared"), ("VI", "IR"), ("vis", "ir")])
def test_sub_folders_are_found(tmp_path: Path, folders: tuple[str, str]) -> None:
    for folder in folders:
        save(tmp_path / "set" / folder / "a.png", 4, 6)
    save(tmp_path / "set" / "vi_hr" / "a.png", 8, 12)
    assert pairs_to_bag(tmp_path / "set", tmp_path / "bag").counts["/visible/image"] == 1


def test_sub_folders_that_could_both_be_meant(tmp_path: Path) -> None:
    for folder in ("Vi", "visible", "ir"):
        save(tmp_path / folder / "a.png", 4, 6)
    pairs_to_bag(tmp_path, tmp_path / "bag")  # 'vi' in any case is the default, so Vi is meant
    with pytest.raises(ConversionError, match=r"has Vi, visible; say which of these sub-folders is meant"):
        pairs_to_bag(tmp_path, tmp_path / "other", visible="rgb")
    (tmp_path / "ir").rename(tmp_path / "thermal")
    with pytest.raises(ConversionError, match=r"no sub-folder 'fir' nor one called .*; its sub-folders: Vi"):
        pairs_to_bag(tmp_path, tmp_path / "other", infrared="fir")


def test_unmatched_images_are_named(tmp_path: Path) -> None:
    for stem in "abc":
        save(tmp_path / "set" / "vi" / f"{stem}.png", 4, 6)
    for stem in "bcd":
        save(tmp_path / "set" / "ir" / f"{stem}.jpg", 4, 6)
    (tmp_path / "set" / "ir" / "notes.txt").write_text("not an image")
    result = pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    assert names(tmp_path / "bag") == ["b", "c"]
    assert result.remarks == (
        "1 visible images have no infrared one, so are left out: a",
        "1 infrared images have no visible one, so are left out: d",
    )
    assert "note: 1 visible images have no infrared one" in str(result)


def test_names_file_picks_pairs(tmp_path: Path) -> None:
    for stem in ("a", "b.2", "c"):
        save(tmp_path / "set" / "vi" / f"{stem}.png", 4, 6)
        save(tmp_path / "set" / "ir" / f"{stem}.png", 4, 6)
    listed = tmp_path / "names.txt"
    listed.write_text("# measured\nc.jpg\n\nb.2\nz\n")
    result = pairs_to_bag(tmp_path / "set", tmp_path / "bag", names_file=listed)
    assert names(tmp_path / "bag") == ["b.2", "c"]
    assert result.remarks == (f"1 names of {listed} have no image: z",)
    listed.write_text("y\n")
    with pytest.raises(ConversionError, match=r"no pairs in .* of those that .*names\.txt lists"):
        pairs_to_bag(tmp_path / "set", tmp_path / "other", names_file=listed)
    with pytest.raises(ConversionError, match=r"absent\.txt does not exist"):
        pairs_to_bag(tmp_path / "set", tmp_path / "other", names_file=tmp_path / "absent.txt")


def test_two_sizes_are_allowed_and_reported(tmp_path: Path) -> None:
    for stem, width in (("a", 6), ("b", 12)):
        save(tmp_path / "set" / "vi" / f"{stem}.png", 4, width)
        save(tmp_path / "set" / "ir" / f"{stem}.png", 4, 6)
    result = pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    assert result.remarks == ("1 of 2 pairs have images of two sizes: b (visible 12x4, infrared 6x4)",)
    assert [image.width for image in images(tmp_path / "bag", "/visible/image")] == [6, 12]


def test_grey_in_three_channels_becomes_one_where_all_of_it_is(tmp_path: Path) -> None:
    grey = {stem: save(tmp_path / "set" / "ir" / f"{stem}.png", 4, 6) for stem in "ab"}
    assert cv2.imwrite(str(tmp_path / "set" / "ir" / "b.png"), np.dstack([grey["b"]] * 3))
    (tmp_path / "set" / "vi").mkdir()
    assert cv2.imwrite(str(tmp_path / "set" / "vi" / "a.png"), np.dstack([grey["a"]] * 3))
    save(tmp_path / "set" / "vi" / "b.png", 4, 6, 3)
    pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    infrared = images(tmp_path / "bag", "/infrared/image")
    assert [image.encoding for image in infrared] == ["mono8", "mono8"]
    np.testing.assert_array_equal(infrared[1].data, grey["b"])
    assert [image.encoding for image in images(tmp_path / "bag", "/visible/image")] == ["rgb8", "rgb8"]


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    source = tmp_path / "set"
    with pytest.raises(ConversionError, match="set does not exist; name the folder"):
        pairs_to_bag(source, tmp_path / "bag")
    save(source / "vi" / "a.png", 4, 6)
    save(source / "ir" / "b.png", 4, 6)
    with pytest.raises(ConversionError, match=r"no pairs in .*: visible a; infrared b; the two images"):
        pairs_to_bag(source, tmp_path / "bag")
    save(source / "ir" / "a.png", 4, 6)
    with pytest.raises(ConversionError, match="rate_hz is 0"):
        pairs_to_bag(source, tmp_path / "bag", rate_hz=0.0)
    with pytest.raises(ConversionError, match="both sides would go to /image; name two topics"):
        pairs_to_bag(source, tmp_path / "bag", visible_topic="image", infrared_topic="/image")
    (source / "ir" / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(ConversionError, match=r"a\.png cannot be read as an image; is the file complete"):
        pairs_to_bag(source, tmp_path / "bag")
    cv2.imwrite(str(source / "ir" / "a.tif"), np.zeros((4, 6), np.int16))
    (source / "ir" / "a.png").unlink()
    with pytest.raises(ConversionError, match="1 channels of int16, which no ROS encoding names"):
        pairs_to_bag(source, tmp_path / "bag")
    save(source / "ir" / "a.jpg", 4, 6)
    with pytest.raises(ConversionError, match=r"has both a\.jpg and a\.tif"):
        pairs_to_bag(source, tmp_path / "bag")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["set"]


def test_an_output_that_exists_stays(tmp_path: Path) -> None:
    for side in ("vi", "ir"):
        save(tmp_path / "set" / side / "a.png", 4, 6)
    (tmp_path / "bag").mkdir()
    with pytest.raises(ConversionError, match="bag exists; remove it or choose another name"):
        pairs_to_bag(tmp_path / "set", tmp_path / "bag")
    pairs_to_bag(tmp_path / "set", tmp_path / "a.mcap")
    with pytest.raises(ConversionError, match="bag exists"):
        bag_to_pairs(tmp_path / "a.mcap", tmp_path / "bag")
    assert list((tmp_path / "bag").iterdir()) == []


def results_bag(path: Path) -> None:
    """Fused images with their input's stamp but later arrivals, names, and one image PNG cannot hold."""
    with BagWriter(path) as bag:
        for tick, name in enumerate(("a", "../../evil", "c")):
            stamp = 10**9 + tick
            bag.write("/pair_name", Text(stamp, name), stamp)
            bag.write("/fused", Image(stamp, np.full((2, 3), tick, np.uint8), "mono8"), stamp + 10**7)
        bag.write("/fused", Image(10**9, np.full((2, 3), 9, np.uint8), "mono8"), 2 * 10**9)
        bag.write("/depth", Image(10**9, np.ones((2, 3), np.float32), "32FC1"), 2 * 10**9)
        bgr = np.array([[[1, 2, 3]]], np.uint8)
        bag.write("/colour", Image(10**9 + 2, bgr, "bgr8"), 2 * 10**9)


def test_results_join_their_inputs_by_stamp(tmp_path: Path) -> None:
    results_bag(tmp_path / "bag")
    result = bag_to_pairs(tmp_path / "bag", tmp_path / "png")
    assert result.counts == {"/fused": 3, "/colour": 1}
    assert result.remarks == (
        "1 images of /fused have the stamp of an earlier one; they are left out",
        "1 images of /depth are 32FC1, which PNG cannot hold; they are left out",
    )
    files = sorted(str(path.relative_to(tmp_path / "png")) for path in (tmp_path / "png").rglob("*.png"))
    assert files == ["colour/c.png", "fused/1000000001.png", "fused/a.png", "fused/c.png"]
    assert [int(read_pixels(tmp_path / "png" / name)[0, 0]) for name in files[1:]] == [1, 0, 2]
    np.testing.assert_array_equal(read_pixels(tmp_path / "png" / files[0])[0, 0], [3, 2, 1])


def test_topics_are_checked(tmp_path: Path) -> None:
    results_bag(tmp_path / "bag")
    assert bag_to_pairs(tmp_path / "bag", tmp_path / "png", ["/fused"]).counts == {"/fused": 3}
    with pytest.raises(TopicError, match=r"/fussed is not an image topic of the bag \(did you mean '/fused'"):
        bag_to_pairs(tmp_path / "bag", tmp_path / "other", ["/fussed"])
    with pytest.raises(ConversionError, match=r"no image of .* was written: 1 images of /depth are 32FC1"):
        bag_to_pairs(tmp_path / "bag", tmp_path / "other", ["/depth"])
    assert not (tmp_path / "other").exists()


def test_real_pairs(tmp_path: Path, data: Path) -> None:
    source = data / "ivf_roadscene"
    few = tmp_path / "few.txt"
    few.write_text("\n".join((source / "measured40.txt").read_text().split()[:5]))
    result = pairs_to_bag(source, tmp_path / "bag", names_file=few)
    assert result.counts == {"/pair_name": 5, "/visible/image": 5, "/infrared/image": 5}
    assert result.remarks == ()
    bag_to_pairs(tmp_path / "bag", tmp_path / "png")
    for name in names(tmp_path / "bag"):
        for side, folder in (("vi", "visible_image"), ("ir", "infrared_image")):
            original = cv2.imread(str(source / side / f"{name}.jpg"), cv2.IMREAD_UNCHANGED)
            back = cv2.imread(str(tmp_path / "png" / folder / f"{name}.png"), cv2.IMREAD_UNCHANGED)
            assert original is not None and back is not None
            np.testing.assert_array_equal(back, original)
