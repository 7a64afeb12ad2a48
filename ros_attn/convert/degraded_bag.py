"""A copy of a bag in which two cameras stand in weather, or suffer from faults, for a while."""

from __future__ import annotations

import math
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
from ros_attn.convert.conversion import Conversion, ConversionError, new_output
from ros_attn.convert.grey_levels import GreyLevels
from ros_attn.degrade.degradation import SENSORS, Degradation, degradation
from ros_attn.errors import RosAttnError, TopicError, listed, meant
from ros_attn.values import Image

_IMAGE = "sensor_msgs/msg/Image"
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
    """Copy a bag and degrade the images of two topics where ``start_s <= log time < end_s``, s after the first message.

    ``degradations``: labels such as ``haze:heavy`` and ``infrared dirt:medium``, applied one after the other; the n-th
    has the seed ``seed + n - 1``, so that noise of two cameras is not the same noise. Only the pixels of these images
    change: every other message, and of these every other field, is as it was, in the same log order, under the same
    QoS. The same seed gives the same pixels.

    Pairs: as in ``infrared_visible_fusion``, in order of stamps each visible image takes the nearest infrared one of
    those in the window that differs by at most ``slop_s`` and is not taken. Frame k is that of the k-th visible image
    of the bag, from 0, and of its partner; an infrared image without one has a frame of its own. Faults of an absent
    camera are left out then, and weather sees a blank partner of the same size: what it does to a picture depends on
    this picture and the frame alone.

    Pixels: mono8 and, of the visible camera, rgb8 and bgr8 as they are. mono16 and 16UC1 become float32 grey levels,
    the 1st to the 99th percentile of the topic's first image being 0 to 255, and are scaled back and rounded; an image
    that nothing befell is left alone, in any other counts beyond these percentiles are cut there (``frozen`` cuts
    nothing). Images without pixels are copied.

    Topics without messages are left out, with a remark. What waits for the partner of an image is held in memory.

    Raises:
        TopicError: a topic that is absent or not of sensor_msgs/msg/Image.
        ConversionError: no image in that time, other encodings, counts and levels in one topic, weather over pairs of
            two sizes, ``frozen`` where sizes change, an output that exists; nothing is left behind then, and an old
            output stays.
        RosAttnError: a label that is no degradation.
        BagError: a bag that cannot be read or is of ROS 1.
    """
    out = Path(out)
    if not degradations:
        raise ConversionError("no degradation is named; name one, such as haze:heavy or 'infrared dirt:medium'")
    if not (0 <= start_s < end_s and 0 <= slop_s < math.inf and seed >= 0):
        raise ConversionError(
            f"start_s {start_s:g}, end_s {end_s:g}, slop_s {slop_s:g} and seed {seed} do not go together; take "
            "0 <= start_s < end_s, and slop_s and seed from 0 on"
        )
    applied = [degradation(label, seed + n) for n, label in enumerate(degradations)]
    if overwrite and out.exists() and out.resolve() == Path(bag).resolve():
        raise ConversionError(f"{out} is the bag that is read; choose another name for the copy")
    with BagReader(bag) as reader, _output(out, overwrite) as path:
        topics = _topics(reader, visible, infrared)
        if start_s * 1e9 > reader.duration_ns:
            raise ConversionError(f"start_s is {start_s:g}, but {bag} is only {reader.duration_ns / 1e9:.1f} s long")
        start_ns = reader.start_ns + round(start_s * 1e9)
        stop_ns = reader.end_ns + 1 if end_s == math.inf else reader.start_ns + round(end_s * 1e9)
        levels, jobs = _survey(reader, topics, start_ns, stop_ns, round(slop_s * 1e9))
        kinds = Counter(" and ".join(job.members) for job in jobs)
        counts = Counter[str]()
        with BagWriter(path, latched=()) as writer:
            for message in _degraded(reader, topics, levels, jobs, applied):
                writer.write_raw(message.topic, message.msgtype, message.raw, message.arrival_ns, reader)
                counts[message.topic] += 1
    remarks = [
        f"degraded {kinds['visible and infrared']} pairs, and without a partner {kinds['visible']} visible and "
        f"{kinds['infrared']} infrared images"
    ]
    if silent := reader.topics.keys() - counts.keys():
        remarks.append(f"{len(silent)} topics without messages are left out: {listed(sorted(silent))}")
    return Conversion(out, dict(sorted(counts.items())), tuple(remarks))


def _topics(reader: BagReader, visible: str, infrared: str) -> dict[str, str]:
    """Camera by topic."""
    images = [topic for topic, info in reader.topics.items() if info.msgtype == _IMAGE]
    for topic in (visible, infrared):
        info = reader.topics.get(topic)
        if info is not None and info.value_type is Image and topic not in images:
            raise TopicError(
                f"{topic} is {info.msgtype}, and a copy would have to be compressed anew; republish it as {_IMAGE} "
                "(image_transport's republish), record that and name its topic"
            )
        if topic not in images:
            raise TopicError(
                f"{topic} is not an image topic of the bag{meant(topic, images)}; these are {listed(images)}"
            )
    if visible == infrared:
        raise TopicError(f"both cameras are {visible}; name two topics of {listed(images)}")
    return {visible: "visible", infrared: "infrared"}


def _survey(
    reader: BagReader, topics: dict[str, str], start_ns: int, stop_ns: int, slop_ns: int
) -> tuple[dict[str, GreyLevels], list[_Job]]:
    """The cameras, and what is to be degraded in the log order of the visible images (infrared ones where alone)."""
    levels: dict[str, GreyLevels] = {}
    seen, places, stamps = Counter[str](), dict[tuple[str, int], int](), {sensor: [] for sensor in topics.values()}
    for message in reader.messages(topics, stop_ns=stop_ns):
        sensor = topics[message.topic]
        number = seen[sensor]
        seen[sensor] += 1
        if message.arrival_ns < start_ns and sensor in levels:
            continue
        image = reader.decode(message)
        assert isinstance(image, Image)
        if not image.data.size:
            continue
        if sensor not in levels:
            levels[sensor] = GreyLevels(message.topic, image, colour=sensor == "visible")
        if message.arrival_ns >= start_ns:
            levels[sensor].check(image)
            places[sensor, number] = len(places)
            stamps[sensor].append((image.stamp_ns, number))
    if not places:
        raise ConversionError(f"{reader.path} has no image on {listed(topics)} in that time; widen it")
    partners = _partners(sorted(stamps["visible"]), sorted(stamps["infrared"]), slop_ns)
    taken = set(partners.values())
    jobs = [
        _Job(number, {"visible": number} | ({"infrared": partners[number]} if number in partners else {}))
        for _, number in stamps["visible"]
    ]
    jobs += [_Job(_ALONE + number, {"infrared": number}) for _, number in stamps["infrared"] if number not in taken]
    jobs.sort(key=lambda job: places[next(iter(job.members.items()))])
    return levels, jobs


def _partners(visible: list[tuple[int, int]], infrared: list[tuple[int, int]], slop_ns: int) -> dict[int, int]:
    """Number of the visible image -> number of its infrared one; both come as (stamp, number) in order."""
    partners, free = dict[int, int](), 0
    for stamp, number in visible:
        after = bisect_left(infrared, (stamp, -1), free)
        near = [index for index in (after - 1, after) if free <= index < len(infrared)]
        best = min(near, key=lambda index: abs(infrared[index][0] - stamp), default=-1)
        if best >= 0 and abs(infrared[best][0] - stamp) <= slop_ns:
            partners[number], free = infrared[best][1], best + 1
    return partners


def _degraded(
    reader: BagReader,
    topics: dict[str, str],
    levels: dict[str, GreyLevels],
    jobs: list[_Job],
    applied: list[Degradation],
) -> Iterator[BagMessage]:
    """All messages in log order. Jobs are done in their order, which fixes what a frozen camera holds."""
    job_of = {member: job for job in jobs for member in job.members.items()}
    todo, waiting, seen = deque(jobs), deque[_Shot](), Counter[str]()
    store = reader.typestore(_IMAGE)
    for message in reader.messages():
        shot = _Shot(message)
        waiting.append(shot)
        if sensor := topics.get(message.topic):
            job = job_of.get((sensor, seen[sensor]))
            seen[sensor] += 1
            if job is not None:
                image = reader.decode(message)
                assert isinstance(image, Image)
                shot.image, job.shots[sensor] = image, shot
        while todo and len(todo[0].shots) == len(todo[0].members):
            try:
                _carry_out(todo.popleft(), reader, store, levels, applied)
            except RosAttnError as error:
                raise ConversionError(f"{' and '.join(topics)}: {error}") from error
        while waiting and waiting[0].image is None:
            yield waiting.popleft().message


def _carry_out(
    job: _Job, reader: BagReader, store: Any, levels: dict[str, GreyLevels], applied: list[Degradation]
) -> None:
    clear = {sensor: levels[sensor].levels(shot.image) for sensor, shot in job.shots.items() if shot.image}
    blank = np.zeros(next(iter(clear.values())).shape[:2], np.uint8)
    now = {sensor: clear.get(sensor, blank) for sensor in SENSORS}
    for each in applied:
        if not each.sensor or each.sensor in clear:
            now["visible"], now["infrared"] = each(now["visible"], now["infrared"], job.frame)
    for sensor, shot in job.shots.items():
        if now[sensor].shape != clear[sensor].shape:
            raise RosAttnError(f"{sensor} frozen holds a picture of another size than a later one; leave it out")
        if not np.array_equal(now[sensor], np.clip(clear[sensor], 0, 255)):
            fields: Any = reader.deserialize(shot.message)
            levels[sensor].put(fields, now[sensor])
            shot.message = shot.message._replace(raw=bytes(store.serialize_cdr(fields, _IMAGE)))
        shot.image = None
    job.shots.clear()


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
        out.rename(Path(beside) / "replaced")
        fresh.rename(out)
