"""`train`: the program of a launcher, for where there is no checkout."""

from __future__ import annotations

import argparse
import runpy
import sys

from rldarts_tf.shipped import launcher_names, shipped_folder

HELP = "search, discretize and evaluate, or train a baseline: the program of a launcher"
EXAMPLES = """
python -m rldarts_tf train ppo_procgen --gin_file=classic.gin --env_name=starpilot
python -m rldarts_tf train ppo_procgen --help
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("launcher", choices=launcher_names(), help="(%(choices)s)", metavar="NAME")
    parser.add_argument(
        "flags", nargs=argparse.REMAINDER, metavar="FLAG", help="its flags: NAME --help lists them"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs the launcher in this process."""
    path = shipped_folder("launchers") / f"{arguments.launcher}.py"
    sys.argv[1:] = arguments.flags
    runpy.run_path(str(path), run_name="__main__")
