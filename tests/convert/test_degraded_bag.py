"""A bag put into weather: the pixels of two topics in a window change as a single pair would, and nothing else does."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ros_attn.bag import BagMessage, BagReader, BagWriter
from ros_attn.cli import main
from ros_attn.convert.conversion import Conversion, ConversionError
from ros_attn.convert.degraded_bag import degrade_bag
from ros_attn.degrade.degradation import Degradation, degradation
from ros_attn.errors import BagError, RosAttnError, TopicError
from ros_attn.values import Array, Image, Imu, Text

START = 5 * 10**9
PERIOD = 10**8
VISIBLE, INFRARED = "/visible/image", "/infrared/image"
RNG = np.random.default_rng(3)


def picture(*shape: int, high: int = 256, dtype: type = np.uint8) -> Array:
    """Smooth enough that haze, dirt and blur do something, textured enough that a mix-up shows."""
    ramp = np.linspace(0.1, 0.8, shape[0])[:, None].repeat(shape[1], 1)
    ramp = ramp[..., None].repeat(shape[2], 2) if len(shape) == 3 else ramp
    return ((ramp + RNG.uniform(0, 0.2, shape)) * (high - 1)).astype(dtype)


def record(
    path: Path,
    count: int = 10,
    infrared_late_ns: int = 30_000_000,
    infrared_size: tuple[int, ...] = (40, 56),
    visible_encoding: str = "rgb8",
    infrared_encoding: str = "mono8",
    without_infrared: Sequence[int] = (),
    without_visible: Sequence[int] = (),
) -> Path:
    """Pairs at 10 Hz whose stamps differ by 4 ms, the infrared one arriving later, with an IMU and words between."""
    deep = infrared_encoding in ("mono16", "16UC1")
    # Recorded without QoS, unlike the writer's own /tf_static.
    messages: list[tuple[int, str, Any]] = [(START, "/tf_static", Text(START, "base to camera"))]
    for k in range(count):
        now = START + k * PERIOD
        colour = (40, 56, 3) if visible_encoding in ("rgb8", "bgr8") else (40, 56)
        if k not in without_visible:
            messages.append((now, VISIBLE, Image(now - 5_000_000, picture(*colour), visible_encoding, "vi")))
        if k not in without_infrared:
            pixels = picture(*infrared_size, high=9000 + 200 * k, dtype=np.uint16) if deep else picture(*infrared_size)
            messages.append((now + infrared_late_ns, INFRARED, Image(now - 1_000_000, pixels, infrared_encoding, "ir")))
        for part in range(4):
            at = now + part * 25_000_000
            zero = np.zeros(3)
            messages.append((at, "/imu", Imu(at, zero + k, zero + part, frame_id="base")))
        messages.append((now + 10_000_000, "/map_name", Text(now, f"street {k}")))
    with BagWriter(path, latched=("/map_name", INFRARED)) as bag:
        for at, topic, value in sorted(messages, key=lambda each: each[0]):
            bag.write(topic, value, at)
    return path


def degrade(source: Path, out: Path, *labels: str, **options: Any) -> Conversion:
    return degrade_bag(source, out, labels, VISIBLE, INFRARED, **options)


def raw(path: Path) -> list[BagMessage]:
    with BagReader(path) as reader:
        return [message._replace(raw=bytes(message.raw)) for message in reader.messages()]


def images(path: Path, topic: str) -> list[Image]:
    with BagReader(path) as reader:
        found = [reader.decode(message) for message in reader.messages([topic])]
    return [each for each in found if isinstance(each, Image)]


def assert_same_but(source: Path, out: Path, changed: Callable[[BagMessage], bool]) -> int:
    """Topics, QoS, order, stamps are equal; bytes are unless ``changed``, and then differ. Returns how many did."""
    before, after = raw(source), raw(out)
    assert [each[:3] for each in before] == [each[:3] for each in after]
    differ = [old for old, new in zip(before, after, strict=True) if old.raw != new.raw]
    assert differ == [each for each in before if changed(each)]
    with BagReader(source) as old, BagReader(out) as new:
        assert old.topics == new.topics
        assert (old.start_ns, old.end_ns) == (new.start_ns, new.end_ns)
        assert old.definition("sensor_msgs/msg/Image") == new.definition("sensor_msgs/msg/Image")
    return len(differ)


def assert_pairs(source: Path, out: Path, makes: Sequence[Degradation], frames: Sequence[int]) -> None:
    """The images of these frames are those of single pairs through the degradations, one after the other."""
    clear, seen = ([images(path, topic) for topic in (VISIBLE, INFRARED)] for path in (source, out))
    for k in frames:
        pair = clear[0][k].data, clear[1][k].data
        for make in makes:
            pair = make(*pair, frame=k)
        for wanted, found, old in zip(pair, (seen[0][k], seen[1][k]), (clear[0][k], clear[1][k]), strict=True):
            np.testing.assert_array_equal(found.data, wanted)
            assert (found.stamp_ns, found.encoding, found.frame_id) == (old.stamp_ns, old.encoding, old.frame_id)


def is_image(message: BagMessage) -> bool:
    return message.topic in (VISIBLE, INFRARED)


def test_inside_the_window_as_single_pairs_and_outside_byte_for_byte(tmp_path: Path) -> None:
    source = record(tmp_path / "bag")
    done = degrade(source, tmp_path / "rain", "rain:heavy", start_s=0.25, end_s=0.65, seed=4)
    # Frames 3 to 6: the infrared image of frame 2 arrives at 0.23 s and that of 6 at 0.63 s.
    inside = assert_same_but(
        source, tmp_path / "rain", lambda each: is_image(each) and 0.25e9 <= each.arrival_ns - START < 0.65e9
    )
    assert inside == 8
    assert_pairs(source, tmp_path / "rain", [Degradation("rain", "heavy", seed=4)], range(3, 7))
    assert done.counts == {"/imu": 40, INFRARED: 10, "/map_name": 10, "/tf_static": 1, VISIBLE: 10}
    assert done.remarks == ("degraded 4 pairs, and without a partner 0 visible and 0 infrared images",)
    # Rain falls anew in every frame: the same picture would not be the same.
    rain = Degradation("rain", "heavy", seed=4)
    still = images(source, VISIBLE)[3].data, images(source, INFRARED)[3].data
    assert (rain(*still, frame=3)[0] != rain(*still, frame=4)[0]).any()


@pytest.mark.parametrize(("visible", "labels"), [
    ("rgb8", ["haze:heavy", "infrared dirt:medium"]),
    ("bgr8", ["infrared dirt", "haze"]),
    ("mono8", ["snow:light"]),
    ("mono8", ["visible noise:heavy", "infrared noise:heavy"]),
    ("rgb8", ["infrared misaligned", "visible saturated:light", "low_light"]),
    ("rgb8", ["visible black", "infrared black"]),
])  # fmt: skip
def test_several_degradations_one_after_the_other(tmp_path: Path, visible: str, labels: list[str]) -> None:
    source = record(tmp_path / "a.mcap", 4, visible_encoding=visible)
    degrade(source, tmp_path / "b.mcap", *labels, seed=11)
    assert_same_but(source, tmp_path / "b.mcap", is_image)
    makes = [degradation(label, 11 + n) for n, label in enumerate(labels)]
    assert_pairs(source, tmp_path / "b.mcap", makes, range(4))


def test_faults_of_one_camera_leave_the_other_alone_whatever_its_size(tmp_path: Path) -> None:
    source = record(tmp_path / "bag", 4, infrared_size=(20, 28))
    degrade(source, tmp_path / "dirty", "infrared dirt:heavy")
    assert_same_but(source, tmp_path / "dirty", lambda each: each.topic == INFRARED)
    assert_pairs(source, tmp_path / "dirty", [degradation("infrared dirt:heavy")], range(4))
    # Dirt stays where it is: what it covers wholly has one grey level in every picture.
    changed = [
        old.data != new.data
        for old, new in zip(images(source, INFRARED), images(tmp_path / "dirty", INFRARED), strict=True)
    ]
    assert all((a == b).mean() > 0.9 for a, b in pairwise(changed)) and 0.2 < changed[0].mean() < 0.6


def test_weather_over_two_sizes_is_refused_with_both_topics(tmp_path: Path) -> None:
    source = record(tmp_path / "bag", 4, infrared_size=(20, 28))
    sentence = (
        rf"^{VISIBLE} and {INFRARED}: haze wants both .* visible is 56x40 and infrared 28x20; register them first"
    )
    with pytest.raises(ConversionError, match=sentence):
        degrade(source, tmp_path / "out", "haze")
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


@pytest.mark.parametrize("late_ns", [30_000_000, 250_000_000, -20_000_000, -250_000_000])
def test_log_order_is_kept_where_one_camera_is_late(tmp_path: Path, late_ns: int) -> None:
    source = record(tmp_path / "bag", infrared_late_ns=late_ns)
    labels = ("snow", "visible frozen", "infrared noise")
    done = degrade(source, tmp_path / "out", *labels)
    assert_same_but(source, tmp_path / "out", is_image)
    # Frozen holds the first picture, though a later one may have arrived with its infrared before.
    assert_pairs(source, tmp_path / "out", [degradation(label, n) for n, label in enumerate(labels)], range(10))
    assert done.remarks == ("degraded 10 pairs, and without a partner 0 visible and 0 infrared images",)


@pytest.mark.parametrize("late_ns", [30_000_000, 250_000_000])
def test_images_without_a_partner(tmp_path: Path, late_ns: int) -> None:
    source = record(tmp_path / "bag", 6, late_ns, without_infrared=[2], without_visible=[0, 3])
    done = degrade(source, tmp_path / "out", "rain", "visible frozen", "infrared noise:light")
    assert done.remarks == ("degraded 3 pairs, and without a partner 1 visible and 2 infrared images",)
    assert_same_but(source, tmp_path / "out", is_image)
    makes = [degradation(label, n) for n, label in enumerate(("rain", "visible frozen", "infrared noise:light"))]
    # Visible frames 0 1 2 3 are of ticks 1 2 4 5, infrared numbers 0 1 2 3 4 of ticks 0 1 3 4 5.
    pairs = [(None, 0, 2**32), (0, 1, 0), (1, None, 1), (None, 2, 2**32 + 2), (2, 3, 2), (3, 4, 3)]
    clear, seen = ([images(path, topic) for topic in (VISIBLE, INFRARED)] for path in (source, tmp_path / "out"))
    blank = np.zeros((40, 56), np.uint8)
    for visible, infrared, frame in pairs:
        now = (
            blank if visible is None else clear[0][visible].data,
            blank if infrared is None else clear[1][infrared].data,
        )
        for make in makes:
            if not (make.sensor == "visible" and visible is None):
                now = make(*now, frame=frame)
        if visible is not None:
            np.testing.assert_array_equal(seen[0][visible].data, now[0])
        if infrared is not None:
            np.testing.assert_array_equal(seen[1][infrared].data, now[1])
    # Nothing within 1 ms: every image is alone, and weather sees each.
    alone = degrade(source, tmp_path / "alone", "haze", slop_s=0.001)
    assert alone.remarks == ("degraded 0 pairs, and without a partner 4 visible and 5 infrared images",)
    haze = degradation("haze")
    for old, new in zip(clear[0], images(tmp_path / "alone", VISIBLE), strict=True):
        np.testing.assert_array_equal(new.data, haze(old.data, blank)[0])
    for old, new in zip(clear[1], images(tmp_path / "alone", INFRARED), strict=True):
        np.testing.assert_array_equal(new.data, haze(blank, old.data)[1])


def test_a_partner_is_the_nearest_and_taken_once(tmp_path: Path) -> None:
    """Infrared at three times the rate: the others are alone, and noise is not that of their neighbour."""
    pixels = picture(40, 56)
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(9):
            at = START + k * 10_000_000
            if k % 3 == 1:
                bag.write(VISIBLE, Image(at, pixels, "mono8"), at)
            bag.write(INFRARED, Image(at + 1_000_000, pixels, "mono8"), at)
    done = degrade(tmp_path / "bag", tmp_path / "out", "infrared noise:heavy")
    assert done.remarks == ("degraded 3 pairs, and without a partner 0 visible and 6 infrared images",)
    found = images(tmp_path / "out", INFRARED)
    for frame in range(3):
        wanted = degradation("infrared noise:heavy")(pixels, pixels, frame)[1]
        np.testing.assert_array_equal(found[3 * frame + 1].data, wanted)
    assert len({image.data.tobytes() for image in found}) == 9
    swapped = degrade_bag(tmp_path / "bag", tmp_path / "swapped", ["rain"], INFRARED, VISIBLE)
    assert swapped.remarks == ("degraded 3 pairs, and without a partner 6 visible and 0 infrared images",)


@pytest.mark.parametrize("encoding", ["mono16", "16UC1"])
def test_thermal_counts(tmp_path: Path, encoding: str) -> None:
    source = record(tmp_path / "bag", 4, infrared_encoding=encoding)
    degrade(source, tmp_path / "out", "infrared dirt", "haze:light")
    visible, counts = (images(source, topic) for topic in (VISIBLE, INFRARED))
    low, high = np.percentile(counts[0].data, (1, 99))
    makes = [degradation("infrared dirt"), degradation("haze:light", 1)]
    for k, found in enumerate(images(tmp_path / "out", INFRARED)):
        pair = visible[k].data, ((counts[k].data - low) * (255 / (high - low))).astype(np.float32)
        for make in makes:
            pair = make(*pair, frame=k)
        assert (found.data.dtype, found.encoding) == (np.uint16, encoding)
        np.testing.assert_allclose(found.data, pair[1] / 255.0 * (high - low) + low, atol=0.51)


def test_counts_that_nothing_befell_come_back_exactly(tmp_path: Path) -> None:
    source = record(tmp_path / "bag", 4, infrared_encoding="16UC1")
    degrade(source, tmp_path / "night", "low_light")
    assert_same_but(source, tmp_path / "night", lambda each: each.topic == VISIBLE)
    degrade(source, tmp_path / "frozen", "infrared frozen")
    counts = images(source, INFRARED)
    for found in images(tmp_path / "frozen", INFRARED):
        np.testing.assert_array_equal(found.data, counts[0].data)
    degrade(source, tmp_path / "dirt", "infrared dirt:light")
    dirt, (low, high) = degradation("infrared dirt:light"), np.percentile(counts[0].data, (1, 99))
    for old, new in zip(counts, images(tmp_path / "dirt", INFRARED), strict=True):
        marks = np.full(old.data.shape, 200.0, np.float32)
        marks[::2] = 100.0
        clean = dirt(marks, marks)[1] == marks
        within = (old.data >= low) & (old.data <= high)
        assert clean.mean() > 0.8 and within.mean() > 0.7
        np.testing.assert_array_equal(new.data[clean & within], old.data[clean & within])
        np.testing.assert_array_equal(new.data[clean & (old.data > high)], round(high))
        assert (new.data != old.data)[~clean].mean() > 0.9


def test_byte_order_and_padding_of_an_image_stay(tmp_path: Path) -> None:
    """Big-endian counts in rows with four bytes of padding, as some drivers publish them."""
    from ros_attn.bag.reader import default_typestore

    plain, store = record(tmp_path / "plain", 2, infrared_encoding="mono16"), default_typestore(False)
    with BagReader(plain) as reader, BagWriter(tmp_path / "bag") as bag:
        for message in reader.messages():
            data = message.raw
            if message.topic == INFRARED:
                fields = reader.deserialize(message)
                rows = fields.data.view("<u2").reshape(40, 56).astype(">u2").view(np.uint8).reshape(40, 112)
                fields.data = np.concatenate([rows, np.full((40, 4), 7, np.uint8)], 1).reshape(-1)
                fields.step, fields.is_bigendian = 116, 1
                data = bytes(store.serialize_cdr(fields, message.msgtype))
            bag.write_raw(message.topic, message.msgtype, data, message.arrival_ns, reader)
    for source in (plain, tmp_path / "bag"):
        degrade(source, tmp_path / f"{source.name}.mcap", "haze")
    for a, b in zip(images(tmp_path / "plain.mcap", INFRARED), images(tmp_path / "bag.mcap", INFRARED), strict=True):
        np.testing.assert_array_equal(a.data, b.data)
    with BagReader(tmp_path / "bag.mcap") as reader:
        for message in reader.messages([INFRARED]):
            fields = reader.deserialize(message)
            assert (fields.step, fields.is_bigendian) == (116, 1)
            assert (fields.data.reshape(40, 116)[:, 112:] == 7).all()


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    source = record(tmp_path / "bag", 3)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        degrade(source, tmp_path / name, "snow", "infrared noise", seed=seed)
    assert raw(tmp_path / "a") == raw(tmp_path / "b")
    assert all((x.raw != y.raw) == is_image(x) for x, y in zip(raw(tmp_path / "a"), raw(tmp_path / "c"), strict=True))


def test_two_cameras_do_not_get_one_noise(tmp_path: Path) -> None:
    grey = np.full((40, 56), 128, np.uint8)
    with BagWriter(tmp_path / "bag") as bag:
        for topic in (VISIBLE, INFRARED):
            bag.write(topic, Image(START, grey, "mono8"), START)
    degrade(tmp_path / "bag", tmp_path / "out", "visible noise:heavy", "infrared noise:heavy")
    both = [images(tmp_path / "out", topic)[0].data.astype(float).reshape(-1) for topic in (VISIBLE, INFRARED)]
    assert abs(np.corrcoef(both[0], both[1])[0, 1]) < 0.1


def test_the_bag_is_streamed(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(150):
            for topic in (VISIBLE, INFRARED):
                pixels = RNG.integers(0, 256, (240, 320), np.uint8)
                bag.write(topic, Image(START + k * PERIOD, pixels, "mono8"), START + k * PERIOD)
    tracemalloc.start()
    degrade(tmp_path / "bag", tmp_path / "out", "visible black", "infrared black")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.5 * 300 * 240 * 320


@pytest.mark.parametrize(("changes", "kind", "sentence"), [
    ({"visible": "/visible/imag"}, TopicError,
     "/visible/imag is not an image topic of the bag (did you mean '/visible/image'?); "
     "these are /infrared/image, /visible/image"),
    ({"infrared": "/imu"}, TopicError, "/imu is not an image topic of the bag"),
    ({"infrared": VISIBLE}, TopicError, "both cameras are /visible/image; name two topics"),
    ({"degradations": ["hase"]}, RosAttnError, "There is no degradation 'hase' (did you mean 'haze'?)"),
    ({"degradations": ["dirt"]}, RosAttnError, "dirt concerns one camera; name it"),
    ({"degradations": []}, ConversionError, "no degradation is named; name one, such as haze:heavy"),
    ({"start_s": 3.0, "end_s": 3.0}, ConversionError, "start_s 3, end_s 3, slop_s 0.02 and seed 0 do not go together"),
    ({"start_s": float("nan")}, ConversionError, "take 0 <= start_s < end_s"),
    ({"slop_s": -1.0}, ConversionError, "slop_s -1"),
    ({"seed": -1}, ConversionError, "seed -1"),
    ({"start_s": 9.0}, ConversionError, "start_s is 9, but "),
    ({"start_s": 0.04, "end_s": 0.05}, ConversionError, "has no image on /visible/image, /infrared/image in that time"),
])  # fmt: skip
def test_refusals_leave_nothing(tmp_path: Path, changes: dict[str, Any], kind: type, sentence: str) -> None:
    source = record(tmp_path / "bag", 3)
    given = {"degradations": ["haze"], "visible": VISIBLE, "infrared": INFRARED} | changes
    with pytest.raises(kind) as found:
        degrade_bag(source, tmp_path / "out", **given)
    assert sentence in str(found.value)
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


@pytest.mark.parametrize(("visible", "infrared", "sentence"), [
    ("bayer_rggb8", "mono8", "is bayer_rggb8, which cannot be degraded as it is; demosaic it by image_proc to one of"),
    ("rgb8", "32FC1", "is 32FC1, which cannot be degraded as it is; convert it to one of mono8, mono16, 16UC1, record"),
    ("rgb8", "rgb8", "is rgb8, which cannot be degraded"),
])  # fmt: skip
def test_other_encodings_are_refused(tmp_path: Path, visible: str, infrared: str, sentence: str) -> None:
    shapes = {"rgb8": (8, 8, 3)}
    with BagWriter(tmp_path / "bag") as bag:
        for topic, encoding in ((VISIBLE, visible), (INFRARED, infrared)):
            pixels = np.zeros(shapes.get(encoding, (8, 8)), np.float32 if encoding == "32FC1" else np.uint8)
            bag.write(topic, Image(START, pixels, encoding), START)
    with pytest.raises(ConversionError) as found:
        degrade(tmp_path / "bag", tmp_path / "out", "haze")
    assert sentence in str(found.value)
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


def test_compressed_images_are_refused(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        image = Image(START, np.full((8, 8), 90, np.uint8), "mono8")
        bag.write(VISIBLE, image, START)
        bag.write("/thermal", image, START, "sensor_msgs/msg/CompressedImage")
    with pytest.raises(
        TopicError, match=r"/thermal is sensor_msgs/msg/CompressedImage, and a copy .*; republish it as"
    ):
        degrade_bag(tmp_path / "bag", tmp_path / "out", ["haze"], VISIBLE, "/thermal")
    assert [each.name for each in tmp_path.iterdir()] == ["bag"]


def test_images_that_change(tmp_path: Path) -> None:
    """Sizes may, as in bags of picture sets, but for frozen; counts may not become levels."""
    shapes = [(40, 56), (0, 0), (32, 60, 3), (48, 24)]
    with BagWriter(tmp_path / "bag") as bag:
        for k, shape in enumerate(shapes):
            at = START + k * PERIOD
            bag.write(VISIBLE, Image(at, np.zeros(shape, np.uint8), "rgb8" if len(shape) == 3 else "mono8"), at)
            bag.write(INFRARED, Image(at, np.full(shape[:2], 90, np.uint8), "mono8"), at)
            bag.write("/thermal", Image(at, np.zeros((8, 8), np.uint8), "mono8"), at)
            bag.write("/counts", Image(at, np.zeros((8, 8), f"u{1 + k // 3}"), "mono16" if k > 2 else "mono8"), at)
    degrade(tmp_path / "bag", tmp_path / "out", "rain")
    assert_pairs(tmp_path / "bag", tmp_path / "out", [degradation("rain")], [0, 2, 3])
    assert images(tmp_path / "out", VISIBLE)[1].data.size == 0
    for labels, infrared, sentence in (
        (["visible frozen"], INFRARED, f"^{VISIBLE} and {INFRARED}: visible frozen holds a picture of another size"),
        (["haze"], "/counts", "^/counts changes from mono8 to mono16; degrade only the time before or after"),
    ):
        with pytest.raises(ConversionError, match=sentence):
            degrade_bag(tmp_path / "bag", tmp_path / "other", labels, VISIBLE, infrared)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bag", "out"]


@pytest.mark.parametrize("name", ["out", "out.mcap"])
def test_an_output_that_exists(tmp_path: Path, name: str) -> None:
    source, out = record(tmp_path / "bag", 3), tmp_path / name
    degrade(source, out, "haze")
    with pytest.raises(ConversionError, match="exists; remove it or choose another name"):
        degrade(source, out, "snow")
    before = raw(out)
    with pytest.raises(TopicError):
        degrade_bag(source, out, ["snow"], VISIBLE, "/nothing", overwrite=True)
    assert raw(out) == before
    degrade(source, out, "snow", overwrite=True)
    assert_pairs(source, out, [degradation("snow")], range(3))
    with pytest.raises(ConversionError, match="is the bag that is read; choose another name"):
        degrade(source, source, "snow", overwrite=True)
    with pytest.raises(BagError, match="nowhere does not exist"):
        degrade(tmp_path / "nowhere", out, "snow", overwrite=True)
    (tmp_path / "notes").mkdir()
    with pytest.raises(ConversionError, match="notes exists and is no rosbag2 bag, so it is not overwritten"):
        degrade(source, tmp_path / "notes", "snow", overwrite=True)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bag", "notes", name]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = record(tmp_path / "bag", 6)
    topics = ["--visible", VISIBLE, "--infrared", INFRARED]
    command = ["convert", "degrade", str(source), "--out", str(tmp_path / "out"), "--degradations", "haze:heavy"]
    window = ["--start-s", "0.15", "--end-s", "0.35", "--seed", "2", "--slop-s", "0.01"]
    assert main([*command, "infrared dirt:medium", *topics, *window]) == 0
    assert "degraded 2 pairs, and without a partner 0 visible and 0 infrared images" in capsys.readouterr().out
    makes = [Degradation("haze", "heavy", seed=2), Degradation("dirt", "medium", "infrared", seed=3)]
    assert_pairs(source, tmp_path / "out", makes, [2, 3])
    assert main([*command, *topics]) == 1
    assert "exists; remove it or choose another name" in capsys.readouterr().err
    assert main([*command, *topics, "--overwrite"]) == 0
    assert_pairs(source, tmp_path / "out", [Degradation("haze", "heavy")], range(6))
