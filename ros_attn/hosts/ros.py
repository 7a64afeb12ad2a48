"""The rclpy host: a graph of components as lifecycle nodes in one process.

:func:`run_node` is what ``ros-attn node`` calls; :class:`RosHost` is for programs and tests.
"""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ros_attn.errors import ParameterError, RosAttnError, listed, meant

try:
    import rclpy
except ImportError as error:
    raise RosAttnError(
        f"rclpy cannot be imported ({error}): source your ROS 2 (source /opt/ros/jazzy/setup.bash), or where there is "
        "none, pip install 'ros-attn[ros]'."
    ) from error
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from ros_attn.graph import Graph
from ros_attn.hosts.ros_node import ComponentNode
from ros_attn.hosts.ros_parameters import HostParams
from ros_attn.journal import JournalWriter

# How long a spin thread that was told to stop may take.
PATIENCE_S = 5.0


@dataclass(frozen=True)
class NodeOptions:
    """What a command line says besides ``--ros-args``."""

    journal: Path | None = None


class RosHost:
    """Runs a graph's stages as lifecycle nodes, in one rclpy context of its own, until ``stop`` is set.

    One thread spins a SingleThreadedExecutor, each component steps in a thread of its own, and components
    of the graph hand each other values. ``spec`` says which component each stage was asked for (for the
    journal); ``ros_args`` are rclpy's, with or without ``--ros-args`` in front.

    Raises RosAttnError for a parameter that is refused, an argument rclpy does not take, or a component
    that does not configure. :meth:`wait` raises where the spin thread died: nothing would listen any more.
    """

    def __init__(
        self,
        graph: Graph,
        spec: Mapping[str, str],
        ros_args: Sequence[str] = (),
        options: NodeOptions = NodeOptions(),
        domain_id: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._journals: dict[str, JournalWriter] = {}
        self._stop = stop or threading.Event()
        self._spin_error: BaseException | None = None
        self.nodes: list[ComponentNode] = []
        self.context = Context()
        args = list(ros_args)
        if args and args[0] != "--ros-args":
            args.insert(0, "--ros-args")
        try:
            rclpy.init(
                args=args, context=self.context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO
            )
        except (RuntimeError, ValueError) as error:
            reason = re.sub(r", at /.*", "", " ".join(str(error).split()))
            raise RosAttnError(f"rclpy does not take {' '.join(args)}: {reason}.") from error
        self._executor = SingleThreadedExecutor(context=self.context)
        self._thread = threading.Thread(target=self._spin, name="spin", daemon=True)
        try:
            defaults = HostParams(journal=str(options.journal) if options.journal else "")
            self._spec = [spec[stage.name] for stage in graph.stages]
            for stage in graph.stages:
                self.nodes.append(ComponentNode(stage, self.context, self, defaults))
            self._check()
            for node in self.nodes:
                self._executor.add_node(node)
        except BaseException:
            self.close()
            raise

    def _check(self) -> None:
        names = [node.get_fully_qualified_name() for node in self.nodes]
        if len(set(names)) < len(names):
            raise RosAttnError(
                f"Two nodes of this process are called {listed(sorted({n for n in names if names.count(n) > 1}))}; "
                "rename one stage alone with -r STAGE:__node:=NAME."
            )
        # A parameter file for /** may hold what only another stage takes.
        unknown = set.intersection(*(set(node.settings.unknown()) for node in self.nodes))
        known = [name for node in self.nodes for name in node.settings.names]
        for name in sorted(unknown):
            raise ParameterError(
                f"{listed(names)}: there is no parameter {name!r}{meant(name, known)}; it takes {listed(known, 60)}."
            )

    # -- running ----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Configure and activate the nodes that start themselves, then spin."""
        for node in self.nodes:
            if node.settings["host"].autostart:
                for transition in (node.trigger_configure, node.trigger_activate):
                    transition()
                    if node.failure is not None:
                        raise node.failure
        self._thread.start()

    def _spin(self) -> None:
        try:
            while self.context.ok() and not self._stop.is_set():
                self._executor.spin_once(timeout_sec=1.0)
            if not self._stop.is_set():
                raise RuntimeError("the rclpy context was shut down by something else")
        except BaseException as error:
            self._spin_error = error
            self._stop.set()

    def request_stop(self) -> None:
        """End :meth:`wait`; from any thread or a signal handler."""
        self._stop.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until somebody asks for the end; False after ``timeout_s``. Raises what ended the spin thread."""
        ended = self._stop.wait(timeout_s)
        if isinstance(self._spin_error, RosAttnError):
            raise self._spin_error
        if self._spin_error is not None:
            raise RuntimeError("The executor's thread died, so no callback runs any more.") from self._spin_error
        return ended

    def close(self) -> None:
        """Stop all threads, shut the nodes down and finish the journals."""
        self._stop.set()
        if self._thread.is_alive():
            # A task ends the spin_once under way; wake() alone does not.
            self._executor.create_task(self._stop.set)
            self._thread.join(PATIENCE_S)
        for node in self.nodes:
            if node.state != "finalized":
                node.trigger_shutdown()
        self._executor.shutdown()
        for node in self.nodes:
            node.destroy_node()
        self.nodes.clear()
        self.context.try_shutdown()
        journals, self._journals = self._journals, {}
        for journal in journals.values():
            journal.close()

    def __enter__(self) -> RosHost:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- what the nodes need ----------------------------------------------------------------------------

    def journal(self, node: ComponentNode, path: str) -> JournalWriter:
        """The journal at ``path``; nodes that name the same path share it."""
        if path not in self._journals:
            self._journals[path] = JournalWriter(Path(path), Graph([]), {})
        self._journals[path].open(node.stage, self._spec[self.nodes.index(node)])
        return self._journals[path]

    def producer(self, topic: str) -> ComponentNode | None:
        """The node of this process that gives a topic."""
        return next((node for node in self.nodes if topic in node.output_topics.values()), None)

    def consumers(self, topic: str) -> Iterable[tuple[ComponentNode, str]]:
        """The active nodes of this process that take a topic, and the names of their inputs."""
        for node in self.nodes:
            activity = node.activity
            for source in activity.sources if activity else ():
                if source.internal and source.topic == topic:
                    yield node, source.name

    def call_soon(self, function: Callable[[], None]) -> None:
        """Call in the executor's thread; from any thread."""
        self._executor.create_task(function)


def run_node(
    graph: Graph, spec: Mapping[str, str], ros_args: Sequence[str] = (), options: NodeOptions = NodeOptions()
) -> int:
    """Run a graph as nodes until SIGINT or SIGTERM; returns 0 then.

    Raises RosAttnError at the start for what a user can mend, and RuntimeError where the spin thread died.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    host = RosHost(graph, spec, ros_args, options, stop=stop)
    try:
        host.start()
        host.wait()
    finally:
        host.close()
    return 0
