"""What the tests of the climbing component share: a policy of chance, and sensors and a host around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ros_attn import checkpoint
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_stairs.component import QuadrupedStairs, StairsParams
from ros_attn.control.quadruped_stairs.policy import contract
from ros_attn.geometry import quaternion_from_euler
from ros_attn.policies.stair_student import StairStudent, StudentState
from ros_attn.runtime import Runtime
from ros_attn.sim.depth_sense import camera_of
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.values import CameraInfo, Image, Imu, JointState, Twist, Value

MS = 1_000_000
JOINTS = tuple("abcd")
ROBOT: dict[str, Any] = {
    "joints": list(JOINTS), "default_pose": [0.1, -0.2, 0.3, -0.4], "position_limits": [[-1.0, 1.0]] * 4,
    "velocity_limits": [10.0] * 4, "torque_limits": [20.0] * 4, "kp": [40.0, 41.0, 42.0, 43.0], "kd": [1.0] * 4,
    "frames": 2, "action_scale": 0.25,
}  # fmt: skip
COMMANDS = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}
OF_CAMERA = camera_of(GO2_LIKE)
CAMERA = {
    name: getattr(OF_CAMERA, name) for name in ("near_m", "far_m", "horizontal_fov_rad", "vertical_fov_rad")
}  # fmt: skip
ORIENTATION = quaternion_from_euler(0.1, -0.2, 0.7)
Change = Callable[[dict[str, Any]], None]


def save(path: Path, robot: dict[str, Any], vision: str = "attention", change: Change = lambda agreed: None) -> Path:
    """A checkpoint of a student of chance; ``change`` does to its contract what a test wants."""
    torch.manual_seed(0)
    mapping = LocomotionMapping.of(robot)
    student = StairStudent(mapping.size * mapping.frames, len(mapping.joints), vision, hidden=32, head=(16,))
    with torch.no_grad():
        # Of the size of trained actions, and not so fast that a gate would cut their rates.
        student.layers[-1].weight.mul_(6)  # type: ignore[operator]
    agreed = contract(robot, COMMANDS, CAMERA)
    change(agreed)
    tensors = {name: np.asarray(tensor.detach()) for name, tensor in student.state_dict().items()}
    config = {"class": "StairStudent", "params": student.params, "training": {}}
    checkpoint.save(checkpoint.Checkpoint(config, tensors, agreed), path)
    return path


@dataclass
class Seen:
    """What the policy was given in one step, and what it answered."""

    row: np.ndarray
    depth: np.ndarray
    valid: np.ndarray
    fresh: float
    action: np.ndarray

    @property
    def command(self) -> list[float]:
        return self.row[0, 6:9].astype(float).round(6).tolist()

    @property
    def open(self) -> bool:
        return bool(self.valid.any())


def recorded(component: QuadrupedStairs) -> list[Seen]:
    """Filled with what the policy sees from now on."""
    seen: list[Seen] = []
    student = component._student
    step = student.step

    def recording(
        state: StudentState, observation: torch.Tensor, depth: torch.Tensor, valid: torch.Tensor, fresh: torch.Tensor
    ) -> tuple[torch.Tensor, StudentState]:
        action, following = step(state, observation, depth, valid, fresh)
        row, image, shares, answer = (each.numpy().copy() for each in (observation, depth[0], valid[0], action))
        seen.append(Seen(row, image, shares, float(fresh[0, 0]), answer))
        return action, following

    student.step = recording
    return seen


def info(width: int = 64, height: int = 48, fov_deg: tuple[float, float] = (87.0, 58.0)) -> CameraInfo:
    fx, fy = (side / 2 / np.tan(np.deg2rad(angle) / 2) for side, angle in zip((width, height), fov_deg, strict=True))
    k = np.array([[fx, 0, width / 2 - 0.5], [0, fy, height / 2 - 0.5], [0, 0, 1]])
    return CameraInfo(0, width, height, k, np.zeros(5), np.eye(3), np.hstack([k, np.zeros((3, 1))]))


@dataclass
class Robot:
    """Sensors and a host around the component."""

    saved: Path
    params: dict[str, Any] = field(default_factory=dict)
    camera_info: CameraInfo = field(default_factory=info)
    asked: tuple[float, float, float] | None = (0.5, 0.0, 0.4)
    images: int = 0

    def __post_init__(self) -> None:
        self.component = QuadrupedStairs(
            params=StairsParams(checkpoint=str(self.saved), **{"ramp_s": 0.0, **self.params})
        )
        self.component.configure()
        self.runtime = Runtime(self.component)
        self.seen = recorded(self.component)
        self.runtime.push("camera_info", self.camera_info, 0)

    def image(self, ms: float, change: Any = None, encoding: str = "32FC1") -> np.ndarray:
        """An image taken at ``ms`` arrives, by default one like no other."""
        self.images += 1
        data = np.random.default_rng(self.images).uniform(0.2, 1.9, (48, 64)).astype(np.float32)
        data = data if change is None else change
        stamp = round(ms * MS)
        self.runtime.push("depth", Image(stamp, data, encoding, "camera"), stamp)
        return data

    def tick(self, ms: float, angle: float = 0.0) -> dict[str, Value]:
        """One moment of all other sensors; what comes out."""
        stamp = round(ms * MS)
        if self.asked is not None:
            forward, left, turn = self.asked
            self.runtime.push("cmd_vel", Twist(stamp, np.array([forward, left, 0]), np.array([0, 0, turn])), stamp)
        place = angle + 0.01 * np.arange(4)
        self.runtime.push("joint_states", JointState(stamp, JOINTS, place, 2 * place, np.empty(0)), stamp)
        self.runtime.push("imu", Imu(stamp, np.array([0.3, 0.2, 0.1]), np.array([0, 0, 9.81]), ORIENTATION), stamp)
        given: dict[str, Value] = {}
        while (work := self.runtime.take()) is not None:
            given |= {name: value for name, value in self.runtime.run(work).items() if value is not None}
        return given

    def ticks(self, first_ms: int, end_ms: int, image: Callable[[int], Any] | None = None) -> list[Seen]:
        """Ticks of 20 ms from ``first_ms`` to before ``end_ms``, with an image every 100 ms; what the policy saw."""
        before = len(self.seen)
        for ms in range(first_ms, end_ms, 20):
            if image is not None and ms % 100 == 0:
                self.image(ms, image(ms))
            self.tick(ms)
        return self.seen[before:]

    @property
    def said(self) -> str:
        return self.component.health.snapshot().get("depth", "")


def none(ms: int) -> None:
    """An image like no other."""


def student_of(saved: Path) -> StairStudent:
    """A second one of the same weights."""
    component = QuadrupedStairs(params=StairsParams(checkpoint=str(saved)))
    component.configure()
    return component._student


def with_valid(pixels: int) -> np.ndarray:
    """An image of which so many pixels are valid."""
    data = np.zeros(48 * 64, np.float32)
    data[np.random.default_rng(pixels).permutation(48 * 64)[:pixels]] = 1.0
    return data.reshape(48, 64)
