"""The loss of an agent that learns from replay, on held-out experience."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import dm_env
import numpy as np
import tensorflow as tf
from acme import types
from typing_extensions import override

from rldarts_tf.envs.suite import Environments
from rldarts_tf.training.held_out import HeldOut


class Steps(NamedTuple):
    """T steps of B environments; t counts states, of which there is one more.

    Attributes:
      observations: [T + 1, B, ...].
      step_types: int [T + 1, B], of those observations.
      actions: [T, B, ...].
      rewards: float32 [T, B], scaled.
      discounts: float32 [T, B], 0 where the episode terminated.
    """

    observations: np.ndarray
    step_types: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    discounts: np.ndarray


def n_step_transitions(steps: Steps, n_step: int, discount: float) -> types.Transition:
    """Transitions of n steps, fewer only where an episode ends, as replay has them.

    From s_t to s_{t+m}, m <= n: the reward is Σ_{k<m} γ^k D_k r_{t+k}, D_k the product of the
    environment's discounts before step k, and the discount γ^{m-1} D_m. Those whose m-th step is
    after the last one here, or was never made, are left out.

    Args:
      steps: consecutive ones.
      n_step: n.
      discount: γ.

    Returns:
      Numpy arrays [number, ...]; actions as they are, rewards and discounts float32 [number].
    """
    first = steps.step_types[1:] == dm_env.StepType.FIRST
    last = steps.step_types[1:] == dm_env.StepType.LAST
    length, num_envs = first.shape
    found: list[tuple[int, int, int, float, float]] = []
    for b in range(num_envs):
        for t in range(length):
            reward, product = 0.0, 1.0
            for k in range(min(n_step, length - t)):
                if first[t + k, b]:  # The action was ignored: an episode begins.
                    break
                reward += discount**k * product * float(steps.rewards[t + k, b])
                product *= float(steps.discounts[t + k, b])
                if last[t + k, b] or k == n_step - 1:
                    found.append((t, t + k + 1, b, reward, discount**k * product))
                    break
    begin, end, env = (np.array([row[i] for row in found], int) for i in range(3))
    rewards, discounts = (np.array([row[i] for row in found], np.float32) for i in (3, 4))
    return types.Transition(
        observation=steps.observations[begin, env],
        action=steps.actions[begin, env],
        reward=rewards,
        discount=discounts,
        next_observation=steps.observations[end, env],
    )


class Minibatches(NamedTuple):
    """Held-out experience.

    Attributes:
      transitions: [G, M, ...].
      targets: what the network is to predict of them, [G, M, ...].
    """

    transitions: types.Transition
    targets: tf.Tensor


class OffPolicyHeldOut(HeldOut):
    """`HeldOut` of an agent that learns from replay: its loss on transitions that it draws alike.

    The policy explores as at this moment of training. What is in replay comes of earlier policies
    too; this is of the present one alone. Targets are those of the moment of collecting: were they
    of the networks as they are when the loss is asked for, one that predicts the same of all
    states, because an op is missing, would agree with itself and have a small loss.

    Args:
      environment: fresh environments, which are this object's from now on.
      act: observations [B, ...] -> actions, with a source of randomness of its own.
      rewards: scales rewards float32 [B] for learning.
      target_of: transitions [M, ...] and the number of the minibatch -> their targets [M, ...].
      loss_of: transitions and their targets -> the mean loss, a scalar.
      batch_size: M, transitions of a minibatch.
      n_step: rewards in a return.
      discount: γ.
    """

    def __init__(
        self,
        environment: Environments,
        act: Callable[[np.ndarray], np.ndarray],
        rewards: Callable[[np.ndarray], np.ndarray],
        target_of: Callable[[types.Transition, tf.Tensor], tf.Tensor],
        loss_of: Callable[[types.Transition, tf.Tensor], tf.Tensor],
        batch_size: int,
        n_step: int,
        discount: float,
    ) -> None:
        super().__init__(environment, batch_size)
        self._num_steps += n_step - 1  # The last ones of a collection begin no return.
        self._act, self._rewards = act, rewards
        self._target_of, self._loss_of = target_of, loss_of
        self._n_step, self._discount = n_step, discount
        self._time_step = environment.reset()

    @override
    def collect(self, groups: int) -> Minibatches:
        transitions = super().collect(groups)
        # One after another, for all at once may be more than memory has.
        targets = [self._target_of(_group(transitions, i), tf.constant(i)) for i in range(groups)]
        return Minibatches(transitions, tf.stack(targets))

    def _step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Makes one step of each environment: (actions, rewards, discounts), each [B, ...]."""
        actions = self._act(self._time_step.observation)
        self._time_step = self._environment.step(actions)
        begins = self._time_step.step_type == dm_env.StepType.FIRST
        self.environment_steps += int(np.sum(~begins))
        # Copies: environments may write into the same arrays again.
        rewards = np.array(self._rewards(self._time_step.reward), np.float32)
        return actions, rewards, np.array(self._time_step.discount, np.float32)

    @override
    def _transitions(self) -> types.Transition:
        states, made = [_state(self._time_step)], []
        for _ in range(self._num_steps):
            made.append(self._step())
            states.append(_state(self._time_step))
        steps = Steps(*map(np.stack, (*zip(*states), *zip(*made))))
        return n_step_transitions(steps, self._n_step, self._discount)

    @override
    def losses(self, experience: Minibatches) -> tf.Tensor:
        # One after another, in one trace of the loss; AutoGraph would translate Sonnet too.
        loss_of = tf.autograph.experimental.do_not_convert(lambda group: self._loss_of(*group))
        if experience.targets.shape[0] == 1:
            return loss_of(_group(experience, 0))[None]
        return tf.map_fn(loss_of, experience, fn_output_signature=tf.float32)


def _group(nest: Any, number: int) -> Any:
    return tf.nest.map_structure(lambda x: x[number], nest)


def _state(time_step: Any) -> tuple[np.ndarray, np.ndarray]:
    """Copies of (observations, step types)."""
    return np.array(time_step.observation), np.array(time_step.step_type)
