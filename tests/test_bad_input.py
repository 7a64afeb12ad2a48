"""Bad input through the command line: a sentence, a non-zero exit, nothing lost or overwritten.

What each broken bag looks like to the reader is tested in tests/test_bag.py, checkpoints in
tests/test_checkpoint.py, QoS and shared memory in tests/ros; here the user's view of a replay.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ros_attn.bag import BagReader, BagWriter
from ros_attn.cli import main
from ros_attn.values import Image, Text
from tests.images import scene

MS = 1_000_000
T0 = 1_700_000_000 * 10**9


def pairs(path: Path, change: Callable[[int, Image, Image], tuple[Image, Image]] | None = None, count: int = 5) -> Path:
    with BagWriter(path) as bag:
        for k in range(count):
            stamp = T0 + k * 100 * MS
            visible, infrared = scene(stamp, "rgb8", k), scene(stamp, "mono8", k)
            if change is not None:
                visible, infrared = change(k, visible, infrared)
            bag.write("/visible/image", visible, stamp)
            bag.write("/infrared/image", infrared, stamp + MS)
    return path


def replay(bag: Path, *flags: str) -> int:
    return main(["replay", str(bag), "infrared_visible_fusion", "--out", str(bag.parent / "run"), *flags])


def first_mcap(bag: Path) -> Path:
    return next(bag.glob("*.mcap"))


def truncated(bag: Path) -> None:
    file = first_mcap(bag)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def without_metadata_and_truncated(bag: Path) -> None:
    truncated(bag)
    (bag / "metadata.yaml").unlink()


def empty_file(bag: Path) -> None:
    first_mcap(bag).write_bytes(b"")


def not_a_bag(bag: Path) -> None:
    first_mcap(bag).write_bytes(b"this is a text file, not an mcap " * 100)


@pytest.mark.parametrize(
    "damage, words",
    [
        (truncated, ["mcap"]),
        (without_metadata_and_truncated, ["mcap"]),
        (empty_file, ["empty"]),
        (not_a_bag, ["mcap"]),
    ],
)
def test_damaged_bags(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], words: list[str]
) -> None:
    bag = pairs(tmp_path / "bag")
    damage(bag)
    before = first_mcap(bag).read_bytes()
    assert replay(bag) == 1
    error = capsys.readouterr().err
    assert error.startswith("ros-attn replay: ") and error.count("\n") == 1, error
    assert all(word in error for word in words) and "bag" in error
    assert first_mcap(bag).read_bytes() == before
    assert not (tmp_path / "run").exists()


def test_bag_without_messages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag"):
        pass
    assert replay(tmp_path / "bag") == 1
    assert capsys.readouterr().err.startswith("ros-attn replay: ")
    assert not (tmp_path / "run").exists()


def test_absent_bag_names_its_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs(tmp_path / "drive")
    assert replay(tmp_path / "drvie") == 1
    assert "drive" in capsys.readouterr().err


def test_wrong_topic_and_wrong_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/cam0/image_raw", scene(T0, "rgb8"), T0)
        bag.write("/thermal/image_raw", scene(T0, "mono8"), T0)
        bag.write("/infrared/image", Text(T0, "not an image"), T0)
    assert replay(tmp_path / "bag") == 1
    error = capsys.readouterr().err
    assert "no topic /visible/image" in error and "/cam0/image_raw" in error and "--remap visible/image:=" in error
    assert replay(tmp_path / "bag", "--remap", "visible/image:=/cam0/image_raw") == 1
    assert "/infrared/image" in (error := capsys.readouterr().err) and "is std_msgs/msg/String" in error


def encodings(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
    return visible, Image(infrared.stamp_ns, infrared.data.astype(np.float64), "64FC1", "thermal")


def swapped(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
    return Image(visible.stamp_ns, visible.data[..., 0].astype(np.float32), "32FC1", "depth"), infrared


def sizes(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
    return visible, Image(infrared.stamp_ns, infrared.data[:24, :32], "mono8", "thermal")


def all_nan(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
    return visible, Image(infrared.stamp_ns, np.full(infrared.data.shape, np.nan, np.float32), "32FC1", "thermal")


@pytest.mark.parametrize(
    "change, sentence",
    [
        (swapped, "looks like a thermal or depth topic: check --remap"),
        (sizes, "infrared is 32x24 and visible 64x48 px; set align"),
        (all_nan, "The infrared image has no finite pixel"),
    ],
)
def test_contents_that_cannot_be_fused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[int, Image, Image], tuple[Image, Image]],
    sentence: str,
) -> None:  # fmt: skip
    assert replay(pairs(tmp_path / "bag", change)) == 1
    assert sentence in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["stages"]["infrared_visible_fusion"]["runs"]["failed"] == 5


def test_one_bad_frame_of_five_does_not_stop_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert replay(pairs(tmp_path / "bag", lambda k, v, i: all_nan(k, v, i) if k == 2 else (v, i))) == 1
    out = capsys.readouterr().out
    assert "4 steps" in out and "1 steps failed" in out


def test_float64_thermal_is_taken(tmp_path: Path) -> None:
    assert replay(pairs(tmp_path / "bag", encodings)) == 0


def test_some_nan_are_cold_pixels(tmp_path: Path) -> None:
    def some(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
        data = infrared.data.astype(np.float32)
        data[3, 5] = np.nan
        return visible, Image(infrared.stamp_ns, data, "32FC1", "thermal")

    assert replay(pairs(tmp_path / "bag", some)) == 0


def test_a_clock_that_goes_back_resets_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(10):
            stamp = T0 + (k % 5) * 100 * MS - (2000 * MS if k >= 5 else 0)
            bag.write("/visible/image", scene(stamp, "rgb8", k), T0 + k * 100 * MS)
            bag.write("/infrared/image", scene(stamp, "mono8", k), T0 + k * 100 * MS + MS)
    assert replay(tmp_path / "bag") == 0
    assert "10 steps" in (out := capsys.readouterr().out) and "1 resets" in out


@pytest.mark.parametrize("field, value", [("step", 1), ("step", 10**6), ("height", 0), ("width", 10**6)])
def test_image_headers_that_contradict_their_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, value: int
) -> None:
    pairs(tmp_path / "good")
    with BagReader(tmp_path / "good") as good, BagWriter(tmp_path / "bag") as bag:
        for k, message in enumerate(good.messages()):
            raw = bytes(message.raw)
            if k == 4:
                image = good.deserialize(message)
                setattr(image, field, value)
                raw = bytes(good.typestore(message.msgtype).serialize_cdr(image, message.msgtype))
            bag.write_raw(message.topic, message.msgtype, raw, message.arrival_ns, good)
    assert replay(tmp_path / "bag") == 1
    out = capsys.readouterr().out
    assert "1 messages did not decode and were skipped" in out and "4 steps" in out
    assert str(value) in out


def test_padded_and_big_endian_images_give_the_same_result(tmp_path: Path) -> None:
    def sixteen(k: int, visible: Image, infrared: Image) -> tuple[Image, Image]:
        return visible, scene(infrared.stamp_ns, "mono16", k)

    pairs(tmp_path / "good", sixteen)
    with BagReader(tmp_path / "good") as good, BagWriter(tmp_path / "bag") as bag:
        for message in good.messages():
            image = good.deserialize(message)
            rows = np.asarray(image.data).reshape(image.height, image.step)
            if image.encoding == "mono16":
                rows = rows.reshape(image.height, -1, 2)[..., ::-1].reshape(image.height, -1)
                image.is_bigendian = 1
            image.data = np.ascontiguousarray(np.pad(rows, ((0, 0), (0, 12)), constant_values=170)).ravel()
            image.step += 12
            raw = bytes(good.typestore(message.msgtype).serialize_cdr(image, message.msgtype))
            bag.write_raw(message.topic, message.msgtype, raw, message.arrival_ns, good)
    found = []
    for name in ("good", "bag"):
        run = tmp_path / f"run_{name}"
        assert main(["replay", str(tmp_path / name), "infrared_visible_fusion", "--out", str(run)]) == 0
        with BagReader(run / "outputs") as outputs:
            found.append([bytes(message.raw) for message in outputs.messages()])
    assert found[0] == found[1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB; only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be mounted here (not root)")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_the_last_run_stays(
    tmp_path: Path, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = pairs(tmp_path / "bag", count=60)
    runs = small_disk / "runs"
    assert main(["replay", str(bag), "infrared_visible_fusion", "--duration", "0.3", "--out", str(runs / "good")]) == 0
    assert main(["replay", str(bag), "infrared_visible_fusion", "--out", str(runs / "full")]) == 1
    error = capsys.readouterr().err
    assert "could not be written (No space left on device" in error and "make room" in error
    assert (runs / "latest").readlink() == Path("good")
    assert not list(small_disk.rglob("*.mcap*"))[1:], "half a bag was left behind"
    with BagReader(runs / "good" / "outputs") as outputs:
        assert outputs.message_count > 0


@pytest.mark.parametrize(
    "argv, words",
    [
        (["relpay"], "no verb 'relpay' (did you mean 'replay'?)"),
        (["replay", "bag", "infrared_visible_fusio"], "did you mean 'infrared_visible_fusion'?"),
        (["replay", "bag", "nowhere:Thing"], "there is no module 'nowhere'"),
        (["replay", "bag", "nowhere.py:Thing"], "There is no file nowhere.py"),
        (
            ["replay", "bag", "ros_attn.perception.infrared_visible_fusion.component:Fusion"],
            "has no component 'Fusion'",
        ),
        (["replay", "bag", "graph.yaml"], "graph.yaml cannot be read as a graph"),
        (["replay", "bag"], "Which component is to run"),
        (["components", "nothing"], "There is no component 'nothing'"),
        (["info", "nowhere"], "nowhere"),
    ],
)
def test_typos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pairs(tmp_path / "bag")
    assert main(argv) in (1, 2)
    error = capsys.readouterr().err
    assert words in error and "Traceback" not in error
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bag"]


GRAPH = """
stages:
  - component: infrared_visible_fusion
    {line}
"""


@pytest.mark.parametrize(
    "line, words",
    [
        ("parms: {slop_s: 1}", "unknown key 'parms' (did you mean 'params'?)"),
        ("params: {slop: 1}", "there is no parameter 'slop' (did you mean 'slop_s'?)"),
        ("params: {slop_s: wide}", "slop_s is 'wide', but takes a number"),
        ("inputs: {infrared: {offset: 1}}", "unknown option 'offset'"),
        ("remap: {visible: /a}", "has no topic 'visible'"),
    ],
)
def test_mistakes_in_a_graph_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, words: str) -> None:
    (tmp_path / "graph.yaml").write_text(GRAPH.format(line=line))
    pairs(tmp_path / "bag")
    assert main(["replay", str(tmp_path / "bag"), str(tmp_path / "graph.yaml"), "--out", str(tmp_path / "run")]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_whole_graph_file_runs(tmp_path: Path) -> None:
    (tmp_path / "graph.yaml").write_text(GRAPH.format(line="params: {slop_s: 0.05}"))
    pairs(tmp_path / "bag")
    assert main(["replay", str(tmp_path / "bag"), str(tmp_path / "graph.yaml"), "--out", str(tmp_path / "run")]) == 0
