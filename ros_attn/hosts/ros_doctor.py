"""What may be wrong with a ROS set-up: middleware, shared memory, QoS and clocks, looked at from outside."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import statistics
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ros_attn.errors import RosAttnError
from ros_attn.graph import Graph
from ros_attn.hosts.ros_leftovers import PORT, leftovers
from ros_attn.runtime import Runtime
from ros_attn.values import Transforms, Value

if TYPE_CHECKING:
    from rclpy.node import Node

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
# What Fast DDS takes where no profile says otherwise, and the least that holds some VGA images.
STOCK_SEGMENT = 512 * 1024
WANTED_SEGMENT = 8 * 1024 * 1024
# Each process maps a segment of its own: room for a camera, a node, a recorder and a viewer.
PROCESSES = 4
SHARED_MEMORY = Path("/dev/shm")
OFFSET_S = 1.0


@dataclass
class Findings:
    """Lines of the text; a problem makes ``ok`` false."""

    lines: list[str] = field(default_factory=list)
    ok: bool = True

    def say(self, line: str) -> None:
        self.lines.append(f"   {line}")

    def problem(self, line: str) -> None:
        self.lines.append(f"!! {line}")
        self.ok = False

    def head(self, line: str) -> None:
        self.lines.append(line)


def doctor(graph: Graph | None = None, sample_s: float = 2.0, domain_id: int | None = None) -> tuple[str, bool]:
    """Looks at the set-up and listens for ``sample_s``; a text of findings, and whether nothing was wrong.

    With a ``graph`` its inputs are looked at (an absent one is a problem), else every topic whose type has
    a codec. Lines that begin with ``!!`` name a problem and what to do. Never raises for what it finds.
    """
    found = Findings()
    found.head(f"Python {platform.python_version()} ({sys.executable})")
    try:
        import rclpy
        from rclpy.utilities import get_rmw_implementation_identifier
    except ImportError as error:
        found.problem(
            f"rclpy cannot be imported ({error}): source your ROS 2, or without one pip install 'ros-attn[ros]'."
        )
        return "\n".join(found.lines), False
    rmw = get_rmw_implementation_identifier()
    found.say(
        f"rclpy {_version()} ({Path(rclpy.__file__).parent}), ROS_DISTRO {os.environ.get('ROS_DISTRO', 'not set')}"
    )
    found.say(f"middleware {rmw}, ROS_DOMAIN_ID {os.environ.get('ROS_DOMAIN_ID', '0 (not set)')}")
    if "fastrtps" in rmw:
        shared_memory(found, os.environ)
    try:
        _topics(found, graph, sample_s, domain_id)
    except RosAttnError as error:
        found.problem(str(error))
    found.head("nothing wrong was found" if found.ok else "see the lines with !!")
    return "\n".join(found.lines), found.ok


def _version() -> str:
    for name in ("rclpy", "ros-rclpy"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "of unknown version"


# -- shared memory --------------------------------------------------------------------------------------


def shipped_profile() -> str:
    """Where this project's ``fastdds.xml`` lies."""
    tail = Path("launch") / "config" / "fastdds.xml"
    prefixes = [
        Path(each) / "share" / "ros_attn" for each in os.environ.get("AMENT_PREFIX_PATH", "").split(":") if each
    ]
    for folder in (Path(__file__).parents[2], Path(sys.prefix) / "share" / "ros_attn", *prefixes):
        if (folder / tail).is_file():
            return str(folder / tail)
    return str(tail)


def segment_size(profile: Path) -> int | None:
    """The shared-memory segment a Fast DDS profile file sets [bytes], None where it sets none.

    Raises RosAttnError where the file cannot be read.
    """
    try:
        root = ElementTree.parse(profile).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise RosAttnError(f"{profile} cannot be read as a Fast DDS profile ({error}).") from None
    sizes = []
    for element in root.iter():
        if element.tag.rpartition("}")[2] == "transport_descriptor":
            fields = {child.tag.rpartition("}")[2]: (child.text or "").strip() for child in element}
            if fields.get("type") == "SHM" and fields.get("segment_size", "").isdigit():
                sizes.append(int(fields["segment_size"]))
    return max(sizes, default=None)


def shared_memory(found: Findings, environment: Mapping[str, str], room: Path = SHARED_MEMORY) -> None:
    """Which profile is in force in this shell, the segment it sets, and whether ``/dev/shm`` has room for it."""
    named = [(name, environment[name]) for name in PROFILE_VARIABLES if environment.get(name)]
    advice = f"export FASTRTPS_DEFAULT_PROFILES_FILE={shipped_profile()} in every shell (the launch files do)"
    size = STOCK_SEGMENT
    if not named:
        found.problem(
            f"no Fast DDS profile is in force in this shell: the shared-memory segment is {STOCK_SEGMENT >> 10} kB, "
            f"less than one VGA image, and sensor-data topics lose images; {advice}."
        )
    for name, path in named:
        try:
            size = segment_size(Path(path)) or STOCK_SEGMENT
        except RosAttnError as error:
            found.problem(f"{name}: {error}")
            continue
        if size < WANTED_SEGMENT:
            found.problem(
                f"{name}={path} leaves the shared-memory segment at {size >> 10} kB, too small for images; {advice}."
            )
        else:
            found.say(f"{name}={path}: shared-memory segment {size / 2**20:.0f} MB")
    if not room.is_dir():
        found.problem(f"{room} does not exist, so there is no shared memory between processes.")
        return
    free = shutil.disk_usage(room).free
    if free < PROCESSES * size:
        found.problem(
            f"{room} has {free / 2**20:.0f} MB free, too little for {PROCESSES} processes of {size / 2**20:.0f} MB "
            "each; mount it larger (a container: docker run --shm-size=1g)."
        )
    else:
        found.say(f"{room}: {free / 2**20:.0f} MB free")
    if left := leftovers(room):
        ports = sum(path.name.startswith(PORT) for path in left)
        found.say(
            f"{room}: {ports} ports and {len(left) - ports} segments of Fast DDS belong to no process, as after kill "
            f"-9; where a node that was started again hears nothing, stop all nodes and rm {room}/fastrtps_* "
            f"{room}/sem.fastrtps_*"
        )


# -- topics ---------------------------------------------------------------------------------------------


@dataclass
class Heard:
    """What came on one topic while the doctor listened."""

    arrivals_ns: list[int] = field(default_factory=list)
    offsets_ns: list[int] = field(default_factory=list)
    undecodable: str = ""

    @property
    def rate_hz(self) -> float:
        span = self.arrivals_ns[-1] - self.arrivals_ns[0] if len(self.arrivals_ns) > 1 else 0
        return 1e9 * (len(self.arrivals_ns) - 1) / span if span else 0.0


def _topics(found: Findings, graph: Graph | None, sample_s: float, domain_id: int | None) -> None:
    import rclpy
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.signals import SignalHandlerOptions

    context = Context()
    rclpy.init(args=[], context=context, domain_id=domain_id, signal_handler_options=SignalHandlerOptions.NO)
    executor = SingleThreadedExecutor(context=context)
    node = Node("ros_attn_doctor", context=context)
    try:
        executor.add_node(node)

        def spin(seconds: float) -> None:
            until_s = time.monotonic() + seconds
            while (left_s := until_s - time.monotonic()) > 0:
                executor.spin_once(timeout_sec=left_s)

        # Discovery of what is already there.
        spin(min(1.0, sample_s))
        wanted = _wanted(graph, node)
        heard = {topic: Heard() for topic, _ in wanted}
        for topic, value_type in wanted:
            _listen(node, topic, value_type, heard[topic])
        spin(sample_s)
        found.head(f"topics, heard for {sample_s:g} s:")
        if not wanted:
            found.say("none of a type that ros_attn takes")
        for topic, value_type in wanted:
            _judge(found, node, topic, value_type, heard[topic])
        if node.count_publishers("/clock"):
            found.say("/clock is published: nodes want -p use_sim_time:=true")
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()


def _wanted(graph: Graph | None, node: Node) -> list[tuple[str, type[Value]]]:
    from ros_attn.codecs import value_type_of

    if graph is not None:
        internal = {topic for stage in graph.stages for topic in stage.output_topics().values()}
        return list(_inputs(graph, internal))
    typed = [(topic, value_type_of(types[0])) for topic, types in node.get_topic_names_and_types()]
    return sorted(
        ((topic, found) for topic, found in typed if found is not None and node.count_publishers(topic)),
        key=lambda item: item[0],
    )


def _inputs(graph: Graph, internal: set[str]) -> Iterator[tuple[str, type[Value]]]:
    for stage in graph.stages:
        runtime = Runtime(stage.component, stage.options)
        for name, topic in stage.input_topics(runtime).items():
            if topic not in internal:
                yield topic, runtime.queues[name].policy.type if name in runtime.queues else Transforms


def _listen(node: Node, topic: str, value_type: type[Value], heard: Heard) -> None:
    from ros_attn.bag.reader import default_typestore
    from ros_attn.codecs import decode
    from ros_attn.hosts import ros_qos
    from ros_attn.hosts.ros_inputs import installed_types, message_class

    publishers = node.get_publishers_info_by_topic(topic)
    msgtype = next((each for each in installed_types(value_type) if each in {p.topic_type for p in publishers}), None)
    if msgtype is None:
        return

    def take(raw: bytes) -> None:
        arrival_ns = node.get_clock().now().nanoseconds
        heard.arrivals_ns.append(arrival_ns)
        try:
            value = decode(default_typestore(False).deserialize_cdr(memoryview(raw), msgtype), msgtype, arrival_ns)
        except Exception as error:
            heard.undecodable = str(error)
            return
        if value.stamp_ns != arrival_ns:
            heard.offsets_ns.append(arrival_ns - value.stamp_ns)

    profile = ros_qos.tf_static() if topic == "/tf_static" else ros_qos.incoming(value_type, lossless=False)
    node.create_subscription(message_class(msgtype), topic, take, profile, raw=True)


def _judge(found: Findings, node: Node, topic: str, value_type: type[Value], heard: Heard) -> None:
    from ros_attn.hosts import ros_qos
    from ros_attn.hosts.ros_inputs import installed_types

    publishers = node.get_publishers_info_by_topic(topic)
    if not publishers:
        found.problem(f"{topic}: nobody publishes it.")
        return
    types, fitting = sorted({each.topic_type for each in publishers}), installed_types(value_type)
    offset = f", {_offset(heard)}" if heard.offsets_ns else ""
    found.say(f"{topic}  {' and '.join(types)}  {heard.rate_hz:.1f} Hz{offset}")
    if not set(types) & set(fitting):
        found.problem(f"{topic}: {' or '.join(fitting)} is wanted; remap to such a topic.")
    ours = ros_qos.tf_static() if topic == "/tf_static" else ros_qos.incoming(value_type, lossless=False)
    for each in publishers:
        policies = ros_qos.disagreement(each.qos_profile, ours)
        found.say(f"    from {ros_qos.node_name(each)}: {_qos(each.qos_profile)}")
        if policies:
            found.problem(f"{topic}: nothing comes from {ros_qos.node_name(each)} ({policies}).")
    if heard.undecodable:
        found.problem(f"{topic}: {heard.undecodable}")
    if heard.offsets_ns and abs(statistics.median(heard.offsets_ns)) > OFFSET_S * 1e9:
        found.problem(
            f"{topic}: {_offset(heard)}; set the sensor's clock (chrony, PTP), or for a bag play it with --clock and "
            "set use_sim_time."
        )


def _offset(heard: Heard) -> str:
    median_s = statistics.median(heard.offsets_ns) * 1e-9
    amount = f"{1e3 * abs(median_s):.1f} ms" if abs(median_s) < 10 else f"{abs(median_s):.4g} s"
    return f"stamps {amount} {'behind' if median_s >= 0 else 'ahead of'} this machine's clock"


def _qos(profile: Any) -> str:
    return f"{profile.reliability.name.lower().replace('_', ' ')}, {profile.durability.name.lower().replace('_', ' ')}"
