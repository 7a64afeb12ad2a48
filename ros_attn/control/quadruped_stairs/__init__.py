"""A quadruped that climbs hollow stairs by a depth camera."""
