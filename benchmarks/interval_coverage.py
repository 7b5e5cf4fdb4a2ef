"""Coverage of the intervals of studies: how often they hold the truth, by number of searches.

python benchmarks/interval_coverage.py --studies=500

Scores are simulated: architectures vary with a standard deviation, seeds around them with 1; found
cells are as good as random ones. A 95 % interval should hold the truth in 95 of 100 studies.
"""

from __future__ import annotations

import argparse

import numpy as np

from rldarts_tf.commands.inputs import integers, positive
from rldarts_tf.studies.statistics.aggregates import (
    interquartile_mean,
    probability_of_improvement,
)
from rldarts_tf.studies.statistics.best_of import best_of, equal_time
from rldarts_tf.studies.statistics.differences import (
    architecture_means,
    uncertainty,
    welch_interval,
)
from rldarts_tf.studies.statistics.equal_cost import at_equal_cost
from rldarts_tf.studies.statistics.resampling import bootstrap
from rldarts_tf.studies.statistics.variance import variance_components

BEST_OF = 3
REPETITIONS = 400


def runs(table: np.ndarray) -> np.ndarray:
    """All runs of each repetition on one axis."""
    return table.reshape(len(table), -1)


STATISTICS = {
    "difference (bootstrap)": (
        lambda one, other: architecture_means(one).mean(-1) - architecture_means(other).mean(-1),
        0.0,
    ),
    "probability of improvement": (
        lambda one, other: probability_of_improvement(runs(one), runs(other)),
        0.5,
    ),
    "interquartile mean": (lambda one, other: interquartile_mean(runs(one)), 0.0),
}
"""Those with bootstrap intervals, each with its true value."""


def held(low: float, high: float, truth: float) -> bool:
    """Whether an interval holds the truth."""
    return bool(low <= truth <= high)


def study(
    rng: np.random.Generator, searches: int, cells: int, seeds: int, between: float, best: float
) -> dict[str, bool]:
    """Simulates a study; returns by statistic whether its interval holds the truth."""
    found, random = (
        rng.normal(0, between, (rows, 1)) + rng.normal(size=(rows, seeds))
        for rows in (searches, cells)
    )
    value = float(found.mean() - random.mean())
    welch = welch_interval(value, uncertainty(found), uncertainty(random))
    results = {"difference (Welch)": held(welch.low, welch.high, 0.0)}
    for name, (statistic, truth) in STATISTICS.items():
        _, low, high = bootstrap(statistic, found, random, repetitions=REPETITIONS)
        results[name] = held(low, high, truth)
    gain = equal_time(found, random, BEST_OF).gain
    results["gain over the best of 3"] = held(gain.low, gain.high, -best)
    icc = variance_components(random).icc
    costs = rng.uniform(size=searches + cells)
    beside = at_equal_cost(costs[:searches], found.mean(-1), costs[searches:], random.mean(-1))
    assert beside is not None
    results["at equal multiply-adds"] = held(beside.gain.low, beside.gain.high, 0.0)
    results["ICC"] = held(icc.low, icc.high, between**2 / (between**2 + 1))
    return results


def main() -> None:
    """Prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=positive, default=500, help="for each row")
    parser.add_argument("--searches", type=integers, default=[3, 5, 10])
    parser.add_argument("--cells", type=positive, default=20)
    parser.add_argument("--seeds", type=positive, default=3)
    args = parser.parse_args()
    for searches in args.searches:
        for between in (0.0, 1.0, 3.0):
            rng = np.random.default_rng(0)
            population = rng.normal(0, between, (4000, 1)) + rng.normal(size=(4000, args.seeds))
            best = best_of(population, BEST_OF)
            outcomes = [
                study(rng, searches, args.cells, args.seeds, between, best)
                for _ in range(args.studies)
            ]
            names = list(outcomes[0])
            if (searches, between) == (args.searches[0], 0.0):
                print("| searches | sd between cells |", " | ".join(names), "|")
                print("|---" * (len(names) + 2) + "|")
            shares = [100 * np.mean([outcome[name] for outcome in outcomes]) for name in names]
            row = [f"{searches}", f"{between:g}", *(f"{share:.0f} %" for share in shares)]
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
