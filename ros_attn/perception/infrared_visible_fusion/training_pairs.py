"""Clean pairs of images for training, cropped and degraded at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ros_attn.degrade.degradation import SEVERITIES, Degradation
from ros_attn.errors import RosAttnError
from ros_attn.perception.infrared_visible_fusion.fast_model import FAULTS, WEATHER
from ros_attn.values import Array

SHARES = {"clear": 0.25, "weather": 0.45, "fault": 0.3}
"""How often a sample is left clear, put into weather, or given a faulty camera."""
NOISY, LARGEST_NOISE = 0.3, 5.0
"""So many samples have noise of their own in both cameras, of up to this deviation in grey levels."""
_CONTENT_FREE = ("black",)
Pair = tuple[Array, Array]


@dataclass(frozen=True)
class Sample:
    """Images [1, N, N] in 0..1: what the cameras give, the clean pair behind it; how much each source counts in the
    loss [2], visible first; the indices of weather and of both faults [3]."""

    visible: Tensor
    infrared: Tensor
    clean_visible: Tensor
    clean_infrared: Tensor
    weights: Tensor
    labels: Tensor


class TrainingPairs:
    """Samples of ``side`` px; the same seed and index give the same sample.

    ``pairs``: visible [H, W, 3] uint8 RGB and infrared [H, W] uint8 by name. A crop is taken at 0.7 to 1.4 times the
    size, mirrored half of the time; the infrared image may change its gain, the visible one its gamma, and both their
    sharpness, as other cameras would. A camera without any content (black) does
    not count in the loss: then the other one is to be shown. ``weather`` False leaves the weather out, for ablations.
    """

    def __init__(self, pairs: Mapping[str, Pair], side: int, seed: int, weather: bool = True) -> None:
        if not pairs:
            raise RosAttnError("There is no pair to train on; look at the folders that were named.")
        self.pairs, self.side, self.seed, self.weather = list(pairs.values()), side, seed, weather

    def sample(self, index: int) -> Sample:
        import cv2

        rng = np.random.default_rng((self.seed, index))
        visible, infrared = self.pairs[int(rng.integers(len(self.pairs)))]
        height, width = infrared.shape
        zoom = max(rng.uniform(0.7, 1.4), self.side / height, self.side / width)
        size = min(height, round(self.side / zoom)), min(width, round(self.side / zoom))
        top, left = int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))
        crop = slice(top, top + size[0]), slice(left, left + size[1])
        visible, infrared = (
            cv2.resize(x[crop], (self.side, self.side), interpolation=cv2.INTER_LINEAR) for x in (visible, infrared)
        )
        if rng.random() < 0.5:
            visible, infrared = np.ascontiguousarray(visible[:, ::-1]), np.ascontiguousarray(infrared[:, ::-1])
        if rng.random() < 0.3:
            gain = rng.uniform(0.6, 1.4)
            infrared = np.clip(infrared.astype(np.float32) * gain, 0, 255).astype(np.uint8)
        if rng.random() < 0.3:
            bent = 255 * (np.arange(256) / 255) ** rng.uniform(0.6, 1.6)
            visible = cv2.LUT(visible, np.rint(bent).astype(np.uint8))
        if rng.random() < 0.2:
            deviation = rng.uniform(0.4, 1.2)
            visible, infrared = (cv2.GaussianBlur(x, (0, 0), deviation) for x in (visible, infrared))

        labels, weights = [0, 0, 0], [1.0, 1.0]
        seen = visible, infrared
        draw, severity = rng.random(), SEVERITIES[int(rng.integers(3))]
        if draw < SHARES["weather"] and self.weather:
            labels[0] = int(rng.integers(1, len(WEATHER)))
            seen = Degradation(WEATHER[labels[0]], severity, seed=int(rng.integers(2**31)))(visible, infrared)
        elif SHARES["weather"] <= draw < SHARES["weather"] + SHARES["fault"]:
            camera, fault = int(rng.integers(2)), int(rng.integers(1, len(FAULTS)))
            labels[1 + camera] = fault
            sensor = ("visible", "infrared")[camera]
            seen = Degradation(FAULTS[fault], severity, sensor, seed=int(rng.integers(2**31)))(visible, infrared)
            weights[camera] = 0.0 if FAULTS[fault] in _CONTENT_FREE else 1.0
        if rng.random() < NOISY:
            seen = tuple(_noisy(x, rng.uniform(0, LARGEST_NOISE), rng) for x in seen)
        v, i, clean_v, clean_i = (_plane(_luma(x)) for x in (*seen, visible, infrared))
        return Sample(v, i, clean_v, clean_i, torch.tensor(weights), torch.tensor(labels))

    def batch(self, indices: range) -> Sample:
        """Samples one above the other, [B, 1, N, N] and so on."""
        samples = [self.sample(index) for index in indices]
        return Sample(*(torch.stack(each) for each in zip(*(vars(x).values() for x in samples), strict=True)))


def _noisy(image: Array, deviation: float, rng: np.random.Generator) -> Array:
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(deviation)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def _luma(image: Array) -> Array:
    import cv2

    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)[..., 0]


def _plane(image: Array) -> Tensor:
    return torch.from_numpy(image.astype(np.float32) / 255.0)[None]
