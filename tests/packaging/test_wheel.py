"""The wheel: what is in it, and that it runs in an environment with the core dependencies alone."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest

import ros_attn
from ros_attn.bag import BagWriter
from ros_attn.cli import VERBS
from ros_attn.values import Imu

SIBLINGS = ("kernels", "policies", "sim", "world_models")
EXTRAS = {"kernels", "perception", "evaluate", "ros", "sim", "train", "control", "recon", "viz", "dev"}
COMPONENT = """\
from typing import ClassVar

from ros_attn.component import Component, Out, Sync
from ros_attn.values import Imu


class Halved(Component):
    inputs: ClassVar = {"imu": Sync(Imu, "imu")}
    outputs: ClassVar = {"half": Out(Imu, "imu/half")}

    def step(self, now_ns, imu):
        return {"half": Imu(imu.stamp_ns, imu.angular_velocity / 2, imu.linear_acceleration / 2, frame_id="imu")}
"""


def test_contents(wheel: Path, source: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert not any(entry.external_attr >> 16 & 0o170000 == 0o120000 for entry in archive.infolist()), "a link"
    name = wheel.name.removesuffix("-py3-none-any.whl")
    own = [path.relative_to(source).as_posix() for path in (source / "ros_attn").rglob("*") if path.is_file()]
    for sibling in SIBLINGS:
        files = [path for path in (source / sibling).rglob("*") if path.is_file()]
        own += [f"ros_attn/{path.relative_to(source).as_posix()}" for path in files]
        assert f"ros_attn/{sibling}/__init__.py" in own
    assert {each for each in names if each.startswith("ros_attn/")} == set(own)

    share = f"{name}.data/data/share"
    launch = {f"{share}/ros_attn/launch/{path.name}" for path in (source / "launch").glob("*.py")}
    config = {f"{share}/ros_attn/launch/config/{path.name}" for path in (source / "launch" / "config").iterdir()}
    marks = {f"{share}/ros_attn/package.xml", f"{share}/ament_index/resource_index/packages/ros_attn"}
    assert len(launch) >= 6 and len(config) >= 4
    assert {each for each in names if each.startswith(share)} == launch | config | marks
    assert {each.partition("/")[0] for each in names} == {"ros_attn", f"{name}.data", f"{name}.dist-info"}


def test_metadata(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [folder] = {each.partition("/")[0] for each in archive.namelist() if ".dist-info/" in each}
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        scripts = archive.read(f"{folder}/entry_points.txt").decode()
        assert any(each.endswith("/LICENSE") for each in archive.namelist())
    assert metadata["Name"] == "ros-attn"
    assert metadata["Version"] == ros_attn.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra") or ()) == EXTRAS
    core = [each for each in metadata.get_all("Requires-Dist") or () if "extra ==" not in each]
    assert {each.split(">")[0].split("<")[0] for each in core} == {"numpy", "rosbags", "pyyaml", "tyro", "tqdm"}
    assert "ros-attn = ros_attn.cli:main" in scripts


class Installed:
    """A clean environment with the wheel and its core dependencies, in a folder to work in."""

    def __init__(self, folder: Path, wheel: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment = folder, environment
        venv = folder / "venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        self.bin = venv / "bin"
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python")]
        done = subprocess.run(
            [*pip, "install", "-q", "--no-compile", str(wheel)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        (folder / "halved.py").write_text(COMPONENT)
        with BagWriter(folder / "bag") as bag:
            for k in range(20):
                stamp_ns = 10**9 + k * 10**7
                bag.write("/imu", Imu(stamp_ns, np.full(3, float(k)), np.zeros(3), frame_id="imu"), stamp_ns)

    def run(self, *arguments: str, code: int = 0) -> str:
        """Standard output of ``ros-attn``; of a failure standard error where there is any."""
        done = subprocess.run(
            [str(self.bin / "ros-attn"), *arguments],
            env=self.environment, cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr or done.stdout if code else done.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"), wheel, clean_environment)


def test_script_and_share_are_where_they_are_looked_for(installed: Installed) -> None:
    prefix = installed.bin.parent
    assert (prefix / "bin" / "ros-attn").is_file()
    assert not (prefix / "lib" / "ros_attn").exists()
    assert (prefix / "share" / "ros_attn" / "launch" / "perception.launch.py").is_file()


def test_version_and_help(installed: Installed) -> None:
    assert installed.run("--version").strip() == ros_attn.__version__
    assert all(verb in installed.run("--help") for verb in VERBS)


def test_info(installed: Installed) -> None:
    text = installed.run("info", "bag")
    assert "/imu" in text and "sensor_msgs/msg/Imu" in text


def test_replay_of_a_component_from_a_file(installed: Installed) -> None:
    text = installed.run("replay", "bag", "halved.py:Halved", "--remap", "imu:=/imu", "--out", "run")
    assert "20 steps" in text
    assert (installed.folder / "run" / "summary.json").is_file()


def test_every_verb_helps_without_extras(installed: Installed) -> None:
    for verb in VERBS:
        assert "usage:" in installed.run(verb, "--help")


@pytest.mark.parametrize("arguments, extra", [
    (("replay", "bag", "infrared_visible_fusion"), "perception"),
    (("components", "infrared_visible_fusion"), "perception"),
    (("node", "halved.py:Halved"), "ros"),
    (("demo",), "sim"),
], ids=lambda value: value[0] if isinstance(value, tuple) else value)  # fmt: skip
def test_an_absent_extra_is_named_in_one_sentence(installed: Installed, arguments: tuple[str, ...], extra: str) -> None:
    error = installed.run(*arguments, code=1)
    assert error.startswith(f"ros-attn {arguments[0]}: ")
    assert error.count("\n") == 1, error
    assert f"ros-attn[{extra}]" in error


def test_doctor_says_what_is_absent(installed: Installed) -> None:
    assert "ros-attn[ros]" in installed.run("doctor", code=1)


def test_a_report_without_its_extra_is_refused_in_one_sentence(installed: Installed) -> None:
    installed.run("replay", "bag", "halved.py:Halved", "--remap", "imu:=/imu", "--out", "unscored")
    error = installed.run("evaluate", "unscored", code=1)
    assert error.startswith("ros-attn evaluate: ")
    assert error.count("\n") == 1, error
    assert "ros-attn[evaluate]" in error
