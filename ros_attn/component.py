"""A component: inputs with a policy, outputs, parameters and ``step``; no ROS, no clock, no I/O inside.

The policies say what a component waits for; :mod:`ros_attn.runtime` carries them out, and every host
(replay, rclpy, simulation) uses that one runtime.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from ros_attn import params as parameters
from ros_attn.diagnostics import Health
from ros_attn.values import Value


@dataclass(frozen=True)
class Sync:
    """Messages of one moment. The first declared Sync input is the reference; the others are paired to it.

    Each reference, in stamp order, takes from every other Sync input the message nearest in stamp (of two
    equally near the older; each used once), decided once that input showed an unused stamp >= the
    reference's. Farther than ``slop_s``: counted, no step.

    ``missing_after_s``: an input still silent that long after the reference's arrival is handed over as
    None. On the reference it means: where the reference is silent that long after another input's arrival,
    that message triggers the step and the reference is None. Both end the promise that every interleaving
    of topics gives the same bytes.
    """

    type: type[Value]
    topic: str
    slop_s: float = 0.02
    missing_after_s: float | None = None


@dataclass(frozen=True)
class Window:
    """All messages with previous trigger < stamp <= trigger, as a tuple; waits for a stamp >= the trigger."""

    type: type[Value]
    topic: str


@dataclass(frozen=True)
class Hold:
    """The newest message that has arrived with stamp <= trigger; never waits; None beyond ``max_age_s``.

    ``through_reset``: what arrived last before a reset stands, at any age, until a message after it is held. For states
    that are told once, such as an emergency stop: a reset right after the message must not make it unsaid.
    """

    type: type[Value]
    topic: str
    max_age_s: float = float("inf")
    through_reset: bool = False


@dataclass(frozen=True)
class Static:
    """The first message, held until reset. Triggers wait for it; a later different one is a warning."""

    type: type[Value]
    topic: str


@dataclass(frozen=True)
class Transform:
    """``T_target_source`` [4, 4], interpolated at the trigger's stamp; waits at most ``wait_s`` [s]."""

    target: str
    source: str
    wait_s: float = 0.2


Queued = Sync | Window | Hold | Static
Input = Queued | Transform


@dataclass(frozen=True)
class Every:
    """Triggers on the grid k/``hz`` in the stamps of the input named ``by``: fires when it shows a stamp >= tick.

    Of several ticks passed at once only the newest fires; the rest are counted as skipped.
    """

    hz: float
    by: str


@dataclass(frozen=True)
class Timer:
    """Triggers on the grid k/``hz`` of the arrival clock, also when nothing arrives: for watchdogs."""

    hz: float


Trigger = Every | Timer


@dataclass(frozen=True)
class Out:
    """An output: value type and topic; ``~/`` begins a private topic (debugging aids).

    ``kind="result"`` is published reliably, ``kind="sensor"`` (the default for images and clouds) best
    effort, so that a slow viewer cannot hold the robot up.
    """

    type: type[Value]
    topic: str
    kind: Literal["result", "sensor"] = "result"


@dataclass(frozen=True)
class Wiring:
    """What a component listens to under its present parameters."""

    inputs: Mapping[str, Input]
    trigger: Trigger | None = None

    def __post_init__(self) -> None:
        synced = [name for name, policy in self.inputs.items() if isinstance(policy, Sync)]
        if self.trigger is None and not synced:
            raise TypeError("nothing triggers a step: declare a Sync input, or trigger = Every(...) or Timer(...)")
        if self.trigger is not None and synced:
            raise TypeError(f"two triggers: {self.trigger} and the Sync inputs {synced}; keep one of them")
        if isinstance(self.trigger, Every) and not isinstance(self.inputs.get(self.trigger.by), Window | Hold):
            raise TypeError(f"Every(by={self.trigger.by!r}) names no Window or Hold among {list(self.inputs)}")


@dataclass(frozen=True)
class NoParams:
    """Parameters of a component that has none."""


Outputs = Mapping[str, Value | None]


@dataclass
class Component:
    """Base of every component.

    A subclass declares ``inputs``, ``outputs``, ``Params`` and writes ``step(now_ns, **inputs)``, which
    returns a mapping from output names to values (absent or None: nothing is published). ``now_ns`` is the
    trigger's stamp. ``step`` starts no thread, reads no clock and draws no global random number.

    ``backlog``: what happens to steps that became ready while one was running: ``"all"`` are run in order
    (estimators), or only the ``"latest"`` (perception). ``stateless = True`` lets a host skip the step while
    nobody listens to any output.
    """

    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[Mapping[str, Out]] = {}
    trigger: ClassVar[Trigger | None] = None
    Params: ClassVar[type] = NoParams
    backlog: ClassVar[Literal["all", "latest"]] = "all"
    stateless: ClassVar[bool] = False

    params: Any = None
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        if self.params is None:
            self.params = self.Params()
        parameters.validate(self.params, self.kind())

    @classmethod
    def kind(cls) -> str:
        """The component's name: its class name in snake case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def wiring(self) -> Wiring:
        """Inputs and trigger; override where parameters decide them (a slop, an optional sensor)."""
        return Wiring(self.inputs, self.trigger)

    def configure(self) -> None:
        """Load weights and warm up; called once before the first step."""

    def step(self, now_ns: int, **inputs: Any) -> Outputs:
        """One step; see the class."""
        raise TypeError(f"{type(self).__name__} declares no step(now_ns, ...)")

    def reset(self) -> None:
        """The clock jumped, the bag looped, the episode ended: forget what was seen."""

    def set_params(self, params: Any) -> None:
        """Swap the parameters between two steps (fields marked live); override to react."""
        parameters.validate(params, self.kind())
        self.params = params
