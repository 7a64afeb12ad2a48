"""Small components for the tests of the rclpy host."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from ros_attn.component import Component, Hold, Out, Outputs, Static, Sync, Timer, Transform
from ros_attn.errors import MessageError, RosAttnError
from ros_attn.params import param
from ros_attn.values import CameraInfo, FloatArray, Imu, Text


@dataclass(frozen=True)
class ScaleParams:
    """Parameters of Scale."""

    factor: float = param(
        2.0, "what the angular velocity is multiplied with", unit="1", low=-10.0, high=10.0, live=True
    )
    offset: float = param(0.0, "what is added", unit="rad/s", low=-1.0, high=1.0)
    weights: tuple[float, ...] = param((), "unused numbers")
    count: int = param(1, "an unused whole number", low=0, high=5, live=True)
    mode: Literal["fast", "slow"] = param("fast", "unused")
    trouble: Literal["", "configure", "configure_bug", "step", "step_bug"] = param("", "what goes wrong", live=True)


@dataclass
class Scale(Component):
    """Angular velocity times a factor; counts its steps since the last reset in ``frame_id``."""

    inputs: ClassVar = {"imu": Sync(Imu, "imu")}
    outputs: ClassVar = {"scaled": Out(Imu, "scaled")}
    Params: ClassVar = ScaleParams
    steps: int = 0

    def configure(self) -> None:
        if self.params.trouble == "configure":
            raise RosAttnError("The weights of Scale are missing at nowhere.safetensors; train it.")
        if self.params.trouble == "configure_bug":
            raise ValueError("a bug in configure")

    def reset(self) -> None:
        self.steps = 0

    def step(self, now_ns: int, imu: Imu) -> Outputs:
        if self.params.trouble == "step":
            raise MessageError("imu has no angular velocity.")
        if self.params.trouble == "step_bug":
            raise ValueError("a bug in step")
        self.steps += 1
        if imu.angular_velocity[0] > 100:
            self.health.warn("spin", "imu spins.")
        else:
            self.health.clear("spin")
        turned = imu.angular_velocity * self.params.factor + self.params.offset
        return {"scaled": Imu(now_ns, turned, imu.linear_acceleration, frame_id=f"step {self.steps}")}

    def save(self, path: Path) -> None:
        if path.name == "refused":
            raise RosAttnError("There is nothing to save yet.")
        path.write_text(f"{self.steps} steps")


@dataclass
class Idle(Scale):
    """Scale without state: its steps may be left out while nobody listens."""

    stateless: ClassVar = True


@dataclass
class Ticks(Component):
    """A step for every tenth of a second of the arrival clock."""

    inputs: ClassVar = {"imu": Hold(Imu, "imu")}
    outputs: ClassVar = {"ticks": Out(FloatArray, "ticks", kind="sensor")}
    trigger: ClassVar = Timer(10.0)
    resets: int = 0

    def reset(self) -> None:
        self.resets += 1

    def step(self, now_ns: int, imu: Imu | None) -> Outputs:
        return {"ticks": FloatArray(now_ns, np.array([now_ns * 1e-9, self.resets, imu is not None]))}


@dataclass
class Calibrated(Component):
    """Waits for a calibration that is published once."""

    inputs: ClassVar = {"imu": Sync(Imu, "imu"), "info": Static(CameraInfo, "camera_info")}
    outputs: ClassVar = {"said": Out(Text, "said")}

    def step(self, now_ns: int, imu: Imu, info: CameraInfo) -> Outputs:
        return {"said": Text(now_ns, f"{info.width}x{info.height}")}


@dataclass
class Mounted(Component):
    """Says where the IMU is mounted."""

    inputs: ClassVar = {"imu": Sync(Imu, "imu"), "T_base_imu": Transform("base_link", "imu_link", wait_s=60.0)}
    outputs: ClassVar = {"place": Out(FloatArray, "place")}

    def step(self, now_ns: int, imu: Imu, T_base_imu: Any) -> Outputs:
        return {"place": FloatArray(now_ns, T_base_imu[:3, 3])}
