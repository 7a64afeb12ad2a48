"""Training of the stair climber: what a stage hands to the next, and what comes out at the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from ros_attn.control.quadruped_stairs.policy import load
from ros_attn.control.quadruped_stairs.train import Export, Options, export, learner, task, train
from ros_attn.control.quadruped_walk import policy as walk_policy
from ros_attn.errors import CheckpointError, RosAttnError
from ros_attn.policies.blind_policy import BlindPolicy
from ros_attn.policies.stair_student import StairStudent
from ros_attn.policies.training_environment import TaskEnvironment
from ros_attn.policies.training_imitation import Imitation
from ros_attn.sim.climb import Climb
from ros_attn.sim.go2_like import GO2_LIKE

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 8 * 24


def options(out: Path, stage: Literal[1, 2, 3], walker: str = "", **others: Any) -> Options:
    return Options(
        stage, out=out, steps=STEPS, robots=8, threads=1, frames=2, save_every_s=0.0, walker=walker, **others
    )


def state(out: Path, stage: int) -> dict[str, Any]:
    return torch.load(out / f"stage_{stage}" / "state.pt", weights_only=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stairs")
    train(options(out, 1))
    train(options(out, 2))
    return out


@pytest.mark.parametrize("stage", [2, 3])
def test_a_stage_without_the_one_before_is_refused(tmp_path: Path, stage: Literal[2, 3]) -> None:
    with pytest.raises(RosAttnError, match=f"Stage {stage} begins with what stage 1 left.*run --stage 1 --out"):
        train(options(tmp_path / "run", stage))
    assert not (tmp_path / "run").exists()


def test_a_teacher_begins_as_a_walker(tmp_path: Path) -> None:
    torch.manual_seed(0)
    description = GO2_LIKE.contract() | {"frames": 2, "action_scale": 0.25, "name": "Go2"}
    walker = BlindPolicy(90, 12, (32, 16))
    ranges = {"forward": [-0.6, 1.0], "left": [-0.4, 0.4], "turn": [-1.0, 1.0]}
    walk_policy.save(walker, tmp_path / "walker", walk_policy.contract(description, ranges), {})
    asked = options(tmp_path / "run", 1, str(tmp_path / "walker"))
    environment = TaskEnvironment(task(asked), torch.device("cpu"))
    seen = environment.get_observations()
    with torch.inference_mode():
        assert torch.allclose(learner(environment, asked).get_policy()(seen), walker(seen["policy"]), atol=1e-5)
    with pytest.raises(RosAttnError, match=r"sees 2 frames .* --frames 3"):
        learner(environment, replace(asked, frames=3))
    stiffer = description | {"kp": [50.0] * 12}
    walk_policy.save(walker, tmp_path / "stiffer", walk_policy.contract(stiffer, ranges), {})
    with pytest.raises(RosAttnError, match=r"is of another robot \(kp\)"):
        learner(environment, replace(asked, walker=str(tmp_path / "stiffer")))


def test_the_student_is_taught_by_the_teacher_of_stage_1(trained: Path) -> None:
    taught, teacher = state(trained, 2)["algorithm"]["teacher_state_dict"], state(trained, 1)["algorithm"]
    assert taught.keys() == teacher["actor_state_dict"].keys()
    for name, value in teacher["actor_state_dict"].items():
        assert torch.equal(taught[name], value), name


def test_the_rate_of_imitation_falls(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "stage_1", tmp_path / "stage_1")
    updates = 4
    train(replace(options(tmp_path, 2), steps=updates * 48 * 8))
    [group] = state(tmp_path, 2)["algorithm"]["optimizer_state_dict"]["param_groups"]
    # Before the last of four updates three quarters were done.
    assert group["lr"] == pytest.approx(1e-3 - 0.75 * 9e-4) == state(tmp_path, 2)["learning_rate"]


def test_stage_3_begins_as_the_student_with_the_teachers_critic(trained: Path) -> None:
    asked = options(trained, 3)
    environment = TaskEnvironment(task(asked), torch.device("cpu"))
    begun = learner(environment, asked).save()
    student, critic = state(trained, 2)["algorithm"]["student_state_dict"], state(trained, 1)["algorithm"]
    for name, value in begun["actor_state_dict"].items():
        if name != "distribution.std_param":
            assert torch.equal(value, student[name]), name
    assert begun["actor_state_dict"]["distribution.std_param"].tolist() == pytest.approx([0.3] * 12)
    for name, value in begun["critic_state_dict"].items():
        assert torch.equal(value, critic["critic_state_dict"][name]), name


def test_stages_learn_and_the_last_one_is_exported(trained: Path, tmp_path: Path) -> None:
    export(Export(trained, tmp_path / "second"))
    student, contract = load(tmp_path / "second")
    kept = StairStudent.of_training(state(trained, 2)["algorithm"]["student_state_dict"]).state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in student.state_dict().items())
    assert contract["depth"]["far_m"] == 2.0 and contract["robot"]["frames"] == 2
    train(options(trained, 3))
    before, after = state(trained, 2)["algorithm"]["student_state_dict"], state(trained, 3)["algorithm"]
    changed = [name for name, value in before.items() if not torch.equal(value, after["actor_state_dict"][name])]
    for part in ("core.encoder.tokens", "core.encoder.query", "core.memory.recurrent", "core.memory.gate", "mlp"):
        assert any(name.startswith(part) for name in changed), part
    export(Export(trained, tmp_path / "third"))
    third = load(tmp_path / "third")[0].state_dict()
    assert not all(torch.equal(value, kept[name]) for name, value in third.items())


def test_every_stage_can_begin_with_what_lies_beside_a_checkpoint(trained: Path, tmp_path: Path) -> None:
    begin, two = tmp_path / "checkpoint", tmp_path / "two stages"
    for stage in (1, 2):
        shutil.copytree(trained / f"stage_{stage}", two / f"stage_{stage}")
    export(Export(two, begin))
    teacher, student = state(trained, 1)["algorithm"], state(trained, 2)["algorithm"]["student_state_dict"]
    cases: tuple[tuple[Literal[1, 2, 3], str, dict[str, Any]], ...] = (
        (1, "actor_state_dict", teacher["actor_state_dict"]), (1, "critic_state_dict", teacher["critic_state_dict"]),
        (2, "teacher_state_dict", teacher["actor_state_dict"]), (2, "student_state_dict", student),
        (3, "actor_state_dict", student), (3, "critic_state_dict", teacher["critic_state_dict"]),
    )  # fmt: skip
    for stage, part, expected in cases:
        asked = options(tmp_path / "run", stage, begin=str(begin))
        learning = learner(TaskEnvironment(task(asked), torch.device("cpu")), asked)
        assert not isinstance(learning, Imitation) or not learning.led(8).any()
        begun = learning.save()[part]
        differing = [name for name, value in expected.items() if not torch.equal(value, begun[name])]
        assert differing == (["distribution.std_param"] if part == "actor_state_dict" and stage == 3 else []), part
    anew = options(tmp_path / "run", 2, begin=str(begin), anew=True)
    other = learner(TaskEnvironment(task(anew), torch.device("cpu")), anew)
    assert not torch.equal(other.save()["student_state_dict"]["mlp.0.weight"], student["mlp.0.weight"])
    assert isinstance(other, Imitation) and other.led(8).all()
    train(options(tmp_path / "run", 3, begin=str(begin)))
    export(Export(tmp_path / "run", tmp_path / "next"))
    assert (tmp_path / "next" / "training.safetensors").is_file()
    first, second = (json.loads((path / "config.json").read_text()) for path in (begin, tmp_path / "next"))
    assert first["training"]["before"] == [] and list(second["training"]["stages"]) == ["stage 3"]
    [before] = second["training"]["before"]
    assert before["stages"] == first["training"]["stages"] and before["commit"] == first["provenance"]["commit"]
    assert before["stages"]["stage 2"]["control_steps"] == 384 and before["seed"] == 0


@pytest.mark.parametrize("stage", [1, 3])
def test_only_a_student_of_stage_2_begins_anew(tmp_path: Path, stage: Literal[1, 3]) -> None:
    with pytest.raises(RosAttnError, match=f"--anew is for stage 2, which trains a student, not for stage {stage}"):
        train(options(tmp_path / "run", stage, anew=True))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("stage", "asked"),
    [(1, {"frames": 3}), (2, {"frames": 3}), (2, {"vision": "pooled"}), (3, {"vision": "blind"}), (3, {"gate": False})],
)
def test_a_stage_refuses_to_begin_with_another_network(
    trained: Path, tmp_path: Path, stage: Literal[1, 2, 3], asked: dict[str, Any]
) -> None:
    export(Export(trained, tmp_path / "checkpoint"))
    with pytest.raises(RosAttnError, match="checkpoint has, which sees other --frames or looks at images otherwise"):
        train(replace(options(tmp_path / "run", stage, begin=str(tmp_path / "checkpoint")), **asked))


def test_a_stage_begins_on_ground_of_the_level_that_was_reached(trained: Path, tmp_path: Path) -> None:
    begin = tmp_path / "checkpoint"
    export(Export(trained, begin))
    config = json.loads((begin / "config.json").read_text())
    config["training"]["level"] = 6.6
    (begin / "config.json").write_text(json.dumps(config))
    train(replace(options(tmp_path / "run", 1, begin=str(begin)), steps=24, robots=24))
    assert sorted(set(state(tmp_path / "run", 1)["curriculum"]["levels"])) == [-1, *range(8)]


@pytest.mark.parametrize("damage, sentence", [
    (lambda path: (path / "training.safetensors").unlink(), "has no training.safetensors to go on from"),
    (lambda path: (path / "training.safetensors").write_bytes(b"no"), "training.safetensors is damaged"),
])  # fmt: skip
def test_a_checkpoint_without_what_training_needs_is_refused(
    trained: Path, tmp_path: Path, damage: Callable[[Path], Any], sentence: str
) -> None:
    begin = tmp_path / "checkpoint"
    export(Export(trained, begin))
    damage(begin)
    with pytest.raises(CheckpointError, match=sentence):
        train(options(tmp_path / "run", 3, begin=str(begin)))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("vision", ["attention", "blind"])
def test_teachers_are_told_to_stand_twice_as_often_as_students(vision: Any) -> None:
    for stage, share in ((1, 0.25), (2, 0.125), (3, 0.125)):
        goal = task(Options(stage=stage, robots=2, threads=1, vision=vision)).goal  # type: ignore[arg-type]
        assert isinstance(goal, Climb) and goal.standing == share


def test_footholds_can_be_left_out_for_comparison(tmp_path: Path) -> None:
    whole, without = (task(options(tmp_path, 1, footholds=footholds)).rewards for footholds in (True, False))
    assert whole.keys() - without.keys() == {"pitch", "feet in gaps", "feet near edges"}


@pytest.mark.parametrize("vision", ["pooled", "blind"])
def test_students_for_comparison_are_trained_too(trained: Path, vision: Any) -> None:
    asked = options(trained, 2, vision=vision)
    environment = TaskEnvironment(task(asked), torch.device("cpu"))
    algorithm = learner(environment, asked)
    seen = environment.get_observations()
    with torch.inference_mode():
        for _ in range(24):
            action = algorithm.act(seen)
            seen, rewards, done, extras = environment.step(action)
            algorithm.process_env_step(seen, rewards, done, extras)
    assert algorithm.update()["behavior"] > 0


def test_nothing_to_export_is_said(tmp_path: Path) -> None:
    with pytest.raises(RosAttnError, match="holds no student"):
        export(Export(tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
