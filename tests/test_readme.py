"""The README: its tables are those of the committed figures, its example runs, its files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ros_attn.bag import BagWriter
from ros_attn.cli import VERBS, main
from tests.bench.readme import PAGES, filled
from tests.images import scene

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_tables_are_generated_from_the_committed_figures(page: str) -> None:
    text = (ROOT / page).read_text()
    assert filled(text, PAGES[page]) == text, "run `python -m tests.bench.readme`"


def test_example_component_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    match = re.search(r"<!-- example: (\S+) -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None
    name, code = match.groups()
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 30
    Path(name).write_text(code)
    with BagWriter(tmp_path / "bag") as bag:
        for k in range(4):
            bag.write("/visible/image", scene(k * 10**8, "mono8", k), k * 10**8)
    arguments = ["replay", "bag", f"{name}:Brightness", "--dark", "255", "--remap", "image:=/visible/image"]
    assert main([*arguments, "--out", "run"]) == 0
    steps = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 4 and all("mean grey level is only" in step["conditions"]["dark"] for step in steps)


def test_verbs_links_and_pictures_exist() -> None:
    for verb in re.findall(r"ros-attn (\w+)", TEXT):
        assert verb in VERBS, verb
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (ROOT / target).exists(), target
    for line in re.findall(r"ros_attn (\w+\.launch\.py)", TEXT):
        assert (ROOT / "launch" / line).exists(), line
