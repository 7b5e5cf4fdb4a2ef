"""Returns with common random numbers: what differs between two of them is the policy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from rldarts_tf.envs.suite import Environments
from rldarts_tf.errors import RunError
from rldarts_tf.export.policies import Policy
from rldarts_tf.training.seeds import derived_seed

_MOST_ENVIRONMENTS = 64


class PairedReturns:
    """Plays the same episodes whenever it is called: same seeds, same noise in the actions.

    Each environment plays its first episode and no more, since only the first begins at a state
    that the seed alone decides. The environments of games that draw as they go (sticky actions)
    stay alike until the policies choose different actions.

    Actions are drawn where the policy has logits, as in evaluations of PPO: a_t = argmax(logits +
    g_t) with Gumbel noise g_t that is the same for every policy. Other policies act greedily.

    The network computes on the environments that are still in their episode, and is traced once.

    Args:
      policy: what acts; whoever calls this may change its weights and masks between two calls.
      num_episodes: episodes of each game.
      seed: of environments and noise.
      max_steps: actions after which an episode is stopped; its return so far counts.
      greedy: never draw actions.
    """

    def __init__(
        self,
        policy: Policy,
        num_episodes: int,
        seed: int = 0,
        max_steps: int = 2000,
        greedy: bool = False,
    ) -> None:
        self._suite = policy.suite
        self._num_episodes = num_episodes * len(policy.suite.games)
        self._seed = seed
        self._max_steps = max_steps
        self.environment_steps = 0

        def choose(images: tf.Tensor) -> dict[str, tf.Tensor]:
            outputs = policy.outputs(images)
            chosen = "logits" if "logits" in outputs and not greedy else "action"
            return {chosen: outputs[chosen]}

        shape = [None, *policy.image_shape]
        self._choose = tf.function(
            choose, autograph=False, input_signature=[tf.TensorSpec(shape, policy.image_dtype)]
        )

    def __call__(self) -> np.ndarray:
        """Plays; returns the raw returns, float64 [episodes], in the same order every time.

        Raises:
          RunError: the policy's output is not finite.
        """
        return np.concatenate([self._play(number, size) for number, size in self._batches()])

    def _batches(self) -> Iterator[tuple[int, int]]:
        """(number, environments) of each batch: as equal as games allow."""
        games = len(self._suite.games)
        most = max(_MOST_ENVIRONMENTS // games, 1) * games
        for number, begin in enumerate(range(0, self._num_episodes, most)):
            yield number, min(most, self._num_episodes - begin)

    def _play(self, number: int, num_envs: int) -> np.ndarray:
        seed = derived_seed(self._seed, f"paired episodes {number}")
        overrides = self._suite.evaluation_sets["test"].overrides
        environment = self._suite.make(num_envs, seed, **overrides)
        try:
            return self._first_episodes(environment, np.random.default_rng(seed))
        finally:
            environment.close()

    def _first_episodes(self, environment: Environments, rng: np.random.Generator) -> np.ndarray:
        returns = np.full(environment.batch_size, np.nan)
        time_step = environment.reset()
        actions = None
        for _ in range(self._max_steps):
            playing = np.flatnonzero(np.isnan(returns))
            chosen = self._act(time_step.observation, playing, rng)
            if actions is None:
                actions = np.zeros((environment.batch_size, *chosen.shape[1:]), chosen.dtype)
            actions[playing] = chosen
            time_step = environment.step(actions)
            self.environment_steps += len(playing)
            finished = environment.episodes.take()
            first = np.isnan(returns[finished.environments])
            returns[finished.environments[first]] = finished.returns[first]
            if not np.isnan(returns).any():
                return returns
        running = environment.episodes.state()["running_returns"]
        return np.where(np.isnan(returns), running, returns)

    def _act(
        self, observation: np.ndarray, playing: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Actions of the environments that are playing."""
        # A power of two: kernels are prepared for each size of a batch.
        rows = np.resize(playing, 1 << (len(playing) - 1).bit_length())
        [(name, values)] = self._choose(tf.constant(observation[rows])).items()
        array = values.numpy()[: len(playing)]
        if not np.isfinite(array).all():
            raise RunError("the policy's output is not finite")
        if name == "action":
            return array
        # Drawn for all, so that who has finished changes nothing for the others.
        noise = rng.gumbel(size=(len(observation), *array.shape[1:]))[playing]
        return np.argmax(array + noise, axis=-1).astype(np.int32)
