"""The tables of docs/quadruped.md, from what the benchmarks of walking, faults and speed wrote."""

from __future__ import annotations

import json
from typing import Any

from tests.bench.weather_tables import RESULTS, _table


def _load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _rate(rate: list[float]) -> str:
    return f"{rate[0]:.1%} ({rate[1]:.1%} to {rate[2]:.1%})"


def quadruped_walk() -> str:
    """Each training seed's walker: commands, standing, pushes, torque."""
    results = _load("quadruped_walk")
    policies = results["policies"]

    def row(name: str, cell: Any) -> tuple[str, ...]:
        return (name, *(cell(each) for each in policies.values()))

    rows = [
        row("falls, 20 s of commands", lambda p: _rate(p["falls"])),
        row("error forward, left, settled, m/s", lambda p: "{:.3f}, {:.3f}".format(*p["error_settled"][:2])),
        row("error turn, settled, rad/s", lambda p: f"{p['error_settled'][2]:.3f}"),
        row(
            "errors from the instant of a new command on",
            lambda p: "{:.3f}, {:.3f} m/s, {:.3f} rad/s".format(*p["error_at_once"]),
        ),
        row("asked for 1 m/s ahead: mean, worst", lambda p: "{speed:.3f}, {worst:.3f}".format(**p["straight"])),
        row("standing 10 s, drift: median, 95 %", lambda p: "{:.1f} cm, {:.1f} cm".format(
            100 * p["standing"]["drift_median_m"], 100 * p["standing"]["drift_95_m"])),
        row("standing without lifting a foot", lambda p: _rate(p["standing"]["without_lifting_a_foot"])),
        row("pushes of 0.5 m/s survived", lambda p: _rate(p["pushes_survived"])),
        row("busiest joint: RMS torque over its continuous one", lambda p: f"{p['torque_share_of_continuous']:.2f}"),
    ]  # fmt: skip
    return _table(("", *policies), rows, results)


def quadruped_walk_curve() -> str:
    """How the training went, mean and range of the seeds."""
    results = _load("quadruped_walk_curves")
    curves = list(results["curves"].values())
    rows = []
    for step in range(min(len(curve) for curve in curves)):
        at = [curve[step] for curve in curves]

        def cell(name: str, at: list[dict[str, Any]] = at) -> str:
            values = [each.get(name, 0.0) for each in at]
            return f"{sum(values) / len(values):.2f} ({min(values):.2f} to {max(values):.2f})"

        cells = [cell(name) for name in ("commands", "pace", "velocity", "turn", "standing", "falls a minute")]
        rows.append((f"{at[0]['steps'] / 1e6:.1f} M", f"{max(each['seconds'] for each in at) / 60:.0f} min", *cells))
    head = ("control steps", "wall time", "share of commands", "pace (of 1.2)", "velocity (of 1.2)", "turn (of 1)",
            "standing (of 0.5)", "falls a minute")  # fmt: skip
    return _table(head, rows, results)


def quadruped_paired() -> str:
    """The same starts in each host."""
    results = _load("quadruped_paired")
    rows = [
        (name, str(host["starts"]), _rate(host["success"]), "{:+.1f} ({:+.1f} to {:+.1f})".format(*host["difference"]),
         str(host["unlike"]))
        for name, host in results["hosts"].items()
    ]  # fmt: skip
    return _table(("host", "starts", "success", "difference to training, points", "pairs unlike"), rows, results)


def quadruped_faults() -> str:
    """Reactions in the closed loop."""
    results = _load("quadruped_faults")
    rows = []
    for name, row in results["rows"].items():
        reaction = row["reaction_ms"]
        cell = "" if reaction is None else "{:g} ({:g} to {:g})".format(*reaction)
        rows.append((name, row["must"], row["count"], cell))
    return _table(("fault", "must", "did", "reaction after the threshold, ms"), rows, results)


def simulation_speed() -> str:
    """Stepping and training, control steps a second."""
    results = _load("simulation_speed")

    def cell(each: dict[str, float]) -> str:
        return f"{each['median']:,} ({each['low']:,} to {each['high']:,})"

    rates, ratios, best = results["rates"], results["ratios"], results["fastest_async"]
    rows = [
        (f"MuJoCo's batch, {results['robots']} varied robots on {results['boxes']} boxes each", cell(rates["batch"])),
        (f"Gymnasium's AsyncVectorEnv, {best.removeprefix('async ')} processes, the same models", cell(rates[best])),
        ("training of the walk, end to end", cell(rates["training"])),
        ("batch over AsyncVectorEnv", cell(ratios["batch over async"])),
        ("training over batch", cell(ratios["training over batch"])),
    ]
    return _table(("what", "control steps/s: median (range)"), rows, results)


def quadruped_stairs() -> str:
    """Success by slope of every policy tried."""
    results = _load("quadruped_stairs")
    rows = []
    for name, policy in results["policies"].items():
        for key, row in policy["rows"].items():
            ends = ", ".join(f"{end} {count}" for end, count in row["ends"].items() if count and end != "succeeded")
            rows.append((name, key, _rate(row["success"]), f"{row['treads']:.1f}", ends))
    return _table(("policy", "stairs", "success", "treads reached of 12", "ended otherwise"), rows, results)
