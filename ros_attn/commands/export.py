"""``ros-attn export``: make a checkpoint of a training run, with its network as ONNX."""

from __future__ import annotations

import importlib

import tyro

from ros_attn.commands.train import training_of


def run(argv: list[str]) -> int:
    """The verb."""
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: ros-attn export COMPONENT --run RUN --out DIRECTORY [options]")
        return 0 if argv else 2
    training = importlib.import_module(training_of(argv[0]))
    options = tyro.cli(training.Export, args=argv[1:], prog=f"ros-attn export {argv[0]}")
    training.export(options)
    print(f"exported: {options.out}")
    return 0
