"""Acting with what a search stands for, and not with what was drawn last."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf

from rldarts_tf.search.optimizers import alphas


@contextlib.contextmanager
def settled(*modules: tf.Module) -> Iterator[None]:
    """Within it, supernets in the modules compute without draws: see `Moment.settled`.

    As a decorator, `settled(encoder)(act)`, it holds whenever the function is called or traced. A
    trace keeps what it was made with. Draws, their counter and everything else stay as they are, so
    that a training does not depend on who asks in between. Where nothing is drawn nothing changes.

    Args:
      modules: encoders, or networks around them.
    """
    before = [(alpha, alpha.settled) for alpha in alphas(*modules)]
    try:
        for alpha, _ in before:
            alpha.settled = True
        yield
    finally:
        for alpha, was in before:
            alpha.settled = was
