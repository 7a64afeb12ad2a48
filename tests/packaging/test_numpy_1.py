"""The core and fusion on numpy 1.26, which ROS 2 Jazzy brings, and on the OpenCV that goes with it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ("numpy==1.26.4", "opencv-python-headless==4.11.*")
# Beside this environment's packages, installed once.
FOLDER = Path(sys.prefix) / "numpy-1.26"
# What is fast and touches arrays; property tests, rendering and signals do not depend on the version.
TESTS = (
    "test_bag.py", "test_bag_info.py", "test_checkpoint.py", "test_codecs.py", "test_geometry.py",
    "test_image_codecs.py", "test_journal.py", "test_runtime.py", "test_tf.py", "convert", "hosts/test_replay.py",
    "perception",
)  # fmt: skip
VERSIONS = """\
import sys, pytest, numpy, cv2
assert numpy.__version__ == "1.26.4", numpy.__file__
assert cv2.__version__.startswith("4.11"), cv2.__file__
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="numpy 1.26 has no wheels for Python 3.13 and newer")
def test_core_and_fusion_on_numpy_1() -> None:
    if not (FOLDER / "complete").is_file():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--upgrade", "--target", str(FOLDER)]
        done = subprocess.run([*pip, *REQUIREMENTS], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        (FOLDER / "complete").touch()
    tests = [str(ROOT / "tests" / name) for name in TESTS]
    chosen = ["-m", "not slow and not gpu", "-k", "not ctrl_c", *tests]
    done = subprocess.run(
        [sys.executable, "-P", "-c", VERSIONS, "-q", "-p", "no:cacheprovider", *chosen],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(FOLDER)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) > 250, done.stdout
    print(done.stdout.splitlines()[-1])
