"""Attention-based perception, world-action models and policies for robots.

Each system is written once as a :class:`ros_attn.component.Component` and runs unchanged in deterministic
bag replay without ROS, as an rclpy lifecycle node, and in closed loop with a MuJoCo robot.
"""

__version__ = "0.1.0"
