"""Keras dtype policies, for the layers made in a block of code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def layers_of(policy: tf.keras.mixed_precision.Policy) -> Iterator[None]:
    """Layers made inside have this policy, whoever makes them."""
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        # Where nothing was set the policy is that of floatx, and should go on following it.
        unset = before.name == tf.keras.backend.floatx()
        tf.keras.mixed_precision.set_global_policy(None if unset else before)
