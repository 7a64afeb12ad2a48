"""What ``fusion_detection`` looks at: drives down the simulated street through even haze, with the boxes and masks of
the people and vehicles in them.

Both cameras are one: the same place, lens, size and moment, so registration plays no part. Truth comes from the
renderer's geom ids. A person is a pedestrian, or a cyclist with the bicycle; a vehicle is a car, parked or moving. A
box holds the whole silhouette, what hides it taken away; a mask holds the pixels that are seen.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import mujoco
import numpy as np

from ros_attn.evaluate.grey import luma
from ros_attn.perception.infrared_visible_fusion.agc import PercentileGain
from ros_attn.perception.infrared_visible_fusion.component import FusionParams
from ros_attn.sim.drive import Drive, DriveConfig
from ros_attn.sim.street_geometry import HIDDEN_GROUP, SegmentationClass
from ros_attn.sim.street_rendering import open_view
from ros_attn.values import Array
from tests.bench.fusion_detection_hog import Box

BETAS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.12)
"""Extinction of the haze, 1/m; what can be seen ends at 3.912 / beta."""
WIDTH, HEIGHT, FOVY_DEG = 640, 480, 50.0
FRAMES, PERIOD_S = 5, 2.0
CLASSES = {
    SegmentationClass.PERSON: "person",
    SegmentationClass.CYCLIST: "person",
    SegmentationClass.CAR: "vehicle",
}
LEAST_HEIGHT = {"person": 32, "vehicle": 20}
"""Pixels; an object lower than that is ignored, as is one that the picture's border cuts or that is mostly hidden."""
LEAST_SEEN = 0.5


@dataclass(frozen=True, eq=False)
class Thing:
    """A person or vehicle in a frame. ``mask`` [H, W]; ``depth_m`` is the median of what is seen."""

    kind: str
    box: Box
    mask: Array
    depth_m: float
    counted: bool


@dataclass(frozen=True, eq=False)
class Frame:
    """Grey levels [H, W] uint8 of both cameras by beta, and the truth."""

    visible: dict[float, Array]
    infrared: dict[float, Array]
    things: list[Thing]


def frames(seed: int, betas: tuple[float, ...] = BETAS) -> Iterator[Frame]:
    """The frames of one drive; noise is the same at each beta. Infrared goes through the node's own gain."""
    config = DriveConfig(
        duration_s=FRAMES * PERIOD_S, seed=seed, width=WIDTH, height=HEIGHT, fovy_deg=FOVY_DEG, thermal_width=WIDTH,
        thermal_height=HEIGHT, thermal_fovy_deg=FOVY_DEG, visible_hz=1 / PERIOD_S, thermal_hz=1 / PERIOD_S,
        thermal_delay_s=0.0, baseline_m=0.0,
    )  # fmt: skip
    params = FusionParams()
    with Drive(config) as drive:
        truth = Truth(drive)
        for index, stamp_ns in enumerate(drive.visible_stamps):
            visible, infrared = {}, {}
            for beta in betas:
                drive.config = replace(config, haze=((0.0, beta), (1.0, beta)))
                seen, thermal = drive.visible_frame(index), drive.thermal_frame(index)
                gain = PercentileGain(
                    params.agc_low_percent, params.agc_high_percent, 0.0, params.agc_min_span, params.agc_min_span_k
                )
                visible[beta] = luma(seen.rgb)
                infrared[beta] = np.rint(gain.apply(thermal.thermal_k, 0)).astype(np.uint8)
            seconds = (stamp_ns - config.start_ns) * 1e-9
            yield Frame(visible, infrared, truth.things(seconds, drive.trajectory.motion(seconds).T_world_base[0]))
        truth.close()


class Truth:
    """Draws each object by itself, to tell how much of it is hidden."""

    def __init__(self, drive: Drive):
        street, self._camera = drive.street, drive.visible
        self._kind = street.kind
        self._group = street.group.copy()
        self._street, self._alone = street, replace(street, group=street.group.copy())
        self._view, self._view_alone = (open_view(each, drive.backend) for each in (street, self._alone))
        self._data = mujoco.MjData(street.model)  # pyright: ignore[reportAttributeAccessIssue]
        self._object = street.model.body_rootid[street.model.geom_bodyid]

    def close(self) -> None:
        """Frees what the backend holds."""
        self._view.close()
        self._view_alone.close()

    def things(self, seconds: float, T_world_base: Array) -> list[Thing]:
        """Everyone and everything in sight at a time."""
        self._street.pose(self._data, seconds, T_world_base)
        view = self._view.geometry(self._data, self._camera)
        wanted = np.append(np.isin(self._kind, list(CLASSES)), False)[view.geom]
        found = []
        for number in np.unique(self._object[view.geom[wanted]]):
            of_object = self._object == number
            mask = wanted & np.append(of_object, False)[view.geom]
            self._alone.group[:] = np.where(of_object, self._group, HIDDEN_GROUP)
            silhouette = self._view_alone.geometry(self._data, self._camera).geom >= 0
            rows, columns = np.flatnonzero(silhouette.any(axis=1)), np.flatnonzero(silhouette.any(axis=0))
            box = (int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)
            kind = CLASSES[SegmentationClass(int(self._kind[of_object].max()))]
            inside = box[0] > 0 and box[1] > 0 and box[2] < WIDTH and box[3] < HEIGHT
            large = box[3] - box[1] >= LEAST_HEIGHT[kind]
            shown = mask.sum() >= LEAST_SEEN * silhouette.sum()
            depth_m = float(np.median(view.depth_m[mask]))
            found.append(Thing(kind, box, mask, depth_m, bool(inside and large and shown)))
        return found
