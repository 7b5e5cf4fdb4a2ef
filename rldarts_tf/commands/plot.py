"""`plot`: return curves of one run or several seeds; the op weights of a search."""

from __future__ import annotations

import argparse

from rldarts_tf.errors import ConfigError
from rldarts_tf.pictures import plotting

HELP = "draw returns over environment steps: a line per stage, over several runs as mean and band"
EXAMPLES = """
python -m rldarts_tf plot runs/starpilot --output=returns.png
python -m rldarts_tf plot runs/starpilot-0 runs/starpilot-1 --output=returns.svg
python -m rldarts_tf plot runs/starpilot --column=eval_test_return_mean --output=returns.png
python -m rldarts_tf plot runs/starpilot --op_weights --output=ops.png
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "run_dirs",
        nargs="+",
        metavar="RUN",
        help="run directories; several are seeds of one experiment: the line is their mean, the "
        "band one standard deviation",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="the picture, .png or .svg")
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--column", default="return_mean", help="column of metrics.csv (default: %(default)s)"
    )
    what.add_argument(
        "--op_weights",
        action="store_true",
        help="of one run, instead: the weight of each op over the search, and what it contributes, "
        "where that was recorded",
    )


def run(arguments: argparse.Namespace) -> None:
    """Draws the picture and prints its path."""
    if arguments.op_weights:
        if len(arguments.run_dirs) > 1:
            raise ConfigError("op_weights: give one run, not several")
        plotting.plot_search(arguments.run_dirs[0], arguments.output)
    else:
        plotting.plot_run(arguments.run_dirs, arguments.output, arguments.column)
    print(arguments.output)
