"""Climbing: where robots are to go, when they have arrived or are lost, and what they are rewarded for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import climbing_rewards, rotation, tasks
from ros_attn.sim.climb import Climb
from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.goal import End
from ros_attn.sim.locomotion_task import LocomotionTask, Step
from ros_attn.sim.moment import Moment
from ros_attn.sim.stairs import hollow_stairs
from ros_attn.sim.terrain import Terrain, flat

MAPPING = LocomotionMapping.of(ROBOT.contract() | {"frames": 3})
STILL = np.zeros((1, 12))


def stairs(slope_deg: float = 30.0, depth_m: float = 0.27) -> Terrain:
    return hollow_stairs(np.random.default_rng(0), slope_deg, depth_m=depth_m)


def on(terrain: Terrain, robots: int = 1) -> LocomotionTask:
    task = tasks.climb(ROBOT, MAPPING, robots, threads=1, varied=False)
    task.source = lambda rng, level: terrain
    task.reset()
    return task


def put(task: LocomotionTask, x: float, y: float = 0.0, ground: float = 0.0, yaw: float = 0.0, robot: int = 0) -> None:
    """Stand robot ``robot`` there, at rest."""
    world = task.world
    world.qpos[robot, :3] = x, y, ground + ROBOT.stand_height
    world.qpos[robot, 3:7] = rotation.from_yaw(np.array(yaw))
    world.qpos[robot, 7:] = ROBOT.default_pose
    world.qvel[robot] = 0.0
    world.measure()


def stepped(task: LocomotionTask, steps: int = 1) -> Step:
    for _ in range(steps):
        step = task.step(np.zeros((task.world.environments, 12)))
    return step


def test_robot_on_the_landing_has_succeeded_and_starts_anew() -> None:
    terrain = stairs()
    task = on(terrain, 2)
    landing = terrain.landing
    assert landing is not None
    put(task, landing[0] + 0.6, ground=terrain.route[-1, 2], robot=1)
    step = stepped(task)
    assert step.end.tolist() == [End.NOT, End.SUCCEEDED] and step.succeeded.tolist() == [False, True]
    assert step.truncated.tolist() == [False, True] and not step.terminated.any()
    assert task.world.base_position[1, 0] == pytest.approx(0.0, abs=1e-6)
    assert stepped(task).end.tolist() == [End.NOT, End.NOT]


def test_three_quarters_of_a_robot_have_not_succeeded() -> None:
    terrain = stairs()
    task = on(terrain)
    # the front feet are on the landing, the rear ones on the last tread, at one height for the test's sake
    boxes = terrain.boxes.copy()
    boxes[-2, 2] = boxes[-1, 2]
    level = replace(terrain, boxes=boxes)
    task.source = lambda rng, which: level
    task.reset()
    assert level.landing is not None
    put(task, level.landing[0] + 0.1, ground=level.route[-1, 2])
    assert stepped(task).end[0] == End.NOT
    put(task, level.landing[0] + 0.35, ground=level.route[-1, 2])
    assert stepped(task).end[0] == End.SUCCEEDED


def test_success_needs_the_height_of_the_landing() -> None:
    terrain = stairs()
    task = on(terrain)
    assert terrain.landing is not None
    put(task, terrain.landing[0] + 1.0)  # on the floor beneath it
    assert stepped(task).end[0] == End.OFF


def test_immobile_robot_runs_out_of_time() -> None:
    task = on(stairs())
    task.episode_steps = 30
    step = stepped(task, 30)
    assert step.end[0] == End.TIME and step.truncated[0] and not step.succeeded[0]
    assert isinstance(task.goal, Climb) and task.goal.treads[0] == 0


def test_stuck_after_three_seconds_of_trying_without_a_gain() -> None:
    task = on(stairs())
    assert isinstance(task.goal, Climb)
    task.goal.patience_s = 3.0
    task.command[:] = 0.5, 0.0, 0.0
    stepped(task, 100)
    put(task, 0.2)  # a gain
    stepped(task, 50)
    task.command[:] = 0.0
    assert stepped(task, 45).end[0] == End.NOT  # who is to stand does not try
    task.command[:] = 0.5, 0.0, 0.0
    put(task, 0.25)  # too small to be one
    ends = [stepped(task).end[0] for _ in range(102)]
    assert ends == [End.NOT] * 101 + [End.STUCK]
    assert task.step(STILL).end[0] == End.NOT


def test_evaluations_have_patience() -> None:
    training = tasks.climb(ROBOT, MAPPING, 4, threads=1, training=True)
    trial = tasks.climb_episodes(ROBOT, MAPPING, 1, 30.0, threads=1)
    assert isinstance(training.goal, Climb) and training.goal.patience_s == 3.0
    assert isinstance(trial.goal, Climb) and trial.goal.patience_s is None


def table() -> Terrain:
    """A slab that the robot stands under; the way leads past it."""
    low = replace(flat(), boxes=np.array([[0.0, 0.0, 1.0, 0.6, 0.6, 0.02]]))
    return replace(low, route=np.array([[5.0, 0.0, 0.0]]), landing=np.array([4.0, -1.0, -0.01, 6.0, 1.0, 0.3]))


def test_trapped_after_a_second_below_a_tread_and_not_before() -> None:
    task = on(table())
    put(task, 0.0)
    step = stepped(task, 50)
    assert step.end[0] == End.NOT
    step = stepped(task)
    assert step.end[0] == End.TRAPPED and step.terminated[0]


def test_a_step_outside_begins_the_second_anew() -> None:
    task = on(table())
    put(task, 0.0)
    stepped(task, 45)
    put(task, 2.0)
    assert stepped(task).end[0] == End.NOT
    put(task, 0.0)
    assert stepped(task, 50).end[0] == End.NOT
    assert stepped(task).end[0] == End.TRAPPED


def test_time_below_a_tread_is_of_one_episode() -> None:
    task = on(table())
    put(task, 0.0)
    stepped(task, 45)
    task.episode_steps = 46
    assert stepped(task).end[0] == End.TIME  # the next begins on top of the slab
    task.episode_steps = 1000
    put(task, 0.0)
    assert [stepped(task).end[0] for _ in range(51)] == [End.NOT] * 50 + [End.TRAPPED]


@pytest.mark.parametrize(("x", "y", "end"), [(0.0, 0.0, End.NOT), (0.0, 0.85, End.NOT), (0.0, 1.0, End.OFF),
                                             (0.0, -1.0, End.OFF), (3.5, 0.85, End.OFF)])  # fmt: skip
def test_off_the_stairs(x: float, y: float, end: End) -> None:
    task = on(stairs())
    put(task, x, y)
    assert stepped(task).end[0] == end


def test_a_fall_comes_before_success() -> None:
    terrain = stairs()
    task = on(terrain)
    assert terrain.landing is not None
    put(task, terrain.landing[0] + 1.0, ground=terrain.route[-1, 2] - ROBOT.stand_height)
    task.world.qpos[0, 3:7] = 0.0, 1.0, 0.0, 0.0  # on its back, so low that the feet are in the region
    task.world.measure()
    assert isinstance(task.goal, Climb) and task.goal.judge(task)[0] == End.SUCCEEDED
    assert stepped(task).end[0] == End.FELL


def test_treads_are_the_most_that_the_base_came_to() -> None:
    terrain = stairs()
    task = on(terrain)
    assert isinstance(task.goal, Climb)
    stepped(task)
    put(task, terrain.route[4, 0], ground=terrain.route[4, 2])
    stepped(task)
    assert task.goal.treads[0] == 5
    put(task, terrain.route[2, 0], ground=terrain.route[2, 2])
    stepped(task)
    assert task.goal.treads[0] == 5
    assert Climb.share(task)[0] == pytest.approx(task.world.base_position[0, 0] / (1.0 + 12 * 0.27), rel=1e-6)
    task.reset()
    stepped(task)
    assert task.goal.treads[0] == 0


def test_waypoint_is_ahead_on_the_axis() -> None:
    terrain = stairs()
    task = on(terrain)
    everyone = np.arange(1)

    def seen() -> np.ndarray:
        assert isinstance(task.goal, Climb)
        return task.goal.observe(task, everyone)["waypoint"][0]

    put(task, 0.0)  # the first tread's middle is 1.135 m ahead
    assert seen() == pytest.approx([1.0, 0.0, 1.135], abs=1e-5)
    put(task, 0.0, y=0.5)  # to the right
    away = np.hypot(1.135, 0.5)
    assert seen() == pytest.approx([1.135 / away, -0.5 / away, away], abs=1e-5)
    put(task, 0.0, yaw=0.3)  # to the right of where it looks
    assert seen()[:2] == pytest.approx([np.cos(0.3), -np.sin(0.3)], abs=1e-5)
    put(task, 2.0)  # treads are 0.27 m apart: 1.135 + 6 * 0.27 = 2.755 is the first beyond 2.6
    assert seen() == pytest.approx([1.0, 0.0, 0.755], abs=1e-5)
    put(task, 4.6)  # on the landing, whose middle is 5.24
    assert seen() == pytest.approx([1.0, 0.0, 0.64], abs=1e-5)
    put(task, 4.9)  # no further one
    assert seen() == pytest.approx([1.0, 0.0, 0.34], abs=1e-5)
    task.source = lambda rng, level: flat()
    task.reset()
    assert seen().tolist() == [0, 0, 0]


def test_far_waypoints_are_two_metres_away() -> None:
    task = on(table())
    assert isinstance(task.goal, Climb)
    assert task.goal.observe(task, np.arange(1))["waypoint"][0, 2] == 2.0


def test_commands_are_forward_on_stairs_and_any_on_level_ground() -> None:
    task = tasks.climb(ROBOT, MAPPING, 200, threads=1, training=True, seed=1)
    task.reset()
    climbing = task.level >= 0
    assert np.count_nonzero(~climbing) == 20
    commands = task.command[climbing]
    moving = commands[commands[:, 0] > 0]
    assert len(moving) / len(commands) == pytest.approx(5 / 6, abs=0.08)
    assert (commands[:, 1:] == 0).all() and moving[:, 0].min() >= 0.3 and moving[:, 0].max() <= 0.8
    assert np.ptp(moving[:, 0]) > 0.45
    walking = task.command[~climbing]
    assert (np.abs(walking[:, 1:]).max(axis=0) > 0.2).all()
    stepped(task, 5)
    episodes = tasks.climb_episodes(ROBOT, MAPPING, 3, 30.0, threads=1)
    episodes.reset()
    assert episodes.command.tolist() == [[0.5, 0, 0]] * 3
    place, yaw = episodes.world.base_position, rotation.yaw_of(episodes.world.base_quaternion)
    assert (np.abs(place[:, :2]) <= 0.1).all() and (np.abs(yaw) <= np.deg2rad(10)).all()
    assert episodes.episode_steps == 1500


def test_robots_without_a_landing_go_where_they_like() -> None:
    task = on(flat(), 2)
    put(task, 3.0, y=-8.0)
    step = stepped(task, 3)
    assert step.end.tolist() == [End.NOT, End.NOT]
    assert step.observations["waypoint"].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert not step.terms["progress"].any() and not step.terms["heading"].any() and step.terms["height"].all()


# -- rewards ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moment() -> Callable[..., Moment]:
    task = on(stairs())
    base = task._moment()

    def at(**values: list[float]) -> Moment:
        return replace(base, **{name: np.array([value], float) for name, value in values.items()})

    return at


@pytest.mark.parametrize(
    ("velocity", "waypoint", "command", "expected"),
    [
        ([0.25, 0.0], [1.0, 0.0], 0.5, 0.5),
        ([0.9, 0.0], [1.0, 0.0], 0.5, 1.0),  # faster gives no more
        ([-0.25, 0.0], [1.0, 0.0], 0.5, -0.5),
        ([-3.0, 0.0], [1.0, 0.0], 0.5, -1.0),
        ([0.0, 0.4], [0.0, 1.0], 0.8, 0.5),
        ([0.5, 0.0], [0.6, 0.8], 0.5, 0.6),
        ([0.5, 0.0], [np.nan, np.nan], 0.5, 0.0),
        ([0.0, 0.0], [1.0, 0.0], 0.0, 1.0),  # asked to stand
        ([0.15, 0.0], [1.0, 0.0], 0.0, np.exp(-1)),
        ([0.0, 0.0], [np.nan, np.nan], 0.0, 0.0),
    ],
)
def test_progress(
    moment: Callable[..., Moment], velocity: list[float], waypoint: list[float], command: float, expected: float
) -> None:
    m = moment(level_velocity=velocity, waypoint=waypoint, command=[command, 0.0, 0.0])
    assert climbing_rewards.progress(m)[0] == pytest.approx(expected)


def test_heading(moment: Callable[..., Moment]) -> None:
    for angle in (0.0, 0.5, -0.5, 3.0):
        x, y = np.cos(angle), np.sin(angle)
        command = [0.5, 0.0, 0.0]
        for along, share in ((0.5, 1.0), (0.2, 0.4), (0.0, 0.0), (-0.5, 0.0)):
            m = moment(waypoint=[x, y], level_velocity=[along * x, along * y], command=command)
            assert climbing_rewards.heading(m)[0] == pytest.approx(share * np.exp(-abs(angle)))
    assert climbing_rewards.heading(moment(waypoint=[np.nan, np.nan]))[0] == 0


def test_stumbling_is_pushing_sideways(moment: Callable[..., Moment]) -> None:
    m = moment(foot_push=[[0, 0, -40], [30, 0, -29], [20, 20, 25], [0, 31, -30]])  # type: ignore[list-item]
    m = replace(m, foot_contact=np.array([[True, True, True, False]]))
    assert climbing_rewards.stumble(m)[0] == 2


def test_some_rewards_are_of_robots_without_waypoint(moment: Callable[..., Moment]) -> None:
    reward = climbing_rewards.WithoutWaypoint(lambda m: np.ones(1))
    assert reward(moment(waypoint=[1.0, 0.0]))[0] == 0
    assert reward(moment(waypoint=[np.nan, np.nan]))[0] == 1


def test_moment_has_velocity_and_waypoint_along_the_heading() -> None:
    task = on(stairs())
    put(task, 0.0, yaw=np.pi / 2)
    task.world.qvel[0, :2] = 0.3, 0.1
    m = task._moment()
    assert m.level_velocity[0] == pytest.approx([0.1, -0.3])
    assert m.waypoint[0] == pytest.approx([0.0, -1.0])


def test_pitch_is_asked_for_near_the_stairs_only() -> None:
    terrain = stairs()
    task = on(terrain)
    put(task, 0.0)
    assert np.isnan(task._moment().pitch_to_tread[0])
    put(task, 0.9)  # the second tread is 0.505 m ahead, its top at 2 rises
    assert task._moment().pitch_to_tread[0] == pytest.approx(np.arctan2(terrain.route[1, 2], 0.505), abs=1e-6)
    put(task, terrain.route[5, 0], ground=terrain.route[5, 2])
    assert task._moment().pitch_to_tread[0] == pytest.approx(np.deg2rad(30), abs=1e-6)


def test_standing_feet_push_down() -> None:
    task = on(stairs())
    stepped(task, 40)
    push = task.world.foot_push[0]
    assert np.abs(push[:, 2]).sum() == pytest.approx(task.world.model.body_subtreemass[1] * 9.81, rel=0.05)
    assert (np.abs(push[:, :2]).max(axis=1) < 0.2 * np.abs(push[:, 2])).all()
