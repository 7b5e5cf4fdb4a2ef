"""Whole episodes of a policy, with everything that it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import dm_env
import numpy as np
import tensorflow as tf

from rldarts_tf.envs.suite import Environments
from rldarts_tf.export.policies import Policy


@dataclasses.dataclass(frozen=True)
class Moment:
    """An observation, and what an episode has come to.

    Attributes:
      observation: [H, W, C], as the environments gave it.
      episode_return: sum of the raw rewards so far.
      step: actions played so far.
    """

    observation: np.ndarray
    episode_return: float
    step: int


@dataclasses.dataclass(frozen=True)
class Episode:
    """An episode of T actions.

    Attributes:
      game: its game.
      moments: T + 1, from the first observation to the last. Where the last one is never seen
        (`Environments.last_is_first`), the one before it stands twice.
      ended: False where it was stopped.
    """

    game: str
    moments: Sequence[Moment]
    ended: bool = True


def play(policy: Policy, num_episodes: int, seed: int = 0, max_steps: int = 2000) -> list[Episode]:
    """Plays the greedy policy in the environments of evaluations.

    Args:
      policy: see `load_policy`.
      num_episodes: whole episodes of each game.
      seed: of the simulators.
      max_steps: actions after which an episode is stopped, and with it those of its game.

    Returns:
      Episodes in the order of games, then of time.
    """
    suite = policy.suite
    overrides = suite.evaluation_sets["test"].overrides
    environment = suite.make(len(suite.games), seed, **overrides)
    try:
        return _play(environment, policy, num_episodes, max_steps)
    finally:
        environment.close()


def _play(
    environment: Environments, policy: Policy, num_episodes: int, max_steps: int
) -> list[Episode]:
    act = tf.function(policy.outputs, autograph=False)
    time_step = environment.reset()
    running = [[Moment(image, 0.0, 0)] for image in time_step.observation]
    games = environment.games
    played: list[list[Episode]] = [[] for _ in games]
    unfinished = set(range(len(games)))
    while unfinished:
        time_step = environment.step(act(tf.constant(time_step.observation))["action"].numpy())
        finished = environment.episodes.take()
        ends = {i: (float(r), int(n)) for r, n, i in zip(*finished)}
        state = environment.episodes.state()
        returns, lengths = state["running_returns"], state["running_lengths"]
        for i in tuple(unfinished):
            image, moments = time_step.observation[i], running[i]
            now = Moment(image, float(returns[i]), int(lengths[i]))
            if time_step.step_type[i] == dm_env.StepType.FIRST:
                running[i] = [now]
            elif time_step.step_type[i] == dm_env.StepType.LAST:
                shown = moments[-1].observation if environment.last_is_first else image
                played[i].append(Episode(games[i], [*moments, Moment(shown, *ends[i])]))
                running[i] = [now]  # where a FIRST follows, it takes this one's place
            else:
                moments.append(now)
                if len(moments) > max_steps:
                    played[i].append(Episode(games[i], moments, ended=False))
                    unfinished.discard(i)
            if len(played[i]) == num_episodes:
                unfinished.discard(i)
    return [episode for episodes in played for episode in episodes]
