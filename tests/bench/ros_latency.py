"""Stamp to publish of nodes over DDS, beside a bare rclpy relay of the same image in the same run.

    python -m tests.bench.ros_latency [--hz 15] [--seconds 10] [--out tests/bench/results/ros_latency.json]

One process publishes VGA rgb8 and mono8 pairs with sensor-data QoS; a bare rclpy node (message objects, one
callback) publishes the rgb8 image again. Beside it runs first a component that does the same, which gives the
cost of the host, then infrared_visible_fusion. launch/config/fastdds.xml is in force. Three processes: on two
cores the figures contain their contention.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ros_attn.component import Component, Out, Outputs, Sync
from ros_attn.provenance import provenance
from ros_attn.values import FloatArray, Image

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "launch" / "config" / "fastdds.xml"
DEADLINE_S = 60.0
SKIPPED = 10


@dataclass
class Same(Component):
    """Gives the visible image as it is."""

    inputs: ClassVar = {"visible": Sync(Image, "visible/image")}
    outputs: ClassVar = {"same": Out(Image, "same/image", kind="sensor")}
    backlog: ClassVar = "latest"

    def step(self, now_ns: int, visible: Image) -> Outputs:
        return {"same": visible}


def relay() -> None:
    """A bare rclpy node: image in, image out, and how old it was then [ms]."""
    import rclpy
    from rclpy.executors import ExternalShutdownException
    from rclpy.qos import qos_profile_sensor_data
    from rclpy.time import Time
    from sensor_msgs.msg import Image as ImageMessage
    from std_msgs.msg import Float64MultiArray

    rclpy.init()
    node = rclpy.create_node("relay")
    again = node.create_publisher(ImageMessage, "/relay/image", qos_profile_sensor_data)
    latency = node.create_publisher(Float64MultiArray, "/relay/latency", qos_profile_sensor_data)

    def take(message: ImageMessage) -> None:
        again.publish(message)
        age = node.get_clock().now() - Time.from_msg(message.header.stamp)
        latency.publish(Float64MultiArray(data=[age.nanoseconds / 1e6]))

    node.create_subscription(ImageMessage, "/visible/image", take, qos_profile_sensor_data)
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


@contextlib.contextmanager
def process(*args: str) -> Iterator[None]:
    """A Python process that is asked to end afterwards."""
    started = subprocess.Popen([sys.executable, *args], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.send_signal(signal.SIGINT)
        started.wait(DEADLINE_S)


def measure(component: str, node: str, output: str, hz: float, seconds: float, domain_id: int) -> dict[str, Any]:
    """Publish for some seconds; quantiles of the node's and the relay's latency."""
    from tests.images import scene
    from tests.ros.driver import BEST_EFFORT, Driver

    driver = Driver(domain_id)
    images = [(scene(0, "rgb8", k, 480, 640), scene(0, "mono8", k, 480, 640)) for k in range(8)]
    ours = driver.listener(f"{node}/debug/latency", FloatArray, BEST_EFFORT)
    theirs = driver.listener("/relay/latency", FloatArray, BEST_EFFORT)
    shown = [driver.listener(topic, Image, BEST_EFFORT) for topic in (output, "/relay/image")]
    visible = driver.publisher("/visible/image", Image, BEST_EFFORT)
    infrared = driver.publisher("/infrared/image", Image, BEST_EFFORT)
    count = round(hz * seconds) + SKIPPED
    ticks = threading.Semaphore(0)
    driver.node.create_timer(1.0 / hz, ticks.release)
    with process("-m", "ros_attn", "node", component), process("-m", "tests.bench.ros_latency", "--relay"):
        driver.meet(node)
        visible.wait_for_subscriber(2)
        for listener in (ours, theirs, *shown):
            listener.wait_for_publisher()
        while ticks.acquire(blocking=False):
            continue
        for k in range(count):
            assert ticks.acquire(timeout=DEADLINE_S)
            now_ns = driver.node.get_clock().now().nanoseconds
            seen, hot = images[k % len(images)]
            visible.send(Image(now_ns, seen.data, seen.encoding, seen.frame_id))
            infrared.send(Image(now_ns, hot.data, hot.encoding, hot.frame_id))
        everything = re.compile(r"(\d+) received(?:.*?(\d+) lost)?")

        def complete(_: Any, values: dict[str, str]) -> bool:
            found = everything.search(values["input visible"])
            return found is not None and sum(int(number or 0) for number in found.groups()) == count

        _, values = driver.diagnosed.wait(node, complete, "all images received or counted as lost")
    figures = {
        "published": count,
        "node": quantiles([value.data[0] for value in ours.values]),
        "node_arrival_to_publish": quantiles([value.data[1] for value in ours.values]),
        "node_step": quantiles([value.data[2] for value in ours.values]),
        "relay": quantiles([value.data[0] for value in theirs.values]),
        "input": values["input visible"],
    }
    driver.close()
    return figures


def quantiles(values_ms: list[float]) -> dict[str, float]:
    """Number, p50 and p99 [ms], the first ones left out."""
    kept = np.array(values_ms[SKIPPED:])
    p50, p99 = np.percentile(kept, (50, 99)) if kept.size else (np.nan, np.nan)
    return {"count": int(kept.size), "p50_ms": round(float(p50), 3), "p99_ms": round(float(p99), 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hz", type=float, default=15.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--domain-id", type=int, default=99)
    parser.add_argument("--out", type=Path, default=Path("tests/bench/results/ros_latency.json"))
    parser.add_argument("--relay", action="store_true", help="be the bare relay")
    arguments = parser.parse_args()
    if arguments.relay:
        relay()
        return
    os.environ["ROS_DOMAIN_ID"] = str(arguments.domain_id)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PROFILE)
    cases = {
        "same_image": (f"{Path(__file__).resolve()}:Same", "/same", "/same/image"),
        "infrared_visible_fusion": ("infrared_visible_fusion", "/infrared_visible_fusion", "/fused/image"),
    }
    figures: dict[str, Any] = {
        "what": f"stamp to publish of VGA images at {arguments.hz:g} Hz for {arguments.seconds:g} s, relay beside",
        **{name: measure(*case, arguments.hz, arguments.seconds, arguments.domain_id) for name, case in cases.items()},
        "load_average": list(os.getloadavg()),
        "provenance": provenance(),
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
