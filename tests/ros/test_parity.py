"""A node over DDS gives the bytes that a replay of the same messages gives, and counts what DDS lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from ros_attn import journal
from ros_attn.bag import BagReader, BagWriter
from ros_attn.graph import single
from ros_attn.hosts.replay import Replay
from ros_attn.values import Image, field_bytes
from tests.images import scene
from tests.ros.driver import BEST_EFFORT, RELIABLE, Driver

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess

NODE = "/infrared_visible_fusion"
TRUST = f"{NODE}/debug/trust"
PAIRS = 40
RUNS = int(os.environ.get("ROS_ATTN_PARITY_RUNS", "2"))
START_NS = 1_700_000_000_000_000_000


def pairs(count: int, seed: int, start_ns: int = START_NS) -> Iterator[tuple[Image, Image]]:
    """VGA pairs at 30 Hz: colour, and 16-bit infrared up to 8 ms later, whose gain has a memory."""
    rng = np.random.default_rng(seed)
    for k in range(count):
        stamp_ns = start_ns + k * 33_333_333
        visible = scene(stamp_ns, "rgb8", seed + k, 480, 640)
        infrared = scene(stamp_ns + int(rng.integers(0, 8_000_000)), "mono16", 100 + seed + k, 480, 640)
        yield visible, infrared


def interleaved(count: int, seed: int) -> Iterator[tuple[str, int]]:
    """The two topics in a random order, each in its own, at most three messages apart."""
    rng = np.random.default_rng(seed)
    sent = {"visible": 0, "infrared": 0}
    while min(sent.values()) < count:
        lead = sent["visible"] - sent["infrared"]
        first = lead < 3 and sent["visible"] < count and (lead <= -3 or sent["infrared"] == count or rng.random() < 0.5)
        name = "visible" if first else "infrared"
        yield name, sent[name]
        sent[name] += 1


def replayed(messages: list[tuple[str, Image]], folder: Path, **params: Any) -> dict[tuple[str, int], str]:
    """Digests by output and stamp of a replay of these messages in this order."""
    with BagWriter(folder / "bag.mcap") as bag:
        for number, (topic, image) in enumerate(messages):
            bag.write(topic, image, START_NS + number * 10_000_000)
    with BagReader(folder / "bag.mcap") as bag:
        run = Replay(bag, single("infrared_visible_fusion", params))
        return {
            (name, value.stamp_ns): field_bytes(value)
            for record in run.steps()
            for name, value in record.outputs.items()
            if value is not None
        }


@pytest.mark.parametrize("run", range(RUNS))
def test_node_gives_the_bytes_of_a_replay(
    run: int, driver: Driver, node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    fused, trust = driver.listener("/fused/image", Image, RELIABLE), driver.listener(TRUST, Image, RELIABLE)
    process = node("infrared_visible_fusion", "-p", "qos:=lossless", "-p", "missing_after_s:=0.0")
    fused.wait_for_publisher()
    trust.wait_for_publisher()
    speakers = {name: driver.publisher(f"/{name}/image", Image, RELIABLE) for name in ("visible", "infrared")}
    for speaker in speakers.values():
        speaker.wait_for_subscriber()
    driver.diagnosed.connected(NODE, ("visible", "infrared"), ("fused", "trust"))
    images = list(pairs(PAIRS, seed=run))
    order: list[tuple[str, Image]] = []
    for name, k in interleaved(PAIRS, seed=run):
        image = images[k][0 if name == "visible" else 1]
        order.append((f"/{name}/image", image))
        speakers[name].send(image)
        if speakers["visible"].sent > k and speakers["infrared"].sent > k:
            # The pair is complete: one step at a time, since the component's backlog is "latest".
            fused.with_stamp(images[k][0].stamp_ns)
    trust.wait(PAIRS)
    whole = f"{PAIRS} received, {PAIRS} matched"
    _, values = driver.diagnosed.wait(NODE, lambda _, values: values.get("steps") == str(PAIRS), "all steps counted")
    assert values["input visible"] == f"visible/image: {whole}"
    assert values["input infrared"] == f"infrared/image: {whole}"
    assert process.stop() == 0
    live = {("fused", each.stamp_ns): field_bytes(each) for each in fused.values}
    live |= {("trust", each.stamp_ns): field_bytes(each) for each in trust.values}
    expected = replayed(order, tmp_path, missing_after_s=0.0)
    equal = sum(live.get(key) == digest for key, digest in expected.items())
    print(f"run {run}: {len(order)} messages, {len(live)} outputs, {equal} of {len(expected)} equal")
    assert len(expected) == 2 * PAIRS
    assert live == expected


def counts(sentence: str) -> tuple[int, int]:
    """Received and lost of an input's sentence."""
    received = re.search(r"(\d+) received", sentence)
    lost = re.search(r"(\d+) lost", sentence)
    return int(received[1]) if received else 0, int(lost[1]) if lost else 0


def test_loss_is_counted_and_the_journal_has_the_nodes_bytes(
    driver: Driver, node: Callable[..., NodeProcess], tmp_path: Path
) -> None:
    """Sensor-data QoS, and a node that stands still while 60 pairs come: what is not received is lost."""
    path = tmp_path / "run.mcap"
    fused, trust = driver.listener("/fused/image", Image, RELIABLE), driver.listener(TRUST, Image, RELIABLE)
    # Only what goes in is to be lost.
    overrides = [f"qos_overrides.{topic}.publisher.{policy}" for topic in ("/fused/image", TRUST)
                 for policy in ("reliability:=reliable", "depth:=100")]  # fmt: skip
    rules = [word for override in overrides for word in ("-p", override)]
    process = node("infrared_visible_fusion", *rules, flags=["--journal", str(path)])
    fused.wait_for_publisher()
    trust.wait_for_publisher()
    visible = driver.publisher("/visible/image", Image, BEST_EFFORT)
    infrared = driver.publisher("/infrared/image", Image, BEST_EFFORT)
    visible.wait_for_subscriber()
    infrared.wait_for_subscriber()
    driver.diagnosed.connected(NODE, ("visible", "infrared"), ("fused", "trust"))
    images = pairs(100, seed=7, start_ns=driver.node.get_clock().now().nanoseconds)

    def send() -> int:
        seen, hot = next(images)
        visible.send(seen)
        infrared.send(hot)
        return seen.stamp_ns

    def send_until_answered(count: int) -> None:
        answered = 0
        while answered < count:
            stamp_ns = send()
            # Best effort may lose these as well.
            with contextlib.suppress(AssertionError):
                answered += fused.with_stamp(stamp_ns, deadline_s=2.0) is not None

    send_until_answered(5)
    process.send(signal.SIGSTOP)
    for _ in range(60):
        send()
    process.send(signal.SIGCONT)
    send_until_answered(10)

    def complete(_: Any, values: dict[str, str]) -> bool:
        return all(
            sum(counts(values.get(f"input {name}", ""))) == speaker.sent
            for name, speaker in (("visible", visible), ("infrared", infrared))
        )

    _, values = driver.diagnosed.wait(NODE, complete, f"received and lost together {visible.sent}")
    for name in ("visible", "infrared"):
        print(f"{visible.sent} published; {values[f'input {name}']}")
        assert counts(values[f"input {name}"])[1] >= 40
    assert process.stop() == 0
    assert not list(tmp_path.glob("*.partial"))
    outcomes = list(journal.replay(path))
    assert all(outcome.reproduced for outcome in outcomes)
    written = {(name, v.stamp_ns): field_bytes(v) for o in outcomes for name, v in o.outputs.items() if v is not None}
    heard = {("fused", each.stamp_ns): field_bytes(each) for each in fused.values}
    heard |= {("trust", each.stamp_ns): field_bytes(each) for each in trust.values}
    assert len(heard) >= 2 * 15
    assert heard == written
