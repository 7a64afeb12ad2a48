"""Planted bugs in every kernel file: its own tests, run on the changed copy, must fail.

Those of Triton run under its interpreter; test_mutants has the bugs of attend in PyTorch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Bug:
    """One place of a module changed, and the tests that must notice.

    ``chosen``: which of them, for pytest's -k; of a Triton kernel the case that its interpreter measures.
    """

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

ATTEND, DECODE, CHANNEL, NEAR = (f"test_{each}_triton.py" for each in ("attend", "decode", "channel", "neighbourhood"))
SMALL, SMALL_SIGMOID = (f"{each}_17x33_heads_1_of_1_d_256_200" for each in ("softmax", "sigmoid"))
GROUPED, WHOLE = "sigmoid_63x1_heads_4_of_2_d_72_40", "softmax_whole_tiles_with_and_without_bias"
UNSEEN, AMID = "softmax_nan_where_nothing_is_seen", "sigmoid_nan_around_the_inputs"
BLIND, LARGE = "sigmoid_nothing_to_see", "scores_of_hundreds"
MANY, KINDS = "sigmoid_kinds_bias_rule_open_lengths", "softmax_kinds_bias_rule_open_lengths"
INTERPRETED = [
    Bug("the scale dropped", "forward_triton", "elif not plain:\n            x = s * scale", "elif not plain:\n            x = s", ATTEND, SMALL),
    Bug("the scale dropped in full tiles", "forward_triton", "tl.exp2(s * scale - level", "tl.exp2(s - level", ATTEND, "rules_without_a_bias"),
    Bug("the maximum of scores without their scale", "forward_triton", "tl.max(s, 1) * scale)", "tl.max(s, 1))", ATTEND, LARGE),
    Bug("the maximum of the last full tile", "forward_triton", "tl.maximum(top, tl.max(s, 1) * scale)", "tl.max(s, 1) * scale", ATTEND, LARGE),
    Bug("a maximum of 0 where nothing was seen yet", "forward_triton", "            top = higher", "            top = level", ATTEND, LARGE),
    Bug("no maximum for rows that saw nothing yet", "forward_triton", "level = tl.where(higher == float(\"-inf\"), 0.0, higher)", "level = higher", ATTEND, "rules_without_a_bias"),
    Bug("the sum of values not rescaled", "forward_triton", "acc = acc * fade[:, None]", "acc = acc * 1.0", ATTEND, "softmax_1x257_heads_1_of_1_d_8_8"),
    Bug("the sum of weights not rescaled", "forward_triton", "total * fade + tl.sum(p, 1)", "total + tl.sum(p, 1)", ATTEND, "softmax_1x257_heads_1_of_1_d_8_8"),
    Bug("not divided by the sum", "forward_triton", "acc = acc / total[:, None]", "acc = acc * 1.0", ATTEND, SMALL),
    Bug("the sigmoid without -log n", "forward_triton", "x = s * scale - shift[:, None]", "x = s * scale", ATTEND, SMALL_SIGMOID),
    Bug("the LSE in base 2", "forward_triton", "(top + tl.log2(total)) * LN_2", "(top + tl.log2(total))", ATTEND, SMALL),
    Bug("lo < rank", "forward_triton", "x = tl.where((lo[None, :] <= rank", "x = tl.where((lo[None, :] < rank", ATTEND, SMALL),
    Bug("hi >= rank", "forward_triton", "(hi[None, :] > rank[:, None]), x,", "(hi[None, :] >= rank[:, None]), x,", ATTEND, "rules_without_a_bias"),
    Bug("the bias's lo < rank", "forward_triton", "x += tl.where((lo[None, :] <= rank", "x += tl.where((lo[None, :] < rank", ATTEND, "random_case_4"),
    Bug("the bias bit ignored", "forward_triton", "tl.where((entry & 1) != 0, bias, 0.0)[None, :]", "bias[None, :]", ATTEND, WHOLE),
    Bug("the bias of the first head", "forward_triton", "(b * bias_heads + h % bias_heads)", "(b * bias_heads)", ATTEND, GROUPED),
    Bug("the bias of the first sample", "forward_triton", "(b * bias_heads + h % bias_heads)", "(h % bias_heads)", ATTEND, UNSEEN),
    Bug("partial tiles skipped", "forward_triton", "tl.load(part_n_ptr + row)", "0", ATTEND, SMALL),
    Bug("full tiles skipped", "forward_triton", "tl.load(full_n_ptr + row)", "0", ATTEND, SMALL),
    Bug("the first tile again and again", "forward_triton", "        entry = next_entry\n", "", ATTEND, "sigmoid_1x257_heads_1_of_1_d_8_8"),
    Bug("keys beyond Lk read", "forward_triton", "keep = some_query(lo_ptr, hi_ptr, entry * TILE_K, TILE_K)", "keep = None", ATTEND, AMID),
    Bug("which keys to read by the tile before", "forward_triton", "hi_ptr, next_entry * TILE_K", "hi_ptr, entry * TILE_K", ATTEND, UNSEEN),
    Bug("keys of head h % heads", "forward_triton", "k_b + (h // GROUP)", "k_b + (h % (heads // GROUP))", ATTEND, GROUPED),
    Bug("rows of rank -1 not zeroed", "forward_triton", "alive = rank >= 0", "alive = inside", ATTEND, "softmax_nothing_to_see"),
    Bug("0 / 0 where nothing is seen", "forward_triton", "alive & (total > 0)", "alive & (total >= 0)", ATTEND, "random_case_11"),
    Bug("tiles in their order, not the heaviest first", "forward_triton", "tl.load(order_ptr + tl.program_id(0) // pairs)", "tl.program_id(0) // pairs", ATTEND, "heaviest_tiles_first"),
    Bug("the order applied twice", "forward_triton", "tl.load(order_ptr + tl.program_id(0) // pairs)", "tl.load(order_ptr + tl.load(order_ptr + tl.program_id(0) // pairs))", ATTEND, "heaviest_tiles_first"),
    Bug("the plan of the first sample", "forward_triton", "sample = b * batched", "sample = b * 0", ATTEND, UNSEEN),
    Bug("ranks of the first sample", "forward_triton", "rank_ptr + sample * length_q + start", "rank_ptr + start", ATTEND, BLIND),
    Bug("n of the first sample", "forward_triton", "visible_ptr + sample * length_q + start", "visible_ptr + start", ATTEND, "sigmoid_nan_where_nothing_is_seen"),
    Bug("intervals of the first kind", "forward_triton", "of_kind = (sample * kinds + kind)", "of_kind = (sample * kinds)", ATTEND, "random_case_4"),
    Bug("a negative scale", "attend_triton", "if not sigmoid and scale < 0:", "if False:", ATTEND, LARGE),
    Bug("the bias in units of e", "attend_triton", "key_bias.float() * LOG2_E", "key_bias.float()", ATTEND, SMALL),
    Bug("d bias of the first head for all", "attend_triton", "d_bias.sum_to_size(key_bias.shape)", "d_bias[:, : key_bias.shape[1]]", ATTEND, UNSEEN),
    Bug("d bias in fp32", "attend_triton", "sum_to_size(key_bias.shape).to(key_bias.dtype)", "sum_to_size(key_bias.shape)", ATTEND, "sigmoid_fp16"),
    Bug("any strides read by eights", "attend_triton", "x.stride(3) == 1 and by_eights", "x.stride(3) == 1", ATTEND, "permuted_inputs"),
    Bug("any last stride", "attend_triton", "x.stride(3) == 1 and by_eights", "by_eights", ATTEND, "last_dimension_not_contiguous"),
    Bug("nothing written where there are no keys", "attend_triton", "return out.zero_(), lse.fill_(-math.inf)", "return out, lse", ATTEND, "empty_calls"),
    Bug("dLSE transposed", "attend_triton", "d_lse.stride(1), d_lse.stride(2)", "d_lse.stride(2), d_lse.stride(1)", ATTEND, "softmax_63x1_heads_4_of_2_d_72_40"),
    Bug("dLSE not handed on", "attend_triton", "lse.contiguous(), d_out, d_lse)", "lse.contiguous(), d_out, None)", ATTEND, SMALL),
    Bug("dK by the tiles of dQ", "attend_triton", "*_lists(columns.columns)", "*_lists(rows.columns)", ATTEND, WHOLE),
    Bug("the sigmoid of |x|", "scores_triton", "tl.exp2(tl.abs(x) * -1.0)", "tl.exp2(x * -1.0)", ATTEND, "sigmoid_polynomial"),
    Bug("a digit of the polynomial", "scores_triton", "0.88001088", "0.88010088", ATTEND, "sigmoid_polynomial"),
    Bug("keys that nobody sees read", "scores_triton", "tl.load(lo_ptr + columns) < tl", "tl.load(lo_ptr + columns) <= tl", ATTEND, UNSEEN),
    Bug("elements beyond a head's read", "scores_triton", "if WIDTH == WIDTH_PADDED:", "if WIDTH > 0:", ATTEND, AMID),
    Bug("the sigmoid's derivative p instead of p (1 - p)", "backward_triton", "ds = e * r * r * dp", "ds = p * dp", ATTEND, SMALL_SIGMOID),
    Bug("delta dropped", "backward_triton", "ds = p * (dp - delta)", "ds = p * dp", ATTEND, SMALL),
    Bug("dLSE dropped from delta", "backward_triton", "delta -= tl.load(d_lse_ptr + d_lse_at, inside, 0.0)", "delta -= 0.0", ATTEND, SMALL),
    Bug("dLSE's sign", "backward_triton", "delta -= tl.load(d_lse_ptr", "delta += tl.load(d_lse_ptr", ATTEND, SMALL),
    Bug("dLSE of the first head", "backward_triton", "* l_n + h * l_h\n        offset, delta", "* l_n\n        offset, delta", ATTEND, "softmax_63x1_heads_4_of_2_d_72_40"),
    Bug("an LSE of -inf", "backward_triton", "tl.where(lse == float(\"-inf\"), float(\"inf\"), lse * LOG2_E)", "lse * LOG2_E", ATTEND, "softmax_nothing_to_see"),
    Bug("the LSE in base e", "backward_triton", "lse * LOG2_E)", "lse)", ATTEND, SMALL),
    Bug("an n of 0", "backward_triton", "tl.maximum(n, 1).to(tl.float32)), float(\"inf\"))", "tl.maximum(n, 1).to(tl.float32)), 0.0)", ATTEND, BLIND),
    Bug("the sigmoid without -log n", "backward_triton", "tl.where(n > 0, tl.log2(tl.maximum(n, 1).to(tl.float32)),", "tl.where(n > 0, 0.0,", ATTEND, SMALL_SIGMOID),
    Bug("dQ not scaled", "backward_triton", "(dq * out_scale)", "dq", ATTEND, SMALL),
    Bug("dQ: lo < rank", "backward_triton", "x = tl.where((lo[None, :] <= rank", "x = tl.where((lo[None, :] < rank", ATTEND, SMALL),
    Bug("dQ: the bias's lo < rank", "backward_triton", "x += tl.where((lo[None, :] <= rank", "x += tl.where((lo[None, :] < rank", ATTEND, "random_case_4"),
    Bug("dQ: keys of head h % heads", "backward_triton", "k_b + (h // GROUP)", "k_b + (h % (heads // GROUP))", ATTEND, GROUPED),
    Bug("dQ: partial tiles skipped", "backward_triton", "tl.load(part_n_ptr + row), scale", "0, scale", ATTEND, SMALL),
    Bug("dQ: tiles in their order", "backward_triton", "tl.load(order_ptr + tl.program_id(0) // pairs)\n    pair = tl.program_id(0) % pairs\n    b, h", "tl.program_id(0) // pairs\n    pair = tl.program_id(0) % pairs\n    b, h", ATTEND, "heaviest_tiles_first"),
    Bug("dK not scaled", "backward_triton", "(dk * out_scale)", "dk", ATTEND, SMALL),
    Bug("dK scaled in base 2", "backward_triton", "(dk * out_scale)", "(dk * scale)", ATTEND, SMALL),
    Bug("dV by ds", "backward_triton", "tl.dot(p.to(d_out.dtype), d_out", "tl.dot(ds.to(d_out.dtype), d_out", ATTEND, SMALL),
    Bug("dK: lo < rank", "backward_triton", "x = tl.where((lo[:, None] <= rank", "x = tl.where((lo[:, None] < rank", ATTEND, SMALL),
    Bug("dK: hi >= rank", "backward_triton", "(hi[:, None] > rank[None, :]), x,", "(hi[:, None] >= rank[None, :]), x,", ATTEND, "rules_without_a_bias"),
    Bug("dK: the bias bit ignored", "backward_triton", "tl.where((entry & 1) != 0, bias, 0.0)[:, None]", "bias[:, None]", ATTEND, WHOLE),
    Bug("dK: the bias of a rule everywhere", "backward_triton", "x += tl.where(on, bias[:, None], 0.0)", "x += bias[:, None]", ATTEND, "random_case_4"),
    Bug("dK: full tiles skipped", "backward_triton", "full_n, part_n = tl.load(full_n_ptr + row),", "full_n, part_n = 0,", ATTEND, SMALL),
    Bug("dK: partial tiles skipped", "backward_triton", "tl.load(full_n_ptr + row), tl.load(part_n_ptr + row)", "tl.load(full_n_ptr + row), 0", ATTEND, SMALL),
    Bug("dK: one query head of a group", "backward_triton", "key_head * GROUP + GROUP)", "key_head * GROUP + 1)", ATTEND, GROUPED),
    Bug("dK: query heads dealt out", "backward_triton", "in range(key_head * GROUP, key_head * GROUP + GROUP)", "in range(key_head, heads, key_heads)", ATTEND, GROUPED),
    Bug("dK: the queries of the tile before", "backward_triton", "entry, tile, start = next_entry, next_tile, next_start", "entry, tile = next_entry, next_tile", ATTEND, "last_dimension_not_contiguous"),
    Bug("dK: the terms of the tile before", "backward_triton", "entry, tile, start = next_entry, next_tile, next_start", "entry, start = next_entry, next_start", ATTEND, "last_dimension_not_contiguous"),
    Bug("dK: the last tile beyond the last query", "backward_triton", "tl.maximum(tl.minimum(start, length_q - TILE_Q), 0)", "start", ATTEND, AMID),
    Bug("dK: queries of a moved tile twice", "backward_triton", "(rows >= start) & (rows <", "(rows >= 0) & (rows <", ATTEND, "last_dimension_not_contiguous"),
    Bug("dK: queries of the next kind", "backward_triton", "(rows < tl.load(q_tile_ptr + 3 * tile + 1))", "(rows < length_q)", ATTEND, "random_case_4"),
    Bug("dK: intervals of the first kind", "backward_triton", "of_kind = tl.load(q_tile_ptr + 3 * tile + 2) * width", "of_kind = 0", ATTEND, "random_case_4"),
    Bug("dK: keys of the first kind's queries alone", "backward_triton", "some_query(lo_ptr + kind * width, hi_ptr + kind * width, 0", "some_query(lo_ptr, hi_ptr, 0", ATTEND, "rules_without_a_bias"),
    Bug("dK: keys that nobody sees read", "backward_triton", "keep = inside & (columns < 0)", "keep = inside", ATTEND, UNSEEN),
    Bug("dK: ranks of the first sample", "backward_triton", "ranks_ptr += sample * tiles_q * TILE_Q", "ranks_ptr += 0", ATTEND, BLIND),
    Bug("dK: elements beyond a head's read", "backward_triton", "if DV == DV_PADDED:", "if DV > 0:", ATTEND, AMID),
    Bug("dK: tiles in their order", "backward_triton", "tl.load(order_ptr + tl.program_id(0) // pairs)\n    pair = tl.program_id(0) % pairs\n    key_heads", "tl.program_id(0) // pairs\n    pair = tl.program_id(0) % pairs\n    key_heads", ATTEND, "heaviest_tiles_first"),
    Bug("d bias over the keys", "backward_triton", "            else:\n                d_bias += tl.sum(ds, 1)", "            else:\n                d_bias += tl.sum(ds, 0)", ATTEND, SMALL),
    Bug("d bias of the last tile", "backward_triton", "            else:\n                d_bias += tl.sum(ds, 1)", "            else:\n                d_bias = tl.sum(ds, 1)", ATTEND, "sigmoid_63x100_heads_1_of_1_d_128_128"),
    Bug("d bias where it does not count", "backward_triton", "tl.sum(tl.where(on, ds, 0.0), 1)", "tl.sum(ds, 1)", ATTEND, "random_case_4"),
    Bug("d bias of full tiles where it does not count", "backward_triton", "tl.where((entry & 1) != 0, tl.sum(ds, 1), 0.0)", "tl.sum(ds, 1)", ATTEND, WHOLE),
    Bug("the sign of ahead", "decode_triton", "tl.maximum(frame - ahead, 0)", "tl.maximum(frame + ahead, 0)", DECODE, "sigmoid_1_query_1_key"),
    Bug("one first frame too many", "decode_triton", "frame < first", "frame <= first", DECODE, "random_case_8"),
    Bug("one recent frame too few", "decode_triton", "frame + recent)", "frame + recent - 1)", DECODE, "random_case_4"),
    Bug("keys between the queries' frames read that none sees", "decode_triton", "(frame < 0) | (lo >= hi)", "frame < 0", DECODE, "softmax_nan_in_empty_slots"),
    Bug("lo < frame", "decode_triton", "(lo[None, :] <= t[:, None])", "(lo[None, :] < t[:, None])", DECODE, "random_case_8"),
    Bug("hi >= frame", "decode_triton", "(hi[None, :] > t[:, None])", "(hi[None, :] >= t[:, None])", DECODE, "random_case_0"),
    Bug("every kind's rule", "decode_triton", "see &= (kind == a)[:, None]", "see &= (kind >= 0)[:, None]", DECODE, "random_case_8"),
    Bug("len_q ignored", "decode_triton", "here &= i < tl.load(len_q + b)", "here &= i >= 0", DECODE, "random_case_3"),
    Bug("len_k ignored", "decode_triton", "end = tl.minimum(tl.load(len_k + b).to(tl.int32), length_k)", "end = length_k", DECODE, "random_case_3"),
    Bug("closed kinds counted", "decode_triton", "end = tl.where(tl.load(open + tl.load(entry + 2)) != 0, end, 0)", "end = end * 1", DECODE, "random_case_7"),
    Bug("closed kinds seen", "decode_triton", "tl.where(tl.load(open + tl.load(entry + 2, real, 0)) != 0, end, 0)", "end * 1", DECODE, KINDS),
    Bug("open kinds of the first sample", "decode_triton", "open = open_ptr + b * kinds\n    end", "open = open_ptr\n    end", DECODE, KINDS),
    Bug("32 blocks looked at", "decode_triton", "tl.cdiv(blocks - split, splits), _LOOK)", "tl.minimum(tl.cdiv(blocks - split, splits), _LOOK), _LOOK)", DECODE, "more_blocks_than_a_program_looks_at_in_one_go"),
    Bug("a list that begins again", "decode_triton", "        count += tl.sum(listed.to(tl.int32), 0)", "        count = tl.sum(listed.to(tl.int32), 0)", DECODE, "more_blocks_than_a_program_looks_at_in_one_go"),
    Bug("blocks by the last kind's queries", "decode_triton", "some |= (lo <= most[a])", "some = (lo <= most[a])", DECODE, "random_case_8"),
    Bug("every block from the first frame on", "decode_triton", "(lo <= most[a]) & (hi > least[a])", "lo <= most[a]", DECODE, "reads_only_what_is_seen"),
    Bug("one word of bits for both", "decode_triton", "tl.where(n < 32, low, high)", "low", DECODE, "softmax_fp16_32_queries_grouped"),
    Bug("query heads dealt out", "decode_triton", "head_k * group + r % group", "head_k + heads_k * (r % group)", DECODE, "softmax_fp16_32_queries_grouped"),
    Bug("queries of different frames taken for alike", "decode_triton", "alike = (GQ == 1) & (least[0] == most[0])", "alike = GQ == 1", DECODE, "softmax_nan_in_empty_slots"),
    Bug("queries that see nothing taken for alike", "decode_triton", "some[None, :] & (t >= 0)[:, None], s", "some[None, :], s", DECODE, "some_queries_see_nothing"),
    Bug("the scale dropped", "decode_triton", "input_precision=\"ieee\") * scale", "input_precision=\"ieee\")", DECODE, "sigmoid_1_query_1_key"),
    Bug("the bias in units of e", "decode_triton", "bias = bias.to(tl.float32) * _LOG2E", "bias = bias.to(tl.float32)", DECODE, "random_case_4"),
    Bug("the rule for the bias rule", "decode_triton", "block * WIDTH + 3 + 3 * GQ, kind", "block * WIDTH + 3, kind", DECODE, "random_case_8"),
    Bug("the bias of the first sample", "decode_triton", "bias_ptr += b * bias_b", "bias_ptr += 0", DECODE, "random_case_0"),
    Bug("the sum of values not rescaled", "decode_triton", "out *= less[:, None]", "out *= 1.0", DECODE, "softmax_fp16_32_queries_grouped"),
    Bug("no maximum for rows that saw nothing yet", "decode_triton", "base = tl.where(higher == -float(\"inf\"), 0.0, higher)", "base = higher", DECODE, "random_case_8"),
    Bug("the sigmoid without -log n", "decode_triton", "x = s - shift[:, None]", "x = s", DECODE, "sigmoid_3_queries_100_keys_grouped"),
    Bug("n of the last sample", "decode_triton", "count_ptr + (b * _COUNTS + split) * length_q + i, counts", "count_ptr + split * length_q + i, counts", DECODE, MANY),
    Bug("the LSE in base 2", "decode_triton", "lse / _LOG2E, valid", "lse, valid", DECODE, "softmax_1_query_1_key"),
    Bug("splits added without their weights", "decode_triton", "part *= weight[:, None]", "part *= 1.0", DECODE, "wide_heads"),
    Bug("splits not divided by their weights", "decode_triton", "out = out / tl.where(total > 0, total, 1.0)\n", "out = out * 1.0\n", DECODE, "wide_heads"),
    Bug("-inf minus -inf where all splits are empty", "decode_triton", "base = tl.where(top == -float(\"inf\"), 0.0, top)", "base = top", DECODE, "some_queries_see_nothing"),
    Bug("an empty split read that was not written", "decode_triton", "            inside &= (weight > 0)[:, None]\n", "", DECODE, "reads_only_what_is_seen"),
    Bug("64 splits combined", "decode_triton", "range(0, splits, SPLITS):\n        share", "range(0, SPLITS, SPLITS):\n        share", DECODE, LARGE),
    Bug("the maximum of the last splits", "decode_triton", "top = tl.maximum(top, tl.max(lse, 0))", "top = tl.max(lse, 0)", DECODE, LARGE),
    Bug("a block of two kinds", "decode_triton", "min(start + tile_k, at + count)", "start + tile_k", DECODE, "random_case_8"),
    Bug("rules read backwards", "decode_triton", "layout.rule(query, kind)]", "layout.rule(kind, query)]", DECODE, "random_case_8"),
    Bug("the frames of the first call", "decode_triton", "    open = None if open is None else open", "    frame_k = decode.__dict__.setdefault(layout, frame_k.clone())\n    open = None if open is None else open", DECODE, "ring_overwritten_between_two_calls"),
    Bug("frames of the first sample", "decode_triton", "x.shape[0] == 1 else x.stride(0)", "x.shape[0] == 1 else 0", DECODE, "random_case_0"),
    Bug("any strides read by eights", "decode_triton", "x.stride(3) == 1 and not any(stride % 8 for stride in x.stride()[:3])", "x.stride(3) == 1", DECODE, "permuted_inputs"),
    Bug("heads counted in 32 bits", "decode_triton", "head_k.to(tl.int64) * 8 * k_h", "head_k * 8 * k_h", DECODE, "fp16_heads_8_gigabytes_apart"),
    Bug("x and y swapped", "channel_triton", "tl.dot(x, tl.trans(y), dots", "tl.dot(y, tl.trans(x), dots", CHANNEL, "33 channels, float32"),
    Bug("norms of one by the other", "channel_triton", "tl.sum(x32 * x32, 1)", "tl.sum(x32 * y32, 1)", CHANNEL, "33 channels, float32"),
    Bug("a pixel too many", "channel_triton", "& (columns[None, :] < n)\n        x =", "& (columns[None, :] <= n)\n        x =", CHANNEL, "33 channels, float32"),
    Bug("weights transposed", "channel_triton", "i[:, None] * w_i + j[None, :] * w_j", "i[:, None] * w_j + j[None, :] * w_i", CHANNEL, "33 channels, float32"),
    Bug("the norms' gradient dropped", "channel_triton", "out += gain[:, None] * y", "out += 0 * y", CHANNEL, "33 channels, float32"),
    Bug("gain of the first head", "channel_triton", "gain_ptr + row * width + i", "gain_ptr + i", CHANNEL, "33 channels, float32"),
    Bug("parts that overlap", "channel_triton", "tl.minimum(first + per_program, n)", "n", CHANNEL, "in parts, float32"),
    Bug("the first part alone", "channel_triton", "return dots.sum(0)", "return dots[0]", CHANNEL, "in parts, float32"),
    Bug("the sum of the last columns", "channel_triton", "tl.trans(y), dots, input", "tl.trans(y), input", CHANNEL, "in parts, float32"),
    Bug("rows of the first program", "channel_triton", "i = (tl.program_id(2) * ROWS + tl", "i = (tl", CHANNEL, "100 channels, float32"),
    Bug("the last rows not written", "channel_triton", "triton.cdiv(width, rows))", "width // rows)", CHANNEL, "100 channels, float32"),
    Bug("strides of x for y", "channel_triton", "per_program, *x.stride(), *y.stride(), squares", "per_program, *x.stride(), *x.stride(), squares", CHANNEL, "strided, float32"),
    Bug("windows a cell further", "neighbourhood_triton", "centre - window // 2, 0)", "centre - (window - 1) // 2, 0)", NEAR, "wide heads, float32"),
    Bug("windows beyond the border", "neighbourhood_triton", "tl.minimum(tl.maximum(centre - window // 2, 0), sources - window)", "tl.maximum(centre - window // 2, 0)", NEAR, "wide heads, float32"),
    Bug("pixel corners instead of centres", "neighbourhood_triton", "(2 * target + 1) * sources // (2 * targets)", "target * sources // targets", NEAR, "wide heads, float32"),
    Bug("a window a row higher", "neighbourhood_triton", "(after_y < w_rows)", "(after_y <= w_rows)", NEAR, "one cell, float32"),
    Bug("rows of the window for columns", "neighbourhood_triton", "s_rows, w_rows), _start(x, t_columns, s_columns, w_columns)", "s_rows, w_columns), _start(x, t_columns, s_columns, w_rows)", NEAR, "wide heads, float32"),
    Bug("cells beyond the window seen", "neighbourhood_triton", "tl.where(visible, scores, HIDDEN)", "scores * 1.0", NEAR, "wide heads, float32"),
    Bug("cells beyond the rectangle read", "neighbourhood_triton", "v = _load(v_ptr, cell, n < count", "v = _load(v_ptr, cell, n <= count", NEAR, "one cell, float32"),
    Bug("places by the wrong width", "neighbourhood_triton", "return y * s_columns + x, visible", "return y * w_columns + x, visible", NEAR, "wide heads, float32"),
    Bug("the sum of values not rescaled", "neighbourhood_triton", "v, out * shrink[:, None]", "v, out", NEAR, "ratio 1, float32"),
    Bug("no maximum", "neighbourhood_triton", "tl.maximum(highest, tl.max(scores, 1))", "tl.maximum(highest * 0.0, 0.0)", NEAR, "scores of hundreds, float32"),
    Bug("not divided by the sum", "neighbourhood_triton", "(out / total[:, None])", "out", NEAR, "wide heads, float32"),
    Bug("the scale dropped", "neighbourhood_triton", "(scale * LOG2_E)", "LOG2_E", NEAR, "one cell, float32"),
    Bug("dQ not scaled", "neighbourhood_triton", "(dq * scale)", "dq", NEAR, "wide heads, float32"),
    Bug("dQ without the mean", "neighbourhood_triton", "(by_weights - tl.expand_dims(mean, 1))", "by_weights", NEAR, "one cell, float32"),
    Bug("dK without the mean", "neighbourhood_triton", "(by_weights - mean[None, :])", "by_weights", NEAR, "one cell, float32"),
    Bug("dV by ds", "neighbourhood_triton", "tl.dot(weights.to(grad.dtype), grad", "tl.dot(by_scores.to(grad.dtype), grad", NEAR, "one cell, float32"),
    Bug("dK: a target too late", "neighbourhood_triton", "low - window + 1 + window // 2", "low - window + 2 + window // 2", NEAR, "ratio 1, float32"),
    Bug("dK: a target too early", "neighbourhood_triton", "high + 1 + window // 2", "high + window // 2", NEAR, "ratio 1, float32"),
    Bug("dK: the border's targets dropped", "neighbourhood_triton", "high >= sources - window", "high > sources - window", NEAR, "ratio 2, as images, float32"),
    Bug("dK: targets past the end", "neighbourhood_triton", "exist = m < count", "exist = m <= count", NEAR, "wide heads, float32"),
    Bug("dK: the first part alone", "neighbourhood_triton", "dk.sum(0)", "dk[0]", NEAR, "ratio 3.3, few sources, float32"),
    Bug("images read as grids", "neighbourhood_triton", "grad = grad.contiguous()", "grad = grad * 1", NEAR, "ratio 2, as images, float32"),
]  # fmt: skip


def planted(bug: Bug, to: Path) -> Path:
    """A copy of the bug's module with that place changed."""
    source = (ROOT / "kernels" / f"{bug.module}.py").read_text()
    assert source.count(bug.old) >= 1, f"kernels/{bug.module}.py has no {bug.old!r} any more; adapt the table"
    file = to / f"{bug.module}.py"
    file.write_text(source.replace(bug.old, bug.new, 1))
    return file


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
    result = pytest_on(bug, planted(bug, tmp_path))
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


Interpreter = Callable[[Bug, Path], list[str]]


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    """What the case chosen by a bug shows of a changed copy: ``planted.interpreted`` at work."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.kernels.planted.interpreted"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    ) as program:
        assert program.stdin is not None and program.stdout is not None
        to, back = program.stdin, program.stdout

        def ask(bug: Bug, file: Path) -> list[str]:
            print(json.dumps([f"ros_attn.kernels.{bug.module}", str(file), bug.tests, bug.chosen]), file=to, flush=True)
            return json.loads(back.readline())

        yield ask
        to.close()


@pytest.mark.slow
@pytest.mark.parametrize("bug", INTERPRETED, ids=str)
def test_a_bug_planted_in_a_triton_kernel_is_noticed(bug: Bug, interpreter: Interpreter, tmp_path: Path) -> None:
    found, *why = interpreter(bug, planted(bug, tmp_path))
    assert found == "noticed", " ".join((found, *why))


@pytest.mark.slow
def test_an_unchanged_triton_kernel_passes(interpreter: Interpreter, tmp_path: Path) -> None:
    """And it is the copy that runs."""
    first = "from __future__ import annotations\n"
    for bug in {each.module: each for each in reversed(INTERPRETED)}.values():
        same = replace(bug, old=first, new=first)
        assert interpreter(same, planted(same, tmp_path)) == ["not noticed"]
        broken = replace(bug, old=first, new=first + "raise RuntimeError('the copy runs')\n")
        found, why = interpreter(broken, planted(broken, tmp_path))
        assert found == "failed" and "the copy runs" in why
