"""The interface of relaxations."""

from __future__ import annotations

import abc
from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Moment(NamedTuple):
    """What op weights depend on beside z.

    Attributes:
      progress: of the search, float32 scalar in 0 to 1.
      seed: of what is drawn, int64 [2]; None: nothing is, and p is the mean. The same seed draws
        the same: acting and learning see one network until another one is drawn (`Alpha.draw`).
        PPO's ratio π/π_old is then 1 before θ moves, as it has to be.
      settled: p is to be what the search stands for, whatever the seed: of a relaxation that
        chooses ops the strongest one of each edge, else the mean.
    """

    progress: tf.Tensor
    seed: tf.Tensor | None
    settled: bool = False

    @property
    def draws(self) -> bool:
        """Whether p depends on the seed."""
        return self.seed is not None and not self.settled

    def uniform(self, z: tf.Tensor) -> tf.Tensor:
        """Random numbers in (0, 1) of the shape of z."""
        tiny = np.finfo(np.float32).tiny
        return tf.random.stateless_uniform(tf.shape(z), self.seed, tiny, 1.0, z.dtype)


class Relaxation(abc.ABC):
    """How op weights of the edges of one cell type follow from z.

    Attributes:
      samples: whether they depend on what is drawn.
      selects: whether most ops of an edge are not even computed: see `selected`.
    """

    samples: bool = False
    selects: bool = False

    @abc.abstractmethod
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        """p >= 0 of logits z, both float32 [E, |O|], rows are edges."""

    def selected(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        """Which ops must be computed; of the others p is 0 and has no gradient.

        Returns:
          bool [k, E, |O|]: k layers, each of at most one op of an edge, no op in two of them.
        """
        raise NotImplementedError

    def penalty(self, z: tf.Tensor) -> tf.Tensor | None:
        """What the relaxation adds to the loss of α, a scalar; None: nothing."""
        del z
        return None

    def entropy(self, z: tf.Tensor) -> tf.Tensor:
        """How undecided the mean of p leaves each edge, in nats, float32 [E]: -Σ_o p_o log p_o."""
        return entropy(z)

    def log_op_weights(self, z: np.ndarray) -> np.ndarray:
        """log of the mean of p, of z in float64 [E, |O|]."""
        return z - np.logaddexp.reduce(z, axis=1, keepdims=True)

    def ranking(self, z: np.ndarray, none: int | None) -> np.ndarray:
        """Logits of which Algorithm 4 makes the cell that this relaxation stands for.

        Args:
          z: float64 [E, |O|].
          none: the column of `none`, which no cell has; None: there is none.

        Returns:
          float64 [E, |O|]: z itself, unless op weights are no softmax of it.
        """
        del none
        return z


def entropy(logits: tf.Tensor) -> tf.Tensor:
    """Entropy of softmax(logits) by row, finite however large the logits are."""
    log_p = tf.nn.log_softmax(logits)
    # exp(-large) is exactly 0 and 0 · log p is 0, where p · log(p) would be NaN.
    return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)


def ranked_by(log_strengths: np.ndarray, none: int) -> np.ndarray:
    """Logits whose odds rank edges by the strength of their best op.

    The odds of an op are its strength over the sum of the others. That of `none` is chosen so that
    this sum, for the best op, is the same on all edges.

    Args:
      log_strengths: logs of strengths, float64 [E, |O|]; the column of `none` is not looked at.
      none: its column.
    """
    others = np.delete(log_strengths, none, axis=1)
    found, others = log_strengths - others.max(), others - others.max()
    beside_best = np.exp(others).sum(axis=1) - np.exp(others.max(axis=1))
    found[:, none] = np.log(found.shape[1] - beside_best)
    return found
