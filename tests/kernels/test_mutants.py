"""Planted bugs: each changes one place of the code, and the random cases of the other tests must notice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from ros_attn.kernels.attention import attend
from tests.kernels.oracle import answer, distance, oracle, random_case

SEEDS = range(40)

MUTANTS = [
    ("reference", "scale * torch.einsum", "torch.einsum", "the scale is dropped"),
    ("reference", '"bihd,bjhd->bhij", q.to(compute), keys', '"bihd,bjhd->bhji", q.to(compute), keys', "q/k swapped"),
    ("reference", "masked_fill(~seen, -torch.inf)", "masked_fill(~seen.flip(-1), -torch.inf)", "the mask mirrored"),
    ("reference", "repeat_interleave(groups, 2)", "repeat(1, 1, groups, 1)", "query heads dealt out to key heads"),
    ("reference", "torch.sigmoid(s - torch.log(n))", "torch.sigmoid(s)", "sigmoid without -log n"),
    ("reference", "p = e / (torch.exp(-m) + e", "p = e / (1 + e", "softmax1 without rescaling its 1"),
    ("reference", "if layout.bias_rules is not None:", "if False:", "the bias on every kind"),
    ("intervals", "(f <= t + ahead)", "(f < t + ahead)", "the present frame not seen"),
    ("intervals", "(f > t - recent)", "(f >= t - recent)", "one recent frame too many"),
    ("intervals", "(f < first)", "(f <= first)", "one first frame too many"),
    ("intervals", "kind_q[:, None], kind_k[None, :]", "kind_k[None, :], kind_q[:, None]", "rule read backwards"),
    ("intervals", "lo = (frames - ahead)", "lo = (frames + ahead)", "interval form: the sign of ahead"),
    ("intervals", "else frames + recent", "else frames + recent - 1", "interval form: one frame short"),
    ("intervals", "nothing = (frames < 0) |", "nothing =", "empty slots seen"),
    ("intervals", "gone = ~open", "gone = open", "open means closed"),
    ("intervals", ">= len_k", "> len_k", "one key beyond the length"),
    ("groups", "frames = torch.where(beyond, -1, frames)", "pass", "len_q ignored"),
    ("groups", "visible = mask.sum(1)", "visible = torch.full((len(queries),), len(index))", "n of the merged group"),
    ("groups", "if bool((on == on[:1]).all()) else on", "if len(on) else on", "one bias for different queries"),
    ("grouped", "_sum(d_bias, group, db_, transposed=True)", "pass", "no bias gradient"),
    ("grouped", "d_out[..., values] = change[..., 0]", "pass", "dLSE ignored"),
    ("grouped", "ds = p * (1 - p) * dp", "ds = p * dp", "the sigmoid's derivative"),
    ("grouped", "change is None else delta - change", "change is None else delta + change", "dLSE's sign"),
    ("grouped", "rest = self.counted() / self.scale", "rest = self.counted()", "the bias scaled with the scores"),
    ("grouped", "x[group.samples] = some", "x[:1] = some[:1]", "written to the wrong sample"),
    ("grouped", "x.index_add_(0, group.samples, some)", "x[group.samples] = some", "a sample's groups not summed"),
    ("attention", "torch.sigmoid(lse)[..., None]", "torch.sigmoid(lse.detach())[..., None]", "softmax1 without dLSE"),
]  # fmt: skip


@contextmanager
def planted(name: str, old: str, new: str) -> Iterator[ModuleType]:
    """The modules of attend with one place of one of them changed; ``attend`` of the changed copy is given."""
    affected = ("intervals", "reference", "plan", "groups", "grouped", "operators", "attention")
    names = [f"ros_attn.kernels.{each}" for each in affected]
    kept = {each: sys.modules.pop(each) for each in names if each in sys.modules}
    package = import_module("ros_attn.kernels")
    attributes = {each: getattr(package, each, None) for each in affected}
    try:
        for each in affected:
            if each == "operators":
                # Operators are registered once a process: a copy calls the grouped path through autograd instead.
                sys.modules[f"ros_attn.kernels.{each}"] = unregistered()
                setattr(package, each, sys.modules[f"ros_attn.kernels.{each}"])
                continue
            source = Path(str(kept[f"ros_attn.kernels.{each}"].__file__)).read_text()
            if each == name:
                assert old in source, f"{name}.py has no {old!r} any more; adapt the table of planted bugs"
                source = source.replace(old, new)
            module = ModuleType(f"ros_attn.kernels.{each}")
            sys.modules[module.__name__] = module
            setattr(package, each, module)
            exec(compile(source, f"{each} with {old!r} changed", "exec"), module.__dict__)
        yield sys.modules["ros_attn.kernels.attention"]
    finally:
        sys.modules.update(kept)
        for each, value in attributes.items():
            setattr(package, each, value)


def unregistered() -> ModuleType:
    """A stand-in for ``operators`` that calls the changed grouped path as a plain autograd function."""
    from ros_attn.kernels.layout import Layout

    module = ModuleType("ros_attn.kernels.operators")

    class Attend(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):  # type: ignore[no-untyped-def]
            q, k, v, key_bias, open, len_q, len_k, frame_q, frame_k, layout, normaliser, scale, _ = inputs
            ctx.options = {
                "layout": Layout.decode(layout), "frame_q": frame_q, "frame_k": frame_k, "open": open, "len_q": len_q,
                "len_k": len_k, "normaliser": normaliser, "scale": scale,
            }  # fmt: skip
            out, lse = import_module("ros_attn.kernels.grouped").forward(q, k, v, key_bias, **ctx.options)
            ctx.save_for_backward(q, k, v, out, lse, key_bias)
            return out, lse

        @staticmethod
        def backward(ctx, d_out, d_lse):  # type: ignore[no-untyped-def]
            q, k, v, out, lse, key_bias = ctx.saved_tensors
            d_lse = d_lse if lse.numel() else None
            gradients = import_module("ros_attn.kernels.grouped").backward(
                d_out, d_lse, q, k, v, out, lse, key_bias, key_bias_grad=True, **ctx.options
            )
            return *gradients, *(None,) * 9

    module.attend_op = Attend.apply  # type: ignore[attr-defined]
    return module


def noticed(attend_: Callable[..., Any]) -> bool:
    """Whether the random cases tell this attend from the oracle; failing counts."""
    groups: Any = import_module("ros_attn.kernels.groups")
    grouped: Any = import_module("ros_attn.kernels.grouped")
    call = groups.CALL
    try:
        for backend, groups.CALL in (("reference", call), ("grouped", call), ("grouped", 0.0)):
            grouped.cached = groups.GroupCache()
            for seed in SEEDS:
                try:
                    found = answer(random_case(seed), attend_, backend=backend)
                except (RuntimeError, IndexError, AssertionError):
                    return True
                if not distance(found, expected(seed)) < 1e-9:
                    return True
        return False
    finally:
        groups.CALL, grouped.cached = call, groups.GroupCache()


_answers: dict[int, tuple[torch.Tensor, ...]] = {}


def expected(seed: int) -> tuple[torch.Tensor, ...]:
    if seed not in _answers:
        _answers[seed] = oracle(random_case(seed))
    return _answers[seed]


def test_the_unchanged_code_passes() -> None:
    assert not noticed(attend)
    with planted("", "", "") as module:
        assert not noticed(module.attend)


@pytest.mark.parametrize(("name", "old", "new"), [m[:3] for m in MUTANTS], ids=[m[3] for m in MUTANTS])
def test_a_planted_bug_is_noticed(name: str, old: str, new: str) -> None:
    with planted(name, old, new) as module:
        assert noticed(module.attend)
