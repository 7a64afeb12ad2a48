"""colcon takes the checkout for an ament_python package and installs what `ros2 run` and `ros2 launch` look for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Of set-up; colcon wants an older setuptools than the other packages of this environment may have.
OWN = Path(sys.prefix) / "colcon" / "bin" / "colcon"


def test_colcon_build(source: Path, tmp_path: Path, clean_environment: dict[str, str]) -> None:
    colcon = shutil.which("colcon") or (str(OWN) if OWN.is_file() else None)
    if colcon is None:
        pytest.skip("colcon is not installed: pip install colcon-ros")
    workspace = tmp_path / "workspace"
    shutil.copytree(source, workspace / "src" / "ros_attn", symlinks=True)
    done = subprocess.run([colcon, "build"], cwd=workspace, env=clean_environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    prefix = workspace / "install" / "ros_attn"
    launch = {path.name for path in (source / "launch").glob("*.launch.py")}
    assert {path.name for path in (prefix / "share" / "ros_attn" / "launch").glob("*.launch.py")} == launch
    assert (prefix / "share" / "ros_attn" / "package.xml").is_file()
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "ros_attn").is_file()
    # The hook is what colcon writes for packages it knows as ament_python, and not for plain Python ones.
    assert (prefix / "share" / "ros_attn" / "hook" / "ament_prefix_path.sh").is_file()
    assert (prefix / "lib" / "ros_attn" / "ros-attn").is_file()
    [package] = (prefix / "lib").glob("python3.*/site-packages/ros_attn")
    for sibling in ("kernels", "policies", "sim", "world_models"):
        assert (package / sibling / "__init__.py").is_file()
        assert not (package / sibling).is_symlink()
