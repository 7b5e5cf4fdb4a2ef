"""Scales of rewards: by the spread of the discounted return, or by a game's maximum return."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from rldarts_tf.errors import ConfigError, RunError

# The statistics start as if this much of one sample with mean 0 and variance 1 had been seen:
# enough to make the variance defined, too little to be noticed after one batch.
_INITIAL_COUNT = 1e-4


class RewardNormalizer:
    """Divides rewards by the running standard deviation of the discounted return (PPO).

    Cobbe et al. 2020 train with it; the rule is that of OpenAI Baselines' VecNormalize. At each
    step t, for B environments:

        R   <- gamma * R + r_t                 one R per environment
        var <- variance of every R so far      over all environments and steps
        r'  =  clip(r_t / sqrt(var + epsilon), -clip, clip)
        R   <- 0 where the episode ended

    A step that only began an episode has no reward: it sets R to 0 and counts in nothing.
    So the step's own R counts in the variance that scales it, and the mean is not subtracted.
    Batches join the running variance by Chan's parallel formula, in float64.

    Environments in different groups, such as different games, have nothing in common: each group
    has a variance of its own, so that a game of large rewards does not drown the others.
    """

    def __init__(
        self,
        num_envs: int,
        gamma: float,
        clip: float = 10.0,
        epsilon: float = 1e-8,
        groups: Sequence[Hashable] | None = None,
    ) -> None:
        """Creates the statistics of `num_envs` environments.

        Args:
          num_envs: B.
          gamma: discount of the return R, in [0, 1].
          clip: bound on the size of a normalized reward.
          epsilon: added to the variance.
          groups: the group of each environment, B values, such as the names of the games; None is
            one group. Groups are numbered in the order in which they first occur.

        Raises:
          ConfigError: if an argument is out of range, or there are not B groups.
        """
        if num_envs < 1:
            raise ConfigError(f"num_envs: must be at least 1, not {num_envs}")
        if not 0.0 <= gamma <= 1.0:
            raise ConfigError(f"gamma: must lie in [0, 1], not {gamma}")
        if not clip > 0.0:
            raise ConfigError(f"clip: must be positive, not {clip}")
        if not epsilon > 0.0:
            raise ConfigError(f"epsilon: must be positive, not {epsilon}")
        if groups is None:
            groups = (None,) * num_envs
        if len(groups) != num_envs:
            raise ConfigError(f"groups: must name a group for each of {num_envs} environments")
        numbers = {group: g for g, group in enumerate(dict.fromkeys(groups))}
        self._group = np.array([numbers[group] for group in groups])  # [B]
        self._size = np.bincount(self._group).astype(np.float64)  # [G]
        self._gamma = float(gamma)
        self._clip = float(clip)
        self._epsilon = float(epsilon)
        self._returns = np.zeros(num_envs, np.float64)
        self._mean = np.zeros(len(numbers), np.float64)
        self._variance = np.ones(len(numbers), np.float64)
        self._count = np.full(len(numbers), _INITIAL_COUNT, np.float64)

    @property
    def variance(self) -> np.ndarray:
        """Running variance of the discounted return, float64 [G]; a scalar if G is 1."""
        return self._by_group(self._variance)

    @property
    def scale(self) -> np.ndarray:
        """What the next reward of each environment is divided by, about, float64 [B]."""
        return np.sqrt(self._variance + self._epsilon)[self._group]

    def __call__(
        self, rewards: np.ndarray, ended: np.ndarray, begun: np.ndarray | None = None
    ) -> np.ndarray:
        """Takes one step of all environments into the statistics and normalizes its rewards.

        Args:
          rewards: raw rewards, float [B].
          ended: bool [B], True where this step ended the episode.
          begun: bool [B], True where this step only began an episode; None: nowhere.

        Returns:
          Normalized rewards, float32 [B].

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
        if begun is None or not np.any(begun):
            self._merge(self._returns, self._group, self._size)
        elif not np.all(begun):
            group = self._group[~begun]
            size = np.bincount(group, minlength=self._size.size).astype(np.float64)
            self._merge(self._returns[~begun], group, size)
        scaled = rewards / self.scale
        self._returns[ended if begun is None else ended | begun] = 0.0
        return np.clip(scaled, -self._clip, self._clip).astype(np.float32)

    def _merge(self, returns: np.ndarray, group: np.ndarray, size: np.ndarray) -> None:
        """Joins returns to mean, variance and count of their groups (Chan et al. 1979)."""
        # bincount adds up by group, in the order of the environments. A group may have none.
        divisor = np.maximum(size, 1.0)
        mean = np.bincount(group, returns, size.size) / divisor
        variance = np.bincount(group, (returns - mean[group]) ** 2, size.size) / divisor
        total = self._count + size
        delta = mean - self._mean
        squares = (
            self._variance * self._count + variance * size + delta**2 * self._count * size / total
        )
        self._mean += delta * size / total
        self._variance = squares / total
        self._count = total

    @staticmethod
    def _by_group(values: np.ndarray) -> np.ndarray:
        """Returns a copy of values [G], as a scalar if G is 1."""
        return values.reshape(() if values.size == 1 else values.shape).copy()

    def state(self) -> dict[str, np.ndarray]:
        """Returns the statistics as float64 arrays.

        `returns` is [B]; `mean`, `variance` and `count` are [G], or scalars if G is 1.
        """
        return {
            "returns": self._returns.copy(),
            "mean": self._by_group(self._mean),
            "variance": self._by_group(self._variance),
            "count": self._by_group(self._count),
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
        self._mean = values["mean"].reshape(-1)
        self._variance = values["variance"].reshape(-1)
        self._count = values["count"].reshape(-1)


class MaximumReturnScale:
    """Divides rewards by the greatest return of the environment's game (Rainbow).

    Returns are then at most about 1, in every game. There are no statistics, so nothing changes
    from step to step.

    Args:
      maximum: R_max of each environment's game, B numbers above 0.
    """

    def __init__(self, maximum: Sequence[float]) -> None:
        self._maximum = np.array(maximum, np.float64)

    def __call__(self, rewards: np.ndarray) -> np.ndarray:
        """Scales the rewards of one step of all environments.

        Args:
          rewards: raw rewards, float [B].

        Returns:
          Scaled rewards, float32 [B].

        Raises:
          ValueError: the shape is wrong.
        """
        rewards = np.asarray(rewards, np.float64)
        if rewards.shape != self._maximum.shape:
            raise ValueError(f"rewards {rewards.shape} must have the shape {self._maximum.shape}")
        return (rewards / self._maximum).astype(np.float32)
