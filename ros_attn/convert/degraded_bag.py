"""A copy of a bag in which two cameras stand in weather, or suffer from faults, for a while."""

from __future__ import annotations

import math
import shutil
import tempfile
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ros_attn.bag import BagMessage, BagReader, BagWriter
from ros_attn.codecs.fields import byte_view
from ros_attn.convert.conversion import Conversion, ConversionError, new_output
from ros_attn.degrade.degradation import SENSORS, Degradation, degradation
from ros_attn.errors import RosAttnError, TopicError, listed, meant
from ros_attn.values import Array, Image

_IMAGE = "sensor_msgs/msg/Image"
_LEVELS = ("mono8", "rgb8", "bgr8")
_COUNTS = ("mono16", "16UC1")
# Frames of infrared images without a partner: beyond those of any visible image.
_ALONE = 2**32


@dataclass
class _Shot:
    """A message on its way; ``image`` while it is still to be degraded."""

    message: BagMessage
    image: Image | None = None


@dataclass
class _Job:
    """Images, by camera and number on their topic, that are degraded together."""

    frame: int
    members: dict[str, int]
    shots: dict[str, _Shot] = field(default_factory=dict)


class _Camera:
    """One image topic: what its images are like, and its pixels as grey levels and back."""

    def __init__(self, sensor: str, topic: str, first: Image) -> None:
        known = (*_LEVELS, *_COUNTS) if sensor == "visible" else ("mono8", *_COUNTS)
        if first.encoding not in known:
            remedy = "a mosaic is demosaiced first, by image_proc say" if "bayer" in first.encoding else "convert it"
            raise ConversionError(
                f"{topic} is {first.encoding}, but {sensor} images are degraded as {listed(known)}; {remedy} "
                "and name the topic of the result"
            )
        self.topic, self.first, self.counts = topic, first, first.encoding in _COUNTS
        low, high = np.percentile(first.data, (1, 99)) if self.counts else (0.0, 255.0)
        self._low, self._scale = float(low), 255.0 / (float(high - low) or 1.0)

    def check(self, image: Image) -> None:
        """ConversionError where size or encoding are not those of the first image."""
        was, now = (f"{each.width}x{each.height} {each.encoding}" for each in (self.first, image))
        if now != was:
            raise ConversionError(
                f"{self.topic} changes from {was} to {now}; split the bag there and degrade the parts"
            )

    def levels(self, image: Image) -> Array:
        return ((image.data - self._low) * self._scale).astype(np.float32) if self.counts else image.data

    def pixels(self, levels: Array) -> Array:
        if not self.counts:
            return levels
        return np.clip(np.rint(levels / np.float64(self._scale) + self._low), 0, 65535).astype(np.uint16)


def degrade_bag(
    bag: str | Path,
    out: str | Path,
    degradations: Sequence[str],
    visible: str,
    infrared: str,
    start_s: float = 0.0,
    end_s: float = math.inf,
    seed: int = 0,
    slop_s: float = 0.02,
    overwrite: bool = False,
) -> Conversion:
    """Copy a bag with the images of two topics degraded where ``start_s <= log time < end_s``, s after the first message.

    ``degradations``: labels such as ``haze:heavy`` and ``infrared dirt:medium``, applied one after the other; the n-th
    has the seed ``seed + n - 1``, so that noise of two cameras is not the same noise. Only the pixels of these images
    change: every other message, and of these every other field, is as it was, in the same log order, under the same
    QoS. The same seed gives the same pixels.

    Pairs: as in ``infrared_visible_fusion``, in order of stamps each visible image takes the nearest infrared one of
    those in the window that differs by at most ``slop_s`` and is not taken. Frame k is that of the k-th visible image
    of the bag, from 0, and of its partner; an infrared image without one has a frame of its own. Faults of an absent
    camera are left out then, and weather sees a blank partner of the same size; it changes a camera's picture by that
    picture alone, so this picture is as it would be in a pair.

    Pixels: mono8 and, of the visible camera, rgb8 and bgr8 as they are. mono16 and 16UC1 become float32 grey levels,
    the 1st to the 99th percentile of the topic's first image being 0 to 255, and are scaled back and rounded; an image
    that nothing befell is left alone, in any other counts beyond these percentiles are cut there (``frozen`` cuts
    nothing). Images without pixels are copied.

    Topics without messages are left out, with a remark. What waits for the partner of an image is held in memory.

    Raises:
        TopicError: a topic that is absent or not of sensor_msgs/msg/Image.
        ConversionError: no image in that time, other encodings, encodings or sizes that change, weather over cameras of
            two sizes, an output that exists; nothing is left behind then, and an old output stays.
        RosAttnError: a label that is no degradation.
        BagError: a bag that cannot be read or is of ROS 1.
    """
    out, applied = Path(out), [degradation(label, seed + n) for n, label in enumerate(degradations)]
    if not applied:
        raise ConversionError("no degradation is named; name one, such as haze:heavy or 'infrared dirt:medium'")
    if not 0 <= start_s < end_s:
        raise ConversionError(f"start_s is {start_s:g} and end_s {end_s:g}; take 0 <= start_s < end_s")
    if not 0 <= slop_s < math.inf:
        raise ConversionError(f"slop_s is {slop_s:g}; take 0 or more seconds between the stamps of a pair")
    if overwrite and out.exists() and out.resolve() == Path(bag).resolve():
        raise ConversionError(f"{out} is the bag that is read; choose another name for the copy")
    with BagReader(bag) as reader, _output(out, overwrite) as path:
        topics = dict(zip(SENSORS, _topics(reader, visible, infrared), strict=True))
        if start_s * 1e9 > reader.duration_ns:
            raise ConversionError(f"start_s is {start_s:g}, but {bag} is only {reader.duration_ns / 1e9:.1f} s long")
        start_ns = reader.start_ns + round(start_s * 1e9)
        stop_ns = reader.end_ns + 1 if end_s == math.inf else reader.start_ns + round(end_s * 1e9)
        cameras, jobs = _survey(reader, topics, start_ns, stop_ns, round(slop_s * 1e9))
        pairs = sum(len(job.members) == 2 for job in jobs)
        alone = [f"{sum(list(job.members) == [sensor] for job in jobs)} {sensor}" for sensor in SENSORS]
        counts = Counter[str]()
        with BagWriter(path, latched=()) as writer:
            for message in _degraded(reader, cameras, jobs, applied):
                writer.write_raw(message.topic, message.msgtype, message.raw, message.arrival_ns, reader)
                counts[message.topic] += 1
        remarks = [f"degraded {pairs} pairs, and {' and '.join(alone)} images without a partner"]
        if silent := reader.topics.keys() - counts.keys():
            remarks.append(f"{len(silent)} topics without messages are left out: {listed(sorted(silent))}")
    return Conversion(out, dict(sorted(counts.items())), tuple(remarks))


def _topics(reader: BagReader, visible: str, infrared: str) -> tuple[str, str]:
    images = [topic for topic, info in reader.topics.items() if info.msgtype == _IMAGE]
    for topic in (visible, infrared):
        if topic in reader.topics and reader.topics[topic].value_type is Image and topic not in images:
            raise TopicError(
                f"{topic} is {reader.topics[topic].msgtype}, which would lose by being compressed again; republish it "
                f"as {_IMAGE} (image_transport's republish), record that and name its topic"
            )
        if topic not in images:
            raise TopicError(
                f"{topic} is not an image topic of the bag{meant(topic, images)}; these are {listed(images)}"
            )
    if visible == infrared:
        raise TopicError(f"both cameras are {visible}; name two topics of {listed(images)}")
    return visible, infrared


def _survey(
    reader: BagReader, topics: dict[str, str], start_ns: int, stop_ns: int, slop_ns: int
) -> tuple[dict[str, _Camera], list[_Job]]:
    """The cameras, and what is to be degraded in the log order of the visible images (infrared ones where alone)."""
    sensors = {topic: sensor for sensor, topic in topics.items()}
    cameras: dict[str, _Camera] = {}
    seen, places, stamps = Counter[str](), dict[tuple[str, int], int](), {sensor: [] for sensor in SENSORS}
    for message in reader.messages(list(sensors), stop_ns=stop_ns):
        sensor = sensors[message.topic]
        number = seen[sensor]
        seen[sensor] += 1
        if message.arrival_ns < start_ns and sensor in cameras:
            continue
        image = reader.decode(message)
        assert isinstance(image, Image)
        if not image.data.size:
            continue
        camera = cameras.setdefault(sensor, _Camera(sensor, message.topic, image))
        if message.arrival_ns >= start_ns:
            camera.check(image)
            places[sensor, number] = len(places)
            stamps[sensor].append((image.stamp_ns, number))
    if not places:
        raise ConversionError(f"{reader.path} has no image on {listed(sensors)} in that time; widen it")
    partners = _partners(sorted(stamps["visible"]), sorted(stamps["infrared"]), slop_ns)
    taken = set(partners.values())
    jobs = [
        _Job(number, {"visible": number} | ({"infrared": partners[number]} if number in partners else {}))
        for _, number in stamps["visible"]
    ]
    jobs += [_Job(_ALONE + number, {"infrared": number}) for _, number in stamps["infrared"] if number not in taken]
    jobs.sort(key=lambda job: places[next(iter(job.members.items()))])
    return cameras, jobs


def _partners(visible: list[tuple[int, int]], infrared: list[tuple[int, int]], slop_ns: int) -> dict[int, int]:
    """Number of the visible image -> number of its infrared one, both given as (stamp, number) in order."""
    partners, free = dict[int, int](), 0
    for stamp, number in visible:
        after = bisect_left(infrared, (stamp, -1), free)
        near = [index for index in (after - 1, after) if free <= index < len(infrared)]
        if near:
            best = min(near, key=lambda index: abs(infrared[index][0] - stamp))
            if abs(infrared[best][0] - stamp) <= slop_ns:
                partners[number], free = infrared[best][1], best + 1
    return partners


def _degraded(
    reader: BagReader, cameras: dict[str, _Camera], jobs: list[_Job], applied: list[Degradation]
) -> Iterator[BagMessage]:
    """All messages in log order. Jobs are done in their order, which fixes what a frozen camera holds."""
    sensors = {camera.topic: sensor for sensor, camera in cameras.items()}
    job_of = {member: job for job in jobs for member in job.members.items()}
    todo, waiting, seen = deque(jobs), deque[_Shot](), Counter[str]()
    store = reader.typestore(_IMAGE)
    for message in reader.messages():
        shot = _Shot(message)
        waiting.append(shot)
        sensor = sensors.get(message.topic, "")
        job = job_of.pop((sensor, seen[sensor]), None)
        seen[sensor] += 1
        if job is not None:
            image = reader.decode(message)
            assert isinstance(image, Image)
            shot.image, job.shots[sensor] = image, shot
        while todo and len(todo[0].shots) == len(todo[0].members):
            _carry_out(todo.popleft(), reader, store, cameras, applied)
        while waiting and waiting[0].image is None:
            yield waiting.popleft().message


def _carry_out(
    job: _Job, reader: BagReader, store: Any, cameras: dict[str, _Camera], applied: list[Degradation]
) -> None:
    clear = {sensor: cameras[sensor].levels(shot.image) for sensor, shot in job.shots.items() if shot.image}
    blank = np.zeros(next(iter(clear.values())).shape[:2], np.uint8)
    now = {sensor: clear.get(sensor, blank) for sensor in SENSORS}
    for each in applied:
        if not each.sensor or each.sensor in clear:
            try:
                now["visible"], now["infrared"] = each(now["visible"], now["infrared"], job.frame)
            except RosAttnError as error:
                raise ConversionError(f"{cameras['visible'].topic} and {cameras['infrared'].topic}: {error}") from error
    for sensor, shot in job.shots.items():
        if not np.array_equal(now[sensor], np.clip(clear[sensor], 0, 255)):
            fields: Any = reader.deserialize(shot.message)
            fields.data = _data(fields, cameras[sensor].pixels(now[sensor]))
            shot.message = shot.message._replace(raw=bytes(store.serialize_cdr(fields, _IMAGE)))
        shot.image = None


def _data(fields: Any, pixels: Array) -> Array:
    """The bytes of an image message with other pixels, in its own byte order and padding."""
    data = byte_view(fields.data).copy()
    stored = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder(">" if fields.is_bigendian else "<"))
    rows = stored.view(np.uint8).reshape(len(pixels), -1)
    data.reshape(fields.height, fields.step)[:, : rows.shape[1]] = rows
    return data


@contextmanager
def _output(out: Path, overwrite: bool) -> Iterator[Path]:
    """As :func:`new_output`; with ``overwrite`` a bag of that name is replaced once the new one is whole."""
    if not (overwrite and out.exists()):
        with new_output(out) as path:
            yield path
        return
    if not (out.is_file() if out.suffix == ".mcap" else (out / "metadata.yaml").is_file()):
        raise ConversionError(f"{out} exists and is no rosbag2 bag, so it is not overwritten; move it away")
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=out.parent) as beside:
        fresh = Path(beside) / out.name
        with new_output(fresh) as path:
            yield path
        shutil.move(out, Path(beside) / "replaced")
        fresh.rename(out)
