"""The core needs numpy alone, and `ros-attn --help` not even that."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch", "triton", "rclpy", "cv2", "mujoco", "gymnasium", "scipy", "jinja2", "markupsafe", "safetensors",
    "matplotlib", "open3d",
)  # fmt: skip
# Imports every module given, with the packages given made absent; prints what was imported of other packages.
ALONE = """\
import importlib, importlib.abc, json, sys

modules, absent = json.loads(sys.argv[1])

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
    del sys.modules[name]
sys.meta_path.insert(0, Absent())
for module in modules:
    importlib.import_module(module)
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
# By folder; hosts.ros* and hosts.drive_bag, perception and control are for those who have the extras.
CORE = [
    f"ros_attn{folder}{path.stem}"
    for folder in (".", ".bag.", ".codecs.", ".convert.", ".commands.")
    for path in sorted((ROOT / ("ros_attn" + folder.replace(".", "/"))).glob("*.py"))
    if path.stem not in ("__init__", "__main__")
]  # fmt: skip
HOSTS = ["ros_attn.hosts.replay", "ros_attn.hosts.run_directory", "ros_attn.hosts.worker"]


def run(modules: list[str], absent: tuple[str, ...]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", ALONE, json.dumps([modules, absent])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_core_hosts_and_verbs_import_without_any_extra() -> None:
    assert len(CORE) > 30
    imported = run(["ros_attn", *CORE, *HOSTS], HEAVY)
    assert "numpy" in imported
    assert not set(imported) & set(HEAVY)


def test_core_imports_without_the_command_lines_packages() -> None:
    modules = [module for module in CORE if not module.startswith("ros_attn.commands")]
    run(["ros_attn", *modules, *HOSTS], (*HEAVY, "rosbags", "yaml", "tqdm", "tyro"))


def test_help_takes_less_than_300_ms_and_imports_neither_numpy_nor_torch() -> None:
    command = [sys.executable, "-P", "-X", "importtime", "-m", "ros_attn", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "ros_attn" in imported
    assert not imported & {"numpy", "tyro", "rosbags", "yaml", *HEAVY}

    def seconds() -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-P", "-m", "ros_attn", "--help"], capture_output=True, check=True)
        return time.perf_counter() - began

    assert statistics.median(seconds() for _ in range(5)) <= 0.3


@pytest.mark.parametrize("verb", ["info", "replay", "convert", "components", "params", "node", "evaluate", "demo"])
def test_the_help_of_a_verb_imports_no_extra(verb: str) -> None:
    command = [sys.executable, "-P", "-X", "importtime", "-m", "ros_attn", verb, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "usage:" in done.stdout
    assert not imported & set(HEAVY)
