"""The safety gate: what stands between every policy and the robot's joints."""
