"""Reward normalization by the spread of the discounted return, as Cobbe et al. 2020 train with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rldarts_tf.errors import ConfigError, RunError

# The statistics start as if this much of one sample with mean 0 and variance 1 had been seen:
# enough to make the variance defined, too little to be noticed after one batch.
_INITIAL_COUNT = 1e-4


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return.

    The rule of OpenAI Baselines' VecNormalize. At each step t, for N environments:

        R   <- gamma * R + r_t                 one R per environment
        var <- variance of every R so far      over all environments and steps
        r'  =  clip(r_t / sqrt(var + epsilon), -clip, clip)
        R   <- 0 where the episode ended

    So the step's own R counts in the variance that scales it, and the mean is not subtracted.
    Batches join the running variance by Chan's parallel formula, in float64.
    """

    def __init__(
        self, num_envs: int, gamma: float, clip: float = 10.0, epsilon: float = 1e-8
    ) -> None:
        """Creates the statistics of `num_envs` environments.

        Args:
          num_envs: N.
          gamma: discount of the return R, in [0, 1].
          clip: bound on the size of a normalized reward.
          epsilon: added to the variance.

        Raises:
          ConfigError: if an argument is out of range.
        """
        if num_envs < 1:
            raise ConfigError(f"num_envs: must be at least 1, not {num_envs}")
        if not 0.0 <= gamma <= 1.0:
            raise ConfigError(f"gamma: must lie in [0, 1], not {gamma}")
        if not clip > 0.0:
            raise ConfigError(f"clip: must be positive, not {clip}")
        if not epsilon > 0.0:
            raise ConfigError(f"epsilon: must be positive, not {epsilon}")
        self._gamma = float(gamma)
        self._clip = float(clip)
        self._epsilon = float(epsilon)
        self._returns = np.zeros(num_envs, np.float64)
        self._mean = 0.0
        self._variance = 1.0
        self._count = _INITIAL_COUNT

    @property
    def variance(self) -> float:
        """Running variance of the discounted return."""
        return self._variance

    def __call__(self, rewards: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Takes one step of all environments into the statistics and normalizes its rewards.

        Args:
          rewards: raw rewards, float [N].
          ended: bool [N], True where this step ended the episode.

        Returns:
          Normalized rewards, float32 [N].

        Raises:
          ValueError: if a shape is wrong or a reward is not finite, which would spoil the
            statistics for good. They are then unchanged.
        """
        rewards = np.asarray(rewards, np.float64)
        ended = np.asarray(ended, bool)
        if rewards.shape != self._returns.shape or ended.shape != self._returns.shape:
            raise ValueError(
                f"rewards {rewards.shape} and ended {ended.shape} must have the shape "
                f"{self._returns.shape}"
            )
        if not np.isfinite(rewards).all():
            raise ValueError("rewards: not finite")
        self._returns = self._gamma * self._returns + rewards
        self._merge(self._returns)
        scaled = rewards / np.sqrt(self._variance + self._epsilon)
        self._returns[ended] = 0.0
        return np.clip(scaled, -self._clip, self._clip).astype(np.float32)

    def _merge(self, batch: np.ndarray) -> None:
        """Joins a batch of returns, float64 [N], to mean, variance and count (Chan et al. 1979)."""
        total = self._count + batch.size
        delta = float(batch.mean()) - self._mean
        squares = (
            self._variance * self._count
            + float(batch.var()) * batch.size
            + delta**2 * self._count * batch.size / total
        )
        self._mean += delta * batch.size / total
        self._variance = squares / total
        self._count = total

    def state(self) -> dict[str, np.ndarray]:
        """Returns the statistics as float64 arrays: `returns` [N], `mean`, `variance`, `count`."""
        return {
            "returns": self._returns.copy(),
            "mean": np.asarray(self._mean, np.float64),
            "variance": np.asarray(self._variance, np.float64),
            "count": np.asarray(self._count, np.float64),
        }

    def set_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restores what `state` returned.

        Raises:
          RunError: if an entry is missing, has a wrong shape, or is not finite. The statistics
            are then unchanged.
        """
        values = {}
        for name, current in self.state().items():
            if name not in state:
                raise RunError(f"reward statistics: {name!r} is missing")
            value = np.array(state[name], np.float64)
            if value.shape != current.shape:
                raise RunError(
                    f"reward statistics: {name!r} has shape {value.shape}, not {current.shape}"
                )
            if not np.isfinite(value).all():
                raise RunError(f"reward statistics: {name!r} is not finite")
            values[name] = value
        self._returns = values["returns"]
        self._mean = float(values["mean"])
        self._variance = float(values["variance"])
        self._count = float(values["count"])
