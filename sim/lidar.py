"""A spinning lidar of several beams, by rays over MuJoCo's batch.

Sensor frame: x forward, y left, z up. All rays of a revolution are cast from one pose: the motion during a revolution
is not modelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from mujoco.batch import Batch

from ros_attn.sim.depth_camera import Array, Ids, group_mask
from ros_attn.sim.robot import TERRAIN_GROUP
from ros_attn.sim.rotation import rotation_from_quaternion


@dataclass(frozen=True)
class Lidar:
    """Beams evenly between two elevations, azimuths evenly round the vertical axis, counter-clockwise from x.

    ``position_m`` [m] in the base frame, axes as the base's. ``noise_m`` is the standard deviation of a range,
    ``dropout`` the share of echoes lost. The defaults are those of a Velodyne VLP-16 (data sheet 63-9229: 16 beams
    over +-15 degrees, +-3 cm, 100 m) with a coarser azimuth; ``nearest_m`` and ``dropout`` are ours.

    ValueError without beams or azimuths, and for ranges or shares out of order.
    """

    position_m: tuple[float, float, float]
    beams: int = 16
    azimuths: int = 360
    elevation_rad: tuple[float, float] = (float(np.deg2rad(-15.0)), float(np.deg2rad(15.0)))
    nearest_m: float = 0.3
    farthest_m: float = 100.0
    noise_m: float = 0.03
    dropout: float = 0.01

    def __post_init__(self) -> None:
        if self.beams < 1 or self.azimuths < 1:
            raise ValueError(
                f"a lidar of {self.beams} beams and {self.azimuths} azimuths sees nothing; give at least 1"
            )
        if not 0 <= self.nearest_m < self.farthest_m or self.noise_m < 0 or not 0 <= self.dropout <= 1:
            raise ValueError("a lidar needs 0 <= nearest_m < farthest_m, noise_m >= 0 and dropout between 0 and 1")

    def rays(self) -> Array:
        """Unit directions [beams * azimuths, 3] in the sensor frame, beam by beam, lowest first."""
        elevation = np.linspace(*self.elevation_rad, self.beams)[:, None]
        azimuth = np.arange(self.azimuths) * (2 * np.pi / self.azimuths)
        level = np.cos(elevation)
        parts = level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation) + 0 * azimuth
        return np.asarray(np.stack(parts, axis=-1).reshape(-1, 3), np.float64)

    def scan(
        self,
        batch: Batch,
        ids: Ids | None,
        base_position: Array,
        base_quaternion: Array,
        rng: np.random.Generator,
        groups: Sequence[int] = (TERRAIN_GROUP,),
    ) -> Array:
        """Points [n, M, 3] m in the sensor frame of simulations ``ids`` (sorted; None: all), M = beams * azimuths.

        ``base_position`` [n, 3] m and ``base_quaternion`` [n, 4] wxyz place the bases in the world; only geoms in
        ``groups`` are hit. NaN where nothing between ``nearest_m`` and ``farthest_m`` was hit or the echo was lost.
        """
        base = rotation_from_quaternion(base_quaternion)
        origin = base_position + base @ np.asarray(self.position_m)
        rays = self.rays()
        distance, _ = batch.ray(origin[:, None], rays @ base.swapaxes(1, 2), group_mask(groups), ids=ids)
        lost = (distance < self.nearest_m) | (distance > self.farthest_m)  # a miss is -1
        lost |= rng.random(distance.shape) < self.dropout
        distance += rng.normal(0.0, self.noise_m, distance.shape)
        distance[lost] = np.nan
        return rays * distance[..., None]
