"""Acting in many environments at once: experience for learning, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rldarts_tf.envs.procgen import EpisodeStatistics, ProcgenEnvironment
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.errors import RunError

Act = Callable[[np.ndarray], tuple[tf.Tensor, Any, tf.Tensor]]
"""uint8 [N, H, W, C] -> (actions [N], distribution parameters, values [N])."""


class Collector:
    """Collects T steps of N environments per call, without a loop over environments.

    A transition that starts at the end of an episode is the first of the next one (see
    `ProcgenEnvironment`), so it is handed on as FIRST and no transition is lost.

    Args:
      environment: N environments.
      act: the policy.
      num_steps: T.
      normalizer: of rewards; episode returns are recorded before it.
    """

    def __init__(
        self,
        environment: ProcgenEnvironment,
        act: Act,
        num_steps: int,
        normalizer: RewardNormalizer,
    ) -> None:
        self._environment = environment
        self._act = act
        self._num_steps = num_steps
        self._normalizer = normalizer
        environment.reset()
        self._observations = np.empty(
            (environment.batch_size, num_steps + 1, *environment.observation_spec().shape),
            environment.observation_spec().dtype,
        )

    def collect(self) -> trajectory.Trajectory:
        """Collects experience.

        Returns:
          Numpy arrays [N, T + 1, ...]: observation uint8, action int32, policy_info (dist_params,
          value_prediction), step_type and next_step_type int32, reward (normalized) and discount
          float32. The last step is for bootstrapping: its action has not been played, and the next
          call begins at its observation. The observations are overwritten by the next call.

        Raises:
          RunError: the policy's output is not finite.
        """
        columns: list[dict[str, Any]] = []
        time_step = self._environment.current_time_step()
        for t in range(self._num_steps + 1):
            self._observations[:, t] = time_step.observation
            action, dist_params, value = _checked_act(self._act, time_step.observation)
            ended_before = time_step.step_type == ts.StepType.LAST
            column = {
                "step_type": np.where(ended_before, ts.StepType.FIRST, time_step.step_type),
                "action": action,
                "policy_info": {"dist_params": dist_params, "value_prediction": value},
                "next_step_type": np.full_like(time_step.step_type, ts.StepType.MID),
                "reward": np.zeros_like(time_step.reward),
                "discount": np.ones_like(time_step.discount),
            }
            if t < self._num_steps:
                time_step = self._environment.step(action)
                column["next_step_type"] = time_step.step_type
                column["reward"] = self._normalizer(time_step.reward, time_step.is_last())
                column["discount"] = time_step.discount
            columns.append(column)
        stacked = tf.nest.map_structure(lambda *steps: np.stack(steps, axis=1), *columns)
        return trajectory.Trajectory(observation=self._observations, **stacked)

    def state(self) -> dict[str, np.ndarray]:
        """Everything needed to go on exactly from here, as arrays."""
        return {
            **{f"environment/{k}": v for k, v in self._environment.get_state().items()},
            **{f"normalizer/{k}": v for k, v in self._normalizer.state().items()},
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `state` returned."""

        def part(prefix: str) -> dict[str, np.ndarray]:
            return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}

        self._environment.set_state(part("environment/"))
        self._normalizer.set_state(part("normalizer/"))


class Evaluation(NamedTuple):
    """Returns of whole episodes, raw rewards."""

    returns: np.ndarray
    """float64 [episodes]."""
    lengths: np.ndarray
    """int64 [episodes]."""


def evaluate(environment: ProcgenEnvironment, act: Act, num_episodes: int) -> Evaluation:
    """Plays fresh environments, each for equally many whole episodes.

    Equally many of each, because the first episodes to finish of all are the short ones.

    Args:
      environment: N fresh environments.
      act: the policy; actions are sampled from it, as in training.
      num_episodes: the least number; rounded up to a multiple of N.

    Raises:
      RunError: the policy's output is not finite.
    """
    quota = -(-num_episodes // environment.batch_size)
    counts = np.zeros(environment.batch_size, np.int64)
    episodes = EpisodeStatistics(environment.batch_size)
    returns, lengths = [], []
    time_step = environment.reset()
    while counts.min() < quota:
        action, _, _ = _checked_act(act, time_step.observation)
        time_step = environment.step(action)
        finished = episodes.add(time_step.reward, time_step.is_last())
        # An environment ends at most one episode a step, so indices do not repeat.
        counted = counts[finished.environments] < quota
        counts[finished.environments] += 1
        returns.append(finished.returns[counted])
        lengths.append(finished.lengths[counted])
    return Evaluation(np.concatenate(returns), np.concatenate(lengths))


def _checked_act(act: Act, observation: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray]:
    """What the policy gives, as numpy arrays; an action sampled from NaN would be no action."""
    action, dist_params, value = tf.nest.map_structure(np.asarray, act(observation))
    if not all(np.isfinite(x).all() for x in tf.nest.flatten((dist_params, value))):
        raise RunError(
            "the policy's output is not finite: training has diverged; "
            "lower PPOSettings.learning_rate"
        )
    return action, dist_params, value
