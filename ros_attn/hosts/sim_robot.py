"""A simulated legged robot as the robot side of the wire: sensors out, joint commands in, and a clock of its own.

One robot in one simulation of :class:`ros_attn.sim.legged_world.LeggedWorld`, so that physics and motors are those of
training. Every 5 ms a host calls, in this order, :meth:`SimulatedRobot.sense` (what arrives now),
:meth:`SimulatedRobot.command` (what it was told, if anything) and :meth:`SimulatedRobot.advance` (one physics step).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from ros_attn.control.safety_gate.command_watch import CommandWatch
from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.geometry import quaternion_multiply, wxyz_to_xyzw
from ros_attn.grid import SECOND, to_ns
from ros_attn.sim import rotation
from ros_attn.sim.depth_camera import DepthCamera, DepthStream
from ros_attn.sim.depth_noise import DepthNoise
from ros_attn.sim.imu import Imu as InertialUnit
from ros_attn.sim.legged_world import PHYSICS_HZ, LeggedWorld
from ros_attn.sim.locomotion_task import PUSH_EVERY_S, SensorNoise
from ros_attn.sim.randomisation import NOTHING, Randomisation
from ros_attn.sim.robot import Robot
from ros_attn.sim.terrain import Terrain, flat
from ros_attn.values import Array, CameraInfo, Image, Imu, JointState, Odometry, Value

PERIOD_NS = SECOND // PHYSICS_HZ
START_GRID_NS = SECOND // 10
"""Episodes begin on this grid, on which the ticks of all rates from 10 Hz up fall together."""
IMU_FRAME, BASE_FRAME, OPTICAL_FRAME, WORLD_FRAME = "imu_link", "base_link", "camera_depth_optical_frame", "odom"
DEPTH_HZ = 10
CAMERA_TOPICS = {"depth/image": Image, "depth/camera_info": CameraInfo}
_ONLY = np.zeros(1, np.intp)


@dataclass(frozen=True, eq=False)
class RobotState:
    """What an evaluation looks at and the robot itself does not know.

    ``truth``: pose in the world, velocities in the base. Contact forces [N] of the feet and of the other geoms, in the
    orders of ``Robot.feet`` and ``LeggedWorld.body_geoms``, are those of the last :meth:`SimulatedRobot.sense`.
    ``damping``: why the last physics step damped the joints, empty where it followed a command.
    """

    truth: Odometry
    foot_force: Array
    body_force: Array
    damping: str


class SimulatedRobot:
    """See the module.

    ``terrain`` (None: level ground) has its start under the robot; ``randomisation`` is a table as
    :mod:`ros_attn.sim.randomisation` reads it, drawn anew at each reset, its pushes and encoder offsets included.
    ``noise``: errors of the IMU as in :mod:`ros_attn.sim.imu` and of the encoders as in training. With a ``camera``
    there are depth images at 10 Hz that arrive late by a time from ``depth_latency_s`` [s], and with the errors of
    :class:`ros_attn.sim.depth_noise.DepthNoise` times ``depth_noise`` (0 to 2). The same seed and commands give the
    same bytes; noise and camera do not change which robot is drawn.

    A command is a PD target with the gains of the robot: ``tau = kp (q* - q) + kd (qd* - qd) + tau_ff``, velocity and
    effort zero where empty. Position empty and velocity zero damps, ``tau = -kd qd``. So do a command older than 60 ms
    at a physics step (:class:`.CommandWatch`) and one that is refused: other names or another order, lengths that
    differ, numbers that are not finite, velocities without positions. ``refused`` counts these by reason. Damping
    begins and ends at once; a drawn command delay holds for targets, and while damped the measured pose is the target,
    so that a delayed motor does not jump afterwards.

    Raises ValueError for a table, terrain or camera that cannot be.
    """

    def __init__(
        self,
        robot: Robot,
        terrain: Terrain | None = None,
        seed: int = 0,
        randomisation: str = NOTHING,
        noise: bool = False,
        camera: DepthCamera | None = None,
        depth_latency_s: tuple[float, float] = (0.02, 0.08),
        depth_noise: float = 0.0,
    ) -> None:
        self.robot, self.terrain = robot, terrain or flat()
        self.contract = JointContract.of(robot.contract(), f"robot {robot.name}")
        self.world = LeggedWorld(robot, 1, boxes=len(self.terrain.boxes), threads=1, accelerometer=True)
        self.randomisation = Randomisation(self.world, randomisation)
        self.now_ns = 0
        """The robot's clock [ns]: of the next physics step, and of what is sensed before it."""
        self.refused: Counter[str] = Counter()
        self._drawn, self._sensed = np.random.default_rng(seed).spawn(2)
        self._imu = InertialUnit(1, scale=float(noise))
        errors = SensorNoise() if noise else SensorNoise(0, 0, 0, 0, 0, 0)
        self._encoder_noise = errors.joint_position, errors.joint_velocity
        self.camera = _Camera(camera, self.world, depth_latency_s, depth_noise, self._sensed) if camera else None
        self._gains = self.world.batch.expand("actuator_biasprm")
        self.world.set_terrain(_ONLY, self.terrain.boxes[None], np.array([self.terrain.floor_z]))
        self.reset()

    # -- episodes ---------------------------------------------------------------------------------------

    def reset(self, qpos: Array | None = None, qvel: Array | None = None) -> None:
        """Begin anew, no command known: at ``qpos`` [7 + J] (wxyz) and ``qvel`` [6 + J], or at rest above the start.

        The clock goes on to the next tenth of a second.
        """
        world, joints = self.world, len(self.robot.joints)
        self._gains[:] = world.model.actuator_biasprm
        self.randomisation.draw(_ONLY, self._drawn)
        self._stiffness = self._gains[0, :, 1].copy()
        world.derive(_ONLY)
        pose = self.robot.default_pose + self.randomisation.value("start pose", self._drawn, (joints,))
        self._encoder_offset = self.randomisation.value("encoder offset", self._drawn, (joints,))
        if qpos is None:
            qpos = np.concatenate([(0.0, 0.0, self.robot.stand_height + 0.01, 1.0, 0.0, 0.0, 0.0), pose])
        qvel = np.zeros(6 + joints) if qvel is None else qvel
        world.reset(_ONLY, qpos[None], qvel[None], qpos[None, 7:])
        self._imu.reset(_ONLY, self._sensed)
        if self.camera is not None:
            self.camera.stream.reset(_ONLY)
        self.now_ns = -(-self.now_ns // START_GRID_NS) * START_GRID_NS
        self._started_ns = self.now_ns
        self._watch = CommandWatch(self.contract)
        self._asked = self.damping = "no command has come"

    # -- the wire ---------------------------------------------------------------------------------------

    def sense(self) -> dict[str, Value]:
        """What arrives now, by topic, in the order to be pushed; once before each physics step.

        ``imu``: angular velocity, specific force at the IMU (of the forces that acted until now) and orientation, all
        in the axes of the base. ``joint_states``: position, velocity and the motors' torque as effort, in the order of
        ``robot.joints``. With a camera ``depth/camera_info`` once, and ``depth/image`` (32FC1, m along the optical
        axis, 0 where nothing was measured) when one arrives, stamped when it was taken.
        """
        self.world.measure()
        found: dict[str, Value] = {}
        if self.camera is not None:
            found |= self.camera.sense(self.now_ns)
        return found | {"joint_states": self._joint_states(), "imu": self._inertial()}

    def _joint_states(self) -> JointState:
        world, rng = self.world, self._sensed
        of_position, of_velocity = self._encoder_noise
        joints = len(self.robot.joints)
        return JointState(
            self.now_ns, self.contract.joints,
            world.joint_position[0] + self._encoder_offset + of_position * rng.standard_normal(joints),
            world.joint_velocity[0] + of_velocity * rng.standard_normal(joints),
            world.torque[0].copy(), BASE_FRAME,
        )  # fmt: skip

    def _inertial(self) -> Imu:
        world, unit, rng = self.world, self._imu, self._sensed
        # The base is rigid and its free joint turns about the base's own axes: a gyroscope measures qvel[3:6].
        samples = unit.measure(world.qvel[:, 3:6], world.specific_force, 1 / PHYSICS_HZ, rng)
        turn = unit.tilt_bias[0] + unit.scale * unit.errors.tilt_rad * rng.standard_normal(3)
        small = np.array([*turn / 2, np.sqrt(1 - turn @ turn / 4)])
        orientation = quaternion_multiply(wxyz_to_xyzw(world.base_quaternion[0]), small)
        return Imu(self.now_ns, samples.angular_velocity[0], samples.specific_force[0], orientation, frame_id=IMU_FRAME)

    def command(self, command: JointState) -> None:
        """A joint command arrives now; see the class."""
        self._asked = "" if command.position.size else "the command asks for it"
        if reason := self._fault(command):
            self.refused[reason] += 1
            self._asked = f"a command was refused: {reason}"
            command = self.contract.damping(self.now_ns)
        self._watch.accept(command, self.now_ns)

    def _fault(self, command: JointState) -> str:
        """Why a command cannot be followed, empty where it can."""
        if command.names != self.contract.joints:
            return "joints other than the robot's, or in another order"
        given = [command.position, command.velocity, command.effort]
        if not command.position.size and not command.velocity.size:
            return "neither positions nor velocities"
        if any(numbers.size and numbers.shape != (len(command.names),) for numbers in given):
            return "not one number for each joint"
        if not all(np.isfinite(numbers).all() for numbers in given):
            return "a number that is not finite"
        if not command.position.size and command.velocity.any():
            return "velocities without positions"
        return ""

    def advance(self) -> None:
        """One physics step of 5 ms under the last command, where it is fresh; the clock moves on."""
        world, active = self.world, self._watch.active(self.now_ns)
        none = np.zeros(len(self.contract.joints))
        if active.position.size:
            self.damping = ""
            self._gains[0, :, 1] = self._stiffness
            velocity = active.velocity if active.velocity.size else none
            effort = active.effort if active.effort.size else none
            world.drive(active.position, velocity, effort)
        else:
            self.damping = self._asked or f"the last command is older than {1e3 * self._watch.timeout_s:g} ms"
            self._gains[0, :, 1] = 0.0
            world.drive(world.joint_position, none, none)
        self.now_ns += PERIOD_NS
        if (self.now_ns - self._started_ns) % to_ns(PUSH_EVERY_S) == 0:
            self._push()

    def _push(self) -> None:
        """A shove from a random side, as in training; none where the table names none."""
        angle = self._drawn.uniform(0, 2 * np.pi)
        speed = float(self.randomisation.value("push", self._drawn, ()))
        self.world.qvel[0, :2] += speed * np.array([np.cos(angle), np.sin(angle)])

    # -- for evaluation ---------------------------------------------------------------------------------

    def state(self) -> RobotState:
        """The true state now."""
        world = self.world
        quaternion = world.base_quaternion[0]
        truth = Odometry(
            self.now_ns, world.base_position[0].copy(), wxyz_to_xyzw(quaternion),
            rotation.into_body(quaternion, world.qvel[0, :3]), world.qvel[0, 3:6].copy(),
            frame_id=WORLD_FRAME, child_frame_id=BASE_FRAME,
        )  # fmt: skip
        return RobotState(truth, world.foot_force[0], world.body_force[0], self.damping)


class _Camera:
    """The robot's depth camera: images on the grid of ``DEPTH_HZ``, late."""

    def __init__(
        self, camera: DepthCamera, world: LeggedWorld, latency_s: tuple[float, float], noise: float,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        self.camera, self.world, self.noise, self.rng = camera, world, DepthNoise(camera, scale=noise), rng
        shape = camera.height, camera.width
        self.stream = DepthStream(1, shape, rng, latency_s, control_hz=PHYSICS_HZ, image_hz=DEPTH_HZ)
        self._described = False

    def sense(self, now_ns: int) -> dict[str, Value]:
        """The calibration once, and an image where one arrives."""
        found: dict[str, Value] = {}
        if not self._described:
            self._described = True
            found["depth/camera_info"] = self.info(now_ns)
        frames = self.stream.step(now_ns / SECOND, lambda ids: self._taken())
        if frames.new[0]:
            stamp_ns = now_ns - to_ns(float(frames.age_s[0]))
            found["depth/image"] = Image(stamp_ns, frames.depth[0].copy(), "32FC1", OPTICAL_FRAME)
        return found

    def _taken(self) -> Array:
        exact = self.camera.render(self.world.batch, None, self.world.base_position, self.world.base_quaternion)
        return self.noise.apply(exact, self.rng)[0]

    def info(self, now_ns: int) -> CameraInfo:
        """The pinhole; (0, 0) is the centre of the first pixel."""
        camera, (fx, fy) = self.camera, self.camera.focal_px
        k = np.array([[fx, 0, camera.width / 2 - 0.5], [0, fy, camera.height / 2 - 0.5], [0, 0, 1]])
        projection = np.hstack([k, np.zeros((3, 1))])
        return CameraInfo(
            now_ns, camera.width, camera.height, k, np.zeros(5), np.eye(3), projection, frame_id=OPTICAL_FRAME
        )
