"""What differs from one simulated robot to the next, as a table in words.

A line is a name, an operator and a distribution: ``=`` sets, ``*`` scales, ``+`` adds; ``U(a, b)`` is uniform,
``N(m, s)`` normal. The notation is that of the ranges in MuJoCo Playground's ``randomize.py``::

    foot friction  =U(0.4, 1.2)
    link masses    *U(0.9, 1.1)
    base mass      +U(-1.0, 2.0)   kg

:class:`Randomisation` draws from a table into the simulations of a :class:`LeggedWorld`, each time from the values of
the model, never from those drawn before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ros_attn.sim.legged_world import LONGEST_DELAY_S, LeggedWorld

Array = NDArray[np.float64]

WALKING = """
foot friction            =U(0.4, 1.2)
foot softness            =U(0.0, 1.0)      0: MuJoCo's default contact, 1: the Go2 of MuJoCo Menagerie
base mass                +U(-1.0, 2.0)     kg
base centre of mass      +U(-0.03, 0.03)   m, along each axis
link masses              *U(0.9, 1.1)
motor strength           *U(0.9, 1.1)      each joint: kp and torque limit
motor damping            *U(0.8, 1.2)      each joint: kd
joint friction           *U(0.5, 1.5)
joint damping            =U(0.0, 2.5)      N m s/rad, one figure for a robot
rotor inertia            *U(0.9, 1.1)
command delay            =U(0.0, 0.02)     s
encoder offset           +U(-0.02, 0.02)   rad, each joint
start pose               +U(-0.05, 0.05)   rad, each joint
push                     =U(0.0, 0.5)      m/s, sideways, every 8 s
"""

CLIMBING = (
    WALKING
    + """
camera place             +U(-0.01, 0.01)   m, along each axis
camera tilt              +U(-0.03, 0.03)   rad, about each axis
camera field of view     +U(-0.03, 0.03)   share of it
"""
)
NOTHING = ""

_LINE = re.compile(
    r"^(?P<name>[a-z ]+?)\s*(?P<operator>[=*+])\s*(?P<kind>[UN])\((?P<a>[^,]+),(?P<b>[^)]+)\)\s*(?P<note>.*)$"
)


@dataclass(frozen=True)
class Term:
    """One line of the table."""

    name: str
    operator: Literal["=", "*", "+"]
    kind: Literal["U", "N"]
    a: float
    b: float
    note: str = ""

    def draw(self, rng: np.random.Generator, nominal: Array | float, shape: tuple[int, ...]) -> Array:
        """Values of ``shape`` from the nominal ones."""
        drawn = rng.uniform(self.a, self.b, shape) if self.kind == "U" else rng.normal(self.a, self.b, shape)
        if self.operator == "=":
            return drawn
        return nominal * drawn if self.operator == "*" else nominal + drawn

    def __str__(self) -> str:
        return f"{self.name:<24} {self.operator}{self.kind}({self.a:g}, {self.b:g})  {self.note}".rstrip()


def parse(table: str) -> dict[str, Term]:
    """The terms of a table by name.

    Raises ValueError for a line that does not read so, a name that nothing answers to, or one given twice.
    """
    terms: dict[str, Term] = {}
    for line in filter(None, (line.strip() for line in table.splitlines())):
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"randomisation: {line!r} is not NAME =U(a, b), *U(a, b), +U(a, b) or the same with N")
        name = found["name"]
        if name not in NAMES:
            raise ValueError(f"randomisation: there is no {name!r}; there are {', '.join(sorted(NAMES))}")
        if name in terms:
            raise ValueError(f"randomisation: {name!r} is given twice")
        a, b = float(found["a"]), float(found["b"])
        if found["kind"] == "U" and b < a:
            raise ValueError(f"randomisation: {line!r} has its lower end above its upper one")
        terms[name] = Term(name, found["operator"], found["kind"], a, b, found["note"])  # type: ignore[arg-type]
    delay = terms.get("command delay")
    if delay is not None and delay.b > LONGEST_DELAY_S:
        raise ValueError(f"randomisation: a command delay of {delay.b:g} s is longer than {LONGEST_DELAY_S:g} s")
    return terms


OF_THE_MODEL = (
    "foot friction", "foot softness", "base mass", "base centre of mass", "link masses", "motor strength",
    "motor damping", "joint friction", "joint damping", "rotor inertia", "command delay",
)  # fmt: skip
OF_THE_TASK = ("encoder offset", "start pose", "push")
OF_THE_CAMERA = ("camera place", "camera tilt", "camera field of view")
NAMES = frozenset((*OF_THE_MODEL, *OF_THE_TASK, *OF_THE_CAMERA))


HARD_FOOT, SOFT_FOOT = np.array([0.9, 0.95, 0.001, 0.5, 2.0]), np.array([0.015, 1.0, 0.022, 0.5, 2.0])
"""``solimp`` of a foot's contact; a soft one sinks in by about a centimetre under a walking robot."""


class Randomisation:
    """Draws from ``table`` into the simulations of ``world``."""

    def __init__(self, world: LeggedWorld, table: str = WALKING) -> None:
        self.world, self.terms = world, parse(table)
        model = world.model
        self._base = model.body(world.robot.base).id
        self._feet = [model.geom(name).id for name in world.robot.feet]
        self._dofs = [model.joint(name).dofadr[0] for name in world.robot.joints]
        self._links = np.arange(1, model.nbody)

    def __str__(self) -> str:
        return "\n".join(str(term) for term in self.terms.values())

    def value(self, name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        """A draw that the task applies itself, zero where the table does not name it."""
        term = self.terms.get(name)
        return np.zeros(shape) if term is None else term.draw(rng, 0.0, shape)

    def draw(self, ids: NDArray[np.intp], rng: np.random.Generator) -> None:
        """New robots in simulations ``ids``; the caller's next ``set_const`` makes derived constants follow."""
        model, expand, terms = self.world.model, self.world.batch.expand, self.terms
        count, joints = len(ids), len(self._dofs)
        if "foot friction" in terms:
            friction = expand("geom_friction")
            sliding = friction[..., 0]  # a view
            sliding[np.ix_(ids, self._feet)] = terms["foot friction"].draw(rng, 0.8, (count, 1))
        if "foot softness" in terms:
            soft = terms["foot softness"].draw(rng, 0.0, (count, 1, 1))
            expand("geom_solimp")[np.ix_(ids, self._feet)] = HARD_FOOT + soft * (SOFT_FOOT - HARD_FOOT)
        self._masses(ids, rng)
        if "motor strength" in terms or "motor damping" in terms:
            self._motors(ids, rng)
        for name, field in (("joint friction", "dof_frictionloss"), ("rotor inertia", "dof_armature")):
            if name in terms:
                nominal = getattr(model, field)[self._dofs]
                expand(field)[np.ix_(ids, self._dofs)] = terms[name].draw(rng, nominal, (count, joints))
        if "joint damping" in terms:
            nominal = model.dof_damping[self._dofs]
            expand("dof_damping")[np.ix_(ids, self._dofs)] = terms["joint damping"].draw(rng, nominal, (count, 1))
        if "command delay" in terms:
            expand("actuator_delay")[ids] = np.maximum(terms["command delay"].draw(rng, 0.0, (count, 1)), 0.0)

    def _masses(self, ids: NDArray[np.intp], rng: np.random.Generator) -> None:
        """Inertia goes with mass: the shape stays."""
        model, expand, terms = self.world.model, self.world.batch.expand, self.terms
        if not terms.keys() & {"base mass", "link masses", "base centre of mass"}:
            return
        mass, count = expand("body_mass"), len(ids)
        ratio = np.ones((count, model.nbody))
        if "link masses" in terms:
            ratio[:, self._links] = terms["link masses"].draw(rng, 1.0, (count, len(self._links)))
        if "base mass" in terms:
            nominal = float(model.body_mass[self._base])
            ratio[:, self._base] *= terms["base mass"].draw(rng, nominal, (count,)) / nominal
        mass[ids] = model.body_mass * ratio
        expand("body_inertia")[ids] = model.body_inertia * ratio[..., None]
        if "base centre of mass" in terms:
            nominal = model.body_ipos[self._base]
            expand("body_ipos")[ids, self._base] = terms["base centre of mass"].draw(rng, nominal, (count, 3))

    def _motors(self, ids: NDArray[np.intp], rng: np.random.Generator) -> None:
        model, expand, terms = self.world.model, self.world.batch.expand, self.terms
        shape = (len(ids), len(self._dofs))
        gains = expand("actuator_biasprm")
        if "motor strength" in terms:
            strength = terms["motor strength"].draw(rng, 1.0, shape)
            gains[ids, :, 1] = model.actuator_biasprm[:, 1] * strength
            expand("actuator_forcerange")[ids] = model.actuator_forcerange * strength[..., None]
        if "motor damping" in terms:
            gains[ids, :, 2] = model.actuator_biasprm[:, 2] * terms["motor damping"].draw(rng, 1.0, shape)
