"""Cameras as the geometries need them: rays, pose vectors and projections, in float64 and differentiable.

``K [B, V, 3, 3]`` is in pixels. ``T_camera_world [B, V, 4, 4]``, in metres, maps world coordinates to the camera's
optical frame: x right, y down, z forward. Pixel x runs along the width and y along the height, and (0, 0) is the
corner of the image: the first pixel's centre is (0.5, 0.5). OpenCV and ROS's CameraInfo have that centre at (0, 0):
add 0.5 to their cx and cy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ros_attn.kernels.rope import patch_grid


def check_cameras(
    T_camera_world: Tensor, intrinsics: Tensor | None, patches: tuple[int, int], image_size: tuple[int, int] | None
) -> None:
    """ValueError where shapes or sizes are none of V cameras."""
    shape = tuple(T_camera_world.shape)
    if len(shape) != 4 or shape[2:] != (4, 4):
        raise ValueError(f"T_camera_world must be [B, V, 4, 4], not {list(shape)}")
    if intrinsics is not None and tuple(intrinsics.shape) != (*shape[:2], 3, 3):
        raise ValueError(
            f"intrinsics must be {[*shape[:2], 3, 3]}, one K for each T_camera_world, not {list(intrinsics.shape)}"
        )
    for name, size in (("patches", patches), ("image_size", image_size)):
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{name} must be two positive numbers, height before width, not {size}")


def inverse_3x3(matrix: Tensor) -> Tensor:
    """The inverse of ``[..., 3, 3]`` by cross products of its rows: no solver and, on a GPU, no waiting."""
    a, b, c = matrix.unbind(-2)
    columns = torch.stack((b.cross(c, -1), c.cross(a, -1), a.cross(b, -1)), -1)
    return columns / (a * columns[..., 0]).sum(-1)[..., None, None]


def inverse_affine(matrix: Tensor) -> Tensor:
    """The inverse of ``[[A, t], [0, 1]]``, ``[..., 4, 4]``, for any regular A."""
    inverse = inverse_3x3(matrix[..., :3, :3])
    shift = -(inverse @ matrix[..., :3, 3:])
    return torch.cat((torch.cat((inverse, shift), -1), matrix[..., 3:, :]), -2)


def ray_directions(
    intrinsics: Tensor, T_camera_world: Tensor, patches: tuple[int, int], image_size: tuple[int, int]
) -> Tensor:
    """``normalize(R^T K^-1 [x, y, 1])`` through the centre of each of (h, w) patches: world frame, ``[B, V*h*w, 3]``.

    image_size is (height, width) in the pixels of K. Tokens run in order [V, h, w].
    """
    height, width = image_size
    patch = torch.tensor([width / patches[1], height / patches[0]], dtype=torch.float64, device=T_camera_world.device)
    centre = (patch_grid(patches, T_camera_world.device)[0] + 0.5) * patch
    pixel = torch.cat((centre, torch.ones_like(centre[:, :1])), -1)
    to_world = T_camera_world[..., :3, :3].double().mT @ inverse_3x3(intrinsics.double())
    return torch.nn.functional.normalize(pixel @ to_world.mT, dim=-1).flatten(1, 2)


def pose_vectors(T_camera_world: Tensor) -> Tensor:
    """``[yaw, pitch, roll, t, -R^T t, R^T e_z]`` of ``T_camera_world = [R | t]``: ``[..., 12]`` in rad and metres.

    The angles are of the camera's orientation in the world, ``R^T = Rz(yaw) Ry(pitch) Rx(roll)``; -R^T t is the
    camera's position and R^T e_z its optical axis. Where the image's x axis is vertical, yaw and roll are not defined:
    0, and gradients are finite.
    """
    T = T_camera_world.double()
    R_world_camera, t = T[..., :3, :3].mT, T[..., :3, 3]
    x, y, z = R_world_camera.unbind(-1)
    flat = x[..., 0].square() + x[..., 1].square()
    regular = flat > 1e-24
    yaw = torch.atan2(x[..., 1], torch.where(regular, x[..., 0], 1.0))
    pitch = torch.atan2(-x[..., 2], torch.where(regular, flat, 1e-24).sqrt())
    roll = torch.atan2(y[..., 2], torch.where(regular, z[..., 2], 1.0))
    position = -(R_world_camera @ t[..., None])[..., 0]
    return torch.cat((torch.stack((yaw, pitch, roll), -1), t, position, z), -1)


def projections(intrinsics: Tensor | None, T_camera_world: Tensor, image_size: tuple[int, int] | None) -> Tensor:
    """``lift(K_norm) T_camera_world`` ``[B, V, 4, 4]``, which maps world coordinates to (x z, y z, z, 1).

    x and y are 0 at the image's centre and ±1/2 at its borders, z is metres. Without intrinsics: T_camera_world.
    """
    if intrinsics is None or image_size is None:
        return T_camera_world.double()
    height, width = image_size
    normalise = torch.tensor(
        [[1 / width, 0, -0.5], [0, 1 / height, -0.5], [0, 0, 1]], dtype=torch.float64, device=intrinsics.device
    )
    T = T_camera_world.double()
    return torch.cat((normalise @ intrinsics.double() @ T[..., :3, :], T[..., 3:, :]), -2)
