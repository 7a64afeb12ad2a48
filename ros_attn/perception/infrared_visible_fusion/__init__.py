"""Infrared-visible fusion: one picture that keeps what either camera sees."""
