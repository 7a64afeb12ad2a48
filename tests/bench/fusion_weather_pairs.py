"""The pairs that ``fusion_weather`` measures on: real sets, clear, in made weather and with made faults, and two sets
that come degraded.

The condition of a set (``clear``, a weather, a fault) changes what a method sees, never what it is scored against: the
clean infrared image and the luma of the clean visible one. A degradation is of severity medium where its name says no
other, and seeded with the image's place in the sorted set, so each image has its own rain and a rerun has the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ros_attn.convert.image_files import images_in, write_png
from ros_attn.degrade.degradation import WEATHER, degradation
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.grey import luma, read_luma
from ros_attn.values import Array, Image

SETS = {"RoadScene": ("ivf_roadscene", "measured40.txt"), "MSRS": ("ivf_msrs", None), "TNO": ("ivf_tno", None)}
SEVERITY = "medium"
CLEAR = "clear"
FAULTS = (
    "visible noise",
    "visible saturated",
    "visible dirt",
    "visible black",
    "infrared noise",
    "infrared saturated",
    "infrared dirt",
    "infrared black",
    "infrared misaligned",
    "infrared misaligned:light",
    "infrared misaligned:heavy",
)
CONDITIONS = (CLEAR, *WEATHER, *FAULTS)


@dataclass(frozen=True)
class Degraded:
    """A data set that holds degraded pairs and their clean sources: a folder by condition, in it those named here."""

    conditions: tuple[str, ...]
    infrared: str
    visible: str
    clean_infrared: str
    clean_visible: str


DEGRADED = {
    "ivf_adverse": Degraded(("haze", "rain", "snow"), "ir", "vi", "gt_ir", "gt_vi"),
    "ivf_registration": Degraded(("MSRS", "RoadScene"), "ir_warp", "vi", "ir", "vi"),
}
"""``ivf_registration`` has the infrared image deformed by 10 to 15 px; its conditions are where it is from."""


@dataclass(frozen=True)
class Pair:
    """What a method gets and what it is scored against, 8 bit: [H, W] grey, ``visible`` [H, W, 3] RGB."""

    infrared: Array
    visible: Array
    clean_infrared: Array
    clean_luma: Array


def conditions_of(name: str, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The conditions of a set: those ``wanted``, or those that a degraded set has."""
    return DEGRADED[name].conditions if name in DEGRADED else wanted


def slug(condition: str) -> str:
    """A condition as the name of a file or folder: ``visible_noise``."""
    return condition.replace(" ", "_").replace(":", "_")


class Source:
    """One set under one condition, its pairs read as they are asked for."""

    def __init__(self, data: Path, name: str, condition: str) -> None:
        severity = "" if ":" in condition else f":{SEVERITY}"
        self._degradation = None if name in DEGRADED or condition == CLEAR else condition + severity
        if name in DEGRADED:
            these = DEGRADED[name]
            parts = (these.infrared, these.visible, these.clean_infrared, these.clean_visible)
            listed, root = None, data / name / condition
        else:
            folder, listed = SETS[name]
            parts, root = ("ir", "vi", "ir", "vi"), data / folder
        if not all((root / part).is_dir() for part in parts):
            raise RosAttnError(f"{root} lacks one of the folders {sorted(set(parts))} of {name}; check --data.")
        self._files = [images_in(root / part) for part in parts]
        self.images = [image for image in self._files[0] if all(image in files for files in self._files)]
        if listed is not None:
            wanted = {Path(line).stem for line in (root / listed).read_text(encoding="utf-8").split()}
            self.images = [image for image in self.images if image in wanted]
        if not self.images:
            raise RosAttnError(f"{root} has no pair that {name} could be measured on; check --data.")

    def pair(self, image: str) -> Pair:
        """The pair called ``image``."""
        infrared, visible, clean_infrared, clean_visible = (files[image] for files in self._files)
        seen_infrared, seen_visible = read_luma(infrared), _read_colour(visible)
        targets = read_luma(clean_infrared), luma(_read_colour(clean_visible))
        if self._degradation is not None:
            degrade = degradation(self._degradation, seed=self.images.index(image))
            seen_visible, seen_infrared = degrade(seen_visible, seen_infrared)
        return Pair(seen_infrared, seen_visible, *targets)


def export(data: Path, out: Path, sets: list[str], conditions: tuple[str, ...]) -> int:
    """Write the pairs as every method sees them, ``out/SET/CONDITION/vi/NAME.png`` (RGB) and ``ir/NAME.png`` (grey)."""
    written = 0
    for name in sets:
        for condition in conditions_of(name, conditions):
            source = Source(data, name, condition)
            for part in ("ir", "vi"):
                (out / name / slug(condition) / part).mkdir(parents=True, exist_ok=True)
            for image in source.images:
                pair = source.pair(image)
                for part, pixels, encoding in (("ir", pair.infrared, "mono8"), ("vi", pair.visible, "rgb8")):
                    path = out / name / slug(condition) / part / f"{image}.png"
                    write_png(path, Image(0, pixels, encoding, ""))
                written += 1
    return written


def _read_colour(path: Path) -> Array:
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise RosAttnError(f"{path} cannot be read as an image; is the file complete?")
    return np.ascontiguousarray(bgr[..., ::-1], dtype=np.uint8)
