"""The one console script, ``ros-attn``. Every verb is a module of :mod:`ros_attn.commands`, imported when used."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "replay": "run components over a bag, without ROS: outputs, metrics and a summary",
    "evaluate": "score a run (or compare two) and write an HTML report",
    "convert": "make a bag from image pairs or KITTI raw, image pairs from a bag, and a copy in bad weather",
    "info": "say what is in a bag",
    "demo": "render a drive, replay it, write the report: everything in one go",
    "node": "run components as rclpy lifecycle nodes",
    "robot": "run a simulated quadruped as a ROS 2 node, in lock step or real time",
    "play": "let a policy drive a simulated quadruped: a summary, a video or a window",
    "doctor": "look at the ROS set-up: RMW, shared memory, QoS, clocks",
    "components": "list the components, their topics and parameters",
    "params": "write the parameter files of launch/config",
    "train": "train the models of a component; resumes where it was stopped",
    "export": "make a checkpoint, with ONNX, of a training run",
    "bench": "time the attention kernels beside their peers",
}


def _help() -> str:
    width = max(map(len, VERBS))
    lines = ["usage: ros-attn VERB [options]      (ros-attn VERB --help says more)", ""]
    lines += [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Dispatch to a verb; a :class:`ros_attn.errors.RosAttnError` becomes one sentence and exit code 1."""
    from ros_attn.errors import RosAttnError, meant

    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(_help())
        return 0 if argv else 2
    if argv[0] == "--version":
        from ros_attn import __version__

        print(__version__)
        return 0
    verb, rest = argv[0], argv[1:]
    if verb not in VERBS:
        print(f"ros-attn: there is no verb {verb!r}{meant(verb, VERBS)}.\n\n{_help()}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"ros_attn.commands.{verb}")
    try:
        return command.run(rest)
    except RosAttnError as error:
        print(f"ros-attn {verb}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"ros-attn {verb}: the Python package {error.name!r} is not installed; "
            f"install it with: pip install 'ros-attn[{extra}]'.",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print(f"ros-attn {verb}: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has seen enough.
        sys.stderr.close()
        return 0


EXTRAS = {
    "cv2": "perception",
    "onnxscript": "train",
    "scipy": "evaluate",
    "jinja2": "evaluate",
    "rclpy": "ros",
    "mujoco": "sim",
    "gymnasium": "sim",
    "torch": "train",
    "safetensors": "train",
    "rsl_rl": "train",
    "tensordict": "train",
    "open3d": "recon",
    "matplotlib": "viz",
}


if __name__ == "__main__":
    sys.exit(main())
