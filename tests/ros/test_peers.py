"""What gate and policy say that they have taken."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from std_srvs.srv import Trigger

from ros_attn.hosts.ros_peers import Peer

ANSWER = "/imu 20\n/joint_states 15\n/emergency_stop -1"


@pytest.mark.parametrize("stamps, taken", [
    ({"/imu": 20, "/joint_states": 15}, True),
    ({"/imu": 19}, True),
    ({"/imu": 20, "/joint_states": 20}, False),
    ({"/emergency_stop": 0}, False),
    ({"/imu": 20, "/depth/image": 20}, True),  # it does not hear that one
    ({}, True),
])  # fmt: skip
def test_all_stamps_of_topics_that_are_heard_must_be_there(stamps: dict[str, int], taken: bool) -> None:
    assert Peer.has_taken(Trigger.Response(success=True, message=ANSWER), stamps) == taken


def test_an_inactive_node_has_taken_nothing() -> None:
    assert not Peer.has_taken(Trigger.Response(success=False, message=""), {"/imu": 1})
