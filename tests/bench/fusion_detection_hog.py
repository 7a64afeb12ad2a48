"""A detector of people and vehicles by histograms of oriented gradients and a linear support vector machine.

The method of Dalal & Triggs (CVPR 2005): square-root gamma, gradients by [-1, 0, 1], nine unsigned orientations voted
bilinearly into cells, blocks of 2 x 2 cells normalised by L2-Hys, a linear SVM, one round of hard negatives, a dense
scan of a pyramid, here with the greedy suppression of overlapping boxes that is usual since. Written anew because
OpenCV 5 has neither ``HOGDescriptor`` nor ``ml``. Deviations: cells of 4 px, so that objects of 32 px are seen without
much enlarging; no Gaussian weight within a block; squared hinge loss.

A class may have several windows, one for each stretch of aspect ratios. Edges count by their orientation, not by which
side is bright, so warm on cold and dark on bright are one to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.optimize import minimize

from ros_attn.values import Array

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels; right and bottom are the first pixels outside."""
CELL, BINS = 4, 9
DEPTH = 4 * BINS
MARGIN = 2
"""Cells around the object in a window."""
LARGEST, STEP = 1.25, 1.2
"""The pyramid: the largest scale of the picture, and from one to the next."""
OVERLAP = 0.4
"""Of two boxes with a higher intersection over union only the better is kept."""
MOST = 30
"""Detections of a class in a picture, the best."""
_CANDIDATES = 600  # before suppression; far more than what becomes of them
_FREE = 0.3  # a negative overlaps no object by more
REGULARISATION = 0.01


@dataclass(frozen=True)
class Window:
    """The object inside a window, in cells."""

    rows: int
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Blocks down and across, values a block."""
        return self.rows + 2 * MARGIN - 1, self.columns + 2 * MARGIN - 1, DEPTH


WINDOWS: dict[str, tuple[Window, ...]] = {
    "person": (Window(10, 4),),
    "vehicle": (Window(6, 8), Window(6, 10)),
}


def features(picture: Array) -> Array:
    """Blocks [R, C, 36] float32 of grey levels [H, W]: block (r, c) is of the cells (r..r+1, c..c+1), 4 px each."""
    image = np.sqrt(picture.astype(np.float32))
    rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
    kernel = np.array([[-1, 0, 1]], np.float32)
    across, down = (cv2.filter2D(image, -1, each, borderType=cv2.BORDER_REPLICATE) for each in (kernel, kernel.T))
    size, angle = cv2.cartToPolar(across, down)
    place = angle * np.float32(BINS / np.pi) - np.float32(0.5)  # in bins, of which the middles are whole numbers
    place -= BINS * np.floor(place / BINS)
    triangle = (1 - np.abs(np.arange(2 * CELL) - CELL + 0.5) / CELL).astype(np.float32)
    half = CELL // 2
    histogram = np.empty((BINS, rows, columns), np.float32)
    for k in range(BINS):
        away = np.abs(place - np.float32(k))
        np.minimum(away, BINS - away, out=away)
        voted = size * np.maximum(1 - away, 0)
        # The kernel is even: its output at p is centred on p - 1/2, as a cell's middle is.
        spread = cv2.sepFilter2D(voted, -1, triangle, triangle, borderType=cv2.BORDER_CONSTANT)
        histogram[k] = spread[half::CELL, half::CELL][:rows, :columns]
    histogram = histogram.transpose(1, 2, 0)
    blocks = np.concatenate([histogram[:-1, :-1], histogram[:-1, 1:], histogram[1:, :-1], histogram[1:, 1:]], axis=-1)
    blocks /= np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + 1.0)
    np.minimum(blocks, 0.2, out=blocks)
    return blocks / np.sqrt(np.square(blocks).sum(axis=-1, keepdims=True) + 1e-4)


def example(picture: Array, box: Box | Array, window: Window) -> Array:
    """The features of a window on a box: the same centre and area, nothing stretched."""
    height, width = window.rows * CELL, window.columns * CELL
    scale = float(np.sqrt(height * width / ((box[2] - box[0]) * (box[3] - box[1]))))
    size = np.array([window.columns + 2 * MARGIN, window.rows + 2 * MARGIN]) * CELL
    centre = np.array([box[0] + box[2], box[1] + box[3]]) / 2
    shift = size / 2 - scale * centre + 0.5 * (scale - 1)
    smooth = picture
    if scale < 0.5:  # else pixels would be skipped
        smooth = cv2.GaussianBlur(picture, (0, 0), 0.3 / scale)
    warp = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    crop = cv2.warpAffine(smooth, warp, size.tolist(), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return features(crop).ravel()


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box [4] with boxes [N, 4], each left, top, right, bottom."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.clip(sides, 0, None).prod(axis=1)
    return shared / ((box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared)


def suppressed(scores: Array, boxes: Array, overlap: float = OVERLAP, most: int = MOST) -> list[int]:
    """Indices of the boxes to keep, best first; each takes those that overlap it with it."""
    order, kept = np.argsort(-scores, kind="stable")[:_CANDIDATES], []
    while len(order) and len(kept) < most:
        kept.append(int(order[0]))
        order = order[1:][overlaps(boxes[order[0]], boxes[order[1:]]) <= overlap]
    return kept


def trained(examples: Array, labels: Array, regularisation: float = REGULARISATION) -> tuple[Array, float]:
    """Weights and bias of the linear SVM: ``min |w|^2 / 2 + C sum_i h_i^2``, h the hinge, both classes of equal weight
    in the sum.
    """
    x, y = examples.astype(np.float64), np.where(labels, 1.0, -1.0)
    cost = regularisation * np.where(labels, len(y) / labels.sum(), len(y) / (~labels).sum()) / 2

    def loss(parameters: Array) -> tuple[float, Array]:
        w, b = parameters[:-1], parameters[-1]
        hinge = np.clip(1 - y * (x @ w + b), 0, None)
        slope = -2 * cost * y * hinge
        return float(w @ w / 2 + cost @ hinge**2), np.append(w + x.T @ slope, slope.sum())

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B", options={"maxiter": 300}).x
    return found[:-1].astype(np.float32), float(found[-1])


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture to learn from: by class the boxes to find, and those that are neither objects nor background."""

    picture: Array
    wanted: dict[str, list[Box]]
    unwanted: dict[str, list[Box]]

    def taken(self, kind: str) -> Array:
        """Boxes [N, 4] of all objects of a class."""
        return np.array([*self.wanted[kind], *self.unwanted[kind]], float).reshape(-1, 4)


Found = dict[str, tuple[Array, Array]]
"""By class the scores [N], best first, and boxes [N, 4]."""


@dataclass
class Detector:
    """Weights and bias by class and window. ``threshold``: windows of a lower score are not looked at."""

    weights: dict[str, list[tuple[Array, float]]]
    threshold: float = -1.0

    def detect(self, picture: Array) -> Found:
        """What is seen in a picture [H, W] uint8."""
        found: dict[str, list[tuple[Array, Array]]] = {kind: [] for kind in self.weights}
        scale = LARGEST
        while min(picture.shape) * scale >= CELL * (WINDOWS["person"][0].rows + 2 * MARGIN):
            size = tuple(round(side * scale) for side in picture.shape[::-1])
            resized = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
            blocks = features(resized)
            for kind, of_kind in self.weights.items():
                for window, (weights, bias) in zip(WINDOWS[kind], of_kind, strict=True):
                    scores = scan(blocks, weights.reshape(window.shape)) + bias
                    rows, columns = np.nonzero(scores > self.threshold)
                    corner = np.stack([columns, rows], axis=1) + MARGIN
                    boxes = np.hstack([corner, corner + np.array([window.columns, window.rows])]) * (CELL / scale)
                    found[kind].append((scores[rows, columns], boxes))
            scale /= STEP
        return {kind: _best(parts) for kind, parts in found.items()}


def _best(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    scores, boxes = (np.concatenate(each) for each in zip(*parts, strict=True))
    kept = suppressed(scores, boxes)
    return scores[kept], boxes[kept]


def scan(blocks: Array, weights: Array) -> Array:
    """Correlation of blocks [R, C, D] with weights [r, c, D] at every place: [R - r + 1, C - c + 1]."""
    down, across, depth = weights.shape
    rows, columns = blocks.shape[0] - down + 1, blocks.shape[1] - across + 1
    if rows <= 0 or columns <= 0:
        return np.zeros((max(rows, 0), max(columns, 0)), np.float32)
    shares = weights.reshape(down * across, depth) @ blocks.reshape(-1, depth).T
    shares = shares.reshape(down * across, *blocks.shape[:2])
    total = np.zeros((rows, columns), np.float32)
    for k in range(down * across):
        r, c = divmod(k, across)
        total += shares[k, r : r + rows, c : c + columns]
    return total


def train(pictures: Sequence[Sample]) -> Detector:
    """From pictures with their objects, and these mirrored.

    First negatives: windows at random places and sizes. Then one round of hard negatives, what the first detector
    finds where nothing is.
    """
    rng = np.random.default_rng(0)
    positive, negative = ({kind: [[] for _ in WINDOWS[kind]] for kind in WINDOWS} for _ in range(2))
    for sample in [*pictures, *map(mirrored, pictures)]:
        for kind, windows in WINDOWS.items():
            for box in sample.wanted[kind]:
                which = _nearest(windows, box)
                positive[kind][which].append(example(sample.picture, box, windows[which]))
            for window, kept in zip(windows, negative[kind], strict=True):
                for box in _anywhere(sample.picture, window, rng, 8):
                    if overlaps(box, sample.taken(kind)).max(initial=0) < _FREE:
                        kept.append(example(sample.picture, box, window))
    first = _fitted(positive, negative)
    for sample in pictures:
        for kind, (_, boxes) in first.detect(sample.picture).items():
            for box in boxes[:10]:
                if overlaps(box, sample.taken(kind)).max(initial=0) < _FREE:
                    which = _nearest(WINDOWS[kind], box)
                    negative[kind][which].append(example(sample.picture, box, WINDOWS[kind][which]))
    return _fitted(positive, negative)


def mirrored(sample: Sample) -> Sample:
    """Left and right exchanged."""
    width = sample.picture.shape[1]
    wanted, unwanted = (
        {kind: [(width - box[2], box[1], width - box[0], box[3]) for box in boxes] for kind, boxes in each.items()}
        for each in (sample.wanted, sample.unwanted)
    )
    return Sample(np.ascontiguousarray(sample.picture[:, ::-1]), wanted, unwanted)


def _fitted(positive: dict[str, list[list[Array]]], negative: dict[str, list[list[Array]]]) -> Detector:
    return Detector(
        {
            kind: [
                trained(np.array(good + bad), np.arange(len(good) + len(bad)) < len(good))
                for good, bad in zip(positive[kind], negative[kind], strict=True)
            ]
            for kind in positive
        }
    )


def _nearest(windows: tuple[Window, ...], box: Box | Array) -> int:
    """Which window has the box's aspect ratio most nearly."""
    aspects = np.array([window.columns / window.rows for window in windows])
    return int(np.argmin(np.abs(np.log(aspects * (box[3] - box[1]) / (box[2] - box[0])))))


def _anywhere(picture: Array, window: Window, rng: np.random.Generator, count: int) -> Array:
    height, width = picture.shape
    tall = np.exp(rng.uniform(np.log(window.rows * CELL / LARGEST), np.log(0.6 * height), count))
    wide = tall * window.columns / window.rows
    left, top = rng.uniform(0, width - wide), rng.uniform(0, height - tall)
    return np.stack([left, top, left + wide, top + tall], axis=1)
