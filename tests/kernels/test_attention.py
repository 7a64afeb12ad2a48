"""attend on the CPU: the reference and the grouped path against an answer worked out query by query."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ros_attn.kernels import grouped, groups
from ros_attn.kernels.attention import attend
from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.layout import ALL, PAST, SAME, memory
from ros_attn.kernels.operators import attend_op
from ros_attn.kernels.rope import Rope
from ros_attn.kernels.visibility import Visibility
from tests.kernels.oracle import Case, answer, distance, oracle, random_case

LENGTHS = (1, 63, 100, 257, 1000)


def tensors(*shape: int, count: int = 3, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, dtype=dtype, generator=generator) for _ in range(count)]


@pytest.fixture
def unmerged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups as small as they come: cases of a few tokens would otherwise be one masked call."""
    monkeypatch.setattr(groups, "CALL", 0.0)
    monkeypatch.setattr(grouped, "cached", groups.GroupCache())


@pytest.mark.parametrize("backend", ["reference", "grouped"])
@pytest.mark.parametrize("seed", range(60))
def test_random_structure(seed: int, backend: str) -> None:
    case = random_case(seed)
    assert distance(answer(case, attend, backend=backend), oracle(case)) < 1e-12


@pytest.mark.usefixtures("unmerged")
@pytest.mark.parametrize("seed", range(60))
def test_random_structure_in_many_groups(seed: int) -> None:
    case = random_case(seed)
    assert distance(answer(case, attend, backend="grouped"), oracle(case)) < 1e-12


@pytest.mark.usefixtures("unmerged")
def test_more_frames_than_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "MOST_FRAMES", 3)
    monkeypatch.setattr(groups, "LEAST_QUERIES", 2)
    monkeypatch.setattr(groups, "MOST_RUNS", 1)
    for seed in range(30):
        case = random_case(seed)
        assert distance(answer(case, attend, backend="grouped"), oracle(case)) < 1e-12


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("normaliser", ["softmax", "softmax1", "sigmoid"])
def test_lengths(length: int, normaliser: str) -> None:
    """Both paths, forward and backward, on causal frames with a learned bias, in fp64."""
    q, k, v = tensors(2, length, 2, 16)
    frame = (torch.arange(length, dtype=torch.int32) // 7)[None]
    kinds = (("a", length),)
    visibility = Visibility(kinds, kinds, {("a", "a"): PAST}, frame, frame)
    case = Case(q, k, v, visibility, tensors(2, 2, length, count=1)[0], normaliser, 0.25)
    one, other = (answer(case, attend, backend=backend) for backend in ("reference", "grouped"))
    assert distance(one, other) < 1e-11


@pytest.mark.parametrize("length", [1, 257])
def test_dense_is_pytorchs_own(length: int) -> None:
    q, k, v = tensors(2, length, 4, 32)
    expected = scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
    for backend in ("sdpa", "grouped", "reference"):
        torch.testing.assert_close(attend(q, k, v, backend=backend), expected, rtol=0, atol=1e-13)
    masked = Visibility((("a", length),), (("a", length),), {("a", "a"): ALL})
    torch.testing.assert_close(attend(q, k, v, visibility=masked), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
@pytest.mark.parametrize("biased", [False, True])
def test_half_precision_errs_no_more_than_pytorch(dtype: torch.dtype, normaliser: str, biased: bool) -> None:
    """Forward within 2 times, gradients within 3 times the error of plain PyTorch in that type, against fp64."""
    length, width = 257, 64
    q, k, v = tensors(1, length, 4, width)
    bias = 4 * tensors(1, 1, length, count=1)[0] if biased else None
    kinds = (("a", 200), ("b", 57))
    visibility = Visibility(kinds, kinds, {("a", "a"): ALL, ("b", "a"): ALL, ("b", "b"): ALL})
    q, k, v = (x.to(dtype).double() for x in (q, k, v))
    case = Case(q, k, v, visibility, bias, normaliser, width**-0.5)

    def plain(q: Tensor, k: Tensor, v: Tensor, *, key_bias: Tensor | None, return_lse: bool, **_: object) -> object:
        """PyTorch as one writes it: products in the type, the normaliser in fp32."""
        mask = visibility.mask()[0]
        s = (torch.einsum("bihd,bjhd->bhij", q, k) * case.scale).float()
        s = s + (0 if key_bias is None else key_bias.float()[:, :, None, :])
        s = s.masked_fill(~mask, -torch.inf)
        n = mask.sum(-1, keepdim=True)
        p = torch.softmax(s, -1) if normaliser == "softmax" else torch.sigmoid(s - torch.log(n))
        out = torch.einsum("bhij,bjhd->bihd", p.to(dtype), v)
        return (out, torch.logsumexp(s, -1).transpose(1, 2)) if return_lse else out

    exact = answer(case, attend, backend="reference")
    theirs, ours = answer(case, plain, dtype), answer(case, attend, dtype, backend="grouped")
    names = ["out", *(["lse"] if normaliser == "softmax" else []), "dq", "dk", "dv", *(["d_bias"] if biased else [])]
    for name, a, b, c in zip(names, exact, theirs, ours, strict=True):
        allowed = (2 if name in ("out", "lse") else 3) * (a - b.double()).abs().max() + 1e-6
        assert (a - c.double()).abs().max() <= allowed, name


def test_single_precision_error() -> None:
    case = random_case(3, "softmax")
    assert distance(answer(case, attend, torch.float32, backend="grouped"), oracle(case)) < 3e-5


def test_rows_that_see_nothing() -> None:
    """Every sample and key closed: zeros, -inf and zero gradients, without NaN, in every normaliser."""
    q, k, v = tensors(2, 5, 2, 8, dtype=torch.float32)
    kinds = (("a", 5),)
    structures: tuple[dict[str, Any], ...] = (
        {"len_k": torch.tensor([0, 0])},
        {"len_q": torch.tensor([0, 0])},
        {"open": torch.zeros(2, 1, dtype=torch.bool)},
        {"visibility": Visibility(kinds, kinds, {})},
        {"key_bias": torch.full((2, 1, 5), -math.inf)},
    )
    for structure in structures:
        for normaliser in ("softmax", "softmax1", "sigmoid"):
            for backend in ("reference", "grouped"):
                leaves = [x.clone().requires_grad_() for x in (q, k, v)]
                out = attend(*leaves, normaliser=normaliser, backend=backend, **structure)
                assert torch.equal(out, torch.zeros_like(out)), (structure, normaliser, backend)
                out.sum().backward()
                assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in leaves if x.grad is not None)
        if normaliser != "sigmoid":
            assert torch.isneginf(attend(q, k, v, return_lse=True, **structure)[1]).all()


def test_unseen_keys_are_not_read() -> None:
    """NaN in empty slots, closed kinds and beyond the length reaches neither outputs nor gradients."""
    q, k, v = tensors(1, 12, 2, 8, dtype=torch.float32)
    frame = torch.arange(12, dtype=torch.int32)[None].clone()
    frame[0, 3] = -1
    kinds = (("a", 6), ("b", 6))
    rule = {(x, y): ALL for x in "ab" for y in "ab"}
    visibility = Visibility(kinds, kinds, rule, None, frame)
    k[0, [3, 11]] = torch.nan
    v[0, [3, 11]] = torch.nan
    for backend in ("reference", "grouped"):
        for normaliser in ("softmax", "sigmoid"):
            leaves = [x.clone().requires_grad_() for x in (q, k, v)]
            out = attend(
                *leaves, visibility=visibility, len_k=torch.tensor([11]), normaliser=normaliser, backend=backend
            )
            out.sum().backward()
            assert all(torch.isfinite(x).all() for x in (out, *(x.grad for x in leaves if x.grad is not None)))


def test_a_ring_overwritten_in_place() -> None:
    """Writing a slot and its frame changes the next call, with the same Visibility."""
    q, k, v = tensors(1, 8, 2, 8)
    frame_q = torch.full((1, 1), 3, dtype=torch.int32)
    frame_k = torch.tensor([[0, 1, 2, 3, -1, -1, -1, -1]], dtype=torch.int32)
    visibility = Visibility((("q", 1),), (("ring", 8),), {("q", "ring"): memory(4, 0)}, frame_q, frame_k)
    now = attend(q[:, :1], k, v, visibility=visibility)
    torch.testing.assert_close(now, attend(q[:, :1], k[:, :4], v[:, :4]), rtol=0, atol=1e-14)
    for step in range(4, 20):
        slot = step % 8
        k[:, slot], v[:, slot] = torch.randn(1, 2, 8), torch.randn(1, 2, 8)
        frame_k[0, slot] = step
        frame_q[0, 0] = step
        recent = [s % 8 for s in range(step - 3, step + 1)]
        expected = attend(q[:, :1], k[:, recent], v[:, recent])
        torch.testing.assert_close(attend(q[:, :1], k, v, visibility=visibility), expected, rtol=0, atol=1e-14)


def test_layouts_in_memory_do_not_matter() -> None:
    case = random_case(11, "softmax")
    expected = answer(case, attend)
    case.q, case.v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (case.q, case.v))
    case.k = torch.cat((case.k, case.k), 3)[..., ::2][..., : case.k.shape[3]] * 0 + case.k
    assert distance(answer(case, attend), expected) < 1e-13


def test_the_same_bits_again() -> None:
    case = random_case(2, "softmax")
    one, other = (answer(case, attend, torch.float32) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_poisoned_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every element of the outputs is written: fresh memory holds NaN."""
    for name in ("new_empty",):
        original = getattr(Tensor, name)

        def poisoned(self: Tensor, *shape: object, original: object = original, **options: object) -> Tensor:
            made = original(self, *shape, **options)  # type: ignore[operator]
            return made.fill_(torch.nan) if made.is_floating_point() else made

        monkeypatch.setattr(Tensor, name, poisoned)
    for seed in range(12):
        case = random_case(seed)
        assert distance(answer(case, attend, backend="grouped"), oracle(case)) < 1e-12


def test_many_keys_by_sigmoid() -> None:
    """16 384 keys with -log n: the mean of the values, however many there are, in fp32 too."""
    q, k, v = tensors(1, 16384, 1, 8, dtype=torch.float32)
    out = attend(0 * q[:, :3], k, v, normaliser="sigmoid")
    # sigmoid(-log n) = 1 / (n + 1)
    torch.testing.assert_close(out, v.double().sum(1, keepdim=True).float().expand(1, 3, 1, 8) / 16385)
    exact = attend(q[:, :3].double(), k.double(), v.double(), normaliser="sigmoid", backend="reference")
    assert (attend(q[:, :3], k, v, normaliser="sigmoid") - exact).abs().max() < 1e-6


def test_group_mass_from_two_lse() -> None:
    """``log a_i = LSE_group - LSE_all`` is the attention mass on some keys, and so is its gradient (VGTW's L_supp)."""
    q, k, v = tensors(1, 20, 2, 8)
    q.requires_grad_()
    kinds_k = (("static", 12), ("distractor", 8))
    both = Visibility((("q", 20),), kinds_k, {("q", "static"): ALL, ("q", "distractor"): ALL})
    some = Visibility((("q", 20),), kinds_k, {("q", "distractor"): ALL})
    lse = [attend(q, k, v, visibility=each, return_lse=True)[1] for each in (both, some)]
    mass = torch.exp(lse[1] - lse[0])
    p = torch.softmax(torch.einsum("bihd,bjhd->bihj", q, k) * 8**-0.5, -1)[..., 12:].sum(-1)
    torch.testing.assert_close(mass, p)
    one, other = (torch.autograd.grad(torch.log1p(-x).sum(), q, retain_graph=True)[0] for x in (mass, p))
    torch.testing.assert_close(one, other)


def test_geometry_is_a_prologue() -> None:
    q, k, v = tensors(1, 30, 2, 16)
    position = torch.arange(30, dtype=torch.float64)[None]
    rope = Rope(position, position)
    expected = attend(rope.rotate_q(q), rope.rotate_k(k), v)
    torch.testing.assert_close(attend(q, k, v, geometry=rope), expected)


# -- operators, compile, export ---------------------------------------------------------------------------


@pytest.mark.parametrize("normaliser", ["softmax", "sigmoid"])
def test_opcheck(normaliser: str) -> None:
    case = random_case(5, normaliser)
    leaves = case.leaves(torch.float32)
    bias = leaves[3] if len(leaves) > 3 else None
    visibility = case.visibility
    arguments = (
        *leaves[:3], bias, case.open, case.len_q, case.len_k, visibility.frame_q, visibility.frame_k,
        list(visibility.encoded), normaliser, case.scale, "grouped",
    )  # fmt: skip
    results = torch.library.opcheck(attend_op, arguments)
    assert set(results.values()) == {"SUCCESS"}


def test_compiles_without_graph_breaks() -> None:
    torch._dynamo.reset()
    frame = torch.arange(24, dtype=torch.int32)[None] // 6
    kinds = (("a", 18), ("b", 6))
    rule = {("a", "a"): SAME, ("b", "a"): PAST, ("b", "b"): ALL}
    visibility = Visibility(kinds, kinds, rule, frame, frame)

    def layer(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return attend(2 * q, k, v, visibility=visibility, key_bias=bias, normaliser="softmax1").sin()

    inputs = [x.requires_grad_() for x in (*tensors(2, 24, 2, 8), tensors(2, 1, 24, count=1)[0])]
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    one, other = (torch.autograd.grad(f(*inputs).square().sum(), inputs) for f in (layer, compiled))
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


def test_exports_through_the_reference() -> None:
    """What an exporter sees is plain PyTorch, with the same numbers."""
    frame = torch.arange(24, dtype=torch.int32)[None] // 6
    kinds = (("a", 18), ("b", 6))
    visibility = Visibility(kinds, kinds, {("a", "a"): SAME, ("b", "a"): PAST, ("b", "b"): ALL}, frame, frame)

    class Layer(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            return attend(q, k, v, visibility=visibility)

    inputs = tuple(tensors(1, 24, 2, 8, dtype=torch.float32))
    program = torch.export.export(Layer(), inputs)
    assert not [node for node in program.graph.nodes if "ros_attn" in str(node.target)]
    torch.testing.assert_close(program.module()(*inputs), Layer()(*inputs))


@pytest.mark.filterwarnings("ignore")
def test_onnx_gives_the_same_numbers(tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (extra dev)")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed (extra dev)")
    frame = torch.arange(24, dtype=torch.int32)[None] // 6
    kinds = (("a", 18), ("b", 6))
    visibility = Visibility(kinds, kinds, {("a", "a"): SAME, ("b", "a"): PAST, ("b", "b"): ALL}, frame, frame)

    class Layer(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
            return attend(q, k, v, visibility=visibility, key_bias=bias, normaliser="softmax1")

    inputs = [*tensors(1, 24, 2, 8, dtype=torch.float32), *tensors(1, 1, 24, count=1, dtype=torch.float32)]
    program = torch.onnx.export(Layer(), tuple(inputs), dynamo=True, verbose=False)
    assert program is not None
    program.save(str(tmp_path / "layer.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "layer.onnx"), providers=["CPUExecutionProvider"])
    feed = {each.name: x.numpy() for each, x in zip(session.get_inputs(), inputs, strict=True)}
    out = torch.from_numpy(session.run(None, feed)[0])
    torch.testing.assert_close(out, Layer()(*inputs), rtol=0, atol=1e-6)


def test_autocast_takes_mixed_types() -> None:
    q, k, v = tensors(1, 9, 2, 8, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attend(q, k.bfloat16(), v).dtype == torch.bfloat16


# -- mistakes ---------------------------------------------------------------------------------------------


def test_a_named_backend_is_obeyed_or_refused() -> None:
    q, k, v = tensors(1, 4, 2, 8)
    with pytest.raises(BackendError, match=r"^attend: backend=sdpa cannot run this call: it takes neither visibility"):
        attend(q, k, v, len_k=torch.tensor([2]), backend="sdpa")
    with pytest.raises(BackendError, match=r"backend=decode cannot run this call: it has no backward"):
        attend(q.requires_grad_(), k, v, backend="decode")
    with pytest.raises(ValueError, match=r"there is no backend 'tritton' \(did you mean 'triton'\?\)"):
        attend(q, k, v, backend="tritton")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"normaliser": "softmx"}, "there is no normaliser 'softmx' (did you mean 'softmax'?)"),
        ({"normaliser": "sigmoid", "return_lse": True}, "sigmoid has no LSE"),
        ({"key_bias": torch.zeros(1, 4)}, "key_bias is [1, 1 or 2, 4]"),
        ({"open": torch.ones(1, 2)}, "open is bool [1, 1]"),
        ({"len_k": torch.tensor([1.0])}, "len_k is integers [1]"),
        ({"k": torch.zeros(1, 4, 3, 8)}, "2 query heads cannot share 3 key heads"),
        ({"k": torch.zeros(1, 4, 2, 9)}, "k must be [1, Lk, Hkv, 8]"),
        ({"v": torch.zeros(1, 4, 2, 8, dtype=torch.float16)}, "q, k and v are of one dtype"),
        ({"visibility": Visibility((("a", 3),), (("a", 4),), {})}, "the visibility is for 3 queries and 4 keys"),
    ],
)
def test_wrong_arguments_get_a_sentence(change: dict[str, object], sentence: str) -> None:
    arguments = {"q": torch.zeros(1, 4, 2, 8), "k": torch.zeros(1, 4, 2, 8), "v": torch.zeros(1, 4, 2, 8)} | change
    if "k" in change:
        arguments["v"] = change["k"]
    with pytest.raises(ValueError) as caught:
        attend(**arguments)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
