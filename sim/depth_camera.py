"""A pinhole depth camera on a robot, by rays over MuJoCo's batch.

Frames: base REP-103 (x forward, y left, z up); camera optical (x right, y down, z forward). Depth is the distance
along the optical axis, as a depth camera reports it, not along the ray. Rays are what a training step pays for: with
``stride`` k only one ray in k x k pixels is cast, and the tangent plane at its hit fills the pixels around it. Under a
pinhole the inverse depth of a plane is affine in the pixel, so this is exact on flat faces and leaves silhouettes
crisp; only pixels whose block straddles an edge can be wrong.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from mujoco.batch import Batch
from numpy.typing import NDArray

from ros_attn.sim import rotation
from ros_attn.sim.robot import TERRAIN_GROUP

Array = NDArray[np.float64]
Ids = NDArray[np.intp]

_BASE_FROM_OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])


def group_mask(groups: Sequence[int]) -> NDArray[np.uint8]:
    """What ``Batch.ray`` takes as ``geomgroup``: 1 for each of the geom groups that a ray meets."""
    mask = np.zeros(mujoco.mjNGROUP, np.uint8)
    mask[list(groups)] = 1
    return mask


@dataclass(frozen=True)
class DepthCamera:
    """Size, field of view and mount of a depth camera.

    ``position_m`` [m] and ``pitch_rad`` (positive: looking down) place it in the base frame. The fields of view are
    those of the whole image, 87 x 58 degrees for the depth stream of a RealSense D435 (Intel RealSense D400 series
    data sheet, 337029). The default 64 x 48 image is that whole stream reduced, so its pixels are wider than high.
    Depth below ``near_m`` reads ``near_m``; beyond ``far_m``, or without a hit, ``far_m``.

    ValueError for sizes, angles or clip distances that no camera can have.
    """

    position_m: tuple[float, float, float]
    pitch_rad: float
    width: int = 64
    height: int = 48
    horizontal_fov_rad: float = float(np.deg2rad(87.0))
    vertical_fov_rad: float = float(np.deg2rad(58.0))
    near_m: float = 0.1
    far_m: float = 2.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise ValueError(
                f"a depth camera of {self.width} x {self.height} pixels has no image; give both at least 1"
            )
        if not (0 < self.horizontal_fov_rad < np.pi and 0 < self.vertical_fov_rad < np.pi):
            raise ValueError(
                "a depth camera's fields of view must lie between 0 and pi rad; were they given in degrees?"
            )
        if not 0 < self.near_m < self.far_m:
            raise ValueError(f"a depth camera needs 0 < near_m < far_m, not {self.near_m} and {self.far_m}")

    @property
    def focal_px(self) -> tuple[float, float]:
        """Focal lengths (fx, fy) in pixels; the principal point is the image's centre."""
        return (
            self.width / 2 / float(np.tan(self.horizontal_fov_rad / 2)),
            self.height / 2 / float(np.tan(self.vertical_fov_rad / 2)),
        )

    def base_from_optical(self) -> Array:
        """Rotation [3, 3] from the optical frame to the base."""
        return rotation.rotation_from_vector(np.array([0.0, self.pitch_rad, 0.0])) @ _BASE_FROM_OPTICAL

    def slopes(self, stride: int = 1) -> tuple[Array, Array]:
        """``x / z`` of the columns [W / stride] and ``y / z`` of the rows [H / stride], optical frame.

        They belong to the centres of the pixels, or of the blocks of ``stride`` x ``stride`` pixels.
        """
        fx, fy = self.focal_px
        columns = (np.arange(self.width // stride, dtype=np.float64) + 0.5) * stride - self.width / 2
        rows = (np.arange(self.height // stride, dtype=np.float64) + 0.5) * stride - self.height / 2
        return columns / fx, rows / fy

    def rays(self) -> Array:
        """Unit directions [H * W, 3] of the pixels' centres, row by row, in the optical frame."""
        directions = self._directions(1)
        return directions / np.linalg.norm(directions, axis=-1, keepdims=True)

    def _directions(self, stride: int) -> Array:
        x, y = self.slopes(stride)
        grid = np.ones((len(y), len(x), 3))
        grid[..., 0], grid[..., 1] = x, y[:, None]
        return grid.reshape(-1, 3)

    def render(
        self,
        batch: Batch,
        ids: Ids | None,
        base_position: Array,
        base_quaternion: Array,
        position_offset: Array | None = None,
        rotation_offset: Array | None = None,
        fov_scale: Array | None = None,
        stride: int = 1,
        groups: Sequence[int] = (TERRAIN_GROUP,),
    ) -> NDArray[np.float32]:
        """Depth images [n, H, W] of simulations ``ids`` (sorted; None: all), in one call.

        ``base_position`` [n, 3] m and ``base_quaternion`` [n, 4] wxyz place the bases in the world. For a mount that
        differs between environments: ``position_offset`` [n, 3] m and ``rotation_offset`` [n, 3], a rotation vector
        in rad, both in the base frame; ``fov_scale`` [n] multiplies both fields of view. Only geoms in ``groups`` are
        seen, so a robot whose geoms lie in another group does not see itself.

        ValueError when ``stride`` does not divide the image or an array does not have a row for each simulation.
        """
        if stride < 1 or self.width % stride or self.height % stride:
            raise ValueError(f"stride {stride} does not divide {self.width} x {self.height} pixels; take a divisor")
        n = len(base_position)
        for name, array in (
            ("base_quaternion", base_quaternion), ("position_offset", position_offset),
            ("rotation_offset", rotation_offset), ("fov_scale", fov_scale),
        ):  # fmt: skip
            if array is not None and len(array) != n:
                raise ValueError(f"{name} has {len(array)} rows and base_position {n}; give one for each simulation")
        base = rotation.rotation_from_quaternion(base_quaternion)
        mount = self.base_from_optical()
        if rotation_offset is not None:
            mount = rotation.rotation_from_vector(rotation_offset) @ mount
        place = np.asarray(self.position_m) if position_offset is None else self.position_m + position_offset
        origin = base_position + (base @ np.broadcast_to(place, (n, 3))[..., None])[..., 0]
        # columns scaled so that a slope of the nominal image becomes the direction in the world, with 1 along the axis
        world = base @ mount
        if fov_scale is not None:
            world = world * self._zoom(fov_scale)[:, None]
        direction = self._directions(stride) @ world.swapaxes(1, 2)
        hit = batch.ray(origin[:, None], direction, group_mask(groups), ids=ids, normal=stride > 1)
        missed = hit[1] < 0
        # MuJoCo gives the distance in lengths of the direction, whose component along the axis is 1
        depth = np.where(missed, self.far_m, hit[0])
        if stride > 1:
            return self._fill(depth, missed, hit[2], direction, world, stride)
        depth = np.clip(depth, self.near_m, self.far_m)
        return depth.astype(np.float32).reshape(n, self.height, self.width)

    def _zoom(self, fov_scale: Array) -> Array:
        """Factors [n, 3] on the slopes x / z and y / z, and 1."""
        half = np.array([self.horizontal_fov_rad, self.vertical_fov_rad]) / 2
        tangents = np.tan(half * np.asarray(fov_scale)[:, None]) / np.tan(half)
        return np.concatenate([tangents, np.ones((len(tangents), 1))], axis=1)

    def _fill(
        self, depth: Array, missed: NDArray[np.bool_], normal: Array, direction: Array, world: Array, stride: int
    ) -> NDArray[np.float32]:
        """Every pixel on the tangent plane of its block's hit: ``1 / z`` goes with ``n . d / (n . d0) / z0``."""
        n, (h, w) = len(depth), (self.height // stride, self.width // stride)
        facing = np.einsum("nrc,nrc->nr", normal, direction)
        facing[missed] = 1.0  # the normal is zero there, and so are the slopes
        # a ray that starts in a face's plane has depth 0
        inverse = 1 / np.maximum(depth, self.near_m / 2)
        change = (normal @ world)[..., :2] * (inverse / facing)[..., None]
        fx, fy = self.focal_px
        offset = np.arange(stride) - (stride - 1) / 2
        image = np.empty((n, h, stride, w, stride), np.float32)
        along_x = (change[..., 0].reshape(n, h, w, 1) * (offset / fx)).astype(np.float32)
        along_y = (change[..., 1].reshape(n, h, 1, w) * (offset / fy)[:, None]).astype(np.float32)
        centre = inverse.reshape(n, h, 1, w).astype(np.float32)
        np.add((centre + along_y)[..., None], along_x[:, :, None], out=image)
        np.clip(image, 1 / self.far_m, 1 / self.near_m, out=image)
        # clipped again: the reciprocal of a rounded reciprocal may leave the range
        return np.clip(np.reciprocal(image, out=image), self.near_m, self.far_m).reshape(n, self.height, self.width)


@dataclass(frozen=True)
class DepthFrames:
    """What has arrived by now: ``depth`` [E, H, W] m (0 where an environment has none yet), ``age_s`` [E] since it was
    taken (inf without one), and ``new`` [E], whether it arrived in this step. Copy ``depth`` to keep it.
    """

    depth: NDArray[np.float32]
    age_s: Array
    new: NDArray[np.bool_]


class DepthStream:
    """Depth images at ``image_hz`` that arrive late, for E environments in control steps at ``control_hz``.

    Environment e takes an image in the control steps k with ``k mod r = e mod r``, ``r = control_hz / image_hz``, so
    that each step renders one r-th of the environments; k follows from the time. An image taken at t arrives in the
    first step at or after ``t + latency_s[e]``. The latency is drawn per environment at each reset from ``latency_s``
    (low, high), uniformly. After a reset an environment has no image until its next one arrives.

    ValueError when the rates do not divide or the latencies are no range.
    """

    def __init__(
        self,
        environments: int,
        shape: tuple[int, int],
        rng: np.random.Generator,
        latency_s: tuple[float, float] = (0.02, 0.08),
        control_hz: int = 50,
        image_hz: int = 10,
    ) -> None:
        if image_hz < 1 or control_hz % image_hz:
            raise ValueError(
                f"{control_hz} control steps/s are no multiple of {image_hz} images/s; take rates that are"
            )
        low, high = latency_s
        if not 0 <= low <= high:
            raise ValueError(f"latency_s must be (low, high) with 0 <= low <= high, not ({low}, {high})")
        self._control_hz, self._every, self._range, self._rng = control_hz, control_hz // image_hz, latency_s, rng
        self.phase = np.arange(environments) % self._every
        self.latency_s = np.empty(environments)
        # images under way at once, and one more for the image that arrives while the next is taken
        slots = int(np.ceil(high * image_hz)) + 1
        self._frames = np.zeros((slots, environments, *shape), np.float32)
        self._taken = np.full((slots, environments), -np.inf)
        self._under_way = np.zeros((slots, environments), bool)
        self._next = np.zeros(environments, np.intp)
        self._depth = np.zeros((environments, *shape), np.float32)
        self._taken_at = np.full(environments, -np.inf)
        self._last_step = -np.inf
        self.reset(np.arange(environments))

    def reset(self, ids: Ids) -> None:
        """Forget the images of environments ``ids`` and draw their latencies anew."""
        self.latency_s[ids] = self._rng.uniform(*self._range, size=len(ids))
        self._under_way[:, ids] = False
        self._depth[ids] = 0.0
        self._taken_at[ids] = -np.inf

    def due(self, time_s: float) -> Ids:
        """The environments that take an image in the control step at ``time_s``, sorted."""
        return np.flatnonzero(self.phase == round(time_s * self._control_hz) % self._every)

    def step(self, time_s: float, render: Callable[[Ids], NDArray[np.float32]]) -> DepthFrames:
        """Take the images that are due, ``render(ids) -> [n, H, W]``, and deliver those that have arrived.

        ``time_s`` is the time of the control step, the same for all environments and not reset with them. ValueError
        when it does not go forward.
        """
        step = round(time_s * self._control_hz)
        if step <= self._last_step:
            raise ValueError(f"depth stream: {time_s} s is not after the step before; call step once a control step")
        self._last_step = step
        ids = self.due(time_s)
        if len(ids):
            slot = self._next[ids]
            self._frames[slot, ids] = render(ids)
            self._taken[slot, ids] = time_s
            self._under_way[slot, ids] = True
            self._next[ids] = (slot + 1) % len(self._frames)
        # a nanosecond of grace for times that are sums of steps
        arrived = self._under_way & (self._taken + self.latency_s <= time_s + 1e-9)
        self._under_way &= ~arrived
        newest = np.where(arrived, self._taken, -np.inf)
        slots = newest.argmax(axis=0)
        new = np.logical_or.reduce(arrived, axis=0)
        which = np.flatnonzero(new)
        self._depth[which] = self._frames[slots[which], which]
        self._taken_at[which] = newest[slots[which], which]
        return DepthFrames(self._depth, time_s - self._taken_at, new)
