"""Whole episodes of a policy, with everything that it saw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import dm_env
import numpy as np
import tensorflow as tf

from rldarts_tf.envs.suite import Environments
from rldarts_tf.errors import RunError
from rldarts_tf.export.policies import Policy

Act = Callable[[np.ndarray], np.ndarray]
"""Observations [B, H, W, C] -> actions [B, ...]."""


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


def play(
    policy: Policy,
    num_episodes: int,
    seed: int = 0,
    max_steps: int = 2000,
    sampled: bool = False,
) -> list[Episode]:
    """Plays a policy in the environments of evaluations.

    Args:
      policy: see `load_policy`.
      num_episodes: whole episodes of each game.
      seed: of the simulators, and of actions that are drawn.
      max_steps: actions after which an episode is stopped, and with it those of its game.
      sampled: actions are drawn from the policy's probabilities; they are greedy by default.

    Returns:
      Episodes in the order of games, then of time.

    Raises:
      RunError: the policy has no probabilities to draw from.
    """
    suite = policy.suite
    overrides = suite.evaluation_sets["test"].overrides
    environment = suite.make(len(suite.games), seed, **overrides)
    try:
        return _play(
            environment, _actor(policy, seed if sampled else None), num_episodes, max_steps
        )
    finally:
        environment.close()


def visited(policy: Policy, number: int, seed: int = 0) -> np.ndarray:
    """Observations that a policy meets when it acts as in training, where it draws its actions.

    Of 16 environments or one of each game, every fourth step: [number, H, W, C].
    """
    num_envs = max(len(policy.suite.games), 16)
    environment = policy.suite.make(num_envs, seed)
    try:
        observation = environment.reset().observation
        draws = "logits" in policy.outputs(tf.constant(observation))
        act = _actor(policy, seed if draws else None)
        seen = []
        for step in range(4 * -(-number // num_envs)):
            observation = environment.step(act(observation)).observation
            if step % 4 == 3:
                seen.append(observation)
    finally:
        environment.close()
    return np.concatenate(seen)[:number]


def _actor(policy: Policy, seed: int | None) -> Act:
    """Acts greedily; with a seed, draws actions."""
    outputs = tf.function(policy.outputs, autograph=False)
    rng = np.random.default_rng(seed)

    def act(images: np.ndarray) -> np.ndarray:
        of_images = outputs(tf.constant(images))
        if seed is None:
            return of_images["action"].numpy()
        if "logits" not in of_images:
            raise RunError("sampled: only PPO's policy of discrete actions has probabilities")
        # The Gumbel-max trick: no probabilities that would have to sum to 1.
        logits = of_images["logits"].numpy()
        return np.argmax(logits + rng.gumbel(size=logits.shape), axis=-1).astype(np.int32)

    return act


def _play(environment: Environments, act: Act, num_episodes: int, max_steps: int) -> list[Episode]:
    time_step = environment.reset()
    running = [[Moment(image, 0.0, 0)] for image in time_step.observation]
    games = environment.games
    played: list[list[Episode]] = [[] for _ in games]
    unfinished = set(range(len(games)))
    while unfinished:
        time_step = environment.step(act(time_step.observation))
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
