"""The README's strip: a climber on hollow stairs at moments of one climb, with the attention of its legs over depth.

python -m tests.bench.stairs_picture [--checkpoint stairs_go2] [--slope 30] [--seed 0] [--out docs/stairs.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from ros_attn.commands.play import ATTENTION, PICTURE_HZ, Seen
from ros_attn.commands.play_video import with_attention
from ros_attn.hosts.sim_policy import policy_loop
from ros_attn.hosts.sim_rollout import Rollout
from ros_attn.hosts.sim_terrain import terrain
from ros_attn.sim.chase_camera import ChaseCamera
from ros_attn.sim.go2_like import GO2_LIKE
from ros_attn.sim.legged_world import PHYSICS_HZ
from ros_attn.sim.street_rendering import choose_backend
from ros_attn.values import Array

SIZE = (640, 480)
LONGEST_S = 30.0
SHARES = (0.25, 0.5, 0.8)
"""Of the way from the start to the landing, where the strip's pictures are."""


def climb(checkpoint: str, slope_deg: float, seed: int) -> list[Array]:
    """Pictures [480, 640, 3] rgb at ``SHARES`` of one climb. Raises SystemExit where the robot does not get so far."""
    seen, ground = Seen(), terrain(f"hollow:{slope_deg:g}", seed)
    # Before there is any GL: Mesa's LLVM and that of Triton, which a policy may load, only bear this order.
    loop = policy_loop(
        checkpoint, GO2_LIKE, ground, lambda t_s: (0.5, 0.0, 0.0), seed=seed, attention_hz=PICTURE_HZ, tamper=seen,
        warn=print,
    )  # fmt: skip
    backend, reason = choose_backend(None)
    if backend == "rays":
        raise SystemExit(f"pictures need EGL or OSMesa, but {reason}")
    assert ground.landing is not None
    rollout, found = Rollout(loop), []
    camera = ChaseCamera(GO2_LIKE, ground, *SIZE, backend)
    for number in range(round(LONGEST_S * PHYSICS_HZ)):
        rollout.step()
        if number % (PHYSICS_HZ // PICTURE_HZ) or ATTENTION not in seen.images:
            continue
        made = camera.picture(loop.robot.world.qpos[0], 1 / PICTURE_HZ)
        if loop.robot.world.qpos[0, 0] >= SHARES[len(found)] * ground.landing[0]:
            found.append(with_attention(made, seen.images[ATTENTION].data))
        if len(found) == len(SHARES):
            camera.close()
            return found
    raise SystemExit(f"the robot came to {len(found)} of {len(SHARES)} places; try another --seed or a lower --slope")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="stairs_go2")
    parser.add_argument("--slope", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("docs/stairs.png"))
    asked = parser.parse_args()
    strip = np.hstack(climb(asked.checkpoint, asked.slope, asked.seed))
    cv2.imwrite(str(asked.out), strip[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
