"""Attention kernels: plain PyTorch as the specification and the CPU path, Triton beside it.

``attend`` is the one attention call of the suite, ``Visibility`` says who sees whom. Nothing here needs Triton or a
GPU to be imported.
"""

from ros_attn.kernels.attention import attend
from ros_attn.kernels.layout import ALL, EMPTY, NEVER, PAST, SAME, Rule, memory
from ros_attn.kernels.ring import Ring
from ros_attn.kernels.visibility import Order, Visibility

__all__ = ["ALL", "EMPTY", "NEVER", "PAST", "SAME", "Order", "Ring", "Rule", "Visibility", "attend", "memory"]
