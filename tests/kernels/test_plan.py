"""Tile lists against brute force over every pair, and when a plan is built anew."""

from __future__ import annotations

import warnings

import pytest
import torch

from ros_attn.kernels.layout import PAST, SAME, Layout, dense, memory
from ros_attn.kernels.plan import Plan, PlanCache, Tiles, build, query_tiles
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import Case, random_case, sees

CPU = torch.device("cpu")


def entries(tiles: Tiles, b: int, row: int, full: bool) -> list[int]:
    count, listed = (tiles.full_n, tiles.full_i) if full else (tiles.part_n, tiles.part_i)
    return listed[b, row, : int(count[b, row])].tolist()


def expected_tiles(case: Case, b: int, tile_q: int, tile_k: int) -> dict[tuple[int, int], tuple[bool, bool]]:
    """(query tile, key tile) -> (full, the bias counts), by the words of the definition, from frames and rules."""
    vis, layout = case.visibility, case.visibility.layout
    t = [0] * vis.length_q if vis.frame_q is None else vis.frame_q[b % vis.frame_q.shape[0]].tolist()
    f = [0] * vis.length_k if vis.frame_k is None else vis.frame_k[b % vis.frame_k.shape[0]].tolist()
    kinds_k = [kind for kind, count in layout.runs_k for _ in range(count)]
    found = {}
    for row, (start, end, kind) in enumerate(query_tiles(layout, tile_q)):
        query = layout.query_kinds[kind]
        inside = [i for i in range(start, end) if t[i] >= 0 and (case.len_q is None or i < int(case.len_q[b]))]
        if not inside:
            continue
        # Every frame between the least and the greatest of those present in the sample, as the ranks have it.
        present = sorted({x for x in t if min(t[i] for i in inside) <= x <= max(t[i] for i in inside)})
        for column in range(-(-vis.length_k // tile_k)):
            keys = range(column * tile_k, min((column + 1) * tile_k, vis.length_k))
            seen, on = [], []
            for j in keys:
                rule, bias = layout.rule(query, kinds_k[j]), layout.bias_rule(query, kinds_k[j])
                there = (case.open is None or bool(case.open[b, kinds_k[j]])) and (
                    case.len_k is None or j < int(case.len_k[b])
                )
                seen += [there and sees(rule, x, f[j]) for x in present]
                on += [sees(bias, x, f[j]) for x in present]
            if any(seen):
                uniform = layout.bias_rules is None or all(on) or not any(on)
                found[row, column] = (len(keys) == tile_k and all(seen) and uniform, all(on))
    return found


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("tile_q", "tile_k"), [(4, 4), (8, 2), (16, 8)])
def test_lists_are_brute_force(seed: int, tile_q: int, tile_k: int) -> None:
    case = random_case(seed)
    vis = case.visibility
    plan = build(
        vis.layout, vis.frame_q, vis.frame_k, tile_q, tile_k, CPU, open=case.open, len_q=case.len_q, len_k=case.len_k
    )
    mask = vis.mask(case.open, case.len_q, case.len_k)
    assert torch.equal(plan.visible.long(), mask.sum(-1).expand(plan.visible.shape))
    for b in range(plan.rank_q.shape[0]):
        expected = expected_tiles(case, b, tile_q, tile_k)
        rows = {}
        for row in range(plan.q_tile.shape[0]):
            full = entries(plan.rows, b, row, True)
            biased = [bool(each % 2) for each in full] if vis.layout.bias_rules else [True] * len(full)
            full = [each // 2 for each in full] if vis.layout.bias_rules else full
            part = entries(plan.rows, b, row, False)
            assert full == sorted(full) and part == sorted(part)
            rows |= {(row, column): (True, on) for column, on in zip(full, biased, strict=True)}
            rows |= {(row, column): (False, True) for column in part}
        # A tile may be visited though no pair of it is visible: the lists look at intervals of ranks only.
        assert set(rows) >= set(expected)
        for pair, (full, on) in expected.items():
            assert rows[pair][0] == full
            if full and vis.layout.bias_rules:
                assert rows[pair][1] == on
        for pair in set(rows) - set(expected):
            assert not rows[pair][0]
        assert set(columns(plan, b, vis.layout)) == {(pair, full) for pair, (full, _) in rows.items()}


def columns(plan: Plan, b: int, layout: Layout) -> list[tuple[tuple[int, int], bool]]:
    """What the lists by key tile hold, as (query tile, key tile), full."""
    found = []
    for column in range(plan.columns.full_n.shape[1]):
        full = entries(plan.columns, b, column, True)
        found += [((row // 2 if layout.bias_rules else row, column), True) for row in full]
        found += [((row, column), False) for row in entries(plan.columns, b, column, False)]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_predicate_of_partial_tiles_is_the_mask(seed: int) -> None:
    case = random_case(seed)
    vis = case.visibility
    plan = build(vis.layout, vis.frame_q, vis.frame_k, 8, 4, CPU, open=case.open, len_q=case.len_q, len_k=case.len_k)
    mask = vis.mask(case.open, case.len_q, case.len_k)
    kind = plan.q_tile[:, 2].long().repeat_interleave((plan.q_tile[:, 1] - plan.q_tile[:, 0]).long())
    lo, hi = (x[:, kind, : vis.length_k] for x in (plan.lo, plan.hi))
    rank = plan.rank_q[..., None]
    assert torch.equal((lo <= rank) & (hi > rank), mask.expand(plan.rank_q.shape[0], -1, -1))
    assert int((plan.lo[..., vis.length_k :] <= plan.rank_q.max()).sum()) == 0


def test_heaviest_first() -> None:
    frame = torch.arange(64, dtype=torch.int32)[None]
    kinds = (("a", 64),)
    plan = build(Visibility(kinds, kinds, {("a", "a"): PAST}, frame, frame).layout, frame, frame, 16, 16, CPU)
    assert plan.rows.order.tolist() == [3, 2, 1, 0]
    assert plan.columns.order.tolist() == [0, 1, 2, 3]


def test_sixteen_bits_whatever_the_frames() -> None:
    frame = torch.tensor([[0, 70_000, 2**29 - 1]], dtype=torch.int32)
    kinds = (("a", 3),)
    vis = Visibility(kinds, kinds, {("a", "a"): memory(2, 1)}, frame, frame)
    plan = build(vis.layout, frame, frame, 16, 16, CPU)
    assert plan.lo.dtype == plan.hi.dtype == plan.rank_q.dtype == torch.int16
    assert plan.visible.tolist() == [[1, 2, 2]]
    many = Visibility((("a", 32768),), (("a", 1),), {("a", "a"): PAST})
    assert build(many.layout, None, None, 128, 16, CPU).rank_q.dtype == torch.int32


def memory_wam(frames: int, visual: int = 120, gist: int = 8) -> Visibility:
    """MemoryWAM's tokens, sorted by kind."""
    moments = [torch.arange(frames, dtype=torch.int32).repeat_interleave(n) for n in (visual, gist)]
    frame = torch.cat(moments)[None]
    kinds = (("visual", frames * visual), ("gist", frames * gist))
    rule = {
        ("visual", "visual"): memory(4, 2), ("visual", "gist"): PAST, ("gist", "visual"): memory(4, 2),
        ("gist", "gist"): PAST,
    }  # fmt: skip
    return Visibility(kinds, kinds, rule, frame, frame)


def test_tokens_by_kind_cut_the_tiles_of_memorywam_fivefold() -> None:
    """16 k tokens: 7.5 % of the pairs are visible; 128 x 128 tiles cover 50.4 % in produced order, 10.0 % by kind."""
    vis = memory_wam(128)
    plan = build(vis.layout, vis.frame_q, vis.frame_k, 128, 128, CPU)
    visible, computed = plan.shares(vis.length_k).tolist()
    assert visible == pytest.approx(0.075, abs=5e-4)
    assert computed == pytest.approx(0.100, abs=2e-3)
    # In produced order a frame's 120 + 8 tokens are one tile.
    rules = vis.rule.values()
    tiles = sum(any(sees(rule, t, f) for rule in rules) for t in range(128) for f in range(128))
    assert tiles / 128**2 == pytest.approx(0.504, abs=5e-4)


# -- when a plan is built ---------------------------------------------------------------------------------


def test_a_plan_is_built_once_a_state_of_its_frames() -> None:
    cache = PlanCache()
    frame = torch.zeros(1, 8, dtype=torch.int32)
    kinds = (("a", 8),)
    layout = Visibility(kinds, kinds, {("a", "a"): PAST}, frame, frame).layout
    first = cache.get(layout, frame, frame, 16, 16, CPU)
    assert cache.get(layout, frame, frame, 16, 16, CPU) is first
    assert cache.built == 1
    frame[0, 4:] = 1
    second = cache.get(layout, frame, frame, 16, 16, CPU)
    assert cache.built == 2
    assert first.visible.tolist() == [[8] * 8]
    assert second.visible.tolist() == [[4] * 4 + [8] * 4]
    cache.get(layout, frame, frame, 32, 16, CPU)
    cache.get(layout, frame, frame, 16, 16, CPU, len_k=torch.tensor([3]))
    assert cache.built == 4


def test_half_empty_tiles_warn_with_the_figure() -> None:
    frame = torch.arange(256, dtype=torch.int32)[None] % 16
    kinds = (("a", 256),)
    scattered = Visibility(kinds, kinds, {("a", "a"): SAME}, frame, frame)
    with pytest.warns(UserWarning, match=r"of 256 x 256 pairs 6.2% are visible, but the tiles .* cover 100.0%; lay"):
        PlanCache().get(scattered.layout, frame, frame, 16, 16, CPU)
    together = frame.sort(1).values
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PlanCache().get(scattered.layout, together, together, 16, 16, CPU)


def test_the_cache_forgets_the_oldest() -> None:
    cache = PlanCache(size=2)
    for length in (1, 2, 3):
        kinds = (("a", length),)
        cache.get(Visibility(kinds, kinds, {}).layout, None, None, 16, 16, CPU)
    cache.get(Visibility((("a", 3),), (("a", 3),), {}).layout, None, None, 16, 16, CPU)
    assert cache.built == 3
    cache.get(Visibility((("a", 1),), (("a", 1),), {}).layout, None, None, 16, 16, CPU)
    assert cache.built == 4


def test_while_a_graph_is_captured_plans_are_neither_taken_nor_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, layout, device = PlanCache(), dense(100, 130), torch.device("cpu")
    outside = cache.get(layout, None, None, 16, 32, device)
    monkeypatch.setattr("ros_attn.kernels.plan._capturing", lambda device: True)
    monkeypatch.setattr(cache, "_warn", lambda: pytest.fail("an event was asked"))
    inside = cache.get(layout, None, None, 16, 32, device)
    assert inside is not outside and torch.equal(inside.lo, outside.lo) and cache.built == 1
    monkeypatch.undo()
    assert cache.get(layout, None, None, 16, 32, device) is outside
