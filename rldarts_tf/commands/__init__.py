"""The subcommands of `python -m rldarts_tf`.

Each is a module of its name with `HELP` and `EXAMPLES` (text for --help), `add_arguments(parser)`
and `run(arguments)`, which prints to standard output. Bad input ends with one line and exit code 2,
a bug with one line and exit code 1.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

import rldarts_tf.tensorflow_environment  # noqa: F401 - for its effect, before TensorFlow loads
from rldarts_tf._version import __version__
from rldarts_tf.errors import report_error, report_exception, show_anything
from rldarts_tf.user_modules import IMPORT_HELP, import_modules

COMMANDS = (
    "train",
    "study",
    "show",
    "draw",
    "discretize",
    "compare",
    "random",
    "size",
    "plot",
    "report",
    "export",
    "watch",
)


class _Parser(argparse.ArgumentParser):
    """Reports bad arguments as one line."""

    def error(self, message: str) -> NoReturn:
        sys.exit(report_error(f"{message}; see {self.prog} --help"))


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of all subcommands."""
    parser = _Parser(
        prog="python -m rldarts_tf",
        description="What can be done with genotypes, search spaces and runs.",
    )
    parser.add_argument("--version", action="version", version=f"rldarts_tf {__version__}")
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help=f"{IMPORT_HELP[0].lower()}{IMPORT_HELP[1:]}",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"{__name__}.{name}")
        lines = command.EXAMPLES.strip().splitlines()
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog="\n".join(["examples:", *(f"  {line.strip()}" for line in lines)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a subcommand; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    for text in argv:
        if re.fullmatch(r"--\w+=--", text):  # argparse takes it for no value, not for a bad one
            parser.error(f"argument {text[:-3]}: expected one argument")
    arguments = parser.parse_args(argv)
    show_anything()
    try:
        import_modules(arguments.imports)
        arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output (head, less) has had enough. Python would try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        return report_exception(error)
    return 0
