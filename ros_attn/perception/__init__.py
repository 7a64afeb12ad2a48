"""Perception systems, one folder each: model, component, training."""
