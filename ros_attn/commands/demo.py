"""``ros-attn demo``: a simulated drive as a bag, the fusion over it, and the report, in one go."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import webbrowser
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

import ros_attn
from ros_attn.commands import evaluate, replay
from ros_attn.errors import RosAttnError

MARK = "demo.json"
THERMAL_FOVY_DEG = 57.0  # wide enough that every visible pixel has an infrared one


@dataclass(frozen=True)
class Options:
    """Render a drive through a street with haze that comes and goes, fuse its two cameras, write the report."""

    out: Path = Path("runs/demo")
    """folder of the demo; its bag is kept and used again, its run is replaced."""
    seed: int = 0
    """another seed is another street."""
    duration: float = 10.0
    """seconds of the drive."""
    backend: Literal["auto", "egl", "osmesa", "rays"] = "auto"
    """how to draw; rays need no GL library."""
    truth: bool = False
    """record the clear picture, depth and segmentation too."""
    open: bool = True
    """open the report in a browser where there is a display."""


def run(argv: list[str]) -> int:
    """The verb."""
    options = tyro.cli(Options, args=argv, prog="ros-attn demo")
    began = time.perf_counter()
    bag = _bag(options)
    run_folder = options.out / "run"
    shutil.rmtree(run_folder, ignore_errors=True)
    print("2/3 replaying it through infrared_visible_fusion, without ROS")
    frames = ["--infrared-frame", "thermal_optical_frame", "--visible-frame", "visible_optical_frame"]
    code = replay.run(
        [str(bag), "infrared_visible_fusion", "--align", "calibration", *frames, "--out", str(run_folder)]
    )
    if code:
        return code
    print("3/3 scoring every picture and writing the report")
    code = evaluate.run([str(run_folder)])
    report = run_folder / "report.html"
    print(f"\nDone in {time.perf_counter() - began:.0f} s. The report: {report}")
    print(f"Look into the bag: ros-attn info {bag}")
    if options.open and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or sys.platform == "darwin"):
        webbrowser.open(report.resolve().as_uri())
    return code


def _bag(options: Options) -> Path:
    """The bag of the drive: made, or the one made before from the same settings by the same version."""
    from ros_attn.hosts.drive_bag import record_drive
    from ros_attn.sim.drive import DriveConfig
    from ros_attn.sim.street_rendering import choose_backend

    backend, reason = choose_backend(None if options.backend == "auto" else options.backend)
    config = DriveConfig(duration_s=options.duration, seed=options.seed, thermal_fovy_deg=THERMAL_FOVY_DEG)
    if backend == "rays":
        # A ray a pixel is ten times slower than a rasteriser.
        config = replace(config, width=320, height=240, thermal_width=160, thermal_height=128)
    wanted = {**asdict(config), "backend": backend, "truth": options.truth, "version": ros_attn.__version__}
    bag, mark = options.out / "bag", options.out / MARK
    if options.out.exists() and any(options.out.iterdir()) and not mark.is_file():
        raise RosAttnError(f"{options.out} exists and is no demo folder; choose another --out.")
    if mark.is_file() and bag.is_dir() and json.loads(mark.read_text()) == json.loads(json.dumps(wanted)):
        print(f"1/3 the drive is drawn already: {bag}")
        return bag
    print(f"1/3 drawing a drive down a street and writing it as a bag: {reason}")
    options.out.mkdir(parents=True, exist_ok=True)
    mark.write_text("{}\n")
    shutil.rmtree(bag, ignore_errors=True)
    from tqdm import tqdm

    form = "{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]"
    with tqdm(total=100, bar_format=form, leave=False, disable=not sys.stderr.isatty()) as bar:

        def show(share: float) -> None:
            bar.update(max(0.0, 100 * share - bar.n))

        recording = record_drive(bag, config, backend, options.truth, show)
    mark.write_text(json.dumps(wanted) + "\n")
    print(f"    {recording.visible_frames} visible and {recording.thermal_frames} thermal frames")
    return bag
