"""Which subscriptions the inputs of a runtime need, and how their messages reach it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ros_attn.component import Static
from ros_attn.errors import RosAttnError
from ros_attn.hosts.ros_inputs import Source, installed_types
from ros_attn.runtime import TF, TF_STATIC, TF_TOPICS, Runtime
from ros_attn.values import Transform, Transforms, Value

if TYPE_CHECKING:
    from ros_attn.hosts.ros_node import ComponentNode

TRANSFORM = "~/transform"


def sources_of(node: ComponentNode, runtime: Runtime, lossless: bool) -> list[Source]:
    """One source for every input; raises RosAttnError where a node of this process gives another type."""
    found = [_source(node, runtime, name, lossless) for name in runtime.queues]
    if runtime.transforms is None:
        return found
    if installed_types(Transforms):
        return found + [_tf(node, runtime, name, lossless) for name in TF_TOPICS]
    topic = node.resolve_topic_name(TRANSFORM)
    node.get_logger().warning(
        f"tf2_msgs is not installed, so /tf and /tf_static are not heard: publish extrinsics on {topic} "
        "(geometry_msgs/TransformStamped, transient local), or source a ROS that has tf2_msgs."
    )
    return [*found, _transform(node, runtime, lossless)]


def _push(node: ComponentNode, name: str):
    def push(value: Value, arrival_ns: int) -> None:
        worker = node.worker
        if worker is not None:
            worker.push(name, value, arrival_ns)

    return push


def _source(node: ComponentNode, runtime: Runtime, name: str, lossless: bool) -> Source:
    queue = runtime.queues[name]
    asked = node.asked(queue.policy.topic)
    topic = node.resolve_topic_name(asked)
    producer = node.around.producer(topic)
    if producer is not None:
        given = next(
            out for key, out in producer.stage.component.outputs.items() if producer.output_topics[key] == topic
        )
        if given.type is not queue.policy.type:
            raise RosAttnError(
                f"{topic}: {producer.get_name()} gives {given.type.__name__}, but input {name!r} of {node.get_name()} "
                f"takes {queue.policy.type.__name__}; change a remapping."
            )
    return Source(
        node, name, asked, queue.policy.type, "held" if isinstance(queue.policy, Static) else "stream", lossless,
        queue.counters, _push(node, name), node.examine, producer.get_fully_qualified_name() if producer else "",
    )  # fmt: skip


def _tf(node: ComponentNode, runtime: Runtime, name: str, lossless: bool) -> Source:
    kind = "tf_static" if name == TF_STATIC else "stream"
    return Source(
        node, name, node.asked(TF_TOPICS[name]), Transforms, kind, lossless,
        runtime.tf_counters, _push(node, name), node.examine,
    )  # fmt: skip


def _transform(node: ComponentNode, runtime: Runtime, lossless: bool) -> Source:
    push = _push(node, TF_STATIC)

    def arrived(value: Value, arrival_ns: int) -> None:
        assert isinstance(value, Transform)
        push(Transforms(value.stamp_ns, (value,)), arrival_ns)

    return Source(
        node, TF, TRANSFORM, Transform, "held", lossless, runtime.tf_counters, arrived, node.examine
    )  # fmt: skip
