"""``ros-attn doctor``: what is wrong with this machine's ROS set-up, its topics, and which kernels run where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from ros_attn.commands.component_arguments import build_graph, parse
from ros_attn.graph import parse_remaps


@dataclass(frozen=True)
class Options:
    """Look at RMW, shared memory, QoS matches, publishers and clock offsets; exit code 1 where something is wrong."""

    component: Annotated[str, tyro.conf.Positional] = ""
    """look at what this component would listen to; without it, at every topic."""
    remap: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """from:=to, as in replay."""
    seconds: float = 2.0
    """how long to listen."""


def run(argv: list[str]) -> int:
    """The verb."""
    options, given = parse(Options, argv, "ros-attn doctor")
    from ros_attn.hosts.ros_doctor import doctor

    graph = None
    if options.component:
        graph, _ = build_graph(options.component, given, None, parse_remaps(options.remap), {})
    text, healthy = doctor(graph, options.seconds)
    print(text)
    print("\n".join(kernels()))
    return 0 if healthy else 1


def kernels() -> list[str]:
    """Which backend each attention kernel takes on this machine, and why."""
    try:
        import torch
    except ModuleNotFoundError:
        return ["Kernels: torch is not installed; models need it: pip install 'ros-attn[train]'."]
    from ros_attn.kernels.survey import lines

    devices = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
    return [f"Kernels: torch {torch.__version__}, GPU {', '.join(devices) or 'none'}", *(f"   {x}" for x in lines())]
