"""Hosts of components: bag replay, rclpy nodes, simulation."""
