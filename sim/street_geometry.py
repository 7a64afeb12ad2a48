"""What the simulated street is built from: classes, surfaces, and a builder over `mujoco.MjSpec`.

Every geom carries a :class:`Surface`: its class for segmentation and the temperature and emissivity that the
long-wave infrared model needs. The builder records them beside the geoms, together with each geom's texture,
so that the same world can be drawn by a rasteriser and by rays.
"""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import mujoco
import numpy as np

GEOM_GROUP = 0
SHADOW_GROUP = 3  # painted contact shadows: seen in the visible image only, never in depth or segmentation
HIDDEN_GROUP = 5  # what a camera cannot see just now
AIR_K = 283.0
ROAD_HALF_M = 5.4  # two lanes of 3.25 m and two parking strips of 2.15 m; kerbs beyond
KERB_M = 0.12
PAVEMENT_M = 3.2
BEHIND_M = 16.0  # how far the street reaches behind the start


class SegmentationClass(IntEnum):
    """What a pixel shows."""

    SKY = 0
    ROAD = 1
    PAVEMENT = 2
    BUILDING = 3
    CAR = 4
    PERSON = 5
    CYCLIST = 6
    VEGETATION = 7
    POLE = 8


@dataclass(frozen=True)
class Surface:
    """Class and long-wave infrared properties of a geom.

    temperature_k: kelvin. emissivity: 8-14 um band. sky_view: share of the reflected hemisphere that is cold
    sky (1 for a level surface, about 0.5 for a wall). mottle_k: amplitude of the variation within the object,
    kelvin.
    """

    kind: SegmentationClass
    temperature_k: float
    emissivity: float = 0.95
    sky_view: float = 0.4
    mottle_k: float = 0.3


@dataclass(frozen=True)
class Texture:
    """A texture as the ray backend samples it: `image` uint8 [H, W, 3], repeats over the geom's x and y
    extent.

    A cube texture (six faces stacked) is sampled by the direction from the geom's centre.
    """

    image: np.ndarray
    repeat: tuple[float, float] = (1.0, 1.0)
    cube: bool = False


@dataclass
class SceneBuilder:
    """Adds geoms, hull meshes and materials to a spec and remembers what each geom is."""

    spec: mujoco.MjSpec
    surfaces: list[tuple[mujoco.MjsGeom, Surface]] = field(default_factory=list)
    textures: dict[str, Texture] = field(default_factory=dict)
    warmth: dict[str, np.ndarray] = field(default_factory=dict)
    _meshes: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for name, specular, emission in (("matte", 0.0, 0.0), ("glossy", 0.7, 0.0), ("glow", 0.0, 0.9)):
            self.spec.add_material(name=name, specular=specular, shininess=0.6, emission=emission)

    def texture(self, name: str, texture: Texture, emission: float = 0.0) -> None:
        """Registers a texture and a material of the same name; emission keeps lit windows bright at dusk."""
        image = texture.image
        stored = self.spec.add_texture(
            name=name,
            type=mujoco.mjtTexture.mjTEXTURE_CUBE if texture.cube else mujoco.mjtTexture.mjTEXTURE_2D,
            height=image.shape[0],
            width=image.shape[1],
            nchannel=image.shape[2],
        )
        stored.data = image.tobytes()
        material = self.spec.add_material(name=name, specular=0.0, emission=emission, texrepeat=list(texture.repeat))
        material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
        self.textures[name] = texture

    def hull(self, name: str, vertices: np.ndarray) -> str:
        """Registers the convex hull of `vertices` [N, 3] once under `name`."""
        if name not in self._meshes:
            self.spec.add_mesh(name=name, uservert=np.asarray(vertices, float).ravel().tolist())
            self._meshes.add(name)
        return name

    def mesh(self, name: str, vertices: np.ndarray, faces: np.ndarray, smooth: bool = True) -> str:
        """Registers a closed triangle mesh (counter-clockwise from outside) once under `name`."""
        if name not in self._meshes:
            self.spec.add_mesh(
                name=name,
                uservert=np.asarray(vertices, float).ravel().tolist(),
                userface=np.asarray(faces, int).ravel().tolist(),
                smoothnormal=smooth,
            )
            self._meshes.add(name)
        return name

    def loft(self, name: str, rings: np.ndarray, around: int = 14) -> str:
        """Registers a closed skin over elliptic rings [N, 4]: height, x of the centre, half x, half y."""
        turn = 2 * np.pi * np.arange(around) / around
        vertices = [(rings[0][1], 0.0, rings[0][0])]
        for height, centre, half_x, half_y in rings:
            vertices += [(centre + half_x * np.cos(a), half_y * np.sin(a), height) for a in turn]
        vertices.append((rings[-1][1], 0.0, rings[-1][0]))
        faces, top = [], len(vertices) - 1
        for k in range(around):
            n = (k + 1) % around
            faces += [(0, 1 + n, 1 + k), (top, top - around + k, top - around + n)]
            for ring in range(len(rings) - 1):
                a, b = 1 + ring * around, 1 + (ring + 1) * around
                faces += [(a + k, a + n, b + n), (a + k, b + n, b + k)]
        return self.mesh(name, np.array(vertices), np.array(faces))

    def torus(self, name: str, radius: float, tube: float) -> str:
        """Registers a ring about z once under `name`."""
        around, tubes = 24, 6
        a, b = np.meshgrid(np.arange(around), np.arange(tubes), indexing="ij")
        turn, roll = 2 * np.pi * a / around, 2 * np.pi * b / tubes
        out = radius + tube * np.cos(roll)
        vertices = np.stack([out * np.cos(turn), out * np.sin(turn), tube * np.sin(roll)], axis=-1).reshape(-1, 3)
        here, along = a * tubes + b, (a + 1) % around * tubes + b
        up, both = a * tubes + (b + 1) % tubes, (a + 1) % around * tubes + (b + 1) % tubes
        faces = np.concatenate([np.stack([here, along, both], -1), np.stack([here, both, up], -1)]).reshape(-1, 3)
        return self.mesh(name, vertices, faces)

    def add(
        self,
        body: mujoco.MjsBody,
        shape: str,
        surface: Surface,
        rgb: tuple[float, float, float] | np.ndarray = (1.0, 1.0, 1.0),
        material: str = "matte",
        **placement,
    ) -> mujoco.MjsGeom:
        """Adds a geom: `shape` is a MuJoCo primitive's name or the name of a registered mesh."""
        if shape in self._meshes:
            placement |= {"type": mujoco.mjtGeom.mjGEOM_MESH, "meshname": shape}
        else:
            placement["type"] = getattr(mujoco.mjtGeom, f"mjGEOM_{shape.upper()}")
        geom = body.add_geom(
            rgba=[*map(float, rgb), 1.0],
            material=material,
            contype=0,
            conaffinity=0,
            group=GEOM_GROUP,
            **placement,
        )
        self.surfaces.append((geom, surface))
        return geom

    def shadow(self, body: mujoco.MjsBody, x: float, y: float, half_x: float, half_y: float, height: float) -> None:
        """A soft contact shadow on the ground beneath an object."""
        body.add_geom(
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[half_x, half_y, 0.001],
            pos=[x, y, height],
            material="soft_shadow",
            rgba=[1, 1, 1, 0.99],  # below 1, so that MuJoCo blends it
            contype=0,
            conaffinity=0,
            group=SHADOW_GROUP,
        )


def yaw_quaternion(yaw: float) -> list[float]:
    """A turn about +z as (w, x, y, z), MuJoCo's order."""
    return [float(np.cos(yaw / 2)), 0.0, 0.0, float(np.sin(yaw / 2))]


def ground_height(y: float) -> float:
    """Height in metres of what people walk on at `y`: the road, or the pavement beyond the kerb."""
    return float(np.interp(abs(y), [ROAD_HALF_M - 0.15, ROAD_HALF_M + 0.15], [0.0, KERB_M]))
