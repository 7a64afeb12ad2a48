"""What a robot sees of the ground through its depth camera: noisy images, ten a second, late.

Each control step renders only the robots whose image is due. An image is spoilt by :class:`DepthNoise` when it arrives
and then goes through the preprocessing that real images go through, which is given as an argument: the simulation
knows nothing of controllers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.depth_camera import DepthCamera, DepthStream
from ros_attn.sim.depth_noise import DepthNoise
from ros_attn.sim.robot import Robot
from ros_attn.sim.sense import Groups, Sense

if TYPE_CHECKING:
    from ros_attn.sim.locomotion_task import LocomotionTask

Depth = NDArray[np.float32]
Array = NDArray[Any]
Ids = NDArray[np.intp]


class Preprocessing(Protocol):
    """Depth [n, H, W] m, 0 where invalid, to images [n, 48, 64] and shares of valid pixels [n, 6, 8]."""

    def __call__(self, depth_m: Depth, near_m: float, far_m: float) -> tuple[Depth, Depth]: ...


def camera_of(robot: Robot) -> DepthCamera:
    """The depth camera on ``robot``."""
    return DepthCamera(robot.camera, robot.camera_pitch)


class DepthSense(Sense):
    """``depth`` [n, 48, 64] and ``valid`` [n, 6, 8] of the newest image, ``fresh`` [n, 1] 1 in the step it arrived in.

    All zeros from a start to the first image. Per episode and robot the latency is drawn by :class:`DepthStream`, and
    from the task's table ``camera place`` [m, each axis], ``camera tilt`` [rad, each axis] and ``camera field of
    view`` [share of it]. ``noise`` scales the errors of the images, ``stride`` saves rays; see :class:`DepthCamera`.
    """

    def __init__(
        self, camera: DepthCamera, preprocessing: Preprocessing, robots: int, *, noise: float = 1.0, stride: int = 1
    ) -> None:
        self.camera, self.preprocessing, self.stride = camera, preprocessing, stride
        self.noise = DepthNoise(camera, scale=noise)
        self._place, self._tilt = np.zeros((robots, 3)), np.zeros((robots, 3))
        self._zoom = np.ones(robots)
        empty = np.zeros((1, camera.height, camera.width), np.float32)
        image, valid = preprocessing(empty, camera.near_m, camera.far_m)
        self._image = np.zeros((robots, *image.shape[1:]), np.float32)
        self._valid = np.zeros((robots, *valid.shape[1:]), np.float32)
        self._fresh = np.zeros((robots, 1), np.float32)
        self._stream: DepthStream | None = None
        self._steps = 0

    def begin(self, task: LocomotionTask, ids: Ids) -> None:
        """Robots ``ids`` have no image and other cameras; when all begin, so does the clock."""
        if self._stream is None or len(ids) == len(self._zoom):
            self._stream = DepthStream(len(self._zoom), (self.camera.height, self.camera.width), task.rng)
            self._steps = 0
        else:
            self._stream.reset(ids)
        table, rng = task.randomisation, task.rng
        self._place[ids] = table.value("camera place", rng, (len(ids), 3))
        self._tilt[ids] = table.value("camera tilt", rng, (len(ids), 3))
        self._zoom[ids] = 1 + table.value("camera field of view", rng, (len(ids),))
        self._image[ids], self._valid[ids], self._fresh[ids] = 0.0, 0.0, 0.0

    def step(self, task: LocomotionTask) -> None:
        """Take the images that are due and prepare those that arrive."""
        assert self._stream is not None, "a task begins before it steps"
        self._steps += 1
        frames = self._stream.step(self._steps * task.step_s, lambda ids: self._render(task, ids))
        self._fresh[:, 0] = frames.new
        new = np.flatnonzero(frames.new)
        if len(new):
            measured, _ = self.noise.apply(frames.depth[new], task.rng)
            self._image[new], self._valid[new] = self.preprocessing(measured, self.camera.near_m, self.camera.far_m)

    def _render(self, task: LocomotionTask, ids: Ids) -> Depth:
        world = task.world
        return self.camera.render(
            world.batch, ids, world.base_position[ids], world.base_quaternion[ids], self._place[ids], self._tilt[ids],
            self._zoom[ids], self.stride,
        )  # fmt: skip

    def observe(self, task: LocomotionTask, ids: Ids) -> Groups:
        """Groups [n, ...] of robots ``ids`` [n]."""
        return {"depth": self._image[ids], "valid": self._valid[ids], "fresh": self._fresh[ids]}
