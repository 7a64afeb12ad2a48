"""The lowering to FlexAttention: an oracle that shares nothing with ours but the plan's intervals and lists."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch

from ros_attn.kernels import flex as module
from ros_attn.kernels.attention import attend
from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.flex import attend_flex, block_mask
from ros_attn.kernels.layout import ALL
from ros_attn.kernels.plan import build
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import Case, random_case


def flex(case: Case, block: int) -> tuple[torch.Tensor, torch.Tensor]:
    vis, bias = case.visibility, case.key_bias
    q, k, v = (x.float() for x in (case.q, case.k, case.v))
    return attend_flex(
        q, k, v, None if bias is None else bias.float(), layout=vis.layout, frame_q=vis.frame_q, frame_k=vis.frame_k,
        open=case.open, len_q=case.len_q, len_k=case.len_k, scale=case.scale, block=block,
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("seed", range(20))
def test_flex_agrees_with_the_reference(seed: int) -> None:
    case = random_case(seed, "softmax")
    out, lse = flex(case, 16)
    expected, norm = attend(
        case.q, case.k, case.v, key_bias=case.key_bias, return_lse=True, backend="reference", **case.options()
    )
    assert (out - expected).abs().max() < 1e-5
    assert torch.equal(torch.isneginf(lse), torch.isneginf(norm))
    some = ~torch.isneginf(norm)
    assert (lse[some] - norm[some]).abs().sum() < 1e-3


@pytest.mark.parametrize("block", [4, 8])
@pytest.mark.parametrize("seed", range(30))
def test_its_block_lists_cover_the_mask(seed: int, block: int) -> None:
    """Every block with a visible pair is listed, and in a full one every query that sees anything sees all of it."""
    case = random_case(seed, "softmax")
    vis = case.visibility
    structure = {"open": case.open, "len_q": case.len_q, "len_k": case.len_k}
    plan = build(vis.layout, vis.frame_q, vis.frame_k, block, block, torch.device("cpu"), aligned=True, **structure)
    lists = block_mask(vis.layout, plan, vis.length_q, vis.length_k, block)
    mask = vis.mask(**structure).expand(plan.rank_q.shape[0], -1, -1)
    for b in range(mask.shape[0]):
        for row in range(-(-vis.length_q // block)):
            full = lists.full_kv_indices[b, 0, row, : int(lists.full_kv_num_blocks[b, 0, row])].tolist()
            part = lists.kv_indices[b, 0, row, : int(lists.kv_num_blocks[b, 0, row])].tolist()
            assert not set(full) & set(part)
            for column in range(-(-vis.length_k // block)):
                pairs = mask[b, row * block : (row + 1) * block, column * block : (column + 1) * block]
                if bool(pairs.any()):
                    assert column in full or column in part
                if column in full:
                    sees = mask[b, row * block : (row + 1) * block].any(1)
                    assert bool(pairs[sees].all()) and pairs.shape[1] == block


@pytest.mark.parametrize(
    "width, rule, biased, cuda, stages",
    [
        (128, True, True, True, 2),
        (256, True, True, True, 2),
        (64, True, True, True, None),
        (128, False, True, True, None),
        (128, True, False, True, None),
        (128, True, True, False, None),
    ],
)
def test_a_bias_rule_at_wide_heads_leaves_a_stage_of_its_forward_out(
    width: int, rule: bool, biased: bool, cuda: bool, stages: int | None
) -> None:
    """Only there, since three stages need more shared memory than an H200 has; what a GPU would be told, without it."""
    kinds = (("a", 5), ("b", 4))
    seen = Visibility(kinds, kinds, {("a", "b"): ALL, ("b", "a"): ALL}, bias_on={("a", "b"): ALL} if rule else None)
    x = torch.zeros(1, 9, 2, width)
    told: list[dict[str, Any]] = []

    def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> tuple[torch.Tensor, Any]:
        told.append(options)
        return torch.zeros_like(q), SimpleNamespace(lse=torch.zeros(q.shape[:3]))

    with (
        mock.patch.object(module, "_compiled", return_value=call),
        mock.patch.object(module, "_eager", return_value=call),
        mock.patch.object(torch.Tensor, "is_cuda", cuda),
    ):
        attend_flex(
            x, x, x, torch.zeros(1, 1, 9) if biased else None, layout=seen.layout, frame_q=None, frame_k=None,
            open=None, len_q=None, len_k=None, scale=1.0, block=4,
        )  # fmt: skip
    assert [each["kernel_options"] for each in told] == [None if stages is None else {"fwd_num_stages": stages}]


def test_it_refuses_what_it_cannot_do() -> None:
    x = torch.zeros(1, 4, 2, 16, requires_grad=True)
    with pytest.raises(BackendError, match="FlexAttention has no backward on the CPU"):
        attend(x, x, x, backend="flex")
    with pytest.raises(BackendError, match="FlexAttention has softmax only"):
        attend(x, x, x, backend="flex", normaliser="sigmoid")
