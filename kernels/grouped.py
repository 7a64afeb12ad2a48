"""The CPU path: one call of PyTorch's flash attention for each set of keys, without a mask.

Queries of equal kind and frame share one key set (``groups``). Its slices are laid together and handed to the flash
kernel of ``scaled_dot_product_attention``; the pairs that nobody sees cost nothing. Extra channels carry what that
kernel lacks:

- a key bias b: ``<[q, 1], [k, b / scale]> scale = scale <q, k> + b``; its gradient is that of the channel;
- the gradient dL of the LSE: with ``v' = [v, 1]``, ``dO' = [dO, dL]`` and the output's channel set to 0, the kernel's
  ``delta = rowsum(dO' O')`` stays what it was and ``dP' = dP + dL``, so that ``dS = P (dP - (delta - dL))``.

Sigmoid, and bias rules that differ within a group, run by plain products over the same groups.

Source: ours. Half precision: the bias goes in as three channels whose sum is exact to 24 bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ros_attn.kernels.groups import Group, cached
from ros_attn.kernels.layout import Layout

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
# Widths that the flash kernel's products like.
_ALIGNED = 8
# Scores of so many elements are held at once by the plain products.
_HELD = 2**22


def forward(
    q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None,
    frame_k: Tensor | None, open: Tensor | None, len_q: Tensor | None, len_k: Tensor | None, normaliser: str,
    scale: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``out [B, Lq, H, Dv]`` and ``lse [B, Lq, H]`` of softmax, or of sigmoid (whose lse is empty)."""
    found = _groups(q, k, layout, frame_q, frame_k, open, len_q, len_k)
    rooms = _rooms(found, k, v)
    out = _unplaced(found, q, v.shape[3])
    lse = _lse(q, normaliser)
    for group in found:
        call = _Call(group, q, k, v, key_bias, scale, rooms)
        if normaliser == "sigmoid":
            o = call.explicit(normaliser)[0]
        else:
            o, norm = call.explicit(normaliser) if call.uneven else call.flash()
            _place(lse, group, norm)
        _place(out, group, o)
    return out, lse


def backward(
    d_out: Tensor, d_lse: Tensor | None, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor,
    key_bias: Tensor | None, *, layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None,
    len_q: Tensor | None, len_k: Tensor | None, normaliser: str, scale: float, key_bias_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:  # fmt: skip
    """The gradients of q, k, v and, with ``key_bias_grad``, of the key bias."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    dk, dv = k.new_zeros(k.shape, dtype=wide), v.new_zeros(v.shape, dtype=wide)
    d_bias = torch.zeros_like(key_bias, dtype=wide) if key_bias is not None and key_bias_grad else None
    narrow = k.dtype
    if key_bias is not None:
        # A bias gradient sums over queries and heads what half precision has rounded: the channel's, and that of the
        # output in rowsum(dO O), hence the second forward below.
        q, k, v, out, d_out = (x.to(wide) for x in (q, k, v, out, d_out))
    found = _groups(q, k, layout, frame_q, frame_k, open, len_q, len_k)
    rooms = _rooms(found, k, v)
    dq = _unplaced(found, q, q.shape[3])
    for group in found:
        call = _Call(group, q, k, v, key_bias, scale, rooms)
        flash = normaliser == "softmax" and not call.uneven
        o, norm = _rows(out, group), _rows(lse, group) if lse.numel() else lse
        if flash and narrow != q.dtype:
            o, norm = call.flash()
        dq_, dk_, dv_, db_ = (call.flash_backward if flash else call.explicit_backward)(
            _rows(d_out, group), None if d_lse is None else _rows(d_lse, group), o, norm
        )
        _place(dq, group, dq_)
        _sum(dk, group, dk_)
        _sum(dv, group, dv_)
        if d_bias is not None and db_ is not None:
            _sum(d_bias, group, db_, transposed=True)
    return (
        dq.to(narrow),
        dk.to(narrow),
        dv.to(narrow),
        None if d_bias is None or key_bias is None else d_bias.to(key_bias.dtype),
    )


def _groups(
    q: Tensor, k: Tensor, layout: Layout, frame_q: Tensor | None, frame_k: Tensor | None, open: Tensor | None,
    len_q: Tensor | None, len_k: Tensor | None,
) -> tuple[Group, ...]:  # fmt: skip
    work = 2.0 * q.shape[0] * q.shape[2] * q.shape[3]
    return cached.get(layout, frame_q, frame_k, open, len_q, len_k, work)


def _unplaced(found: tuple[Group, ...], q: Tensor, width: int) -> Tensor:
    """[B, Lq, H, width] for what each group places: zeros where some query is in no group."""
    placed = sum(g.queries.count * (q.shape[0] if g.samples is None else len(g.samples)) for g in found)
    make = q.new_empty if placed == q.shape[0] * q.shape[1] else q.new_zeros
    return make(*q.shape[:3], width)


def _rooms(found: tuple[Group, ...], k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for the keys and values of the largest group, used by one group after the other: fresh pages cost more."""
    most = max((group.keys.count for group in found if len(group.keys.runs) != 1), default=0)
    return k.new_empty(k.shape[0] * most, *k.shape[2:]), v.new_empty(v.shape[0] * most, *v.shape[2:])


def _lse(q: Tensor, normaliser: str) -> Tensor:
    kind = torch.float64 if q.dtype == torch.float64 else torch.float32
    if normaliser == "sigmoid":
        return q.new_empty(0, dtype=kind)
    return q.new_full(q.shape[:3], -torch.inf, dtype=kind)


def _rows(x: Tensor, group: Group) -> Tensor:
    return group.queries.take(x if group.samples is None else x[group.samples])


def _place(x: Tensor, group: Group, values: Tensor) -> None:
    if group.samples is None:
        group.queries.put(x, values)
        return
    some = x[group.samples]
    group.queries.put(some, values)
    x[group.samples] = some


def _sum(x: Tensor, group: Group, values: Tensor, transposed: bool = False) -> None:
    """Add to the group's keys; ``transposed``: of [B, H, Lk] instead of [B, Lk, H, D]."""
    if transposed:
        x = x.transpose(1, 2)
    if group.samples is None:
        group.keys.add(x, values)
        return
    some = torch.zeros_like(x[group.samples])
    group.keys.add(some, values)
    x.index_add_(0, group.samples, some)


class _Call:
    """One group's tensors, heads in front: q [B, G, R Q, D], k and v [B, G, K, D], R query heads on each of G."""

    def __init__(
        self, group: Group, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None, scale: float,
        rooms: tuple[Tensor, Tensor],
    ) -> None:  # fmt: skip
        self.group, self.scale = group, scale
        self.heads, self.shared = q.shape[2], k.shape[2]
        self.wide = torch.float64 if q.dtype == torch.float64 else torch.float32
        if group.samples is not None:
            q, k, v = q[group.samples], k[group.samples], v[group.samples]
            key_bias = None if key_bias is None else key_bias[group.samples]
        self.bias = None if key_bias is None else group.keys.take(key_bias.transpose(1, 2)).transpose(1, 2)
        self.k, self.v = (group.keys.take(x, room).transpose(1, 2) for x, room in zip((k, v), rooms, strict=True))
        if self.bias is not None and self.bias.shape[1] > 1 and self.shared < self.heads:
            # A bias of its own for each query head: they share no keys any more.
            self.k, self.v = (x.repeat_interleave(self.heads // self.shared, 1) for x in (self.k, self.v))
        self.repeated = self.k.shape[1] // self.shared
        self.q = self.fold(group.queries.take(q))
        self.uneven = group.bias_on is not None and group.bias_on.shape[0] > 1 and self.bias is not None

    def fold(self, x: Tensor) -> Tensor:
        """[B, Q, H, D] -> [B, G, R Q, D]: the query heads of a key head become rows, which see the same keys."""
        x = x.transpose(1, 2)
        ratio = self.heads // self.k.shape[1]
        return x if ratio == 1 else x.reshape(x.shape[0], self.k.shape[1], ratio * x.shape[2], x.shape[3])

    def unfold(self, x: Tensor) -> Tensor:
        """[B, G, R Q, D] -> [B, Q, H, D]"""
        return x.reshape(x.shape[0], self.heads, -1, x.shape[3]).transpose(1, 2)

    def shrink(self, x: Tensor) -> Tensor:
        """The gradient of keys or values, [B, G, K, D] -> [B, K, Hkv, D], summed over repeated heads."""
        if self.repeated > 1:
            x = x.reshape(x.shape[0], self.shared, self.repeated, *x.shape[2:]).sum(2)
        return x.transpose(1, 2)

    def mask(self, ratio: int) -> Tensor | None:
        """What is added to the scores, [1, 1, R Q, K]."""
        if self.group.mask is None:
            return None
        added = torch.zeros(self.group.mask.shape, dtype=self.wide if self.wide == torch.float64 else self.q.dtype)
        return added.masked_fill_(~self.group.mask, -torch.inf).repeat(ratio, 1)[None, None]

    def counted(self) -> Tensor:
        """The bias where it counts, in full precision: [B, 1|G, K], finite. Only where the group has one answer."""
        assert self.bias is not None
        bias = self.bias.to(self.wide)
        if self.group.bias_on is not None:
            bias = torch.where(self.group.bias_on, bias, 0)
        return bias.clamp_min(self.floor)

    @property
    def floor(self) -> float:
        """Stands for a bias of -inf, of which the flash kernel's products would make NaN."""
        return -3e4 * self.scale if self.q.dtype == torch.float16 else -1e30

    def padded(self, extra_v: bool) -> tuple[Tensor, Tensor, Tensor, int]:
        """q, k, v of one width with their extra channels, and where those of q and k begin."""
        q, k, v = self.q, self.k, self.v
        at = q.shape[3]
        parts: list[Tensor] = []
        if self.bias is not None:
            rest = self.counted() / self.scale
            for _ in range(1 if q.dtype == self.wide else 3):
                parts.append(rest.to(q.dtype))
                rest = rest - parts[-1].to(rest.dtype)
        width = max(at + len(parts), v.shape[3] + int(extra_v))
        if len(parts) or extra_v or at != v.shape[3]:
            width = -(-width // _ALIGNED) * _ALIGNED
            pad = torch.nn.functional.pad
            q, k, v = (pad(x, (0, width - x.shape[3])) for x in (q, k, v))
            for c, part in enumerate(parts):
                q[..., at + c] = 1
                k[..., at + c] = part
        return q, k, v, at

    def flash(self) -> tuple[Tensor, Tensor]:
        q, k, v, _ = self.padded(extra_v=False)
        mask = self.mask(self.heads // self.k.shape[1])
        out, lse = _flash(q, k, v, 0.0, False, attn_mask=mask, scale=self.scale)
        out = self.unfold(out[..., : self.v.shape[3]])
        # The kernel's LSE is a transposed view: by index, never by its strides.
        lse = self.unfold(lse[..., None])[..., 0]
        if self.bias is not None:
            dead = lse < 0.5 * self.floor
            out = out.masked_fill(dead[..., None], 0)
            lse = lse.masked_fill(dead, -torch.inf)
        return out, lse

    def flash_backward(
        self, d_out: Tensor, d_lse: Tensor | None, out: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        q, k, v, at = self.padded(extra_v=d_lse is not None)
        values, width = self.v.shape[3], q.shape[3]
        dead = torch.isneginf(lse) if self.bias is not None else None
        d_out, out, norm = self.fold(d_out), self.fold(out), self.fold(lse[..., None])[..., 0]
        if width != values:
            d_out, out = (torch.nn.functional.pad(x, (0, width - values)) for x in (d_out, out))
        if dead is not None:
            gone = self.fold(dead[..., None])
            d_out = d_out.masked_fill(gone, 0)
            norm = norm.masked_fill(gone[..., 0], torch.inf)
        if d_lse is not None:
            change = self.fold(d_lse[..., None].to(d_out.dtype))
            if dead is not None:
                change = change.masked_fill(gone, 0)
            v[..., values] = 1
            d_out[..., values] = change[..., 0]
        mask = self.mask(self.heads // self.k.shape[1])
        dq, dk, dv = _flash_backward(d_out, q, k, v, out, norm, 0.0, False, attn_mask=mask, scale=self.scale)
        d_bias = None
        if self.bias is not None:
            d_bias = self.bias_gradient(dk[..., at].to(self.wide) / self.scale)
        width_q = self.q.shape[3]
        return self.unfold(dq[..., :width_q]), self.shrink(dk[..., :width_q]), self.shrink(dv[..., :values]), d_bias

    def bias_gradient(self, d: Tensor) -> Tensor:
        """[B, G, K] -> [B, K, 1|H] of the bias as it was given."""
        assert self.bias is not None
        if self.group.bias_on is not None and not self.uneven:
            d = torch.where(self.group.bias_on, d, 0)
        if self.bias.shape[1] == 1:
            d = d.sum(1, keepdim=True)
        return d.masked_fill(torch.isneginf(self.bias), 0).transpose(1, 2)

    # -- by plain products: sigmoid, and a bias that differs between the queries of a group -----------------

    def _chunks(self) -> list[tuple[int, int]]:
        """Ranges of the group's queries whose scores fit what is held at once."""
        queries = self.group.queries.count
        step = max(1, _HELD // max(1, self.q.shape[0] * self.heads * self.k.shape[2]))
        return [(a, min(a + step, queries)) for a in range(0, queries, step)]

    def _scores(self, a: int, b: int) -> tuple[Tensor, Tensor]:
        """Scores [B, G, R, b - a, K] of the queries a to b, in full precision, and those queries' q."""
        ratio = self.heads // self.k.shape[1]
        q = self.q.reshape(*self.q.shape[:2], ratio, -1, self.q.shape[3])[:, :, :, a:b].to(self.wide)
        s = self.scale * torch.einsum("bgrqd,bgkd->bgrqk", q, self.k.to(self.wide))
        if self.bias is not None:
            bias = self.bias.to(self.wide)[:, :, None, None]
            on = self.group.bias_on
            if on is not None:
                on = on[a:b] if on.shape[0] > 1 else on
                bias = torch.where(on, bias, torch.zeros((), dtype=self.wide))
            s = s + bias
        if self.group.mask is not None:
            s = s.masked_fill(~self.group.mask[a:b], -torch.inf)
        return s, q

    def _sigmoid(self, s: Tensor, a: int, b: int) -> Tensor:
        return torch.sigmoid(s - torch.log(self.group.visible[a:b].to(self.wide))[:, None])

    def explicit(self, normaliser: str) -> tuple[Tensor, Tensor]:
        outs, norms = [], []
        for a, b in self._chunks():
            s, _ = self._scores(a, b)
            if normaliser == "sigmoid":
                p = self._sigmoid(s, a, b)
            else:
                lse = torch.logsumexp(s, -1, keepdim=True)
                norms.append(lse[..., 0])
                p = torch.exp(s - lse.masked_fill(torch.isneginf(lse), torch.inf))
            outs.append(torch.einsum("bgrqk,bgkd->bgrqd", p, self.v.to(self.wide)))
        out = torch.cat(outs, 3).flatten(2, 3)
        lse = torch.cat(norms, 3).flatten(2, 3) if norms else out[..., 0]
        return self.unfold(out), self.unfold(lse[..., None])[..., 0]

    def explicit_backward(
        self, d_out: Tensor, d_lse: Tensor | None, out: Tensor, lse: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        ratio = self.heads // self.k.shape[1]

        def shaped(x: Tensor) -> Tensor:
            return self.fold(x).reshape(x.shape[0], self.k.shape[1], ratio, -1, x.shape[3]).to(self.wide)

        d_out, out = shaped(d_out), shaped(out)
        norm = shaped(lse[..., None]) if lse.numel() else None
        change = None if d_lse is None else shaped(d_lse[..., None])
        keys, values = self.k.to(self.wide), self.v.to(self.wide)
        dq, dk, dv = [], torch.zeros_like(keys), torch.zeros_like(values)
        d_bias = None if self.bias is None else torch.zeros(*self.k.shape[:3], dtype=self.wide)
        for a, b in self._chunks():
            s, q = self._scores(a, b)
            do = d_out[:, :, :, a:b]
            dp = torch.einsum("bgrqd,bgkd->bgrqk", do, values)
            if norm is None:
                p = self._sigmoid(s, a, b)
                ds = p * (1 - p) * dp
            else:
                here = norm[:, :, :, a:b]
                p = torch.exp(s - here.masked_fill(torch.isneginf(here), torch.inf))
                delta = (do * out[:, :, :, a:b]).sum(-1, keepdim=True)
                ds = p * (dp - (delta if change is None else delta - change[:, :, :, a:b]))
            dv += torch.einsum("bgrqk,bgrqd->bgkd", p, do)
            dk += self.scale * torch.einsum("bgrqk,bgrqd->bgkd", ds, q)
            dq.append(self.scale * torch.einsum("bgrqk,bgkd->bgrqd", ds, keys))
            if d_bias is not None:
                on = self.group.bias_on
                if on is not None:
                    on = on[a:b] if on.shape[0] > 1 else on
                    ds = torch.where(on, ds, torch.zeros((), dtype=self.wide))
                d_bias += ds.sum((2, 3))
        gradient = None if d_bias is None else self.bias_gradient(d_bias)
        return self.unfold(torch.cat(dq, 3).flatten(2, 3)), self.shrink(dk), self.shrink(dv), gradient
