"""The services of a node: ``~/reset``, ``~/save``, ``~/newest``, and transitions that are refused, not fatal."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from std_srvs.srv import Trigger

from ros_attn.errors import RosAttnError

if TYPE_CHECKING:
    from ros_attn.hosts.ros_node import ComponentNode

# How long the executor's thread is held at a time while a save is waited for.
SLICE_S = 0.01


class _Turn:
    """Awaited, it lets the executor do other work once."""

    def __await__(self) -> Generator[None, None, None]:
        yield


class NodeServices:
    """Creates and answers the services of one node."""

    def __init__(self, node: ComponentNode) -> None:
        self._node = node
        node.create_service(Trigger, "~/reset", self._reset)
        node.create_service(Trigger, "~/newest", self._newest)
        if hasattr(node.stage.component, "save"):
            node.create_service(Trigger, "~/save", self._save)
        # rclpy lets a transition that is not possible now raise in the executor, which would end the process.
        service = node._service_change_state
        change_state = service.callback

        def guarded(request: Any, response: Any) -> Any:
            try:
                return change_state(request, response)
            except rclpy_implementation.RCLError:
                asked = request.transition.label or request.transition.id
                node.get_logger().warning(f"Transition {asked!r} is not possible while the node is {node.state}.")
                response.success = False
                return response

        service.callback = guarded

    def _reset(self, request: Any, response: Any) -> Any:
        node = self._node
        if node.activity is None or node.worker is None:
            response.success, response.message = False, f"The node is {node.state}: there is nothing to reset."
            return response
        node.worker.request_reset("~/reset was called")
        response.success, response.message = True, "The component forgets what it saw before its next step."
        return response

    def _newest(self, request: Any, response: Any) -> Any:
        """A line for each topic that is heard: its name and the stamp [ns] of the last message taken, -1 for none."""
        node = self._node
        response.success = node.activity is not None
        heard = {} if node.activity is None else {each.topic: each.newest_ns for each in node.activity.sources}
        response.message = "\n".join(f"{topic} {-1 if ns is None else ns}" for topic, ns in heard.items())
        return response

    async def _save(self, request: Any, response: Any) -> Any:
        node, worker = self._node, self._node.worker
        if worker is None:
            response.success, response.message = False, f"The node is {node.state}: there is nothing to save."
            return response
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        path = Path(node.settings["save"].save_path or f"{node.get_name()}-{stamp}")
        done, problem = threading.Event(), []

        def save() -> None:
            try:
                node.stage.component.save(path)  # type: ignore[attr-defined]
            except Exception as error:
                # A failed save is an answer to who asked, not the end of the node.
                problem.append(str(error) or type(error).__name__)
                if not isinstance(error, RosAttnError | OSError):
                    node.get_logger().error(traceback.format_exc())
            done.set()

        if node.activity is None:
            save()
        else:
            worker.call(save)
        while not done.wait(SLICE_S) and worker.running:
            await _Turn()
        if not done.is_set():
            problem.append("the node was deactivated before the step under way ended.")
        response.success = not problem
        response.message = f"Not saved to {path.resolve()}: {problem[0]}" if problem else f"Saved to {path.resolve()}."
        return response
