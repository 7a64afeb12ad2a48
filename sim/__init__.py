"""MuJoCo worlds, robots, sensors and tasks; knows no learner."""
