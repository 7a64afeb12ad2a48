"""Planted bugs in every kernel file: its own tests, run on the changed copy, must fail (test_mutants has attend's)."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Bug:
    """One place of a module changed, and the tests that must notice."""

    what: str
    module: str
    old: str
    new: str
    tests: str
    chosen: str = ""

    def __str__(self) -> str:
        return f"{self.module}: {self.what}"


GEOMETRY, DELTA, RIDGE = "test_geometry.py", "test_gated_delta.py", "test_kernel_ridge.py"
BUGS = [
    Bug("wrong pairing of channels", "rope", "x.unflatten(-1, (-1, 2)))", "x.unflatten(-1, (2, -1)).mT.contiguous())", GEOMETRY),
    Bug("turned backwards", "rope", "turn.conj() if backwards else turn", "turn if backwards else turn.conj()", GEOMETRY),
    Bug("x and y swapped", "rope", "torch.stack((x, y), -1)", "torch.stack((y, x), -1)", GEOMETRY),
    Bug("P for P^T", "prope", "self.projection_q.to(compute_dtype(q)), self", "self.projection_q.to(compute_dtype(q)).mT, self", GEOMETRY),
    Bug("keys by P instead of its inverse", "prope", "inverse_affine(projection.double())", "projection.double()", GEOMETRY),
    Bug("the output not turned back", "prope", "matrix, self.patch_q, backwards=True", "matrix, self.patch_q", GEOMETRY),
    Bug("angles rounded before they are large", "geo_rope", "each.double().expand", "each.half().double().expand", GEOMETRY),
    Bug("keys not normalised", "gated_delta", "_Inputs(q, unit_norm(k), v", "_Inputs(q, k.to(wide), v", DELTA),
    Bug("read before the write", "gated_delta", "(decay * (queries @ keys", "(decay.tril(-1) * (queries @ keys", DELTA),
    Bug("the state not decayed", "gated_delta", "memory = kept[c] * memory", "memory = memory", DELTA),
    Bug("the scale dropped", "gated_delta", "out = scale * (from_before + within)", "out = from_before + within", DELTA),
    Bug("a position sees the next", "kernel_ridge", "triu(1 + length - n)", "triu(2 + length - n)", RIDGE),
    Bug("the ridge dropped", "kernel_ridge", "own + diagonal * _identity(own)", "own", RIDGE),
    Bug("earlier blocks not taken away", "kernel_ridge", "v[:, :, start:end] - before @ solved", "v[:, :, start:end]", RIDGE),
    Bug("norms of the wrong side", "channel", "inverse_q.unsqueeze(-1)", "inverse_q.unsqueeze(-2)", "test_channel.py"),
    Bug("the norms' gradient dropped", "channel", "2 * squares_q, q)", "0 * squares_q, q)", "test_channel.py"),
    Bug("values by A^T", "channel", "passes.mix(weights, v, None, None)", "passes.mix(weights.mT, v, None, None)", "test_channel.py"),
    Bug("windows a cell further", "neighbourhood", "- window // 2, 0)", "- window // 2 + 1, 0)", "test_neighbourhood.py"),
    Bug("pixel corners instead of centres", "neighbourhood", "(2 * t + 1) * sources", "2 * t * sources", "test_neighbourhood.py"),
    Bug("the scale's gradient dropped", "neighbourhood", "keepdim=True)) * blocks.scale", "keepdim=True))", "test_neighbourhood.py"),
    Bug("twice the width", "gaussian", "-0.5 * wide", "-1.0 * wide", "test_identities.py"),
    Bug("the null key's temperature", "polar", "lse - tau * nu", "lse - nu", "test_identities.py"),
    Bug("a square too few", "polar", "2 * lse - doubled", "lse - doubled", "test_identities.py"),
]  # fmt: skip


def pytest_on(bug: Bug, file: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "PYTHONPATH": str(HERE / "planted"), "PLANTED_BUG": f"ros_attn.kernels.{bug.module}={file}",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }  # fmt: skip
    chosen = ["-k", bug.chosen] if bug.chosen else []
    command = [sys.executable, "-P", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    return subprocess.run(
        [*command, str(HERE / bug.tests), *chosen], cwd=ROOT, env=environment, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=str)
def test_a_planted_bug_is_noticed(bug: Bug, tmp_path: Path) -> None:
    source = (ROOT / "kernels" / f"{bug.module}.py").read_text()
    assert source.count(bug.old) >= 1, f"kernels/{bug.module}.py has no {bug.old!r} any more; adapt the table"
    file = tmp_path / f"{bug.module}.py"
    file.write_text(source.replace(bug.old, bug.new, 1))
    result = pytest_on(bug, file)
    # 1: tests failed; 2 to 5 would be a run that did not take place.
    assert result.returncode == 1, result.stdout[-2000:] + result.stderr[-2000:]


def test_the_unchanged_copy_passes(tmp_path: Path) -> None:
    """The copy itself does no harm, and it is the copy that runs."""
    file = tmp_path / "kernel_ridge.py"
    source = (ROOT / "kernels" / "kernel_ridge.py").read_text()
    file.write_text(source)
    bug = Bug("none", "kernel_ridge", "", "", "test_kernel_ridge.py", "error or sentence or rejects or shape")
    assert pytest_on(bug, file).returncode in (0, 5)
    file.write_text(source + "\nraise RuntimeError('the copy runs')\n")
    result = pytest_on(bug, file)
    assert result.returncode != 0 and "the copy runs" in result.stdout
