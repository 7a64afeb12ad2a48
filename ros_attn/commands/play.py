"""``ros-attn play``: a policy drives a simulated quadruped through the components that run on the robot."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ros_attn.commands.play_video import Video, check, with_attention, with_depth, with_text
from ros_attn.commands.replay import set_threads
from ros_attn.errors import RosAttnError
from ros_attn.values import Image, Value

PICTURE_HZ = 25
ATTENTION, DEPTH = "/policy/debug/attention", "/depth/image"
Show = Callable[[], bool]
"""Show the robot as it is now; whether to go on."""


@dataclass(frozen=True)
class Options:
    """Let the policy of a checkpoint drive a simulated quadruped, through its component and the safety gate.

    Prints how far and fast the robot went, falls, torques, and why joints were damped. Headless; without --video a
    window shows the robot where there is a display. A fallen robot begins anew after 1 s; on stairs with a landing the
    run ends 1 s after all feet are on it.
    """

    checkpoint: Annotated[str, tyro.conf.Positional] = "walk_go2"
    """directory of a quadruped_walk or quadruped_stairs policy, or the name of one that comes with the package."""
    robot: Path | None = None
    """MJCF of another robot with the same joints, as in MuJoCo Menagerie; the gains are the checkpoint's."""
    terrain: str = "flat"
    """flat, rough, platforms, gaps, stairs or hollow, with a size: rough:0.05 (m), hollow:30 (degrees)."""
    command: tuple[float, float, float] = (0.5, 0.0, 0.0)
    """forward, left m/s and turn rad/s."""
    seconds: float = 10.0
    """simulated time, with the 1.5 s that the robot takes to its default pose."""
    video: Path | None = None
    """mp4 file to write, 25 pictures a second; with insets of what a stair climber sees."""
    size: str = "640x480"
    """of the video, in pixels."""
    seed: int = 0
    """of the terrain, and of how late depth images come."""


@dataclass
class Seen:
    """Keeps the newest image of each topic that a policy looks at or shows."""

    images: dict[str, Image] = field(default_factory=dict)

    def __call__(self, topic: str, value: Value, now_ns: int) -> Value:
        """A hook of the closed loop, which changes nothing."""
        if isinstance(value, Image) and topic in (ATTENTION, DEPTH):
            self.images[topic] = value
        return value


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn play")
    if not 0 < options.seconds <= 3600:
        raise RosAttnError(f"--seconds is {options.seconds:g}; give a time above 0 and up to 3600 s.")
    if not all(abs(each) < 100 for each in options.command):
        raise RosAttnError("--command holds a number that is none or too large; give forward, left m/s, turn rad/s.")
    size = check(options.video, options.size) if options.video else None
    from ros_attn.hosts.sim_policy import policy_loop
    from ros_attn.hosts.sim_rollout import Rollout
    from ros_attn.hosts.sim_terrain import terrain
    from ros_attn.sim.go2_like import GO2_LIKE
    from ros_attn.sim.legged_world import PHYSICS_HZ
    from ros_attn.sim.robot_file import load_robot

    seen = Seen()
    ground = terrain(options.terrain, options.seed)
    try:
        robot = load_robot(options.robot, _note) if options.robot else GO2_LIKE
    except ValueError as error:
        raise RosAttnError(f"--robot: {error}.") from None
    # Before there is any GL: Mesa's LLVM and that of Triton, which a policy may load, only bear this order.
    loop = policy_loop(
        options.checkpoint, robot, ground, lambda t_s: options.command, seed=options.seed,
        attention_hz=PICTURE_HZ if size else 0.0, tamper=seen, warn=_note,
    )  # fmt: skip
    set_threads(1)
    rollout = Rollout(loop)
    began, every = time.perf_counter(), PHYSICS_HZ // PICTURE_HZ
    with _showing(options, size, rollout, seen) as show:
        for number in range(max(1, round(options.seconds * PHYSICS_HZ))):
            if number % every == 0 and not show():
                break
            rollout.step()
            if rollout.done:
                break
    took_s = time.perf_counter() - began
    print(f"{options.checkpoint} on {robot.name}, {ground.name}, seed {options.seed}, in {took_s:.1f} s of wall time")
    print(rollout.summary(options.command))
    if options.video:
        print(f"video     {options.video}")
    return 0


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)


def _showing(options: Options, size: tuple[int, int] | None, rollout: Any, seen: Seen) -> AbstractContextManager[Show]:
    if options.video and size:
        return _video(options.video, size, options.seconds, rollout, seen)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "win32":
        if _display_works():
            return _window(rollout)
        _note("no window, as the display cannot be opened; give --video for pictures.")
    return nullcontext(lambda: True)


def _display_works() -> bool:
    """Whether a window can be opened: where none can, MuJoCo's viewer would end the process."""
    import glfw

    with warnings.catch_warnings(action="ignore"):
        return bool(glfw.init())


@contextmanager
def _video(path: Path, size: tuple[int, int], seconds: float, rollout: Any, seen: Seen) -> Iterator[Show]:
    """Every call is a picture."""
    from tqdm import tqdm

    from ros_attn.sim.chase_camera import ChaseCamera
    from ros_attn.sim.street_rendering import choose_backend

    backend, reason = choose_backend(None)
    if backend == "rays":
        raise RosAttnError(f"--video needs EGL or OSMesa, but {reason}; install libegl1 or libosmesa6.")
    simulated = rollout.loop.robot
    camera = ChaseCamera(simulated.robot, simulated.terrain, *size, backend)
    bar = tqdm(total=round(seconds * PICTURE_HZ), unit=" pictures", leave=False, disable=not sys.stderr.isatty())
    try:
        with bar, Video(path, *size, PICTURE_HZ) as video:

            def show() -> bool:
                made = camera.picture(simulated.world.qpos[0], 1 / PICTURE_HZ)
                if ATTENTION in seen.images:
                    made = with_attention(made, seen.images[ATTENTION].data)
                elif DEPTH in seen.images:
                    made = with_depth(made, seen.images[DEPTH].data, simulated.camera.camera.far_m)
                video.add(with_text(made, rollout.headline()))
                bar.update()
                return True

            yield show
    finally:
        camera.close()


@contextmanager
def _window(rollout: Any) -> Iterator[Show]:
    """A window at the pace of the wall clock, as far as the machine keeps up; closing it ends the run."""
    import mujoco
    import mujoco.viewer

    from ros_attn.hosts.pace import Pace
    from ros_attn.sim.chase_camera import picture_model

    simulated = rollout.loop.robot
    model = picture_model(simulated.robot, simulated.terrain)
    data = mujoco.MjData(model)
    pace = Pace(_note)
    with mujoco.viewer.launch_passive(model, data, show_left_ui=False, show_right_ui=False) as viewer:
        viewer.opt.geomgroup[:] = 1
        pace.start(simulated.now_ns)

        def show() -> bool:
            data.qpos[:] = simulated.world.qpos[0]
            mujoco.mj_forward(model, data)
            viewer.sync()
            time.sleep(pace.ahead_s(simulated.now_ns))
            return viewer.is_running()

        yield show
