"""Learning Catch with Rainbow: settings with which it takes a few hundred steps, and the return."""

from __future__ import annotations

import numpy as np

from rldarts_tf.envs.catch import Catch

SETTINGS = dict(
    batch_size=32,
    samples_per_insert=32,
    min_replay_size=100,
    n_step=5,
    replay_capacity=10_000,
    learning_rate=2e-3,
    target_update_period=25,
    epsilon_base=0.1,
    epsilon_exponents=(1, 1),
    epsilon_decay=0,
    hidden_size=64,
)
"""Of `RainbowSettings`; a dictionary, for where the agent cannot be imported."""


def mean_return(values, seed, board=(6, 5), miss_reward=0.0, num_games=100):
    """The mean return of games that are played greedily and side by side.

    Args:
      values: images [B, ...] -> values of the actions [B, 3].
      seed: of the first game; each has a start of its own.
      board: rows and columns.
      miss_reward: of a ball that is missed.
      num_games: B.
    """
    games = [Catch(*board, seed=seed + i, miss_reward=miss_reward) for i in range(num_games)]
    steps = [game.reset() for game in games]
    while not steps[0].last():  # They all have the same length.
        actions = np.argmax(values(np.stack([step.observation for step in steps])), axis=-1)
        steps = [game.step(int(action)) for game, action in zip(games, actions)]
    return float(np.mean([step.reward for step in steps]))
