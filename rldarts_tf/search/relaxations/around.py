"""Parts that go around any relaxation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation
from rldarts_tf.space import SKIP_CONNECT


class Around(Relaxation):
    """A relaxation whose op weights are changed; all else is that of the inner one."""

    def __init__(self, inner: Relaxation) -> None:
        self._inner = inner
        self.samples, self.selects = inner.samples, inner.selects

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return self._inner.op_weights(z, moment)

    @override
    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return self._inner.selected(z, moment)

    @override
    def penalty(self, z: tf.Tensor) -> tf.Tensor | None:
        return self._inner.penalty(z)

    @override
    def entropy(self, z: tf.Tensor) -> tf.Tensor:
        return self._inner.entropy(z)

    @override
    def log_op_weights(self, z: np.ndarray) -> np.ndarray:
        return self._inner.log_op_weights(z)

    @override
    def ranking(self, z: np.ndarray, none: int | None) -> np.ndarray:
        return self._inner.ranking(z, none)


class AuxiliarySkip(Around):
    """A skip beside every edge, which fades (Chu et al. 2021, "DARTS-", arXiv:2009.01027, eq. 5).

    ō(x) = b x + Σ_o p_o o(x), b from its first value to 0 linearly. It eases the training of θ, so
    that `skip_connect` need not win for that, and is no part of the genotype. Here b x is a weight
    added to that op's own; where the stride is 2 both are average-pooled.

    Args:
      inner: the relaxation.
      first: b at the beginning.
      ops: O.
    """

    def __init__(self, inner: Relaxation, first: float, ops: Sequence[str]) -> None:
        super().__init__(inner)
        self._first = first
        self._column = np.array([op == SKIP_CONNECT for op in ops])

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return super().op_weights(z, moment) + self._first * (1 - moment.progress) * (
            self._column.astype(np.float32)
        )

    @override
    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        drawn = super().selected(z, moment)
        skip = tf.logical_and(self._column, tf.logical_not(tf.reduce_any(drawn, axis=0)))
        return tf.concat([drawn, skip[None]], axis=0)


class Smoothing(Around):
    """θ learns with op weights that are disturbed (Chen & Hsieh 2020, "SDARTS-RS").

    p~ = p + u, u ~ U(-ε, ε) anew with each sample, clipped to 0 and 1 (arXiv:2002.05283, eq. 4; the
    release clips without normalizing again). ε grows linearly from a tenth of its last value.

    Args:
      inner: a relaxation that draws nothing.
      last: ε at the end.
    """

    def __init__(self, inner: Relaxation, last: float) -> None:
        super().__init__(inner)
        self._last = last
        self.samples = True

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        if not moment.draws:
            return super().op_weights(z, moment)
        reach = self._last * (0.1 + 0.9 * moment.progress)
        noise = reach * (2 * moment.uniform(z) - 1)
        return tf.clip_by_value(super().op_weights(z, moment) + noise, 0.0, 1.0)
