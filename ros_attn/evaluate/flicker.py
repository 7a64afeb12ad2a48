"""Flicker: what changes between consecutive fused frames though neither source changed there."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ros_attn.errors import RosAttnError
from ros_attn.evaluate.grey import grey_frame

_ROUNDING = 1.0


def flicker(frames: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]) -> dict[str, float]:
    """Temporal metrics of consecutive (infrared, visible, fused) grey frames, all ``[H, W]``, grey levels
    0..255.

    With ``d`` the difference of a pixel from the frame before, and means over all pixels and all pairs of
    frames:

    - ``flicker = mean(max(|d_F| - max(|d_ir|, |d_vi|) - 1, 0))`` [grey levels]. On a moving robot every pixel
      changes, so each is held against what its own sources did: a fixed weighted mean of both sources, their
      pixelwise maximum or minimum, and a copy of one all have exactly 0, whatever the motion. Weights that
      jump, a gain that is adjusted frame by frame and details moved elsewhere do not. 1 grey level is
      forgiven: rounding to 8 bit.
    - ``pumping = mean over pairs of max(|D_F| - max(|D_ir|, |D_vi|), 0)`` [grey levels] with ``D`` the
      difference of the whole image's mean: brightness that goes up and down by itself, also where it is less
      than a level a pixel. It sees no difference between places, so weights that are fixed but uneven may
      show a little of it in motion.
    - ``change_ratio = sum over pairs of mean|d_F| / sum of max(mean|d_ir|, mean|d_vi|)``: the liveliness of F
      beside the livelier source. Below 1 is smoother, as an average is; read it beside ``flicker``, where 0
      is also had by a frozen image. 1 where nothing changed at all; sources count as at least 0.01 grey
      levels a pair.

    Frames are read one by one and only the last is kept. Source: ours.
    Raises RosAttnError as `grey_frame` does, for fewer than two frames and for frames that change their size.
    """
    before: tuple[NDArray[np.float64], ...] | None = None
    pairs = 0
    beyond = pumped = fused_change = source_change = 0.0
    for number, (ir, vi, fused) in enumerate(frames):
        now = grey_frame(ir, vi, fused)
        if before is not None:
            if now[0].shape != before[0].shape:
                raise RosAttnError(
                    f"frame {number} is {now[0].shape[0]}x{now[0].shape[1]} but the one before it "
                    f"{before[0].shape[0]}x{before[0].shape[1]}: flicker needs one image size throughout"
                )
            d_ir, d_vi, d_fused = (new - old for new, old in zip(now, before, strict=True))
            jump_ir, jump_vi, jump_fused = (abs(float(d.mean())) for d in (d_ir, d_vi, d_fused))
            d_ir, d_vi, d_fused = np.abs(d_ir), np.abs(d_vi), np.abs(d_fused)
            pairs += 1
            beyond += float(np.maximum(d_fused - np.maximum(d_ir, d_vi) - _ROUNDING, 0.0).mean())
            pumped += max(jump_fused - max(jump_ir, jump_vi), 0.0)
            fused_change += float(d_fused.mean())
            source_change += max(float(d_ir.mean()), float(d_vi.mean()))
        before = now
    if not pairs:
        raise RosAttnError("flicker compares consecutive frames and got fewer than two: pass at least two frames")
    still = fused_change == 0.0 and source_change == 0.0
    return {
        "flicker": beyond / pairs,
        "pumping": pumped / pairs,
        "change_ratio": 1.0 if still else fused_change / max(source_change, 0.01 * pairs),
    }
