"""The table in words: how it reads, what is refused, and that each line reaches its own simulation."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.sim.go2_like import GO2_LIKE as ROBOT
from ros_attn.sim.legged_world import LeggedWorld
from ros_attn.sim.randomisation import CLIMBING, NAMES, OF_THE_CAMERA, WALKING, Randomisation, parse

COUNT = 400


@pytest.fixture(scope="module")
def drawn() -> LeggedWorld:
    world = LeggedWorld(ROBOT, COUNT, boxes=0, threads=1)
    randomisation = Randomisation(world, WALKING)
    for _ in range(3):  # drawing again starts from the model, not from the last draw
        randomisation.draw(np.arange(COUNT), np.random.default_rng(0))
    world.derive(np.arange(COUNT))
    return world


def spread(values: np.ndarray, low: float, high: float) -> None:
    """Uniform between the ends, to what 400 draws tell."""
    assert low <= values.min() and values.max() <= high
    assert values.min() < low + 0.03 * (high - low) and values.max() > high - 0.03 * (high - low)
    assert values.mean() == pytest.approx((low + high) / 2, abs=0.06 * (high - low))


def test_table_reads_and_prints() -> None:
    terms = parse("foot friction =U(0.4, 1.2)\nlink masses *N(1, 0.1)   of each\nbase mass +U(-1, 2) kg")
    assert [str(term) for term in terms.values()] == [
        "foot friction            =U(0.4, 1.2)",
        "link masses              *N(1, 0.1)  of each",
        "base mass                +U(-1, 2)  kg",
    ]
    assert set(parse(WALKING)) == NAMES - set(OF_THE_CAMERA)
    assert set(parse(CLIMBING)) == NAMES


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("foot friction U(0.4, 1.2)", "is not NAME =U"),
        ("foot friktion =U(0.4, 1.2)", "there is no 'foot friktion'"),
        ("base mass +U(0, 1)\nbase mass +U(0, 2)", "given twice"),
        ("base mass +U(2, 1)", "lower end above"),
        ("command delay =U(0, 0.1)", "longer than 0.04 s"),
    ],
)
def test_bad_tables_are_refused(table: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parse(table)


def test_draws_reach_the_simulations(drawn: LeggedWorld) -> None:
    model, batch = drawn.model, drawn.batch
    feet = [model.geom(name).id for name in ROBOT.feet]
    contact = batch.expand("geom_solimp")
    spread(contact[:, feet[0], 2], 0.001, 0.022)
    assert np.array_equal(contact[:, feet[0]], contact[:, feet[3]])
    # One draw moves all of a foot's figures together, from hard to soft.
    assert contact[:, feet[0], 0] == pytest.approx(0.9 - 0.885 * (contact[:, feet[0], 2] - 0.001) / 0.021)
    friction = batch.expand("geom_friction")[:, feet, 0]
    assert (friction == friction[:, :1]).all()
    spread(friction[:, 0], 0.4, 1.2)
    base, calf = model.body("base").id, model.body("FL_calf").id
    mass, inertia = batch.expand("body_mass"), batch.expand("body_inertia")
    spread(mass[:, calf] / model.body_mass[calf], 0.9, 1.1)
    assert inertia[:, base, 1] / model.body_inertia[base, 1] == pytest.approx(mass[:, base] / model.body_mass[base])
    assert mass[:, base].min() > 0.9 * 5.9 and mass[:, base].max() < 1.1 * 9
    spread(batch.expand("body_ipos")[:, base, 1], -0.03, 0.03)
    gains, force = batch.expand("actuator_biasprm"), batch.expand("actuator_forcerange")
    spread(-gains[:, 3, 1] / 40, 0.9, 1.1)
    spread(-gains[:, 3, 2], 0.8, 1.2)
    assert force[:, 3, 1] / 23.7 == pytest.approx(-gains[:, 3, 1] / 40)
    damping = batch.expand("dof_damping")[:, 6:]
    assert (damping == damping[:, :1]).all()
    spread(damping[:, 0], 0.0, 2.5)
    spread(batch.expand("dof_frictionloss")[:, 8] / 0.2, 0.5, 1.5)
    spread(batch.expand("actuator_delay")[:, 0], 0.0, 0.02)


def test_only_those_asked_for_change() -> None:
    world = LeggedWorld(ROBOT, 4, boxes=0, threads=1)
    Randomisation(world, WALKING).draw(np.array([1, 3]), np.random.default_rng(0))
    mass = world.batch.expand("body_mass")
    assert np.array_equal(mass[[0, 2]], np.tile(world.model.body_mass, (2, 1)))
    assert (mass[[1, 3], 1:] != world.model.body_mass[1:]).all()


def test_nothing_to_draw_leaves_the_model_shared() -> None:
    world = LeggedWorld(ROBOT, 2, boxes=0, threads=1)
    randomisation = Randomisation(world, "foot friction =U(1, 1)")
    randomisation.draw(np.arange(2), np.random.default_rng(0))
    assert world.batch.expanded("body_mass") is None
    assert (randomisation.value("push", np.random.default_rng(0), (3,)) == 0).all()
