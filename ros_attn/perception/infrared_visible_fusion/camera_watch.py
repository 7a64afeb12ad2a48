"""Whether a camera can be believed: frozen, blank, suddenly different, or with a fault that the network sees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ros_attn.diagnostics import Health
from ros_attn.perception.infrared_visible_fusion.learned import Picture
from ros_attn.perception.infrared_visible_fusion.registration_check import RegistrationCheck
from ros_attn.perception.infrared_visible_fusion.sudden_change import Found, SuddenChange
from ros_attn.values import Array, Image

CAMERAS = ("visible", "infrared")

FROZEN_REPEATS = 2
BLANK_SPREAD = 1.0
"""A picture of less deviation, in grey levels, shows nothing."""
WHITE = 250.0
SMOOTHING_S = 0.15
NAMED_FROM, NAMED_UNTIL = 0.6, 0.4
NOISY_FROM = 8.0
"""Grey levels of noise that are called a fault."""
_UNKNOWN: Mapping[str, float] = {}
_ADVICE = {
    "noise": "is noisy: warm it up, recalibrate it, or give it more light",
    "saturated": "is saturated: lower its gain or exposure",
    "dirt": "looks dirty: clean its window",
}


@dataclass
class RepeatedFrames:
    """Counts frames that are the last one again, byte for byte; a live sensor's noise never repeats.

    ``observe`` says whether the camera has given the same picture for ``after_s`` [s], and at least three times. A
    frame that is handed over twice, by its stamp, counts once.
    """

    after_s: float
    _last: Array | None = field(default=None, repr=False)
    _stamp_ns: int = 0
    _since_ns: int = 0
    repeats: int = 0

    def observe(self, image: Array, stamp_ns: int) -> bool:
        """Whether the camera is frozen at this frame."""
        if self._last is None or stamp_ns < self._stamp_ns or not _same(self._last, image):
            self._last, self.repeats, self._since_ns = image, 0, stamp_ns
        elif stamp_ns > self._stamp_ns:
            self.repeats += 1
        self._stamp_ns = stamp_ns
        return self.repeats >= FROZEN_REPEATS and stamp_ns - self._since_ns >= self.after_s * 1e9

    def reset(self) -> None:
        self._last, self.repeats = None, 0


def _same(a: Array, b: Array) -> bool:
    # A few rows first: pictures that differ, differ there, and most do.
    return a is b or (a.shape == b.shape and np.array_equal(a[::97], b[::97]) and np.array_equal(a, b))


def blank(levels: Array) -> bool:
    """Whether an image in grey levels shows nothing: closed shutter, loose cable, a visible camera in the dark."""
    return float(levels[::4, ::4].std()) < BLANK_SPREAD


@dataclass
class Verdict:
    """Probabilities, smoothed over 0.15 s of stamps; a name is given from 0.6 on, and kept until below 0.4."""

    nothing: str
    shares: dict[str, float] = field(default_factory=dict)
    named: str = ""
    _stamp_ns: int = 0

    def observe(self, probabilities: Mapping[str, float], stamp_ns: int) -> str:
        """The name that holds now, "" for none."""
        passed_s = (stamp_ns - self._stamp_ns) / 1e9
        new = 1.0 if not self.shares or passed_s < 0 else 1 - math.exp(-passed_s / SMOOTHING_S)
        self._stamp_ns = stamp_ns
        self.shares = {name: (1 - new) * self.shares.get(name, 0.0) + new * p for name, p in probabilities.items()}
        if self.named and self.shares[self.named] < NAMED_UNTIL:
            self.named = ""
        name, share = max(self.shares.items(), key=lambda each: each[1])
        if share >= NAMED_FROM:
            self.named = "" if name == self.nothing else name
        return self.named

    def reset(self) -> None:
        self.shares, self.named = {}, ""


class CameraWatch:
    """Watches both cameras; what it finds becomes conditions and figures of ``health``.

    ``frozen_after_s`` [s]: see :class:`RepeatedFrames`; 0 never calls a camera frozen.
    """

    def __init__(self, health: Health, frozen_after_s: float) -> None:
        self.health = health
        self.repeated = {camera: RepeatedFrames(frozen_after_s) for camera in CAMERAS} if frozen_after_s > 0 else {}
        self.weather = Verdict("clear")
        self.faults = {camera: Verdict("none") for camera in CAMERAS}
        self.registration = RegistrationCheck()
        self.sudden = SuddenChange()
        self.found: dict[str, Found | None] = {}

    def reset(self) -> None:
        for part in (*self.repeated.values(), self.weather, *self.faults.values(), self.registration, self.sudden):
            part.reset()
        self.found = {}

    def pause(self) -> None:
        """Say nothing of weather, faults and registration while only one camera is used: nobody looks for them."""
        for key in ("registration", *(f"{camera}_fault" for camera in CAMERAS)):
            self.health.clear(key)
        for key in {"weather", *(f"{camera}_fault" for camera in CAMERAS)} & set(self.health.figures):
            self.health.figures[key] = "unknown"
        for part in (self.weather, *self.faults.values(), self.registration):
            part.reset()

    def silent(self, cameras: Mapping[str, tuple[Image, Array]]) -> str | None:
        """The camera that gives nothing new, or nothing at all, while the other one works; None where both do.

        ``cameras``: by name the image as it came and its grey levels [H, W]. Where both repeat, the scene or a
        simulation may stand still, and nothing is said.
        """
        frozen = {camera: watch.observe(cameras[camera][0].data, cameras[camera][0].stamp_ns)
                  for camera, watch in self.repeated.items()}  # fmt: skip
        dark = {camera: blank(levels) for camera, (_, levels) in cameras.items()}
        found = None
        for camera, other in (CAMERAS, CAMERAS[::-1]):
            stuck = frozen.get(camera, False) and not frozen[other]
            nothing = dark[camera] and not dark[other]
            self._say(f"{camera}_frozen", stuck, f"{camera} repeats one picture, as a frozen camera does; {other} "
                      "passes through alone. Restart its driver.", serious=True)  # fmt: skip
            white = nothing and float(cameras[camera][1][::4, ::4].mean()) >= WHITE
            why = "is saturated all over: lower its gain or exposure" if white else "shows nothing"
            self._say(f"{camera}_blank", nothing, f"{camera} {why}; {other} passes through alone.")
            if stuck or nothing:
                found = found or camera
        return found

    def changed(self, images: Mapping[str, tuple[Array, int]]) -> None:
        """Look for what befell one camera alone; ``images`` by camera, grey levels [H, W] and the stamp in ns."""
        self.found = self.sudden.observe(images)

    def compare(self, infrared: Array, visible: Array, stamp_ns: int) -> None:
        """Whether both images [H, W], in the visible camera's pixels, still fit."""
        shift = self.registration.observe(infrared, visible, stamp_ns)
        knocked = {camera: found for camera, found in self.found.items() if found and found.kind == "shifted"}
        if shift is not None:
            sentence = (f"infrared lies about {_by(*shift)} from where visible has the same edges: calibrate the pair "
                        "again.")  # fmt: skip
        else:
            sentence = " ".join(
                f"{camera} was knocked: its picture jumped {_by(*found.moved_px)} while the other camera's stood; put "
                "it back or calibrate the pair again."
                for camera, found in knocked.items()
            )
        self._say("registration", bool(sentence), sentence)

    def name(self, picture: Picture | None, stamp_ns: int, noise: Mapping[str, float] = _UNKNOWN) -> None:
        """Name the weather and the cameras' faults.

        ``picture`` is a learned model's, which gives its opinion; None without one. ``noise`` by camera, in grey
        levels, as far as it is known: the model sees images that the filter over time has cleaned.
        """
        if picture is not None:
            self.health.figures["weather"] = self.weather.observe(picture.weather, stamp_ns) or "clear"
        for camera, verdict in self.faults.items():
            fault = verdict.observe(picture.faults[camera], stamp_ns) if picture is not None else ""
            found = self.found.get(camera)
            if found is not None and found.kind in _ADVICE:
                fault = found.kind
            elif not fault and noise.get(camera, 0.0) > NOISY_FROM:
                fault = "noise"
            self.health.figures[f"{camera}_fault"] = fault or "none"
            self._say(f"{camera}_fault", fault in _ADVICE, f"{camera} {_ADVICE.get(fault, '')}.")

    def _say(self, key: str, holds: bool, sentence: str, serious: bool = False) -> None:
        if not holds:
            self.health.clear(key)
        elif serious:
            self.health.error(key, sentence)
        else:
            self.health.warn(key, sentence)


def _by(right: float, down: float) -> str:
    """``6 px right and 3 px up``."""
    return (
        f"{abs(right):.0f} px {'left' if right < 0 else 'right'} and {abs(down):.0f} px {'up' if down < 0 else 'down'}"
    )
