"""Files of killed processes in shared memory are told from those of living ones."""

from __future__ import annotations

import fcntl
from pathlib import Path

from ros_attn.hosts.ros_leftovers import leftovers


def test_only_what_nobody_holds_is_left_over(tmp_path: Path) -> None:
    names = ["fastrtps_0a1b", "fastrtps_2c3d", "fastrtps_port7411", "fastrtps_port7413", "fastrtps_port7415"]
    for name in [*names, "lttng-ust-wait-6"]:
        (tmp_path / name).touch()
    locks = [tmp_path / name for name in ("fastrtps_port7411_el", "fastrtps_port7415_sl", "fastrtps_2c3d_el")]
    for lock in [*locks, tmp_path / "fastrtps_0a1b_el"]:
        lock.touch()
    files = [lock.open() for lock in locks]
    fcntl.flock(files[0], fcntl.LOCK_EX)
    fcntl.flock(files[1], fcntl.LOCK_SH)
    fcntl.flock(files[2], fcntl.LOCK_EX)
    assert leftovers(tmp_path) == [tmp_path / "fastrtps_0a1b", tmp_path / "fastrtps_port7413"]
    for file in files:  # what dies lets go
        file.close()
    assert leftovers(tmp_path) == [tmp_path / name for name in names]


def test_nothing_is_left_where_nothing_was(tmp_path: Path) -> None:
    assert leftovers(tmp_path) == leftovers(tmp_path / "absent") == []
