"""Geometries against complex numbers, dense matrices and the invariances they are there for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from ros_attn.kernels.cameras import inverse_affine, pose_vectors, projections, ray_directions
from ros_attn.kernels.geo_rope import GeoRope
from ros_attn.kernels.geometry import Geometry
from ros_attn.kernels.prope import Prope
from ros_attn.kernels.rope import Rope, Rope2d, patch_grid

B, V, PATCHES, IMAGE = 2, 3, (2, 3), (48, 96)
"""Patches and image as (height, width): neither square nor of one aspect ratio, so that a swap shows."""
N = V * PATCHES[0] * PATCHES[1]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64).to(dtype)


def double(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def rigid(*batch: int, seed: int, reach: float = 1.0) -> Tensor:
    """Random rigid transforms [*batch, 4, 4]."""
    count = math.prod(batch)
    T = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T[:, :3, :3] = torch.from_numpy(Rotation.random(count, rng=np.random.default_rng(seed)).as_matrix())
    T[:, :3, 3] = reach * randn(count, 3, seed=seed)
    return T.reshape(*batch, 4, 4)


def cameras(seed: int = 3) -> tuple[Tensor, Tensor]:
    """K [B, V, 3, 3] with unequal focal lengths, skew and an off-centre principal point, and T_camera_world."""
    K = double([[90, 0.7, 44], [0, 70, 27], [0, 0, 1]]).repeat(B, V, 1, 1)
    K[..., 0, 0] += 10 * torch.rand(B, V, generator=rng(seed), dtype=torch.float64)
    return K, rigid(B, V, seed=seed)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    p = torch.softmax(torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5, -1)
    return torch.einsum("bhij,bjhd->bihd", p, v)


def scores(geometry: Geometry, q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bihd,bjhd->bhij", geometry.rotate_q(q), geometry.rotate_k(k))


def attention(geometry: Geometry, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    turned = geometry.rotate_q(q), geometry.rotate_k(k), geometry.rotate_v(v)
    return geometry.restore(softmax_attention(*turned))


def prope(K: Tensor, T: Tensor) -> Geometry:
    return Prope.from_cameras(K, T, PATCHES, IMAGE)


def se3(K: Tensor, T: Tensor) -> Geometry:
    return Prope.se3(T, PATCHES)


def geo_rope(K: Tensor, T: Tensor) -> Geometry:
    return GeoRope.from_cameras(K, T, PATCHES, IMAGE)


def every_geometry() -> dict[str, Geometry]:
    K, T = cameras()
    frame = torch.arange(N)[None] // 6
    position = patch_grid(PATCHES).repeat(1, V, 1)
    return {
        "rope": Rope(frame, frame),
        "rope2d": Rope2d(position, position),
        "geo_rope": geo_rope(K, T),
        "prope": prope(K, T),
        "se3": se3(K, T),
    }


# Rotary ---------------------------------------------------------------------------------------------------------------


def turned_by_hand(x: Tensor, angles: Tensor) -> Tensor:
    """Channels [..., 2n], even ones real and odd ones imaginary, times exp(i angles [..., n])."""
    z = torch.complex(x[..., 0::2], x[..., 1::2]) * torch.polar(torch.ones_like(angles), angles)
    return torch.stack((z.real, z.imag), -1).flatten(-2)


def test_rope_is_a_complex_multiplication() -> None:
    x, position = randn(2, 5, 3, 12), torch.tensor([[0, 1, 7, 100, 3], [5, 4, 3, 2, 1]])
    angles = torch.stack([position.double() * 10000.0 ** (-m / 6) for m in range(6)], -1)[:, :, None]
    got = Rope(position, position + 1).rotate_q(x)
    torch.testing.assert_close(got, turned_by_hand(x, angles.expand(2, 5, 3, 6)), rtol=0, atol=1e-12)
    assert torch.equal(Rope(position + 9, position).rotate_k(x), got)
    assert Rope(position, position).rotate_v(x) is x and Rope(position, position).restore(x) is x


def test_rope2d_turns_the_first_half_with_x_and_the_second_with_y() -> None:
    x, position = randn(1, 6, 2, 16), patch_grid((2, 3))
    assert position.tolist() == [[[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1]]]
    frequencies = double([100 ** (-m / 4) for m in range(4)])
    halves = [
        turned_by_hand(
            x[..., 8 * axis : 8 * axis + 8], (position[:, :, None, axis, None] * frequencies).expand(1, 6, 2, 4)
        )
        for axis in (0, 1)
    ]
    got = Rope2d(position, position).rotate_k(x)
    torch.testing.assert_close(got, torch.cat(halves, -1), rtol=0, atol=1e-12)


def test_geo_rope_expands_ray_and_pose_cyclically() -> None:
    """D = 64: 16 slots a half; slot m takes component m mod 3 of the ray, m mod 12 of the pose."""
    x, ray, pose = randn(2, 5, 3, 64), randn(2, 5, 3, seed=1), randn(1, 5, 12, seed=2)
    f = [10 * 10 ** (-m / 16) for m in range(16)]
    halves = [
        torch.stack([position[..., m % position.shape[2]] * f[m] for m in range(16)], -1)[:, :, None].expand(
            2, 5, 3, 16
        )
        for position in (ray, pose)
    ]
    expected = torch.cat([turned_by_hand(x[..., :32], halves[0]), turned_by_hand(x[..., 32:], halves[1])], -1)
    got = GeoRope(ray, pose, ray, pose).rotate_q(x)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shift", [1, 12345, 1_000_000])
def test_rope_knows_only_the_difference(shift: int) -> None:
    """Also in float32 and far out, where float32 angles would be off by 0.06 rad."""
    q, k = randn(1, 63, 2, 64, dtype=torch.float32) / 8, randn(1, 100, 2, 64, seed=1, dtype=torch.float32) / 8
    at_q, at_k = torch.arange(63)[None] * 3, torch.arange(100)[None]
    here, there = scores(Rope(at_q, at_k), q, k), scores(Rope(at_q + shift, at_k + shift), q, k)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)
    assert (scores(Rope(at_q + shift, at_k), q, k) - here).abs().max() > 0.1


def test_rope2d_knows_only_the_difference() -> None:
    q, k = randn(2, 12, 2, 32, dtype=torch.float32) / 6, randn(2, 12, 2, 32, seed=1, dtype=torch.float32) / 6
    position = patch_grid((3, 4))
    here = scores(Rope2d(position, position), q, k)
    shift = torch.tensor([37, -5])
    torch.testing.assert_close(scores(Rope2d(position + shift, position + shift), q, k), here, rtol=0, atol=1e-5)
    # A shift along x of the keys moves the scores of the x half of the head and no others.
    q[..., :16] = 0
    moved = scores(Rope2d(position, position + torch.tensor([3, 0])), q, k)
    torch.testing.assert_close(moved, scores(Rope2d(position, position), q, k), rtol=0, atol=1e-6)
    assert (scores(Rope2d(position, position + torch.tensor([0, 3])), q, k) - moved).abs().max() > 0.1


# Cameras --------------------------------------------------------------------------------------------------------------


def test_rays_pass_through_the_centres_of_their_patches() -> None:
    """A point two metres along each ray, projected by K and T, lies at the patch's centre; order [V, h, w]."""
    K, T = cameras()
    ray = ray_directions(K, T, PATCHES, IMAGE)
    torch.testing.assert_close(ray.norm(dim=-1), torch.ones(B, N, dtype=torch.float64))
    for b in range(B):
        for token in range(N):
            view, patch = divmod(token, 6)
            row, column = divmod(patch, 3)
            R, t = T[b, view, :3, :3], T[b, view, :3, 3]
            in_camera = R @ (2 * ray[b, token] - R.T @ t) + t
            assert in_camera[2] > 0
            pixel = (K[b, view] @ in_camera)[:2] / in_camera[2]
            torch.testing.assert_close(pixel, double([32 * column + 16, 24 * row + 12]))


def test_geo_rope_gives_every_token_the_pose_of_its_view() -> None:
    K, T = cameras()
    geometry = GeoRope.from_cameras(K, T, PATCHES, IMAGE)
    assert geometry.pose_q is geometry.pose_k and geometry.ray_q is geometry.ray_k
    assert torch.equal(geometry.ray_q, ray_directions(K, T, PATCHES, IMAGE))
    for token in range(N):
        assert torch.equal(geometry.pose_q[:, token], pose_vectors(T[:, token // 6]))


def test_pose_vector_is_orientation_translation_position_axis() -> None:
    T = rigid(40, seed=8)
    T_world_camera = torch.linalg.inv(T)
    e = pose_vectors(T)
    # Upper case: intrinsic axes z, y, x, which is Rz Ry Rx.
    angles = Rotation.from_matrix(T_world_camera[:, :3, :3].numpy()).as_euler("ZYX")
    torch.testing.assert_close(e[:, :3], torch.from_numpy(angles.copy()))
    torch.testing.assert_close(e[:, 3:6], T[:, :3, 3])
    torch.testing.assert_close(e[:, 6:9], T_world_camera[:, :3, 3])
    torch.testing.assert_close(e[:, 9:], T_world_camera[:, :3, 2])


def test_pose_vector_where_yaw_and_roll_are_undefined() -> None:
    """A camera on its side: angles do not depend on the signs of zeros, and gradients are finite."""
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3] = double([[-0.0, 0, 1], [0, 1, 0], [-1, 0, -0.0]])
    T.requires_grad_()
    e = pose_vectors(T)
    torch.testing.assert_close(e[:3].detach(), double([0, -math.pi / 2, 0]))
    e.sum().backward()
    assert T.grad is not None and bool(T.grad.isfinite().all())


def test_projection_maps_the_image_to_a_unit_square() -> None:
    K, T = cameras()
    P = projections(K, T, IMAGE)
    pixel = double([5, 41, 1])
    in_camera = 3.0 * torch.linalg.inv(K) @ pixel
    world = torch.linalg.inv(T) @ torch.cat((in_camera, torch.ones(B, V, 1, dtype=torch.float64)), -1)[..., None]
    expected = double([3 * (5 / 96 - 0.5), 3 * (41 / 48 - 0.5), 3, 1])
    torch.testing.assert_close((P @ world)[..., 0], expected.expand(B, V, 4))


def test_inverse_of_any_affine_matrix() -> None:
    K, T = cameras()
    for P in (projections(K, T, IMAGE), T, T @ torch.diag(double([2, 3, 0.1, 1])) @ T):
        torch.testing.assert_close(inverse_affine(P), torch.linalg.inv(P), rtol=1e-11, atol=1e-11)


# PRoPE and GTA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lifted", [True, False])
def test_prope_by_dense_matrices(lifted: bool) -> None:
    """Scores ``q^T D_i D_j^-1 k`` and outputs ``sum_j a_ij D_i D_j^-1 v`` with D [16, 16] of every token."""
    K, T = cameras()
    size, height, width = 16, *IMAGE
    q, k, v = (randn(B, N, 2, size, seed=s) for s in (1, 2, 3))
    D = torch.zeros(B, N, size, size, dtype=torch.float64)
    for b in range(B):
        for token in range(N):
            view, patch = divmod(token, 6)
            lift = torch.eye(4, dtype=torch.float64)
            if lifted:
                lift[0] = double([float(K[b, view, 0, 0]) / width, 0.7 / width, 44 / width - 0.5, 0])
                lift[1] = double([0, 70 / height, 27 / height - 0.5, 0])
            P = lift @ T[b, view]
            D[b, token, :4, :4] = D[b, token, 4:8, 4:8] = P
            for start, position in ((8, patch % 3), (12, patch // 3)):
                for m in range(2):
                    a = -position * 10.0**-m  # base 100, two slots; the transform of q is D^T
                    at = [start + 2 * m, start + 2 * m + 1]
                    turn = double([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
                    D[b, token, at[0], at], D[b, token, at[1], at] = turn[0], turn[1]
    relative = torch.einsum("biac,bjce->bijae", D, torch.linalg.inv(D))
    s = torch.einsum("biha,bijae,bjhe->bhij", q, relative, k)
    geometry = prope(K, T) if lifted else se3(K, T)
    torch.testing.assert_close(scores(geometry, q, k), s, rtol=0, atol=1e-10)
    out = torch.einsum("bhij,bijae,bjhe->biha", torch.softmax(s / 4, -1), relative, v)
    torch.testing.assert_close(attention(geometry, q, k, v), out, rtol=0, atol=1e-10)


@pytest.mark.parametrize("build", [prope, se3])
def test_world_frame_does_not_matter_to_prope(build: Callable[[Tensor, Tensor], Geometry]) -> None:
    K, T = cameras()
    q, k, v = (randn(B, N, 2, 32, seed=s) for s in (1, 2, 3))
    moved = T @ rigid(seed=77, reach=2.0)
    torch.testing.assert_close(scores(build(K, moved), q, k), scores(build(K, T), q, k), rtol=0, atol=1e-9)
    torch.testing.assert_close(attention(build(K, moved), q, k, v), attention(build(K, T), q, k, v), rtol=0, atol=1e-9)


def test_world_frame_matters_to_geo_rope() -> None:
    """By design of the paper; so does the frame in which PRoPE's cameras are moved one by one."""
    K, T = cameras()
    q, k = randn(B, N, 2, 32, seed=1), randn(B, N, 2, 32, seed=2)
    moved = T @ rigid(seed=77)
    assert (scores(geo_rope(K, moved), q, k) - scores(geo_rope(K, T), q, k)).abs().mean() > 1
    each = T @ rigid(B, V, seed=78)
    assert (scores(prope(K, each), q, k) - scores(prope(K, T), q, k)).abs().mean() > 1


def test_prope_of_equal_cameras_is_plain_attention() -> None:
    """One patch a view: no position is left, and values come back unchanged."""
    K, T = cameras()
    q, k, v = (randn(B, V, 2, 24, seed=s) for s in (1, 2, 3))
    geometry = Prope.from_cameras(K[:, :1].expand(-1, V, -1, -1), T[:, :1].expand(-1, V, -1, -1), (1, 1), IMAGE)
    torch.testing.assert_close(attention(geometry, q, k, v), softmax_attention(q, k, v), rtol=0, atol=1e-12)
    torch.testing.assert_close(geometry.restore(geometry.rotate_v(v)), v, rtol=0, atol=1e-12)
    assert (geometry.rotate_v(v) - v).abs().max() > 0.5


def test_values_of_another_head_size() -> None:
    K, T = cameras()
    q, k, v = randn(B, N, 4, 32), randn(B, N, 4, 32, seed=1), randn(B, N, 4, 8, seed=2)
    geometry = prope(K, T)
    assert attention(geometry, q, k, v).shape == (B, N, 4, 8)
    # A 4-vector goes through its camera whatever the head size.
    wide = torch.cat((v[..., :4], k[..., 4:]), -1)
    torch.testing.assert_close(geometry.rotate_v(v)[..., :4], geometry.rotate_v(wide)[..., :4], rtol=0, atol=0)


# Geo-RoPE's ray similarity --------------------------------------------------------------------------------------------


def ray_score(d_q: list[float], d_k: list[float], size: int = 64) -> float:
    """Score of equal features that lie in the ray half alone, relative to that of equal rays."""
    rays = [torch.nn.functional.normalize(double(d), dim=0)[None, None] for d in (d_q, d_k)]
    none = torch.zeros(1, 1, 12, dtype=torch.float64)
    x = torch.zeros(1, 1, 1, size, dtype=torch.float64)
    x[..., : size // 2] = 1
    return float(scores(GeoRope(rays[0], none, rays[1], none), x, x)) / (size // 2)


def test_geo_rope_rewards_parallel_rays_and_not_shared_points() -> None:
    """Two parallel cameras 0.3 m apart, a point straight ahead of the first, at 0.4, 1, 4 and 40 m."""
    got = [ray_score([0, 0, z], [-0.3, 0, z]) for z in (0.4, 1.0, 4.0, 40.0)]
    assert got == pytest.approx([0.557, 0.721, 0.971, 1.000], abs=5e-4)
    assert ray_score([0.3, -0.1, 1], [0.3, -0.1, 1]) == pytest.approx(1, abs=1e-12)


# All of them ----------------------------------------------------------------------------------------------------------

NAMES = ["rope", "rope2d", "geo_rope", "prope", "se3"]


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name: str) -> None:
    geometry = every_geometry()[name]
    q, k, v = (randn(B, N, 1, 8, seed=s).requires_grad_() for s in (1, 2, 3))
    assert torch.autograd.gradcheck(
        lambda q, k, v: attention(geometry, q, k, v), (q, k, v), fast_mode=True, check_undefined_grad=False
    )


@pytest.mark.parametrize("build", [prope, se3, geo_rope])
def test_gradients_to_cameras(build: Callable[[Tensor, Tensor], Geometry]) -> None:
    """To every number of K and T, over two backward passes through one geometry."""
    K, T = cameras()
    q, k, v = (randn(B, N, 1, 64 if build is geo_rope else 8, seed=s) for s in (1, 2, 3))

    def out(top: Tensor, K: Tensor) -> Tensor:
        return attention(build(K, torch.cat((top, T[..., 3:, :]), -2)), q, k, v)

    inputs = T[..., :3, :].clone().requires_grad_(), K.clone().requires_grad_()
    assert torch.autograd.gradcheck(out, inputs, fast_mode=True, atol=1e-4)
    T = T.clone().requires_grad_()
    geometry = build(K, T)
    first, second = (torch.autograd.grad(attention(geometry, q, k, v).sum(), T, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second) and first.abs().max() > 0.1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_is_rounded_once(name: str, dtype: torch.dtype) -> None:
    """Against float64 of the same input: float32's error and half a unit in the last place."""
    geometry = every_geometry()[name]
    x = randn(B, N, 2, 16, dtype=dtype)
    for call in (geometry.rotate_q, geometry.rotate_k, geometry.rotate_v, geometry.restore):
        got, exact = call(x), call(x.double())
        assert got.dtype == dtype and exact.dtype == torch.float64
        half_unit = {torch.float32: 0.0, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}[dtype]
        torch.testing.assert_close(got.double(), exact, rtol=half_unit * 1.01, atol=2e-6)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_changes_nothing(name: str) -> None:
    geometry = every_geometry()[name]
    x = randn(B, N, 2, 16, dtype=torch.float32)
    calls = (geometry.rotate_q, geometry.rotate_k, geometry.rotate_v, geometry.restore)
    plain = [call(x) for call in calls]
    with torch.autocast("cpu", torch.bfloat16):
        again = [call(x) for call in (calls)]
    for a, b in zip(plain, again, strict=True):
        assert torch.equal(a, b) and b.dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
def test_strides_do_not_matter(name: str) -> None:
    geometry = every_geometry()[name]
    x = randn(B, N, 5, 16)
    by_head = x.transpose(1, 2).contiguous().transpose(1, 2)
    odd_stride = torch.cat((x, x[..., :1]), -1)[..., :16]
    odd_offset = torch.cat((x[..., :1], x, x[..., :1]), -1)[..., 1:17]
    every_other = torch.stack((x, x + 1), -1)[..., 0]
    single = x[:1].expand(B, -1, -1, -1)
    for call in (geometry.rotate_q, geometry.rotate_k, geometry.rotate_v, geometry.restore):
        for same in (by_head, odd_stride, odd_offset, every_other):
            assert torch.equal(call(same), call(x)) and not same.is_contiguous()
        torch.testing.assert_close(call(single), call(x[:1].repeat(B, 1, 1, 1)), rtol=0, atol=0)
        if name not in ("rope", "rope2d") or call in (geometry.rotate_q, geometry.rotate_k):
            assert call(x[:, :, :1]).shape == (B, N, 1, 16)


@pytest.mark.parametrize("name", NAMES)
def test_for_tokens(name: str) -> None:
    """Keys that are rotated as they arrive are the keys rotated at once; a permutation commutes."""
    geometry = every_geometry()[name]
    q, k, v = (randn(B, N, 2, 16, seed=s) for s in (1, 2, 3))
    whole = geometry.rotate_k(k)
    for part in (slice(0, 7), slice(7, 8), slice(8, N)):
        new = geometry.for_tokens(slice(None), keys=part)
        assert torch.equal(new.rotate_k(k[:, part]), whole[:, part])
        assert torch.equal(new.rotate_q(q), geometry.rotate_q(q))
    order = torch.randperm(N, generator=rng(9))
    expected = attention(geometry, q, k, v)
    got = attention(geometry.for_tokens(order), *(x[:, order] for x in (q, k, v)))
    torch.testing.assert_close(got, expected[:, order], rtol=0, atol=1e-12)
    mask = torch.arange(N) % 4 == 0
    cross = geometry.for_tokens(mask, keys=order[:11])
    got = attention(cross, q[:, mask], k[:, order[:11]], v[:, order[:11]])
    plain = softmax_attention(
        geometry.rotate_q(q)[:, mask], *(x[:, order[:11]] for x in (geometry.rotate_k(k), geometry.rotate_v(v)))
    )
    torch.testing.assert_close(got, cross.restore(plain), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="give keys= as well"):
        cross.for_tokens(slice(0, 2))


@pytest.mark.parametrize("name", ["rope", "prope"])
def test_compiles_without_graph_breaks(name: str) -> None:
    """Tables built inside the graph, after kept ones exist; forward and backward."""
    geometry = every_geometry()[name]
    q, k, v = (randn(B, N, 2, 16, seed=s, dtype=torch.float32).requires_grad_() for s in (1, 2, 3))
    plain = attention(geometry, q, k, v)
    plain_grads = torch.autograd.grad(plain.square().sum(), (q, k, v))
    torch.compiler.reset()
    compiled = torch.compile(attention, fullgraph=True, backend="aot_eager")(geometry, q, k, v)
    torch.testing.assert_close(compiled, plain, rtol=1e-5, atol=1e-5)
    grads = torch.autograd.grad(compiled.square().sum(), (q, k, v))
    for got, expected in zip(grads, plain_grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [prope, se3, geo_rope])
def test_construction_compiles(build: Callable[[Tensor, Tensor], Geometry]) -> None:
    K, T = cameras()
    q = randn(B, N, 1, 16)
    torch.compiler.reset()

    def step(K: Tensor, T: Tensor, q: Tensor) -> Tensor:
        return attention(build(K, T).for_tokens(slice(1, None), keys=slice(None)), q[:, 1:], q, q)

    torch.testing.assert_close(torch.compile(step, fullgraph=True, backend="eager")(K, T, q), step(K, T, q))


# Kept tables ----------------------------------------------------------------------------------------------------------


def test_positions_may_change_in_place() -> None:
    """As the frames of a ring buffer do."""
    position, x = torch.arange(5)[None].clone(), randn(1, 5, 1, 8)
    geometry = Rope(position, position)
    before = geometry.rotate_k(x)
    position += 3
    assert torch.equal(geometry.rotate_k(x), Rope(position, position).rotate_k(x))
    assert not torch.equal(geometry.rotate_k(x), before)
    T = rigid(B, V, seed=4)
    projected = Prope.se3(T, (1, 1))
    x = randn(B, V, 1, 8)
    projected.rotate_k(x)
    projected.projection_k.copy_(rigid(B, V, seed=5))
    assert torch.equal(projected.rotate_k(x), Prope.se3(rigid(B, V, seed=5), (1, 1)).rotate_k(x))


@pytest.mark.parametrize("name", NAMES)
def test_used_in_inference_and_then_in_training(name: str) -> None:
    geometry = every_geometry()[name]
    x = randn(B, N, 1, 16)
    with torch.inference_mode():
        expected = attention(geometry, x, x, x)
        within = every_geometry()[name]
        assert torch.equal(attention(within, x, x, x), expected)
    x.requires_grad_()
    attention(geometry, x, x, x).sum().backward()
    assert x.grad is not None and bool(x.grad.isfinite().all())


def test_tables_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    original = Rope._angles
    monkeypatch.setattr(Rope, "_angles", lambda self, *args: built.append(args) or original(self, *args))
    position = torch.arange(5)[None]
    geometry, x = Rope(position, position), randn(1, 5, 1, 8)
    for _ in range(3):
        geometry.rotate_q(x)
        geometry.rotate_k(x)
    assert len(built) == 1
    geometry.rotate_k(x.float())
    geometry.rotate_k(x[..., :4])
    assert len(built) == 3
    few = geometry.for_tokens(slice(1, 4))
    assert few.position_q is few.position_k


# Errors ---------------------------------------------------------------------------------------------------------------


def test_errors_say_what_and_where() -> None:
    K, T = cameras()
    line, grid = torch.arange(5)[None], patch_grid((1, 5))
    x = randn(2, 5, 1, 8)
    geometry = prope(K, T)
    bad: list[tuple[str, Callable[[], object]]] = [
        (r"Rope.position_k must be \[B or 1, L\], not \[5\]", lambda: Rope(line, line[0])),
        (r"Rope2d.position_q must be \[B or 1, L, 2\], not \[1, 5\]", lambda: Rope2d(line, grid)),
        ("Rope.rotate_q was given 4 tokens but positions of 5", lambda: Rope(line, line).rotate_q(x[:, :4])),
        ("Rope.rotate_k was given a batch of 2 but positions of 3", lambda: Rope(line, line.repeat(3, 1)).rotate_k(x)),
        ("a multiple of 2, not 7", lambda: Rope(line, line).rotate_q(x[..., :7])),
        ("a multiple of 4, not 6", lambda: Rope2d(grid, grid).rotate_q(x[..., :6])),
        ("Prope.rotate_v needs a head size that is a multiple of 8", lambda: geometry.rotate_v(randn(B, N, 1, 12))),
        (r"takes a floating \[B, L, H, D\], not torch.int64 \[1, 5\]", lambda: Rope(line, line).rotate_q(line)),
        (r"takes a floating \[B, L, H, D\]", lambda: geometry.restore(x[0])),
        (r"intrinsics must be \[2, 3, 3, 3\]", lambda: Prope.from_cameras(K[:1], T, PATCHES, IMAGE)),
        (r"T_camera_world must be \[B, V, 4, 4\], not \[2, 4, 4\]", lambda: Prope.se3(T[:, 0], PATCHES)),
        ("patches must be two positive numbers", lambda: GeoRope.from_cameras(K, T, (0, 3), IMAGE)),
        ("1 in patch_q: one position a token", lambda: replace(geometry, patch_q=torch.zeros(1, 1, 2))),
    ]
    for sentence, call in bad:
        with pytest.raises(ValueError, match=sentence) as error:
            call()
        assert "\n" not in str(error.value)
