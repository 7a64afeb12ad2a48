"""What the tests of the safety gate share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.control.gate_bench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A gate that has passed commands until 1000 ms."""
    made = Bench(tmp_path / "checkpoint").until(1000)
    assert made.said == {} and not made.damps(1000)
    return made
