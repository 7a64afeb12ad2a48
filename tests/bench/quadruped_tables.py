"""The tables of docs/quadruped.md, from what the benchmarks of walking, faults and speed wrote."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.bench.weather_tables import RESULTS, _table


def _load(name: str) -> dict[str, Any]:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def _rate(rate: list[float]) -> str:
    share, low, high = (abs(each) for each in rate)
    return f"{share:.1%} ({low:.1%} to {high:.1%})"


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
    """Reactions in the closed loop, and in real time over DDS beside a load."""
    closed, live = _load("quadruped_faults"), _load("quadruped_faults_live")

    def reaction(row: dict[str, Any], key: str) -> str:
        return "{:.3g} ({:.3g} to {:.3g})".format(*row[key]) if row.get(key) else ""

    rows = []
    for name, row in live["rows"].items():
        own = closed["rows"].get(name, {})
        said = row["said_count"]
        rows.append((name, row["must"], own.get("count", ""), reaction(own, "reaction_ms"), row["count"],
                     reaction(row, "stamp_ms"), reaction(row, "arrival_ms"), said))  # fmt: skip
    total = live["all_that_must_damp"]
    rows.append(("all that must damp", "", "", "", total["count"], reaction(total, "stamp_ms"),
                 reaction(total, "arrival_ms"), total["said_count"]))  # fmt: skip
    head = ("fault", "must", "closed loop", "reaction, ms", "over DDS", "by stamps, ms", "on arrival, ms",
            "log says why, once")  # fmt: skip
    table, _, origin = _table(head, rows, closed).rpartition("\n")
    _, _, live_origin = _table(head, rows, live).rpartition("\n")
    ordinary, loads, relay = live["ordinary_priority"], sorted(live["load_average"]), live["relay_ms"]
    beside = (
        f"Over DDS: {live['busy_processes']} busy processes on {live['cores']} cores and what else ran, load average "
        f"{loads[0]:.1f} to {loads[-1]:.1f}; the relay's own delay, in the figures, is {relay['p50']:.1f} ms "
        f"(99 %: {relay['p99']:.1f} ms, worst {relay['worst']:.0f} ms). Begun anew, since joints were damped before "
        f"the fault: {sum(live['walks_begun_anew'].values())} walks; without real-time priorities the gate damped "
        f"{ordinary['damped']} of {ordinary['walks']} walks by itself."
    )
    return f"{table}\n{beside}\n\nClosed loop: {origin} Over DDS: {live_origin}"


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


def _stairs_rows(results: dict[str, Any], noise: str = "1", width: str = "1") -> dict[str, dict[str, dict[str, Any]]]:
    """Rows of each policy by slope, of one size of the depth noise and one width of the treads."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, policy in results["policies"].items():
        for conditions, row in policy["rows"].items():
            slope, of_noise, of_width = _CONDITIONS.findall(conditions)
            if (of_noise, of_width) == (noise, width):
                found.setdefault(name, {})[slope] = row
    return found


_CONDITIONS = re.compile(r"[\d.]+")


def _of_students(results: dict[str, Any], which: int) -> list[str]:
    """The noises (1) or widths (2) that students were tried with, in ascending order."""
    return sorted(
        {_CONDITIONS.findall(conditions)[which] for each in results["policies"].values() if each["kind"] == "student"
         for conditions in each["rows"]}, key=float,
    )  # fmt: skip


def _students(results: dict[str, Any], heads: list[str], found: list[dict[str, dict[str, dict[str, Any]]]]) -> str:
    """Success of the students by slope, a column for each of ``found``, where more than one of them has it."""
    rows = []
    for name in (name for name, each in results["policies"].items() if each["kind"] == "student"):
        columns = [policies.get(name, {}) for policies in found]
        for slope in sorted({slope for column in columns for slope in column}, key=float):
            cells = ["" if slope not in column else _rate(column[slope]["success"]) for column in columns]
            if sum(map(bool, cells)) > 1:
                rows.append((name, f"{slope}°", *cells))
    return _table(("student", "slope", *heads), rows, results)


def quadruped_stairs() -> str:
    """Success and treads reached by slope, a column for each policy."""
    results = _load("quadruped_stairs")
    policies = _stairs_rows(results)
    slopes = sorted({slope for rows in policies.values() for slope in rows}, key=float)

    def cell(row: dict[str, Any] | None) -> str:
        return "" if row is None else f"{_rate(row['success'])}; {row['treads']:.1f}"

    rows = [(f"{slope}°", *(cell(policy.get(slope)) for policy in policies.values())) for slope in slopes]
    return _table(("slope", *policies), rows, results)


def quadruped_stairs_noise() -> str:
    """Success of the students by slope and size of the depth noise."""
    results = _load("quadruped_stairs")
    sizes = _of_students(results, 1)
    heads = [f"noise {float(size):.0%}" for size in sizes]
    return _students(results, heads, [_stairs_rows(results, noise=size) for size in sizes])


def quadruped_stairs_width() -> str:
    """Success of the students by slope and width of the treads."""
    results = _load("quadruped_stairs")
    widths = _of_students(results, 2)
    heads = [f"{width} m wide" for width in widths]
    return _students(results, heads, [_stairs_rows(results, width=width) for width in widths])


def quadruped_stairs_curve() -> str:
    """How a training of the climber went, stage by stage: level of the ground, and success by slope in training."""
    results = _load("quadruped_stairs_curves")
    slopes = ("15", "20", "25", "30", "37", "45", "55")
    rows = []
    for stage, curve in results["curves"].items():
        for each in curve:
            by_slope = (each.get(f"success {slope}") for slope in slopes)
            rows.append((
                stage, f"{each['steps'] / 1e6:.1f} M", f"{each['seconds'] / 60:.0f} min", f"{each['level']:.1f}",
                *("" if rate is None else f"{rate:.2f}" for rate in by_slope),
                f"{each['behavior']:.3f}" if "behavior" in each else "",
            ))  # fmt: skip
    head = ("stage", "control steps", "wall time", "mean level of 14", *(f"up to {slope}°" for slope in slopes),
            "imitation error")  # fmt: skip
    return _table(head, rows, results)


def quadruped_depth_faults() -> str:
    """Depth images that fail on hollow stairs, by slope and kind of fault, the control first."""
    results = _load("quadruped_depth_faults")
    rows: list[tuple[str, ...]] = []
    for slope, found in results["slopes"].items():
        if not found["kinds"]:
            rows.append((f"{slope}°", f"none of {found['draws']} draws came to its fault", *[""] * 6))
        for kind, row in found["kinds"].items():
            falls = ", ".join(f"{cause} {count}" for cause, count in row["causes"].items())
            error = row["error_ms"]
            rows.append((
                f"{slope}°", kind, row["must"], f"{row['count']}, {_rate(row['good'])}",
                f"{len(row['fallen'])}{': ' + falls if falls else ''}",
                str(row["fallen_in_control_too"]) if kind != "none" else "",
                "{}, {:g} ({:g} to {:g})".format(row["in_time"], *error) if error else "",
                f"{row['error_share']:.0%}",
            ))  # fmt: skip
    head = ("stairs", "fault", "must", "did", "falls", "of these, in the control too",
            "ERROR and told to stand within 100 ms; ERROR after the threshold, ms", "time in ERROR")  # fmt: skip
    return _table(head, rows, results)
