"""Who may import whom: the table of the layers, held against the imports of every file."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("ros_attn", "kernels", "world_models", "policies", "sim", "launch")
SIBLINGS = ("kernels", "world_models", "policies", "sim")


@dataclass(frozen=True)
class Rule:
    """What a layer may import at the top of a file, and what besides within functions; layers and packages alike."""

    anywhere: frozenset[str]
    in_functions: frozenset[str] = frozenset()


def rule(anywhere: str, in_functions: str = "") -> Rule:
    return Rule(frozenset(anywhere.split()), frozenset(in_functions.split()))


MESSAGES = (
    "rcl_interfaces lifecycle_msgs std_msgs std_srvs sensor_msgs geometry_msgs nav_msgs diagnostic_msgs tf2_msgs "
    "rosgraph_msgs"
)
RULES = {
    "core": rule("core numpy", "yaml"),
    # The errors that are shown as a sentence: of every layer, and therefore of the standard library alone.
    "core.errors": rule(""),
    "core.bag": rule("core numpy", "rosbags"),
    "core.codecs": rule("core numpy", "rosbags cv2"),
    "core.checkpoint": rule("core numpy", "safetensors"),
    "kernels": rule("kernels core.errors torch", "fla"),
    "kernels.triton": rule("kernels core.errors torch triton"),
    "world_models": rule("world_models kernels core.errors torch numpy"),
    "policies": rule("policies world_models kernels core.errors torch numpy"),
    "sim": rule("sim core.errors mujoco gymnasium numpy"),
    "perception": rule("perception core kernels world_models policies numpy cv2 torch", "onnxruntime"),
    "control": rule("control core kernels world_models policies numpy cv2 torch", "onnxruntime"),
    "control.locomotion": rule("core.errors numpy"),
    "train": rule(
        "train perception control policies world_models kernels core sim degrade convert numpy cv2 torch rsl_rl "
        "tensordict gymnasium tqdm"
    ),
    "degrade": rule("degrade core numpy", "cv2 yaml"),
    "hosts": rule("hosts core numpy"),
    "hosts.ros": rule(f"hosts hosts.ros core numpy rclpy {MESSAGES}"),
    "hosts.sim": rule("hosts hosts.sim core sim control numpy"),
    "evaluate": rule("evaluate hosts core numpy yaml", "cv2 scipy jinja2 markupsafe"),
    "convert": rule("convert degrade core numpy", "cv2"),
    # A verb is imported when it is used: what only some runs of it need is imported when they need it.
    "commands": rule(
        "commands core hosts evaluate convert tyro yaml tqdm numpy", "* hosts.ros hosts.sim sim train kernels"
    ),
    "cli": rule("", "core commands"),
    "__main__": rule("cli"),
    "launch": rule("launch launch_ros"),
}


def layer(module: str) -> str:
    """The layer of a module by its full name, such as ``ros_attn.sim.drive`` or ``launch``."""
    parts = module.removeprefix("ros_attn").strip(".").split(".")
    if module.partition(".")[0] == "launch":
        return "launch"
    if parts[0] in ("perception", "control", "policies", "world_models") and parts[-1].startswith("train"):
        return "train"
    if parts[0] in SIBLINGS:
        return "kernels.triton" if parts[0] == "kernels" and "triton" in parts[-1] else parts[0]
    if parts[0] == "hosts" and len(parts) > 1:
        if parts[1] == "ros" or parts[1].startswith("ros_"):
            return "hosts.ros"
        return "hosts.sim" if parts[1].startswith(("sim", "drive")) else "hosts"
    if parts[:2] == ["control", "locomotion"]:
        return "control.locomotion"
    if parts[0] in ("perception", "control", "hosts", "evaluate", "convert", "degrade", "commands", "cli", "__main__"):
        return parts[0]
    return f"core.{parts[0]}" if f"core.{parts[0]}" in RULES else "core"


def files(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file with its full module name; the links of ``ros_attn`` are not followed, their folders are read."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if folder == "ros_attn" and len(parts) > 1 and parts[1] in SIBLINGS:
                continue
            name = ".".join(part for part in parts if part != "__init__")
            yield (f"ros_attn.{name}" if folder in SIBLINGS else name), path


def imports(module: str, path: Path) -> Iterator[tuple[str, bool, int]]:
    """Imported names in full, whether within a function, and the line."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((each.name, inside, child.lineno) for each in child.names)
            elif isinstance(child, ast.ImportFrom):
                base = child.module or ""
                if child.level:
                    above = package.split(".")[: len(package.split(".")) - child.level + 1]
                    base = ".".join([*above, *filter(None, [base])])
                # `from ros_attn import x` may name a module, and `from ros_attn.hosts import x` too.
                yield from ((f"{base}.{each.name}", inside, child.lineno) for each in child.names)
            yield from walk(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(path.read_text()), False)


def imported_layer(name: str) -> str:
    """The layer of an imported name, or its package where it is not ours."""
    root = name.partition(".")[0]
    if root == "ros_attn":
        return layer(name)
    return f"bare {root}" if root in SIBLINGS else root


def violations(root: Path) -> list[str]:
    found = []
    for module, path in files(root):
        own = layer(module)
        allowed = RULES[own]
        for name, inside, line in imports(module, path):
            wanted = imported_layer(name)
            if wanted in sys.stdlib_module_names:
                continue
            may = allowed.anywhere | (allowed.in_functions if inside else frozenset())
            # core.bag may be imported where core may: such parts differ in what they import themselves.
            whole = wanted.partition(".")[0]
            if wanted in may or (whole in ("core", "kernels", "control") and whole in may):
                continue
            if "*" in may and wanted not in RULES and not wanted.startswith("bare "):
                continue
            where = " within a function" if inside else ""
            found.append(f"{path.relative_to(root)}:{line}: {own} imports {name} ({wanted}){where}")
    return found


def test_every_import_is_one_the_table_allows() -> None:
    assert not violations(ROOT)


def test_every_folder_is_read() -> None:
    read = {module.split(".")[0 if module.startswith("launch") else 1] for module, _ in files(ROOT) if "." in module}
    assert {"kernels", "world_models", "policies", "sim", "hosts", "commands", "launch"} <= read


@pytest.mark.parametrize("path, text, complaint", [
    ("ros_attn/runtime.py", "import torch", "core imports torch"),
    ("ros_attn/tf.py", "def f():\n    import cv2", "core imports cv2"),
    ("ros_attn/bag/reader.py", "from rosbags.highlevel import AnyReader", "core.bag imports rosbags"),
    ("ros_attn/hosts/replay.py", "from ros_attn.hosts.ros_node import ComponentNode", "hosts imports"),
    ("ros_attn/hosts/replay.py", "from ros_attn.hosts import ros", "hosts imports"),
    ("ros_attn/hosts/worker.py", "import rclpy", "hosts imports rclpy"),
    ("ros_attn/perception/x/component.py", "from ros_attn import sim", "perception imports ros_attn.sim"),
    ("ros_attn/hosts/drive_bag.py", "from sim import drive", "hosts.sim imports sim.drive (bare sim)"),
    ("ros_attn/commands/demo.py", "def f():\n    import kernels", "commands imports kernels (bare kernels)"),
    ("ros_attn/hosts/sim_robot.py", "from ros_attn import kernels", "hosts.sim imports ros_attn.kernels"),
    ("ros_attn/hosts/replay.py", "from ros_attn.control import locomotion", "hosts imports"),
    ("ros_attn/perception/x/component.py", "from ..x import train", "perception imports ros_attn.perception.x.train"),
    ("ros_attn/control/locomotion.py", "from ros_attn.values import Imu", "control.locomotion imports"),
    ("ros_attn/commands/replay.py", "import torch", "commands imports torch"),
    ("ros_attn/commands/replay.py", "from ros_attn.hosts import ros_node", "commands imports"),
    ("ros_attn/cli.py", "import numpy", "cli imports numpy"),
    ("kernels/attention.py", "import triton", "kernels imports triton"),
    ("kernels/attention.py", "from ros_attn.values import Image", "kernels imports ros_attn.values"),
    ("world_models/memory.py", "from ros_attn.policies import flow", "world_models imports"),
    ("sim/drive.py", "from ros_attn import policies", "sim imports ros_attn.policies"),
    ("launch/x.launch.py", "import yaml", "launch imports yaml"),
])  # fmt: skip
def test_a_planted_violation_is_found(path: str, text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    [found] = violations(tmp_path)
    assert complaint in found and found.startswith(path)


@pytest.mark.parametrize("path, text", [
    ("kernels/attention_triton.py", "import triton.language as tl"),
    ("ros_attn/bag/reader.py", "def f():\n    from rosbags.highlevel import AnyReader"),
    ("ros_attn/hosts/ros_node.py", "from std_srvs.srv import Trigger"),
    ("ros_attn/commands/train.py", "def f():\n    from ros_attn.control.velocity.train import train"),
    ("ros_attn/control/velocity/train.py", "from ros_attn.sim import drive\nimport rsl_rl"),
])  # fmt: skip
def test_what_the_table_allows_passes(path: str, text: str, tmp_path: Path) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(text)
    assert violations(tmp_path) == []
