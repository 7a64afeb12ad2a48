"""Means of frames with bootstrap intervals that know frames of one drive resemble their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
_MOST = 1000


@dataclass(frozen=True)
class Estimate:
    """A mean of ``n`` values with its 95 % interval, and their 5th and 95th percentiles."""

    mean: float
    low: float
    high: float
    p5: float
    p95: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)


def resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """Means ``[RESAMPLES]`` of resampled sequences of ``values`` [n]: the circular block bootstrap.

    Blocks of ``ceil(n ** (1/3))`` neighbours are drawn together, since neighbouring frames are alike and single
    ones would give too narrow an interval. The same ``n`` and ``seed`` draw the same blocks, so differences of two
    sequences are paired. More than 1000 values go in as 1000 means of neighbours. Source: Politis and Romano 1992,
    with the block length of Hall et al. 1995.
    """
    if len(values) > _MOST:
        values = np.array([part.mean() for part in np.array_split(values, _MOST)])
    n = len(values)
    block = ceil(n ** (1 / 3))
    starts = np.random.default_rng(seed).integers(0, n, (RESAMPLES, ceil(n / block)))
    index = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :n] % n
    return values[index].mean(axis=1)


def estimate(values: Sequence[float], seed: int) -> Estimate | None:
    """The mean of ``values`` with the percentile interval of `resampled_means`; None for no values."""
    if not values:
        return None
    sample = np.asarray(values, dtype=np.float64)
    return _estimate(sample, resampled_means(sample, seed))


def pooled_estimate(groups: Sequence[Sequence[float]], seed: int) -> Estimate | None:
    """The mean of the means of several runs, resampled by run and within each run; None for no values.

    Runs count alike, however long they are: what differs from drive to drive is the uncertainty that matters, and
    with few runs the interval is wide.
    """
    samples = [np.asarray(values, dtype=np.float64) for values in groups if len(values)]
    if not samples:
        return None
    means = np.stack([resampled_means(sample, seed + number) for number, sample in enumerate(samples)])
    if len(samples) == 1:
        return _estimate(samples[0], means[0])
    drawn = np.random.default_rng(seed).integers(0, len(samples), (RESAMPLES, len(samples)))
    pooled = np.take_along_axis(means.T, drawn, axis=1).mean(axis=1)
    found = _estimate(np.concatenate(samples), pooled)
    mean = float(np.mean([sample.mean() for sample in samples]))
    return Estimate(mean, found.low, found.high, found.p5, found.p95, found.n)


def _estimate(sample: NDArray[np.float64], means: NDArray[np.float64]) -> Estimate:
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    p5, p95 = np.percentile(sample, (5, 95))
    return Estimate(float(sample.mean()), float(low), float(high), float(p5), float(p95), len(sample))
