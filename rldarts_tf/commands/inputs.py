"""Arguments that several subcommands take: genotypes, policies, lists of numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths

# The networks are made to be counted: what is larger would not fit into memory.
_MOST_PIXELS = 1024

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


def positive(text: str) -> int:
    """Parses an integer of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, got {text!r}")
    return int(text)


def integers(text: str) -> list[int]:
    """Parses positive integers separated by commas, such as "64,64,64", for argparse."""
    return [positive(part.strip()) for part in text.split(",")]


def image_shape(text: str) -> tuple[int, int, int]:
    """Parses height, width and channels, such as "64x64x3", for argparse."""
    parts = text.lower().split("x")
    if len(parts) != 3:
        raise argparse.ArgumentTypeError(f"must be HEIGHTxWIDTHxCHANNELS, not {text!r}")
    height, width, channels = map(positive, parts)
    if max(height, width, channels) > _MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"must be at most {_MOST_PIXELS} each, not {text!r}")
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
