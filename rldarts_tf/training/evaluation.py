"""Evaluates a policy: returns of whole episodes in fresh environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rldarts_tf.envs.suite import Environments

Policy = Callable[[np.ndarray], np.ndarray]
"""Observations [B, ...] -> actions [B, ...]."""


class Evaluation(NamedTuple):
    """Whole episodes, raw rewards."""

    returns: np.ndarray
    """float64 [episodes]."""
    lengths: np.ndarray
    """int64 [episodes]."""
    environments: np.ndarray
    """Index of the environment that played each, int64 [episodes]."""


def evaluate(environment: Environments, policy: Policy, num_episodes: int) -> Evaluation:
    """Plays fresh environments, each for equally many whole episodes.

    Equally many of each, because the first episodes to finish of all are the short ones.

    Args:
      environment: fresh environments.
      policy: what acts.
      num_episodes: the least number; rounded up to a multiple of the number of
        environments.
    """
    quota = -(-num_episodes // environment.batch_size)
    counts = np.zeros(environment.batch_size, np.int64)
    counted_episodes = []
    time_step = environment.reset()
    while counts.min() < quota:
        time_step = environment.step(policy(time_step.observation))
        finished = environment.episodes.take()
        # An environment ends at most one episode a step, so indices do not repeat.
        counted = counts[finished.environments] < quota
        counts[finished.environments] += 1
        counted_episodes.append([column[counted] for column in finished])
    return Evaluation(*map(np.concatenate, zip(*counted_episodes)))
