"""Derives the seed of every source of randomness from the run's seed."""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def derived_seed(seed: int, purpose: str) -> int:
    """A seed for one purpose, independent of those for others and of those of other runs.

    Equal seeds would make equal streams: a learner's noise that of its actor, or the episodes of an
    evaluation those that the run with the next seed trains in.

    Args:
      seed: of the run, at least 0.
      purpose: what it is for, such as "environments".

    Returns:
      0 to 2**31 - 1: what every simulator takes.
    """
    return int(_words(seed, purpose, np.uint32)[0] >> 1)


def generator_state(seed: int, purpose: str) -> np.ndarray:
    """The state in which a generator for one purpose begins, int64 [3], for algorithm "philox".

    It is a counter of two words and a key, and streams of different keys have nothing in common.
    `tf.random.Generator.from_seed` makes the seed the counter and leaves the key 0: all its streams
    are one, from different places on.
    """
    return np.array([0, 0, _words(seed, purpose, np.uint64)[0].astype(np.int64)])


def make_generator(seed: int, purpose: str) -> tf.random.Generator:
    """A generator of one purpose alone; its state belongs into a checkpoint."""
    return tf.random.Generator.from_state(generator_state(seed, purpose), alg="philox")


def _words(seed: int, purpose: str, dtype: type) -> np.ndarray:
    # By numpy's hash for this very end, of the seed and the letters.
    return np.random.SeedSequence([seed, *purpose.encode()]).generate_state(1, dtype)
