"""The README: its tables are those of the committed figures, its example runs, its files exist."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

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


def example(name: str) -> str:
    match = re.search(rf"<!-- example: {re.escape(name)} -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None, name
    return match.group(1)


def test_attention_example_does_what_it_says() -> None:
    """Video does not see touch; the bias counts where an action meets touch; the unplugged fingers are not seen."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(compile(example("touch.py"), "touch.py", "exec"), names)
    visibility, felt = names["visibility"], names["felt"].grad
    assert visibility.kinds == ("video", "touch", "action")
    mask = visibility.mask()[0]
    assert not mask[:512, 512:544].any() and mask[544:, 512:544].all()
    assert felt[..., :512].abs().max() == 0 and felt[..., 544:].abs().max() == 0
    assert felt[..., 512:544].abs().min() > 0
    attend, q, k, v = (names[name] for name in ("attend", "q", "k", "v"))
    both = attend(q, k, v, visibility=visibility)
    assert torch.equal(both[:, :512], names["out"][:, :512])
    assert not torch.allclose(both[1, 544:], names["out"][1, 544:])
    torch.testing.assert_close(both[0], names["out"][0])


def test_streaming_example_is_attention_over_what_was_written() -> None:
    torch = pytest.importorskip("torch")
    from ros_attn import kernels

    match = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "attention.md").read_text(), re.DOTALL)
    assert match is not None
    torch.manual_seed(0)
    names = {name: torch.randn(1, count, 8, 64) for name, count in (("q", 16), ("k", 120), ("v", 120))}
    names |= {"now": torch.zeros(1, 16).int(), "frame": torch.tensor([[3]]).int()} | vars(kernels)
    exec(compile(match.group(1), "attention.md", "exec"), names)
    torch.testing.assert_close(names["out"], kernels.attend(names["q"], names["k"], names["v"]))


def test_example_component_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name, code = "brightness.py", example("brightness.py")
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
