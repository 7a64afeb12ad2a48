"""What a node makes of its topics: QoS, types, names, and sentences where something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

pytest.importorskip("rclpy")

from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import Image as ImageMessage

from ros_attn.bag import BagReader, BagWriter
from ros_attn.graph import single
from ros_attn.hosts.replay import Replay
from ros_attn.hosts.ros_inputs import message_class
from ros_attn.values import CameraInfo, FloatArray, Image, Imu, Text, Transform, Transforms, field_bytes
from tests.images import scene
from tests.ros.driver import BEST_EFFORT, LATCHED, RELIABLE, Driver

if TYPE_CHECKING:
    from tests.ros.conftest import NodeProcess

COMPONENTS = Path(__file__).with_name("components.py")
SCALE = f"{COMPONENTS}:Scale"
Start = Callable[..., "NodeProcess"]
NO_TF = message_class("tf2_msgs/msg/TFMessage") is None
JPEG = "sensor_msgs/msg/CompressedImage"


def imu(stamp_ns: int, turn: float = 1.0) -> Imu:
    return Imu(stamp_ns, np.array([turn, 0.0, 0.0]), np.array([0.0, 0.0, 9.81]))


def info(width: int) -> CameraInfo:
    return CameraInfo(1, width, 480, np.eye(3), np.zeros(5), np.eye(3), np.eye(3, 4))


# -- QoS ------------------------------------------------------------------------------------------------


def test_a_qos_mismatch_is_named(driver: Driver, node: Start) -> None:
    driver.publisher("/imu", Imu, BEST_EFFORT)
    process = node(SCALE, "-p", "qos:=lossless")
    sentence = (
        "/imu: nothing comes from /driver (reliability: best effort is offered, reliable is asked); "
        "set qos:=default or qos_overrides./imu.subscription.reliability:=best_effort."
    )
    status, _ = driver.diagnosed.wait("/scale", lambda status, _: status.message == sentence, sentence)
    assert status.level == b"\x01"
    assert sentence in process.text()


def test_qos_overrides_of_one_topic(driver: Driver, node: Start) -> None:
    speaker = driver.publisher("/imu", Imu, BEST_EFFORT)
    scaled = driver.listener("/scaled", Imu, RELIABLE)
    node(SCALE, "-p", "qos:=lossless", "-p", "qos_overrides./imu.subscription.reliability:=best_effort")
    driver.diagnosed.connected("/scale", ["imu"], ["scaled"])
    speaker.send(imu(7))
    assert scaled.with_stamp(7).angular_velocity[0] == 2.0


def test_a_subscriber_that_asks_too_much_is_named(driver: Driver, node: Start) -> None:
    driver.listener("/ticks", FloatArray, RELIABLE)
    node(f"{COMPONENTS}:Ticks")
    driver.diagnosed.message(
        "/ticks", "/ticks: nothing reaches /driver (reliability: best effort is offered, reliable is asked)."
    )


def test_static_takes_its_durability_from_the_publishers(driver: Driver, node: Start) -> None:
    """A volatile publisher first; then a latched one, which spoke before the node heard of it."""
    said = driver.listener("/said", Text, RELIABLE)
    speaker = driver.publisher("/imu", Imu, RELIABLE)
    node(f"{COMPONENTS}:Calibrated", "-p", "qos:=lossless")
    driver.diagnosed.connected("/calibrated", ["imu"], ["said"])
    volatile = driver.publisher("/camera_info", CameraInfo, RELIABLE).wait_for_subscriber()
    driver.diagnosed.connected("/calibrated", ["imu", "info"])
    volatile.close()
    driver.diagnosed.wait("/calibrated", lambda _, v: v["topic info"].endswith("publishers: 0"), "the publisher gone")
    driver.publisher("/camera_info", CameraInfo, LATCHED).send(info(640))
    speaker.send(imu(1))
    assert said.wait()[0].data == "640x480"


def test_loss_is_unknown_with_two_publishers(driver: Driver, node: Start) -> None:
    first, second = driver.publisher("/imu", Imu, RELIABLE), driver.publisher("/imu", Imu, RELIABLE)
    node(SCALE)
    driver.diagnosed.wait("/scale", lambda _, v: v.get("topic imu", "").endswith("publishers: 2"), "two publishers")
    for k in range(3):
        first.send(imu(10 * k + 1))
    second.send(imu(100))
    sentence = "imu: 4 received, 4 matched; loss before us unknown, since several publish or messages are not numbered"
    driver.diagnosed.wait("/scale", lambda _, values: values["input imu"] == sentence, sentence)


# -- types ----------------------------------------------------------------------------------------------


def test_a_topic_of_another_type_is_named(driver: Driver, node: Start) -> None:
    driver.publisher("/imu", FloatArray, RELIABLE)
    node(SCALE)
    assert driver.diagnosed.message("/scale", "from /driver") == (
        "/imu is std_msgs/msg/Float64MultiArray (from /driver), but input 'imu' takes sensor_msgs/msg/Imu; "
        "remap it to such a topic."
    )


def test_a_single_topic_of_the_right_type_is_proposed(driver: Driver, node: Start) -> None:
    driver.publisher("/other/imu", Imu, BEST_EFFORT)
    node(SCALE)
    assert driver.diagnosed.message("/scale", "nobody") == (
        "/imu: nobody publishes it; /other/imu is of the right type: -r imu:=/other/imu"
    )
    driver.publisher("/third/imu", Imu, BEST_EFFORT)
    assert driver.diagnosed.message("/scale", "nobody", "third") == (
        "/imu: nobody publishes it; of the right type are /other/imu, /third/imu."
    )


def test_compressed_images_and_what_no_decoder_takes(driver: Driver, node: Start, tmp_path: Path) -> None:
    name = "/infrared_visible_fusion"
    fused = driver.listener("/fused/image", Image, BEST_EFFORT)
    visible = driver.publisher("/visible/image", Image, RELIABLE, JPEG)
    infrared = driver.publisher("/infrared/image", Image, RELIABLE)
    node("infrared_visible_fusion")
    driver.diagnosed.connected(name, ["visible", "infrared"], ["fused"])
    start_ns = driver.node.get_clock().now().nanoseconds
    pairs = [(scene(start_ns + k, "rgb8", k), scene(start_ns + k, "mono16", k)) for k in (0, 10**8, 2 * 10**8)]
    with BagWriter(tmp_path / "bag.mcap") as bag:
        for seen, hot in pairs:
            visible.send(seen)
            infrared.send(hot)
            fused.with_stamp(seen.stamp_ns)
            bag.write("/visible/image", seen, seen.stamp_ns, JPEG)
            bag.write("/infrared/image", hot, seen.stamp_ns + 1)
    with BagReader(tmp_path / "bag.mcap") as bag:
        steps = list(Replay(bag, single("infrared_visible_fusion")).steps())
    assert [field_bytes(each) for each in fused.values] == [field_bytes(step.outputs["fused"]) for step in steps]
    visible.publish(CompressedImage(format="jpeg", data=b"no jpeg"))
    _, values = driver.diagnosed.wait(name, lambda _, v: "1 undecodable" in v.get("input visible", ""), "undecodable")
    assert values["topic visible"] == f"/visible/image ({JPEG}), publishers: 1"
    assert driver.diagnosed.message(name, "/visible/image: ")
    # The camera changes to uncompressed: the node follows.
    visible.close()
    driver.diagnosed.wait(name, lambda _, v: v["topic visible"].endswith("publishers: 0"), "the camera gone")
    visible = driver.publisher("/visible/image", Image, RELIABLE)
    raw = f"/visible/image ({ImageMessage.__module__.split('.')[0]}/msg/Image), publishers: 1"
    driver.diagnosed.wait(name, lambda _, v: v["topic visible"] == raw, raw)
    visible.send(scene(start_ns + 10**9, "rgb8"))
    infrared.send(scene(start_ns + 10**9, "mono16"))
    fused.with_stamp(start_ns + 10**9)


JPEG_CAMERA = """
import sys, rclpy
from sensor_msgs.msg import CompressedImage
rclpy.init()
node = rclpy.create_node("jpeg_camera")
publisher = node.create_publisher(CompressedImage, "/visible/image", 10)
sys.stdin.read()
"""


def test_two_types_under_one_name(driver: Driver, node: Start, domain_id: int) -> None:
    name = "/infrared_visible_fusion"
    visible = driver.publisher("/visible/image", Image, RELIABLE)
    node("infrared_visible_fusion")
    driver.diagnosed.connected(name, ["visible"])
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id)}
    with subprocess.Popen([sys.executable, "-c", JPEG_CAMERA], stdin=subprocess.PIPE, env=environment):
        driver.diagnosed.message(
            name, f"/visible/image is offered as {JPEG} and sensor_msgs/msg/Image; sensor_msgs/msg/Image is taken."
        )
        visible.close()
        described = f"/visible/image ({JPEG}), publishers: 1"
        driver.diagnosed.wait(name, lambda _, values: values.get("topic visible") == described, described)


# -- names ----------------------------------------------------------------------------------------------


def test_namespace_name_and_remaps(driver: Driver, node: Start) -> None:
    scaled = driver.listener("/front/twice", Imu, RELIABLE)
    speaker = driver.publisher("/cam0/imu", Imu, RELIABLE)
    rules = ["__ns:=/front", "__node:=double", "imu:=/cam0/imu", "scaled:=twice"]
    node(SCALE, *[word for rule in rules for word in ("-r", rule)], name="/front/double")
    driver.diagnosed.connected("/front/double", ["imu"], ["scaled"])
    speaker.send(imu(3))
    assert scaled.with_stamp(3).angular_velocity[0] == 2.0
    assert driver.state("/front/double") == "active"
    _, values = driver.diagnosed.wait("/front/double", lambda _, v: v["steps"] == "1", "a step")
    assert values["topic imu"] == "/cam0/imu (sensor_msgs/msg/Imu), publishers: 1"
    assert values["topic scaled"] == "/front/twice (sensor_msgs/msg/Imu), subscribers: 1"


def test_topics_can_be_swapped(driver: Driver, node: Start) -> None:
    """Each name is remapped once: what `imu` becomes is not remapped again."""
    scaled, speaker = driver.listener("/imu", Imu, RELIABLE), driver.publisher("/scaled", Imu, RELIABLE)
    node(SCALE, "-r", "imu:=scaled", "-r", "scaled:=imu")
    driver.diagnosed.connected("/scale", ["imu"], ["scaled"])
    speaker.send(imu(3))
    assert scaled.with_stamp(3).angular_velocity[0] == 2.0


# -- transforms -----------------------------------------------------------------------------------------


@pytest.mark.skipif(not NO_TF, reason="tf2_msgs is installed, so /tf and /tf_static are heard instead")
def test_transform_topic_where_tf2_msgs_is_absent(driver: Driver, node: Start) -> None:
    place, speaker = driver.listener("/place", FloatArray, RELIABLE), driver.publisher("/imu", Imu, RELIABLE)
    process = node(f"{COMPONENTS}:Mounted")
    driver.diagnosed.connected("/mounted", ["imu"], ["place"])
    mount = Transform(1, np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]), "base_link", "imu_link")
    driver.publisher("/mounted/transform", Transform, LATCHED).send(mount)
    speaker.send(imu(driver.node.get_clock().now().nanoseconds))
    assert place.wait()[0].data.tolist() == [0.1, 0.2, 0.3]
    assert "tf2_msgs is not installed, so /tf and /tf_static are not heard: publish extrinsics on" in process.text()


@pytest.mark.skipif(NO_TF, reason="tf2_msgs is not installed (it is not on PyPI): /tf and /tf_static are not tried")
def test_tf(driver: Driver, node: Start) -> None:
    place, speaker = driver.listener("/place", FloatArray, RELIABLE), driver.publisher("/imu", Imu, RELIABLE)
    node(f"{COMPONENTS}:Mounted")
    driver.diagnosed.connected("/mounted", ["imu"], ["place"])
    mount = Transform(1, np.array([0.1, 0.2, 0.3]), np.array([0.0, 0.0, 0.0, 1.0]), "base_link", "imu_link")
    driver.publisher("/tf_static", Transforms, LATCHED, "tf2_msgs/msg/TFMessage").send(Transforms(1, (mount,)))
    speaker.send(imu(driver.node.get_clock().now().nanoseconds))
    assert place.wait()[0].data.tolist() == [0.1, 0.2, 0.3]
