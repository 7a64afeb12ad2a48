"""Parked and moving cars out of convex hulls and a few meshes that all cars share."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import mujoco
import numpy as np

from ros_attn.sim.road_users import Mover, Walk
from ros_attn.sim.street_geometry import SceneBuilder, SegmentationClass, Surface

CAR_PAINT = (
    (0.62, 0.63, 0.65), (0.16, 0.17, 0.19), (0.52, 0.10, 0.09), (0.11, 0.20, 0.36), (0.80, 0.80, 0.79),
    (0.24, 0.30, 0.28), (0.38, 0.36, 0.34), (0.70, 0.48, 0.12),
)  # fmt: skip


class MovingCar(Mover):
    """A car that drives past, engine and tyres warm."""

    def __init__(self, builder: SceneBuilder, name: str, walk: Walk, rng: np.random.Generator):
        super().__init__(builder, name, walk)
        add_car(builder, self.body, rng, warm=True, lights=True)


def add_car(
    builder: SceneBuilder, body: mujoco.MjsBody, rng: np.random.Generator, *, warm: bool, lights: bool = False
) -> None:
    """Adds a car to `body`: x forward, origin on the ground below its middle; 4.2 m by 1.76 m.

    A warm one stopped a few minutes ago: bonnet about 318 K, tyres and exhaust warm. `lights` are switched
    on.
    """
    kind = SegmentationClass.CAR
    estate = rng.random() < 0.4
    paint = np.array(rng.choice(CAR_PAINT))
    metal = Surface(kind, 281.8, 0.90, 0.5, 0.4)
    glass = Surface(kind, 282.3 + (2.0 if warm else 0.0), 0.86, 0.6, 0.2)
    bonnet = Surface(kind, float(rng.uniform(311, 325)), 0.92, 0.5, 2.5) if warm else metal
    tyre = Surface(kind, 303.0 if warm else 283.4, 0.94, 0.3, 0.8)
    lower = builder.hull("car_lower", _mirrored([
        (-2.08, 0.74, 0.30), (-2.12, 0.74, 0.62), (-2.02, 0.80, 0.92), (-1.7, 0.87, 0.35), (-1.7, 0.87, 0.72),
        (0.98, 0.87, 0.35), (0.98, 0.87, 0.72), (0.98, 0.80, 0.95), (0.98, 0.80, 0.22), (-1.7, 0.80, 0.22),
    ]))  # fmt: skip
    front = builder.hull("car_front", _mirrored([
        (0.96, 0.87, 0.35), (0.96, 0.87, 0.72), (0.96, 0.80, 0.95), (0.96, 0.80, 0.22), (1.75, 0.84, 0.35),
        (1.75, 0.82, 0.68), (1.70, 0.74, 0.84), (2.08, 0.66, 0.34), (2.10, 0.64, 0.60), (2.02, 0.60, 0.70),
    ]))  # fmt: skip
    back, roof_back = (-1.98, -1.72) if estate else (-1.72, -1.02)
    variant = "estate" if estate else "hatch"
    cabin = builder.hull(f"car_cabin_{variant}", _mirrored(
        [(back, 0.76, 0.92), (1.05, 0.76, 0.94), (roof_back, 0.60, 1.44), (0.22, 0.60, 1.44)]
    ))  # fmt: skip
    roof = builder.hull(f"car_roof_{variant}", _mirrored([
        (roof_back - 0.06, 0.625, 1.415), (0.30, 0.625, 1.415), (roof_back + 0.1, 0.54, 1.485),
        (0.12, 0.54, 1.49),
    ]))  # fmt: skip
    builder.add(body, lower, metal, paint, "glossy")
    builder.add(body, front, bonnet, paint, "glossy")
    builder.add(body, cabin, glass, (0.10, 0.12, 0.15), "glossy")
    builder.add(body, roof, metal, paint, "glossy")
    for mesh, surface, rgb, material in (
        (_prisms(builder, "car_pillars", _pillars()), metal, paint * 0.7, "matte"),
        (_prisms(builder, "car_tyres", _wheels(0.315, 0.10)), tyre, (0.055, 0.055, 0.06), "matte"),
        (_prisms(builder, "car_hubs", _wheels(0.19, 0.105)), tyre, (0.48, 0.49, 0.50), "matte"),
    ):
        builder.add(body, mesh, surface, rgb, material)
    front_lamp, rear_lamp = Surface(kind, 300.0 if lights else 282.0, 0.9), Surface(kind, 283.0)
    white, red = ((1.0, 0.96, 0.85), (0.85, 0.06, 0.05)) if lights else ((0.72, 0.74, 0.76), (0.42, 0.05, 0.05))
    lit = "glow" if lights else "glossy"
    lamps = _prisms(builder, "car_front_lamps", _pair(2.03, 0.52, 0.645, 0.06, 0.15, 0.07))
    builder.add(body, lamps, front_lamp, white, lit)
    lamps = _prisms(builder, "car_rear_lamps", _pair(-2.09, 0.57, 0.76, 0.03, 0.14, 0.07))
    builder.add(body, lamps, rear_lamp, red, lit)
    plate = Surface(kind, 282.0, 0.9)
    builder.add(body, "box", plate, (0.82, 0.82, 0.78), size=[0.02, 0.26, 0.055], pos=[-2.11, 0, 0.56])
    builder.add(body, "box", plate, (0.08, 0.08, 0.085), size=[0.03, 0.45, 0.07], pos=[2.08, 0, 0.42])
    builder.shadow(body, 0, 0, 2.45, 1.18, 0.008)


def _pillars() -> list[np.ndarray]:
    section = np.array([(-0.035, -0.02, 0), (0.035, -0.02, 0), (0.035, 0.02, 0), (-0.035, 0.02, 0)])
    ends = [np.array([(-0.44, 0.61 * y, 1.43), (-0.42, 0.765 * y, 0.93)]) for y in (1, -1)]
    return [np.concatenate([section + top, section + bottom]) for top, bottom in ends]


def _prisms(builder: SceneBuilder, name: str, polygons: list[np.ndarray]) -> str:
    """One mesh of several convex solids, each given as two parallel rings of points."""
    vertices, faces = [], []
    for rings in polygons:
        start, half = len(vertices), len(rings) // 2
        vertices += rings.tolist()
        for k in range(half):
            n = (k + 1) % half
            a, b, c, d = start + k, start + n, start + half + n, start + half + k
            faces += [(a, b, c), (a, c, d)]
        for k in range(1, half - 1):
            faces += [
                (start, start + k + 1, start + k),
                (start + half, start + half + k, start + half + k + 1),
            ]
    return builder.mesh(name, np.array(vertices), np.array(faces), smooth=False)


def _wheels(radius: float, half_width: float) -> list[np.ndarray]:
    turn = 2 * np.pi * np.arange(20) / 20
    circle = np.stack([radius * np.cos(turn), np.zeros(20), radius * np.sin(turn)], axis=-1)
    side = np.array([0.0, half_width, 0.0])
    centres = [np.array([x, y, 0.315]) for x in (-1.32, 1.32) for y in (0.79, -0.79)]
    return [np.concatenate([circle + centre + side, circle + centre - side]) for centre in centres]


def _pair(x: float, y: float, z: float, half_x: float, half_y: float, half_z: float) -> list[np.ndarray]:
    corners = np.array([(-half_x, -half_z), (half_x, -half_z), (half_x, half_z), (-half_x, half_z)])
    ring = np.stack([corners[:, 0], np.zeros(4), corners[:, 1]], axis=-1)
    side = np.array([0.0, half_y, 0.0])
    centres = [np.array([x, s, z]) for s in (y, -y)]
    return [np.concatenate([ring + centre + side, ring + centre - side]) for centre in centres]


def _mirrored(half: list[tuple[float, float, float]]) -> np.ndarray:
    points = np.array(half)
    return np.concatenate([points, points * [1, -1, 1]])
