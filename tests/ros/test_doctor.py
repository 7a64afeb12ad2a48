"""The doctor: what it says of shared memory, QoS and clocks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")

from ros_attn.errors import RosAttnError
from ros_attn.hosts.ros_doctor import SHARED_MEMORY, Findings, segment_size, shared_memory, shipped_profile
from ros_attn.hosts.ros_leftovers import PORT, leftovers
from ros_attn.values import Imu
from tests.ros.driver import LATCHED, RELIABLE, Driver

ROOT = Path(__file__).parents[2]
PROFILE = ROOT / "launch" / "config" / "fastdds.xml"


def test_the_shipped_profile_sets_32_megabytes() -> None:
    assert segment_size(PROFILE) == 32 * 2**20
    assert Path(shipped_profile()) == PROFILE


def test_segment_size_of_other_files(tmp_path: Path) -> None:
    plain = tmp_path / "plain.xml"
    plain.write_text("<profiles><transport_descriptors/></profiles>")
    assert segment_size(plain) is None
    plain.write_text("<profiles>")
    with pytest.raises(RosAttnError, match=r"plain\.xml cannot be read as a Fast DDS profile"):
        segment_size(plain)


def findings(environment: dict[str, str], room: Path) -> Findings:
    found = Findings()
    shared_memory(found, environment, room)
    return found


def test_shared_memory(tmp_path: Path) -> None:
    none = findings({}, tmp_path)
    assert not none.ok
    assert none.lines[0].startswith(
        "!! no Fast DDS profile is in force in this shell: the shared-memory segment is 512 kB, less than one VGA "
        f"image, and sensor-data topics lose images; export FASTRTPS_DEFAULT_PROFILES_FILE={PROFILE} in every shell"
    )
    ours = findings({"FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}, tmp_path)
    assert ours.ok
    assert ours.lines[0] == f"   FASTRTPS_DEFAULT_PROFILES_FILE={PROFILE}: shared-memory segment 32 MB"
    absent = findings({"FASTDDS_DEFAULT_PROFILES_FILE": str(tmp_path / "no.xml")}, tmp_path)
    assert absent.lines[0].startswith(f"!! FASTDDS_DEFAULT_PROFILES_FILE: {tmp_path / 'no.xml'} cannot be read")
    huge = tmp_path / "huge.xml"
    huge.write_text(PROFILE.read_text().replace("33554432", str(2**60)))
    crowded = findings({"FASTRTPS_DEFAULT_PROFILES_FILE": str(huge)}, tmp_path)
    assert "MB free, too little for 4 processes of 1099511627776 MB each" in crowded.lines[1]
    assert findings({}, tmp_path / "nowhere").lines[1].startswith(f"!! {tmp_path / 'nowhere'} does not exist")


PROGRAM = """
import sys
from ros_attn.graph import single
from ros_attn.hosts.ros_doctor import doctor
text, ok = doctor(single(sys.argv[1]) if sys.argv[1:] else None, sample_s=1.0)
print(text)
sys.exit(not ok)
"""


def test_topics_rates_and_clocks(driver: Driver, domain_id: int) -> None:
    good, late = driver.publisher("/imu", Imu, RELIABLE), driver.publisher("/late/imu", Imu, LATCHED)

    def send() -> None:
        now_ns = driver.node.get_clock().now().nanoseconds
        good.send(Imu(now_ns, np.zeros(3), np.zeros(3)))
        late.send(Imu(now_ns - 7200 * 10**9, np.zeros(3), np.zeros(3)))

    driver.node.create_timer(0.02, send)
    run = [sys.executable, "-P", "-c", PROGRAM]
    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id), "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 1, done.stderr
    assert f"middleware rmw_fastrtps_cpp, ROS_DOMAIN_ID {domain_id}" in done.stdout
    rate = re.search(
        r"/imu  sensor_msgs/msg/Imu  ([\d.]+) Hz, stamps ([\d.]+) ms behind this machine's clock", done.stdout
    )
    assert rate is not None
    assert 35 < float(rate[1]) < 65
    assert float(rate[2]) < 200
    assert "from /driver: reliable, volatile" in done.stdout
    assert "from /driver: reliable, transient local" in done.stdout
    assert (
        "!! /late/imu: stamps 7200 s behind this machine's clock; set the sensor's clock (chrony, PTP)" in done.stdout
    )
    component = f"{Path(__file__).with_name('components.py')}:Calibrated"
    done = subprocess.run([*run, component], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert "!! /camera_info: nobody publishes it." in done.stdout
    assert "/late/imu" not in done.stdout


NODE = """
import sys, rclpy
rclpy.init()
node = rclpy.create_node("short_lived")
print("up", flush=True)
sys.stdin.read()
"""


def test_what_a_killed_node_leaves_is_told(domain_id: int) -> None:
    first = 7400 + 250 * domain_id  # ports of a domain, by the RTPS specification

    def left() -> set[Path]:
        ports = {path for path in leftovers(SHARED_MEMORY) if path.name.startswith(PORT)}
        return {path for path in ports if first <= int(path.name.removeprefix(PORT)) < first + 250}

    environment = {**os.environ, "ROS_DOMAIN_ID": str(domain_id), "FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)}
    for path in left():
        path.unlink()
    with subprocess.Popen(
        [sys.executable, "-c", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as node:
        assert node.stdout is not None and node.stdout.readline() == "up\n"
        assert not left()
        before = set(leftovers(SHARED_MEMORY))
        node.kill()
    killed = left()
    assert killed
    [told] = [line for line in findings(environment, SHARED_MEMORY).lines if "belong to no process" in line]
    assert int(re.findall(r"(\d+) ports", told)[0]) >= len(killed) and f"rm {SHARED_MEMORY}/fastrtps_*" in told
    for path in set(leftovers(SHARED_MEMORY)) - before:  # its segment has 32 MB
        path.unlink()
