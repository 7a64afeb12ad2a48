"""Codecs: lossless round trips through both libraries, point clouds, sensors, contradictions."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ros_attn.codecs import (
    RosbagsMessages,
    RosMessages,
    check_type,
    decode,
    encode,
    types_of,
    value_type_of,
)
from ros_attn.errors import MessageError, RosAttnError, TopicError
from ros_attn.values import (
    CameraInfo,
    Diagnostics,
    DiagnosticStatus,
    Flag,
    FloatArray,
    Image,
    Imu,
    JointState,
    Odometry,
    Path,
    PointCloud,
    Pose,
    Text,
    Transform,
    Transforms,
    Twist,
    Value,
    field_bytes,
)

STAMP, ARRIVAL = 1_700_000_000_123_456_789, 1_700_000_001_000_000_000
RNG = np.random.default_rng(7)


def _random(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def _cloud_points() -> np.ndarray:
    dtype = np.dtype(
        {
            "names": ["x", "y", "z", "intensity", "ring", "normal"],
            "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", ("<f4", (3,))],
            "offsets": [0, 4, 8, 16, 20, 24],
            "itemsize": 48,
        }
    )
    points = np.zeros(12, dtype)
    points["x"] = np.arange(12)
    points["y"][3] = np.nan
    points["z"][4] = np.inf
    points["ring"] = np.arange(12) * 1000
    points["normal"] = RNG.normal(size=(12, 3))
    return points


def _pose(stamp: int = STAMP) -> Pose:
    return Pose(stamp, _random(3), _random(4), "map")


# One value a ROS type; those without a header are about their arrival.
VALUES: dict[str, Value] = {
    "sensor_msgs/msg/Image": Image(STAMP, RNG.integers(0, 255, (5, 7, 3), dtype=np.uint8), "rgb8", "cam"),
    "sensor_msgs/msg/CameraInfo": CameraInfo(
        STAMP,
        640,
        480,
        _random(3, 3),
        _random(5),
        np.eye(3),
        _random(3, 4),
        "plumb_bob",
        "cam",
    ),
    "sensor_msgs/msg/PointCloud2": PointCloud(STAMP, _cloud_points(), "lidar", 3, False),
    "sensor_msgs/msg/Imu": Imu(STAMP, _random(3), _random(3), _random(4), _random(9), _random(9), _random(9), "imu"),
    "sensor_msgs/msg/JointState": JointState(
        STAMP, ("hip", "knee"), np.array([1.0, np.nan]), np.array([]), np.array([3.0, -4.0]), "base"
    ),
    "geometry_msgs/msg/PoseStamped": _pose(),
    "nav_msgs/msg/Path": Path(STAMP, (_pose(STAMP - 5), _pose(STAMP + 5)), "odom"),
    "nav_msgs/msg/Odometry": Odometry(
        STAMP, _random(3), _random(4), _random(3), _random(3), _random(36), _random(36), "odom", "base"
    ),
    "geometry_msgs/msg/Twist": Twist(ARRIVAL, _random(3), _random(3)),
    "geometry_msgs/msg/TwistStamped": Twist(STAMP, _random(3), _random(3), "base"),
    "geometry_msgs/msg/TransformStamped": Transform(STAMP, _random(3), _random(4), "map", "odom"),
    "tf2_msgs/msg/TFMessage": Transforms(
        ARRIVAL,
        tuple(Transform(STAMP + i, _random(3), _random(4), "a", "b") for i in range(3)),
    ),
    "std_msgs/msg/Float64MultiArray": FloatArray(ARRIVAL, _random(6), (("row", 2, 6), ("col", 3, 3))),
    "std_msgs/msg/String": Text(ARRIVAL, "grüße, 世界"),
    "std_msgs/msg/Bool": Flag(ARRIVAL, True),
    "diagnostic_msgs/msg/DiagnosticArray": Diagnostics(
        STAMP,
        (DiagnosticStatus(2, "imu", "late", "hw0", {"age": "41 ms", "": "x"}), DiagnosticStatus(0, "", "")),
        "base",
    ),
}


@pytest.fixture(scope="module")
def store() -> Any:
    from rosbags.typesys import Stores, get_typestore

    return get_typestore(Stores.ROS2_JAZZY)


@pytest.fixture(scope="module")
def messages(store: Any) -> RosbagsMessages:
    return RosbagsMessages(store)


def test_every_type_has_an_example() -> None:
    every = {msgtype for value in VALUES.values() for msgtype in types_of(type(value))}
    assert every - set(VALUES) == {"sensor_msgs/msg/CompressedImage", "tf/msg/tfMessage"}


@pytest.mark.parametrize("msgtype", VALUES)
def test_round_trip_through_rosbags(msgtype: str, store: Any, messages: RosbagsMessages) -> None:
    raw = store.serialize_cdr(encode(VALUES[msgtype], messages, msgtype), msgtype)
    again = decode(store.deserialize_cdr(raw, msgtype), msgtype, ARRIVAL)
    assert field_bytes(again) == field_bytes(VALUES[msgtype])
    assert bytes(store.serialize_cdr(encode(again, messages, msgtype), msgtype)) == bytes(raw)


@pytest.mark.parametrize("msgtype", VALUES)
def test_round_trip_through_ros(msgtype: str) -> None:
    pytest.importorskip(f"{msgtype.partition('/')[0]}.msg", reason="this ROS package is not installed")
    message = encode(VALUES[msgtype], RosMessages(), msgtype)
    assert field_bytes(decode(message, msgtype, ARRIVAL)) == field_bytes(VALUES[msgtype])


def test_ros_arrays_are_array_array() -> None:
    pytest.importorskip("sensor_msgs.msg")
    factory = RosMessages()
    assert isinstance(encode(VALUES["sensor_msgs/msg/Image"], factory).data, array)
    assert isinstance(encode(VALUES["sensor_msgs/msg/PointCloud2"], factory).data, array)
    assert encode(VALUES["sensor_msgs/msg/JointState"], factory).effort == array("d", [3.0, -4.0])
    assert encode(Text(0, "a"), factory).data == "a"


def test_a_flag_is_true_or_false(store: Any, messages: RosbagsMessages) -> None:
    for data in (True, False):
        raw = store.serialize_cdr(encode(Flag(0, data), messages), "std_msgs/msg/Bool")
        again = decode(store.deserialize_cdr(raw, "std_msgs/msg/Bool"), "std_msgs/msg/Bool", 7)
        assert isinstance(again, Flag) and again.data is data and again.stamp_ns == 7


def test_absent_ros_package_is_a_sentence() -> None:
    with pytest.raises(RosAttnError, match=r"no_such_msgs cannot be imported .*ros-jazzy-no-such-msgs"):
        RosMessages().message("no_such_msgs/msg/Thing")


def test_ros1_names_and_tf_message(store: Any, messages: RosbagsMessages) -> None:
    transforms = VALUES["tf2_msgs/msg/TFMessage"]
    message = encode(transforms, messages)
    assert field_bytes(decode(message, "tf/tfMessage", ARRIVAL)) == field_bytes(transforms)
    assert value_type_of("tf/msg/tfMessage") is Transforms
    assert value_type_of("sensor_msgs/Image") is Image
    assert value_type_of("sensor_msgs/msg/NavSatFix") is None
    assert types_of(Transforms) == ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")
    assert types_of(Image) == ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
    assert types_of(Twist)[0] == "geometry_msgs/msg/Twist"


def test_types_are_checked(messages: RosbagsMessages) -> None:
    check_type("/cam", "sensor_msgs/msg/CompressedImage", Image)
    with pytest.raises(TopicError, match=r"/scan is sensor_msgs/msg/PointCloud2, which decodes to PointCloud; Ima"):
        check_type("/scan", "sensor_msgs/msg/PointCloud2", Image)
    with pytest.raises(TopicError, match="for which there is no codec"):
        check_type("/fix", "sensor_msgs/msg/NavSatFix", Image)
    with pytest.raises(MessageError, match=r"no codec for sensor_msgs/msg/Imagee \(did you mean"):
        decode(None, "sensor_msgs/msg/Imagee", 0)
    with pytest.raises(MessageError, match="Text cannot be encoded as sensor_msgs/msg/Image"):
        encode(Text(0, ""), messages, "sensor_msgs/msg/Image")
    with pytest.raises(MessageError, match="no ROS type is known for Value"):
        encode(Value(0), messages)


def test_a_message_of_another_definition_is_a_message_error() -> None:
    with pytest.raises(MessageError, match="std_msgs/msg/String has no field 'data'"):
        decode(SimpleNamespace(text="x"), "std_msgs/msg/String", 0)


def test_stamps_beyond_ros_time_are_refused(messages: RosbagsMessages) -> None:
    with pytest.raises(MessageError, match="does not fit a ROS time"):
        encode(Pose(2**31 * 10**9, np.zeros(3)), messages)
    early = encode(Pose(-1, np.zeros(3)), messages)
    assert decode(early, "geometry_msgs/msg/PoseStamped", 0).stamp_ns == -1


# ---------------------------------------------------------------- point clouds


def _cloud_message(points: np.ndarray, height: int, row_padding: int = 0, bigendian: bool = False) -> Any:
    width = points.size // height
    numbers = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
    fields = []
    for name, (kind, offset, *_) in (points.dtype.fields or {}).items():
        base, shape = kind.subdtype or (kind, (1,))
        fields.append(SimpleNamespace(name=name, offset=offset, datatype=numbers[base.str[1:]], count=shape[0]))
    rows = points.reshape(height, width)
    data = b"".join(row.tobytes() + bytes(row_padding) for row in rows)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=0), frame_id="lidar")
    return SimpleNamespace(
        header=header,
        height=height,
        width=width,
        fields=fields,
        is_bigendian=bigendian,
        point_step=points.dtype.itemsize,
        row_step=width * points.dtype.itemsize + row_padding,
        data=np.frombuffer(data, np.uint8),
        is_dense=False,
    )


CLOUD = "sensor_msgs/msg/PointCloud2"


@pytest.mark.parametrize("row_padding", [0, 5])
def test_clouds_with_padding_and_organised(row_padding: int) -> None:
    points = _cloud_points()
    message = _cloud_message(points, 3, row_padding)
    cloud = decode(message, CLOUD, 0)
    assert isinstance(cloud, PointCloud)
    assert (cloud.height, cloud.is_dense, cloud.points.dtype) == (3, False, points.dtype)
    assert cloud.points.tobytes() == points.tobytes()
    assert np.shares_memory(cloud.points, message.data) == (row_padding == 0)
    assert not cloud.points.flags.writeable
    np.testing.assert_array_equal(cloud.xyz[:, 0], np.arange(12))
    assert np.isnan(cloud.xyz[3, 1]) and np.isinf(cloud.xyz[4, 2])


def test_big_endian_clouds() -> None:
    points = _cloud_points()
    cloud = decode(_cloud_message(points.astype(points.dtype.newbyteorder(">")), 1, 0, True), CLOUD, 0)
    assert isinstance(cloud, PointCloud)
    for name in points.dtype.names or ():
        np.testing.assert_array_equal(cloud.points[name], points[name])
        assert cloud.points[name].dtype.isnative


def test_empty_clouds(store: Any, messages: RosbagsMessages) -> None:
    empty = PointCloud(STAMP, np.empty(0, [("x", "<f4")]), "lidar")
    message = store.deserialize_cdr(store.serialize_cdr(encode(empty, messages), CLOUD), CLOUD)
    assert field_bytes(decode(message, CLOUD, 0)) == field_bytes(empty)
    bare = decode(_cloud_message(np.empty(0, [("x", "<f4")]), 1), CLOUD, 0)
    assert isinstance(bare, PointCloud) and bare.points.size == 0


def test_contradicting_clouds_are_message_errors() -> None:
    def broken(**changes: Any) -> Any:
        return SimpleNamespace(**{**vars(_cloud_message(_cloud_points(), 1)), **changes})

    field = SimpleNamespace(name="x", offset=0, datatype=7, count=1)
    cases = {
        "need 576 bytes": broken(data=np.zeros(100, np.uint8)),
        "row_step 40": broken(row_step=40),
        "beyond point_step 20": broken(point_step=20, row_step=240, data=np.zeros(240, np.uint8)),
        "datatype 9": broken(fields=[SimpleNamespace(name="x", offset=0, datatype=9, count=1)]),
        "distinct names": broken(fields=[field, field]),
        "0 fields": broken(fields=[]),
    }
    for text, message in cases.items():
        with pytest.raises(MessageError, match=f"frame 'lidar'.*{text}"):
            decode(message, CLOUD, 0)


def test_impossible_points_are_refused(messages: RosbagsMessages) -> None:
    for points, height, text in (
        (np.zeros((3, 3)), 1, "structured array"),
        (np.zeros(5, [("x", "<f4")]), 2, "do not fill 2 rows"),
        (np.zeros(2, [("x", "<i8")]), 1, "no PointField can say"),
    ):
        with pytest.raises(MessageError, match=text):
            encode(PointCloud(0, points, "lidar", height), messages)


# ---------------------------------------------------------------- sensors


def test_imu_without_orientation(messages: RosbagsMessages) -> None:
    imu = Imu(STAMP, np.ones(3), np.ones(3))
    message = encode(imu, messages)
    assert message.orientation_covariance[0] == -1.0
    assert message.orientation.w == 1.0
    again = decode(message, "sensor_msgs/msg/Imu", 0)
    assert isinstance(again, Imu) and again.orientation is None
    assert field_bytes(decode(encode(again, messages), "sensor_msgs/msg/Imu", 0)) == field_bytes(again)


def test_contradicting_lengths_are_message_errors(messages: RosbagsMessages) -> None:
    message = encode(VALUES["sensor_msgs/msg/JointState"], messages)
    message.velocity = np.zeros(3)
    with pytest.raises(MessageError, match="joint state velocity has 3 numbers, 0 or 2 expected"):
        decode(message, "sensor_msgs/msg/JointState", 0)
    with pytest.raises(MessageError, match="joint state effort has 1 numbers"):
        encode(JointState(0, ("a", "b"), np.zeros(2), np.zeros(2), np.zeros(1)), messages)
    imu = encode(VALUES["sensor_msgs/msg/Imu"], messages)
    imu.angular_velocity_covariance = np.zeros(3)
    with pytest.raises(MessageError, match="angular velocity covariance has 3 numbers, 9 expected"):
        decode(imu, "sensor_msgs/msg/Imu", 0)
    with pytest.raises(MessageError, match="pose position has 2 numbers"):
        encode(Pose(0, np.zeros(2)), messages)


def test_camera_info_of_a_binned_region() -> None:
    k = [500.0, 0, 320, 0, 510, 240, 0, 0, 1]
    p = [500.0, 0, 320, -50, 0, 510, 240, 0, 0, 0, 1, 0]
    roi = SimpleNamespace(x_offset=100, y_offset=40, width=400, height=200, do_rectify=False)
    header = SimpleNamespace(stamp=SimpleNamespace(sec=0, nanosec=1), frame_id="cam")
    # ROS 1 spells the fields D, K, R, P.
    message = SimpleNamespace(
        header=header,
        width=640,
        height=480,
        distortion_model="plumb_bob",
        D=[0.1],
        K=k,
        R=np.eye(3),
        P=p,
        binning_x=2,
        binning_y=4,
        roi=roi,
    )
    info = decode(message, "sensor_msgs/CameraInfo", 0)
    assert isinstance(info, CameraInfo) and info.calibrated
    assert (info.width, info.height) == (200, 50)
    np.testing.assert_allclose(info.k, [[250, 0, 110], [0, 127.5, 50], [0, 0, 1]])
    np.testing.assert_allclose(info.p, [[250, 0, 110, -25], [0, 127.5, 50, 0], [0, 0, 1, 0]])
    np.testing.assert_allclose(info.d, [0.1])


def test_float_array_padding_is_cut() -> None:
    layout_message = SimpleNamespace(dim=[], data_offset=2)
    array_message = SimpleNamespace(layout=layout_message, data=[9.0, 9.0, 1.0, 2.0])
    value = decode(array_message, "std_msgs/msg/Float64MultiArray", 5)
    assert isinstance(value, FloatArray) and value.stamp_ns == 5 and value.data.tolist() == [1.0, 2.0]
    layout_message.data_offset = 5
    with pytest.raises(MessageError, match="data_offset 5"):
        decode(array_message, "std_msgs/msg/Float64MultiArray", 5)


def test_import_stays_light() -> None:
    code = (
        "import sys, ros_attn.codecs, ros_attn.bag, ros_attn.bag_info; "
        "print([name for name in ('rosbags', 'cv2', 'torch', 'rclpy', 'sensor_msgs') if name in sys.modules])"
    )
    root = pathlib.Path(__file__).parents[1]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout.strip() == "[]"
