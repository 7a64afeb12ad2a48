"""The simulated street: houses, road, parked cars, trees, lamps, and the people on it, as one MuJoCo model.

Built with `mujoco.MjSpec` from primitives, convex hulls and generated textures; no file is read. World frame:
x along the street, y to the left, z up, the road's surface at z = 0. Each object is its own body, so that ray
casting can skip it by its bounding box.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from ros_attn.sim import street_textures as paint
from ros_attn.sim.cars import MovingCar, add_car
from ros_attn.sim.houses import add_houses
from ros_attn.sim.road_users import Cyclist, Mover, Pedestrian, Walk
from ros_attn.sim.street_geometry import (
    AIR_K,
    BEHIND_M,
    KERB_M,
    PAVEMENT_M,
    ROAD_HALF_M,
    SceneBuilder,
    SegmentationClass,
    Surface,
    Texture,
    yaw_quaternion,
)
from ros_attn.sim.trajectory import Trajectory

AHEAD_M = 100.0
AMBIENT = (0.62, 0.61, 0.64)
LIGHTS = (  # direction the light travels, colour
    ((-0.80, -0.30, -0.52), (0.46, 0.33, 0.22)),
    ((0.10, 0.10, -1.0), (0.26, 0.28, 0.33)),
    ((1.0, 0.05, -0.15), (0.12, 0.12, 0.14)),
)

_K = SegmentationClass
ROAD = Surface(_K.ROAD, AIR_K + 2.4, 0.95, 0.85, 0.35)
MARKING = Surface(_K.ROAD, AIR_K + 1.6, 0.92, 0.85, 0.2)
PAVING = Surface(_K.PAVEMENT, AIR_K + 1.2, 0.94, 0.75, 0.3)
METAL = Surface(_K.POLE, AIR_K - 0.5, 0.80, 0.45, 0.1)
LAMP = Surface(_K.POLE, 309.0, 0.9)
TRUNK = Surface(_K.VEGETATION, AIR_K + 0.6, 0.95, 0.3, 0.3)
LEAVES = Surface(_K.VEGETATION, AIR_K - 0.6, 0.97, 0.35, 0.5)


@dataclass(frozen=True)
class Street:
    """The compiled world and what each geom is.

    Arrays over geoms [ngeom]: group (MuJoCo's visibility group), kind (a :class:`SegmentationClass`),
    temperature_k, emissivity, sky_view, mottle_k. warmth: geom -> pattern [H, W] kelvin over its local x, y.
    textures: geom -> :class:`Texture`.
    """

    model: mujoco.MjModel
    sky: paint.Sky
    group: np.ndarray
    kind: np.ndarray
    temperature_k: np.ndarray
    emissivity: np.ndarray
    sky_view: np.ndarray
    mottle_k: np.ndarray
    warmth: dict[int, np.ndarray]
    textures: dict[int, Texture]
    movers: tuple[Mover, ...]
    lamp_bases: tuple[tuple[float, float, float], ...]

    def pose(self, data: mujoco.MjData, t: float, T_world_base: np.ndarray) -> None:
        """Puts everything where it is at `t` seconds, the cameras' base included, and updates the
        kinematics."""
        for mover in self.movers:
            mover.pose(data, t)
        base = int(self.model.body("base").mocapid[0])
        data.mocap_pos[base] = T_world_base[:3, 3]
        mujoco.mju_mat2Quat(data.mocap_quat[base], T_world_base[:3, :3].ravel())
        mujoco.mj_kinematics(self.model, data)
        mujoco.mj_camlight(self.model, data)


@dataclass(frozen=True)
class CameraMount:
    """A camera of the model: vertical field of view in degrees, pose in the base with MuJoCo's axes."""

    name: str
    fovy_deg: float
    position: tuple[float, float, float]
    quat_wxyz: tuple[float, float, float, float]


def build_street(
    trajectory: Trajectory, seed: int, cameras: tuple[CameraMount, ...], buffer_size: tuple[int, int]
) -> Street:
    """Lays out the street along `trajectory` and compiles it. `buffer_size`: width, height of the largest
    image."""
    rng = np.random.default_rng([seed, 1])
    spec = mujoco.MjSpec()
    builder = SceneBuilder(spec)
    sky = paint.Sky(rng)
    _visuals(spec, sky, buffer_size)
    builder.spec.add_texture(
        name="soft_shadow", type=mujoco.mjtTexture.mjTEXTURE_2D, width=64, height=64, nchannel=4
    ).data = paint.soft_shadow(64).tobytes()
    shadow = spec.add_material(name="soft_shadow", specular=0.0)
    shadow.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "soft_shadow"

    travelled = float(trajectory.motion(trajectory.duration_s).T_world_base[0, 0, 3])
    crossing = float(trajectory.motion(trajectory.slow_t).T_world_base[0, 0, 3]) + 9.0
    end = travelled + AHEAD_M
    _road(builder, rng, end, crossing)
    add_houses(builder, rng, end)
    lamps = _lamps_and_trees(builder, rng, end, crossing)
    _parked_cars(builder, rng, travelled + 65.0, crossing)
    movers = _movers(builder, rng, trajectory, crossing)

    base = spec.worldbody.add_body(name="base", mocap=True)
    for mount in cameras:
        base.add_camera(name=mount.name, fovy=mount.fovy_deg, pos=list(mount.position), quat=list(mount.quat_wxyz))
    model = spec.compile()
    for mover in movers:
        mover.bind(model)
    kind, kelvin, emissivity, sky_view, mottle = (np.zeros(model.ngeom) for _ in range(5))
    for geom, surface in builder.surfaces:
        kind[geom.id], kelvin[geom.id], emissivity[geom.id] = (
            surface.kind,
            surface.temperature_k,
            surface.emissivity,
        )
        sky_view[geom.id], mottle[geom.id] = surface.sky_view, surface.mottle_k
    return Street(
        model,
        sky,
        model.geom_group.copy(),
        kind.astype(np.int32),
        kelvin.astype(np.float32),
        emissivity.astype(np.float32),
        sky_view.astype(np.float32),
        mottle.astype(np.float32),
        {geom.id: builder.warmth[geom.material] for geom, _ in builder.surfaces if geom.material in builder.warmth},
        {geom.id: builder.textures[geom.material] for geom, _ in builder.surfaces if geom.material in builder.textures},
        tuple(movers),
        tuple(lamps),
    )


def _visuals(spec: mujoco.MjSpec, sky: paint.Sky, buffer_size: tuple[int, int]) -> None:
    size = 384
    cube = spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, width=size, height=6 * size, nchannel=3
    )
    cube.data = sky.cube(size).tobytes()
    visual = spec.visual
    visual.global_.offwidth, visual.global_.offheight = buffer_size
    visual.quality.numslices, visual.quality.numstacks = 16, 8
    visual.headlight.ambient = list(AMBIENT)
    visual.headlight.diffuse = [0.0, 0.0, 0.0]
    visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.stat.extent, spec.stat.center = 1.0, [0.0, 0.0, 0.0]
    visual.map.znear, visual.map.zfar = 0.2, 400.0
    for direction, colour in LIGHTS:
        spec.worldbody.add_light(
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            dir=list(direction),
            diffuse=list(colour),
            specular=[0.4 * c for c in colour],
            ambient=[0, 0, 0],
            castshadow=False,
        )


def _road(builder: SceneBuilder, rng: np.random.Generator, end: float, crossing: float) -> None:
    world, add = builder.spec.worldbody, builder.add
    middle, half = (end - BEHIND_M) / 2, (end + BEHIND_M) / 2
    tile = 32.0
    builder.texture("asphalt", Texture(paint.asphalt(rng, tile, 2 * ROAD_HALF_M), (2 * half / tile, 1.0)))
    road = world.add_body(name="road")
    add(
        road,
        "box",
        ROAD,
        material="asphalt",
        name="road",
        size=[half, ROAD_HALF_M, 0.2],
        pos=[middle, 0, -0.2],
    )
    builder.texture("paving", Texture(paint.paving(rng, 12.0, PAVEMENT_M), (2 * half / 12.0, 1.0)))
    for side in (1, -1):
        pavement = world.add_body()
        y = side * (ROAD_HALF_M + 0.15 + PAVEMENT_M / 2)
        add(
            pavement,
            "box",
            PAVING,
            material="paving",
            size=[half, PAVEMENT_M / 2, 0.2],
            pos=[middle, y, KERB_M - 0.2],
        )
        add(
            pavement, "box", PAVING, (0.56, 0.55, 0.53), size=[half, 0.075, 0.2],
            pos=[middle, side * (ROAD_HALF_M + 0.075), KERB_M - 0.2 + 0.01],
        )  # fmt: skip
        # a darker gutter line where road and kerb meet
        add(
            road, "box", ROAD, (0.24, 0.24, 0.26), size=[half, 0.14, 0.002],
            pos=[middle, side * (ROAD_HALF_M - 0.14), 0.0],
        )  # fmt: skip
    white = (0.68, 0.68, 0.65)
    markings = world.add_body()
    for x in np.arange(-BEHIND_M + 2, end - 4, 6.0):
        if abs(x + 1.25 - crossing) > 4.0:
            add(markings, "box", MARKING, white, size=[1.25, 0.06, 0.002], pos=[x + 1.25, 0, 0.001])
    for side in (1, -1):
        add(
            markings, "box", MARKING, white, size=[half, 0.045, 0.002],
            pos=[middle, side * (ROAD_HALF_M - 2.15), 0.001],
        )  # fmt: skip
    zebra = world.add_body()
    for y in np.arange(-ROAD_HALF_M + 0.55, ROAD_HALF_M, 1.0):
        add(zebra, "box", MARKING, white, size=[1.5, 0.24, 0.002], pos=[crossing, y, 0.0015])
    sign = Surface(SegmentationClass.POLE, AIR_K - 0.3, 0.9, 0.4, 0.1)
    for side in (1, -1):
        post = world.add_body(pos=[crossing + side * 1.9, -side * (ROAD_HALF_M + 0.35), KERB_M])
        add(post, "cylinder", METAL, (0.45, 0.46, 0.48), size=[0.035, 1.35], pos=[0, 0, 1.35])
        add(post, "box", sign, (0.10, 0.25, 0.60), size=[0.02, 0.32, 0.32], pos=[-0.03, 0, 2.4])
        add(post, "box", sign, (0.90, 0.90, 0.88), size=[0.022, 0.19, 0.19], pos=[-0.035, 0, 2.4])


def _tree_crown(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A lumpy closed sphere of radius about 1: vertices and triangles on a latitude-longitude grid."""
    rings, sectors = 12, 20
    lumps = 0.16 * paint.value_noise(rng, rings, sectors, 4, octaves=2) + 0.06 * rng.uniform(-1, 1, (rings, sectors))
    vertices, faces = [(0.0, 0.0, 1.0)], []
    for ring in range(rings):
        polar = np.pi * (ring + 1) / (rings + 1)
        for sector in range(sectors):
            azimuth = 2 * np.pi * (sector + 0.5 * (ring % 2)) / sectors
            r = 1.0 + lumps[ring, sector]
            vertices.append((
                r * np.sin(polar) * np.cos(azimuth), r * np.sin(polar) * np.sin(azimuth), r * np.cos(polar)
            ))  # fmt: skip
    vertices.append((0.0, 0.0, -1.0))
    bottom = len(vertices) - 1
    for s in range(sectors):
        n = (s + 1) % sectors
        faces.append((0, 1 + s, 1 + n))
        faces.append((bottom, bottom - sectors + n, bottom - sectors + s))
        for ring in range(rings - 1):
            a, b = 1 + ring * sectors, 1 + (ring + 1) * sectors
            faces += [(a + s, b + s, b + n), (a + s, b + n, a + n)]
    return np.array(vertices), np.array(faces)


def _lamps_and_trees(
    builder: SceneBuilder, rng: np.random.Generator, end: float, crossing: float
) -> list[tuple[float, float, float]]:
    world, add = builder.spec.worldbody, builder.add
    colours = ((0.42, 0.36, 0.16), (0.30, 0.34, 0.18), (0.50, 0.32, 0.13))
    for index, colour in enumerate(colours):
        builder.texture(f"leaves_{index}", Texture(paint.foliage(rng, 96, np.array(colour)), cube=True))
    for index in range(4):
        vertices, faces = _tree_crown(rng)
        builder.mesh(f"crown_{index}", vertices * np.array([1.45, 1.45, 1.25]) * rng.uniform(0.9, 1.05), faces)
    bases = []
    iron = (0.16, 0.18, 0.18)
    for k, x in enumerate(np.arange(-6.0, end - 5, 17.0)):
        side = 1 if k % 2 else -1
        y = side * (ROAD_HALF_M + 0.55)
        lamp = world.add_body(pos=[x, y, KERB_M])
        bases.append((float(x), float(y), KERB_M))
        add(lamp, "cylinder", METAL, iron, name=f"lamp_{k}", size=[0.055, 2.6], pos=[0, 0, 2.6])
        add(lamp, "cylinder", METAL, iron, size=[0.10, 0.45], pos=[0, 0, 0.45])
        add(lamp, "capsule", METAL, iron, size=[0.035], fromto=[0, 0, 5.15, 0, -side * 1.1, 5.45])
        add(lamp, "box", METAL, iron, size=[0.13, 0.34, 0.05], pos=[0, -side * 1.3, 5.47])
        add(lamp, "box", LAMP, (1.0, 0.88, 0.62), "glow", size=[0.10, 0.28, 0.03], pos=[0, -side * 1.3, 5.40])
    for k, x in enumerate(np.arange(-2.0, end - 5, 8.5)):
        side = -1 if k % 2 else 1
        x = float(x + rng.uniform(-1, 1))
        if abs(x - crossing) < 4.5 or rng.random() < 0.15:
            continue
        tree = world.add_body(pos=[x, side * (ROAD_HALF_M + 0.75), KERB_M], quat=yaw_quaternion(rng.uniform(0, 6.3)))
        size = float(rng.uniform(0.85, 1.15))
        add(tree, "box", TRUNK, (0.22, 0.19, 0.16), size=[0.5, 0.5, 0.012], pos=[0, 0, 0])
        add(
            tree,
            "capsule",
            TRUNK,
            (0.28, 0.22, 0.18),
            size=[0.10 * size],
            fromto=[0, 0, 0, 0.05, 0, 2.9 * size],
        )
        leaves = f"leaves_{int(rng.integers(0, 3))}"
        for cx, cz in ((-0.25, 3.5), (0.3, 4.35)):
            crown, turn = f"crown_{int(rng.integers(0, 4))}", yaw_quaternion(rng.uniform(0, 6.3))
            add(
                tree, crown, LEAVES, np.ones(3) * rng.uniform(0.85, 1.1), leaves,
                pos=[cx * size, float(rng.uniform(-0.3, 0.3)), cz * size], quat=turn,
            )  # fmt: skip
        builder.shadow(tree, 0, 0, 1.5, 1.5, 0.016)
    return bases


def _parked_cars(builder: SceneBuilder, rng: np.random.Generator, end: float, crossing: float) -> None:
    for side in (1, -1):
        x = -9.0 if side > 0 else -4.0
        while x < end:
            if abs(x - crossing) > 6.5 and rng.random() < 0.62:
                y = side * (ROAD_HALF_M - 1.12 + float(rng.uniform(-0.06, 0.06)))
                yaw = (np.pi if side > 0 else 0.0) + float(rng.normal(0, 0.015))
                body = builder.spec.worldbody.add_body(pos=[x, y, 0], quat=yaw_quaternion(yaw))
                add_car(builder, body, rng, warm=bool(rng.random() < 0.45))
            x += float(rng.uniform(5.3, 6.6))


def _movers(builder: SceneBuilder, rng: np.random.Generator, trajectory: Trajectory, crossing: float) -> list[Mover]:
    """People at many distances: on the zebra crossing, along both pavements, and between the parked cars."""
    slow, near = trajectory.slow_t, ROAD_HALF_M + 1.6
    far = float(trajectory.motion(trajectory.duration_s).T_world_base[0, 0, 3])
    walks = [
        Walk(crossing, -1.2, np.pi / 2, 1.35, slow),
        Walk(crossing - 0.7, 1.4, -np.pi / 2, 1.2, slow + 0.3),
        Walk(crossing + 6.0, -near, np.pi, 1.3, slow),
        Walk(crossing + 6.3, -near - 0.75, np.pi, 1.3, slow),
        Walk(10.0, near + 0.4, 0.0, 1.15),
        Walk(far + 9.0, -0.4, np.pi / 2, 1.1, trajectory.duration_s - 0.6),
        Walk(crossing + 19.0, near, np.pi, 1.25, slow + 2.0),
        Walk(far + 26.0, -3.0, -np.pi / 2, 1.3, trajectory.duration_s - 1.0),
        Walk(0.75 * far + 6.0, -near - 0.3, 0.0, 1.0, 0.7 * trajectory.duration_s),
        Walk(far + 14.0, -near, np.pi, 1.2, trajectory.duration_s),
    ]
    movers: list[Mover] = [Pedestrian(builder, f"pedestrian_{k}", walk, rng) for k, walk in enumerate(walks)]
    beside = float(trajectory.motion(0.77 * trajectory.duration_s).T_world_base[0, 0, 3])
    cyclist = Walk(beside, -2.6, 0.0, 2.4, 0.77 * trajectory.duration_s)
    movers.append(Cyclist(builder, "cyclist", cyclist, rng))
    oncoming = Walk(far + 16.0, 1.75, np.pi, 6.5, trajectory.duration_s)
    movers.append(MovingCar(builder, "oncoming_car", oncoming, rng))
    return movers
