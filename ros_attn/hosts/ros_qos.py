"""QoS of a node's topics: what it asks and offers, and sentences where the other side does otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo

from ros_attn.values import Image, PointCloud, Transforms, Value

LOSSLESS_DEPTH = 100
TF_DEPTH = 100
RESULT_DEPTH = 10
SENSOR_DEPTH = 5
# Small messages come at hundreds of Hz: five of them would be over within the executor's worst gap (21 ms).
SMALL_DEPTH = 100


def _profile(depth: int, reliable: bool, transient_local: bool = False) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if transient_local else DurabilityPolicy.VOLATILE,
    )


def incoming(value_type: type[Value], lossless: bool) -> QoSProfile:
    """Best effort, which every publisher satisfies: depth 5 for images and clouds. ``/tf`` is reliable."""
    if lossless:
        return _profile(LOSSLESS_DEPTH, reliable=True)
    if value_type is Transforms:
        return _profile(TF_DEPTH, reliable=True)
    return _profile(SENSOR_DEPTH if value_type in (Image, PointCloud) else SMALL_DEPTH, reliable=False)


def tf_static() -> QoSProfile:
    """``/tf_static``: transient local whoever publishes, as in tf2."""
    return _profile(TF_DEPTH, reliable=True, transient_local=True)


def latched() -> QoSProfile:
    """One value that late subscribers get as well."""
    return _profile(1, reliable=True, transient_local=True)


def outgoing(kind: str, lossless: bool) -> QoSProfile:
    """Of an output by ``Out.kind``: results reliable with depth 10, sensor data best effort."""
    if lossless:
        return _profile(LOSSLESS_DEPTH, reliable=True)
    return _profile(RESULT_DEPTH, reliable=True) if kind == "result" else _profile(SENSOR_DEPTH, reliable=False)


def held(publishers: Sequence[TopicEndpointInfo]) -> QoSProfile:
    """Of a ``Static`` input: transient local and reliable only where every publisher is.

    A transient-local reader gets nothing from a volatile publisher, and a volatile reader gets no history.
    """
    profiles = [publisher.qos_profile for publisher in publishers]
    return _profile(
        RESULT_DEPTH,
        reliable=all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles),
        transient_local=all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles),
    )


def disagreement(offered: QoSProfile, requested: QoSProfile) -> str | None:
    """Which policies keep a publisher and a subscription apart, None where none does.

    As the DDS standard's table of request and offer; rclpy's own check takes the unset deadline of a local
    profile for a finite one.
    """
    found = []
    if offered.reliability == ReliabilityPolicy.BEST_EFFORT and requested.reliability == ReliabilityPolicy.RELIABLE:
        found.append("reliability: best effort is offered, reliable is asked")
    if offered.durability == DurabilityPolicy.VOLATILE and requested.durability == DurabilityPolicy.TRANSIENT_LOCAL:
        found.append("durability: volatile is offered, transient local is asked")
    if _period_s(offered.deadline) > _period_s(requested.deadline):
        found.append(f"deadline: {_period_s(requested.deadline):g} s is asked, a longer one is offered")
    manual = LivelinessPolicy.MANUAL_BY_TOPIC
    if requested.liveliness == manual != offered.liveliness:
        found.append("liveliness: automatic is offered, manual by topic is asked")
    lease_s = _period_s(requested.liveliness_lease_duration)
    if _period_s(offered.liveliness_lease_duration) > lease_s:
        found.append(f"liveliness: a lease of {lease_s:g} s is asked, a longer one is offered")
    return "; ".join(found) or None


def _period_s(duration: Duration) -> float:
    """A policy's period; unset (0) and the middleware's largest number both mean none."""
    return duration.nanoseconds * 1e-9 if 0 < duration.nanoseconds < 2**62 else math.inf


def node_name(endpoint: TopicEndpointInfo) -> str:
    """The full name of the node behind an endpoint."""
    if "_UNKNOWN_" in endpoint.node_name:
        return "a node whose name is not known yet"
    return f"{endpoint.node_namespace.rstrip('/')}/{endpoint.node_name}"
