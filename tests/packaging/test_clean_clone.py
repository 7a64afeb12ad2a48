"""`make demo` in a clean clone; its environment has this process's packages behind it, so that little is fetched."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no git checkout")
def test_make_demo(tmp_path: Path, clean_environment: dict[str, str]) -> None:
    clone, venv = tmp_path / "clone", tmp_path / "elsewhere" / "venv"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    [packages] = venv.glob("lib/python3.*/site-packages")
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")

    def make(*words: str) -> float:
        began = time.perf_counter()
        command = ["make", *words, f"VENV={venv}", f"PYTHON={Path(sys.executable).resolve()}"]
        done = subprocess.run(command, cwd=clone, env=clean_environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return time.perf_counter() - began

    times = {"set-up": make("setup-demo"), "set-up again": make("setup-demo")}
    times["demo (2 s of driving)"] = make("demo", "ARGS=--duration 2 --no-open")
    print(", ".join(f"{name}: {seconds:.1f} s" for name, seconds in times.items()))
    assert times["set-up again"] < 2.0

    where = [str(venv / "bin" / "python"), "-P", "-c", "import ros_attn; print(ros_attn.__file__)"]
    imported = subprocess.run(where, env=clean_environment, capture_output=True, text=True, check=True).stdout
    assert Path(imported.strip()).is_relative_to(clone)
    assert (clone / "runs" / "demo" / "run" / "report.html").stat().st_size > 10_000
    status = ["git", "status", "--porcelain"]
    assert subprocess.run(status, cwd=clone, capture_output=True, text=True, check=True).stdout == ""
