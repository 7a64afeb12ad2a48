"""The verbs of ``ros-attn``: one module each, with ``run(argv) -> exit code``."""
