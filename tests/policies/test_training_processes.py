"""Training in two processes, as ``torchrun`` starts them, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path
import torch
from ros_attn.control.quadruped_walk import train as walk
from ros_attn.policies.training_processes import rank

torch.set_num_threads(1)
out, made = Path(sys.argv[1]), []
learner = walk.learner
walk.learner = lambda *given: made.append(learner(*given)) or made[0]
progress = walk.train(
    walk.Options(out=out, steps=700, robots=8, threads=1, hidden=(16, 8), frames=2, save_every_s=0.0)
)
weights = torch.cat([value.flatten() for value in made[0].get_policy().mlp.state_dict().values()])
normaliser = made[0].get_policy().obs_normalizer
torch.save({"weights": torch.cat([weights, normaliser._mean[0], normaliser._std[0]]), "steps": progress.steps,
            "reward": progress.means["reward/all"]}, out / f"rank_{rank()}.pt")
torch.distributed.destroy_process_group()
"""


def test_two_processes_learn_the_same_weights_from_robots_of_their_own(tmp_path: Path) -> None:
    import torch

    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, str(out)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(out / f"rank_{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["steps"] == second["steps"] == 768
    assert torch.equal(first["weights"], second["weights"])
    assert first["reward"] != second["reward"]
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [row["steps"] for row in rows] == [384, 768]
