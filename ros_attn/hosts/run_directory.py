"""What a replay leaves behind: outputs as a bag, metrics.jsonl, summary.json, params.yaml, a ``latest`` link."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ros_attn import params as parameters
from ros_attn.bag import BagWriter
from ros_attn.component import Static
from ros_attn.errors import BagError, RosAttnError
from ros_attn.graph import Stage
from ros_attn.hosts.replay import Replay, StepRecord
from ros_attn.provenance import provenance

CTRL_C = "Ctrl-C"


def new_run_path(parent: Path, name: str) -> Path:
    """``parent/<UTC time>_<name>``, with a number behind it where two runs begin in one second."""
    stem = datetime.now(UTC).strftime("%Y%m%d-%H%M%S") + "_" + name
    path = parent / stem
    number = 2
    while path.exists():
        path = parent / f"{stem}_{number}"
        number += 1
    return path


class RunDirectory:
    """Writes one run; a run that is cut short by an exception is still readable and says so."""

    def __init__(self, path: Path, replay: Replay, settings: dict[str, Any]) -> None:
        if path.exists():
            raise BagError(f"{path} exists already and is not overwritten; choose another --out or remove it.")
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise RosAttnError(f"{path} cannot be made: {error.strerror}; choose another --out.") from None
        self.path = path
        self.replay = replay
        self.settings = settings
        self.written = {stage.name: dict.fromkeys(stage.component.outputs, 0) for stage in replay.graph.stages}
        self._write_params()
        self._metrics = (path / "metrics.jsonl").open("w")
        self._bag = BagWriter(path / "outputs")

    def _write_params(self) -> None:
        lines = []
        for stage in self.replay.graph.stages:
            lines += [f"{stage.name}:", "  ros__parameters:"]
            values = parameters.as_dict(stage.component.params)
            lines += [f"    {name}: {parameters.yaml_scalar(value)}" for name, value in values.items()] or ["    {}"]
        (self.path / "params.yaml").write_text("\n".join(lines) + "\n")

    def add(self, record: StepRecord) -> None:
        """Write one step's outputs and its line of metrics."""
        topics = record.stage.output_topics()
        for name, value in record.outputs.items():
            if value is not None:
                self._bag.write(topics[name], value, record.end_ns)
                self.written[record.stage.name][name] += 1
        line: dict[str, Any] = {
            "stage": record.stage.name,
            "now_ns": record.now_ns,
            "ready_ns": record.ready_ns,
            "start_ns": record.start_ns,
            "end_ns": record.end_ns,
            "step_ms": round(1e3 * record.seconds, 4),
            "outputs": [name for name, value in record.outputs.items() if value is not None],
        }
        if record.conditions:
            line["conditions"] = dict(record.conditions)
        if record.figures:
            line["figures"] = dict(record.figures)
        if record.failure:
            line["failure"] = record.failure
        self._metrics.write(json.dumps(line) + "\n")

    def finish(self, wall_s: float, interrupted: str = "") -> dict[str, Any]:
        """Close the bag, write summary.json beside it, and move the ``latest`` link; returns the summary."""
        self._metrics.close()
        self._bag.close()
        summary = self._summary(wall_s, interrupted)
        partial = self.path / "summary.json.partial"
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        partial.rename(self.path / "summary.json")
        if interrupted in ("", CTRL_C):
            self._link_latest()
        return summary

    def _link_latest(self) -> None:
        link = self.path.parent / "latest"
        if link.is_symlink() or not link.exists():
            fresh = self.path.parent / f".latest.{os.getpid()}"
            fresh.symlink_to(self.path.name)
            fresh.rename(link)

    def _summary(self, wall_s: float, interrupted: str) -> dict[str, Any]:
        replay = self.replay
        bag_s = max(0.0, (replay.last_ns - replay.first_ns) * 1e-9)
        return {
            "bag": str(Path(replay.bag.path).resolve()),
            "mode": replay.mode,
            "reproducible": replay.reproducible,
            "interrupted": interrupted,
            "settings": self.settings,
            "wall_s": round(wall_s, 3),
            "bag_s": round(bag_s, 3),
            "undecodable": {topic: {"count": n, "first": text} for topic, (n, text) in replay.undecodable.items()},
            "stages": {each.stage.name: self._stage(each.stage, each.runtime, each.inputs) for each in replay.hosted},
            "provenance": provenance(),
        }

    def _stage(self, stage: Stage, runtime: Any, inputs: Any) -> dict[str, Any]:
        topics = stage.output_topics()
        return {
            "component": stage.component.kind(),
            "inputs": {
                name: {"topic": inputs[name], **queue.counters.as_dict(), "static": isinstance(queue.policy, Static)}
                for name, queue in runtime.queues.items()
            },
            "outputs": {name: {"topic": topics[name], "count": n} for name, n in self.written[stage.name].items()},
            "runs": runtime.counters.as_dict(),
            "step_ms": runtime.times.quantiles_ms(),
            "sentences": runtime.sentences(),
        }
