"""Folders of infrared and visible images to a bag, and the images of a bag to folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ros_attn.bag import BagReader, BagWriter
from ros_attn.convert.conversion import Conversion, ConversionError, existing_folder, new_output
from ros_attn.convert.image_files import (
    SUFFIXES,
    encoding_of,
    images_in,
    is_grey,
    png_can_hold,
    read_pixels,
    write_png,
)
from ros_attn.errors import TopicError, listed, meant
from ros_attn.values import Image, Text

PAIR_NAME = "/pair_name"

# A stamp of 0 means "not set" to much of ROS.
_START_NS = 10**9
_VISIBLE_FOLDERS = ("vi", "vis", "visible")
_INFRARED_FOLDERS = ("ir", "infrared")


def pairs_to_bag(
    folder: str | Path,
    out: str | Path,
    rate_hz: float = 10.0,
    names_file: str | Path | None = None,
    visible: str = "vi",
    infrared: str = "ir",
    visible_topic: str = "visible/image",
    infrared_topic: str = "infrared/image",
) -> Conversion:
    """Write the image pairs of a folder as a bag, one pair a tick of ``rate_hz`` from 1 s on.

    A pair is two files of one stem in the sub-folders ``visible`` and ``infrared`` (otherwise in those called
    vi, vis or visible and ir or infrared, in any case), in natural order of the stems; ``names_file`` lists
    the stems to take, one a line. Both images carry the tick as stamp, and ``/pair_name`` carries the stem
    with the same arrival. Frames are ``visible_optical`` and ``infrared_optical``. Pixels are unchanged, 16
    bits stay 16 bits; where every image taken from a folder is grey, those in three channels become one.

    Raises:
        ConversionError: no folder, no pair, two files of one stem, an unreadable image, an output that
            exists; nothing is left behind then.
    """
    folder, out = existing_folder(folder), Path(out)
    if not 0 < rate_hz <= 1e6:
        raise ConversionError(f"rate_hz is {rate_hz:g}; pairs a second must lie above 0 and up to 1e6")
    sides = {
        "visible": images_in(_subfolder(folder, visible, _VISIBLE_FOLDERS)),
        "infrared": images_in(_subfolder(folder, infrared, _INFRARED_FOLDERS)),
    }
    names, remarks = _matched(folder, sides["visible"], sides["infrared"], names_file)
    topics = {"visible": "/" + visible_topic.strip("/"), "infrared": "/" + infrared_topic.strip("/")}
    if topics["visible"] == topics["infrared"]:
        raise ConversionError(f"both sides would go to {topics['visible']}; name two topics")
    grey = {side: all(is_grey(read_pixels(files[name])) for name in names) for side, files in sides.items()}
    unequal: list[str] = []
    with new_output(out) as path, BagWriter(path) as bag:
        for tick, name in enumerate(names):
            stamp_ns = _START_NS + round(tick * 1e9 / rate_hz)
            bag.write(PAIR_NAME, Text(stamp_ns, name), stamp_ns)
            sizes = []
            for side, files in sides.items():
                pixels = read_pixels(files[name])
                if grey[side] and pixels.ndim == 3:
                    pixels = np.ascontiguousarray(pixels[..., 0])
                encoding = encoding_of(pixels, files[name])
                bag.write(topics[side], Image(stamp_ns, pixels, encoding, f"{side}_optical"), stamp_ns)
                sizes.append(f"{side} {pixels.shape[1]}x{pixels.shape[0]}")
            if sizes[0].split()[1] != sizes[1].split()[1]:
                unequal.append(f"{name} ({', '.join(sizes)})")
    if unequal:
        remarks.append(f"{len(unequal)} of {len(names)} pairs have images of two sizes: {listed(unequal, 3)}")
    counts = dict.fromkeys((PAIR_NAME, *topics.values()), len(names))
    return Conversion(out, counts, tuple(remarks))


def bag_to_pairs(
    bag: str | Path, out: str | Path, topics: Sequence[str] = (), names_from: str | Path | None = None
) -> Conversion:
    """Write the images of a bag as PNG, one folder a topic (``/visible/image`` as ``visible_image``).

    ``topics``: those to write, without any all image topics. A file is called by the ``/pair_name`` of its
    stamp where the bag has one, or where ``names_from`` has one (the bag whose outputs these are), otherwise by
    its stamp in ns.
    Pixels are unchanged; images that PNG cannot hold are left out with a remark.

    Raises:
        ConversionError: the output exists, or nothing to write.
        TopicError: a topic that is absent or has no images.
        BagError: an unreadable bag.
    """
    out, written, left_out = Path(out), Counter[str](), Counter[str]()
    with BagReader(bag) as reader, BagReader(names_from or bag) as named, new_output(out) as folder:
        wanted, names = _image_topics(reader, topics), _pair_names(named)
        for message in reader.messages(wanted):
            image = reader.decode(message)
            assert isinstance(image, Image)
            if not png_can_hold(image):
                left_out[f"of {message.topic} are {image.encoding}, which PNG cannot hold"] += 1
                continue
            name = names.get(image.stamp_ns, str(image.stamp_ns))
            path = folder / message.topic.strip("/").replace("/", "_") / f"{name}.png"
            if path.exists():
                left_out[f"of {message.topic} have the stamp of an earlier one"] += 1
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            write_png(path, image)
            written[message.topic] += 1
        remarks = tuple(f"{count} images {reason}; they are left out" for reason, count in left_out.items())
        if not written:
            reason = "; ".join(remarks) or f"there is none on {listed(wanted)}"
            raise ConversionError(f"no image of {bag} was written: {reason}")
    return Conversion(out, dict(written), remarks)


def _subfolder(folder: Path, wanted: str, aliases: Iterable[str]) -> Path:
    if (folder / wanted).is_dir():
        return folder / wanted
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for names in ((wanted.casefold(),), tuple(aliases)):
        found = [path for path in folders if path.name.casefold() in names]
        if len(found) > 1:
            both = listed(path.name for path in found)
            raise ConversionError(f"{folder} has {both}; say which of these sub-folders is meant")
        if found:
            return found[0]
    raise ConversionError(
        f"{folder} has no sub-folder {wanted!r} nor one called {listed(aliases)}; its sub-folders: "
        f"{listed(path.name for path in folders)}"
    )


def _matched(
    folder: Path, visible: dict[str, Path], infrared: dict[str, Path], names_file: str | Path | None
) -> tuple[list[str], list[str]]:
    """The stems of the pairs to take, and a remark for each kind that is left out."""
    remarks = []
    if names_file is not None:
        asked = _names(Path(names_file), visible.keys() | infrared.keys())
        if missing := sorted(asked - visible.keys() - infrared.keys()):
            remarks.append(f"{len(missing)} names of {names_file} have no image: {listed(missing)}")
        visible = {stem: path for stem, path in visible.items() if stem in asked}
        infrared = {stem: path for stem, path in infrared.items() if stem in asked}
    pairs = [stem for stem in visible if stem in infrared]
    if not pairs:
        asked_by = f" of those that {names_file} lists" if names_file is not None else ""
        raise ConversionError(
            f"no pairs in {folder}{asked_by}: visible {listed(visible, 5)}; infrared {listed(infrared, 5)}; "
            "the two images of a pair must have the same name up to the suffix"
        )
    for side, other, files in (("visible", "infrared", visible), ("infrared", "visible", infrared)):
        if alone := [stem for stem in files if stem not in pairs]:
            remarks.append(f"{len(alone)} {side} images have no {other} one, so are left out: {listed(alone)}")
    return pairs, remarks


def _names(path: Path, stems: Iterable[str]) -> set[str]:
    """Stems listed in a file, with or without their suffix."""
    if not path.is_file():
        raise ConversionError(f"{path} does not exist; it should list the names of the pairs to take")
    known, names = set(stems), set[str]()
    for line in path.read_text(encoding="utf-8").splitlines():
        name = line.strip()
        if name and not name.startswith("#"):
            has_suffix = name not in known and Path(name).suffix.lower() in SUFFIXES
            names.add(Path(name).stem if has_suffix else name)
    return names


def _image_topics(reader: BagReader, topics: Sequence[str]) -> list[str]:
    images = [topic for topic, info in reader.topics.items() if info.value_type is Image]
    for topic in topics:
        if topic not in images:
            raise TopicError(
                f"{topic} is not an image topic of the bag{meant(topic, images)}; these are {listed(images)}"
            )
    if not images:
        raise ConversionError(f"the bag has no image topic; its topics are {listed(reader.topics)}")
    return list(topics) or images


def _pair_names(reader: BagReader) -> dict[int, str]:
    """The names of the pairs by stamp, as far as they can be the name of a file."""
    if PAIR_NAME not in reader.topics or reader.topics[PAIR_NAME].value_type is not Text:
        return {}
    texts = [(message.arrival_ns, reader.decode(message)) for message in reader.messages([PAIR_NAME])]
    names = {arrival_ns: text.data for arrival_ns, text in texts if isinstance(text, Text)}
    return {stamp: name for stamp, name in names.items() if re.fullmatch(r"[^./\\\0][^/\\\0]*", name)}
