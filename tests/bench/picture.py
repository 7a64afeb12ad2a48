"""The README's picture: one hazy moment of the demo's drive, four panels side by side.

ros-attn demo && python -m tests.bench.picture [--at 5.0] [--out docs/fusion.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from ros_attn.bag import BagReader
from ros_attn.perception.infrared_visible_fusion.agc import PercentileGain
from ros_attn.values import Array, Image

DEMO = Path("runs/demo")
PANEL = (400, 300)


def nearest(bag: Path, topic: str, stamp_ns: int) -> Image:
    """The image of a topic nearest in stamp."""
    with BagReader(bag) as reader:
        images = [reader.decode(message) for message in reader.messages([topic])]
    found = min(images, key=lambda image: abs(image.stamp_ns - stamp_ns))
    assert isinstance(found, Image)
    return found


def panel(data: Array) -> Array:
    """One picture as BGR at the panel's size."""
    if data.ndim == 2:
        data = np.repeat(data[..., None], 3, axis=-1)
    return cv2.resize(data[..., ::-1], PANEL, interpolation=cv2.INTER_AREA)


def draw(at_s: float, out: Path) -> None:
    """Write the strip."""
    with BagReader(DEMO / "bag") as reader:
        stamp_ns = reader.start_ns + round(at_s * 1e9)
    outputs = DEMO / "run" / "outputs"
    infrared = nearest(DEMO / "bag", "/infrared/image", stamp_ns)
    levels = PercentileGain(1.0, 99.5, 0.0, 300.0, 3.0).apply(infrared.data, 0).astype(np.uint8)
    pictures = [
        nearest(DEMO / "bag", "/visible/image", stamp_ns).data,
        levels,
        nearest(outputs, "/fused/image", stamp_ns).data,
        nearest(outputs, "/infrared_visible_fusion/debug/trust", stamp_ns).data,
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(out), np.hstack([panel(picture) for picture in pictures]), [cv2.IMWRITE_PNG_COMPRESSION, 9])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("docs/fusion.png"))
    arguments = parser.parse_args()
    draw(arguments.at, arguments.out)
