"""The built quadruped against the published figures and against Menagerie's Go2, where that is at hand."""

# The compiled modules of mujoco carry no stubs.
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import os
from pathlib import Path

import mujoco
import numpy as np
import pytest

from ros_attn.sim.go2_like import GO2_LIKE, JOINTS, LEGS, specification

DATA = Path(os.environ.get("ROS_ATTN_DATA", "../shared/data"))
MENAGERIE = DATA / "menagerie/unitree_go2/go2_physics.xml"


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return specification().compile()


def feet(model: mujoco.MjModel, pose: np.ndarray, names: list[str]) -> np.ndarray:
    """Centres of the feet in the base frame."""
    data = mujoco.MjData(model)
    data.qpos[:7] = (0, 0, 0, 1, 0, 0, 0)
    for joint, angle in zip(JOINTS, pose, strict=True):
        data.joint(joint).qpos = angle
    mujoco.mj_kinematics(model, data)
    return np.array([data.geom(name).xpos for name in names])


def test_published_masses_and_limits(model: mujoco.MjModel) -> None:
    assert model.body_subtreemass[1] == pytest.approx(6.921 + 4 * (0.678 + 1.152 + 0.154 + 0.04))
    for joint, (low, high) in zip(JOINTS, GO2_LIKE.position_limits, strict=True):
        assert model.joint(joint).range == pytest.approx([low, high])
    assert [GO2_LIKE.torque_limits[index] for index in (0, 1, 2)] == [23.7, 23.7, 35.55]


def test_feet_are_where_plane_geometry_puts_them(model: mujoco.MjModel) -> None:
    hip, thigh, calf = 0.1, 0.7, -1.5
    pose = np.tile([hip, thigh, calf], 4)
    found = feet(model, pose, [f"{leg}_foot" for leg in LEGS])
    # In the plane of the leg, x forward and z up: the foot's sphere sits 2 mm behind the end of the calf.
    bend = thigh + calf
    x = -0.213 * (np.sin(thigh) + np.sin(bend)) - 0.002 * np.cos(bend)
    z = -0.213 * (np.cos(thigh) + np.cos(bend)) + 0.002 * np.sin(bend)
    for (front, side), place in zip([(1, 1), (1, -1), (-1, 1), (-1, -1)], found, strict=True):
        y = 0.0465 * side + side * 0.0955 * np.cos(hip) - z * np.sin(hip)
        height = side * 0.0955 * np.sin(hip) + z * np.cos(hip)
        assert place == pytest.approx([front * 0.1934 + x, y, height], abs=1e-12)


def test_left_and_right_are_mirror_images(model: mujoco.MjModel) -> None:
    for left, right in (("FL", "FR"), ("RL", "RR")):
        for part in ("hip", "thigh", "calf"):
            a, b = model.body(f"{left}_{part}"), model.body(f"{right}_{part}")
            assert a.mass == b.mass
            assert a.ipos * (1, -1, 1) == pytest.approx(b.ipos)
            inertia = [np.zeros((3, 3)) for _ in range(2)]
            for body, out in ((a, inertia[0]), (b, inertia[1])):
                rotation = np.zeros(9)
                mujoco.mju_quat2Mat(rotation, body.iquat)
                out[:] = rotation.reshape(3, 3) @ np.diag(body.inertia) @ rotation.reshape(3, 3).T
            mirror = np.diag([1.0, -1.0, 1.0])
            assert mirror @ inertia[0] @ mirror == pytest.approx(inertia[1], abs=1e-9)


def test_default_pose_stands_at_its_height(model: mujoco.MjModel) -> None:
    found = feet(model, GO2_LIKE.default_pose, [f"{leg}_foot" for leg in LEGS])
    assert -found[:, 2] + GO2_LIKE.foot_radius == pytest.approx(np.full(4, GO2_LIKE.stand_height), abs=2e-3)


@pytest.mark.skipif(not MENAGERIE.is_file(), reason=f"there is no {MENAGERIE}; set ROS_ATTN_DATA")
def test_same_links_as_menagerie(model: mujoco.MjModel) -> None:
    other = mujoco.MjModel.from_xml_path(str(MENAGERIE))
    for name in ("base", *(f"{leg}_{part}" for leg in LEGS for part in ("hip", "thigh"))):
        ours, theirs = model.body(name), other.body(name)
        assert ours.mass == theirs.mass
        assert ours.ipos == pytest.approx(theirs.ipos, abs=1e-6)
        assert np.sort(ours.inertia) == pytest.approx(np.sort(theirs.inertia), rel=2e-3)
    pose = GO2_LIKE.default_pose + np.linspace(-0.2, 0.2, 12)
    ours = feet(model, pose, [f"{leg}_foot" for leg in LEGS])
    assert ours == pytest.approx(feet(other, pose, list(LEGS)), abs=1e-9)
    assert model.body_subtreemass[1] == pytest.approx(other.body_subtreemass[1], rel=0.02)
