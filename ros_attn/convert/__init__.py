"""Data sets to bags and back: the code behind ``ros-attn convert``."""
