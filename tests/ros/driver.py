"""The other side of a node under test: publishes, listens and calls services in a context of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import DescribeParameters, GetParameters, SetParameters
from rclpy.context import Context
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter, parameter_value_to_python
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import String
from std_srvs.srv import Trigger

from ros_attn.codecs import RosMessages, decode, encode, types_of
from ros_attn.hosts.ros_inputs import message_class
from ros_attn.values import Value

DEADLINE_S = 30.0

RELIABLE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)

SERVICES = (
    (ChangeState, "change_state"),
    (GetState, "get_state"),
    (SetParameters, "set_parameters"),
    (GetParameters, "get_parameters"),
    (DescribeParameters, "describe_parameters"),
    (Trigger, "reset"),
    (Trigger, "save"),
    (Trigger, "newest"),
)


class Driver:
    """A plain node that spins in a thread; every wait is on an event, with a deadline."""

    def __init__(self, domain_id: int, name: str = "driver") -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
        self.node = Node(name, context=self.context)
        self.changed = threading.Condition()
        self._messages = RosMessages()
        self._clients: dict[str, Any] = {}
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stop.is_set():
            self._executor.spin_once(timeout_sec=0.5)

    def close(self) -> None:
        self._stop.set()
        # wake() alone does not end a spin_once.
        self._executor.create_task(self.notify)
        self._thread.join(DEADLINE_S)
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def notify(self, *_: Any) -> None:
        with self.changed:
            self.changed.notify_all()

    def wait(self, happened: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """What ``happened`` gives once it gives something true; looked at after every event here."""
        with self.changed:
            assert self.changed.wait_for(happened, deadline_s), f"in {deadline_s:g} s: not {what}"
            return happened()

    def publisher(self, topic: str, value_type: type[Value], qos: QoSProfile, msgtype: str = "") -> Speaker:
        return Speaker(self, topic, msgtype or types_of(value_type)[0], qos)

    def listener(self, topic: str, value_type: type[Value], qos: QoSProfile) -> Listener:
        return Listener(self, topic, types_of(value_type)[0], qos)

    def meet(self, node: str) -> None:
        """Wait until a node reports, with clients of its services made before that.

        A response is lost where the server has not found the client's reader yet. Readers are announced in
        the order in which they are made, so who has found the one of diagnostics has found the clients'.
        """
        for service_type, name in SERVICES:
            self._clients[f"{node}/{name}"] = self.node.create_client(service_type, f"{node}/{name}")
        if not hasattr(self, "diagnosed"):
            self.diagnosed = Diagnosed(self)
        self.diagnosed.wait(node, lambda status, values: True, f"a report of {node}")

    def call(self, name: str, request: Any) -> Any:
        client = self._clients[name]
        assert client.wait_for_service(DEADLINE_S), f"no service {name}"
        future = client.call_async(request)
        future.add_done_callback(self.notify)
        self.wait(future.done, f"an answer of {name}")
        return future.result()

    # -- what tests ask of every node -------------------------------------------------------------------

    def state(self, node: str) -> str:
        return self.call(f"{node}/get_state", GetState.Request()).current_state.label

    def change(self, node: str, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self.call(f"{node}/change_state", request).success

    def set(self, node: str, **values: Any) -> list[tuple[bool, str]]:
        """``ros2 param set``; dots of names are written as ``__``."""
        wanted: list[ParameterMessage] = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg() for name, value in values.items()
        ]
        found = self.call(f"{node}/set_parameters", SetParameters.Request(parameters=wanted))
        return [(each.successful, each.reason) for each in found.results]

    def get(self, node: str, *names: str) -> list[Any]:
        request = GetParameters.Request(names=list(names))
        return [parameter_value_to_python(each) for each in self.call(f"{node}/get_parameters", request).values]

    def trigger(self, service: str) -> tuple[bool, str]:
        answer = self.call(service, Trigger.Request())
        return answer.success, answer.message

    def describe(self, node: str, *names: str) -> Any:
        request = DescribeParameters.Request(names=list(names))
        return self.call(f"{node}/describe_parameters", request).descriptors

    def ready(self, node: str) -> str:
        """The latched line of a node, once it is there."""
        lines: list[str] = []

        def take(message: String) -> None:
            lines.append(message.data)
            self.notify()

        subscription = self.node.create_subscription(String, f"{node}/ready", take, LATCHED)
        self.wait(lambda: lines, f"{node} ready")
        self.node.destroy_subscription(subscription)
        return lines[-1]


class Speaker:
    """Publishes values as rclpy's message objects."""

    def __init__(self, driver: Driver, topic: str, msgtype: str, qos: QoSProfile) -> None:
        self._driver, self._msgtype = driver, msgtype
        self.sent = 0
        self._publisher = driver.node.create_publisher(
            message_class(msgtype), topic, qos,
            event_callbacks=PublisherEventCallbacks(matched=driver.notify, use_default_callbacks=False),
        )  # fmt: skip

    def wait_for_subscriber(self, count: int = 1) -> Speaker:
        name = self._publisher.topic_name
        self._driver.wait(lambda: self._publisher.get_subscription_count() >= count, f"a subscriber of {name}")
        return self

    def send(self, value: Value) -> None:
        self.publish(encode(value, self._driver._messages, self._msgtype))

    def publish(self, message: Any) -> None:
        self._publisher.publish(message)
        self.sent += 1

    def close(self) -> None:
        self._driver.node.destroy_publisher(self._publisher)


class Listener:
    """Collects values decoded from rclpy's message objects."""

    def __init__(self, driver: Driver, topic: str, msgtype: str, qos: QoSProfile) -> None:
        self._driver, self._msgtype, self.topic = driver, msgtype, topic
        self.values: list[Any] = []
        self.subscription = driver.node.create_subscription(
            message_class(msgtype), topic, self._take, qos,
            event_callbacks=SubscriptionEventCallbacks(matched=driver.notify, use_default_callbacks=False),
        )  # fmt: skip

    def _take(self, message: Any) -> None:
        self.values.append(decode(message, self._msgtype, self._driver.node.get_clock().now().nanoseconds))
        self._driver.notify()

    def wait_for_publisher(self) -> Listener:
        self._driver.wait(lambda: self.subscription.get_publisher_count() > 0, f"a publisher of {self.topic}")
        return self

    def wait(self, count: int = 1) -> list[Any]:
        self._driver.wait(lambda: len(self.values) >= count, f"{count} messages on {self.topic}")
        return self.values

    def with_stamp(self, stamp_ns: int, deadline_s: float = DEADLINE_S) -> Any:
        def found() -> Any:
            return next((value for value in reversed(self.values) if value.stamp_ns == stamp_ns), None)

        return self._driver.wait(found, f"a message of {stamp_ns} on {self.topic}", deadline_s)


class Diagnosed:
    """The newest diagnostics of each node."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.newest: dict[str, Any] = {}
        driver.node.create_subscription(DiagnosticArray, "/diagnostics", self._take, 10)

    def _take(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self.newest[status.name] = status
        self._driver.notify()

    def wait(self, node: str, fits: Callable[[Any, dict[str, str]], bool], what: str) -> tuple[Any, dict[str, str]]:
        """The first status (and its values) of a node that fits."""

        def found() -> Any:
            status = self.newest.get(node)
            values = {each.key: each.value for each in status.values} if status else {}
            return (status, values) if status and fits(status, values) else None

        try:
            return self._driver.wait(found, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last was {self.newest.get(node)}") from None

    def connected(self, node: str, publishers: Iterable[str] = (), subscribers: Iterable[str] = ()) -> None:
        """Wait until the node, too, has found one publisher for these inputs and one subscriber for these outputs.

        Either side of a DDS match learns of it in its own time, and best effort loses what comes in between.
        """

        def found(_: Any, values: dict[str, str]) -> bool:
            return all(values.get(f"topic {name}", "").endswith("publishers: 1") for name in publishers) and all(
                values.get(f"topic {name}", "").endswith("subscribers: 1") for name in subscribers
            )

        self.wait(node, found, f"connections of {node} to {[*publishers, *subscribers]}")

    def message(self, node: str, *parts: str) -> str:
        """The first message of a node that has all these parts."""
        return self.wait(node, lambda status, _: all(part in status.message for part in parts), str(parts))[0].message
