"""``ros-attn node``: components as rclpy lifecycle nodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ros_attn.commands.component_arguments import build_graph, input_settings, parse
from ros_attn.commands.replay import set_threads
from ros_attn.graph import parse_remaps


@dataclass(frozen=True)
class Options:
    """Run a component (or a graph of them) as ROS 2 nodes; further flags are the component's parameters.

    What follows --ros-args is ROS's own: -r __ns:=/front, -p slop_s:=0.05, --params-file FILE,
    -r visible/image:=/cam0/image_raw.
    """

    component: Annotated[str, tyro.conf.Positional]
    """name, module:Class, file.py:Class, or graph.yaml."""
    journal: Path | None = None
    """bag to write every call to, so that `ros-attn replay` gives the same bytes."""
    remap: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """from:=to, as in replay; the same as -r behind --ros-args."""
    input: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """input.option=number: time_offset_s, max_rate_hz, queue_s."""
    torch_threads: int = 2
    """threads of torch and opencv; another number can change pixels."""


def run(argv: list[str]) -> int:
    """The verb."""
    cut = argv.index("--ros-args") if "--ros-args" in argv else len(argv)
    ours, ros_args = argv[:cut], argv[cut:]
    options, given = parse(Options, ours, "ros-attn node")
    from ros_attn.hosts.ros import NodeOptions, run_node

    graph, spec = build_graph(
        options.component, given, None, parse_remaps(options.remap), input_settings(options.input)
    )
    set_threads(options.torch_threads)
    return run_node(graph, spec, ros_args, NodeOptions(journal=options.journal))
