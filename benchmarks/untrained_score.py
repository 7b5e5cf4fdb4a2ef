r"""Whether Jacobian covariance, a score without training, tells a study's good random cells.

    python benchmarks/untrained_score.py --policy=runs/asterix \
        --trainings=docs/results/search_pays/asterix_no_stem_taught.csv

The cells are drawn again as the study drew them, which their multiply-adds confirm, and scored at
several random initializations, on batches of states that a trained policy meets (RL-DARTS figure
R1). Spearman's rank correlation with the cells' mean returns stands beside that of multiply-adds.
"""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
import numpy as np
import tensorflow as tf

from rldarts_tf.cost import count_cost
from rldarts_tf.errors import ConfigError
from rldarts_tf.export.playing import visited
from rldarts_tf.export.policies import load_policy
from rldarts_tf.genotype import Genotype
from rldarts_tf.launch import gin_files
from rldarts_tf.search.signals.jacobian import jacobian_covariance
from rldarts_tf.studies.loading import load_study
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.studies.statistics.ranks import rank_correlation
from rldarts_tf.training.settings import EncoderSettings

BATCH = 16
"""B of figure R1."""


@dataclasses.dataclass(frozen=True)
class Trained:
    """A random cell of a study: its mean return over seeds, and its size."""

    final_return: float
    multiply_adds: int


def random_cells(trainings: str) -> dict[str, Trained]:
    """The random cells of a study by name, such as "random-07".

    Raises:
      ConfigError: the file cannot be read, or has none.
    """
    returns, sizes = collections.defaultdict(list), {}
    try:
        with open(trainings, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["arm"] == "random":
                    returns[row["architecture"]].append(float(row["final_return"]))
                    sizes[row["architecture"]] = int(row["multiply_adds"])
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(f"trainings: {trainings!r} is no table of a study: {error}") from error
    if not sizes:
        raise ConfigError(f"trainings: {trainings!r} has no random cells")
    return {name: Trained(float(np.mean(returns[name])), sizes[name]) for name in sizes}


def distinct_states(run: str, batches: int) -> np.ndarray:
    """States that the trained baseline of a run meets, all different: [batches, BATCH, H, W, C].

    Equal images have equal Jacobians, whatever the network.

    Raises:
      ConfigError: it meets too few.
    """
    wanted = batches * BATCH
    states = np.unique(visited(load_policy(Path(run), "baseline"), 8 * wanted), axis=0)
    if len(states) < wanted:
        raise ConfigError(f"policy: {run!r} meets {len(states)} different states of {wanted}")
    chosen = np.random.default_rng(0).permutation(states)[:wanted]
    return chosen.reshape(batches, BATCH, *states.shape[1:])


def score(
    genotype: Genotype, settings: EncoderSettings, images: np.ndarray, seeds: Sequence[int]
) -> tuple[float, int]:
    """(mean score over initializations and batches, multiply-adds) of a cell."""
    scores, multiply_adds = [], 0
    for seed in seeds:
        tf.keras.utils.set_random_seed(seed)
        encoder = settings.make("discrete", genotype)
        multiply_adds = count_cost(encoder, images.shape[2:], images.dtype).multiply_adds
        scores += [jacobian_covariance(encoder, batch) for batch in images]
    return float(np.mean(scores)), multiply_adds


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument("--trainings", required=True, help="CSV file of a study's trainings")
    parser.add_argument("--policy", required=True, help="run directory whose baseline plays")
    parser.add_argument(
        "--gin_file",
        action="append",
        help="of the study, may be repeated (search_pays.gin with laptop_pools.gin)",
    )
    parser.add_count("--batches", 8, f"of {BATCH} states")
    parser.add_count("--seeds", 5, "initializations of each cell")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Scores, prints and writes."""
    args: argparse.Namespace = make_parser().parse_args(argv)
    cells = random_cells(args.trainings)
    images = distinct_states(args.policy, args.batches)
    files = args.gin_file or ["studies/search_pays.gin", "studies/sizes/laptop_pools.gin"]
    with tempfile.TemporaryDirectory() as folder:
        study = load_study(files, [f"StudySettings.random_cells = {len(cells)}"])
        maker = TrialMaker(study, Path(folder))
        genotypes = {
            name: Genotype.load(Path(folder) / maker.random_cell(int(name.rpartition("-")[2])))
            for name in cells
        }
    gin_files.load(study.gin_files, study.bindings)
    settings = gin_files.resolve(EncoderSettings)["evaluate"][0]
    scores: dict[str, float] = {}
    for name, genotype in genotypes.items():
        common.progress(name)
        scores[name], multiply_adds = score(genotype, settings, images, range(args.seeds))
        if multiply_adds != cells[name].multiply_adds:
            raise ConfigError(
                f"gin_file: {name} has {multiply_adds:,} multiply-adds, and "
                f"{cells[name].multiply_adds:,} in {args.trainings!r}, of another study"
            )
    common.print_table(
        f"Random cells of {args.trainings}",
        ("cell", "Jacobian covariance", "final return", "multiply-adds"),
        [(n, scores[n], c.final_return, c.multiply_adds) for n, c in cells.items()],
    )
    returns = np.array([cell.final_return for cell in cells.values()])
    correlations = {
        "Jacobian covariance": rank_correlation(np.array([scores[n] for n in cells]), returns),
        "multiply-adds": rank_correlation(
            np.array([cell.multiply_adds for cell in cells.values()]), returns
        ),
    }
    common.print_table(
        f"Rank correlation with the final return, {len(cells)} cells",
        ("", "Spearman", "95 %"),
        [(n, r.value, f"{r.low:.2f} to {r.high:.2f}") for n, r in correlations.items()],
    )
    results = {
        "cells": {n: {"score": scores[n], **vars(c)} for n, c in cells.items()},
        "correlations": {n: vars(r) for n, r in correlations.items()},
    }
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
