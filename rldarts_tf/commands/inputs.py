"""Arguments that several subcommands take: genotypes, policies, lists of numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from rldarts_tf.checks import INT32_MAX, shown
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths

GENOTYPE_HELP = "a genotype file, or the directory of a run that has found one"


def load_genotype(path: str) -> Genotype:
    """Reads a genotype file, or that of a run directory.

    Raises:
      GenotypeError: the file cannot be read or is not valid.
      RunError: the run has found none yet.
    """
    if Path(path).is_dir():
        file = RunPaths(Path(path)).genotype_path
        if not file.exists():
            raise RunError(f"{path!r} has no {file.name}: its search has not been discretized")
        return Genotype.load(file)
    return Genotype.load(path)


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares `run_dir`, `stage` and `step`, which name a trained policy."""
    parser.add_argument("run_dir", metavar="RUN", help="a run directory")
    parser.add_argument(
        "--stage",
        choices=TRAINED_STAGES,
        default="evaluate",
        help="whose policy: of the supernet, the cell (default) or the baseline",
    )
    parser.add_argument(
        "--step", type=int, help="environment steps of the checkpoint (default: the newest)"
    )


def positive(text: str, most: int = INT32_MAX) -> int:
    """Parses an integer from 1 to `most`, for argparse."""
    # Python itself refuses to read thousands of digits.
    number = int(text) if text.isdecimal() and len(text) <= len(str(most)) else 0
    if not 1 <= number <= most:
        message = f"must be an integer of at least 1, at most {most}, got {shown(text)}"
        raise argparse.ArgumentTypeError(message)
    return number


def integers(text: str, integer: Callable[[str], int] = positive) -> list[int]:
    """Parses integers separated by commas, such as "1,2,4", for argparse."""
    return [integer(part.strip()) for part in text.split(",")]


def nodes(text: str) -> int:
    """Parses a number of nodes of a cell, or of inputs of a node, for argparse."""
    return positive(text, 1000)


def width(text: str) -> int:
    """Parses a number of channels or features of a network, for argparse."""
    return positive(text, 2**16)


def widths(text: str) -> list[int]:
    """Parses numbers of channels separated by commas, such as "64,64,64", for argparse."""
    return integers(text, width)


def image_shape(text: str) -> tuple[int, int, int]:
    """Parses height, width and channels, such as "64x64x3", for argparse."""
    parts = text.lower().split("x")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTHxCHANNELS, not {shown(text)}")
    height, width, channels = (positive(part, 1024) for part in parts)
    return height, width, channels


def writable_directory(path: str) -> Path:
    """Returns a directory, made if it is missing.

    Raises:
      ConfigError: it cannot be made.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path!r} cannot be made: {error.strerror}") from None
    return Path(path)
