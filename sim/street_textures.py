"""Procedural texture buffers of the simulated street: asphalt, paving, facades, foliage, sky.

Every texture is drawn from a seeded generator; no image file is read. Colours are display values in [0, 1]
until :func:`to_bytes`. A facade also yields the warmth pattern that the long-wave infrared model adds to the
wall's temperature, so that windows, doors and radiators sit at the same place in both spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PIXELS_PER_METRE = 32
SUNSET_AZIMUTH_RAD = 0.35  # left of the driving direction (+x)

_FACE_AXES = (  # sky cube faces in MuJoCo's order; a texel's direction is (right, down) in [-1, 1] on each
    lambda r, d: (np.ones_like(r), r, -d),
    lambda r, d: (-np.ones_like(r), -r, -d),
    lambda r, d: (r, -d, np.ones_like(r)),
    lambda r, d: (r, d, -np.ones_like(r)),
    lambda r, d: (r, -np.ones_like(r), -d),
    lambda r, d: (-r, np.ones_like(r), -d),
)


def to_bytes(image: np.ndarray) -> np.ndarray:
    """Display values [0, 1] as uint8, rounded."""
    return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)


def value_noise(
    rng: np.random.Generator, height: int, width: int, cells: int, octaves: int = 4, gain: float = 0.5
) -> np.ndarray:
    """Periodic value noise [height, width] in about [-1, 1]: smoothed random grids, each twice as fine."""
    total, amplitude, norm = np.zeros((height, width)), 1.0, 0.0
    for octave in range(octaves):
        count = cells * 2**octave
        grid = rng.uniform(-1.0, 1.0, (count, max(1, count * width // height)))
        rows = _periodic_steps(grid.shape[0], np.arange(height) * grid.shape[0] / height)
        columns = _periodic_steps(grid.shape[1], np.arange(width) * grid.shape[1] / width)
        down = grid[rows[0]] * (1 - rows[2])[:, None] + grid[rows[1]] * rows[2][:, None]
        total += amplitude * (down[:, columns[0]] * (1 - columns[2]) + down[:, columns[1]] * columns[2])
        norm += amplitude
        amplitude *= gain
    return total / norm


def _periodic_steps(count: int, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two neighbours of each place on a ring of `count` cells, and the smoothed way between them."""
    below = np.floor(place).astype(int)
    part = place - below
    return below % count, (below + 1) % count, part * part * (3 - 2 * part)


def _periodic_lookup(grid: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    (r0, r1, fr), (c0, c1, fc) = _periodic_steps(grid.shape[0], row), _periodic_steps(grid.shape[1], column)
    top = grid[r0, c0] * (1 - fc) + grid[r0, c1] * fc
    bottom = grid[r1, c0] * (1 - fc) + grid[r1, c1] * fc
    return top * (1 - fr) + bottom * fr


class Sky:
    """An overcast evening sky: a gradient that is warm towards the sunset, and two layers of cloud."""

    def __init__(self, rng: np.random.Generator):
        self._cloud = value_noise(rng, 512, 512, 6, octaves=5, gain=0.55)

    def colour(self, direction: np.ndarray) -> np.ndarray:
        """Unit directions [..., 3] in the world to display colours [..., 3]; below the horizon the
        horizon's."""
        elevation = np.clip(direction[..., 2], 0.0, 1.0)[..., None]
        azimuth = np.arctan2(direction[..., 1], direction[..., 0]) - SUNSET_AZIMUTH_RAD
        towards_sun = np.exp(-((1 - np.cos(azimuth)) / 0.6))[..., None]
        horizon = np.array([0.66, 0.66, 0.72]) + towards_sun * np.array([0.33, 0.13, -0.14])
        zenith = np.array([0.30, 0.42, 0.62])
        clear = zenith + (horizon - zenith) * np.exp(-3.2 * elevation)
        scale = 60.0 / (direction[..., 2].clip(0.0) + 0.16)
        cover = _periodic_lookup(self._cloud, direction[..., 0] * scale * 1.6, direction[..., 1] * scale)
        cover = np.clip(cover * 2.2 + 0.25, 0.0, 1.0)[..., None]
        cloud = np.array([0.52, 0.52, 0.60]) + towards_sun * np.array([0.42, 0.16, 0.0])
        veil = cover * np.clip(elevation * 9.0, 0.0, 0.72)
        return np.clip(clear * (1 - veil) + cloud * veil, 0.0, 1.0)

    def cube(self, size: int) -> np.ndarray:
        """The sky as MuJoCo's skybox buffer, uint8 [6·size, size, 3]."""
        axis = (np.arange(size) + 0.5) / size * 2 - 1
        down, right = np.meshgrid(axis, axis, indexing="ij")
        faces = []
        for axes in _FACE_AXES:
            direction = np.stack(axes(right, down), axis=-1)
            faces.append(self.colour(direction / np.linalg.norm(direction, axis=-1, keepdims=True)))
        return to_bytes(np.concatenate(faces))


def asphalt(rng: np.random.Generator, length_m: float, width_m: float) -> np.ndarray:
    """Road surface, uint8 [rows across, columns along, 3]: grain, wheel tracks, patches, cracks, gutters."""
    rows, columns = int(width_m * 2 * PIXELS_PER_METRE), int(length_m * 2 * PIXELS_PER_METRE)
    across = (np.arange(rows) + 0.5) / rows * width_m - width_m / 2
    value = 0.305 + 0.045 * value_noise(rng, rows, columns, 4) + 0.05 * rng.standard_normal((rows, columns))
    for centre in (-2.35, -0.85, 0.85, 2.35):  # polished by tyres
        value += 0.03 * np.exp(-(((across - centre) / 0.32) ** 2))[:, None]
    for centre in (-1.6, 1.6):  # oil
        value -= 0.025 * np.exp(-(((across - centre) / 0.25) ** 2))[:, None]
    value -= 0.10 * np.exp(-(width_m / 2 - np.abs(across)) / 0.22)[:, None]
    for _ in range(int(length_m / 7)):
        r, c = int(rng.integers(0, rows - 100)), int(rng.integers(0, columns - 400))
        h, w = int(rng.integers(40, min(180, rows - r))), int(rng.integers(110, min(400, columns - c)))
        value[r : r + h, c : c + w] += rng.choice([-0.05, -0.035, 0.03])
        for edge in (value[r : r + 1, c : c + w], value[r + h - 1 : r + h, c : c + w]):
            edge -= 0.08
        for edge in (value[r : r + h, c : c + 1], value[r : r + h, c + w - 1 : c + w]):
            edge -= 0.08
    for _ in range(int(length_m / 3)):
        steps = int(rng.integers(120, 440))
        r = np.cumsum(rng.integers(-1, 2, steps)) + rng.integers(0, rows)
        c = np.arange(steps) + rng.integers(0, columns)
        value[r % rows, c % columns] -= 0.10
    return to_bytes(value[..., None] * np.array([0.97, 0.99, 1.06]))


def paving(rng: np.random.Generator, length_m: float, width_m: float) -> np.ndarray:
    """Pavement of slabs in running bond, uint8 [rows across, columns along, 3]."""
    rows, columns = int(width_m * PIXELS_PER_METRE), int(length_m * PIXELS_PER_METRE)
    slab_rows, slab_columns = 16, 24
    r, c = np.mgrid[0:rows, 0:columns]
    course = r // slab_rows
    column = (c + (course % 2) * slab_columns // 2) // slab_columns
    tint = rng.uniform(-0.035, 0.035, (rows // slab_rows + 1, columns // slab_columns + 2))[course, column]
    joint = (r % slab_rows == 0) | ((c + (course % 2) * slab_columns // 2) % slab_columns == 0)
    value = 0.50 + tint + 0.05 * value_noise(rng, rows, columns, 3) + 0.018 * rng.standard_normal((rows, columns))
    return to_bytes(np.where(joint, value - 0.10, value)[..., None] * np.array([1.0, 0.975, 0.94]))


def foliage(rng: np.random.Generator, size: int, colour: np.ndarray) -> np.ndarray:
    """Leaves as a cube texture, uint8 [6·size, size, 3]: clumps of light and shade over one colour."""
    faces = []
    for _ in range(6):
        clumps = value_noise(rng, size, size, 5, octaves=4, gain=0.75)
        faces.append((0.92 + 0.75 * clumps)[..., None] * colour)
    return to_bytes(np.concatenate(faces))


def soft_shadow(size: int) -> np.ndarray:
    """Contact shadow, uint8 RGBA [size, size, 4]: black, opaque in the middle, transparent at the rim."""
    axis = np.abs((np.arange(size) + 0.5) / size * 2 - 1)
    side = 1 - axis**4
    image = np.zeros((size, size, 4), np.uint8)
    image[..., 3] = to_bytes(0.62 * side[:, None] * side[None, :])
    return image


@dataclass(frozen=True)
class Facade:
    """A house front: `rgb` uint8 [H, W, 3], `warmth_k` float32 [H, W] kelvin above the wall; row 0 is the
    top."""

    width_m: float
    height_m: float
    rgb: np.ndarray
    warmth_k: np.ndarray


class _Wall:
    """A wall to draw on in metres, x from the left and y from the ground."""

    def __init__(self, width_m: float, height_m: float):
        self.width_m, self.height_m = width_m, height_m
        shape = (round(height_m * PIXELS_PER_METRE), round(width_m * PIXELS_PER_METRE))
        self.rgb, self.warmth = np.zeros((*shape, 3)), np.zeros(shape)

    def box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        rows = self.rgb.shape[0]
        top, bottom = rows - round(y1 * PIXELS_PER_METRE), rows - round(y0 * PIXELS_PER_METRE)
        left, right = round(x0 * PIXELS_PER_METRE), round(x1 * PIXELS_PER_METRE)
        return slice(max(0, top), max(0, bottom)), slice(max(0, left), max(0, right))

    def fill(self, x0: float, y0: float, x1: float, y1: float, colour: np.ndarray, warmth: float | None = None) -> None:
        area = self.box(x0, y0, x1, y1)
        self.rgb[area] = colour
        if warmth is not None:
            self.warmth[area] = warmth


_PLASTER = np.array(
    [[0.78, 0.71, 0.58], [0.70, 0.66, 0.60], [0.74, 0.60, 0.48], [0.62, 0.66, 0.60], [0.76, 0.74, 0.70],
     [0.70, 0.55, 0.50], [0.58, 0.62, 0.68], [0.80, 0.70, 0.50]]
)  # fmt: skip
_BRICK = np.array([[0.52, 0.31, 0.25], [0.46, 0.33, 0.28], [0.57, 0.40, 0.30]])
_AWNING = np.array([[0.50, 0.16, 0.14], [0.13, 0.30, 0.27], [0.15, 0.22, 0.38], [0.48, 0.36, 0.14], [0.25, 0.25, 0.27]])


def facade(rng: np.random.Generator, width_m: float, floors: int) -> Facade:
    """A house front with a ground floor (shop or dwelling), rows of windows, some lit, and a cornice."""
    ground_m, floor_m = 3.7, 3.0
    wall = _Wall(width_m, ground_m + (floors - 1) * floor_m + 0.7)
    rows, columns = wall.rgb.shape[:2]
    brick = rng.random() < 0.4
    base = np.array(rng.choice(_BRICK if brick else _PLASTER)) * rng.uniform(0.72, 0.86)
    wall.rgb[:] = base
    if brick:
        r, c = np.mgrid[0:rows, 0:columns]
        course = r // 4
        joint = (r % 4 == 0) | ((c + (course % 2) * 5) % 10 == 0)
        tint = rng.uniform(-0.06, 0.06, (rows // 4 + 1, columns // 10 + 2))[course, (c + (course % 2) * 5) // 10]
        wall.rgb *= (1 + tint)[..., None]
        wall.rgb[joint] = wall.rgb[joint] * 0.55 + np.array([0.25, 0.24, 0.23])
    wall.rgb *= (1 + 0.08 * value_noise(rng, rows, columns, 3))[..., None]
    wall.warmth += 0.5 * value_noise(rng, rows, columns, 3)
    trim = np.clip(base * 1.15 + 0.08, 0, 0.80) if not brick else np.array([0.58, 0.55, 0.50])

    bays = max(2, round(width_m / 2.5))
    pitch = width_m / bays
    shutters = (not brick) and rng.random() < 0.4
    shutter = np.array(rng.choice(_AWNING))
    for floor in range(1, floors):
        bottom = ground_m + (floor - 1) * floor_m
        if floor == 1 or rng.random() < 0.5:
            wall.fill(0, bottom - 0.06, width_m, bottom + 0.10, trim)
        for bay in range(bays):
            _window(wall, rng, (bay + 0.5) * pitch, bottom + 0.85, 1.1, 1.65, trim, shutter if shutters else None)
    if rng.random() < 0.55:
        _shop(wall, rng, ground_m)
    else:
        wall.fill(0, 0, width_m, 0.7, base * 0.62)
        door = int(rng.integers(0, bays))
        for bay in range(bays):
            centre = (bay + 0.5) * pitch
            if bay == door:
                wall.fill(centre - 0.65, 0, centre + 0.65, 2.75, trim)
                wall.fill(centre - 0.5, 0, centre + 0.5, 2.15, shutter * 0.85, 1.2)
                wall.fill(centre - 0.5, 2.22, centre + 0.5, 2.6, np.array([0.98, 0.80, 0.50]), 2.0)
                wall.fill(centre - 0.38, 0.25, centre + 0.38, 1.0, shutter * 0.7)
                wall.fill(centre - 0.38, 1.15, centre + 0.38, 2.0, shutter * 0.7)
            else:
                _window(wall, rng, centre, 1.0, 1.2, 1.6, trim, None)
    top = wall.height_m
    wall.fill(0, top - 0.45, width_m, top, trim * 0.95)
    wall.fill(0, top - 0.55, width_m, top - 0.45, trim * 0.62)
    wall.fill(0, top - 0.12, width_m, top, trim * 1.05)
    pipe = 0.12 if rng.random() < 0.5 else width_m - 0.24
    wall.fill(pipe, 0, pipe + 0.12, top - 0.5, base * 0.5)
    height = np.arange(rows)[::-1][:, None, None] / PIXELS_PER_METRE
    wall.rgb *= 1 - 0.28 * np.exp(-height / 0.6) - 0.10 * np.exp(-np.abs(height - top + 0.9) / 0.3)
    return Facade(width_m, wall.height_m, to_bytes(wall.rgb), wall.warmth.astype(np.float32))


def _window(
    wall: _Wall,
    rng: np.random.Generator,
    centre: float,
    sill: float,
    width: float,
    height: float,
    trim: np.ndarray,
    shutter: np.ndarray | None,
) -> None:
    left, right, top = centre - width / 2, centre + width / 2, sill + height
    wall.fill(left - 0.14, sill - 0.12, right + 0.14, top + 0.2, trim)
    wall.fill(left - 0.2, sill - 0.16, right + 0.2, sill - 0.06, trim * 0.72)
    if shutter is not None:
        for x0, x1 in ((left - 0.62, left - 0.08), (right + 0.08, right + 0.62)):
            wall.fill(x0, sill, x1, top, shutter)
            rows = wall.rgb[wall.box(x0, sill, x1, top)]
            rows[::4] *= 0.75
    wall.fill(left - 0.06, sill - 0.02, right + 0.06, top + 0.06, np.array([0.70, 0.69, 0.67]), 0.8)
    lit = rng.random() < 0.36
    glass = wall.box(left, sill, right, top)
    fall = np.linspace(0, 1, wall.rgb[glass].shape[0])[:, None, None]
    if lit:
        lamp = np.array([1.0, 0.80, 0.47]) * rng.uniform(0.82, 1.0)
        wall.rgb[glass] = lamp * (1.0 - 0.28 * fall)
        if rng.random() < 0.6:
            curtain = wall.rgb[glass]
            edge = max(2, curtain.shape[1] // 5)
            curtain[:, :edge] *= [0.86, 0.72, 0.62]
            curtain[:, -edge:] *= [0.86, 0.72, 0.62]
    else:
        wall.rgb[glass] = np.array([0.40, 0.44, 0.52]) * (1 - fall) + np.array([0.15, 0.17, 0.21]) * fall
        if rng.random() < 0.4:
            wall.fill(left, top - rng.uniform(0.3, 1.0), right, top, np.array([0.60, 0.58, 0.53]))
    wall.warmth[glass] = (3.0 if lit else 1.4) + rng.uniform(-0.4, 0.6)
    if rng.random() < 0.08:
        wall.warmth[glass] += 4.0  # tilted open
    below = wall.warmth[wall.box(left, sill - 0.75, right, sill - 0.1)]
    below += 1.2 if lit else 0.4  # radiator behind the wall
    wall.fill(centre - 0.035, sill, centre + 0.035, top, np.array([0.68, 0.67, 0.65]))
    wall.fill(left, top - 0.55, right, top - 0.49, np.array([0.68, 0.67, 0.65]))


def _shop(wall: _Wall, rng: np.random.Generator, ground_m: float) -> None:
    width = wall.width_m
    sign = np.array(rng.choice(_AWNING))
    wall.fill(0.25, 0, width - 0.25, 2.9, sign * 0.55)
    panes = max(2, round((width - 0.8) / 2.2))
    pitch = (width - 0.8) / panes
    door = int(rng.integers(0, panes))
    open_late = rng.random() < 0.7
    for pane in range(panes):
        x0, x1 = 0.4 + pane * pitch + 0.08, 0.4 + (pane + 1) * pitch - 0.08
        area = wall.box(x0, 0.15 if pane == door else 0.6, x1, 2.7)
        fall = np.linspace(0, 1, wall.rgb[area].shape[0])[:, None, None]
        if open_late:
            wall.rgb[area] = np.array([1.0, 0.88, 0.64]) * (1 - 0.4 * fall)
            goods = wall.rgb[area]
            for _ in range(7):
                h = int(rng.integers(8, 34))
                c = int(rng.integers(0, max(1, goods.shape[1] - 8)))
                goods[-h:, c : c + int(rng.integers(4, 12))] *= rng.uniform(0.35, 0.85, 3)
            wall.warmth[area] = 3.5
        else:
            wall.rgb[area] = np.array([0.36, 0.40, 0.46]) * (1 - fall) + np.array([0.12, 0.13, 0.15]) * fall
            wall.warmth[area] = 1.5
        if pane == door:
            wall.fill((x0 + x1) / 2 - 0.03, 0.15, (x0 + x1) / 2 + 0.03, 2.7, sign * 0.5)
    wall.fill(0.15, 2.9, width - 0.15, ground_m - 0.15, sign, 0.4)
    x = 0.5 + rng.uniform(0, 0.6)
    letter = np.array([0.93, 0.90, 0.80])
    while x < width - 0.9:  # strokes that read as lettering from across the road
        if rng.random() < 0.85:
            step = rng.uniform(0.12, 0.3)
            wall.fill(x, 3.08, x + step * 0.35, 3.4, letter)
            if rng.random() < 0.7:
                y = rng.choice([3.08, 3.22, 3.34])
                wall.fill(x, y, x + step, y + 0.07, letter)
            x += step + 0.09
        else:
            x += 0.35
