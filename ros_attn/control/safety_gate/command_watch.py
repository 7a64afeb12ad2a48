"""The robot's own side of the gate: a driver or simulator damps when its last command is too old."""

from __future__ import annotations

from dataclasses import dataclass, field

from ros_attn.control.safety_gate.contract import JointContract
from ros_attn.grid import to_ns
from ros_attn.values import JointState


@dataclass
class CommandWatch:
    """Keeps the last joint command, and damps where none is fresh: the gate died, hangs or never began.

    A command counts for ``timeout_s`` [s] after its stamp or its arrival, whichever is earlier. It does not count while
    its stamp lies further than that ahead of the clock, or while the clock is back behind its arrival.
    """

    contract: JointContract
    timeout_s: float = 0.06
    _last: JointState | None = field(init=False, default=None)
    _arrival_ns: int = field(init=False, default=0)

    def accept(self, command: JointState, now_ns: int) -> None:
        """A command arrived."""
        self._last, self._arrival_ns = command, now_ns

    def active(self, now_ns: int) -> JointState:
        """The command that moves the joints now: the last one, or damping where it is too old."""
        last = self._last
        if last is None:
            return self.contract.damping(now_ns)
        timeout_ns = to_ns(self.timeout_s)
        fresh = 0 <= now_ns - self._arrival_ns <= timeout_ns and abs(now_ns - last.stamp_ns) <= timeout_ns
        return last if fresh else self.contract.damping(now_ns)
