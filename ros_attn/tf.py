"""A TF buffer without ROS: transforms in, ``T_target_source`` at a stamp out.

:class:`TransformBuffer` gives what ``tf2::BufferCore`` gives for a stamp other than zero. A lookup
interpolates and never extrapolates, so what arrives after the enclosing samples cannot change it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ros_attn.errors import TransformError, listed, meant
from ros_attn.geometry import Float
from ros_attn.values import Transform, Transforms

# As tf2: a quaternion whose squared length is further than this from 1 is refused.
_NORM_TOLERANCE = 0.01

# A pose as x y z qx qy qz qw in plain floats: numpy's cost per small array is ten times that of the sums, and
# a lookup sits in the path of every message that needs a transform.
_Pose = tuple[float, float, float, float, float, float, float]
_IDENTITY: _Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0)


def _compose(a: _Pose, b: _Pose) -> _Pose:
    """``T_a_b T_b_c``."""
    ax, ay, az, ai, aj, ak, aw = a
    bx, by, bz, bi, bj, bk, bw = b
    cx, cy, cz = 2 * (aj * bz - ak * by), 2 * (ak * bx - ai * bz), 2 * (ai * by - aj * bx)
    return (
        ax + bx + aw * cx + aj * cz - ak * cy,
        ay + by + aw * cy + ak * cx - ai * cz,
        az + bz + aw * cz + ai * cy - aj * cx,
        aw * bi + ai * bw + aj * bk - ak * bj,
        aw * bj + aj * bw + ak * bi - ai * bk,
        aw * bk + ak * bw + ai * bj - aj * bi,
        aw * bw - ai * bi - aj * bj - ak * bk,
    )


def _invert(a: _Pose) -> _Pose:
    x, y, z, i, j, k, w = a
    return _compose((0.0, 0.0, 0.0, -i, -j, -k, w), (-x, -y, -z, 0.0, 0.0, 0.0, 1.0))


def _interpolate(a: _Pose, b: _Pose, ratio: float) -> _Pose:
    """Linear in translation; :func:`ros_attn.geometry.slerp` in rotation."""
    ax, ay, az, ai, aj, ak, aw = a
    bx, by, bz, bi, bj, bk, bw = b
    if ai * bi + aj * bj + ak * bk + aw * bw < 0:
        bi, bj, bk, bw = -bi, -bj, -bk, -bw
    angle = 2 * math.atan2(
        math.hypot(ai - bi, aj - bj, ak - bk, aw - bw), math.hypot(ai + bi, aj + bj, ak + bk, aw + bw)
    )
    sine = math.sin(angle)
    u, v = 1 - ratio, ratio
    p, q = (math.sin(u * angle) / sine, math.sin(v * angle) / sine) if sine else (u, v)
    return (
        u * ax + v * bx,
        u * ay + v * by,
        u * az + v * bz,
        p * ai + q * bi,
        p * aj + q * bj,
        p * ak + q * bk,
        p * aw + q * bw,
    )


def _matrix(pose: _Pose) -> Float:
    x, y, z, i, j, k, w = pose
    i2, j2, k2 = i + i, j + j, k + k
    ii, jj, kk, ij, ik, jk = i * i2, j * j2, k * k2, i * j2, i * k2, j * k2
    wi, wj, wk = w * i2, w * j2, w * k2
    return np.array(
        (
            (1 - jj - kk, ij - wk, ik + wj, x),
            (ij + wk, 1 - ii - kk, jk - wi, y),
            (ik - wj, jk + wi, 1 - ii - jj, z),
            (0.0, 0.0, 0.0, 1.0),
        )
    )


@dataclass(slots=True)
class _Static:
    newest_parent: str
    pose: _Pose

    def parent(self, stamp_ns: int) -> str:
        return self.newest_parent

    def at(self, stamp_ns: int) -> tuple[str, _Pose]:
        return self.newest_parent, self.pose


@dataclass(slots=True)
class _Dynamic:
    """Samples ``(parent, T_parent_child)`` of one child frame in order of stamp, never none."""

    stamps: list[int]
    samples: list[tuple[str, _Pose]]

    @property
    def newest_parent(self) -> str:
        return self.samples[-1][0]

    def parent(self, stamp_ns: int) -> str | None:
        """The parent at a stamp, or None where that would be an extrapolation."""
        stamps = self.stamps
        if not stamps[0] <= stamp_ns <= stamps[-1]:
            return None
        return self.samples[bisect_right(stamps, stamp_ns) - 1][0]

    def at(self, stamp_ns: int) -> tuple[str, _Pose]:
        """The parent and the pose at a stamp between the oldest and the newest."""
        older = bisect_right(self.stamps, stamp_ns) - 1
        parent, pose = self.samples[older]
        start = self.stamps[older]
        if start == stamp_ns or parent != self.samples[older + 1][0]:
            return parent, pose
        ratio = (stamp_ns - start) / (self.stamps[older + 1] - start)
        return parent, _interpolate(pose, self.samples[older + 1][1], ratio)

    def insert(self, stamp_ns: int, parent: str, pose: _Pose, cache_ns: int) -> None:
        at = bisect_left(self.stamps, stamp_ns)
        if at < len(self.stamps) and self.stamps[at] == stamp_ns:
            self.samples[at] = parent, pose
            return
        self.stamps.insert(at, stamp_ns)
        self.samples.insert(at, (parent, pose))
        if oldest := bisect_left(self.stamps, self.stamps[-1] - cache_ns):
            del self.stamps[:oldest], self.samples[:oldest]


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns / 1e9:.3f}".rstrip("0").rstrip(".") + " s"


def _frame(frame_id: str) -> str:
    return frame_id.lstrip("/")


def _gap(child: str, link: _Static | _Dynamic, stamp_ns: int) -> tuple[int, str] | None:
    """By how many ns a link misses the stamp, and the sentence; None where it does not."""
    if isinstance(link, _Static) or link.parent(stamp_ns) is not None:
        return None
    first, last = link.stamps[0], link.stamps[-1]
    missing, side = (first - stamp_ns, "early") if stamp_ns < first else (stamp_ns - last, "late")
    known = f"only at {_seconds(first)}" if first == last else f"from {_seconds(first)} to {_seconds(last)}"
    by = f"{missing / 1e6:.4g} ms" if missing < 10**10 else _seconds(missing)
    return missing, (f"{child}<-{link.newest_parent} is known {known}, asked for {_seconds(stamp_ns)}: {by} too {side}")


class TransformBuffer:
    """The transforms of one robot, by child frame, kept ``cache_s`` back from each link's newest stamp.

    What is kept is a function of the transforms added, in order, so two hosts that add the same ones answer
    alike. Semantics are tf2's (geometry2, ``buffer_core.cpp`` and ``cache.cpp``):

    - each sample names its parent, and from its stamp on that parent holds; between two samples with
      different parents the older one holds, un-interpolated;
    - a link that comes as static after dynamic, or the reverse, is what came last;
    - frame ids lose leading slashes (ROS 1); a transform from a frame to itself, with an empty frame id, a
      number that is not finite, or a quaternion of ``| |q|^2 - 1 | > 0.01`` is refused.

    Deviations: a stamp of 0 is a stamp, not "the newest"; infinities are refused like NaN; the same stamp
    twice keeps the newer arrival only; quaternions are normalised; a loop is named instead of walked 1000
    deep. Nothing is refused silently: :meth:`problems` has a sentence for each kind.
    """

    def __init__(self, cache_s: float = 10.0) -> None:
        self._cache_ns = round(cache_s * 1e9)
        self._links: dict[str, _Static | _Dynamic] = {}
        self._frames: set[str] = set()
        self._refused: Counter[str] = Counter()
        self._contradictions: Counter[str] = Counter()

    def add(self, transform: Transform, static: bool = False) -> bool:
        """Keep ``T_frame_child`` at its stamp (at every stamp if static); False where it is refused."""
        parent, child = _frame(transform.frame_id), _frame(transform.child_frame_id)
        link = self._links.get(child)
        moving = link if isinstance(link, _Dynamic) and not static else None
        pose = _checked(transform, parent, child)
        if moving and transform.stamp_ns < moving.stamps[-1] - self._cache_ns:
            pose = f"it is over {self._cache_ns / 1e9:g} s older than the link's newest"
        if isinstance(pose, str):
            self._refused[f"{child or '(no name)'}<-{parent or '(no name)'}: {pose}"] += 1
            return False
        self._frames.update((parent, child))
        if link is not None:
            self._note_contradictions(child, link, parent, static)
        if static:
            self._links[child] = _Static(parent, pose)
        elif moving:
            moving.insert(transform.stamp_ns, parent, pose, self._cache_ns)
        else:
            self._links[child] = _Dynamic([transform.stamp_ns], [(parent, pose)])
        return True

    def add_all(self, transforms: Transforms, static: bool = False) -> int:
        """Add each transform of a TFMessage; the number kept."""
        return sum(self.add(transform, static) for transform in transforms.transforms)

    def lookup(self, target: str, source: str, stamp_ns: int) -> Float:
        """``T_target_source`` ``[4, 4]`` [m]: maps coordinates in ``source`` to ``target`` at ``stamp_ns``.

        Each dynamic link is interpolated between the samples that enclose the stamp (linear, slerp). A known
        frame to itself is the identity at any stamp.

        Raises:
            TransformError: a frame that no transform names, two frames in different trees, a loop, or a link
                that is not known on both sides of the stamp; the sentence names frames and times.
        """
        target, source = _frame(target), _frame(source)
        top = self._common(target, source, stamp_ns)
        if top is None:
            raise TransformError(self._why_not(target, source, stamp_ns))
        pose = self._climb(source, top, stamp_ns)
        if top != target:
            pose = _compose(_invert(self._climb(target, top, stamp_ns)), pose)
        return _matrix(pose)

    def ready(self, target: str, source: str, stamp_ns: int) -> bool:
        """Whether :meth:`lookup` would succeed now."""
        return self._common(_frame(target), _frame(source), stamp_ns) is not None

    def clear_dynamic(self) -> None:
        """Forget the dynamic links, and with them the frames that only they name; static ones stay."""
        self._links = {child: link for child, link in self._links.items() if isinstance(link, _Static)}
        self._frames = {frame for child, link in self._links.items() for frame in (child, link.newest_parent)}

    def frames(self) -> list[str]:
        """Every frame that a transform named, sorted."""
        return sorted(self._frames)

    def problems(self) -> list[str]:
        """A sentence, with a count, for each kind of transform that was refused or contradicts another."""
        refused = [f"{text} ({count} refused)" for text, count in self._refused.items()]
        return sorted(refused + [f"{text} ({count} times)" for text, count in self._contradictions.items()])

    def describe(self, now_ns: int | None = None) -> str:
        """The newest tree as ASCII text: each link's kind, rate and age.

        The age is against ``now_ns``, without it against the newest stamp of all.
        """
        stamps = [link.stamps[-1] for link in self._links.values() if isinstance(link, _Dynamic)]
        now = max(stamps, default=0) if now_ns is None else now_ns
        children: dict[str, list[str]] = {}
        for child in sorted(self._links):
            children.setdefault(self._links[child].newest_parent, []).append(child)
        rows: list[tuple[str, str]] = []
        for root in sorted(set(children) - set(self._links)):
            rows += [(root, ""), *self._branch(root, children, "", now)]
        width = max((len(name) for name, _ in rows), default=0)
        lines = [f"{name:<{width}}  {note}".rstrip() for name, note in rows]
        if looped := [child for child in sorted(self._links) if self._loops(self._ancestry(child))]:
            lines.append(f"in a loop or below one: {listed(looped)}")
        return "\n".join(lines) or "no transforms"

    def _branch(
        self, parent: str, children: dict[str, list[str]], indent: str, now_ns: int
    ) -> Iterator[tuple[str, str]]:
        below = children.get(parent, [])
        for child in below:
            last = child == below[-1]
            yield f"{indent}{'`-- ' if last else '|-- '}{child}", self._note(child, now_ns)
            yield from self._branch(child, children, indent + ("    " if last else "|   "), now_ns)

    def _note(self, child: str, now_ns: int) -> str:
        link = self._links[child]
        if isinstance(link, _Static):
            return "static"
        span_ns, count = link.stamps[-1] - link.stamps[0], len(link.stamps)
        rate = f"{(count - 1) * 1e9 / span_ns:.1f} Hz" if span_ns else "1 sample"
        return f"dynamic  {rate}  age {(now_ns - link.stamps[-1]) / 1e9:.3f} s"

    def _note_contradictions(self, child: str, link: _Static | _Dynamic, parent: str, static: bool) -> None:
        if isinstance(link, _Static) != static:
            self._contradictions[f"{child}: comes both static and dynamic, the last one counts"] += 1
        if link.newest_parent != parent:
            names = " and ".join(sorted((link.newest_parent, parent)))
            self._contradictions[f"{child}: its parent changes between {names}, the newer one counts"] += 1

    def _parent(self, frame: str, stamp_ns: int) -> str | None:
        link = self._links.get(frame)
        return None if link is None else link.parent(stamp_ns)

    def _common(self, target: str, source: str, stamp_ns: int) -> str | None:
        """The lowest frame above both at the stamp, or None where there is no way."""
        if target == source:
            return target if target in self._frames else None
        above: set[str] = set()
        frame: str | None = source
        while frame is not None and frame not in above:
            if frame == target:
                return target
            above.add(frame)
            frame = self._parent(frame, stamp_ns)
        walked: set[str] = set()
        frame = target
        while frame is not None and frame not in walked:
            if frame in above:
                return frame
            walked.add(frame)
            frame = self._parent(frame, stamp_ns)
        return None

    def _climb(self, frame: str, top: str, stamp_ns: int) -> _Pose:
        """``T_top_frame``, ``top`` being at or above ``frame`` at the stamp."""
        pose = _IDENTITY
        while frame != top:
            frame, step = self._links[frame].at(stamp_ns)
            pose = _compose(step, pose)
        return pose

    def _ancestry(self, frame: str) -> list[str]:
        """The frame and its parents by their newest samples, up to the root or the first repetition."""
        chain = [frame]
        while (link := self._links.get(chain[-1])) is not None and not self._loops(chain):
            chain.append(link.newest_parent)
        return chain

    @staticmethod
    def _loops(chain: list[str]) -> bool:
        return chain[-1] in chain[:-1]

    def _why_not(self, target: str, source: str, stamp_ns: int) -> str:
        wanted = f"no transform from {source!r} to {target!r}"
        for frame in (target, source):
            if frame not in self._frames:
                known = f"known are {listed(self.frames())}" if self._frames else "no transform came at all"
                return f"{wanted}: frame {frame!r} is unknown{meant(frame, self._frames)}; {known}"
        chains = self._ancestry(source), self._ancestry(target)
        for chain in chains:
            if self._loops(chain):
                loop = chain[chain.index(chain[-1]) :]
                return f"{wanted}: {' -> '.join(loop)} is a loop; one of these frames has a wrong parent"
        shared = set(chains[0]) & set(chains[1])
        if not shared:
            return (
                f"{wanted}: they are in two trees, with the roots {chains[0][-1]!r} and {chains[1][-1]!r}; "
                "a transform between those is missing"
            )
        path = [frame for chain in chains for frame in chain if frame not in shared]
        gaps = [gap for frame in path if (gap := _gap(frame, self._links[frame], stamp_ns))]
        if not gaps:
            return f"{wanted}: at {_seconds(stamp_ns)} a frame between them had another parent than now"
        more = f", and so are {len(gaps) - 1} more links" if len(gaps) > 1 else ""
        return f"{wanted}: {max(gaps)[1]}{more}"


def _checked(transform: Transform, parent: str, child: str) -> _Pose | str:
    """What is kept of a transform, or why nothing is."""
    if not parent or not child:
        return "a frame id is empty"
    if parent == child:
        return "a frame cannot be its own parent"
    x, y, z = np.asarray(transform.translation, dtype=np.float64).tolist()
    i, j, k, w = np.asarray(transform.rotation, dtype=np.float64).tolist()
    if not all(map(math.isfinite, (x, y, z, i, j, k, w))):
        return "a number in it is not finite"
    squared = i * i + j * j + k * k + w * w
    if squared == 0:
        return "its rotation is a zero quaternion; no rotation is x=0 y=0 z=0 w=1"
    if abs(squared - 1) > _NORM_TOLERANCE:
        return "its rotation is not a unit quaternion"
    norm = math.sqrt(squared)
    return x, y, z, i / norm, j / norm, k / norm, w / norm
