"""Acting in many environments at once: experience for PPO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rldarts_tf.agents.gradients import diverged
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.envs.suite import Environments
from rldarts_tf.training.state import part_of, with_prefix
from rldarts_tf.training.stopwatch import Stopwatch

Act = Callable[[np.ndarray], tuple[tf.Tensor, Any, tf.Tensor]]
"""uint8 [B, H, W, C] -> (actions [B], distribution parameters, values [B])."""


class Collector:
    """Collects the same number of steps of every environment, without a loop over environments.

    Where LAST shows the first observation of the next episode (`last_is_first`, see
    `Environments`), a transition that starts at LAST is handed on as FIRST. Elsewhere a step that
    ignores its action is handed on as it is: its next_step_type is FIRST, and it is no transition.

    Args:
      environment: the environments, stepped together.
      act: the policy.
      num_steps: T, steps of each environment in a call.
      normalizer: of rewards; episode returns are recorded before it.
      stopwatch: measures the parts "act" and "simulate".
    """

    def __init__(
        self,
        environment: Environments,
        act: Act,
        num_steps: int,
        normalizer: RewardNormalizer,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        self._environment = environment
        self._act = act
        self._num_steps = num_steps
        self._normalizer = normalizer
        self._stopwatch = stopwatch or Stopwatch("act", "simulate")
        environment.reset()
        self._observations = np.empty(
            (environment.batch_size, num_steps + 1, *environment.observation_spec().shape),
            environment.observation_spec().dtype,
        )

    def collect(self) -> trajectory.Trajectory:
        """Collects experience.

        Returns:
          Numpy arrays [B, T + 1, ...]: observation uint8, action int32, policy_info (dist_params,
          value_prediction), step_type and next_step_type int32, reward (normalized) and discount
          (as the environments give it) float32. The last step is for bootstrapping: its action has
          not been played, and the next call begins at its observation. The observations are
          overwritten by the next call.

        Raises:
          RunError: the policy's output is not finite.
        """
        columns: list[dict[str, Any]] = []
        time_step = self._environment.current_time_step()
        for t in range(self._num_steps + 1):
            self._observations[:, t] = time_step.observation
            with self._stopwatch.measure("act"):
                action, dist_params, value = checked_act(self._act, time_step.observation)
            step_type = time_step.step_type
            if self._environment.last_is_first:
                step_type = np.where(step_type == ts.StepType.LAST, ts.StepType.FIRST, step_type)
            column = {
                "step_type": step_type,
                "action": action,
                "policy_info": {"dist_params": dist_params, "value_prediction": value},
                "next_step_type": np.full_like(step_type, ts.StepType.MID),
                "reward": np.zeros_like(time_step.reward),
                "discount": np.ones_like(time_step.discount),
            }
            if t < self._num_steps:
                with self._stopwatch.measure("simulate"):
                    time_step = self._environment.step(action)
                column["next_step_type"] = time_step.step_type
                column["reward"] = self._normalizer(
                    time_step.reward,
                    time_step.step_type == ts.StepType.LAST,
                    time_step.step_type == ts.StepType.FIRST,
                )
                column["discount"] = time_step.discount
            columns.append(column)
        stacked = tf.nest.map_structure(lambda *steps: np.stack(steps, axis=1), *columns)
        return trajectory.Trajectory(observation=self._observations, **stacked)

    def state(self) -> dict[str, np.ndarray]:
        """State of the environments and the reward normalizer, as arrays: resuming is exact."""
        return {
            **with_prefix("environment", self._environment.get_state()),
            **with_prefix("normalizer", self._normalizer.state()),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned."""
        self._environment.set_state(part_of(state, "environment"))
        self._normalizer.set_state(part_of(state, "normalizer"))


def checked_act(act: Act, observation: np.ndarray) -> tuple[np.ndarray, Any, np.ndarray]:
    """Calls the policy, checks that its output is finite, and returns it as numpy arrays."""
    action, dist_params, value = tf.nest.map_structure(np.asarray, act(observation))
    if not all(np.isfinite(x).all() for x in tf.nest.flatten((dist_params, value))):
        raise diverged("policy's output", "not finite", PPOSettings)
    return action, dist_params, value
