"""Terrains by name, as a command line asks for them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ros_attn.errors import RosAttnError, listed, meant
from ros_attn.sim.stairs import episode_stairs, solid_stairs
from ros_attn.sim.terrain import Terrain, flat, gap_field, platforms, rough

TREAD_M = 0.28

Maker = Callable[[np.random.Generator, float], Terrain]
TERRAINS: dict[str, tuple[str, float | None, Maker]] = {
    "flat": ("", None, lambda rng, size: flat()),
    "rough": ("height in m", 0.05, rough),
    "platforms": ("step in m", 0.1, platforms),
    "gaps": ("gap in m", 0.15, gap_field),
    "stairs": ("slope in degrees", 20.0, lambda rng, size: solid_stairs(size, depth_m=TREAD_M)),
    "hollow": ("slope in degrees", 20.0, episode_stairs),
}
"""By name: what its size means, the size where none is given (None: it has none), and how it is made."""


def forms() -> str:
    """What may be asked for, in words."""
    return listed(f"{name}[:{meaning}]" if meaning else name for name, (meaning, _, _) in TERRAINS.items())


def terrain(asked: str, seed: int) -> Terrain:
    """The terrain of ``name`` or ``name:size``, drawn from ``seed`` where chance is in it.

    Raises :class:`RosAttnError` for another name, a size that is no number, and one of which none can be built.
    """
    name, separator, text = asked.partition(":")
    if name not in TERRAINS:
        raise RosAttnError(f"There is no terrain {name!r}{meant(name, TERRAINS)}; there are {forms()}.")
    meaning, size, make = TERRAINS[name]
    if separator:
        if not meaning:
            raise RosAttnError(f"The terrain {name} has no size; leave {separator + text!r} out.")
        try:
            size = float(text)
        except ValueError:
            raise RosAttnError(
                f"The terrain {asked!r} has no number behind the colon; write {name}:{size:g} ({meaning})."
            ) from None
    try:
        return make(np.random.default_rng(seed), size or 0.0)
    except ValueError as error:
        raise RosAttnError(f"The terrain {asked!r} cannot be built: {error}.") from None
