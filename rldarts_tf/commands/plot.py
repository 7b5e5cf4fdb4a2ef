"""`plot`: return curves of one run or several seeds."""

from __future__ import annotations

import argparse

from rldarts_tf.pictures import plotting

HELP = "draw returns over environment steps: a line per stage, over several runs as mean and band"
EXAMPLES = """
python -m rldarts_tf plot runs/starpilot --output=returns.png
python -m rldarts_tf plot runs/starpilot-0 runs/starpilot-1 --output=returns.svg
python -m rldarts_tf plot runs/starpilot --column=eval_test_return_mean --output=returns.png
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
    parser.add_argument(
        "--column", default="return_mean", help="column of metrics.csv (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Draws the picture and prints its path."""
    plotting.plot_run(arguments.run_dirs, arguments.output, arguments.column)
    print(arguments.output)
