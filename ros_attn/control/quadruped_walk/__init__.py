"""A quadruped that walks by velocity commands without eyes: its training and the node that runs the policy."""
