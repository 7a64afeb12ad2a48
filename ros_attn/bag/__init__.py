"""Bags: read rosbag2 directories, single .mcap and .db3 files and ROS 1 bags; write rosbag2 mcap."""

from ros_attn.bag.reader import BagMessage, BagReader, TopicInfo
from ros_attn.bag.writer import BagWriter

__all__ = ["BagMessage", "BagReader", "BagWriter", "TopicInfo"]
