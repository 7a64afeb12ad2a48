"""Small seeded bags of two cameras, and runs over them, for the tests of evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ros_attn.bag import BagWriter
from ros_attn.cli import main
from ros_attn.values import Image, Text

T0 = 1_700_000_000 * 10**9
PERIOD_NS = 10**8
HEIGHT, WIDTH = 48, 64


def picture(k: int, seed: int, moving: bool = True) -> np.ndarray:
    """Grey levels 20..235 [48, 64]: waves that wander, and noise."""
    rng = np.random.default_rng((seed, k))
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shift = 0.7 * k if moving else 0.0
    waves = 128 + 60 * np.sin((x + shift) / (5 + seed)) * np.cos(y / (7 + seed)) + 30 * ((x + y + seed) % 16 < 8)
    return np.clip(waves + rng.normal(0, 4, waves.shape), 20, 235)


def drive(
    path: Path,
    count: int = 30,
    without_infrared: Callable[[int], bool] = lambda k: False,
    without_visible: Callable[[int], bool] = lambda k: False,
    counts: bool = False,
    grey: bool = False,
    infrared_late_ns: int = 0,
    names: Callable[[int], str] | None = None,
    seed: int = 0,
    back_at: int | None = None,
) -> Path:
    """Ten pairs a second. ``counts``: infrared in 16 bits that drift; ``grey``: a mono visible camera;
    ``infrared_late_ns`` is added to infrared stamps; from frame ``back_at`` on stamps are 5 s earlier."""
    with BagWriter(path) as bag:
        for k in range(count):
            arrival = stamp = T0 + k * PERIOD_NS
            if back_at is not None and k >= back_at:
                stamp -= 5 * 10**9
            if names is not None:
                bag.write("/pair_name", Text(arrival, names(k)), arrival)
            visible, infrared = picture(k, 1 + seed), picture(k, 2 + seed)
            if not without_visible(k):
                colours = np.stack([visible, 0.8 * visible, 255 - visible], axis=-1)
                data, encoding = (visible, "mono8") if grey else (colours, "rgb8")
                bag.write("/visible/image", Image(stamp, data.astype(np.uint8), encoding, "visible"), arrival + 10**6)
            if not without_infrared(k):
                data, encoding = (7000 + 30 * k + 10 * infrared, "16UC1") if counts else (infrared, "mono8")
                pixels = data.astype(np.uint16 if counts else np.uint8)
                bag.write(
                    "/infrared/image",
                    Image(stamp + infrared_late_ns, pixels, encoding, "infrared"),
                    arrival + 2 * 10**6,
                )
    return path


def replayed(bag: Path, out: Path, *flags: str, component: str = "infrared_visible_fusion") -> Path:
    """The folder of a run of ``component`` over ``bag``."""
    main(["replay", str(bag), component, "--out", str(out), "--quiet", *flags])
    return out
