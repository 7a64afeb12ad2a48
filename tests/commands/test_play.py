"""``ros-attn play``: what it measures and says, what it refuses, and its video."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

# Before any GL: Mesa's LLVM and Triton's, which torch takes in with its first custom operator, only bear this order.
import torch._dynamo

from ros_attn import checkpoint, cli
from ros_attn.commands import play
from ros_attn.commands.play_video import Video, check, with_attention, with_depth
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.control.quadruped_stairs.policy import contract as stairs_contract
from ros_attn.control.quadruped_walk.policy import contract
from ros_attn.errors import CheckpointError, RosAttnError
from ros_attn.hosts.sim_policy import policy_loop, with_gains
from ros_attn.hosts.sim_rollout import Rollout
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.stair_student import StairStudent
from ros_attn.sim import chase_camera
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.stairs import episode_stairs
from ros_attn.sim.street_rendering import choose_backend
from ros_attn.sim.terrain import flat

ROBOT = GO2_LIKE.contract() | {"frames": 1, "action_scale": 0.25}
RANGES = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}
MAPPING = LocomotionMapping.of(ROBOT)


def saved(path: Path, policy: BlindPolicy | StairStudent, agreed: dict[str, Any], params: dict[str, Any]) -> Path:
    """A checkpoint of a policy that asks for the default pose."""
    with torch.no_grad():
        for parameter in policy.layers[-1].parameters():
            parameter.zero_()
    tensors = {name: np.asarray(tensor.detach()) for name, tensor in policy.state_dict().items()}
    config = {"class": type(policy).__name__, "params": params, "training": {}}
    checkpoint.save(checkpoint.Checkpoint(config, tensors, agreed), path)
    return path


def walker(path: Path, **changed: Any) -> Path:
    return saved(path, BlindPolicy(MAPPING.size, 12, (8,)), contract(ROBOT | changed, RANGES), {"hidden": [8]})


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return walker(tmp_path_factory.mktemp("play") / "standing")


@pytest.fixture(scope="module")
def climber(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    student = StairStudent(MAPPING.size, 12, hidden=16, head=(8,))
    seen = {"near_m": 0.1, "far_m": 2.0, "horizontal_fov_rad": 1.5184, "vertical_fov_rad": 1.0123}
    return saved(
        tmp_path_factory.mktemp("play") / "climber", student, stairs_contract(ROBOT, RANGES, seen), student.params
    )


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)


def pictures(path: Path) -> np.ndarray:
    import cv2

    film, found = cv2.VideoCapture(str(path)), []
    assert film.get(cv2.CAP_PROP_FPS) == 25
    while (read := film.read())[0]:
        found.append(read[1])
    return np.array(found)


needs_gl = pytest.mark.skipif(choose_backend(None)[0] == "rays", reason="no EGL and no OSMesa here")


# -- what it measures -----------------------------------------------------------------------------------


def test_summary_of_a_robot_that_stands(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play.run([str(standing), "--seconds", "3", "--command", "-0.1", "0", "0.2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] in {f"distance  0.0{digit} m in 3.0 s" for digit in range(10)}
    assert lines[2].endswith("on average, asked for -0.1, 0, 0.2")
    assert lines[3:5] == ["falls     none", lines[4]] and lines[4].startswith("torque    ")
    assert lines[5:] == ["gate      never damped"]


def rollout(path: Path, **options: Any) -> Rollout:
    return Rollout(policy_loop(path, GO2_LIKE, flat(), lambda t_s: (0.5, 0.0, 0.0), **options))


def go(rollout: Rollout, seconds: float) -> Rollout:
    for _ in range(round(200 * seconds)):
        rollout.step()
    return rollout


def test_figures_are_those_of_the_motion(standing: Path) -> None:
    run = go(rollout(standing), 2.0)
    assert run.figures()["speed"] == [] and run.figures()["torque_rms"] == []  # the ramp and half a second after it
    world = run.loop.robot.world
    for _ in range(200):
        # Carried along y, at 90 degrees of yaw: forward.
        world.qpos[0, 3:7] = (np.sqrt(0.5), 0, 0, np.sqrt(0.5))
        world.qpos[0, 2], world.qvel[0, :6] = 0.6, (0, 0.5, 0, 0, 0, 0)
        run.step()
    figures = run.figures()
    assert figures["speed"] == pytest.approx([0.5, 0.0, 0.0], abs=0.03)
    assert figures["distance_m"] == pytest.approx(0.5, abs=0.05)
    assert figures["seconds"] == 3.0 and not run.falls
    assert np.min(figures["torque_peak"]) > 0 and (np.array(figures["torque_rms"]) <= figures["torque_peak"]).all()


def test_a_fall_is_counted_damps_and_begins_anew(standing: Path) -> None:
    run = go(rollout(standing), 2.0)
    world = run.loop.robot.world
    world.qpos[0, :7] = (3.0, 0.0, 0.4, 0.0, 1.0, 0.0, 0.0)  # on its back, and 3 m away
    go(run, 0.9)
    assert run.falls == [2.02] and world.qpos[0, 0] > 2
    [(at, cause)] = run.damped
    assert 2.0 < at <= 2.04 and "the base leans by" in cause
    assert "fallen" in run.headline()
    go(run, 1.0)
    assert len(run.falls) == 1 and len(run.damped) == 1
    assert abs(world.qpos[0, 0]) < 0.1 and "fallen" not in run.headline()
    assert run.figures()["distance_m"] == pytest.approx(3.0, abs=0.3)
    text = run.summary((0.5, 0, 0))
    assert "falls     at 2.02 s\n" in text and f"damped at {at:.2f} s: the base leans" in text


def test_a_touch_of_the_base_is_a_fall(standing: Path) -> None:
    run = go(rollout(standing), 0.5)
    qpos = run.loop.robot.world.qpos[0]
    qpos[2], qpos[7:] = 0.05, np.tile([0.0, 2.6, -2.7], 4)  # level, on its belly, the feet drawn up
    assert go(run, 0.1).falls == [0.52]


def test_arrival_on_the_landing_ends_the_run(standing: Path) -> None:
    terrain = episode_stairs(np.random.default_rng(0), 20.0)
    run = Rollout(policy_loop(standing, GO2_LIKE, terrain, lambda t_s: (0.0, 0.0, 0.0)))
    go(run, 1.0)
    assert run.arrived_s is None and "landing   not reached" in run.summary((0, 0, 0))
    x, y, top = terrain.route[-1]
    run.loop.robot.world.qpos[0, :3] = (x, y, top + 0.25)
    go(run, 0.5)
    assert run.arrived_s is not None and 1.0 < run.arrived_s < 1.3 and not run.done
    go(run, 1.0)
    assert run.done and "landing   reached with all feet after 1." in run.summary((0, 0, 0))


def test_what_a_component_says_is_told(standing: Path) -> None:
    loop = policy_loop(standing, GO2_LIKE, flat(), lambda t_s: (2.0, 0.0, 0.0))
    text = go(Rollout(loop), 0.3).summary((2.0, 0, 0))
    assert "note: policy: cmd_vel asks for (2, 0, 0), which is cut" in text


# -- robots and checkpoints -----------------------------------------------------------------------------


def test_gains_come_from_the_checkpoint_and_differences_are_told(tmp_path: Path) -> None:
    path = walker(tmp_path / "soft", kp=[25.0] * 12, torque_limits=[20.0] * 12)
    agreed = contract(ROBOT | {"kp": [25.0] * 12, "torque_limits": [20.0] * 12}, RANGES)
    said: list[str] = []
    robot = with_gains(GO2_LIKE, agreed, path, said.append)
    assert robot.kp.tolist() == [25.0] * 12 and robot.torque_limits is GO2_LIKE.torque_limits
    assert said == [
        "Go2 has other torque limits than soft: FL_hip_joint: 20.0 in the checkpoint, 23.7 here, and at 11 more places."
    ]


def test_joints_in_another_order_are_refused(tmp_path: Path) -> None:
    path = walker(tmp_path / "shuffled", joints=list(GO2_LIKE.joints[::-1]))
    with pytest.raises(CheckpointError, match="same names in another order, first at 0: RR_calf_joint"):
        policy_loop(path, GO2_LIKE, flat(), lambda t_s: None)


def test_a_policy_of_another_system_is_refused(tmp_path: Path) -> None:
    agreed = contract(ROBOT, RANGES) | {"system": "quadruped_wlk"}
    path = saved(tmp_path / "other", BlindPolicy(MAPPING.size, 12, (8,)), agreed, {"hidden": [8]})
    with pytest.raises(CheckpointError, match=r"'quadruped_wlk' .did you mean 'quadruped_walk'"):
        policy_loop(path, GO2_LIKE, flat(), lambda t_s: None)


def test_the_go2_of_menagerie_is_played(standing: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data / "menagerie/unitree_go2"
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}; set ROS_ATTN_DATA")
    assert play.run([str(standing), "--seconds", "2.5", "--robot", str(folder)]) == 0
    captured = capsys.readouterr()
    assert "on go2, flat" in captured.out and "falls     none" in captured.out and "never damped" in captured.out
    assert "go2 has other torque limits than standing: FL_calf_joint: 35.55" in captured.err


@pytest.mark.parametrize("options, sentence", [
    (["--terrain", "holow:30"], "did you mean 'hollow'"),
    (["--terrain", "hollow:80"], "cannot be built"),
    (["--seconds", "0"], "above 0"),
    (["--command", "nan", "0", "0"], "--command"),
    (["--robot", "nowhere.xml"], "--robot: there is no nowhere.xml"),
    (["--video", "film.avi"], "film.mp4"),
    (["--video", "nowhere/film.mp4"], "a folder that does not exist"),
    (["--video", "film.mp4", "--size", "640*480"], "of the form 640x480"),
    (["--video", "film.mp4", "--size", "321x240"], "even numbers"),
])  # fmt: skip
def test_mistakes_get_a_sentence(
    options: list[str], sentence: str, standing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.main(["play", str(standing), *options]) == 1
    [said] = capsys.readouterr().err.strip().splitlines()
    assert sentence in said and said.startswith("ros-attn play: ")
    assert not list(tmp_path.iterdir())


def test_a_misspelt_checkpoint_and_a_misspelt_option(standing: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["play", str(standing.with_name("standng"))]) == 1
    assert "did you mean 'standing'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["play", str(standing), "--terain", "flat"])
    captured = capsys.readouterr()
    assert "--terrain" in captured.out + captured.err


def test_help_needs_no_torch_and_no_simulator() -> None:
    code = "import sys; from ros_attn import cli\ntry: cli.main(['play', '--help'])\nexcept SystemExit: pass\n"
    code += "print({'torch', 'mujoco', 'cv2'} & set(sys.modules), 'play' in cli.VERBS)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert "--terrain" in done.stdout and done.stdout.splitlines()[-1] == "set() True"


# -- the video ------------------------------------------------------------------------------------------


@needs_gl
def test_a_video_has_a_picture_every_40_ms(standing: Path, tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    assert play.run([str(standing), "--seconds", "0.4", "--video", str(path), "--size", "320x240"]) == 0
    found = pictures(path)
    assert found.shape == (10, 240, 320, 3)
    assert list(tmp_path.iterdir()) == [path]
    last = found[-1].astype(float)
    sky, ground, middle = last[10:30, 200:], last[200:], last[90:170, 110:210]
    assert sky[..., 0].mean() > sky[..., 2].mean() + 15  # bgr: the sky is blue
    assert ground.std() > 4 and np.abs(ground.mean() - sky.mean()) > 5
    assert (middle.max(axis=-1) < 90).mean() > 0.05  # the dark robot
    assert np.abs(found[-1].astype(float) - found[0]).max() > 30  # the clock in the corner, at least


@needs_gl
def test_the_camera_follows(tmp_path: Path) -> None:
    camera = chase_camera.ChaseCamera(GO2_LIKE, flat(), 320, 240, choose_backend(None)[0])

    def dark(x: float, yaw: float) -> np.ndarray:
        place = (x, 0.0, GO2_LIKE.stand_height, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        picture = camera.picture(np.concatenate([place, GO2_LIKE.default_pose]), 10.0)
        return np.argwhere(picture.max(axis=-1) < 90).mean(axis=0)

    first = dark(0.0, 0.0)
    assert np.abs(first - (130, 160)).max() < 30
    # A metre on, and turned by a right angle: the robot stays where it was in the picture.
    assert np.abs(dark(1.0, 0.0) - first).max() < 6
    assert np.abs(dark(1.0, np.pi / 2) - first).max() < 15
    camera.close()


@needs_gl
def test_a_climber_shows_what_it_looks_at(climber: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[np.ndarray] = []

    def kept(picture: np.ndarray, attention: np.ndarray) -> np.ndarray:
        shown.append(attention)
        return with_attention(picture, attention)

    monkeypatch.setattr(play, "with_attention", kept)
    path = tmp_path / "film.mp4"
    argv = ["--terrain", "hollow:30", "--seconds", "1.8", "--video", str(path), "--size", "320x240"]
    assert play.run([str(climber), *argv]) == 0
    found = pictures(path)
    assert len(found) == 45 and 5 <= len(shown) <= 8  # after the ramp of 1.5 s
    assert shown[-1].shape == (48, 320, 3) and shown[-1].std() > 10
    # In the film, but for what the codec takes.
    assert np.abs(found[-1][-48:, :, ::-1].astype(float) - shown[-1]).mean() < 12
    assert np.abs(found[-1][-48:].astype(float) - found[0][-48:]).mean() > 20


@needs_gl
@pytest.mark.parametrize("error", [KeyboardInterrupt, RosAttnError])
def test_what_is_interrupted_leaves_nothing(
    error: type[BaseException], standing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"an older film")
    step, steps = Rollout.step, []

    def stopped(rollout: Rollout) -> None:
        step(rollout)
        steps.append(0)
        if len(steps) == 20:
            assert len(list(tmp_path.iterdir())) == 2  # the film is being written beside
            raise error("now")

    monkeypatch.setattr(Rollout, "step", stopped)
    assert cli.main(["play", str(standing), "--video", str(path), "--size", "320x240"]) in (1, 130)
    assert len(steps) == 20 and list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"an older film"


def test_no_gl_library_is_said(standing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ros_attn.sim.street_rendering.choose_backend", lambda asked: ("rays", "no GL library works"))
    with pytest.raises(RosAttnError, match="--video needs EGL or OSMesa"):
        play.run([str(standing), "--video", str(tmp_path / "film.mp4")])
    assert not list(tmp_path.iterdir())


def test_a_video_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(RosAttnError, match="cannot write"):
        Video(tmp_path / "gone" / "film.mp4", 320, 240, 25)
    assert check(tmp_path / "film.mp4", "640x480") == (640, 480)


def test_insets_are_drawn_where_they_are_meant() -> None:
    picture = np.full((240, 640, 3), 7, np.uint8)
    attention = np.random.default_rng(0).integers(0, 255, (48, 320, 3)).astype(np.uint8)
    made = with_attention(picture, attention)
    assert np.array_equal(made[144::2, ::2], attention) and (picture == 7).all() and (made[:120] == 7).all()
    depth = np.array([[0.5, 1.5], [0.0, 3.0]], np.float32)
    made = with_depth(picture, depth, 2.0)[-160:, :160]
    assert made[0, 0].tolist() == [191] * 3 and made[0, -1].tolist() == [63] * 3
    assert made[-1, 0].tolist() == [160, 0, 0] and made[-1, -1].tolist() == [0, 0, 0]


# -- the window -----------------------------------------------------------------------------------------


def test_a_window_is_shown_at_a_display_and_closing_it_ends_the_run(
    standing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mujoco.viewer

    heights: list[float] = []

    class Viewer:
        def __init__(self, model: Any, data: Any, **options: bool) -> None:
            self.data, self.opt = data, mujoco.MjvOption()  # pyright: ignore[reportAttributeAccessIssue]

        def __enter__(self) -> Viewer:
            return self

        def __exit__(self, *error: object) -> None:
            heights.append(-1.0)

        def sync(self) -> None:
            heights.append(float(self.data.qpos[2]))

        def is_running(self) -> bool:
            return len(heights) < 4

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(mujoco.viewer, "launch_passive", Viewer)
    monkeypatch.setattr(play, "_display_works", lambda: True)
    assert play.run([str(standing), "--seconds", "5"]) == 0
    assert len(heights) == 5 and heights[-1] == -1 and all(0.2 < height < 0.35 for height in heights[:4])
    assert len(set(heights[:4])) == 4
    assert "in 0.1 s\n" in capsys.readouterr().out


def test_a_display_that_is_not_there_is_said(
    standing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":977")
    assert play.run([str(standing), "--seconds", "0.1"]) == 0
    captured = capsys.readouterr()
    assert "the display cannot be opened" in captured.err and "distance" in captured.out
