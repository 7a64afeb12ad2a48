"""One output of a node: a publisher that serialises values itself, and sentences about subscribers it cannot reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from ros_attn.bag.reader import default_typestore
from ros_attn.codecs import RosbagsMessages, encode, types_of
from ros_attn.errors import RosAttnError
from ros_attn.hosts import ros_qos
from ros_attn.hosts.ros_inputs import message_class
from ros_attn.values import Value


@dataclass
class Sink:
    """Publishes values of one type on one topic, as the first ROS type of the value's class.

    ``asked`` is the topic before, ``topic`` after the remapping of ``--ros-args``. With ``overridable`` the
    parameters ``qos_overrides.<topic>.publisher.*`` apply.
    """

    node: Node
    asked: str
    value_type: type[Value]
    profile: QoSProfile
    overridable: bool = False
    changed: Callable[[], None] = lambda: None

    topic: str = field(init=False)
    publisher: Publisher = field(init=False)
    _msgtype: str = field(init=False)

    def __post_init__(self) -> None:
        self.topic = self.node.resolve_topic_name(self.asked)
        self._msgtype = types_of(self.value_type)[0]
        cls = message_class(self._msgtype)
        if cls is None:
            raise RosAttnError(f"{self.topic} is {self._msgtype}, which this ROS does not have; install that package.")
        events = PublisherEventCallbacks(incompatible_qos=lambda info: self.changed(), use_default_callbacks=False)
        try:
            self.publisher = self.node.create_publisher(
                cls, self.asked, self.profile, event_callbacks=events,
                qos_overriding_options=QoSOverridingOptions.with_default_policies() if self.overridable else None,
            )  # fmt: skip
        except (RuntimeError, ParameterException, InvalidQosOverridesError) as error:
            raise RosAttnError(f"{self.topic}: no publisher could be made: {error}") from error

    @property
    def listened(self) -> bool:
        """Whether anybody subscribes."""
        return self.publisher.get_subscription_count() > 0

    @property
    def described(self) -> str:
        """Topic, type, and how many subscriptions there are."""
        return f"{self.topic} ({self._msgtype}), subscribers: {self.publisher.get_subscription_count()}"

    def publish(self, value: Value) -> None:
        """Serialise and publish; from any thread."""
        store = default_typestore(False)
        message = encode(value, RosbagsMessages(store), self._msgtype)
        self.publisher.publish(bytes(store.serialize_cdr(message, self._msgtype)))

    def examine(self) -> dict[str, str]:
        """Subscribers that ask for more than is offered, by key."""
        found = []
        for each in self.node.get_subscriptions_info_by_topic(self.asked):
            policies = ros_qos.disagreement(self.publisher.qos_profile, each.qos_profile)
            if policies:
                found.append(f"{self.topic}: nothing reaches {ros_qos.node_name(each)} ({policies}).")
        return {f"{self.topic} qos": " ".join(found)} if found else {}

    def close(self) -> None:
        self.node.destroy_publisher(self.publisher)
