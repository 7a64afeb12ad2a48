"""Rules every test runs under."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real recordings; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("ROS_ATTN_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ROS_ATTN_DATA to run this test")
    return folder


@pytest.fixture(autouse=True)
def _no_second_copies() -> None:
    """A bare `import kernels` would give a second copy of every module and of every registration in it."""
    copies = {"kernels", "sim", "policies", "world_models"} & set(sys.modules)
    assert not copies, f"imported outside the root package: {sorted(copies)}; run tests with python -P"
