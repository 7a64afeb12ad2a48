"""Metrics, and the report that puts two versions side by side."""
