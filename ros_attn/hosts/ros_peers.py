"""The gate and the policy as the simulated robot sees them: their commands, and what they have taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from ros_attn.diagnostics import InputCounters
from ros_attn.grid import SECOND
from ros_attn.hosts import ros_qos
from ros_attn.hosts.ros_inputs import Source
from ros_attn.values import JointState, Value

PATIENCE_S = 1.0
"""How long a command is waited for [s]."""
ABSENT_PATIENCE_S = 0.01
"""How long while the last one did not come: time then goes on no faster than the wall clock."""


class Peer:
    """Who publishes one topic of joint commands.

    ``newest`` is the last command that came, and ``arrived`` is called with each. ``absent``: it was waited for in
    vain, and nothing has come since.
    """

    def __init__(self, node: Node, topic: str, lossless: bool, arrived: Callable[[JointState], None]) -> None:
        self._node, self._arrived = node, arrived
        self.newest: JointState | None = None
        self.absent = False
        self.names: frozenset[str] = frozenset()
        """Full names of the nodes that publish the topic, as far as they are known."""
        self._clients: dict[tuple[str, str], Any] = {}
        self._source = Source(
            node, topic, topic, JointState, "stream", lossless, InputCounters(), self._take, self._changed
        )
        self.topic = self._source.topic

    def examine(self) -> dict[str, str]:
        """Look at who publishes; what is wrong between them and the robot, by key."""
        publishers = self._node.get_publishers_info_by_topic(self.topic)
        names = (ros_qos.node_name(each) for each in publishers)
        self.names = frozenset(name for name in names if name.startswith("/"))
        found = self._source.examine()
        return found if publishers else {}

    def _changed(self) -> None:
        self.examine()

    def _take(self, value: Value, arrival_ns: int) -> None:
        assert isinstance(value, JointState)
        self.newest = value
        if self.absent:
            self.absent = False
            self._node.get_logger().info(f"{self.topic} is back with its command of {value.stamp_ns / SECOND:.3f} s.")
        self._arrived(value)

    @property
    def patience_s(self) -> float:
        """How long an answer is waited for [s]."""
        return ABSENT_PATIENCE_S if self.absent else PATIENCE_S

    def answered(self, now_ns: int) -> bool:
        """Whether its command of ``now_ns`` has come."""
        return self.newest is not None and self.newest.stamp_ns == now_ns

    @property
    def passing(self) -> bool:
        """Whether its newest command moves the joints to a place, and does not damp them."""
        return self.newest is not None and self.newest.position.size > 0

    # -- services ---------------------------------------------------------------------------------------

    def newest_taken(self) -> list[Future]:
        """Ask for the newest stamps of what it hears, for :meth:`has_taken`."""
        return self._ask("newest")

    @staticmethod
    def has_taken(answer: Trigger.Response | None, stamps: Mapping[str, int]) -> bool:
        """Whether messages of these ``stamps`` [ns] by topic, or later ones, were taken of the topics that it hears."""
        if answer is None or not answer.success:
            return False
        taken = dict(line.rsplit(" ", 1) for line in answer.message.splitlines())
        return all(int(taken[topic]) >= ns for topic, ns in stamps.items() if topic in taken)

    def reset(self) -> list[Future]:
        """Call ``~/reset``."""
        return self._ask("reset")

    def _ask(self, service: str) -> list[Future]:
        """A request to each node that publishes here; none where a service is not found (yet)."""
        clients = [self._client(name, service) for name in sorted(self.names)]
        if not all(client.service_is_ready() for client in clients):
            return []
        return [client.call_async(Trigger.Request()) for client in clients]

    def _client(self, name: str, service: str) -> Any:
        key = name, service
        if key not in self._clients:
            self._clients[key] = self._node.create_client(Trigger, f"{name}/{service}")
        return self._clients[key]
