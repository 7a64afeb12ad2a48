"""Drawing the street: MuJoCo's rasteriser over EGL or OSMesa, or one ray a pixel where there is no GL
library.

Both backends answer the same two questions for a camera: which geom and what depth a pixel has, and its
colour.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import functools
import importlib
import os
import subprocess
import sys
import weakref
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from ros_attn.errors import RosAttnError
from ros_attn.sim.street import AMBIENT, LIGHTS, Street
from ros_attn.sim.street_geometry import HIDDEN_GROUP, SHADOW_GROUP, Texture

BACKENDS = ("egl", "osmesa", "rays")
_TILE = 32  # pixels; rays are cast a tile at a time, against the geoms that the tile can show
_PROBE = """
import mujoco
from mujoco.{0} import GLContext
context = GLContext(16, 16)
context.make_current()
mujoco.MjrContext(mujoco.MjModel.from_xml_string("<mujoco/>"), 100)
"""


@dataclass(frozen=True, eq=False)
class DriveCamera:
    """A pinhole camera without distortion.

    K: 3x3, pixels; pixel centres have integer coordinates, so the principal point is ((W-1)/2, (H-1)/2) as in
    OpenCV and `sensor_msgs/CameraInfo`. T_base_camera: 4x4, optical frame (x right, y down, z forward,
    REP-103).
    """

    name: str
    frame_id: str
    width: int
    height: int
    K: np.ndarray
    T_base_camera: np.ndarray

    @functools.cached_property
    def rays(self) -> np.ndarray:
        """Directions [H, W, 3] through the pixel centres in the optical frame, z = 1 (float32)."""
        u, v = np.meshgrid(np.arange(self.width), np.arange(self.height))
        x, y = (u - self.K[0, 2]) / self.K[0, 0], (v - self.K[1, 2]) / self.K[1, 1]
        return np.stack([x, y, np.ones_like(x)], axis=-1).astype(np.float32)

    def same_view(self, other: DriveCamera) -> bool:
        """Whether both see the same rays, so that one rendering serves both."""
        return (
            (self.width, self.height) == (other.width, other.height)
            and np.array_equal(self.K, other.K)
            and np.array_equal(self.T_base_camera, other.T_base_camera)
        )


@dataclass(frozen=True)
class Geometry:
    """Per pixel the geom (-1: sky) int32 [H, W] and the depth along the optical axis float32 [H, W], inf:
    sky."""

    geom: np.ndarray
    depth_m: np.ndarray


def choose_backend(asked: str | None) -> tuple[str, str]:
    """The backend to use and a sentence that says why.

    `asked` None: EGL, then OSMesa, then rays; `MUJOCO_GL` set to one of the two GL backends is tried first.
    Each GL backend is probed in a subprocess, since a broken driver can end the process and since PyOpenGL
    can be bound to one platform only.

    Raises: RosAttnError for an unknown backend or one asked for that does not work here.
    """
    if asked is not None and asked not in BACKENDS:
        raise RosAttnError(f"unknown rendering backend {asked!r}: choose one of {', '.join(BACKENDS)}")
    if asked == "rays":
        return "rays", "rays were asked for: one ray a pixel on the CPU, no antialiasing, no contact shadows"
    if asked is not None:
        fault = _gl_fault(asked)
        if fault:
            raise RosAttnError(f"rendering backend {asked!r} does not work here ({fault}): choose 'rays', or none")
        return asked, f"MuJoCo's rasteriser over {asked}, as asked"
    order = sorted(BACKENDS[:2], key=lambda name: name != os.environ.get("MUJOCO_GL", "").lower())
    faults = []
    for name in order:
        fault = _gl_fault(name)
        if not fault:
            return name, f"MuJoCo's rasteriser over {name}, the first GL library that works here"
        faults.append(f"{name}: {fault}")
    return (
        "rays",
        f"no GL library works here ({'; '.join(faults)}): one ray a pixel on the CPU, slower and plainer",
    )


@functools.cache
def _gl_fault(name: str) -> str:
    """Why a GL backend cannot be used in this process, or an empty string."""
    bound = os.environ.get("PYOPENGL_PLATFORM", name).lower()
    if bound != name:
        return f"PyOpenGL in this process is bound to {bound}"
    environment = os.environ | {"MUJOCO_GL": name, "PYOPENGL_PLATFORM": name}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE.format(name)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except subprocess.TimeoutExpired:
        return "the probe did not return within 60 s"
    if done.returncode == 0:
        return ""
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"the probe ended with status {done.returncode}"


class RasterView:
    """MuJoCo's rasteriser: colour with contact shadows and four samples a pixel, geometry in one further
    pass.

    `mujoco.Renderer` is not used because it draws depth and segmentation in two passes, here one pass gives
    both, and because with several samples a pixel the geometry pass costs twice as much: colour and geometry
    have a buffer each.
    """

    def __init__(self, street: Street, backend: str):
        self._street = street
        model = street.model
        size = model.vis.global_.offwidth, model.vis.global_.offheight
        self._gl = importlib.import_module(f"mujoco.{backend}").GLContext(*size)
        self._gl.make_current()
        self._colour_buffer = self._buffer(4)
        self._geometry_buffer = self._buffer(0)
        buffers = (self._colour_buffer, self._geometry_buffer)
        self._release = weakref.finalize(self, _release, self._gl, buffers)  # also at exit
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 16)
        self._option, self._camera = mujoco.MjvOption(), mujoco.MjvCamera()
        self._option.geomgroup[:] = 1
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED.value

    def _buffer(self, samples: int) -> mujoco.MjrContext:
        self._street.model.vis.quality.offsamples = samples
        context = mujoco.MjrContext(self._street.model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
        context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR.value
        return context

    def picture(self, data: mujoco.MjData, camera: DriveCamera) -> tuple[np.ndarray, Geometry]:
        """Colour uint8 [H, W, 3] and the geometry behind it."""
        rgb = np.empty((camera.height, camera.width, 3), np.uint8)
        rectangle = self._draw(data, camera, self._colour_buffer, segment=False)
        mujoco.mjr_readPixels(rgb, None, rectangle, self._colour_buffer)
        return np.ascontiguousarray(rgb[::-1]), self.geometry(data, camera)

    def geometry(self, data: mujoco.MjData, camera: DriveCamera) -> Geometry:
        """Geom and depth of each pixel's centre."""
        code = np.empty((camera.height, camera.width, 3), np.uint8)
        depth = np.empty((camera.height, camera.width), np.float32)
        rectangle = self._draw(data, camera, self._geometry_buffer, segment=True)
        mujoco.mjr_readPixels(code, depth, rectangle, self._geometry_buffer)
        code, depth = code[::-1], depth[::-1]
        geom_of_segment = np.full(self._scene.ngeom + 1, -1, np.int32)
        for drawn in self._scene.geoms[: self._scene.ngeom]:
            geom_of_segment[drawn.segid + 1] = drawn.objid
        geom = geom_of_segment[code[..., 0] + code[..., 1].astype(np.uint16) * 256]  # under 65536 geoms
        near, far = (float(plane) for plane in (self._street.model.vis.map.znear, self._street.model.vis.map.zfar))
        metres = np.float32(near * far) / (depth * np.float32(far - near) + np.float32(near))  # reversed z
        return Geometry(geom, np.where(geom < 0, np.float32(np.inf), metres))

    def _draw(
        self, data: mujoco.MjData, camera: DriveCamera, buffer: mujoco.MjrContext, segment: bool
    ) -> mujoco.MjrRect:
        self._gl.make_current()
        model = self._street.model
        view = _Frustum(self._street, data, camera)
        model.geom_group[:] = view.groups(0, 0, camera.width, camera.height)
        self._camera.fixedcamid = model.camera(camera.name).id
        self._option.geomgroup[SHADOW_GROUP] = not segment
        mujoco.mjv_updateScene(
            model, data, self._option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = segment
        self._scene.flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = segment
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SKYBOX] = not segment
        rectangle = mujoco.MjrRect(0, 0, camera.width, camera.height)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, buffer)
        mujoco.mjr_render(rectangle, self._scene, buffer)
        return rectangle

    def close(self) -> None:
        """Frees the GL resources."""
        self._release()


def _release(gl: Any, buffers: tuple[mujoco.MjrContext, ...]) -> None:
    """Frees the buffers in their own context: in another one they would take that one's textures."""
    with gl.as_current():
        for buffer in buffers:
            buffer.free()
    gl.free()


class _Frustum:
    """Finds the geoms that a rectangle of the image can show, by their bounding spheres."""

    def __init__(self, street: Street, data: mujoco.MjData, camera: DriveCamera):
        self._street, self._camera = street, camera
        model = street.model
        index = model.camera(camera.name).id
        self.optical = data.cam_xmat[index].reshape(3, 3) * np.array([1.0, -1.0, -1.0])
        self._centre, self._reach = (data.geom_xpos - data.cam_xpos[index]) @ self.optical, model.geom_rbound
        z = self._centre[:, 2]
        self._near = (z > -self._reach) & (self._reach * camera.K[0, 0] > 0.5 * z)  # and over a pixel across

    def groups(self, left: int, top: int, right: int, bottom: int) -> np.ndarray:
        """MuJoCo's group of each geom, the hidden one for what the pixels [left, right) x [top, bottom)
        miss."""
        seen, K = self._near.copy(), self._camera.K
        for axis, low, high in ((0, left, right), (1, top, bottom)):
            for edge, sign in ((low, 1.0), (high, -1.0)):
                slope = (edge - 0.5 - K[axis, 2]) / K[axis, axis]
                outside = sign * (slope * self._centre[:, 2] - self._centre[:, axis])
                seen &= outside < self._reach * np.hypot(1, slope)
        return np.where(seen, self._street.group, HIDDEN_GROUP)


class RayView:
    """One ray through each pixel's centre with `mj_multiRay`; Lambert shading with the same lights and
    textures."""

    def __init__(self, street: Street):
        self._street, self._model = street, street.model
        self._groups = np.ones(6, np.uint8)
        self._groups[[SHADOW_GROUP, HIDDEN_GROUP]] = 0
        rgba = self._model.geom_rgba[:, :3].astype(np.float32)
        emission = self._model.mat_emission[self._model.geom_matid]
        self._albedo, self._emission = rgba, np.asarray(emission, np.float32)

    def geometry(self, data: mujoco.MjData, camera: DriveCamera) -> Geometry:
        """Geom and depth of each pixel's centre."""
        return self._cast(data, camera)[0]

    def picture(self, data: mujoco.MjData, camera: DriveCamera) -> tuple[np.ndarray, Geometry]:
        """Colour uint8 [H, W, 3] and the geometry behind it."""
        view, normal, direction = self._cast(data, camera)
        geom, depth = view.geom.ravel(), view.depth_m.ravel()
        normal, direction = normal.reshape(-1, 3), direction.reshape(-1, 3)
        hit = geom >= 0
        seen, normal = geom[hit], normal[hit]
        albedo = self._albedo[seen]
        origin = data.cam_xpos[self._model.camera(camera.name).id]
        point = origin + direction[hit] * depth[hit, None]
        for number, members in grouped(seen):
            texture = self._street.textures.get(number)
            if texture is not None:
                local = (point[members] - data.geom_xpos[number]) @ data.geom_xmat[number].reshape(3, 3)
                albedo[members] *= _sample(texture, local, self._model.geom_size[number])
        light = np.full((len(seen), 3), AMBIENT, np.float32)
        for travel, strength in LIGHTS:
            towards = -np.asarray(travel) / np.linalg.norm(travel)
            light += np.clip(normal @ towards, 0, None)[:, None].astype(np.float32) * np.asarray(strength, np.float32)
        image = np.empty((len(geom), 3), np.float32)
        image[hit] = albedo * (light + self._emission[seen, None])
        sky = direction[~hit]
        image[~hit] = self._street.sky.colour(sky / np.linalg.norm(sky, axis=-1, keepdims=True))
        image = np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
        return image.reshape(camera.height, camera.width, 3), view

    def _cast(self, data: mujoco.MjData, camera: DriveCamera) -> tuple[Geometry, np.ndarray, np.ndarray]:
        """Geometry, normals [H, W, 3] and ray directions [H, W, 3] in the world, tile by tile: five times
        faster."""
        model, view, shape = self._model, _Frustum(self._street, data, camera), (camera.height, camera.width)
        origin = data.cam_xpos[model.camera(camera.name).id]
        # not unit vectors but z = 1 in the camera, so that the distance found is the depth
        direction = np.einsum("hwj,ij->hwi", camera.rays.astype(float), view.optical)
        geom, depth, normal = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty((*shape, 3))
        for top in range(0, shape[0], _TILE):
            for left in range(0, shape[1], _TILE):
                tile = slice(top, min(top + _TILE, shape[0])), slice(left, min(left + _TILE, shape[1]))
                model.geom_group[:] = view.groups(left, top, tile[1].stop, tile[0].stop)
                rays = np.ascontiguousarray(direction[tile])
                count = rays.size // 3
                found, distance, facing = np.empty(count, np.int32), np.empty(count), np.empty(3 * count)
                mujoco.mj_multiRay(
                    model, data, origin, rays.ravel(), self._groups, True, -1, found, distance, facing, count,
                    mujoco.mjMAXVAL,
                )  # fmt: skip
                geom[tile] = found.reshape(rays.shape[:2])
                depth[tile] = distance.reshape(rays.shape[:2])
                normal[tile] = facing.reshape(rays.shape)
        depth[geom < 0] = np.inf
        return Geometry(geom, depth), normal, direction

    def close(self) -> None:
        """Nothing to free."""


def grouped(numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Each distinct number of a flat array with the indices where it stands."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(ordered) else np.zeros(0, int)
    return [(int(ordered[start]), part) for start, part in zip(starts, np.split(order, starts[1:]), strict=False)]


def _sample(texture: Texture, local: np.ndarray, half_size: np.ndarray) -> np.ndarray:
    """Nearest texel, float32 [N, 3] in [0, 1], for points in the geom's frame."""
    rows, columns = texture.image.shape[:2]
    if texture.cube:
        unit = local / np.linalg.norm(local, axis=-1, keepdims=True)
        u, v = np.arctan2(unit[:, 1], unit[:, 0]) / np.pi, unit[:, 2]
    else:
        u = (local[:, 0] / (2 * half_size[0]) + 0.5) * texture.repeat[0]
        v = (0.5 - local[:, 1] / (2 * half_size[1])) * texture.repeat[1]
    row, column = np.floor(v * rows).astype(int) % rows, np.floor(u * columns).astype(int) % columns
    return texture.image[row, column, :3].astype(np.float32) / 255


def open_view(street: Street, backend: str) -> RasterView | RayView:
    """The view that draws `street` with a backend chosen by :func:`choose_backend`."""
    return RayView(street) if backend == "rays" else RasterView(street, backend)
