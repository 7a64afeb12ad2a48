"""Pictures of a legged robot on its terrain, from a camera that follows it, over EGL or OSMesa."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import importlib
import weakref
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from ros_attn.sim import rotation
from ros_attn.sim.legged_world import FLOOR, box_name, build
from ros_attn.sim.robot import BODY_GROUP, TERRAIN_GROUP, Robot
from ros_attn.sim.terrain import Terrain

DISTANCE_M = 1.6
ASIDE_DEG, DOWN_DEG = 50.0, 16.0
"""The camera looks ahead with the robot, turned so far to its left and down: legs and treads stay in sight."""
FOLLOWING_S = 0.4
"""Time constant with which the camera follows turns and steps."""
_SAMPLES, _SHADOW = 4, 1024
_SHADOWS_WITHIN_M = 2.0


def picture_model(robot: Robot, terrain: Terrain, width: int = 640, height: int = 480) -> mujoco.MjModel:
    """The world of :func:`.build` over ``terrain``, with light, sky and a floor whose squares of 0.5 m show speed.

    Its qpos is that of a :class:`.LeggedWorld` of the same robot.
    """
    spec = build(robot, len(terrain.boxes))
    for index, box in enumerate(terrain.boxes):
        geom = spec.geom(box_name(index))
        geom.pos, geom.size = box[:3], box[3:]
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=[0.75, 0.84, 0.93], rgb2=[0.35, 0.48, 0.65], width=256, height=1536,
    )  # fmt: skip
    spec.add_texture(
        name="squares", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.50, 0.53, 0.56], rgb2=[0.58, 0.61, 0.64], width=256, height=256,
    )  # fmt: skip
    squares = spec.add_material(name="squares", texrepeat=[1, 1], texuniform=True)
    squares.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "squares"
    floor = spec.geom(FLOOR)
    floor.material, floor.rgba, floor.pos = "squares", [1, 1, 1, 1], [0, 0, terrain.floor_z]
    spec.body(robot.base).add_light(
        pos=[-1.2, -2.1, 6.0], dir=[0.2, 0.35, -1], type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=True,
        mode=mujoco.mjtCamLight.mjCAMLIGHT_TRACK, diffuse=[0.7, 0.7, 0.68], specular=[0.2, 0.2, 0.2],
    )  # fmt: skip
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = [0.35] * 3, [0.25] * 3
    spec.visual.headlight.specular = [0.0] * 3
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 60.0
    spec.visual.quality.offsamples, spec.visual.quality.shadowsize = _SAMPLES, _SHADOW
    spec.visual.map.shadowclip = _SHADOWS_WITHIN_M
    spec.stat.extent, spec.stat.center = 1.0, [0, 0, 0]
    return spec.compile()


class ChaseCamera:
    """Pictures [height, width, 3] of a robot; ``backend`` is ``egl`` or ``osmesa``, one that works here.

    :func:`ros_attn.sim.street_rendering.choose_backend` knows one.
    """

    def __init__(self, robot: Robot, terrain: Terrain, width: int, height: int, backend: str) -> None:
        self.width, self.height = width, height
        self._model = picture_model(robot, terrain, width, height)
        self._data = mujoco.MjData(self._model)
        self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(width, height)
        self._gl.make_current()
        self._buffer = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        self._release = weakref.finalize(self, _release, self._gl, self._buffer)  # also at exit
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 16)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._option.geomgroup[:] = 0
        self._option.geomgroup[[TERRAIN_GROUP, BODY_GROUP]] = 1
        self._camera.distance, self._camera.elevation = DISTANCE_M, -DOWN_DEG
        self._place: NDArray[np.float64] | None = None
        self._heading = np.zeros(2)

    def picture(self, qpos: NDArray[np.float64], since_s: float) -> NDArray[np.uint8]:
        """The robot at ``qpos``, ``since_s`` [s] after the last picture; the first, and after a jump, from its place.

        The floor's squares, the treads and the robot's collision geoms, rgb.
        """
        self._follow(qpos, since_s)
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        rectangle = mujoco.MjrRect(0, 0, self.width, self.height)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._buffer)
        mujoco.mjr_render(rectangle, self._scene, self._buffer)
        rgb = np.empty((self.height, self.width, 3), np.uint8)
        mujoco.mjr_readPixels(rgb, None, rectangle, self._buffer)
        return np.ascontiguousarray(rgb[::-1])

    def _follow(self, qpos: NDArray[np.float64], since_s: float) -> None:
        yaw = float(rotation.yaw_of(qpos[None, 3:7])[0])
        place, heading = qpos[:3], np.array([np.cos(yaw), np.sin(yaw)])
        if self._place is None or np.linalg.norm(place - self._place) > DISTANCE_M:
            self._place, self._heading = place.copy(), heading
        share = 1 - np.exp(-since_s / FOLLOWING_S)
        self._heading = self._heading + share * (heading - self._heading)
        # Steps up and down are followed slowly; along the ground the robot stays in the middle.
        self._place = np.array([place[0], place[1], self._place[2] + share * (place[2] - self._place[2])])
        self._camera.lookat[:] = self._place - (0.0, 0.0, 0.08)
        self._camera.azimuth = float(np.rad2deg(np.arctan2(self._heading[1], self._heading[0]))) + ASIDE_DEG

    def close(self) -> None:
        """Free what GL holds."""
        self._release()


def _release(gl: Any, buffer: mujoco.MjrContext) -> None:
    with gl.as_current():
        buffer.free()
    gl.free()
