"""Cases of Triton's kernels with a planted bug, under its interpreter: one process has Triton, each bug a fork of it.

``TRITON_INTERPRET=1 python -m tests.kernels.planted.interpreted`` reads requests ``[module, file of its changed copy,
file of tests, case]`` and answers each with ``["noticed", by which number]``, ``["not noticed"]`` or, where the case
gave no numbers, ``["failed", why]``; all of it JSON lines.
"""

from __future__ import annotations

import json
import sys
import traceback
from multiprocessing import get_context
from multiprocessing.connection import Connection

import torch
import triton.experimental.gluon  # noqa: F401  which the interpreter imports late: no fork does it again

from tests.kernels import (
    attend_triton_numbers,
    channel_numbers,
    decode_numbers,
    neighbourhood_numbers,
    test_attend_triton,
    test_channel_triton,
    test_decode_triton,
    test_neighbourhood_triton,
)
from tests.kernels.planted.sitecustomize import Planted

TESTS = {
    "test_attend_triton.py": (attend_triton_numbers, test_attend_triton),
    "test_channel_triton.py": (channel_numbers, test_channel_triton),
    "test_decode_triton.py": (decode_numbers, test_decode_triton),
    "test_neighbourhood_triton.py": (neighbourhood_numbers, test_neighbourhood_triton),
}
SECONDS = 60


def find(to: Connection, module: str, file: str, tests: str, case: str) -> None:
    sys.meta_path.insert(0, Planted(module, file))
    program, test = TESTS[tests]
    try:
        measured = program.measure(case)
    except Exception:
        to.send(["failed", traceback.format_exc()])
        return
    try:
        test.check(case, measured)
    except AssertionError as complaint:
        to.send(["noticed", str(complaint)])
    else:
        to.send(["not noticed"])


def main() -> None:
    already = [name for name in sys.modules if name.startswith("ros_attn.kernels.") and name.endswith("_triton")]
    assert not already, f"imported before a bug can be planted: {already}"
    torch.set_num_threads(1)
    # For what this imports, so that no fork does it again.
    torch.use_deterministic_algorithms(True)
    torch.use_deterministic_algorithms(False)
    fork = get_context("fork")
    for line in sys.stdin:
        receiver, sender = fork.Pipe(duplex=False)
        child = fork.Process(target=find, args=(sender, *json.loads(line)))
        child.start()
        sender.close()
        try:
            found = receiver.recv() if receiver.poll(SECONDS) else ["failed", f"it takes more than {SECONDS} s"]
        except EOFError:
            found = ["failed", "its process ended"]
        child.kill()
        child.join()
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
