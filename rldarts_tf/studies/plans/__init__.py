"""The kinds of studies: each a function from settings, and results so far, to trials.

A plan is asked again whenever a trial has finished, and gives all its trials each time, in the
order in which they should run. One that depends on results gives more of them as there are more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from rldarts_tf.errors import ConfigError
from rldarts_tf.studies.plans import comparisons
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.studies.plans.trajectory import trajectory
from rldarts_tf.studies.trials import Trial

Plan = Callable[[TrialMaker], Iterator[Trial]]

PLANS: Mapping[str, Plan] = {
    "search_pays": comparisons.search_pays,
    "random_cells": comparisons.random_cells,
    "trajectory": trajectory,
    "correlation": comparisons.searches,
    "kernel_size": comparisons.baseline_variants,
    "model_size": comparisons.baseline_variants,
    "teaching": comparisons.taught,
    "pareto": comparisons.taught,
    "ablations": comparisons.ablations,
    "cost": comparisons.searches,
    "scores": comparisons.search_pays,
    "transfer": comparisons.transfer,
    "sweep": comparisons.searches,
}
"""By `StudySettings.kind`."""


def planned(maker: TrialMaker) -> dict[str, Trial]:
    """The trials of a study by name, as far as they are known; teachers first.

    Raises:
      ConfigError: two trials that differ would share a name.
      RunError: a cell that a trial needs cannot be read.
    """
    made = [*PLANS[maker.settings.kind](maker)]
    trials: dict[str, Trial] = {}
    for trial in (*maker.teachers, *made):
        if trials.setdefault(trial.name, trial) != trial:
            raise ConfigError(
                f"StudySettings: two different trials would be named {trial.name!r}: give methods "
                "and variants names that no other architecture has"
            )
    return trials
