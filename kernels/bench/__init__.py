"""Benchmarks of the kernels: what is timed beside what, row by row, as ``ros-attn bench kernels`` runs them."""
