"""Replaces one module of the package by a copy with a planted bug, in this interpreter and its children.

Python imports this file by itself where its folder is on PYTHONPATH. ``PLANTED_BUG`` names the module and the file
that holds the changed copy: a file, because Triton reads the source of its kernels from there.
"""

from __future__ import annotations

import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from typing import Any


class Planted(MetaPathFinder):
    def __init__(self, module: str, file: str) -> None:
        self._module, self._file = module, file

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return spec_from_file_location(name, self._file) if name == self._module else None


if "PLANTED_BUG" in os.environ:
    sys.meta_path.insert(0, Planted(*os.environ["PLANTED_BUG"].split("=", 1)))
