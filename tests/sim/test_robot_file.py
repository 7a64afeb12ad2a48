"""Robots from files: a small quadruped with everything in its way, and Menagerie's Go2 and Panda where at hand."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gymnasium
import mujoco
import numpy as np
import pytest

from ros_attn.checkpoint import differences
from ros_attn.control.locomotion import LocomotionMapping
from ros_attn.sim import tasks
from ros_attn.sim.go2_like import GO2_LIKE, LEGS
from ros_attn.sim.legged_world import FLOOR, LeggedWorld
from ros_attn.sim.robot import BODY_GROUP, TERRAIN_GROUP, Robot
from ros_attn.sim.robot_file import DEFAULT_KD, DEFAULT_KP, DEFAULT_SPEED, load_joints, load_robot

LEG = """
<body name="{leg}_upper" pos="{x} {y} 0">
  <joint name="{leg}_hip" range="-60 60"/>
  <geom type="capsule" fromto="0 0 0 0 0 -0.2" size="0.02" mass="0.5"/>
  <body name="{leg}_lower" pos="0 0 -0.2">
    <joint name="{leg}_knee" range="-90 90" actuatorfrcrange="-7 9"/>
    <geom name="{leg}_shin" type="capsule" fromto="0 0 0 0 0 -0.15" size="0.02" mass="0.2"/>
    <geom type="sphere" size="0.05" pos="0 0 -0.02" mass="0.1"/>
    <geom type="mesh" mesh="cover" mass="0.3" material="red" class="visual"/>
    <body name="{leg}_toe" pos="0 0 -0.2"><geom size="0.03" mass="0.05"/><site name="{leg}_toe_foot"/></body>
  </body>
</body>"""
# Actuators stand in another order than the joints, and the main defaults would change floor and motors.
SMALL = f"""
<mujoco model="small">
  <compiler angle="degree"/>
  <option impratio="100" integrator="RK4" gravity="0 0 -3"/>
  <default>
    <geom margin="0.02" solref="0.03 1" priority="2"/> <joint axis="0 1 0" damping="0.7"/>
    <general gear="3" ctrlrange="-1 1"/>
    <default class="visual"><geom contype="0" conaffinity="0" group="2"/></default>
  </default>
  <asset>
    <texture name="red" type="2d" builtin="flat" width="4" height="4" rgb1="1 0 0"/>
    <material name="red" texture="red"/>
    <mesh name="cover" vertex="0 0 0  0.05 0 0  0 0.05 0  0 0 0.05"/>
  </asset>
  <worldbody>
    <light pos="0 0 3"/> <camera name="watch" pos="0 -2 1"/>
    <geom name="floor" type="plane" size="1 1 1" material="red"/>
    <body name="ball" pos="3 0 1"><freejoint/><geom size="0.1"/></body>
    <body name="trunk" pos="0 0 1"><freejoint/>
      <geom type="box" size="0.3 0.1 0.05" mass="4"/>
      <geom type="box" size="0.2 0.1 0.05" mass="2" class="visual"/>
      <body name="mast" pos="0.1 0 0.05"><geom type="box" size="0.02 0.02 0.05" mass="0.1"/>
        <site name="IMU_site" pos="0.01 0.02 0.03"/></body>
      {"".join(LEG.format(leg=leg, x=x, y=y) for leg, x, y in
               (("a", 0.3, 0.1), ("b", 0.3, -0.1), ("c", -0.3, 0.1), ("d", -0.3, -0.1)))}
      <body name="arm" pos="0.3 0 0.1"><joint name="arm" range="-90 90"/><geom size="0.04" pos="0.2 0 0" mass="0.1"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="m_arm" joint="arm" kp="5" kv="0.5" forcerange="-4 4" gear="1"/>
    {"".join(f'<position joint="{leg}_knee" kp="20" kv="0.5" gear="2" forcerange="-8 8"/>'
             f'<motor joint="{leg}_hip" gear="2" ctrlrange="-6 6"/>' for leg in "dcba")}
  </actuator>
  <sensor><accelerometer site="IMU_site"/></sensor>
  <keyframe>
    <key name="lying" qpos="3 0 1 1 0 0 0  0 0 .1 1 0 0 0  0 0 0 0 0 0 0 0 0"/>
    <key name="home" qpos="3 0 1 1 0 0 0  0 0 .4 1 0 0 0  .3 -.6 .3 -.6 .2 -.4 .2 -.4 .1"/>
  </keyframe>
</mujoco>"""  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.xml"
    path.write_text(SMALL)
    return path


@pytest.fixture(scope="module")
def menagerie(data: Path) -> Path:
    if not (data / "menagerie").is_dir():
        pytest.skip(f"no menagerie in {data}; set ROS_ATTN_DATA")
    return data / "menagerie"


def test_joints_have_the_order_of_the_tree_and_the_figures_of_the_file(small: Path) -> None:
    said: list[str] = []
    robot = load_robot(small, said.append)
    assert robot.joints == (*(f"{leg}_{part}" for leg in "abcd" for part in ("hip", "knee")), "arm")
    assert robot.default_pose.tolist() == [0.3, -0.6, 0.3, -0.6, 0.2, -0.4, 0.2, -0.4, 0.1]
    assert robot.position_limits == pytest.approx(np.deg2rad([*[[-60, 60], [-90, 90]] * 4, [-90, 90]]))
    # Hips: gear 2 times control 6. Knees: the joint's weaker side 7, below gear 2 times force 8.
    assert robot.torque_limits == pytest.approx([12, 7] * 4 + [4])
    assert robot.kp == pytest.approx([DEFAULT_KP, 4 * 20] * 4 + [5])
    assert robot.kd == pytest.approx([DEFAULT_KD, 4 * 0.5] * 4 + [0.5])
    assert robot.velocity_limits.tolist() == [DEFAULT_SPEED] * 9
    assert [words in " ".join(said) for words in ("a_hip and 3 more joints", "20 rad/s", "depth camera")] == [True] * 3


def test_feet_shanks_imu_and_height_are_found(small: Path) -> None:
    robot = load_robot(small)
    assert (robot.name, robot.base, robot.foot_radius) == ("small", "trunk", 0.03)
    # The site of that name stays what it is: the foot has another one.
    assert robot.feet == tuple(f"{leg}_toe_foot_1" for leg in "abcd")
    assert robot.shanks == tuple(f"{leg}_shin" for leg in "abcd")
    assert robot.imu == pytest.approx((0.11, 0.02, 0.08))
    # The hind legs are straighter: 0.2 m at 0.2 rad from the vertical, 0.2 m at -0.2 rad.
    assert robot.stand_height == pytest.approx(0.4 * np.cos(0.2) + 0.03)


def test_a_low_sphere_of_a_thigh_is_no_foot(small: Path) -> None:
    feet = load_robot(small).feet
    small.write_text(SMALL.replace('<body name="a_lower"', '<geom size="0.2" pos="0 0 -0.2"/><body name="a_lower"'))
    assert load_robot(small).feet == feet


def test_only_the_robot_is_left_and_only_what_touches(small: Path) -> None:
    robot = load_robot(small)
    model = robot.specification().compile()
    assert (model.nq, model.nu, model.nsensor, model.nkey, model.nlight, model.ncam) == (16, 0, 0, 0, 0, 0)
    assert (model.ntex, model.nmat, model.nmesh) == (0, 0, 0) and "ball" not in [
        b.name for b in robot.specification().bodies
    ]
    assert set(model.geom_group) == {BODY_GROUP} and not model.geom_contype.any() and model.geom_conaffinity.all()
    whole = mujoco.MjModel.from_xml_path(str(small))
    for name in ("trunk", "mast", "a_lower", "a_toe"):
        ours, theirs = model.body(name), whole.body(name)
        for field in ("mass", "ipos", "inertia"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-9), (name, field)
    assert model.body("trunk").mass == pytest.approx(6)  # with the 2 kg of the geom that is gone
    assert model.body("a_lower").mass == pytest.approx(0.6)
    # Each call gives a new one.
    robot.specification().worldbody.add_geom(name="extra", size=[0.1, 0, 0])
    assert robot.specification().compile().ngeom == model.ngeom


def test_the_world_around_it_is_that_of_any_robot(small: Path) -> None:
    robot = load_robot(small)
    worlds = [LeggedWorld(each, 1, boxes=1, threads=1) for each in (robot, GO2_LIKE)]
    ours, usual = (world.model for world in worlds)
    for name in (FLOOR, "box_0"):
        for field in (
            "margin",
            "solref",
            "solimp",
            "priority",
            "condim",
            "friction",
            "contype",
            "conaffinity",
            "group",
        ):
            assert np.array_equal(getattr(ours.geom(name), field), getattr(usual.geom(name), field)), (name, field)
    assert set(ours.geom_group[ours.geom_contype == 1]) == {TERRAIN_GROUP}
    for field in ("impratio", "integrator", "timestep", "gravity", "cone"):
        assert np.array_equal(getattr(ours.opt, field), getattr(usual.opt, field)), field
    assert (ours.actuator_gear[:, 0] == 1).all() and not ours.actuator_ctrllimited.any()
    assert set(worlds[0].base_geoms) == {"trunk", "mast"}
    assert set(worlds[1].base_geoms) == {"base", "head"}


def test_it_stands_in_the_task(small: Path) -> None:
    robot = load_robot(small)
    task = tasks.walk(robot, LocomotionMapping.of(robot.contract()), 2, threads=1, varied=False)
    assert task.reset()["policy"].shape == (2, 9 + 3 * 9)
    start = task.world.joint_position.copy()
    assert start == pytest.approx(np.tile(robot.default_pose, (2, 1)))
    for _ in range(50):
        step = task.step(np.zeros((2, 9)))
        assert not step.terminated.any()
    weight = 9.81 * task.world.model.body_subtreemass[1]
    assert task.world.foot_force.sum(axis=1) == pytest.approx([weight, weight], rel=0.1)


def test_a_touch_of_any_geom_of_its_base_is_a_fall(small: Path) -> None:
    cover = '<geom type="box" size="0.2 0.1 0.05" mass="2" class="visual"/>'
    assert cover in SMALL
    small.write_text(SMALL.replace(cover, '<geom type="box" size="0.02 0.02 0.6" mass="2"/>'))  # a keel
    robot = load_robot(small)
    task = tasks.walk(robot, LocomotionMapping.of(robot.contract()), 1, threads=1, varied=False)
    task.reset()
    assert task.step(np.zeros((1, 9))).terminated.all()


def replaced(*pairs: tuple[str, str]) -> Callable[[str], str]:
    def change(text: str) -> str:
        for old, new in pairs:
            assert old in text
            text = text.replace(old, new)
        return text

    return change


def without(begin: str, end: str) -> Callable[[str], str]:
    return lambda text: text[: text.index(begin)] + text[text.index(end) + len(end) :]


@pytest.mark.parametrize("change, sentence", [
    (replaced(("</worldbody>", "</worldbod>")), "cannot be read as MJCF"),
    (replaced(('mesh="cover"', 'mesh="covr"')), "does not compile"),
    (without("<actuator>", "</actuator>"), "has no actuator that drives a joint"),
    (without("<keyframe>", "</keyframe>"), "has no keyframe"),
    (replaced(('<motor joint="a_hip" gear="2" ctrlrange="-6 6"/>', "")), "joint a_hip has no actuator of its own"),
    (replaced(('joint="a_hip"', 'joint="b_hip"')), "joint b_hip has two actuators"),
    (replaced(('ctrlrange="-6 6"', 'ctrllimited="false"')), "joint a_hip has no torque limit"),
    (replaced(('ctrlrange="-6 6"', 'ctrlrange="0 6"')), "joint a_hip has no torque limit to both sides"),
    (replaced(('name="a_hip" range="-60 60"', 'name="a_hip"')), "joint a_hip has no range"),
    (replaced(('<geom size="0.03" mass="0.05"/>', '<geom type="box" size="0.03 0.03 0.03" mass="0.05"/>'),
              ('type="sphere" size="0.05" pos="0 0 -0.02"', 'type="box" size="0.05 0.05 0.05"'),
              ('<geom size="0.04" pos="0.2 0 0" mass="0.1"/>', '<geom type="box" size="0.04 0.04 0.04" mass="0.1"/>')),
     "has no feet"),
    (replaced(('name="trunk" pos="0 0 1"><freejoint/>', 'name="trunk" pos="0 0 1">'),
              ("0 0 .1 1 0 0 0  0 0 0", "0 0 0"), ("0 0 .4 1 0 0 0  .3", ".3")), "is no legged robot"),
    (replaced((".3 -.6 .3", "3 -.6 .3")), "default pose lies outside"),
])  # fmt: skip
def test_a_file_that_cannot_be_is_refused_in_a_sentence(
    change: Callable[[str], str], sentence: str, small: Path
) -> None:
    small.write_text(change(SMALL))
    with pytest.raises(ValueError, match=sentence) as refused:
        load_robot(small)
    assert "\n" not in str(refused.value)


def test_a_leg_without_a_shank_is_refused(small: Path) -> None:
    text = SMALL
    for leg in "abcd":
        text = text.replace(
            f'<geom name="{leg}_shin" type="capsule" fromto="0 0 0 0 0 -0.15" size="0.02" mass="0.2"/>', ""
        )
    small.write_text(text.replace('<geom type="sphere" size="0.05" pos="0 0 -0.02" mass="0.1"/>', ""))
    with pytest.raises(ValueError, match="a_toe has no shank"):
        load_robot(small)


def test_folders(small: Path, tmp_path: Path) -> None:
    folder = tmp_path
    assert load_robot(folder).joints == load_robot(small).joints
    (folder / "other.xml").write_text("<mujoco/>")
    with pytest.raises(ValueError, match=r"has no scene.xml but other.xml, small.xml"):
        load_robot(folder)
    (folder / "scene.xml").write_text('<mujoco><include file="small.xml"/></mujoco>')
    assert load_robot(folder).feet == load_robot(small).feet
    with pytest.raises(ValueError, match=r"there is no .*nowhere"):
        load_robot(folder / "nowhere")


def test_an_environment_of_a_file(small: Path) -> None:
    made = gymnasium.make_vec(
        "ros_attn.sim.environments:RosAttn-Walk-Go2-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        robot_file=small,
        threads=1,
    )
    assert made.single_action_space.shape == (9,)
    assert made.reset(seed=0)[0]["policy"].shape == (3, 36)


# -- Menagerie ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def go2(menagerie: Path) -> Robot:
    return load_robot(menagerie / "unitree_go2")


def test_the_go2_of_menagerie_against_ours(go2: Robot) -> None:
    ours, theirs = (robot.specification().compile() for robot in (GO2_LIKE, go2))
    rows = [("total mass [kg]", ours.body_subtreemass[1], theirs.body_subtreemass[1])]
    rows += [
        (f"mass of {body} [kg]", ours.body_mass[mine], theirs.body_mass[other])
        for body, mine, other in (
            (name, ours.body(name).id, theirs.body(name).id) for name in ("base", "FL_hip", "FL_thigh", "FL_calf")
        )
    ]
    for name in ("torque_limits", "velocity_limits", "kp", "kd", "default_pose"):
        for index, joint in enumerate(GO2_LIKE.joints[:3]):
            rows.append((f"{name} of {joint}", getattr(GO2_LIKE, name)[index], getattr(go2, name)[index]))
    rows += [
        ("foot radius [m]", GO2_LIKE.foot_radius, go2.foot_radius),
        ("stand height [m]", GO2_LIKE.stand_height, go2.stand_height),
        ("joint damping [N m s/rad]", ours.dof_damping[6], theirs.dof_damping[6]),
        ("joint friction [N m]", ours.dof_frictionloss[6], theirs.dof_frictionloss[6]),
        ("rotor inertia [kg m2]", ours.dof_armature[6], theirs.dof_armature[6]),
        ("foot friction", ours.geom("FL_foot").friction[0], theirs.geom("FL").friction[0]),
        ("geoms", ours.ngeom, theirs.ngeom),
    ]
    print(f"\n{'':<32}{'ours':>10}{'Menagerie':>12}")
    for name, a, b in rows:
        print(f"{name:<32}{a:>10.4g}{b:>12.4g}{'' if np.isclose(a, b) else '   differs'}")
    table = {name: (a, b) for name, a, b in rows}
    for name in ("mass of base [kg]", "mass of FL_hip [kg]", "mass of FL_thigh [kg]", "foot radius [m]",
                 "joint friction [N m]", "rotor inertia [kg m2]", "foot friction"):  # fmt: skip
        assert table[name][0] == pytest.approx(table[name][1]), name
    assert table["total mass [kg]"][0] == pytest.approx(table["total mass [kg]"][1], rel=0.02)
    assert table["stand height [m]"][0] == pytest.approx(table["stand height [m]"][1], abs=2e-3)
    assert go2.joints == GO2_LIKE.joints
    assert go2.feet == LEGS and go2.shanks == tuple(f"{leg}_calf" for leg in LEGS)
    for name in ("default_pose", "position_limits", "velocity_limits", "kp", "kd", "imu"):
        assert getattr(go2, name) == pytest.approx(getattr(GO2_LIKE, name)), name
    # What a contract says of it: the calf's torque, 35.55 N m in the URDF, 45.43 N m in Menagerie.
    unlike = differences(GO2_LIKE.contract(), go2.contract())
    assert [each.partition(":")[0] for each in unlike] == [f"torque_limits[{index}]" for index in (2, 5, 8, 11)]
    assert (go2.torque_limits[2], go2.torque_limits[0]) == (45.43, 23.7)


def test_the_go2_of_menagerie_stands_in_the_task(go2: Robot) -> None:
    task = tasks.walk(go2, LocomotionMapping.of(go2.contract()), 2, threads=1, varied=False)
    task.reset()
    for _ in range(100):
        assert not task.step(np.zeros((2, 12))).terminated.any()
    assert (task.world.base_position[:, 2] > 0.2).all()
    assert set(task.world.base_geoms) == {"base", "base_1", "base_2"}


def test_another_order_of_joints_is_said(go2: Robot) -> None:
    shuffled = go2.contract() | {"joints": list(go2.joints[3:6] + go2.joints[:3] + go2.joints[6:])}
    assert "same names in another order, first at 0" in differences(GO2_LIKE.contract(), shuffled)[0]


def test_the_panda_is_no_legged_robot_but_has_joints(menagerie: Path) -> None:
    with pytest.raises(ValueError, match=r"panda_physics.xml is no legged robot"):
        load_robot(menagerie / "franka_emika_panda")
    joints = load_joints(menagerie / "franka_emika_panda")
    assert joints.names == tuple(f"joint{number}" for number in range(1, 8))
    assert joints.torque_limits.tolist() == [87.0] * 4 + [12.0] * 3
    assert joints.kp.tolist() == [4500, 4500, 3500, 3500, 2000, 2000, 2000] and (joints.kd == joints.kp / 10).all()
    assert joints.default_pose == pytest.approx([0, 0, 0, -1.57079, 0, 1.57079, -0.7853])
    assert joints.position_limits[3].tolist() == [-3.0718, -0.0698]
