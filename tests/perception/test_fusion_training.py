"""Training: samples that repeat, a loss that falls, and runs that go on as if they had never stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ros_attn.cli import main
from ros_attn.errors import RosAttnError
from ros_attn.perception.infrared_visible_fusion import presets, training_tasks
from ros_attn.perception.infrared_visible_fusion.fast_model import FAULTS, WEATHER, FastFusion, Fused, Part
from ros_attn.perception.infrared_visible_fusion.objective import Weights, objective
from ros_attn.perception.infrared_visible_fusion.train import Export, Options, export, read_pairs, train
from ros_attn.perception.infrared_visible_fusion.training_pairs import Pair, TrainingPairs


def smooth(seed: int, channels: int) -> np.ndarray:
    noise = np.random.default_rng(seed).uniform(0, 255, (80, 100, channels)).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), 3)
    return np.clip((image - image.mean()) * 4 + 110, 0, 255).astype(np.uint8)


def scenes(count: int = 4) -> dict[str, Pair]:
    return {f"{k}": (smooth(2 * k, 3), smooth(2 * k + 1, 1)) for k in range(count)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, (visible, infrared) in scenes().items():
        for side, image in (("vi", visible[..., ::-1]), ("ir", infrared)):
            (tmp_path / "pairs" / side).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(tmp_path / "pairs" / side / f"{name}.png"), image)
    return tmp_path / "pairs"


def test_samples_repeat_and_cover_every_label() -> None:
    pairs, again = TrainingPairs(scenes(), 48, seed=3), TrainingPairs(scenes(), 48, seed=3)
    labels, noisy = set(), 0
    for index in range(150):
        a, b = pairs.sample(index), again.sample(index)
        assert all(torch.equal(x, y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))
        weather, *faults = a.labels.tolist()
        labels |= {("weather", weather), ("visible", faults[0]), ("infrared", faults[1])}
        changed = not (torch.equal(a.visible, a.clean_visible) and torch.equal(a.infrared, a.clean_infrared))
        noisy += changed and not any(a.labels.tolist())
        assert changed or not any(a.labels.tolist())
        for camera, seen in enumerate((a.visible, a.infrared)):
            black = FAULTS[faults[camera]] == "black"
            # A black camera may still have noise of its own.
            assert bool(seen.mean() > 5 / 255) is not black and a.weights[camera] == (0.0 if black else 1.0)
    assert 5 <= noisy <= 25
    assert {each for kind, each in labels if kind == "weather"} == set(range(len(WEATHER)))
    for camera in ("visible", "infrared"):
        assert {each for kind, each in labels if kind == camera} == set(range(len(FAULTS)))


def test_the_objective_prefers_what_serves_both_sources() -> None:
    sample = TrainingPairs(scenes(), 64, seed=0).batch(range(6))
    quiet = torch.zeros(6, 5), torch.zeros(6, 2, 5)

    def loss(fused: torch.Tensor) -> float:
        return float(objective(Fused(fused, fused, *quiet), sample, Weights(labels=0.0))[0])

    v, i = sample.clean_visible, sample.clean_infrared
    both = torch.maximum(v, i)
    assert loss(both) < min(loss(v), loss(i))
    assert loss(both + 0.2 * torch.rand(both.shape, generator=torch.Generator().manual_seed(0))) > loss(both) + 0.2
    assert loss(2 * both) > loss(both) + 0.2


def test_a_black_camera_does_not_count() -> None:
    sample = TrainingPairs(scenes(), 64, seed=0).batch(range(2))
    sample.weights[:] = torch.tensor([0.0, 1.0])
    quiet = torch.zeros(2, 5), torch.zeros(2, 2, 5)
    made = Fused(sample.clean_infrared, sample.clean_infrared, *quiet)
    terms = objective(made, sample, Weights())[1]
    # An edge that is kept as it is has 0.9753, where its gradient is not 0.
    assert terms["edges"] < 0.05 and terms["information"] < 1e-3 and terms["structure"] < 1e-5
    assert terms["intensity"] == 0.0


def test_the_loss_falls(folder: Path, tmp_path: Path) -> None:
    train(Options((folder,), out=tmp_path / "run", steps=40, batch=4, side=48, save_every=10, rate=3e-3))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    model, untrained = FastFusion(), FastFusion()
    model.load_state_dict(torch.load(tmp_path / "run" / "state.pt", weights_only=True)["model"])
    sample = TrainingPairs(scenes(), 48, seed=99).batch(range(24))
    with torch.inference_mode():
        before, after = (
            float(objective(m(sample.visible, sample.infrared), sample, Weights())[0]) for m in (untrained, model)
        )
    assert after < before - 0.1


def test_a_run_goes_on_as_if_it_had_never_stopped(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options((folder,), out=tmp_path / "whole", steps=6, batch=2, side=48, save_every=2)
    whole = train(options).state_dict()

    broken = Options((folder,), out=tmp_path / "broken", steps=6, batch=2, side=48, save_every=2)
    sound, calls = training_tasks.objective, []

    def stops(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return sound(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(training_tasks, "objective", stops)
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    assert [each.name for each in (tmp_path / "broken").glob(".*")] == []
    resumed = train(broken).state_dict()
    # Three steps before, of which two were kept, and four after.
    assert len(calls) == 4 + 4
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    with pytest.raises(RosAttnError, match="of a run with other options"):
        train(Options((folder,), out=tmp_path / "broken", steps=9, batch=2, side=48))


def test_two_processes_train_as_one_does(folder: Path, tmp_path: Path) -> None:
    options = ["--data", str(folder), "--steps", "3", "--batch", "4", "--side", "48", "--out"]
    alone = train(Options((folder,), out=tmp_path / "alone", steps=3, batch=4, side=48)).state_dict()
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", *launcher, "-m", "ros_attn", "train", "infrared_visible_fusion", *options,
         str(tmp_path / "two")], capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    together = torch.load(tmp_path / "two" / "state.pt", weights_only=True)
    assert together["step"] == 3 and len((tmp_path / "two" / "log.jsonl").read_text().splitlines()) == 1
    # Adam makes a whole step of a gradient that is nothing but rounding, so a few weights may differ by one.
    apart = torch.cat([(alone[name] - together["model"][name]).abs().flatten() for name in alone])
    assert float(apart.quantile(0.99)) < 1e-5 and float(apart.max()) < 3e-3


def test_ablations_leave_out_what_they_name() -> None:
    visible, infrared = (torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    made = {}
    choices: list[tuple[Part, ...]] = [(), ("mask",), ("attention",), ("repair",)]
    for without in choices:
        torch.manual_seed(0)
        model = presets.network("fast", without).eval()
        for head in model.heads:  # pyright: ignore[reportGeneralTypeIssues]
            torch.nn.init.normal_(head.weight, std=0.1)
        with torch.inference_mode():
            made[without] = model(visible, infrared).fused
    assert all(float((made[()] - each).abs().max()) > 1e-4 for without, each in made.items() if without)
    pairs = TrainingPairs(scenes(), 48, seed=3, weather=False)
    labels = [pairs.sample(index).labels.tolist() for index in range(100)]
    assert {each[0] for each in labels} == {0} and {each[1] for each in labels} == set(range(len(FAULTS)))
    # The other samples are those of a training with weather.
    usual = TrainingPairs(scenes(), 48, seed=3)
    same = [torch.equal(usual.sample(k).visible, pairs.sample(k).visible) for k, each in enumerate(labels) if any(each)]
    assert same and all(same)


def test_paper_is_trained_after_its_restoration(folder: Path, tmp_path: Path) -> None:
    small: dict = {"steps": 2, "batch": 2, "side": 32}
    judge = tmp_path / "restoration"
    train(Options((folder,), preset="restoration", out=judge, **small))
    with pytest.raises(RosAttnError, match="wants --restoration, the folder of a run"):
        train(Options((folder,), preset="paper", out=tmp_path / "paper", **small))
    train(Options((folder,), preset="paper", restoration=judge, out=tmp_path / "paper", **small))
    row = json.loads((tmp_path / "paper" / "log.jsonl").read_text())
    assert set(row) >= {"intensity", "gradient", "structure", "consistency", "restoration", "labels"}
    with pytest.raises(RosAttnError, match="is no run of preset restoration"):
        train(Options((folder,), preset="paper", restoration=tmp_path / "paper", out=tmp_path / "other", **small))
    with pytest.raises(RosAttnError, match="Only preset fast can be trained without mask"):
        train(Options((folder,), preset="paper", without=("mask",), restoration=judge, out=tmp_path / "other", **small))
    with pytest.raises(RosAttnError, match="trained restoration, which only serves"):
        export(Export(judge, tmp_path / "weights", "none"))


def test_pairs_that_are_left_out(folder: Path, tmp_path: Path) -> None:
    listed = tmp_path / "out.txt"
    listed.write_text("1.png\n3\n")
    assert sorted(read_pairs((folder,), (listed,))) == ["pairs/0", "pairs/2"]
    visible, infrared = read_pairs((folder,), ())["pairs/2"]
    assert np.array_equal(visible, scenes()["2"][0]) and np.array_equal(infrared, scenes()["2"][1])


def test_mistakes_are_answered(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RosAttnError, match="has no sub-folders vi and ir"):
        read_pairs((tmp_path,), ())
    with pytest.raises(RosAttnError, match=r"There is no list .*absent\.txt of pairs to leave out"):
        read_pairs((folder,), (tmp_path / "absent.txt",))
    assert main(["train", "infrared_visible_fusio"]) == 1
    assert "did you mean 'infrared_visible_fusion'" in capsys.readouterr().err
    assert main(["train", "infrared_visible_fusion", "--data", str(tmp_path / "none")]) == 1
    assert "name a folder of image pairs" in capsys.readouterr().err
    cv2.imwrite(str(folder / "ir" / "0.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(RosAttnError, match="are not 8-bit images of one size"):
        read_pairs((folder,), ())
