"""Evaluates policies: returns of whole episodes in fresh environments."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rldarts_tf.envs.suite import Environments, Suite
from rldarts_tf.training.returns import game_columns, summarize
from rldarts_tf.training.seeds import derived_seed

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
      num_episodes: the least number; rounded up to a multiple of the number of environments.
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


class Evaluator:
    """Plays every evaluation set of a suite.

    Args:
      suite: the environments.
      num_envs: the most environments that step together.
      seed: of the run. The simulators' seeds follow from it, the same every time: what changes
        between evaluations is the policy.
    """

    def __init__(self, suite: Suite, num_envs: int, seed: int) -> None:
        self._suite = suite
        self._num_envs = num_envs
        self._seed = seed

    @property
    def columns(self) -> tuple[str, ...]:
        """The metrics that a call returns."""
        return tuple(
            column
            for name in self._suite.evaluation_sets
            for column in (
                f"eval_{name}_return_mean",
                f"eval_{name}_return_std",
                f"eval_{name}_return_mean_normalized",
                *game_columns(f"eval_{name}_return_mean", self._suite.games),
            )
        )

    def __call__(self, make_policy: Callable[[int], Policy], num_episodes: int) -> dict[str, float]:
        """Plays fresh environments of every set; returns metrics.

        Args:
          make_policy: such as `AgentProgram.evaluation_policy`; called for each set.
          num_episodes: the least number of whole episodes in each.
        """
        games = self._suite.games
        num_envs = min(max(num_episodes, len(games)), self._num_envs)
        seed = derived_seed(self._seed, "evaluation environments")
        results: dict[str, float] = {}
        for name, chosen in self._suite.evaluation_sets.items():
            environment = self._suite.make(num_envs, seed, **chosen.overrides)
            policy = make_policy(self._seed)
            try:
                played = evaluate(environment, policy, num_episodes)
            finally:
                environment.close()
            of_episode = np.array(environment.games)[played.environments]
            returns = {game: played.returns[of_episode == game] for game in games}
            means = {game: float(np.mean(values)) for game, values in returns.items()}
            results |= summarize(means, f"eval_{name}_return_mean", self._suite.normalized)
            results[f"eval_{name}_return_std"] = float(np.mean([*map(np.std, returns.values())]))
        return results
