"""The working tree as git would hand it over, and the wheel built from it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of every file that git tracks or would track, links as links: building leaves the checkout as it is."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    copy = tmp_path_factory.mktemp("source") / "ros_attn"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def built(kind: str, source: Path, folder: Path) -> Path:
    """``python -m build`` with what this environment has: nothing is fetched."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "build", f"--{kind}", "--no-isolation", "--outdir", str(folder), str(source)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    [file] = folder.iterdir()
    return file


@pytest.fixture(scope="session")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", source, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def clean_environment() -> dict[str, str]:
    """This process's environment without what leads Python or ROS to other packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "VIRTUAL_ENV", "AMENT_", "COLCON_", "MAKE", "MFLAGS"))
    }
