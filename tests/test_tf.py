"""The TF buffer: known chains, scipy as oracle, tf2's corner cases, recorded /tf."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from ros_attn.bag import BagReader
from ros_attn.errors import TransformError
from ros_attn.geometry import pose_invert, pose_matrix
from ros_attn.tf import TransformBuffer
from ros_attn.values import Transform, Transforms

S = 10**9


def transform(
    parent: str, child: str, stamp_ns: int = 0, xyz: object = (0, 0, 0), xyzw: object = (0, 0, 0, 1)
) -> Transform:
    return Transform(
        stamp_ns=stamp_ns,
        translation=np.array(xyz, dtype=float),
        rotation=np.array(xyzw, dtype=float),
        frame_id=parent,
        child_frame_id=child,
    )


def yaw(degrees: float) -> np.ndarray:
    return Rotation.from_euler("z", degrees, degrees=True).as_quat()


def moving(parent: str, child: str, stamps_ns: list[int], metres_per_s: float = 1.0) -> Transforms:
    """Along x with the given speed, from the origin at stamp 0."""
    each = [transform(parent, child, t, (metres_per_s * t / S, 0, 0)) for t in stamps_ns]
    return Transforms(stamp_ns=stamps_ns[-1], transforms=tuple(each))


def test_known_chain() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("map", "odom", 0, (10, 0, 0), yaw(90)), static=True)
    buffer.add_all(moving("odom", "base_link", [0, 2 * S], metres_per_s=2.0))
    buffer.add(transform("base_link", "camera", 0, (0.5, 0, 1), yaw(-90)), static=True)
    # The camera is 2.5 m along odom's x, which is map's y, and its own x points along map's x again.
    expected = np.array([[1, 0, 0, 10], [0, 1, 0, 2.5], [0, 0, 1, 1], [0, 0, 0, 1]], dtype=float)
    np.testing.assert_allclose(buffer.lookup("map", "camera", S), expected, atol=1e-15)
    np.testing.assert_allclose(buffer.lookup("camera", "map", S), pose_invert(expected), atol=1e-15)


def test_siblings_meet_below_the_root() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("base", "left", xyz=(0, 1, 0)), static=True)
    buffer.add(transform("base", "right", xyz=(0, -1, 0), xyzw=yaw(180)), static=True)
    buffer.add(transform("map", "base"))  # one sample: unknown at the stamp below, and not needed
    np.testing.assert_allclose(buffer.lookup("left", "right", 5 * S)[:3, 3], [0, -2, 0], atol=1e-15)
    np.testing.assert_allclose(buffer.lookup("right", "left", 5 * S)[:3, 3], [0, -2, 0], atol=1e-15)


@pytest.mark.parametrize("third", [1, 2])
def test_interpolation_at_thirds(third: int) -> None:
    buffer = TransformBuffer()
    buffer.add(transform("odom", "base", 0, (0, 0, 0), yaw(10)))
    buffer.add(transform("odom", "base", 3 * S, (3, 6, -9), -yaw(100)))  # the other sign: the same turn
    pose = buffer.lookup("odom", "base", third * S)
    expected = pose_matrix([third, 2 * third, -3 * third], yaw(10 + 30 * third))
    np.testing.assert_allclose(pose, expected, atol=1e-14)


@given(seed=st.integers(0, 2**16), stamp=st.integers(0, 10 * S))
@settings(deadline=None)
def test_interpolation_is_scipys_slerp(seed: int, stamp: int) -> None:
    rng = np.random.default_rng(seed)
    stamps = np.unique(np.concatenate([[0, 10 * S], rng.integers(0, 10 * S, size=6)]))
    turns, places = Rotation.random(len(stamps), rng=rng), rng.normal(size=(len(stamps), 3))
    buffer = TransformBuffer()
    for at in rng.permutation(len(stamps)):
        buffer.add(transform("odom", "base", int(stamps[at]), places[at], turns[at].as_quat()))
    pose = buffer.lookup("odom", "base", stamp)
    theirs = Slerp(stamps / S, turns)(stamp / S).as_matrix()
    np.testing.assert_allclose(pose[:3, :3], theirs, atol=1e-7)  # scipy's times are float seconds
    place = [np.interp(stamp, stamps, places[:, axis]) for axis in range(3)]
    np.testing.assert_allclose(pose[:3, 3], place, atol=1e-12)


@given(seed=st.integers(0, 2**16), stamp=st.integers(0, S))
@settings(deadline=None, max_examples=50)
def test_composition_and_inverse(seed: int, stamp: int) -> None:
    """A random tree of eight frames, static and dynamic: T_ac = T_ab T_bc and T_ba = T_ab^-1 for any three."""
    rng = np.random.default_rng(seed)
    buffer = TransformBuffer()
    for child in range(1, 8):
        parent, static = int(rng.integers(child)), bool(rng.integers(2))
        for t in (0, S // 2, S):
            turn = Rotation.random(rng=rng).as_quat()
            buffer.add(transform(f"f{parent}", f"f{child}", t, rng.normal(size=3), turn), static=static)
    a, b, c = (f"f{i}" for i in rng.integers(8, size=3))
    direct = buffer.lookup(a, c, stamp)
    np.testing.assert_allclose(direct, buffer.lookup(a, b, stamp) @ buffer.lookup(b, c, stamp), atol=1e-12)
    np.testing.assert_allclose(buffer.lookup(c, a, stamp), pose_invert(direct), atol=1e-12)
    np.testing.assert_allclose(direct[:3, :3] @ direct[:3, :3].T, np.eye(3), atol=1e-13)


@given(order=st.permutations(range(6)))
def test_order_of_arrival_changes_nothing(order: list[int]) -> None:
    ordered, shuffled = TransformBuffer(), TransformBuffer()
    each = moving("odom", "base", [k * S for k in range(6)]).transforms
    for k in range(6):
        ordered.add(each[k])
        shuffled.add(each[order[k]])
    for stamp in (0, S // 3, 2 * S, 5 * S):
        np.testing.assert_array_equal(ordered.lookup("odom", "base", stamp), shuffled.lookup("odom", "base", stamp))
    assert ordered.describe() == shuffled.describe()


def test_samples_are_met_exactly_and_never_left() -> None:
    buffer = TransformBuffer()
    buffer.add_all(moving("odom", "base", [S, 2 * S]))
    assert buffer.lookup("odom", "base", S)[0, 3] == 1.0
    assert buffer.lookup("odom", "base", 2 * S)[0, 3] == 2.0
    assert [buffer.ready("odom", "base", t) for t in (S - 1, S, 2 * S, 2 * S + 1)] == [False, True, True, False]


def test_the_same_stamp_twice_keeps_the_newer() -> None:
    buffer = TransformBuffer()
    for x in (1, 2):
        buffer.add(transform("odom", "base", S, (x, 0, 0)))
    assert buffer.lookup("odom", "base", S)[0, 3] == 2.0
    assert buffer.problems() == []


def test_cache_is_kept_back_from_each_links_own_newest() -> None:
    buffer = TransformBuffer(cache_s=2.0)
    buffer.add_all(moving("odom", "base", [k * S for k in range(10)]))
    buffer.add_all(moving("base", "arm", [0, S]))
    assert not buffer.ready("odom", "base", 7 * S - 1)
    assert buffer.ready("odom", "base", 7 * S)
    assert buffer.ready("base", "arm", 0)
    assert not buffer.add(transform("odom", "base", 7 * S - 1))
    assert buffer.problems() == ["base<-odom: it is over 2 s older than the link's newest (1 refused)"]


def test_leading_slashes_of_ros1() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("/odom", "/base", xyz=(1, 2, 3)), static=True)
    np.testing.assert_array_equal(buffer.lookup("/odom", "base", 0)[:3, 3], [1, 2, 3])
    assert buffer.frames() == ["base", "odom"]


def test_identity_only_for_known_frames() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("odom", "base", S))
    for frame in ("odom", "base"):
        np.testing.assert_array_equal(buffer.lookup(frame, frame, 99 * S), np.eye(4))
    assert not buffer.ready("lidar", "lidar", S)
    with pytest.raises(TransformError, match="frame 'lidar' is unknown; known are base, odom"):
        buffer.lookup("lidar", "lidar", S)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (transform("a", "a"), "a<-a: a frame cannot be its own parent (1 refused)"),
        (transform("/a", "a"), "a<-a: a frame cannot be its own parent (1 refused)"),
        (transform("", "a"), "a<-(no name): a frame id is empty (1 refused)"),
        (transform("a", "/"), "(no name)<-a: a frame id is empty (1 refused)"),
        (transform("a", "b", xyz=(0, np.nan, 0)), "b<-a: a number in it is not finite (1 refused)"),
        (transform("a", "b", xyz=(np.inf, 0, 0)), "b<-a: a number in it is not finite (1 refused)"),
        (transform("a", "b", xyzw=(0, 0, np.nan, 1)), "b<-a: a number in it is not finite (1 refused)"),
        (
            transform("a", "b", xyzw=(0, 0, 0, 0)),
            "b<-a: its rotation is a zero quaternion; no rotation is x=0 y=0 z=0 w=1 (1 refused)",
        ),
        (transform("a", "b", xyzw=(0, 0, 0, 1.01)), "b<-a: its rotation is not a unit quaternion (1 refused)"),
    ],
)
def test_refusals_are_counted_with_a_sentence(bad: Transform, sentence: str) -> None:
    for static in (False, True):
        buffer = TransformBuffer()
        assert not buffer.add(bad, static)
        assert buffer.problems() == [sentence]
        assert buffer.frames() == []


def test_near_unit_quaternions_give_rotations() -> None:
    buffer = TransformBuffer()
    assert buffer.add(transform("a", "b", xyzw=1.004 * yaw(30)), static=True)
    np.testing.assert_allclose(buffer.lookup("a", "b", 0), pose_matrix([0, 0, 0], yaw(30)), atol=1e-15)


def test_a_new_parent_takes_over_from_its_stamp() -> None:
    buffer = TransformBuffer()
    buffer.add_all(moving("odom", "cup", [0, S, 2 * S]))
    buffer.add(transform("odom", "hand", xyz=(9, 0, 0)), static=True)
    buffer.add(transform("hand", "cup", 3 * S, (0.1, 0, 0)))
    buffer.add(transform("hand", "cup", 4 * S, (0.3, 0, 0)))
    assert buffer.lookup("odom", "cup", S // 2)[0, 3] == pytest.approx(0.5)
    assert buffer.lookup("odom", "cup", 2 * S + S // 2)[0, 3] == 2.0  # as tf2: the older one, held
    assert buffer.lookup("odom", "cup", 3 * S + S // 2)[0, 3] == pytest.approx(9.2)
    assert buffer.problems() == ["cup: its parent changes between hand and odom, the newer one counts (1 times)"]
    assert not buffer.ready("hand", "cup", 5 * S)


def test_two_static_parents_and_mixed_kinds_are_named() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("a", "c", xyz=(1, 0, 0)), static=True)
    buffer.add(transform("b", "c", xyz=(2, 0, 0)), static=True)
    assert buffer.lookup("b", "c", 0)[0, 3] == 2.0
    assert not buffer.ready("a", "c", 0)
    buffer.add(transform("b", "c", S, xyz=(3, 0, 0)))
    assert buffer.lookup("b", "c", S)[0, 3] == 3.0
    assert not buffer.ready("b", "c", 0)
    assert buffer.problems() == [
        "c: comes both static and dynamic, the last one counts (1 times)",
        "c: its parent changes between a and b, the newer one counts (1 times)",
    ]


def message(buffer: TransformBuffer, target: str, source: str, stamp_ns: int) -> str:
    assert not buffer.ready(target, source, stamp_ns)
    with pytest.raises(TransformError) as caught:
        buffer.lookup(target, source, stamp_ns)
    return str(caught.value)


def test_sentence_for_an_unknown_frame() -> None:
    buffer = TransformBuffer()
    assert message(buffer, "map", "base", 0) == (
        "no transform from 'base' to 'map': frame 'map' is unknown; no transform came at all"
    )
    buffer.add(transform("odom", "base_link"), static=True)
    assert message(buffer, "odom", "base_lnik", 0) == (
        "no transform from 'base_lnik' to 'odom': frame 'base_lnik' is unknown (did you mean 'base_link'?); "
        "known are base_link, odom"
    )


def test_sentence_for_two_trees() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("odom", "base"), static=True)
    buffer.add(transform("rig", "camera"), static=True)
    assert message(buffer, "base", "camera", 0) == (
        "no transform from 'camera' to 'base': they are in two trees, with the roots 'rig' and 'odom'; "
        "a transform between those is missing"
    )


def test_sentence_for_extrapolation() -> None:
    buffer = TransformBuffer()
    buffer.add_all(moving("odom", "base_link", [12_300_000_000, 14_100_000_000]))
    buffer.add(transform("base_link", "camera"), static=True)
    buffer.add_all(moving("map", "odom", [14_000_000_000]))
    assert message(buffer, "odom", "camera", 14_350_000_000) == (
        "no transform from 'camera' to 'odom': "
        "base_link<-odom is known from 12.3 s to 14.1 s, asked for 14.35 s: 250 ms too late"
    )
    assert message(buffer, "camera", "odom", 300_000_000).endswith("asked for 0.3 s: 12 s too early")
    assert message(buffer, "map", "camera", 14_350_000_000).endswith(
        "odom<-map is known only at 14 s, asked for 14.35 s: 350 ms too late, and so are 1 more links"
    )


def test_sentence_for_a_loop() -> None:
    buffer = TransformBuffer()
    for parent, child in (("a", "b"), ("b", "c"), ("c", "a")):
        buffer.add(transform(parent, child), static=True)
    buffer.add(transform("a", "d"), static=True)
    buffer.add(transform("x", "y"), static=True)
    assert message(buffer, "x", "d", 0) == (
        "no transform from 'd' to 'x': a -> c -> b -> a is a loop; one of these frames has a wrong parent"
    )
    assert "in a loop or below one: a, b, c, d" in buffer.describe()


def test_sentence_where_only_the_old_tree_was_another() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("old", "cup", 0))
    buffer.add(transform("new", "cup", S))
    assert message(buffer, "new", "cup", S // 2).endswith("at 0.5 s a frame between them had another parent than now")


def test_clear_dynamic_keeps_the_static_part() -> None:
    buffer = TransformBuffer()
    buffer.add(transform("base", "camera"), static=True)
    buffer.add_all(moving("odom", "base", [0, S]))
    buffer.clear_dynamic()
    assert buffer.frames() == ["base", "camera"]
    assert buffer.ready("base", "camera", 123)
    assert not buffer.ready("odom", "base", 0)


def test_describe() -> None:
    buffer = TransformBuffer()
    assert buffer.describe() == "no transforms"
    buffer.add_all(moving("odom", "base", [k * S // 50 for k in range(101)]))
    buffer.add(transform("map", "odom", S))
    for child in ("lidar", "imu"):
        buffer.add(transform("base", child), static=True)
    assert buffer.describe(now_ns=2 * S + S // 100).splitlines() == [
        "map",
        "`-- odom           dynamic  1 sample  age 1.010 s",
        "    `-- base       dynamic  50.0 Hz  age 0.010 s",
        "        |-- imu    static",
        "        `-- lidar  static",
    ]


def test_lookup_through_five_links_is_fast() -> None:
    rng = np.random.default_rng(3)
    buffer = TransformBuffer()
    for link in range(5):
        for k in range(500):
            turn = Rotation.random(rng=rng).as_quat()
            buffer.add(transform(f"f{link}", f"f{link + 1}", k * S // 100, rng.normal(size=3), turn))
    best = np.inf
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(100):
            buffer.lookup("f5", "f0", 1_234_567_890)
        best = min(best, (time.perf_counter() - start) / 100)
    assert best < 50e-6, f"{best * 1e6:.1f} us"


@pytest.mark.parametrize("name", ["nav2_turtlebot.mcap", "tf_example", "tilt_laser_imu_gps.ros1.bag"])
def test_recorded_transforms(name: str, data: Path) -> None:
    """At each sample of a bag's /tf the sample, half way between two of them scipy's slerp."""
    buffer, links = TransformBuffer(cache_s=1e6), dict[tuple[str, str], list[Transform]]()
    with BagReader(data / "bags" / name) as reader:
        for message in reader.messages([topic for topic in ("/tf", "/tf_static") if topic in reader.topics]):
            value = reader.decode(message)
            assert isinstance(value, Transforms)
            static = message.topic == "/tf_static"
            assert buffer.add_all(value, static) == len(value.transforms)
            for each in () if static else value.transforms:
                key = each.frame_id.lstrip("/"), each.child_frame_id.lstrip("/")
                links.setdefault(key, []).append(each)
    assert links
    checked = 0
    for (parent, child), values in links.items():
        newest = {value.stamp_ns: value for value in values}
        stamps = np.array(sorted(newest))
        quaternions = np.array([newest[t].rotation for t in stamps])
        places = np.array([newest[t].translation for t in stamps])
        for at in range(0, len(stamps), max(1, len(stamps) // 40)):
            pose = buffer.lookup(parent, child, int(stamps[at]))
            np.testing.assert_allclose(pose, pose_matrix(places[at], quaternions[at]), atol=1e-12)
            if at + 1 < len(stamps):
                middle = int(stamps[at] + stamps[at + 1]) // 2
                share = (middle - stamps[at]) / (stamps[at + 1] - stamps[at])
                turn = Slerp([0, 1], Rotation.from_quat(quaternions[at : at + 2]))(share)
                expected = np.eye(4)
                expected[:3, :3] = turn.as_matrix()
                expected[:3, 3] = (1 - share) * places[at] + share * places[at + 1]
                np.testing.assert_allclose(buffer.lookup(parent, child, middle), expected, atol=1e-12)
                checked += 1
    assert checked >= 40
    assert buffer.problems() == []
