"""Attention kernels: plain PyTorch as the specification and the CPU path, Triton beside it."""
