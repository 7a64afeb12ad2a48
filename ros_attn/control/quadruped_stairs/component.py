"""The stair climber as a component: sensors, depth images and velocity commands in, joint commands for the gate out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from ros_attn.component import Component, Every, Hold, Out, Outputs, Static, Window
from ros_attn.control.depth_image import Depth, DepthInput, field_window, metres, preprocess
from ros_attn.control.depth_image import Window as FieldWindow
from ros_attn.control.legged_checkpoint import RATE_HZ
from ros_attn.control.legged_policy import LeggedPolicy
from ros_attn.control.quadruped_stairs.agreement import agree
from ros_attn.control.quadruped_stairs.attention_picture import attention_picture
from ros_attn.control.quadruped_stairs.depth_watch import DepthWatch
from ros_attn.control.quadruped_stairs.policy import load
from ros_attn.control.shipped import checkpoint_folder
from ros_attn.errors import MessageError, ParameterError
from ros_attn.grid import SECOND
from ros_attn.params import param
from ros_attn.policies.stair_student import DEPTH_SHAPE, VALID_SHAPE, StairStudent, StudentState
from ros_attn.values import Array, CameraInfo, Image, Imu, JointState, Twist


@dataclass(frozen=True)
class StairsParams:
    """Parameters of quadruped_stairs."""

    checkpoint: str = param("stairs_go2", "checkpoint directory of the policy, or the name of one in the package")
    robot: str = param(
        "", "checkpoint directory whose contract.json describes the robot that is there, such as the safety gate's; "
        "a policy for another robot is refused; empty: not compared",
    )  # fmt: skip
    ramp_s: float = param(
        1.5, "time from the pose at the start to the default pose, before the policy takes over", unit="s",
        low=0.0, high=10.0,
    )  # fmt: skip
    attention_hz: float = param(
        0.0, "pictures a second, at most, of where the policy looks; 0: none", unit="1/s", low=0.0, high=50.0, live=True
    )


@dataclass
class QuadrupedStairs(Component):
    """Climbs by a depth camera and velocity commands; see :class:`.StairStudent` for the policy.

    Fifty times a second of the IMU's stamps. Inputs ``imu``, ``joint_states`` and ``cmd_vel`` as in quadruped_walk;
    ``depth`` (16UC1 mm or 32FC1 m along the optical axis, rectified, any size; new where its stamp is) and
    ``camera_info``, without which nothing is asked of the joints: it places the field of view that the policy was
    trained with. Images become what training had by :func:`.preprocess`; the policy's memory goes from step to step
    and begins when the ramp is over. Outputs: ``joint_commands`` as in quadruped_walk, and ``attention``, rgb8 as in
    :func:`.attention_picture`, of the legs in the order of their joints and of the body.

    While depth images are at fault (:class:`.DepthWatch`, or unreadable, or of another size than the calibration) all
    tokens are closed, the command is 0 and the robot stands: damping on a stair would be a fall, and going on blind
    often is one. It goes on after 0.5 s of good images.

    Raises :class:`RosAttnError` in :meth:`configure` where the checkpoint is unusable or for another robot (all
    differences in one sentence), :class:`MessageError` in :meth:`step` where joints are missing or a number is not
    finite, which must not enter the memory, :class:`ParameterError` for an uncalibrated camera. Source: arXiv
    2606.25765; frames, ramp and the reactions to faults are ours.
    """

    inputs: ClassVar = {
        "imu": Window(Imu, "imu"),
        "joint_states": Window(JointState, "joint_states"),
        "cmd_vel": Hold(Twist, "cmd_vel", max_age_s=0.5),
        "depth": Hold(Image, "depth/image"),
        "camera_info": Static(CameraInfo, "depth/camera_info"),
    }
    outputs: ClassVar = {
        "joint_commands": Out(JointState, "policy/joint_commands"),
        "attention": Out(Image, "~/debug/attention", kind="sensor"),
    }
    trigger: ClassVar = Every(RATE_HZ, by="imu")
    Params: ClassVar = StairsParams
    backlog: ClassVar = "latest"

    _student: StairStudent = field(init=False)
    _legs: LeggedPolicy = field(init=False)
    _camera: Mapping[str, float] = field(init=False)
    _state: StudentState = field(init=False)
    _watch: DepthWatch = field(init=False)
    _seen: DepthInput = field(init=False)
    """The last image that could be read."""
    _stamp_ns: int | None = field(init=False)
    """Of the last image."""
    _fresh: bool = field(init=False)
    """Whether the policy has not been shown ``_seen`` yet."""
    _shown: tuple[torch.Tensor, torch.Tensor] | None = field(init=False)
    """Observation and open tokens of the policy's last step."""
    _pictured_ns: int | None = field(init=False)

    def configure(self) -> None:
        if not self.params.checkpoint:
            raise ParameterError(f"{self.kind()}: checkpoint is empty; name the checkpoint directory of a policy.")
        self._student, contract = load(checkpoint_folder(self.params.checkpoint))
        self._camera = agree(contract, self.params.checkpoint, self.params.robot)
        self._legs = LeggedPolicy(contract, self.params.ramp_s, self.health)
        self._refuse_pictures_of(self.params)
        self.reset()
        self._fresh = True
        self._act(np.zeros((1, len(self._student.mean)), np.float32))
        self.reset()

    def set_params(self, params: Any) -> None:
        self._refuse_pictures_of(params)
        super().set_params(params)

    def reset(self) -> None:
        self._legs.reset()
        self._state = self._student.initial_state(1)
        self._watch = DepthWatch()
        self._seen = DepthInput(np.zeros(DEPTH_SHAPE, np.float32), np.zeros(VALID_SHAPE, np.float32))
        self._stamp_ns, self._fresh, self._shown, self._pictured_ns = None, False, None, None
        self.health.clear("depth")

    def step(
        self,
        now_ns: int,
        imu: tuple[Imu, ...],
        joint_states: tuple[JointState, ...],
        cmd_vel: Twist | None,
        depth: Image | None,
        camera_info: CameraInfo,
    ) -> Outputs:
        window = self._window(camera_info)
        if depth is not None and depth.stamp_ns != self._stamp_ns:
            self._look(depth, camera_info, window)
        command = self._allowed(now_ns, self._legs.command(cmd_vel))
        asked = self._legs.step(now_ns, imu, joint_states, command, self._act)
        return {"joint_commands": asked, "attention": self._picture(now_ns, depth)}

    # -- depth ------------------------------------------------------------------------------------------

    def _window(self, info: CameraInfo) -> FieldWindow:
        """The part of an image that shows what the policy was trained with."""
        window = field_window(info.k, self._camera["horizontal_fov_rad"], self._camera["vertical_fov_rad"])
        # Where it is the whole image, rounding must not make it almost the whole.
        left, top, right, bottom = (round(edge, 6) for edge in window)
        return left, top, right, bottom

    def _look(self, depth: Image, info: CameraInfo, window: FieldWindow) -> None:
        """Take in a new image."""
        self._stamp_ns = depth.stamp_ns
        try:
            depth_m = _metres(depth, info)
        except MessageError as error:
            self._watch.refuse(depth.stamp_ns, str(error))
            return
        self._seen, self._fresh = preprocess(depth_m, self._camera["near_m"], self._camera["far_m"], window), True
        self._watch.see(depth.stamp_ns, depth_m, float(self._seen.valid.mean()))

    def _allowed(self, now_ns: int, command: Array) -> Array:
        """The command [3] that may be followed with what is seen now."""
        cause, since_ns = self._watch.judge(now_ns), self._watch.since_ns
        if since_ns is None:
            self.health.clear("depth")
            return command
        self.health.error("depth", f"Depth is not used since {since_ns / SECOND:.2f} s, the robot stands: {cause}.")
        return np.zeros(3)

    # -- policy -----------------------------------------------------------------------------------------

    def _act(self, seen: NDArray[np.float32]) -> Array:
        """The action [J]; the memory goes on by a step."""
        if not np.isfinite(seen).all():
            raise MessageError("imu, joint_states or cmd_vel holds a number that is not finite; mend its publisher.")
        valid = np.zeros_like(self._seen.valid) if self._watch.cause else self._seen.valid
        row, image, shares = (torch.from_numpy(each) for each in (seen, self._seen.image[None], valid[None]))
        with torch.inference_mode():
            fresh = torch.full((1, 1), float(self._fresh))
            action, self._state = self._student.step(self._state, row, image, shares, fresh)
        self._fresh, self._shown = False, (row, shares)
        return action[0].numpy().astype(np.float64)

    # -- pictures ---------------------------------------------------------------------------------------

    def _refuse_pictures_of(self, params: StairsParams) -> None:
        vision = self._student.params["vision"]
        if params.attention_hz > 0 and vision != "attention":
            raise ParameterError(
                f"{self.kind()}: attention_hz is {params.attention_hz:g}, but a policy with vision {vision!r} has no "
                "attention to show; set it to 0."
            )

    def _picture(self, now_ns: int, depth: Image | None) -> Image | None:
        """Where the policy looks, as often as is asked for; None before it has acted."""
        hz = self.params.attention_hz
        if not hz or self._shown is None:
            return None
        if self._pictured_ns is not None and (now_ns - self._pictured_ns) * hz < SECOND:
            return None
        self._pictured_ns = now_ns
        with torch.inference_mode():
            maps = self._student.attention(self._state, *self._shown)[0].numpy()
        frame = "" if depth is None else depth.frame_id
        return Image(now_ns, attention_picture(self._seen.image, maps), "rgb8", frame)


def _metres(depth: Image, info: CameraInfo) -> Depth:
    """Depth [H, W] in m. Raises :class:`MessageError` for what is no depth image of that camera."""
    if (depth.width, depth.height) != (info.width, info.height):
        raise MessageError(
            f"depth/image has {depth.width}x{depth.height} px, but depth/camera_info is for "
            f"{info.width}x{info.height}; calibrate at the size that is streamed"
        )
    return metres(depth.data, depth.encoding)
