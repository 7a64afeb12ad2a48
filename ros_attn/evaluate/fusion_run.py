"""Scores of the fused pictures of a run, each against the two images its step was given."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

from ros_attn.bag import BagReader
from ros_attn.codecs import to_grey
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.flicker import flicker
from ros_attn.evaluate.fusion_metrics import measure
from ros_attn.evaluate.grey import Grey8, to_grey8
from ros_attn.evaluate.playback import PlayedStep, play
from ros_attn.evaluate.recorded_run import RecordedRun, StepLine
from ros_attn.grid import to_ns
from ros_attn.values import Array, Image, Text

Baseline = Literal["max", "average"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
RUN = "run"

PIXEL_BUDGET = 100 * 640 * 480
"""Pixels scored without being asked for more: 100 VGA frames, or fewer larger ones."""
LEAST_FRAMES, MOST_FRAMES = 12, 1000

# The topic on which `ros-attn convert` writes the name of each image pair, with the pair's stamp as arrival.
PAIR_NAME = "/pair_name"
_OUTPUT = "fused"


class UnknownSourcesError(RosAttnError):
    """A component that gives fused pictures but cannot say what it fused."""


@runtime_checkable
class AlignsInfrared(Protocol):
    """What a fusion component offers to be scored: the infrared image as its step uses it.

    Called once a step, in order, with the arguments of the step. Gives grey levels 0..255 in visible pixels and
    their coverage in [0, 1] (None: everywhere), ``[H, W]`` each; None where infrared is missing.
    """

    def aligned_infrared(self, now_ns: int, **inputs: Any) -> tuple[Array, Array | None] | None: ...


@dataclass(frozen=True, eq=False)
class FusionFrame:
    """The grey images of one step, of one size: what both cameras saw and what became of it, 8 bit each."""

    infrared: Grey8
    visible: Grey8
    fused: Grey8

    def by(self, rule: str) -> Grey8:
        """The fused image of the run, or that of a baseline from the same two images."""
        if rule == RUN:
            return self.fused
        if rule == "max":
            return np.maximum(self.infrared, self.visible)
        return to_grey8((self.infrared.astype(np.float64) + self.visible) / 2.0)


@dataclass
class FrameScore:
    """One fused picture of the run: ``number`` is that of its step, ``scores`` are by run and baseline.

    ``missing``: inputs the step had to do without; such a picture has no scores, nor has one that was not chosen.
    """

    number: int
    stamp_ns: int
    t_s: float
    name: str
    missing: tuple[str, ...] = ()
    scores: dict[str, dict[str, float]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        found = {"number": self.number, "stamp_ns": self.stamp_ns, "t_s": round(self.t_s, 6)}
        found |= {"name": self.name} if self.name else {}
        found |= {"missing": list(self.missing)} if self.missing else {}
        return found | self.scores


def fusion_stage(run: RecordedRun) -> str | None:
    """The first stage that gives a fused picture from a visible and an infrared image, None without one."""
    for name, stage in run.stages.items():
        if {"visible", "infrared"} <= stage["inputs"].keys() and _OUTPUT in stage["outputs"]:
            return name
    return None


def candidates(run: RecordedRun, stage: str) -> list[int]:
    """Numbers of the steps of ``stage`` whose picture can be scored: none of its inputs was missing.

    Goes by the recorded conditions, which name a missing input; what a step was really given shows when scored.
    """
    inputs = run.stages[stage]["inputs"]
    lines = enumerate(run.lines_of(stage))
    return [number for number, line in lines if _OUTPUT in line.outputs and not inputs.keys() & line.conditions.keys()]


def picture_size(run: RecordedRun, stage: str) -> tuple[int, int]:
    """Width and height of the first fused picture; (0, 0) where there is none."""
    topic = run.stages[stage]["outputs"][_OUTPUT]["topic"]
    if not run.stages[stage]["outputs"][_OUTPUT]["count"] or not (run.path / "outputs").exists():
        return 0, 0
    with BagReader(run.path / "outputs") as bag:
        image = bag.decode(next(bag.messages([topic])))
    return (image.width, image.height) if isinstance(image, Image) else (0, 0)


def spread(
    numbers: Sequence[int], size: tuple[int, int], every: int | None = None, runs: int = 1
) -> tuple[list[int], int]:
    """Every k-th of ``numbers``, and k.

    Without ``every`` k is the smallest with which ``runs`` runs of pictures of this ``size`` (width, height) stay
    within :data:`PIXEL_BUDGET` together, which takes about a minute; 12 to 1000 pictures a run.
    """
    if every is None:
        affordable = PIXEL_BUDGET // max(size[0] * size[1] * runs, 1)
        every = -(-len(numbers) // min(max(affordable, LEAST_FRAMES), MOST_FRAMES))
    every = max(every, 1)
    return list(numbers[::every]), every


def pair_names(run: RecordedRun, bag: Path) -> dict[int, str]:
    """Names of image pairs by the stamp of the step they belong to; empty where the bag has none."""
    with BagReader(bag) as reader:
        if PAIR_NAME not in reader.topics or reader.topics[PAIR_NAME].value_type is not Text:
            return {}
        texts = [(message.arrival_ns, reader.decode(message)) for message in reader.messages([PAIR_NAME])]
    # The visible image gives a step its stamp, and the stamp may have been shifted.
    shifts = [
        rule.partition("=")[2] for rule in run.summary["settings"]["input"] if rule.startswith("visible.time_offset_s=")
    ]
    offset_ns = to_ns(float(shifts[-1])) if shifts else 0
    return {arrival_ns + offset_ns: text.data for arrival_ns, text in texts if isinstance(text, Text)}


def score(
    run: RecordedRun,
    bag: Path,
    stage: str,
    chosen: Collection[int],
    baselines: Sequence[Baseline] = BASELINES,
    names: Mapping[int, str] | None = None,
) -> list[FrameScore]:
    """A :class:`FrameScore` for every fused picture of ``stage``, with scores for those ``chosen`` by step number.

    Scores are those of :func:`.fusion_metrics.measure`, and those of :func:`.flicker.flicker` over this picture and
    the one before it where both steps had both inputs (of ``change_ratio``, the mean of such pairs is not that of
    the sequence). Images are compared where infrared covers the visible image: in the smallest rectangle that
    holds the coverage, whose uncovered corners count as seen alike by both.

    Raises :class:`RosAttnError` as :func:`.playback.play` and the metrics do, with the step.
    """
    found: list[FrameScore] = []
    wanted = set(chosen)
    needed = wanted | {number - 1 for number in wanted}
    workers = min(4, len(os.sched_getaffinity(0)))
    pending: deque[tuple[FrameScore, Future[dict[str, dict[str, float]]]]] = deque()
    before: FusionFrame | None = None
    with ThreadPoolExecutor(workers) as pool:
        for number, step in enumerate(fused_steps(run, bag, stage)):
            aligned = aligned_infrared(step)
            frame = sources(step, aligned) if number in needed else None
            if _OUTPUT not in step.line.outputs:
                before = None
                continue
            entry = _entry(run, step, number, names or {})
            found.append(entry)
            if frame is not None and number in wanted:
                pending.append((entry, pool.submit(_scores, frame, before, baselines, step.line)))
            if len(pending) > 2 * workers:
                _settle(pending)
            before = frame
        while pending:
            _settle(pending)
    return found


def fused_steps(run: RecordedRun, bag: Path, stage: str) -> Iterator[PlayedStep]:
    """The steps of one stage, played again; UnknownSourcesError where its component cannot say what it fused."""
    for step in play(run, bag):
        if step.line.stage == stage:
            if not isinstance(step.component, AlignsInfrared):
                raise UnknownSourcesError(
                    f"{step.component.kind()} has no method aligned_infrared(now_ns, **inputs) that says what its step "
                    "fuses, so its pictures are not scored; infrared_visible_fusion has it as an example."
                )
            yield step


def aligned_infrared(step: PlayedStep) -> tuple[Array, Array | None] | None:
    """What :class:`AlignsInfrared` gives for a step; to be asked of every step in order, for the gain follows it."""
    assert isinstance(step.component, AlignsInfrared)
    try:
        return step.component.aligned_infrared(step.line.now_ns, **step.inputs)
    except RosAttnError:
        if not step.line.failure:
            raise
        # The step failed there in the run as well, after its gain had seen the image.
        return None


def sources(step: PlayedStep, aligned: tuple[Array, Array | None] | None) -> FusionFrame | None:
    """The grey images of a step; None where an input was missing or the step gave no picture."""
    fused, visible = step.outputs.get(_OUTPUT), step.inputs["visible"]
    if aligned is None or not isinstance(fused, Image) or not isinstance(visible, Image):
        return None
    infrared, coverage = to_grey8(aligned[0]), aligned[1]
    luma, fused_luma = grey8(visible), grey8(fused)
    if fused_luma.shape != luma.shape:
        raise RosAttnError(
            f"{step.line.stage}: the fused picture at {step.line.now_ns} ns is {fused.width}x{fused.height} px, the "
            f"visible image {visible.width}x{visible.height}; only pictures in visible pixels can be scored."
        )
    if coverage is None:
        return FusionFrame(infrared, luma, fused_luma)
    rows, columns = (np.flatnonzero((coverage > 0).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    covered = coverage[box] > 0
    return FusionFrame(np.where(covered, infrared[box], luma[box]), luma[box], fused_luma[box])


def grey8(image: Image) -> Grey8:
    """An image as 8-bit grey; colour by BT.601 luma, 16 bits by their upper half."""
    grey = to_grey(image).data
    return grey if grey.dtype == np.uint8 else to_grey8(grey / 257.0)


def _entry(run: RecordedRun, step: PlayedStep, number: int, names: Mapping[int, str]) -> FrameScore:
    missing = tuple(name for name in ("visible", "infrared") if step.inputs[name] is None)
    now_ns = step.line.now_ns
    return FrameScore(number, now_ns, run.seconds(now_ns), names.get(now_ns, ""), missing)


def _scores(
    frame: FusionFrame, before: FusionFrame | None, baselines: Sequence[str], line: StepLine
) -> dict[str, dict[str, float]]:
    comparable = before is not None and before.fused.shape == frame.fused.shape
    found = {}
    try:
        for rule in (RUN, *baselines):
            picture = frame.by(rule)
            found[rule] = measure(frame.infrared, frame.visible, picture)
            if comparable:
                assert before is not None
                pair = [(each.infrared, each.visible, each.by(rule)) for each in (before, frame)]
                found[rule] |= flicker(pair)
    except RosAttnError as error:
        raise RosAttnError(f"The picture at {line.now_ns} ns cannot be scored: {error}") from None
    return found


def _settle(pending: deque[tuple[FrameScore, Future[dict[str, dict[str, float]]]]]) -> None:
    entry, scores = pending.popleft()
    entry.scores = scores.result()
