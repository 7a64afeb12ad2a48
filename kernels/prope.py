"""PRoPE: cameras as relative projections between the tokens of their images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ros_attn.kernels.cameras import check_cameras, inverse_affine, projections
from ros_attn.kernels.geometry import Geometry, compute_dtype
from ros_attn.kernels.rope import axis_angles, patch_grid, rotate, rotation_table


@dataclass(frozen=True, eq=False)
class Prope(Geometry):
    """Half of the head, in 4-vectors, goes through the camera's projection P, the rest turns with the patch::

        P = lift(K_norm) T_camera_world                                        [4, 4], world to image
        q' = P_i^T q      k' = P_j^-1 k      v' = P_j^-1 v      out = P_i sum_j a_ij v_j'
        so that  <q', k'> = q^T P_i P_j^-1 k   and   out = sum_j a_ij P_i P_j^-1 v

    It depends on the relative projection P_i P_j^-1 alone: no transform of the world frame changes a score or an
    output. The second half of the head is D/4 channels of ``Rope`` on the patch's column x and D/4 on its row y; values
    turn there too, and outputs turn back. With ``lift(K) = I`` (``Prope.se3``) this is GTA.

    Shapes: projection_q ``[B|1, Lq, 4, 4]`` with last row (0, 0, 0, 1), patch_q ``[B|1, Lq, 2]`` as (x, y) in patches,
    projection_k and patch_k alike; head sizes of q, k and of v multiples of 8. 4-vector b is channels 4b to 4b + 3.
    Units: metres; P_i P_j^-1 weighs channels by the distance between cameras, so divide the translations by a typical
    distance where that is far from a metre. The world frame cancels to rounding only: give cameras relative to one
    nearby, ``T_camera_world @ T_world_reference``, the same reference for all queries and keys that meet. Measured at
    D = 64, scores of deviation 1, cameras 0, 10, 100, 1000 m from the origin: largest error 1e-6, 2e-6, 2e-5, 2e-4 in
    float32 and 0.02, 0.06, 0.5, 5 in bfloat16. A token without a camera may take the identity as its P; its scores
    then depend on the world frame.

    Raises ValueError where shapes do not fit.

    Source: "Cameras as relative positional encoding" (2507.10496), named in PAIWorld (2606.18375) as a predecessor;
    GTA (2310.10375). Deviates by permutation and sign of channels: neighbours are a pair and turn by +angle.
    """

    projection_q: Tensor
    patch_q: Tensor
    projection_k: Tensor
    patch_k: Tensor
    base: float = 100.0

    QUERY_FIELDS = ("projection_q", "patch_q")
    KEY_FIELDS = ("projection_k", "patch_k")
    HEAD_MULTIPLE = 8

    def __post_init__(self) -> None:
        self._check_positions(projection_q=(4, 4), patch_q=(2,), projection_k=(4, 4), patch_k=(2,))

    @classmethod
    def from_cameras(
        cls,
        intrinsics: Tensor,
        T_camera_world: Tensor,
        patches: tuple[int, int],
        image_size: tuple[int, int],
        *,
        base: float = 100.0,
    ) -> Prope:
        """For attention among all patches of V views, tokens in order [V, h, w]; ``for_tokens`` takes others.

        Shapes: intrinsics K ``[B, V, 3, 3]`` in pixels, T_camera_world ``[B, V, 4, 4]`` in metres (conventions in
        ``cameras``), patches (h, w) of a view, image_size (height, width) in the pixels of K. K is normalised to an
        image of height and width 1 with its centre at (0, 0).
        """
        check_cameras(T_camera_world, intrinsics, patches, image_size)
        return cls._of_views(projections(intrinsics, T_camera_world, image_size), patches, base)

    @classmethod
    def se3(cls, T_camera_world: Tensor, patches: tuple[int, int], *, base: float = 100.0) -> Prope:
        """GTA: the relative pose without intrinsics, P = T_camera_world ``[B, V, 4, 4]``; tokens in order [V, h, w]."""
        check_cameras(T_camera_world, None, patches, None)
        return cls._of_views(projections(None, T_camera_world, None), patches, base)

    @classmethod
    def _of_views(cls, projection: Tensor, patches: tuple[int, int], base: float) -> Prope:
        patch = patch_grid(patches, projection.device).repeat(1, projection.shape[1], 1)
        projection = projection.repeat_interleave(patches[0] * patches[1], 1)
        return cls(projection, patch, projection, patch, base)

    def rotate_q(self, q: Tensor) -> Tensor:
        # Of row vectors, as in the einsum below: x P is P^T x.
        return self._transform("rotate_q", q, self.projection_q.to(compute_dtype(q)), self.patch_q)

    def rotate_k(self, k: Tensor) -> Tensor:
        return self._transform("rotate_k", k, self._inverse(k), self.patch_k)

    def rotate_v(self, v: Tensor) -> Tensor:
        return self._transform("rotate_v", v, self._inverse(v), self.patch_k)

    def restore(self, out: Tensor) -> Tensor:
        matrix = self.projection_q.to(compute_dtype(out)).mT
        return self._transform("restore", out, matrix, self.patch_q, backwards=True)

    def _inverse(self, x: Tensor) -> Tensor:
        """P_k^-1 for row vectors, in the dtype that x is transformed in."""
        dtype, projection = compute_dtype(x), self.projection_k
        return self._keep(("inverse", dtype), (projection,), lambda: inverse_affine(projection.double()).to(dtype).mT)

    def _transform(self, call: str, x: Tensor, matrix: Tensor, patch: Tensor, backwards: bool = False) -> Tensor:
        """x ``[B, L, H, D]``: rows of 4 times matrix ``[B|1, L, 4, 4]``, then the rotation by ``patch [B|1, L, 2]``."""
        self._check(call, x, matrix, patch)
        size, dtype = x.shape[3] // 2, compute_dtype(x)

        def table() -> Tensor:
            return rotation_table(axis_angles(patch, size // 4, self.base), dtype)

        projected, turned = x.to(dtype).split(size, -1)
        matrix = matrix.expand(x.shape[0], -1, -1, -1)
        # Autocast would take the product of float32 matrices to half precision.
        with torch.autocast(x.device.type, enabled=False):
            projected = torch.einsum("blhnj,blji->blhni", projected.unflatten(-1, (-1, 4)), matrix)
        turned = rotate(turned, self._keep((size, dtype), (patch,), table), backwards=backwards)
        return torch.cat((projected.flatten(-2), turned), -1).to(x.dtype)
