"""What a conversion reads from, writes to and says afterwards."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ros_attn.errors import RosAttnError


class ConversionError(RosAttnError):
    """Input that holds nothing to convert, or an output that is in the way."""


@dataclass(frozen=True)
class Conversion:
    """``counts``: messages (or files) a topic; ``remarks``: a sentence for each thing that was left out."""

    out: Path
    counts: Mapping[str, int]
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        width = max((len(topic) for topic in self.counts), default=0)
        rows = [f"  {topic:<{width}}  {count}" for topic, count in self.counts.items()]
        return "\n".join([f"wrote {self.out}", *rows, *(f"note: {remark}" for remark in self.remarks)])


def existing_folder(path: str | Path) -> Path:
    """The path, which must be a folder."""
    path = Path(path)
    if not path.is_dir():
        state = "is a file, not a folder" if path.exists() else "does not exist"
        raise ConversionError(f"{path} {state}; name the folder that holds the data")
    return path


@contextmanager
def new_output(out: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``out`` once the body is through and vanishes otherwise."""
    if out.exists() or out.is_symlink():
        raise ConversionError(f"{out} exists; remove it or choose another name")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    except OSError as error:
        raise ConversionError(f"{out} cannot be created there ({error}); choose another place") from error
    try:
        yield beside / out.name
        (beside / out.name).rename(out)
    except OSError as error:
        raise ConversionError(f"{out} could not be written ({error}); nothing was kept") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
