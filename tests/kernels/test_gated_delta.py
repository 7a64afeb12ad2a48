"""The gated delta rule: its two implementations against the rule written out, gradients, streaming, backends."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from types import ModuleType

import pytest
import torch
from torch import Tensor

from ros_attn.errors import RosAttnError
from ros_attn.kernels import gated_delta as module
from ros_attn.kernels import gated_delta_fla
from ros_attn.kernels.backend import BackendError
from ros_attn.kernels.gated_delta import (
    choose_gated_delta,
    gated_delta,
    gated_delta_chunked,
    gated_delta_recurrent,
    gated_delta_step,
    unit_norm,
)

NAMES = ("q", "k", "v", "beta", "log_gamma", "state")
LENGTHS = (1, 63, 100, 257)
# Mean of -log gamma; 13.8 is a gamma of 1e-6.
DECAYS = {"none": 0.0, "slow": 0.02, "strong": 13.8}


def inputs(n: int, decay: float = 0.02, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """q, k, v, beta, log_gamma, state for B = 2, H = 3, D = 8, Dv = 5; betas of 0 and 1 among others."""
    g = torch.Generator().manual_seed(seed)
    q, k = (3 * torch.randn(2, n, 3, 8, generator=g, dtype=torch.float64) for _ in range(2))
    v = torch.randn(2, n, 3, 5, generator=g, dtype=torch.float64)
    beta = (1.4 * torch.rand(2, n, 3, generator=g, dtype=torch.float64) - 0.2).clamp(0, 1)
    log_gamma = -2 * decay * torch.rand(2, n, 3, generator=g, dtype=torch.float64)
    state = torch.randn(2, 3, 5, 8, generator=g, dtype=torch.float64)
    return [x.to(dtype) for x in (q, k, v, beta, log_gamma, state)]


def written_out(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, log_gamma: Tensor, state: Tensor, scale: float = 1.0):
    """The rule as printed: M (I - beta k k^T), matrices of a single sample and head."""
    out = torch.empty_like(v)
    last = torch.empty_like(state)
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            memory = state[b, h]
            for t in range(q.shape[1]):
                u = k[b, t, h] / k[b, t, h].square().sum().sqrt()
                erase = torch.eye(len(u), dtype=u.dtype) - beta[b, t, h] * torch.outer(u, u)
                memory = torch.exp(log_gamma[b, t, h]) * memory @ erase + beta[b, t, h] * torch.outer(v[b, t, h], u)
                out[b, t, h] = scale * memory @ q[b, t, h]
            last[b, h] = memory
    return out, last


def worst(got: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """Largest error of several tensors, each relative to its largest value."""
    return max(
        float((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-30)) for a, b in zip(got, expected, strict=True)
    )


def gradients(call, x: list[Tensor], **options) -> tuple[Tensor, ...]:
    x = [each.detach().requires_grad_() for each in x]
    out, state = call(*x[:5], state=x[5], **options)
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(each.shape, generator=g, dtype=torch.float64).to(each.dtype) for each in (out, state)]
    return torch.autograd.grad((out * weights[0]).sum() + (state * weights[1]).sum(), x)


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS.keys())
@pytest.mark.parametrize("n", LENGTHS)
def test_both_are_the_rule_as_written_out(n: int, decay: float) -> None:
    x = inputs(n, decay)
    expected = written_out(*x, scale=0.7)
    for call in (gated_delta_recurrent, gated_delta_chunked):
        assert worst(call(*x[:5], state=x[5], scale=0.7), expected) < 1e-13


@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS.keys())
@pytest.mark.parametrize("n", LENGTHS)
def test_every_gradient_is_that_of_the_loop(n: int, decay: float) -> None:
    x = inputs(n, decay)
    expected = gradients(gated_delta_recurrent, x, scale=0.7)
    for name, got, right in zip(NAMES, gradients(gated_delta_chunked, x, scale=0.7), expected, strict=True):
        assert worst((got,), (right,)) < 1e-12, name


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
@pytest.mark.parametrize("decay", DECAYS.values(), ids=DECAYS.keys())
def test_gradients_by_finite_differences(call, decay: float) -> None:
    *x, state = inputs(7, decay)
    x = [each[:1, :, :1].clone().requires_grad_() for each in x] + [state[:1, :1].clone().requires_grad_()]
    options = {} if call is gated_delta_recurrent else {"chunk": 3}
    assert torch.autograd.gradcheck(
        lambda q, k, v, beta, log_gamma, state: call(q, k, v, beta, log_gamma, state=state, scale=0.7, **options), x
    )


@pytest.mark.parametrize("decay", [*DECAYS.values(), 0.5])
@pytest.mark.parametrize("n", LENGTHS)
def test_float32_in_chunks_is_as_exact_as_the_loop(n: int, decay: float) -> None:
    x = inputs(n, decay, seed=1)
    single = [each.float() for each in x]
    x = [each.double() for each in single]
    for run in (lambda call, x: call(*x[:5], state=x[5]), gradients):
        expected = run(gated_delta_recurrent, x)
        loop = worst(run(gated_delta_recurrent, single), expected)
        chunked = worst(run(gated_delta_chunked, single), expected)
        print(f"n {n} decay {decay}: float32 error of the loop {loop:.1e}, in chunks {chunked:.1e}")
        assert chunked < 4 * loop + 5e-7


def test_float32_keeps_slow_decay_beside_strong_decay() -> None:
    """Differences of cumulative sums would lose the small terms: their error is 1e-7 of 880, not of 0.01."""
    q, k, v, beta, log_gamma, state = inputs(64, seed=2)
    log_gamma[:, :32] = -27.6
    log_gamma[:, 32:] = -0.01
    x = [each.float() for each in (q, k, v, beta, log_gamma, state)]
    expected = gated_delta_recurrent(*(each.double() for each in x[:5]), state=x[5].double())
    assert worst(gated_delta_chunked(*x[:5], state=x[5]), expected) < 1e-6


def test_a_hard_chunk_stays_exact() -> None:
    """Nearly the same key everywhere, beta 1 and no decay: the triangle is full of ones."""
    q, k, v, _, _, state = inputs(257, seed=3)
    k = k[:, :1] + 1e-3 * k
    x = [each.float() for each in (q, k, v, torch.ones(2, 257, 3), torch.zeros(2, 257, 3), state)]
    y = [each.double() for each in x]
    expected = gated_delta_recurrent(*y[:5], state=y[5])
    loop = worst(gated_delta_recurrent(*x[:5], state=x[5]), expected)
    assert worst(gated_delta_chunked(*x[:5], state=x[5]), expected) < 4 * loop


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_a_written_value_is_read_back(call) -> None:
    q, k, v, beta, _, state = inputs(100)
    out, _ = call(unit_norm(k), k, v, torch.ones_like(beta), torch.zeros_like(beta), state=state)
    assert worst((out,), (v,)) < 1e-14
    # Orthogonal keys do not disturb each other: all of them are still there at the end.
    keys = torch.eye(8, dtype=torch.float64).view(1, 8, 1, 8).expand(2, 8, 3, 8) * 5
    _, kept = call(q[:, :8], keys, v[:, :8], torch.ones_like(beta[:, :8]), torch.zeros_like(beta[:, :8]))
    assert worst((kept,), (v[:, :8].permute(0, 2, 3, 1),)) < 1e-15


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_beta_zero_writes_nothing(call) -> None:
    q, k, v, beta, log_gamma, state = inputs(100, 0.05)
    out, last = call(q, k, v, torch.zeros_like(beta), log_gamma, state=state)
    kept = log_gamma.cumsum(1).exp()
    assert worst((out,), (kept[..., None] * torch.einsum("bhvd,bthd->bthv", state, q),)) < 1e-13
    assert worst((last,), (kept[:, -1, :, None, None] * state,)) < 1e-13


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_gamma_zero_forgets_all_and_has_gradients(call) -> None:
    x = inputs(100)
    x[4][:, 70] = -torch.inf
    x[4][:, 71] = -torch.inf
    fresh = [each[:, 71:] for each in x[:5]]
    out, state = call(*x[:5], state=x[5])
    assert worst((out[:, 71:], state), gated_delta_recurrent(*fresh)) < 1e-13
    got = gradients(call, x)
    assert all(torch.isfinite(each).all() for each in got)
    assert float(got[5].abs().max()) > 0  # through the outputs before it
    assert float(got[4][:, 70:72].abs().max()) == 0


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_zero_keys_write_nothing_and_give_finite_gradients(call) -> None:
    x = inputs(100, 0.05)
    x[1][:, 20:60] = 0
    written = [each.clone() for each in x]
    written[3][:, 20:60] = 0
    written[1][:, 20:60] = 1
    assert worst(call(*x[:5], state=x[5]), call(*written[:5], state=written[5])) < 1e-14
    got = gradients(call, x)
    assert all(torch.isfinite(each).all() for each in got)
    assert float(got[1][:, 20:60].abs().max()) < 1e3 * float(x[2].abs().max()) * 100
    everywhere = call(x[0], torch.zeros_like(x[1]), *x[2:5])
    assert all(float(each.abs().max()) == 0 for each in everywhere)


def test_unit_norm_and_its_gradients() -> None:
    g = torch.Generator().manual_seed(0)
    lengths = torch.tensor([1e3, 1, 0.01, 5e-4, 1e-6, 0], dtype=torch.float64)
    x = torch.randn(6, 8, generator=g, dtype=torch.float64)
    x = x / x.square().sum(-1, keepdim=True).sqrt() * lengths[:, None]
    norms = torch.linalg.vector_norm(unit_norm(x), dim=-1)
    assert norms.tolist() == pytest.approx([1, 1, 1, 0.5, 0.001, 0], rel=1e-14)
    for row in x:
        assert torch.autograd.gradcheck(unit_norm, row.clone().requires_grad_(), eps=1e-8, atol=1e-4, rtol=1e-5)
    assert unit_norm(x.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("name", ["recurrent", "chunked"])
def test_pieces_are_the_whole(name: str) -> None:
    x = inputs(257, 0.1)
    whole, last = gated_delta(*x[:5], state=x[5], backend=name)
    state, outs = x[5], []
    for start, end in ((0, 1), (1, 64), (64, 64), (64, 200), (200, 257)):
        out, state = gated_delta(*(each[:, start:end] for each in x[:5]), state=state, backend=name)
        outs.append(out)
    assert worst((torch.cat(outs, 1), state), (whole, last)) < 1e-13


def test_steps_are_the_whole() -> None:
    x = inputs(63, 0.1)
    whole, last = gated_delta_chunked(*x[:5], scale=0.7)
    state = torch.zeros_like(x[5])
    for t in range(63):
        given = state.clone()
        out, after = gated_delta_step(state, *(each[:, t] for each in x[:5]), scale=0.7)
        assert torch.equal(state, given)
        state = after
        assert worst((out,), (whole[:, t],)) < 1e-12
        if t == 0:
            first, _ = gated_delta_step(None, *(each[:, 0] for each in x[:5]), scale=0.7)
            assert torch.equal(first, out)
    assert worst((state,), (last,)) < 1e-13


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_each_sample_ends_at_its_length(call) -> None:
    x = inputs(100, 0.1)
    lengths = torch.tensor([37, 100])
    for each in x[:5]:
        each[0, 37:] = torch.nan
    out, last = call(*x[:5], state=x[5], length=lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = call(*(each[b : b + 1, :n] for each in x[:5]), state=x[5][b : b + 1])
        assert worst((out[b : b + 1, :n], last[b : b + 1]), alone) < 1e-14
    assert float(out[0, 37:].abs().max()) == 0
    got = gradients(call, x, length=lengths)
    assert all(torch.isfinite(each).all() for each in got)
    assert all(float(each[0, 37:].abs().max()) == 0 for each in got[:5])
    assert all(float(each[0, :37].abs().max()) > 0 for each in got[:4])
    nothing, same = call(*x[:5], state=x[5], length=torch.tensor([0, 0]))
    assert float(nothing.abs().max()) == 0 and torch.equal(same, x[5])


@pytest.mark.parametrize("call", [gated_delta_recurrent, gated_delta_chunked])
def test_strides_do_not_matter(call) -> None:
    x = inputs(63)
    strange = [each.transpose(0, -1).contiguous().transpose(0, -1) for each in x]
    assert not any(each.is_contiguous() for each in strange)
    assert worst(call(*strange[:5], state=strange[5]), call(*x[:5], state=x[5])) < 1e-14


def test_long_unnormalised_keys_do_not_diverge(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the norm is for: with keys as they come, of norm about 8, the same rule leaves every range."""
    q, k, v, _, _, _ = inputs(257)
    beta, log_gamma = torch.full((2, 257, 3), 0.9).double(), torch.full((2, 257, 3), -0.01).double()
    _, state = gated_delta(q, k, v, beta, log_gamma)
    assert float(state.abs().max()) < 10
    monkeypatch.setattr(module, "unit_norm", lambda x: x)
    _, state = gated_delta(q, k, v, beta, log_gamma)
    assert not float(state.abs().max()) < 1e30


@pytest.mark.parametrize("name", ["recurrent", "chunked"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    x = inputs(100, dtype=dtype)
    exact = gated_delta(*(each.double() for each in x[:5]), state=x[5].double(), backend="recurrent")
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            out, state = gated_delta(*x[:5], state=x[5], backend=name)
        assert out.dtype == dtype and state.dtype == torch.float32
        assert worst((state,), (exact[1],)) < 1e-6
        assert worst((out,), (exact[0],)) < torch.finfo(dtype).eps


def test_the_choice_of_a_backend_says_why() -> None:
    x = inputs(5)
    assert choose_gated_delta(None, x[0], x[2]) == (
        "chunked",
        "fla cannot run: the tensors are on 'cpu' and its kernels run on CUDA",
    )
    assert choose_gated_delta("recurrent", x[0], x[2])[0] == "recurrent"
    with pytest.raises(BackendError, match="cannot run on backend 'fla': the tensors are on 'cpu'") as refused:
        gated_delta(*x[:5], backend="fla")
    assert isinstance(refused.value, RosAttnError)
    with pytest.raises(ValueError, match="'triton'; it must be None or one of fla, chunked, recurrent"):
        gated_delta(*x[:5], backend="triton")


def test_fla_is_usable_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in for CUDA tensors: what it says for each thing that is missing."""

    class Cuda:
        is_cuda, device = True, torch.device("cuda")

        def __init__(self, dtype: torch.dtype = torch.bfloat16, width: int = 64, n: int = 10) -> None:
            self.dtype, self.shape = dtype, torch.Size((1, n, 2, width))

        def numel(self) -> int:
            return self.shape.numel()

    def reason(q: Cuda) -> tuple[bool, str]:
        return gated_delta_fla.usable(q, q)  # pyright: ignore[reportArgumentType]

    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(gated_delta_fla, "version", absent)
    assert reason(Cuda()) == (
        False, "the package flash-linear-attention is not installed (pip install flash-linear-attention)"
    )  # fmt: skip
    monkeypatch.setattr(gated_delta_fla, "version", lambda name: "0.1.2")
    assert reason(Cuda()) == (False, "flash-linear-attention 0.1.2 is older than 0.2")
    monkeypatch.setattr(gated_delta_fla, "version", lambda name: "0.10.1rc1")
    assert reason(Cuda()) == (True, "flash-linear-attention 0.10.1rc1 on cuda")
    assert not reason(Cuda(torch.float32))[0] and not reason(Cuda(width=300))[0] and not reason(Cuda(n=0))[0]


def test_fla_is_called_in_its_own_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in with the signature, the layouts and the defaults of chunk_gated_delta_rule 0.6.0."""

    def chunk_gated_delta_rule(
        q, k, v, g, beta, scale=None, initial_state=None, output_final_state=False, use_qk_l2norm_in_kernel=False
    ):  # fmt: skip
        assert initial_state is not None
        assert all(each.is_contiguous() for each in (q, k, v, g, beta, initial_state))
        assert initial_state.dtype == g.dtype == torch.float32 and not use_qk_l2norm_in_kernel
        assert torch.isfinite(g).all()
        state, out = initial_state, []  # [B, H, D, Dv]
        for t in range(q.shape[1]):
            state = state * g[:, t].exp()[..., None, None]
            key = k[:, t].float()
            change = (v[:, t] - (state * key[..., None]).sum(-2)) * beta[:, t, :, None]
            state = state + key[..., None] * change[..., None, :]
            out.append((state * q[:, t].float()[..., None]).sum(-2) * (q.shape[-1] ** -0.5 if scale is None else scale))
        return torch.stack(out, 1).to(q.dtype), state if output_final_state else None

    rule = ModuleType("fla.ops.gated_delta_rule")
    rule.chunk_gated_delta_rule = chunk_gated_delta_rule  # pyright: ignore[reportAttributeAccessIssue]
    for name, each in (("fla", ModuleType("fla")), ("fla.ops", ModuleType("fla.ops")), (rule.__name__, rule)):
        monkeypatch.setitem(sys.modules, name, each)
    monkeypatch.setattr(gated_delta_fla, "usable", lambda q, v: (True, "a stand-in"))

    x = [each.float() for each in inputs(40, 0.1)]
    x[4][:, 10] = -torch.inf
    length = torch.tensor([25, 40])
    assert choose_gated_delta(None, x[0], x[2]) == ("fla", "a stand-in")
    expected = gated_delta(*x[:5], state=x[5], scale=0.7, length=length, backend="recurrent")
    got = gated_delta(*x[:5], state=x[5], scale=0.7, length=length)
    assert worst(got, tuple(each.double() for each in expected)) < 1e-5
    half = [each.to(torch.bfloat16) for each in x]
    out, state = gated_delta(*half[:5], state=half[5], backend="fla")
    assert out.dtype == torch.bfloat16 and state.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("n", LENGTHS)
def test_fla_on_a_gpu(n: int) -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, n, 3, 64, generator=g).to(device, torch.bfloat16) for _ in range(3))
    beta, log_gamma = (torch.rand(2, n, 3, generator=g).to(device), -0.1 * torch.rand(2, n, 3, generator=g).to(device))
    ok, reason = gated_delta_fla.usable(q, v)
    if not ok:
        pytest.skip(f"fla: {reason}")
    x = [unit_norm(q).to(torch.bfloat16), k, v, beta, log_gamma, torch.randn(2, 3, 64, 64, generator=g).to(device)]
    exact = [each.double() for each in x]
    expected = gated_delta(*exact[:5], state=exact[5], backend="recurrent")
    assert worst(gated_delta(*x[:5], state=x[5], backend="fla"), expected) < 0.02
    right = gradients(gated_delta_recurrent, exact)
    for name, got, each in zip(NAMES, gradients(gated_delta, x, backend="fla"), right, strict=True):
        assert worst((got,), (each,)) < 0.05, name


@pytest.mark.parametrize(
    ("name", "replaced", "message"),
    [
        ("k", torch.zeros(2, 5, 3, 4), "both must be the same"),
        ("v", torch.zeros(2, 4, 3, 5), "v has shape"),
        ("v", torch.zeros(2, 5, 3, 5), "one floating dtype"),
        ("beta", torch.zeros(2, 5), "beta has shape"),
        ("log_gamma", torch.zeros(2, 3, 5), "log_gamma has shape"),
        ("state", torch.zeros(2, 3, 8, 5), r"state has shape \[2, 3, 8, 5\]; it must be \[2, 3, 5, 8\]"),
        ("length", torch.zeros(3, dtype=torch.int64), "length has shape"),
        ("length", torch.zeros(2), "must be integers"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, replaced: Tensor, message: str) -> None:
    x: dict[str, Tensor | None] = dict(zip(NAMES, inputs(5), strict=True), length=None)
    for backend in ("recurrent", "chunked"):
        with pytest.raises(ValueError, match=message):
            gated_delta(**{**x, name: replaced}, backend=backend)  # pyright: ignore[reportArgumentType]


def test_an_empty_sequence_gives_the_state_back() -> None:
    x = inputs(5)
    for name in ("recurrent", "chunked"):
        out, state = gated_delta(*(each[:, :0] for each in x[:5]), state=x[5], backend=name)
        assert out.shape == (2, 0, 3, 5) and torch.equal(state, x[5])
    with pytest.raises(ValueError, match="chunk is 0"):
        gated_delta(*x[:5], chunk=0)
