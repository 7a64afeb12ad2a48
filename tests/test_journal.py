"""The journal: the same calls give the same bytes, twice in one process and in another one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn import journal
from ros_attn.bag import BagReader, BagWriter
from ros_attn.cli import main
from ros_attn.component import Component, Hold, Out, Sync, Window
from ros_attn.errors import BagError
from ros_attn.graph import Graph, Stage
from ros_attn.runtime import Runtime
from ros_attn.values import FloatArray, Image, Twist, field_bytes
from tests.images import scene

MS = 1_000_000


@dataclass
class Mixed(Component):
    """A Sync reference, a Window and a Hold of a message without header."""

    inputs: ClassVar = {
        "image": Sync(Image, "image"),
        "numbers": Window(FloatArray, "numbers"),
        "twist": Hold(Twist, "twist", 0.5),
    }
    outputs: ClassVar = {"sums": Out(FloatArray, "sums")}
    backlog: ClassVar = "latest"
    total: float = 0.0

    def step(self, now_ns: int, image: Image, numbers: tuple[FloatArray, ...], twist: Twist | None) -> dict[str, Any]:
        self.total += float(image.data.sum()) + sum(float(each.data.sum()) for each in numbers)
        speed = -1.0 if twist is None else float(twist.linear[0])
        return {"sums": FloatArray(now_ns, np.array([self.total, len(numbers), speed]))}

    def reset(self) -> None:
        self.total = 0.0


def drive(path: Path, spec: str = "tests.test_journal:Mixed") -> list[str]:
    """Make calls as a live host would (takes at odd moments, a reset, late messages), journalled."""
    stage = Stage(Mixed(), "mixed")
    graph = Graph([stage])
    writer = journal.JournalWriter(path, graph, {"mixed": spec})
    runtime = Runtime(stage.component)
    writer.observe(stage, runtime)
    rng = np.random.default_rng(5)
    digests = []

    def take() -> None:
        while (work := runtime.take()) is not None:
            outputs = runtime.run(work)
            writer.outputs(stage, outputs)
            digests.extend(field_bytes(value) for value in outputs.values() if value is not None)

    for k in range(120):
        now = 10**18 + k * 10 * MS
        runtime.push("numbers", FloatArray(now, rng.random(2)), now)
        if k % 3 == 0:
            stamp = now - int(rng.integers(0, 8 * MS))
            runtime.push("image", Image(stamp, rng.integers(0, 255, (4, 5), np.uint8), "mono8"), now + MS)
        if k % 7 == 0:
            runtime.push("twist", Twist(now, rng.random(3), np.zeros(3)), now)
        runtime.advance(now + 2 * MS)
        if k == 60:
            runtime.request_reset("asked for")
        if k % 4 == 0:
            take()
    take()
    writer.close()
    return digests


def test_journal_reproduces_the_bytes_twice_and_in_another_process(tmp_path: Path) -> None:
    digests = drive(tmp_path / "journal")
    assert len(digests) > 20 and len(set(digests)) == len(digests)
    for _ in range(2):
        outcomes = [each for each in journal.replay(tmp_path / "journal") if each.outputs]
        assert [field_bytes(each.outputs["sums"]) for each in outcomes] == digests
        assert all(each.reproduced for each in outcomes)
    command = [sys.executable, "-m", "ros_attn", "replay", str(tmp_path / "journal")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert f"{len(digests)} reproduced byte for byte, 0 not" in done.stdout


def test_a_component_that_changed_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drive(tmp_path / "journal", "tests.test_journal:Changed")
    assert main(["replay", str(tmp_path / "journal")]) == 1
    assert "0 reproduced byte for byte" in capsys.readouterr().out


class Changed(Mixed):
    """As Mixed, but another result."""

    def step(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        [value] = super().step(*args, **kwargs).values()
        return {"sums": FloatArray(value.stamp_ns, value.data + 1e-9)}


def test_a_plain_bag_is_no_journal(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/numbers", FloatArray(1, np.zeros(1)), 1)
    with BagReader(tmp_path / "bag") as bag:
        assert not journal.is_journal(bag)
    with pytest.raises(BagError, match="is no journal"):
        list(journal.replay(tmp_path / "bag"))


def test_journal_of_a_replay_with_the_real_component(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(6):
            stamp = 10**18 + k * 100 * MS
            bag.write("/visible/image", scene(stamp, "rgb8", seed=k), stamp)
            bag.write("/infrared/image", scene(stamp, "mono16", seed=k), stamp + MS)
    arguments = [
        "replay",
        str(tmp_path / "bag"),
        "infrared_visible_fusion",
        "--journal",
        "--out",
        str(tmp_path / "run"),
    ]
    assert main(arguments) == 0
    assert main(["replay", str(tmp_path / "run" / "journal")]) == 0
    assert "6 steps with outputs, 6 reproduced byte for byte, 0 not" in capsys.readouterr().out
