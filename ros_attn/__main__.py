"""``python -m ros_attn`` is ``ros-attn``: launch files use it so that a venv's interpreter is the one that runs."""

import sys

from ros_attn.cli import main

sys.exit(main())
