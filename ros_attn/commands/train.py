"""``ros-attn train``: train the models of a component."""

from __future__ import annotations

import importlib
import importlib.util
import sys

import tyro

from ros_attn.errors import RosAttnError, listed, meant
from ros_attn.registry import built_in


def trainable() -> dict[str, str]:
    """Components that have a training of their own, and its module."""
    modules = {name: f"{module.rpartition('.')[0]}.train" for name, module in built_in().items()}
    return {name: module for name, module in modules.items() if importlib.util.find_spec(module) is not None}


def training_of(component: str) -> str:
    """The module that trains a component's models. Raises RosAttnError naming those there are."""
    known = trainable()
    if component not in known:
        raise RosAttnError(
            f"There is no training for {component!r}{meant(component, known)}; there is one for {listed(known)}."
        )
    return known[component]


def run(argv: list[str]) -> int:
    """The verb."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"usage: ros-attn train COMPONENT [options]\n\ncomponents with a training: {listed(trainable())}")
        return 0 if argv else 2
    name, rest = argv[0], argv[1:]
    training = importlib.import_module(training_of(name))
    options = tyro.cli(training.Options, args=rest, prog=f"ros-attn train {name}")
    try:
        training.train(options)
    except KeyboardInterrupt:
        print(f"\ninterrupted; the same command goes on from {options.out}.", file=sys.stderr)
        return 130
    print(f"trained: {options.out}")
    return 0
