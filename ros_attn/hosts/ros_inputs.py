"""One input of a node: a subscription of the type and with the QoS that its publishers offer, and what it lost."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.topic_endpoint_info import TopicEndpointInfo

from ros_attn.bag.reader import default_typestore
from ros_attn.codecs import RosMessages, decode, types_of
from ros_attn.diagnostics import InputCounters
from ros_attn.errors import MessageError, RosAttnError, listed
from ros_attn.hosts import ros_qos
from ros_attn.values import Value

# How long nobody may publish before it is said.
SILENCE_S = 5.0

_MESSAGES = RosMessages()


def message_class(msgtype: str) -> type | None:
    """The Python class of a ROS type, None where its package is not installed."""
    try:
        return type(_MESSAGES.message(msgtype))
    except RosAttnError:
        return None


def installed_types(value_type: type[Value]) -> tuple[str, ...]:
    """The ROS types that decode to a value and that this ROS has, in the order of preference."""
    return tuple(msgtype for msgtype in types_of(value_type) if message_class(msgtype) is not None)


@dataclass
class Source:
    """The messages of one input from outside the process.

    ``asked`` is the topic before, ``topic`` after the remapping of ``--ros-args``. The type is the one
    offered among ``types``. Of two offered under one name the one already taken stays, else the first of
    ``types`` is taken, and a condition says so.
    ``kind`` ``"held"`` takes reliability and durability from the publishers, again at each change.
    ``arrived(value, arrival_ns)`` is called in the executor's thread.

    Loss before us is counted from gaps in ``publication_sequence_number``, which are per publisher: with two
    publishers it is unknown (``loss_known`` False).
    """

    node: Node
    name: str
    asked: str
    value_type: type[Value]
    kind: Literal["stream", "held", "tf_static"]
    lossless: bool
    counters: InputCounters
    arrived: Callable[[Value, int], None]
    changed: Callable[[], None]
    internal: str = ""

    topic: str = field(init=False)
    types: tuple[str, ...] = field(init=False)
    subscription: Subscription | None = field(init=False, default=None)
    msgtype: str = field(init=False, default="")
    loss_known: bool = field(init=False, default=True)
    newest_ns: int | None = field(init=False, default=None)
    """Stamp of the last message that was handed on."""
    _since_s: float = field(init=False, default_factory=time.monotonic)
    _early: deque[bytes] = field(init=False, default_factory=deque)
    _publishers: frozenset[bytes] = field(init=False, default=frozenset())
    _sequence: int | None = field(init=False, default=None)
    _numbered: bool = field(init=False, default=True)
    _gap: int = field(init=False, default=0)
    _undecodable: str = field(init=False, default="")

    def __post_init__(self) -> None:
        self.topic = self.node.resolve_topic_name(self.asked)
        self.types = installed_types(self.value_type)
        if not self.types:
            raise RosAttnError(
                f"Input {self.name!r} takes {' or '.join(types_of(self.value_type))}, which this ROS does not have; "
                "install that message package."
            )

    # -- connecting -------------------------------------------------------------------------------------

    def examine(self) -> dict[str, str]:
        """Look at the publishers, (re)connect as they are, and say what is wrong, by key.

        Raises RosAttnError where the QoS overrides given for this topic are refused.
        """
        publishers = self.node.get_publishers_info_by_topic(self.asked)
        if self.internal:
            others = [each for each in publishers if ros_qos.node_name(each) != self.internal]
            if not others:
                return {}
            return {
                self.name: f"{self.topic} comes from {self.internal} in this process; {_names(others)}, who "
                "publishes there as well, is not heard."
            }
        self._confirm_loss(frozenset(bytes(each.endpoint_gid) for each in publishers))
        fitting = [each for each in publishers if each.topic_type in self.types]
        self._connect(fitting)
        problems = {}
        if not publishers:
            if time.monotonic() - self._since_s > SILENCE_S:
                problems[self.name] = self._nobody()
        elif not fitting:
            problems[self.name] = self._wrong_type(publishers)
        else:
            self._since_s = time.monotonic()
            problems |= self._two_types(fitting) | self._apart(fitting)
        if self._undecodable:
            problems[f"{self.name} undecodable"] = self._undecodable
        return problems

    @property
    def described(self) -> str:
        """Topic, type, and how many publishers the subscription has found."""
        if self.internal:
            return f"{self.topic} from {self.internal} in this process"
        if self.subscription is None:
            return f"{self.topic}, waiting for a publisher"
        return f"{self.topic} ({self.msgtype}), publishers: {self.subscription.get_publisher_count()}"

    @property
    def connected(self) -> bool:
        """Whether nothing is waited for: subscribed, and somebody publishes."""
        return bool(self.internal) or (self.subscription is not None and bool(self._publishers))

    def _connect(self, fitting: Sequence[TopicEndpointInfo]) -> None:
        offered = {each.topic_type for each in fitting}
        if self.msgtype in offered:
            msgtype = self.msgtype
        elif fitting:
            msgtype = next(each for each in self.types if each in offered)
        elif len(self.types) == 1:
            msgtype = self.types[0]
        else:
            return
        if self.subscription is not None and msgtype != self.msgtype:
            # rclpy destroys it when nobody uses it any more, which may be after this callback, and one
            # participant cannot have a topic with two types: the next look subscribes.
            self.close()
            return
        profile = self._profile([each for each in fitting if each.topic_type == msgtype])
        if profile is None:
            return
        present = self.subscription.qos_profile if self.subscription else None
        same = present is not None and (
            self.kind != "held"
            or (present.reliability, present.durability) == (profile.reliability, profile.durability)
        )
        if msgtype != self.msgtype or not same:
            self._subscribe(msgtype, profile)

    def _profile(self, publishers: Sequence[TopicEndpointInfo]) -> QoSProfile | None:
        if self.kind == "tf_static":
            return ros_qos.tf_static()
        if self.kind == "held":
            return ros_qos.held(publishers) if publishers else None
        return ros_qos.incoming(self.value_type, self.lossless)

    def _subscribe(self, msgtype: str, profile: QoSProfile) -> None:
        self.close()
        events = SubscriptionEventCallbacks(
            matched=lambda info: self.changed(),
            incompatible_qos=lambda info: self.changed(),
            use_default_callbacks=False,
        )
        overriding = QoSOverridingOptions.with_default_policies() if self.kind == "stream" else None
        try:
            self.subscription = self.node.create_subscription(
                message_class(msgtype), self.asked, self._take, profile,  # type: ignore[arg-type]
                raw=True, event_callbacks=events, qos_overriding_options=overriding,
            )  # fmt: skip
        except (RuntimeError, ParameterException, InvalidQosOverridesError) as error:
            raise RosAttnError(f"{self.topic}: no subscription could be made: {error}") from error
        self.msgtype = msgtype

    def close(self) -> None:
        """Stop listening; counts stay."""
        if self.subscription is not None:
            self.node.destroy_subscription(self.subscription)
        self.subscription, self.msgtype, self._sequence = None, "", None
        self._since_s = time.monotonic()

    # -- sentences --------------------------------------------------------------------------------------

    def _nobody(self) -> str:
        fitting = sorted(
            topic
            for topic, types in self.node.get_topic_names_and_types()
            if set(types) & set(self.types) and self.node.count_publishers(topic) and not self._own(topic)
        )
        said = f"{self.topic}: nobody publishes it"
        if len(fitting) == 1:
            return f"{said}; {fitting[0]} is of the right type: -r {self.asked}:={fitting[0]}"
        if fitting:
            return f"{said}; of the right type are {listed(fitting)}."
        return f"{said}, nor anything of type {' or '.join(self.types)}."

    def _own(self, topic: str) -> bool:
        mine = self.node.get_fully_qualified_name()
        return all(ros_qos.node_name(each) == mine for each in self.node.get_publishers_info_by_topic(topic))

    def _wrong_type(self, publishers: Sequence[TopicEndpointInfo]) -> str:
        types = listed(sorted({each.topic_type for each in publishers}))
        return (
            f"{self.topic} is {types} (from {_names(publishers)}), but input {self.name!r} takes "
            f"{' or '.join(self.types)}; remap it to such a topic."
        )

    def _two_types(self, fitting: Sequence[TopicEndpointInfo]) -> dict[str, str]:
        types = sorted({each.topic_type for each in fitting})
        if len(types) < 2:
            return {}
        return {f"{self.name} type": f"{self.topic} is offered as {' and '.join(types)}; {self.msgtype} is taken."}

    def _apart(self, fitting: Sequence[TopicEndpointInfo]) -> dict[str, str]:
        if self.subscription is None:
            return {}
        found = []
        for each in fitting:
            policies = ros_qos.disagreement(each.qos_profile, self.subscription.qos_profile)
            if policies:
                found.append(
                    f"{self.topic}: nothing comes from {ros_qos.node_name(each)} ({policies}); set "
                    f"qos:=default or qos_overrides.{self.topic}.subscription.reliability:=best_effort."
                )
        return {f"{self.name} qos": " ".join(found)} if found else {}

    # -- messages ---------------------------------------------------------------------------------------

    def _take(self, raw: bytes, info: dict[str, Any]) -> None:
        arrival_ns = self.node.get_clock().now().nanoseconds
        self._count_gap(info["publication_sequence_number"])
        if arrival_ns == 0:
            # use_sim_time, and /clock has not spoken yet: keep the last messages as the middleware would.
            self._early.append(raw)
            if len(self._early) > self.subscription.qos_profile.depth:  # type: ignore[union-attr]
                self._early.popleft()
                self.counters.lost += 1
            return
        self._deliver(raw, arrival_ns)

    def release(self, now_ns: int) -> None:
        """The clock runs: messages from before arrive now."""
        while self._early:
            self._deliver(self._early.popleft(), now_ns)

    def _deliver(self, raw: bytes, arrival_ns: int) -> None:
        try:
            # A slice of a memoryview is no copy; rosbags slices the CDR header off.
            message = default_typestore(False).deserialize_cdr(memoryview(raw), self.msgtype)
            value = decode(message, self.msgtype, arrival_ns)
        except Exception as error:
            # Whatever the deserialiser stumbles over in bytes from outside: counted and said, never fatal.
            self.counters.undecodable += 1
            reason = str(error) if isinstance(error, MessageError) else f"no {self.msgtype} ({error})"
            self._undecodable = f"{self.topic}: {reason.rstrip('.')}."
            return
        self._undecodable = ""
        self.newest_ns = value.stamp_ns
        self.arrived(value, arrival_ns)

    def _count_gap(self, sequence: int | None) -> None:
        if sequence is None:
            self._numbered = False
            return
        if self._sequence is not None and sequence > self._sequence + 1:
            self._gap += sequence - self._sequence - 1
        self._sequence = sequence

    def _confirm_loss(self, publishers: frozenset[bytes]) -> None:
        """Gaps since the last look count where one and the same publisher was there all the time."""
        ever = publishers | self._publishers
        if len(ever) == 1:
            self.counters.lost += self._gap
        elif ever:
            self._sequence = None
        if publishers:
            self.loss_known = self._numbered and len(publishers) == 1
        self._gap, self._publishers = 0, publishers


def _names(publishers: Sequence[TopicEndpointInfo]) -> str:
    return listed(sorted({ros_qos.node_name(each) for each in publishers}))
