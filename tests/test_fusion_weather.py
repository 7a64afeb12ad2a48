"""The bench of fusion in bad weather: what it feeds and scores, what it keeps, and the arithmetic of its verdicts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from ros_attn.convert.image_files import write_png
from ros_attn.degrade.degradation import Degradation
from ros_attn.errors import RosAttnError
from ros_attn.evaluate.fusion_metrics import measure
from ros_attn.evaluate.grey import luma, read_luma
from ros_attn.perception.infrared_visible_fusion.rule import fuse
from ros_attn.values import Array
from tests.bench import fusion_ablations, fusion_weather
from tests.bench.fusion_ablations import ablations
from tests.bench.fusion_weather_verdicts import KEYS, published, statistics, verdicts
from tests.images import scene

NAMES = ("02", "03", "10")


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data folder with three small pairs as TNO, and one seen alike in each weather but with other clean sources."""
    root = tmp_path / "data"
    parts = [(seed, root / "ivf_tno", name, "ir", "vi") for seed, name in enumerate(NAMES)]
    for seed, weather in enumerate(("haze", "rain", "snow")):
        parts += [(3, root / "ivf_adverse" / weather, "1", "ir", "vi")]
        parts += [(4 + seed, root / "ivf_adverse" / weather, "1", "gt_ir", "gt_vi")]
    for seed, folder, name, infrared, visible in parts:
        for part, encoding in ((infrared, "mono8"), (visible, "rgb8")):
            (folder / part).mkdir(parents=True, exist_ok=True)
            write_png(folder / part / f"{name}.png", scene(0, encoding, seed))
    return root


def scored(pairs: Path, *words: str, conditions: tuple[str, ...] = ("clear",)) -> dict[str, Any]:
    folder = pairs.parent
    asked = ["score", "--data", str(pairs), "--cache", str(folder / "cache"), "--out", str(folder / "out.json")]
    fusion_weather.main([*asked, "--sets", "TNO", "--conditions", *conditions, *words])
    return json.loads((folder / "out.json").read_text())


def clean(pairs: Path, name: str) -> tuple[Array, Array, Array]:
    """Infrared, colour and luma as stored."""
    colour = cv2.imread(str(pairs / f"ivf_tno/vi/{name}.png"))
    assert colour is not None
    colour = np.ascontiguousarray(colour[..., ::-1], dtype=np.uint8)
    return read_luma(pairs / f"ivf_tno/ir/{name}.png"), colour, luma(colour)


def mean(results: dict[str, Any], condition: str, method: str, key: str) -> float:
    return results["sets"]["TNO"][condition][method][key][0]


def test_degraded_pair_is_fused_and_clean_sources_are_scored(pairs: Path) -> None:
    expected = []
    for index, name in enumerate(NAMES):
        infrared, colour, grey = clean(pairs, name)
        seen_visible, seen_infrared = Degradation("rain", "medium", seed=index)(colour, infrared)
        assert not np.array_equal(seen_visible, colour)
        fused, _ = fuse(seen_infrared.astype(np.float32), luma(seen_visible).astype(np.float32))
        expected.append(measure(infrared, grey, np.clip(np.rint(fused), 0, 255))["Q_min"])
    results = scored(pairs, conditions=("rain",))
    assert mean(results, "rain", "rule", "Q_min") == pytest.approx(np.mean(expected), rel=1e-4)
    assert results["sets"]["TNO"]["rain"]["rule"]["n"] == 3


def test_black_camera_leaves_the_other_ones_picture(pairs: Path) -> None:
    results = scored(pairs, conditions=("clear", "visible black", "infrared black"))
    infrared = mean(results, "clear", "infrared only", "Qabf")
    visible = mean(results, "clear", "visible only", "Qabf")
    assert infrared != visible
    assert mean(results, "visible black", "max", "Qabf") == infrared
    assert mean(results, "visible black", "infrared only", "Qabf") == infrared
    assert mean(results, "infrared black", "max", "Qabf") == visible
    assert mean(results, "infrared black", "infrared only", "Qabf") == pytest.approx(0.0, abs=1e-3)
    faults = results["verdicts"]["faults"]["TNO"]
    assert [faults[f"{camera} black"]["healthy"] for camera in ("visible", "infrared")] == ["infrared", "visible"]
    assert faults["infrared black"]["healthy_alone"]["Qabf"] == visible
    for camera, key in (("visible", "Q_ir"), ("infrared", "Q_vi")):
        kept = faults[f"{camera} black"]["fused"]["rule"]["Q_healthy"]
        assert kept == mean(results, f"{camera} black", "rule", key)


def test_exported_pairs_come_back_as_a_peer(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fusion_weather.main(
        ["export", "--data", str(pairs), "--out", str(pairs.parent / "seen"), "--sets", "TNO", "--conditions", "rain",
         "visible dirt"]
    )  # fmt: skip
    for condition in ("rain", "visible_dirt"):
        folder = pairs.parent / "peer/TNO" / condition
        folder.mkdir(parents=True)
        for name in NAMES:
            seen = [read_luma(pairs.parent / f"seen/TNO/{condition}/{part}/{name}.png") for part in ("ir", "vi")]
            cv2.imwrite(str(folder / f"{name}.png"), np.maximum(*seen))
    peer = ("--peer", f"twin={pairs.parent / 'peer'}")
    results = scored(pairs, *peer, conditions=("rain", "visible dirt", "clear"))
    for condition in ("rain", "visible dirt"):
        for key in KEYS:
            assert mean(results, condition, "twin", key) == mean(results, condition, "max", key)
    assert "twin" not in results["sets"]["TNO"]["clear"]
    assert "TNO, clear: twin is left out; 3 pictures such as 02.png" in capsys.readouterr().out

    # A picture that changed is measured again.
    shutil.copy(pairs / "ivf_tno/ir/02.png", pairs.parent / "peer/TNO/rain/02.png")
    again = scored(pairs, *peer, conditions=("rain",))
    assert mean(again, "rain", "twin", "Qabf") != mean(results, "rain", "twin", "Qabf")


def test_rerun_measures_only_what_is_new(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = scored(pairs, conditions=("snow",))
    rows = pairs.parent / "cache/TNO/snow.jsonl"
    lines = rows.read_text().splitlines()
    assert len(lines) == 3 * len(fusion_weather.RULES)
    rows.write_text("\n".join(lines[:-1]) + "\n" + lines[-1][:50])  # killed while it wrote

    measured = []
    monkeypatch.setattr(fusion_weather, "measure", lambda *images: measured.append(1) or measure(*images))
    second = scored(pairs, conditions=("snow",))
    assert len(measured) == 2  # the check of the cache, and the line that was cut short
    assert second["sets"] == first["sets"]
    measured.clear()
    assert scored(pairs, conditions=("snow",))["sets"] == first["sets"]
    assert len(measured) == 1

    # What is left beside a black camera is the picture of the other one: max and infrared only are not measured again.
    measured.clear()
    scored(pairs, conditions=("clear", "visible black"))
    assert len(measured) == 3 * (6 + 4)


def test_cache_of_other_code_is_refused(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored(pairs)
    monkeypatch.setattr(fusion_weather.rule, "BASE_SOFTNESS", 40.0)
    with pytest.raises(RosAttnError, match=r"TNO, clear: .*clear\.jsonl has .* name another --cache"):
        scored(pairs)


def test_checkpoints_are_told_apart_by_their_weights(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learned(name: str, checkpoint: Path) -> fusion_weather.Method:
        shade = float(checkpoint.name)
        return fusion_weather.Method(name, lambda infrared, visible: visible - shade, checkpoint.name)

    monkeypatch.setattr(fusion_weather, "learned", learned)
    light, dark = (scored(pairs, "--checkpoint", f"net={shade}") for shade in ("0", "60"))
    measured = []
    monkeypatch.setattr(fusion_weather, "measure", lambda *images: measured.append(1) or measure(*images))
    again = scored(pairs, "--checkpoint", "net=0")
    assert len(measured) == 1
    assert mean(light, "clear", "net", "SSIM") == mean(light, "clear", "visible only", "SSIM")
    assert mean(dark, "clear", "net", "SSIM") < mean(light, "clear", "net", "SSIM")
    assert again["sets"] == light["sets"] and again["checkpoints"] == {"net": "0"}
    with pytest.raises(RosAttnError, match="rule names two methods"):
        scored(pairs, "--checkpoint", "rule=0")


def test_degraded_set_is_scored_against_its_clean_sources(pairs: Path) -> None:
    out = pairs.parent / "out.json"
    words = ["score", "--data", str(pairs), "--cache", str(pairs.parent / "cache"), "--out", str(out), "--sets"]
    fusion_weather.main([*words, "ivf_adverse"])
    results = json.loads(out.read_text())["degraded"]["ivf_adverse"]
    for weather in ("haze", "rain", "snow"):
        folder = pairs / "ivf_adverse" / weather
        ir, vi, gt_ir, gt_vi = (read_luma(folder / part / "1.png") for part in ("ir", "vi", "gt_ir", "gt_vi"))
        on_clean = np.clip(np.rint(fuse(gt_ir.astype(np.float32), gt_vi.astype(np.float32))[0]), 0, 255)
        for method, picture in (("max", np.maximum(ir, vi)), (fusion_weather.ON_CLEAN, on_clean)):
            expected = measure(gt_ir, gt_vi, picture)["VIF"]
            assert results[weather][method]["VIF"][0] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(RosAttnError, match="ivf_registration/MSRS lacks one of the folders"):
        fusion_weather.main([*words, "ivf_registration"])


def flat(value: float, images: int = 4, **others: float) -> dict[str, dict[str, float]]:
    """Figures that are all ``value`` but for ``others``, checks passed."""
    figures = dict.fromkeys(KEYS, value) | {"excess_gradient": 0.0, "extra_clipping": 0.0} | others
    return {str(image): dict(figures) for image in range(images)}


def judged(sets: dict[str, Any], peers: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return verdicts({"S": sets}, ["net"], {"S": peers or {}}, ("haze",), fusion_weather.ON_CLEAN)


def test_share_of_the_gap_is_between_best_rival_and_clean_rule() -> None:
    hazy = {"rule": flat(0.2), "max": flat(0.3, VIF_min=0.7), "net": flat(0.45)}
    found = judged({"clear": {"rule": flat(0.6), "max": flat(0.6), "net": flat(0.5)}, "haze": hazy})["weather"]["S"][
        "haze"
    ]
    assert (found["Q_min"]["best_rival"], found["Q_min"]["gap"]) == ("max", 0.3)
    net = found["Q_min"]["checkpoints"]["net"]
    assert net == {"own": 0.45, "excess_gradient": 0.0, "share": 0.5, "interval": [0.5, 0.5], "met": True}
    # The best rival is above the rule on the clean pair: there is nothing to close.
    net = found["VIF_min"]["checkpoints"]["net"]
    assert net == {"own": 0.45, "excess_gradient": 0.0, "share": None, "interval": None, "met": False}
    assert judged({"haze": hazy})["weather"] == {}  # no clear pairs to go by


def test_own_mark_of_a_degraded_set() -> None:
    hazy = {"rule": flat(0.2), "net": flat(0.25), fusion_weather.ON_CLEAN: flat(0.4)}
    row = judged({"haze": hazy})["weather"]["S"]["haze"]["Q_min"]
    assert (row["best_rival"], row["clean_rule"], row["checkpoints"]["net"]["share"]) == ("rule", 0.4, 0.25)
    misaligned = hazy | {"visible only": flat(0.1), "infrared only": flat(0.9)}
    assert judged({"MSRS": misaligned})["faults"]["S"]["MSRS"]["healthy_alone"]["SSIM"] == 0.1


def test_clear_counts_wins_on_the_same_images(tmp_path: Path) -> None:
    (tmp_path / "peers.csv").write_text(
        "set,image,method,EN,SD,SF,MI,SCD,VIF,Qabf,SSIM\n"
        "S,0,old,1,1,1,1,1,1,0.1,0.1\nS,1,old,1,1,1,1,1,1,0.1,0.1\nS,0,max,9,9,9,9,9,9,9,9\n"
    )
    net = flat(0.5)
    net["2"] |= dict.fromkeys(KEYS, 9.0)  # "old" has no such image
    clear = {"rule": flat(0.4, Q_min=0.7, VIF_min=0.1), "max": flat(0.6), "net": net}
    found = judged({"clear": clear}, published(tmp_path / "peers.csv")["S"])["clear"]["S"]["net"]
    assert found["rivals"]["old"] == {"n": 2, "better": 2, "in": ["Qabf", "SSIM"]}
    assert found["rivals"]["max"]["n"] == 4  # measured here, so not the published one
    assert not found["counts"]  # the third image's figures are 9, the checks too
    assert (found["Q_min"]["best_rival"], found["VIF_min"]["best_rival"]) == ("rule", "max")

    for excess, clipping, counts in ((0.04, 0.02, True), (0.041, 0.0, False), (0.0, 0.021, False)):
        clear["net"] = flat(0.5, excess_gradient=excess, extra_clipping=clipping)
        assert judged({"clear": clear})["clear"]["S"]["net"]["counts"] is counts


def test_interval_of_a_mean() -> None:
    values = np.random.default_rng(1).normal(5.0, 2.0, 50)
    average, deviation, low, high = statistics(values)
    assert (average, deviation) == pytest.approx((values.mean(), values.std()), rel=1e-4)
    half = 1.96 * values.std() / np.sqrt(50)
    assert (average - low, high - average) == (pytest.approx(half, rel=0.12), pytest.approx(half, rel=0.12))
    assert statistics(values) == statistics(values)


def test_show_prints_the_verdicts(pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scored(pairs, conditions=("clear", "haze", "infrared noise"))
    printed = capsys.readouterr().out
    fusion_weather.main(["show", str(pairs.parent / "out.json")])
    shown = capsys.readouterr().out
    assert shown.strip() in printed
    for title in ("means over images, sets", "clear, beside the best rival", "weather, share", "faults, beside"):
        assert title in shown


def test_ablation_is_a_difference_image_by_image() -> None:
    def figures(*values: float) -> dict[str, dict[str, float]]:
        return {str(k): {"Q_min": value, "VIF_min": 2 * value} for k, value in enumerate(values)}

    rows = {
        "TNO": {
            "clear": {"full": figures(0.2, 0.4), "half": figures(0.1, 0.4)},
            "rain": {"full": figures(0.2, 0.3), "half": figures(0.2, 0.1)},
            "snow": {"full": figures(0.1, 0.1), "half": figures(0.1, 0.1)},
        },
        "MSRS": {"clear": {"full": figures(0.9), "half": figures(0.7)}},
    }
    found = ablations(rows, ["full", "half"])
    assert list(found) == ["clear", "weather"]
    assert found["clear"]["Q_min"]["full"]["mean"] == pytest.approx(0.5)
    assert found["clear"]["Q_min"]["full"]["difference"] == [0, 0, 0, 0]
    assert found["clear"]["VIF_min"]["half"]["difference"][0] == pytest.approx(2 * (-0.1 - 0.2) / 3)
    mean, _, low, high = found["weather"]["Q_min"]["half"]["difference"]
    assert mean == pytest.approx((0 - 0.1) / 2) and low == pytest.approx(-0.1) and high == pytest.approx(0)


def test_ablations_want_a_whole_model_and_a_variant() -> None:
    with pytest.raises(RosAttnError, match="at least one variant"):
        fusion_ablations.main(["--checkpoint", "full=runs/x"])
