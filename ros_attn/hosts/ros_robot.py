"""The simulated robot as a node: ``imu``, ``joint_states``, depth and ``/clock`` out, ``joint_commands`` in.

The gate ticks 100 times a second on ``/clock`` and the policy 50 times a second on the stamps of ``imu``; ``/clock``
therefore moves on the gate's ticks of 10 ms alone, while physics and sensors go on every 5 ms.

*Start.* Time passes and the robot hangs at its start until the gate passes what the policy asks for: then each hears
the others. Gate and policy are reset through their ``~/reset``, and an episode begins at the next tenth of a second.
``~/reset`` of the robot begins another one in the same way. What the gate finds wrong meanwhile, a policy slow to start
or an emergency stop since released, is of no episode: while it damps it is reset now and then. With ``subscribers`` the
first episode also waits until so many others subscribe to each sensor topic and to ``~/truth``, and those of them that
are reliable have acknowledged what was published there: nothing of the episode escapes them.

*Lock step.* At each T, in this order: sensors of T are published; on ticks of the policy its command of T is waited
for; on ticks of the gate the gate says that it has taken all that was sent to it, ``/clock`` shows T and the gate's
command of T is waited for; then physics goes on. So a command computed from the sensors at T acts from T on, as in
training and in :mod:`ros_attn.hosts.sim`, and the same robot and policy give the same bytes. What makes it so:

- Gate and policy publish for every T they see, so silence is a fault. Who does not answer for 1 s is not waited for
  until it speaks again: time goes on at the pace of the wall clock at most, the gate and the robot's own watchdog act.
- The gate holds the newest message that arrived, and its tick could come before the newest sensors or before its copy
  of the policy's command, which the middleware may hold back for as long as it likes. So the gate is asked which
  stamps it has taken (``~/newest``), again and again, and ``/clock`` shows T only once those of T are among them. The
  policy is asked in the same way before what an image is used with follows.
- Only ``/clock`` is best effort where nodes listen: it is published again while an answer is waited for, which changes
  nothing where it did arrive. Start gate and policy with ``qos:=lossless`` for everything else.

*Real time.* Sensors of T are published when the wall clock shows T, and commands act from the step after they come.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol

import rclpy
from rclpy.clock import Clock as RclpyClock
from rclpy.clock_type import ClockType
from rclpy.context import Context
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from ros_attn.errors import RosAttnError
from ros_attn.grid import SECOND
from ros_attn.hosts import ros_qos
from ros_attn.hosts.pace import Pace
from ros_attn.hosts.ros_diagnostics import alike
from ros_attn.hosts.ros_outputs import Sink
from ros_attn.hosts.ros_peers import PATIENCE_S, Peer
from ros_attn.values import CameraInfo, Image, Imu, JointState, Odometry, Value

STEP_NS = SECOND // 200
GATE_NS = SECOND // 100
POLICY_NS = SECOND // 50
REPEAT_S = 0.05
"""How long ``/clock`` stands before it is published again [s]."""
REHEARSAL_PATIENCE_S = 0.1
REHEARSAL_PERIOD_S = 0.02
"""Between the readings of the resting robot, at least."""
REHEARSAL_RESET_S = 1.0
"""How long the gate may damp while the robot rests before it is reset."""
WAITING_SAID_S = 5.0
DELIVERY_S = 0.2
"""How long the last messages of a topic may take to arrive [s]; a reader that was killed never has them."""
ACKNOWLEDGED_S = 4.0
"""How long acknowledgements are waited for: readers may give them only when asked, which is every 3 s in Fast DDS."""
DAMPING_SAID_NS = SECOND
"""A cause of damping that was absent for longer is told anew."""
GAP_NS = SECOND // 10
"""Between the last message before an episode and the first one in it; older ones count as silence."""

Step = Literal["lock", "real"]


class State(Protocol):
    """What an observer outside the robot knows of it."""

    @property
    def truth(self) -> Odometry: ...


class Robot(Protocol):
    """A simulated robot: :class:`ros_attn.hosts.sim_robot.SimulatedRobot`."""

    now_ns: int
    damping: str

    @property
    def camera(self) -> object | None: ...
    def sense(self) -> dict[str, Value]: ...
    def command(self, command: JointState, /) -> None: ...
    def advance(self) -> None: ...
    def reset(self) -> None: ...
    def state(self) -> State: ...


class RobotHost:
    """Runs a robot as a node in an rclpy context of its own; see the module.

    ``stop`` ends :meth:`run` from another thread or a signal handler; ``subscribers`` as in the module. Raises
    :class:`RosAttnError` for arguments that rclpy does not take.
    """

    def __init__(
        self,
        robot: Robot,
        step: Step = "lock",
        ros_args: Sequence[str] = (),
        domain_id: int | None = None,
        stop: threading.Event | None = None,
        subscribers: int = 0,
    ) -> None:
        self.robot, self.step, self.subscribers = robot, step, subscribers
        self.episode_steps = self.steps = 0
        """Physics steps since the episode began, and since the start."""
        self.running_s = 0.0
        """Wall time that the steps took, without the waiting at the start."""
        self._stop = stop or threading.Event()
        self._following = self._asked_anew = False
        self._clock_ns = 0
        self._sent_ns: dict[str, int] = {}
        """Stamps of the last messages, by topic."""
        self._damped_ns: dict[str, int] = {}
        """When each cause last damped the joints."""
        self._connections_said: set[str] = set()
        self.context = Context()
        try:
            rclpy.init(
                args=list(ros_args), context=self.context, domain_id=domain_id,
                signal_handler_options=SignalHandlerOptions.NO,
            )  # fmt: skip
        except (RuntimeError, ValueError) as error:
            reason = re.sub(r", at /.*", "", " ".join(str(error).split()))
            raise RosAttnError(f"rclpy does not take {' '.join(ros_args)}: {reason}.") from error
        self._executor = SingleThreadedExecutor(context=self.context)
        self.node = node = Node("robot", context=self.context, start_parameter_services=False)
        self._executor.add_node(node)
        self.log = node.get_logger()
        lossless = step == "lock"
        # Reliable: small, and then whoever asks for lossless is served in real time too.
        reliable = ros_qos.outgoing("result", lossless)
        topics: dict[str, type[Value]] = {"joint_states": JointState, "imu": Imu, "~/truth": Odometry}
        self._sinks = {topic: Sink(node, topic, kind, reliable) for topic, kind in topics.items()}
        if robot.camera is not None:
            image = ros_qos.outgoing("sensor", lossless)
            self._sinks["depth/image"] = Sink(node, "depth/image", Image, image)
            self._sinks["depth/camera_info"] = Sink(node, "depth/camera_info", CameraInfo, ros_qos.latched())
        self._clock = node.create_publisher(Clock, "/clock", ros_qos.outgoing("result", False))
        self.gate = Peer(node, "joint_commands", lossless, self._command)
        self.policy = Peer(node, "policy/joint_commands", lossless, lambda command: None)
        node.create_service(Trigger, "~/reset", self._answer_reset)
        self._pace = Pace(self.log.warning)
        node.create_timer(1.0, self._examine, clock=RclpyClock(clock_type=ClockType.STEADY_TIME))
        self._examine()

    def close(self) -> None:
        """End the node and its context, once what was published has reached who listens."""
        self._stop.set()
        for publisher in (self._clock, *(sink.publisher for sink in self._sinks.values())):
            publisher.wait_for_all_acked(Duration(seconds=DELIVERY_S))
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    # -- running ----------------------------------------------------------------------------------------

    def run(self, seconds: float | None = None) -> None:
        """Wait for gate and policy, then go on for ``seconds`` of simulated time, or until somebody stops it."""
        self._rehearse()
        begun_s = time.monotonic()
        while not self._stop.is_set() and (seconds is None or self.steps * STEP_NS < seconds * SECOND):
            if self._asked_anew:
                if not self._settle():
                    self.log.warning("Gate or policy was not reset with the robot: no answer. Call its ~/reset.")
                self._begin(self.robot.now_ns)
            self._lock_step() if self.step == "lock" else self._real_step()
            self.steps += 1
            self.episode_steps += 1
        self.running_s = time.monotonic() - begun_s

    def _lock_step(self) -> None:
        """One instant, and the physics step after it."""
        now_ns = self.robot.now_ns
        self._sense()
        if now_ns % POLICY_NS == 0:
            self._await(self.policy, now_ns)
        if now_ns % GATE_NS == 0:
            if self._took(self.gate):
                self._show(now_ns)
                self._await(self.gate, now_ns, lambda: self._show(now_ns))
            else:
                self._show(now_ns)
                self._note_absence(self.gate, now_ns)
        self._advance()

    def _real_step(self) -> None:
        now_ns = self.robot.now_ns
        due_s = time.monotonic() + self._pace.ahead_s(now_ns)
        while True:
            left_s = due_s - time.monotonic()
            self._executor.spin_once(timeout_sec=max(0.0, min(left_s, REPEAT_S)))
            if left_s <= 0 or self._stop.is_set():
                break
        self._sense()
        if now_ns % GATE_NS == 0:
            self._show(now_ns)
        self._advance()

    def _advance(self) -> None:
        robot = self.robot
        robot.advance()
        if not robot.damping:
            return
        stepped_ns = robot.now_ns - STEP_NS
        before_ns = self._damped_ns.get(robot.damping)
        self._damped_ns[robot.damping] = stepped_ns
        if before_ns is None or stepped_ns - before_ns > DAMPING_SAID_NS:
            self.log.warning(f"Joints are damped from {stepped_ns / SECOND:.3f} s on: {robot.damping}.")

    # -- episodes ---------------------------------------------------------------------------------------

    def _rehearse(self) -> None:
        """Let time pass over the resting robot until gate, policy and subscribers hear what they must; then begin."""
        sensed = self.robot.sense()
        readings = {name: value for name, value in sensed.items() if name in ("joint_states", "imu")}
        # Latched, and sensed this one time only: a policy that sees needs it before it asks for anything.
        self._publish({name: value for name, value in sensed.items() if name == "depth/camera_info"})
        readings["~/truth"] = self.robot.state().truth
        said, said_s = "", time.monotonic()
        passed_s = said_s
        now_ns = 0
        while not self._stop.is_set():
            now_ns += POLICY_NS
            self._publish({name: replace(value, stamp_ns=now_ns) for name, value in readings.items()})
            self._show(now_ns)
            both = self._spin(
                lambda ns=now_ns: self.gate.answered(ns) and self.policy.answered(ns), REHEARSAL_PATIENCE_S
            )
            now_s = time.monotonic()
            if self.gate.passing:
                passed_s = now_s
            elif both and now_s - passed_s > REHEARSAL_RESET_S:
                self._answered(self.gate.reset(), REHEARSAL_PATIENCE_S)
                passed_s = now_s
            unheard = self._unheard() if both and self.gate.passing else ""
            if both and self.gate.passing and not unheard and self._settle():
                self._begin(now_ns + GAP_NS)
                return
            waiting = self._waited_for(unheard)
            if waiting != said and now_s - said_s > WAITING_SAID_S:
                said, said_s = waiting, now_s
                self.log.info(f"The robot waits at its start: {waiting}.")
            self._spin(lambda: False, REHEARSAL_PERIOD_S)

    def _unheard(self) -> str:
        """Which topic is not heard yet by as many others as it must, empty where there is none."""
        if not self.subscribers:
            return ""
        # The calibration is latched: who subscribes late gets it too.
        sinks = [sink for topic, sink in self._sinks.items() if topic != "depth/camera_info"]
        peers = self.gate.names | self.policy.names
        for sink in sinks:
            found = self.node.get_subscriptions_info_by_topic(sink.topic)
            fitting = [each for each in found if not ros_qos.disagreement(sink.profile, each.qos_profile)]
            others = [each for each in fitting if ros_qos.node_name(each) not in peers]
            if len(others) < self.subscribers or sink.publisher.get_subscription_count() < len(fitting):
                return f"{sink.topic} has {len(others)} of {self.subscribers} subscribers besides gate and policy"
        publishers = [sink.publisher for sink in sinks]
        if not self._spin(lambda: all(each.wait_for_all_acked(Duration()) for each in publishers), ACKNOWLEDGED_S):
            return f"not all subscribers acknowledge what came within {ACKNOWLEDGED_S:g} s"
        return ""

    def _waited_for(self, unheard: str) -> str:
        gate, policy = self.gate, self.policy
        if not gate.names:
            return f"nobody publishes {gate.topic}; start the safety gate with use_sim_time:=true"
        if gate.newest is None:
            return f"nothing came on {gate.topic} yet; is use_sim_time of the gate true?"
        if not policy.names:
            return f"nobody publishes {policy.topic}; start the policy with use_sim_time:=true"
        if policy.newest is None:
            return f"nothing came on {policy.topic} yet; the policy needs imu and joint_states"
        if not gate.passing:
            return f"{gate.topic} asks for damping; the gate's log says why"
        return unheard or "gate and policy do not answer in time; free the machine's cores"

    def _settle(self) -> bool:
        """Have gate and policy take what is under way, then forget it; whether they did."""
        # The policy first: what it may yet compute of old sensors must not latch a gate that has begun anew.
        for peer in (self.policy, self.gate):
            # In real time a message may be lost for good.
            if not self._took(peer) and self.step == "lock":
                return False
            if not self._answered(peer.reset(), peer.patience_s):
                return False
        return True

    def _begin(self, now_ns: int) -> None:
        """A new episode at the next tenth of a second from ``now_ns`` on."""
        self._asked_anew = False
        self.robot.now_ns = now_ns
        self.robot.reset()
        self._damped_ns.clear()
        self._following = True
        self.episode_steps = 0
        self._pace.start(self.robot.now_ns)
        self.log.info(f"An episode begins at {self.robot.now_ns / SECOND:.1f} s.")

    def _answer_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._asked_anew = self._following
        response.message = "A new episode begins." if self._following else "No episode has begun yet: nothing to reset."
        return response

    # -- what goes out ----------------------------------------------------------------------------------

    def _sense(self) -> None:
        """Publish what the sensors give now; the policy has taken an image before what it is used with follows."""
        robot, found = self.robot, self.robot.sense()
        pictures = {name: value for name, value in found.items() if name.startswith("depth/")}
        if pictures:
            self._publish(pictures)
            if self.step == "lock":
                self._took(self.policy)
        self._publish({name: value for name, value in found.items() if name not in pictures})
        if robot.now_ns % GATE_NS == 0 and self._sinks["~/truth"].listened:
            self._publish({"~/truth": robot.state().truth})

    def _publish(self, values: Mapping[str, Value]) -> None:
        for name, value in values.items():
            self._sinks[name].publish(value)
            self._sent_ns[self._sinks[name].topic] = value.stamp_ns

    def _show(self, now_ns: int) -> None:
        """``/clock``."""
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(now_ns, SECOND)
        self._clock.publish(message)

    # -- what comes in ----------------------------------------------------------------------------------

    def _command(self, command: JointState) -> None:
        if self._following:
            self.robot.command(command)

    def _await(self, peer: Peer, now_ns: int, again: Callable[[], None] = lambda: None) -> bool:
        """Whether its command of ``now_ns`` came."""
        patience_s = peer.patience_s
        came = self._spin(lambda: peer.answered(now_ns), patience_s, again)
        if not came and patience_s == PATIENCE_S:
            self._note_absence(peer, now_ns)
        return came

    def _note_absence(self, peer: Peer, now_ns: int) -> None:
        if peer.absent or self._stop.is_set():
            return
        peer.absent = True
        at = f"at {now_ns / SECOND:.3f} s"
        self.log.warning(f"No command {at} on {peer.topic} within {PATIENCE_S:g} s: it is not waited for any more.")

    def _took(self, peer: Peer) -> bool:
        """Whether ``peer`` has taken, within its patience, the newest of what it hears of robot and policy."""
        sent_ns = dict(self._sent_ns)
        if self.policy.newest is not None and not self.policy.absent:
            sent_ns[self.policy.topic] = self.policy.newest.stamp_ns
        deadline_s = time.monotonic() + peer.patience_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            answers = peer.newest_taken()
            if not self._answered(answers, left_s):
                return False
            if all(peer.has_taken(each.result(), sent_ns) for each in answers):
                return True
        return False

    def _answered(self, requests: list[Future], patience_s: float) -> bool:
        """Whether there was somebody to ask and all have answered."""
        return bool(requests) and self._spin(lambda: all(each.done() for each in requests), patience_s)

    def _spin(self, happened: Callable[[], bool], patience_s: float, again: Callable[[], None] = lambda: None) -> bool:
        """Take what comes until something has happened; ``again`` is called now and then meanwhile."""
        deadline_s = time.monotonic() + patience_s
        again_s = time.monotonic() + REPEAT_S
        while not happened():
            now_s = time.monotonic()
            if now_s > deadline_s or self._stop.is_set():
                return False
            if now_s > again_s:
                again()
                again_s = now_s + REPEAT_S
            self._executor.spin_once(timeout_sec=max(0.0, min(deadline_s - now_s, REPEAT_S)))
        return True

    def _examine(self) -> None:
        """Connect to who is there, and say once what is wrong with a connection."""
        found: dict[str, str] = {}
        for each in (self.gate, self.policy, *self._sinks.values()):
            found |= each.examine()
        for key, sentence in found.items():
            kind = f"{key}: {alike(sentence)}"
            if kind not in self._connections_said:
                self._connections_said.add(kind)
                self.log.warning(sentence)


def run_robot(
    robot: Robot, step: Step, seconds: float | None, ros_args: Sequence[str] = (), subscribers: int = 0,
    say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Run a robot as a node until ``seconds`` of simulated time are over, or SIGINT or SIGTERM comes; returns 0."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    host = RobotHost(robot, step, ros_args, stop=stop, subscribers=subscribers)
    try:
        host.run(seconds)
    finally:
        host.close()
    simulated_s = host.steps * STEP_NS / SECOND
    if not host.steps:
        say("Ended before an episode began.")
        return 0
    factor = simulated_s / max(host.running_s, 1e-9)
    height_m = robot.state().truth.position[2]
    say(
        f"Simulated {simulated_s:.2f} s in {host.running_s:.2f} s ({factor:.1f} times real time, "
        f"{host.steps / max(host.running_s, 1e-9):.0f} steps/s); the base ended {height_m:.2f} m high."
    )
    return 0
