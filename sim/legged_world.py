"""Many simulations of one legged robot, each over boxes of its own, stepped together by MuJoCo's batch.

A simulation is the robot, a horizontal floor and ``boxes`` axis-aligned boxes, whose places and sizes are values of
that simulation alone (``Batch.expand``), as are friction, masses, gains and delays. Physics runs at ``PHYSICS_HZ`` with
the motors' PD in the engine, ``tau = kp (u - q) + kd (du - qd) + u_ff`` within the torque limits; control at
``CONTROL_HZ``. Derived quantities (feet, contacts, torques) are those of the last physics step but one, 5 ms old, as
MuJoCo's step leaves them, until :meth:`LeggedWorld.measure`; ``qpos`` and ``qvel`` are current.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ros_attn.sim.robot import BODY_GROUP, TERRAIN_GROUP, Robot

PHYSICS_HZ, CONTROL_HZ = 200, 50
SUBSTEPS = PHYSICS_HZ // CONTROL_HZ
LONGEST_DELAY_S = 0.04
"""Of a command on its way to the motors."""
_PARKED_Z = -50.0
_HALF = 0.01
FLOOR = "floor"
ACCELEROMETER = "base_accelerometer"

Array = NDArray[np.float64]


def box_name(index: int) -> str:
    """The geom of a terrain box."""
    return f"box_{index}"


def build(robot: Robot, boxes: int, accelerometer: bool = False) -> mujoco.MjSpec:
    """The world of one simulation: robot with motors and contact sensors, floor and parked boxes.

    ``accelerometer``: one at ``robot.imu``, along the base's axes whatever sites the robot has itself. It makes every
    physics step dearer.
    """
    spec = robot.specification()
    spec.option.timestep = 1 / PHYSICS_HZ
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations, spec.option.ls_iterations = 8, 10
    # One robot is one island: to look for others costs and finds nothing.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    # A state that is not finite stays, to be seen and kept by whoever watches, instead of being reset in silence.
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    ground = {"contype": 1, "conaffinity": 0, "group": TERRAIN_GROUP, "condim": 3, "friction": [0.8, 0.02, 0.01]}
    world = spec.worldbody
    world.add_geom(name=FLOOR, type=mujoco.mjtGeom.mjGEOM_PLANE, size=[0, 0, 1], rgba=[0.4, 0.42, 0.45, 1], **ground)
    for index in range(boxes):
        world.add_geom(
            name=box_name(index), type=mujoco.mjtGeom.mjGEOM_BOX, pos=[0, 0, _PARKED_Z], size=[_HALF] * 3,
            rgba=[0.62, 0.58, 0.5, 1], **ground,
        )  # fmt: skip
    for name in robot.feet:
        foot = spec.geom(name)
        foot.priority = 1  # the foot's friction counts, whatever it stands on
    _add_motors(spec, robot)
    for geom in spec.geoms:
        if geom.group == BODY_GROUP:
            spec.add_sensor(
                name=f"contact_{geom.name}", type=mujoco.mjtSensor.mjSENS_CONTACT, objtype=mujoco.mjtObj.mjOBJ_GEOM,
                objname=geom.name, intprm=[_FOUND_FORCE, _NET_FORCE, 1],
            )  # fmt: skip
    if accelerometer:
        spec.body(robot.base).add_site(name=ACCELEROMETER, pos=robot.imu)
        spec.add_sensor(
            name=ACCELEROMETER, type=mujoco.mjtSensor.mjSENS_ACCELEROMETER, objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=ACCELEROMETER,
        )  # fmt: skip
    return spec


_FOUND_FORCE, _NET_FORCE = 0b11, 3
_POSITION_VELOCITY_FEEDFORWARD = 7


def _add_motors(spec: mujoco.MjSpec, robot: Robot) -> None:
    for actuator in list(spec.actuators):
        spec.delete(actuator)
    for joint, kp, kd, torque in zip(robot.joints, robot.kp, robot.kd, robot.torque_limits, strict=True):
        motor = spec.add_actuator(
            name=joint, target=joint, trntype=mujoco.mjtTrn.mjTRN_JOINT, forcelimited=True,
            forcerange=[-torque, torque], nsample=round(LONGEST_DELAY_S * PHYSICS_HZ) + 1,
        )  # fmt: skip
        motor.set_to_pid(kp=kp, kv=kd, ctrlspec=_POSITION_VELOCITY_FEEDFORWARD)


class LeggedWorld:
    """See the module. ``boxes``: the most a terrain may have; ``threads`` 0: all processors."""

    def __init__(
        self, robot: Robot, environments: int, boxes: int = 40, threads: int = 0, accelerometer: bool = False
    ) -> None:
        self.robot = robot
        self.model = build(robot, boxes, accelerometer).compile()
        self.batch = Batch(self.model, nsim=environments, nthread=threads)
        self.environments, self.boxes = environments, boxes
        batch = self.batch
        self.qpos, self.qvel = batch.bind("qpos"), batch.bind("qvel")
        self._ctrl = batch.bind("ctrl").reshape(environments, len(robot.joints), 3)
        self.torque = batch.bind("actuator_force")
        self._sensors, self._sites = batch.bind("sensordata"), batch.bind("site_xpos")
        geoms = [geom for geom in range(self.model.ngeom) if self.model.geom_group[geom] == BODY_GROUP]
        self.geoms = tuple(self.model.geom(geom).name for geom in geoms)
        address = [self.model.sensor(f"contact_{name}").adr[0] for name in self.geoms]
        self._found = np.array(address)
        self._feet = [self.geoms.index(name) for name in robot.feet]
        self._body = [index for index in range(len(geoms)) if index not in self._feet]
        self._foot_sites = [self.model.site(name).id for name in robot.feet]
        self._places = batch.bind("geom_xpos")
        self._shanks = [self.model.geom(name).id for name in robot.shanks]
        first = self.model.geom(box_name(0)).id if boxes else 0
        self._box = slice(first, first + boxes)
        self._floor = self.model.geom(FLOOR).id
        self._history, self._held = batch.bind("history"), self._places_in_history()
        self._qpos_of = [self.model.joint(name).qposadr[0] for name in robot.joints]
        self._qvel_of = [self.model.joint(name).dofadr[0] for name in robot.joints]

    def _places_in_history(self) -> NDArray[np.intp]:
        """Where in the motors' buffers of past commands the position targets are, [J, samples]."""
        data = mujoco.MjData(self.model)
        before = data.history.copy()
        places = []
        for motor in range(len(self.robot.joints)):
            samples = np.zeros((self.model.actuator_history[motor, 0], 3))
            samples[:, 0] = 1.0
            mujoco.mj_initCtrlHistory(self.model, data, motor, None, samples)
            places.append(np.flatnonzero(data.history != before))
            data.history[:] = before
        return np.array(places)

    # -- state ------------------------------------------------------------------------------------------

    @property
    def joint_position(self) -> Array:
        """[E, J] rad, in the robot's joint order."""
        return self.qpos[:, self._qpos_of]

    @property
    def joint_velocity(self) -> Array:
        """[E, J] rad/s."""
        return self.qvel[:, self._qvel_of]

    @property
    def base_position(self) -> Array:
        """[E, 3] m in the world."""
        return self.qpos[:, :3]

    @property
    def base_quaternion(self) -> Array:
        """[E, 4] wxyz, world from base."""
        return self.qpos[:, 3:7]

    @property
    def foot_position(self) -> Array:
        """[E, feet, 3] centres of the feet in the world, m."""
        return self._sites[:, self._foot_sites]

    @property
    def foot_force(self) -> Array:
        """[E, feet] contact force on each foot, N."""
        return self._force(self._feet)

    @property
    def foot_push(self) -> Array:
        """[E, feet, 3] contact force between each foot and the ground in the world, N; its sign is MuJoCo's."""
        address = self._found[self._feet]
        return self._sensors[:, address[:, None] + np.arange(1, 4)] * (self._sensors[:, address, None] > 0)

    @property
    def shank_position(self) -> Array:
        """[E, feet, 3] middles of the shanks in the world, m."""
        return self._places[:, self._shanks]

    @property
    def body_force(self) -> Array:
        """[E, other geoms] contact force on every geom that is no foot, N, in the order of ``body_geoms``."""
        return self._force(self._body)

    @property
    def body_geoms(self) -> tuple[str, ...]:
        """Names along the last axis of ``body_force``."""
        return tuple(self.geoms[index] for index in self._body)

    @property
    def base_geoms(self) -> tuple[str, ...]:
        """Those of ``body_geoms`` that are part of the base, such as its head: on these a robot must not fall."""
        model = self.model
        base = model.body_weldid[model.body(self.robot.base).id]
        return tuple(name for name in self.body_geoms if model.body_weldid[model.geom(name).bodyid[0]] == base)

    @property
    def specific_force(self) -> Array:
        """[E, 3] m/s2 of the accelerometer, in the axes of the base: (0, 0, 9.81) at rest. Needs ``accelerometer``."""
        address = self.model.sensor(ACCELEROMETER).adr[0]
        return self._sensors[:, address : address + 3]

    def _force(self, which: list[int]) -> Array:
        address = self._found[which][:, None] + np.arange(1, 4)
        return np.linalg.norm(self._sensors[:, address], axis=-1) * (self._sensors[:, self._found[which]] > 0)

    # -- what a caller does -----------------------------------------------------------------------------

    def set_terrain(self, ids: NDArray[np.intp], boxes: Array, floor_z: Array) -> None:
        """Put boxes [n, K, 6] (centre, half sizes; K <= ``self.boxes``) and the floor [n] into simulations ``ids``.

        Call :meth:`derive` before the next step.
        """
        if boxes.shape[1] > self.boxes:
            raise ValueError(f"a terrain of {boxes.shape[1]} boxes does not fit into {self.boxes}; ask for more boxes")
        place, size = self.batch.expand("geom_pos"), self.batch.expand("geom_size")
        start, used = self._box.start, self._box.start + boxes.shape[1]
        place[ids, start:used], size[ids, start:used] = boxes[..., :3], boxes[..., 3:]
        place[ids, used : self._box.stop] = (0, 0, _PARKED_Z)
        size[ids, used : self._box.stop] = _HALF
        place[ids, self._floor, 2] = floor_z

    def derive(self, ids: NDArray[np.intp]) -> None:
        """Let what follows from masses and sizes follow those of simulations ``ids``."""
        self.batch.set_const(ids)

    def reset(self, ids: NDArray[np.intp], qpos: Array, qvel: Array, targets: Array) -> None:
        """Begin anew in simulations ``ids`` from ``qpos`` [n, 7 + J] and ``qvel`` [n, 6 + J], targets [n, J] held."""
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.qpos[ids], self.qvel[ids] = qpos, qvel
        self._ctrl[ids] = 0.0
        self._ctrl[ids, :, 0] = targets
        # As if the targets had been held for long: a delayed motor would else obey zeros first.
        self._history[ids[:, None, None], self._held] = targets[..., None]
        self.batch.forward(ids)

    def step(self, targets: Array, substeps: int = SUBSTEPS) -> None:
        """Hold joint position targets [E, J] for ``substeps`` physics steps."""
        self._ctrl[:, :, 0] = targets
        self.batch.step(nstep=substeps)

    def drive(self, position: Array, velocity: Array, effort: Array) -> None:
        """One physics step under targets [E, J] of position [rad], velocity [rad/s] and feed-forward torque [N m]."""
        self._ctrl[:, :, 0], self._ctrl[:, :, 1], self._ctrl[:, :, 2] = position, velocity, effort
        self.batch.step()

    def measure(self) -> None:
        """Make derived quantities those of the current state, under the commands that led to it; nothing moves."""
        self.batch.forward()
