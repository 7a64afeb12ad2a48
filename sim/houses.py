"""The rows of houses along both sides of the street, and the row with a tower that closes it."""

from __future__ import annotations

import numpy as np

from ros_attn.sim import street_textures as paint
from ros_attn.sim.street_geometry import (
    AIR_K,
    BEHIND_M,
    PAVEMENT_M,
    ROAD_HALF_M,
    SceneBuilder,
    SegmentationClass,
    Surface,
    Texture,
)

_LEFT_WALL = (0.70710678, 0.70710678, 0.0, 0.0)  # local z looks to -y, local y up
_RIGHT_WALL = (0.0, 0.0, 0.70710678, 0.70710678)  # local z looks to +y
_END_WALL = (0.5, 0.5, -0.5, -0.5)  # local z looks to -x
WALL = Surface(SegmentationClass.BUILDING, AIR_K + 0.9, 0.93, 0.35, 0.2)
ROOF = Surface(SegmentationClass.BUILDING, AIR_K - 3.5, 0.90, 0.75, 0.4)


def add_houses(builder: SceneBuilder, rng: np.random.Generator, end: float) -> None:
    """Adds the houses up to `end` metres along the street, in fourteen designs."""
    designs = []
    for index in range(14):
        front = paint.facade(rng, float(rng.uniform(7.0, 11.5)), int(rng.integers(3, 6)))
        builder.texture(f"facade_{index}", Texture(front.rgb), emission=0.22)
        builder.warmth[f"facade_{index}"] = front.warmth_k
        designs.append(front)
    y_front = ROAD_HALF_M + 0.15 + PAVEMENT_M
    last = -1
    for side, quat in ((1, _LEFT_WALL), (-1, _RIGHT_WALL)):
        x = -BEHIND_M
        while x < end - 6:
            index = int(rng.integers(0, len(designs)))
            index = (index + (index == last)) % len(designs)
            last, front = index, designs[index]
            _house(builder, rng, f"facade_{index}", front, x + front.width_m / 2, side * y_front, quat, side)
            x += front.width_m
    # the street ends on a row of houses across it, with a tower
    x, y = end + 6.0, -2.6 * 9.5
    for k in range(5):
        index = (3 * k + 1) % len(designs)
        front = designs[index]
        body = builder.spec.worldbody.add_body(pos=[x, y + front.width_m / 2, 0])
        builder.add(
            body, "box", WALL, material=f"facade_{index}", quat=list(_END_WALL),
            size=[front.width_m / 2, front.height_m / 2, 0.05], pos=[0, 0, front.height_m / 2],
        )  # fmt: skip
        builder.add(
            body,
            "box",
            ROOF,
            (0.36, 0.33, 0.33),
            size=[3.0, front.width_m / 2, 1.4],
            pos=[3.1, 0, front.height_m + 1.0],
        )
        y += front.width_m
    tower = builder.spec.worldbody.add_body(pos=[end + 14.0, 1.5, 0])
    builder.add(tower, "box", WALL, (0.50, 0.47, 0.47), size=[2.2, 2.2, 13.0], pos=[0, 0, 13.0])
    spire = builder.hull(
        "spire", np.array([(-2.5, -2.5, 0), (-2.5, 2.5, 0), (2.5, -2.5, 0), (2.5, 2.5, 0), (0, 0, 11)])
    )
    builder.add(tower, spire, ROOF, (0.30, 0.36, 0.36), pos=[0, 0, 26.0])
    builder.add(
        tower,
        "cylinder",
        WALL,
        (0.92, 0.88, 0.74),
        size=[1.1, 0.05],
        pos=[-2.2, 0, 22.5],
        quat=[0.7071, 0, 0.7071, 0],
    )


def _house(
    builder: SceneBuilder,
    rng: np.random.Generator,
    material: str,
    front: paint.Facade,
    x: float,
    y: float,
    quat: tuple[float, ...],
    side: int,
) -> None:
    depth, half, top = 9.0, front.width_m / 2, front.height_m
    body = builder.spec.worldbody.add_body(pos=[x, y, 0])
    tint = np.ones(3) * rng.uniform(0.9, 1.0)
    builder.add(
        body,
        "box",
        WALL,
        tint,
        material,
        size=[half, top / 2, 0.1],
        pos=[0, side * 0.1, top / 2],
        quat=list(quat),
    )
    wall = np.median(front.rgb[::5, ::5].reshape(-1, 3), axis=0) / 255 * 0.8
    builder.add(
        body, "box", WALL, wall, size=[half - 0.01, (depth - 0.2) / 2, top / 2 - 0.15],
        pos=[0, side * (0.2 + (depth - 0.2) / 2), top / 2 - 0.15],
    )  # fmt: skip
    builder.add(
        body, "box", WALL, wall * 1.25 + 0.08, size=[half, 0.16, 0.11], pos=[0, -side * 0.08, top - 0.1]
    )  # cornice
    rise = float(rng.uniform(2.2, 3.4))
    roof = builder.hull(f"roof_{x:.2f}_{side}", np.array([
        (sx * half, sy * (depth / 2 + 0.25), 0) for sx in (-1, 1) for sy in (-1, 1)
    ] + [(-half, 0, rise), (half, 0, rise)]))  # fmt: skip
    slate = np.array(((0.33, 0.26, 0.25), (0.27, 0.28, 0.31), (0.42, 0.27, 0.22))[int(rng.integers(0, 3))])
    builder.add(body, roof, ROOF, slate * rng.uniform(0.9, 1.1), pos=[0, side * depth / 2, top])
    stack = float(rng.uniform(-0.8, 0.8)) * half
    chimney = Surface(SegmentationClass.BUILDING, AIR_K + float(rng.choice([0.0, 9.0])), 0.93)
    builder.add(body, "box", chimney, (0.45, 0.30, 0.26), size=[0.45, 0.35, 1.1], pos=[stack, side * 3.6, top + rise])
