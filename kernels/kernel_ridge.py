"""Attention as kernel ridge regression: softmax attention over values solved for, instead of over the values."""

from __future__ import annotations

import torch
from torch import Tensor


def kernel_ridge(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    ridge: float | Tensor,
    reference: Tensor | None = None,
    scale: float | None = None,
    causal: bool = True,
    chunk: int = 64,
) -> Tensor:
    """The prediction of kernel ridge regression at each query, where softmax attention is that of Nadaraya-Watson.

    Per sample and head, with r = ``reference``, or r = k where it is None::

        A_ij = exp(scale <q_i, k_j>) / sum_j' exp(scale <q_i, k_j'>)        rows of queries
        L_ij = exp(scale <k_i, r_j>) / sum_j' exp(scale <k_i, r_j'>)        rows of keys
        S    = (L + ridge I)^-1 V
        y    = A S

    ``causal``: j <= i in both sums, so L is lower triangular with a positive diagonal and S comes from forward
    substitution; row i of y depends on rows 0 to i alone. Otherwise L is full.

    Both are normalised by row, with the row maximum subtracted: no exponent is positive, and for q = k = r
    ``y = V - ridge S``, which goes to V with the ridge (regression passes through its points; attention does not). With
    an unnormalised L it would be V divided by the row sums.

    The causal S is what an online learner keeps, which at point i stores the part of ``v_i`` that the points before it
    did not predict, divided by ``L_ii + ridge``: a delta rule in the space of the kernel, not the regression on the
    first i points. A row of S can be ``(1 - L_ii) / (L_ii + ridge)`` times the largest before it. A ridge above 1
    bounds S by ``max|v| / (ridge - 1)``; r = k keeps it small, ``L_ii`` being the largest of its row if keys have one
    norm. **With an r that has nothing to do with k, L_ii is about 1 / (i + 1) and S grows exponentially**: from random
    inputs to 1e70 in 257 positions with a ridge of 1e-4, to 1e22 with 1e-2.

    Shapes: q [B, Lq, H, D]; k and reference [B, L, H, D]; v [B, L, H, Dv]; y [B, Lq, H, Dv] in v's dtype; Lq = L where
    causal. ``ridge`` > 0: a number, or a tensor [H]. ``scale``: by default ``D ** -0.5``; a scale of the reference
    alone is multiplied into it. Solved in float32 (float64 for float64), under autocast too. q, k, v, reference and
    ridge have gradients. Cost quadratic in L (cubic where not causal), with arrays of Lq x L: for L up to about 512.

    Raises ValueError for shapes, dtypes or a ridge that do not fit. Not causal and with a reference of its own, L may
    have the eigenvalue -ridge, and ``torch.linalg.solve`` raises; with r = k its eigenvalues are real and in [0, 1].

    Source: Cubit (2605.06501), ``y = A(q, k) (K(k, r) + lambda I)^-1 V``, and a replication (InternLM/archspace: both
    kernels normalised by row, triangular solve in float32). Deviates: its Limited-Range Rescale of V, whose formula is
    not known to us, is left out; it acts on v before this call. The full L is ours.
    """
    _check(q, k, v, reference, causal)
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    by = float(q.shape[-1]) ** -0.5 if scale is None else scale
    r = k if reference is None else reference
    solution = ridge_solution(k, r, v, ridge=ridge, scale=by, causal=causal, chunk=chunk)
    with torch.autocast(q.device.type, enabled=False):
        weights = _weights(q.to(wide).transpose(1, 2), k.to(wide).transpose(1, 2), by, causal)
        return (weights @ solution.transpose(1, 2)).transpose(1, 2).to(v.dtype)


def ridge_solution(
    rows: Tensor,
    columns: Tensor,
    v: Tensor,
    *,
    ridge: float | Tensor,
    scale: float,
    causal: bool = True,
    chunk: int = 64,
) -> Tensor:
    """``S = (L + ridge I)^-1 V`` of ``kernel_ridge``, in float32: values to attend to with any attention call.

    ``L_ij = softmax_j(scale <rows_i, columns_j>)``, so k and r there. The replication's reference takes the place of k
    as well, its norm taken out on one side (``rows`` r, ``columns`` ``unit_norm(r)`` times a learned scale): ``L_ii``
    is then the largest of its row, and S stays small.

    Shapes: rows, columns [B, L, H, D]; v [B, L, H, Dv]; S [B, L, H, Dv]. Causal, it is solved in blocks of ``chunk``
    rows: a block subtracts what earlier blocks predict of it and solves its own triangle, of at most chunk x chunk.
    """
    _check(rows, rows, v, columns, causal)
    if chunk < 1:
        raise ValueError(f"kernel_ridge: chunk is {chunk}; it must be at least 1")
    wide = torch.float64 if v.dtype == torch.float64 else torch.float32
    rows, columns, v = (x.to(wide).transpose(1, 2) for x in (rows, columns, v))
    diagonal = _diagonal(ridge, v)
    with torch.autocast(v.device.type, enabled=False):
        if not causal:
            kernel = _weights(rows, columns, scale, causal)
            return _solve(kernel + diagonal * _identity(kernel), v).transpose(1, 2)
        solved = v[:, :, :0]
        for start in range(0, v.shape[2], chunk):
            end = min(start + chunk, v.shape[2])
            kernel = _weights(rows[:, :, start:end], columns[:, :, :end], scale, causal)
            before, own = kernel.split((start, end - start), -1)
            block = torch.linalg.solve_triangular(
                own + diagonal * _identity(own), v[:, :, start:end] - before @ solved, upper=False
            )
            solved = torch.cat((solved, block), 2)
    return solved.transpose(1, 2)


def _weights(rows: Tensor, columns: Tensor, scale: float, causal: bool) -> Tensor:
    """[B, H, n, D], [B, H, L, D] -> [B, H, n, L], rows summing to 1; causal: the n rows are the last of L."""
    scores = scale * (rows @ columns.transpose(-1, -2))
    if causal:
        n, length = scores.shape[-2:]
        later = torch.ones(n, length, dtype=torch.bool, device=scores.device).triu(1 + length - n)
        scores = scores.masked_fill(later, -torch.inf)
    return scores.softmax(-1)


def _solve(matrices: Tensor, v: Tensor) -> Tensor:
    """``torch.linalg.solve`` of [B, H, L, L] and [B, H, L, Dv], on the CPU a matrix at a time.

    After any ``torch.set_num_threads`` above 1 the batched LU of MKL is wrong from about 128 rows, without a word, or
    hangs: pytorch/pytorch#142815, #141358.
    """
    if matrices.device.type != "cpu" or matrices.numel() == 0:
        return torch.linalg.solve(matrices, v)
    pairs = zip(matrices.flatten(0, 1), v.flatten(0, 1), strict=True)
    return torch.stack([torch.linalg.solve(matrix, each) for matrix, each in pairs]).view(v.shape)


def _identity(square: Tensor) -> Tensor:
    return torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)


def _diagonal(ridge: float | Tensor, v: Tensor) -> Tensor:
    heads = v.shape[1]
    diagonal = torch.as_tensor(ridge, dtype=v.dtype, device=v.device)
    if diagonal.shape not in ((), (heads,)):
        raise ValueError(f"kernel_ridge: ridge has shape {list(diagonal.shape)}; it must be a number or [{heads}]")
    if not bool((diagonal > 0).all()):
        raise ValueError(f"kernel_ridge: ridge is {diagonal.tolist()}; it must be positive, as exp or softplus make it")
    return diagonal.reshape(-1, 1, 1)


def _check(q: Tensor, k: Tensor, v: Tensor, reference: Tensor | None, causal: bool) -> None:
    if q.ndim != 4 or k.ndim != 4 or (*q.shape[:1], *q.shape[2:]) != (*k.shape[:1], *k.shape[2:]):
        raise ValueError(
            f"kernel_ridge: q has shape {list(q.shape)} and k {list(k.shape)}; they must be [B, Lq, H, D], [B, L, H, D]"
        )
    if causal and q.shape[1] != k.shape[1]:
        raise ValueError(
            f"kernel_ridge: {q.shape[1]} queries for {k.shape[1]} keys; causal needs as many, or causal=False"
        )
    if v.ndim != 4 or v.shape[:3] != k.shape[:3]:
        raise ValueError(f"kernel_ridge: v has shape {list(v.shape)}; it must be {[*k.shape[:3], 'Dv']}")
    if reference is not None and reference.shape != k.shape:
        raise ValueError(
            f"kernel_ridge: reference has shape {list(reference.shape)}; it must be that of k, {list(k.shape)}"
        )
    dtypes = {x.dtype for x in (q, k, v, reference) if x is not None}
    if len(dtypes) > 1 or not q.is_floating_point():
        raise ValueError(f"kernel_ridge: the inputs are {sorted(map(str, dtypes))}; they must be one floating dtype")
