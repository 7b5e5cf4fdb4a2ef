"""Adam as one kernel per variable."""

from __future__ import annotations

import tensorflow as tf


class FusedAdam(tf.keras.optimizers.Adam):
    """Keras' Adam, applied by TensorFlow's fused kernel: the same formula and the same state.

    Keras writes the formula as many small ops per variable, and a supernet has over a hundred
    variables: one kernel each makes a smaller graph to trace.

    Takes the arguments of `tf.keras.optimizers.Adam`; `amsgrad` has no such kernel.
    """

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes the moments of the variables."""
        super().build(var_list)
        if self.amsgrad:
            raise ValueError("FusedAdam has no amsgrad")

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """One step for one variable (Kingma and Ba 2015, end of section 2)."""
        index = self._index_dict[self._var_key(variable)]
        t = tf.cast(self.iterations + 1, variable.dtype)
        beta_1, beta_2 = (tf.cast(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            beta1_power=tf.pow(beta_1, t),
            beta2_power=tf.pow(beta_2, t),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.convert_to_tensor(gradient),
        )
