"""The report: complete, self-contained, and saying what evaluation.json says, as a browser shows it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ros_attn.bag import BagWriter
from ros_attn.cli import main
from ros_attn.component import Component, Out, Sync
from ros_attn.evaluate import plots
from ros_attn.evaluate.plots import Band, Series
from ros_attn.values import FloatArray
from tests.evaluate.recordings import T0, drive, replayed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

# Collects what went wrong before the page's own script runs, and what a reader sees once everything is there.
BEFORE = """<script>
const wrong = [];
addEventListener("error", (event) => wrong.push(String(event.message)));
addEventListener("securitypolicyviolation", (event) => wrong.push(event.violatedDirective + " " + event.blockedURI));
for (const name of ["error", "warn"]) console[name] = (...words) => wrong.push(words.join(" "));
</script>"""
AFTER = """<script>
addEventListener("load", () => {
  const area = document.querySelector("[data-plot]");
  if (area) {
    const box = area.getBoundingClientRect();
    area.dispatchEvent(new PointerEvent("pointermove", { clientX: box.left + 1, clientY: box.top + 5 }));
  }
  const seen = {
    wrong,
    requests: performance.getEntriesByType("resource").filter((each) => !each.name.startsWith("data:")),
    images: [...document.images].map((image) => [image.alt, image.naturalWidth]),
    figures: [...document.querySelectorAll("[data-figure]")].map((each) => [
      each.dataset.figure, Number(each.dataset.value), each.textContent.trim(),
    ]),
    tip: document.getElementById("tip").textContent,
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    title: document.title,
  };
  const probe = document.createElement("script");
  probe.type = "application/json";
  probe.id = "probe";
  probe.textContent = JSON.stringify(seen).replaceAll("<", "\\\\u003c");
  document.body.append(probe);
});
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drive whose cameras both drop out, through two versions; the pair names are no friends of HTML."""
    folder = tmp_path_factory.mktemp("report")
    bag = drive(
        folder / "bag", 40, lambda k: 8 <= k < 16, lambda k: 25 <= k < 31, counts=True, names=lambda k: f"<i>&{k}</i>"
    )
    replayed(bag, folder / "before")
    replayed(bag, folder / "run", "--agc-low-percent", "20", "--mode", "as-deployed", "--latency", "0.02")
    (folder / "gates.yaml").write_text("Q_min: {min: 0.99}\nsteps: {min: 1}\n")
    arguments = ["--against", str(folder / "before"), "--thresholds", str(folder / "gates.yaml"), "--every", "2"]
    assert main(["evaluate", str(folder / "run"), *arguments]) == 2
    return folder


def in_chromium(report: Path, tmp_path: Path, width: int) -> dict[str, Any]:
    """What the page looks like from inside, in a window of ``width`` px."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium to open the report in; apt-get install chromium")
    text = report.read_text().replace("<head>", "<head>" + BEFORE, 1).replace("</body>", AFTER + "</body>", 1)
    page = tmp_path / "page.html"
    page.write_text(text)
    profile = tmp_path / f"profile{width}"
    flags = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --dump-dom --virtual-time-budget=10000 --enable-logging=stderr"
    )
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", f"--window-size={width},900", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    probe = re.search(r'<script type="application/json" id="probe">(.*?)</script>', done.stdout, re.S)
    assert probe, done.stderr[-2000:]
    assert "CONSOLE" not in done.stderr, done.stderr[-2000:]
    return json.loads(probe.group(1))


@pytest.mark.parametrize("width", [1280, 500])
def test_report_opens_in_a_browser(folder: Path, tmp_path: Path, width: int) -> None:
    """No error, no request, every picture drawn, no sideways scrolling, and every figure that of evaluation.json."""
    seen = in_chromium(folder / "run" / "report.html", tmp_path, width)
    assert seen["wrong"] == [] and seen["requests"] == []
    assert len(seen["images"]) >= 20 and all(width > 0 for _, width in seen["images"])
    assert seen["overflow"] <= 0
    assert seen["title"] == "infrared_visible_fusion over bag · ros_attn report"
    document = json.loads((folder / "run" / "evaluation.json").read_text())
    assert set(document["metrics"]["run"]) <= {name for name, _, _ in seen["figures"]}
    for name, value, shown in seen["figures"]:
        assert value == pytest.approx(expected(document, name), abs=0.0), name
        assert rounds_to(value, shown), (name, value, shown)
    assert seen["tip"].startswith("0 s\n") and "run" in seen["tip"]


def rounds_to(value: float, shown: str) -> bool:
    """Whether the number that a text begins with is ``value``, to the digits it has."""
    found = re.match(r"([+−]?\d+\.?(\d*))(e[+-]\d+)?", shown)
    assert found, shown
    unit = 10.0 ** -len(found.group(2)) * float(f"1{found.group(3) or ''}")
    return abs(float(found.group().replace("−", "-")) - value) <= 0.5001 * unit


def expected(document: dict[str, Any], name: str) -> float:
    """A figure of the page as evaluation.json has it."""
    metric, at, rule = name.partition("@")
    if at:
        return document["metrics"][rule][metric]["mean"]
    metric, dot, other = name.partition(".minus_")
    if dot and other == "against":
        return document["against"]["metrics"][metric]["mean"]
    return document["figures"][name]


def test_report_needs_nothing_but_itself(folder: Path) -> None:
    text = (folder / "run" / "report.html").read_text()
    assert len(text) < 6_000_000
    assert text.startswith("<!doctype html>")
    assert set(re.findall(r"https?://[^\"' )]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|iframe|object|embed)\b|@import|url\(", text)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r"<img src=\"([^\"]*)", text))
    assert "default-src 'none'" in text


def test_report_says_what_happened(folder: Path) -> None:
    text = (folder / "run" / "report.html").read_text()
    assert "1 of 2 gates fails: Q_min is 0." in text
    assert "infrared was missing from 0.80 to" in text and "visible was missing from 2.50 to" in text
    assert "first without infrared" in text and "first without visible" in text and "worst Q_min" in text
    assert "Beside before on" in text and "fused by before" in text
    assert "&lt;i&gt;&amp;0&lt;/i&gt;" in text and "<i>&0" not in text
    assert "agc_low_percent" in text and "default 1.0" in text
    assert "stamp to output" in text


def test_evaluation_leaves_nothing_half_written(folder: Path) -> None:
    names = {path.name for path in (folder / "run").iterdir()}
    assert {"evaluation.json", "evaluation.jsonl", "report.html"} <= names
    assert not [name for name in names if "partial" in name]
    frames = [json.loads(line) for line in (folder / "run" / "evaluation.jsonl").read_text().splitlines()]
    document = json.loads((folder / "run" / "evaluation.json").read_text())
    scored = [frame for frame in frames if "run" in frame]
    assert len(frames) == document["pictures"]["fused"] and len(scored) == document["pictures"]["scored"]
    mean = sum(frame["run"]["Q_min"] for frame in scored) / len(scored)
    assert document["metrics"]["run"]["Q_min"]["mean"] == pytest.approx(mean)
    assert document["bootstrap"] == {"seed": 0, "resamples": 2000, "level": 0.95}
    assert set(document["provenance"]["evaluation"]) == {"version", "commit", "machine", "python", "date"}


# ---------------------------------------------------------------- runs of other kinds


class Doubler(Component):
    """Twice the number."""

    inputs: ClassVar = {"number": Sync(FloatArray, "in")}
    outputs: ClassVar = {"number": Out(FloatArray, "out")}

    def step(self, now_ns: int, number: FloatArray) -> dict[str, Any]:
        return {"number": FloatArray(now_ns, 2 * number.data)}


def test_run_of_another_component_gets_the_general_sections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(20):
            bag.write("/in", FloatArray(T0 + k * 10**8, np.array([float(k)])), T0 + k * 10**8)
    run = replayed(tmp_path / "bag", tmp_path / "run", component=f"{__file__}:Doubler")
    shutil.rmtree(tmp_path / "bag")
    assert main(["evaluate", str(run)]) == 0
    assert "doubler took 20 steps" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "<h2>Latency</h2>" in text and "<h2>Inputs</h2>" in text
    assert "<h2>Metrics" not in text and "<img" not in text
    assert json.loads((run / "evaluation.json").read_text())["figures"]["steps"] == 20
    assert not (run / "evaluation.jsonl").exists()
    assert main(["evaluate", str(run), "--against", str(run)]) == 0
    assert "A step of doubler takes as long." in capsys.readouterr().out
    assert "<h2>Against" in (run / "report.html").read_text()


def test_run_without_steps_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Infrared stamps are 5 s off: nothing pairs, and the report is about that."""
    bag = drive(tmp_path / "bag", 12, infrared_late_ns=5 * 10**9)
    run = replayed(bag, tmp_path / "run", "--missing-after-s", "0")
    assert main(["evaluate", str(run)]) == 1
    said = capsys.readouterr().out
    assert "infrared_visible_fusion took no step: visible/image: 12 received, 0 matched" in said
    assert "no steps" in (run / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Which run is to be evaluated?"),
        (["{}/none"], "There is no run"),
        (["{}/run", "--every", "0"], "--every 0: take 1 for every picture"),
        (["{}/run", "--every", "9", "--out", "{}/gates.yaml/x.html"], "cannot be written: File exists"),
        (["{}/run", "--out", "{}"], "is a folder; name the file"),
        (["{}/run", "{}/run", "--bag", "{}/bag"], "the bag of one run"),
        (["{}/run", "--bag", "{}/moved"], "is not at"),
        (["{}/run", "--thresholds", "{}/none.yaml"], "cannot be read as thresholds"),
    ],
)
def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str) -> None:
    assert main(["evaluate", *(each.format(folder) for each in arguments)]) == 1
    error = capsys.readouterr().err
    assert sentence in error and error.startswith("ros-attn evaluate: ") and error.count("\n") == 1


# ---------------------------------------------------------------- plots


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.0, 0.95], [0.0, 0.5, 1.0]),
        ([0.0, 1.0], [0.0, 0.5, 1.0]),
        ([3.0, 3.0], [1.0, 2.0, 3.0, 4.0, 5.0]),
        ([-0.011, 0.02], [-0.02, -0.01, 0.0, 0.01, 0.02]),
        ([], [0.0, 0.5, 1.0]),
    ],
)
def test_axes_end_at_round_numbers(values: list[float], ticks: list[float]) -> None:
    found = plots.axis(values, count=3 if len(ticks) < 5 else 4)
    assert found.ticks == pytest.approx(ticks)
    assert found.low <= min(values, default=0) and found.high >= max(values, default=0)


def test_long_lines_keep_their_spikes() -> None:
    y: list[float | None] = [1.0] * 20_000
    y[13_333] = 99.0
    text = plots.line_plot("step", "ms", list(range(20_000)), [Series("run", "run", y)])
    assert "the largest of each stretch" in text and len(text) < 60_000
    assert '"y"' not in text and "99.0" in text.replace("&quot;", "")


def test_lines_are_broken_by_bands_and_missing_values() -> None:
    text = plots.line_plot(
        "Q_min",
        "",
        [0.0, 1.0, 2.0, 3.0, 4.0],
        [Series("run", "run", [1.0, 1.0, 2.0, None, 2.0])],
        [Band(1.2, 1.8, "gone")],
    )
    path = re.search(r'class="line run" d="([^"]*)"', text)
    assert path and path.group(1).count("M") == 3 and path.group(1).count("L") == 1
    assert "gone" in text


def test_histogram_counts_everything() -> None:
    values = [10.0] * 50 + [20.0] * 30 + [5000.0]
    text = plots.histogram("step", "", values, [(10.0, "p50")], "ms")
    counts = [int(count) for count in re.findall(r"<title>(\d+) from", text)]
    assert sum(counts) == 81
