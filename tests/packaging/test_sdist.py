"""sdist, and the wheel that is built from it: the same files as the wheel of the checkout."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

from .conftest import built


def test_a_wheel_from_the_sdist_is_the_wheel_of_the_checkout(source: Path, wheel: Path, tmp_path: Path) -> None:
    for each in ("dist", "unpacked", "wheel"):
        (tmp_path / each).mkdir()
    with tarfile.open(built("sdist", source, tmp_path / "dist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    [unpacked] = (tmp_path / "unpacked").iterdir()
    again = built("wheel", unpacked, tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(again) as other:
        assert sorted(one.namelist()) == sorted(other.namelist())
        for name in one.namelist():
            if not name.endswith(("RECORD", "METADATA", "WHEEL")):
                assert one.read(name) == other.read(name), name
