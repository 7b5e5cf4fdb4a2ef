"""CleanRL's PPO as a program to run: its own script, in an environment of its own (peers.py)."""

from __future__ import annotations

import argparse
import os
import re
import shutil
from pathlib import Path

from rldarts_tf.errors import ConfigError

SCRIPT = Path("cleanrl") / "ppo_procgen.py"
STAND_IN = Path(__file__).with_name("minatar_as_procgen.py")
UPDATE = re.compile(r"SPS: \d")
"""The line that the script prints after each update."""
FOREVER = 10**9
"""Environment steps, of which nobody waits for the last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares `--cleanrl` and `--cleanrl_python`."""
    parser.add_argument("--cleanrl", metavar="CHECKOUT", help=f"a folder with {SCRIPT}")
    parser.add_argument("--cleanrl_python", metavar="PYTHON", help="the interpreter that runs it")


def make_command(args: argparse.Namespace) -> list[str]:
    """The command that trains until it is ended.

    Raises:
      ConfigError: there is no such script or no such interpreter.
    """
    if args.cleanrl is None or args.cleanrl_python is None:
        raise ConfigError(
            "--cleanrl and --cleanrl_python are required beside impala_cnn; "
            "--networks=micro,classic needs neither"
        )
    script = Path(args.cleanrl, SCRIPT)
    if not script.is_file():
        raise ConfigError(f"--cleanrl: must be a folder with {SCRIPT}, got {args.cleanrl!r}")
    python = shutil.which(args.cleanrl_python)
    if python is None:
        raise ConfigError(f"--cleanrl_python: no such program: {args.cleanrl_python!r}")
    return [
        # Links stay: an interpreter knows by its place which environment it belongs to.
        *(os.path.abspath(python), "-u", os.path.abspath(script)),
        f"--num-envs={args.num_envs}",
        f"--num-steps={args.steps}",
        f"--num-minibatches={args.num_envs * args.steps // args.minibatch_size}",
        f"--update-epochs={args.epochs}",
        f"--total-timesteps={FOREVER}",
    ]


def make_place(folder: str, frames: str) -> dict[str, str]:
    """Prepares the folder that the script runs in; returns the environment variables for it."""
    if frames == "minatar":
        shutil.copy(STAND_IN, Path(folder, "procgen.py"))
    return {"PYTHONPATH": folder}
