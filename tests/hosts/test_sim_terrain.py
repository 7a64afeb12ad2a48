"""Terrains by name."""

from __future__ import annotations

import numpy as np
import pytest

from ros_attn.errors import RosAttnError
from ros_attn.hosts.sim_terrain import TERRAINS, terrain


@pytest.mark.parametrize(
    "asked, name", [("flat", "flat"), ("stairs", "solid stairs 20°"), ("stairs:30", "solid stairs 30°"),
                    ("hollow:37", "hollow stairs 37°"), ("rough:0.03", "rough"), ("platforms", "platforms"),
                    ("gaps:0.2", "gaps")],
)  # fmt: skip
def test_a_name_is_a_terrain(asked: str, name: str) -> None:
    assert terrain(asked, 0).name == name


def test_the_size_is_heeded_and_the_seed_draws() -> None:
    tops = {text: terrain(text, 0).boxes[:, [2, 5]].sum(1).max() for text in ("rough:0.03", "rough:0.08")}
    assert tops["rough:0.03"] <= 0.03 < tops["rough:0.08"] <= 0.08
    assert np.array_equal(terrain("rough", 1).boxes, terrain("rough", 1).boxes)
    assert not np.array_equal(terrain("rough", 1).boxes, terrain("rough", 2).boxes)
    assert {name for name in TERRAINS if terrain(name, 0).kind} == set(TERRAINS)


@pytest.mark.parametrize(
    "asked, sentence",
    [
        ("stiars:30", r"no terrain 'stiars' \(did you mean 'stairs'\?\); there are flat, rough\[:height in m\], "),
        ("stairs:steep", r"'stairs:steep' has no number behind the colon; write stairs:20 \(slope in degrees\)\."),
        ("stairs:", "no number behind the colon"),
        ("flat:3", "flat has no size; leave ':3' out"),
        ("hollow:80", "'hollow:80' cannot be built: .* from 15 to 55"),
        ("rough:nan", "'rough:nan' cannot be built"),
        ("stairs:0", "'stairs:0' cannot be built"),
    ],
)
def test_what_there_is_not_is_refused(asked: str, sentence: str) -> None:
    with pytest.raises(RosAttnError, match=sentence):
        terrain(asked, 0)
