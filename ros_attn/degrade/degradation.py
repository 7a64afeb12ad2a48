"""Degradations by name: ``haze:heavy``, ``infrared noise:medium``, applied to single pairs or to a stream of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from ros_attn.degrade.depth import pseudo_depth
from ros_attn.degrade.faults import Black, Dirt, Misaligned, Noise, Saturated
from ros_attn.degrade.weather import Haze, LowLight, Rain, Snow
from ros_attn.errors import RosAttnError, meant
from ros_attn.values import Array

SENSORS = ("visible", "infrared")
SEVERITIES = ("light", "medium", "heavy")
WEATHER: dict[str, type] = {"haze": Haze, "rain": Rain, "snow": Snow, "low_light": LowLight}
FAULTS: dict[str, type] = {"noise": Noise, "saturated": Saturated, "dirt": Dirt, "misaligned": Misaligned}
ABSOLUTE = ("black", "frozen")
"""Faults that come in one severity."""


@cache
def severities() -> dict[str, dict[str, dict[str, float]]]:
    """What severities.yaml says: parameters by degradation and severity."""
    import yaml

    return yaml.safe_load((resources.files("ros_attn.degrade") / "severities.yaml").read_text(encoding="utf-8"))


@dataclass
class Degradation:
    """One degradation of a stream of pairs; the same seed and frames give the same bytes.

    ``name``: of ``WEATHER``, which concerns both cameras and needs no ``sensor``, or of ``FAULTS`` and ``ABSOLUTE``,
    which concern one. Each frame has its own random numbers, from (seed, frame): frames can be asked for in any order,
    except with ``frozen``, which repeats the first frame it is given.

    Raises RosAttnError for a name, severity or sensor that there is not, saying which there are.
    """

    name: str
    severity: str = "medium"
    sensor: str = ""
    seed: int = 0
    _held: Array | None = field(init=False, default=None, repr=False)
    _make: Any = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        known = (*WEATHER, *FAULTS, *ABSOLUTE)
        if self.name not in known:
            raise RosAttnError(f"There is no degradation {self.name!r}{meant(self.name, known)}; there are {known}.")
        if self.severity not in SEVERITIES:
            raise RosAttnError(
                f"There is no severity {self.severity!r}{meant(self.severity, SEVERITIES)}; there are {SEVERITIES}."
            )
        if self.name in WEATHER and self.sensor:
            raise RosAttnError(f"{self.name} concerns both cameras; leave the sensor out.")
        if self.name not in WEATHER and self.sensor not in SENSORS:
            raise RosAttnError(f"{self.name} concerns one camera; name it: {' or '.join(SENSORS)}.")
        if self.name in (*WEATHER, *FAULTS):
            self._make = (WEATHER | FAULTS)[self.name](**severities()[self.name][self.severity])
        elif self.name == "black":
            self._make = Black()

    @property
    def label(self) -> str:
        """``haze:heavy``, ``infrared noise:medium``, ``visible frozen``."""
        severity = "" if self.name in ABSOLUTE else f":{self.severity}"
        return f"{self.sensor} {self.name}{severity}".strip()

    def __call__(
        self, visible: Array, infrared: Array, frame: int = 0, depth_m: Array | None = None
    ) -> tuple[Array, Array]:
        """Both images degraded, in their own types: integers are rounded and clipped.

        Shapes: visible [H, W] or [H, W, 3], infrared [H, W], both uint8 or float32 in grey levels 0..255, depth_m
        [H, W] in m (None: ``pseudo_depth``). Weather wants both cameras in the same pixels.
        """
        rng = np.random.default_rng((self.seed, 1, frame))
        if self.name in WEATHER:
            if visible.shape[:2] != infrared.shape[:2]:
                raise RosAttnError(
                    f"{self.name} wants both cameras in the same pixels, but visible is {_size(visible)} and infrared "
                    f"{_size(infrared)}; register them first."
                )
            depth = pseudo_depth(*infrared.shape) if depth_m is None else depth_m
            pair = self._make(visible.astype(np.float32), infrared.astype(np.float32), depth, rng)
            return _typed(pair[0], visible), _typed(pair[1], infrared)
        image = visible if self.sensor == "visible" else infrared
        if self.name == "frozen":
            self._held = image.copy() if self._held is None else self._held
            changed = self._held
        else:
            changed = _typed(self._make(image.astype(np.float32), np.random.default_rng((self.seed, 0)), rng), image)
        return (changed, infrared) if self.sensor == "visible" else (visible, changed)


def degradation(text: str, seed: int = 0) -> Degradation:
    """The degradation of a label: ``rain``, ``rain:heavy``, ``infrared noise:light``, ``visible black``."""
    words = text.split()
    sensor = words[0] if len(words) == 2 else ""
    name, _, severity = (words[-1] if words else "").partition(":")
    if len(words) > 2 or (sensor and sensor not in SENSORS):
        raise RosAttnError(f"{text!r} is no degradation; write weather[:severity] or camera fault[:severity].")
    return Degradation(name, severity or "medium", sensor, seed)


def _typed(image: Array, like: Array) -> Array:
    if like.dtype == np.uint8:
        return np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return np.clip(image, 0, 255).astype(like.dtype)


def _size(image: Array) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"
