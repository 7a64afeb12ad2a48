"""Geo-RoPE: rotary embedding of a token's viewing ray and of its camera's pose."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ros_attn.kernels.cameras import check_cameras, pose_vectors, ray_directions
from ros_attn.kernels.rope import Rotary, slot_frequencies


@dataclass(frozen=True, eq=False)
class GeoRope(Rotary):
    """Half of the head turns with the ray d, the other half with the camera's pose vector e::

        d(y, x) = normalize(R^T K^-1 [x, y, 1])                                              in R^3
        e       = [yaw, pitch, roll, t, -R^T t, R^T e_z]                                     in R^12
        angle_m = scale base^(-m/n) d_(m mod 3), and e_(m mod 12) in the other half          n = D/4 slots a half

    A score depends on d_j - d_i and e_j - e_i, component by component. Parallel rays agree (1.000) whichever points
    they meet; rays from two cameras 0.3 m apart to one point agree by 0.557, 0.721, 0.971, 1.000 when it is 0.4, 1, 4,
    40 m away (mean cosine, D = 64): close by, q and k must learn the rest. Moving the world frame changes scores,
    unlike with ``Prope``.

    Shapes: ray_q ``[B|1, Lq, 3]``, pose_q ``[B|1, Lq, 12]``, ray_k and pose_k alike; head size a multiple of 4, at
    least 48 for every component of e to have a slot. Units: rays have length 1, e is in rad and metres, scale in rad
    per unit. An angle jumps by 2 pi when yaw or roll wraps round, and with it most scores.

    Raises ValueError where shapes do not fit.

    Source: PAIWorld (2606.18375, section "Geometric Rotary Position Embedding"). Deviates: the paper writes the pixel
    as [h + 0.5, w + 0.5, 1]; K needs x (along the width) first. It names neither frequencies nor the order of the
    angles; ours are 10 ... 1 rad per unit (with base 10000 and scale 1, the usual choice for counted positions, all
    rays of an image would agree) and ``R^T = Rz Ry Rx``.
    """

    ray_q: Tensor
    pose_q: Tensor
    ray_k: Tensor
    pose_k: Tensor
    base: float = 10.0
    scale: float = 10.0

    QUERY_FIELDS = ("ray_q", "pose_q")
    KEY_FIELDS = ("ray_k", "pose_k")
    HEAD_MULTIPLE = 4
    PARTS = 2

    def __post_init__(self) -> None:
        self._check_positions(ray_q=(3,), pose_q=(12,), ray_k=(3,), pose_k=(12,))

    @classmethod
    def from_cameras(
        cls,
        intrinsics: Tensor,
        T_camera_world: Tensor,
        patches: tuple[int, int],
        image_size: tuple[int, int],
        *,
        base: float = 10.0,
        scale: float = 10.0,
    ) -> GeoRope:
        """For attention among all patches of V views, tokens in order [V, h, w]; ``for_tokens`` takes others.

        Shapes: intrinsics K ``[B, V, 3, 3]`` in pixels, T_camera_world ``[B, V, 4, 4]`` in metres (conventions in
        ``cameras``), patches (h, w) of a view, image_size (height, width) in the pixels of K.
        """
        check_cameras(T_camera_world, intrinsics, patches, image_size)
        ray = ray_directions(intrinsics, T_camera_world, patches, image_size)
        pose = pose_vectors(T_camera_world).repeat_interleave(patches[0] * patches[1], 1)
        return cls(ray, pose, ray, pose, base, scale)

    def _angles(self, slots: int, *positions: Tensor) -> Tensor:
        batch = max(position.shape[0] for position in positions)
        slot = torch.arange(slots, device=positions[0].device)
        halves = [each.double().expand(batch, -1, -1)[..., slot % each.shape[2]] for each in positions]
        return torch.stack(halves, 2) * slot_frequencies(slots, self.base, self.scale, slot.device)
