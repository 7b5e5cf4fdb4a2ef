"""The relaxation of DARTS and RL-DARTS."""

from __future__ import annotations

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.search.relaxations.base import Moment, Relaxation


class Softmax(Relaxation):
    """p = softmax(z) (RL-DARTS section 3.1)."""

    @override
    def op_weights(self, z: tf.Tensor, moment: Moment) -> tf.Tensor:
        return tf.nn.softmax(z)
