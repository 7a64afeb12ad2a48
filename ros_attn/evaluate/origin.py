"""Where a run comes from, as the report shows it: parameters, and who made it when, where and with what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ros_attn import params as parameters
from ros_attn import registry
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.evaluation import Evaluation
from ros_attn.evaluate.sentences import Evaluated
from ros_attn.provenance import provenance


def parameters_of(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The parameters of every stage, those that are not at their default apart."""
    run, found = evaluation.run, []
    for stage, values in run.params.items():
        declared = _declared(run.summary["settings"]["spec"].get(stage, ""))
        rows = []
        for name, value in values.items():
            field = declared.get(name)
            default = None if field is None else field.default
            changed = field is not None and (tuple(value) if isinstance(value, list) else value) != default
            row = {"name": name, "text": parameters.yaml_scalar(value), "doc": field.doc if field else ""}
            rows.append(row | {"changed": changed, "default": parameters.yaml_scalar(default) if field else ""})
        # Where the component is not known its defaults are not either, and every value is shown.
        open_ones = [row for row in rows if row["changed"] or not declared]
        found.append({"stage": stage, "changed": open_ones, "defaults": [row for row in rows if row not in open_ones]})
    return found


def _declared(component: str) -> Mapping[str, parameters.Field]:
    """What the parameters mean; nothing where the component is not found on this machine."""
    try:
        return parameters.fields_of(registry.find(component).Params)
    except RosAttnError:
        return {}


def provenance_of(item: Evaluated) -> list[tuple[str, str]]:
    """Run, bag, machines, dates and commits, as rows of label and text."""
    evaluation = item.evaluation
    summary, settings, now = evaluation.run.summary, evaluation.run.summary["settings"], provenance()
    was = summary["provenance"]
    rows = [
        ("run", str(evaluation.run.path.resolve())),
        ("bag", str(evaluation.bag)),
        ("mode", summary["mode"] + ("" if summary["reproducible"] else " (not reproducible: measured latencies)")),
        ("run made", f"{was['date']} by version {was['version']}, commit {was['commit'] or 'unknown'}"),
        ("on", f"{was['machine']}, Python {was['python']}"),
        ("evaluated", f"{now['date']} by version {now['version']}, commit {now['commit'] or 'unknown'}"),
        ("on", f"{now['machine']}, Python {now['python']}"),
        ("seed of the intervals", str(evaluation.seed)),
    ]
    if item.comparison:
        other = item.comparison.against.run
        theirs = other.summary["provenance"]
        words = f"{theirs['date']} by version {theirs['version']}, commit {theirs['commit'] or 'unknown'}"
        rows.insert(4, ("compared with", f"{other.path.resolve()}, made {words} on {theirs['machine']}"))
    given = [f"{key} {settings[key]:g}" for key in ("start", "duration") if settings[key]]
    given += [f"remap {rule}" for rule in settings["remap"]] + [f"input {rule}" for rule in settings["input"]]
    return [*rows, ("replayed with", ", ".join(given))] if given else rows
