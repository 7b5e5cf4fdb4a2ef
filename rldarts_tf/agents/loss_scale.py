"""Dynamic loss scaling, without which half precision loses small gradients.

float16 has nothing between 0 and 6e-8, and a loss that is a mean over a minibatch sends less than
that to many maps. The gradient of the loss times s is s times as large; in float32, where it is
divided by s again, nothing is lost. bfloat16 has the range of float32 and needs none of this.

Source: Micikevicius et al. 2018, "Mixed Precision Training" (arXiv:1710.03740), section 3.2; the
numbers are those of Keras' `LossScaleOptimizer`, which itself fits optimizers of Keras only.
"""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf

_LEAST = 1.0


class LossScale(tf.Module):
    """A scale s that follows the gradients: halved by each overflow, and doubled when none comes.

        loss = loss_scale.scaled(loss)                              # in the tape
        gradients = loss_scale.unscaled(tape.gradient(loss, variables))
        overflowed = loss_scale.update(finite)                      # apply them only where finite

    At s = 1 there is no scaling: what is not finite then is no overflow. As each overflow halves s,
    gradients that are never finite arrive there after log2(s) steps.

    Args:
      initial: s at first.
      growth_steps: steps with finite gradients in a row after which s is doubled.

    Attributes:
      value: s, a float32 variable.
      finite_steps: steps with finite gradients since s last changed, an int64 variable.
    """

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000) -> None:
        super().__init__(name="loss_scale")
        self._growth_steps = growth_steps
        self.value = tf.Variable(float(initial), trainable=False, name="loss_scale")
        self.finite_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="finite_steps")

    @classmethod
    def needed_by(cls, *modules: tf.Module) -> LossScale | None:
        """A new one if a layer in the modules computes in float16, else None."""
        parts = (part for module in modules for part in (module, *module.submodules))
        half = any(getattr(part, "compute_dtype", None) == "float16" for part in parts)
        return cls() if half else None

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """Returns the loss, unchanged, with a gradient that is s times as large."""
        scale = tf.convert_to_tensor(self.value)

        @tf.custom_gradient
        def run(loss: tf.Tensor) -> tuple[tf.Tensor, object]:
            return tf.identity(loss), lambda upstream: upstream * scale

        return run(loss)

    def unscaled(self, gradients: Iterable[tf.Tensor | None]) -> list[tf.Tensor | None]:
        """Divides gradients by s; exact, because s is a power of two."""
        inverse = 1.0 / self.value
        return [g if g is None else tf.convert_to_tensor(g) * inverse for g in gradients]

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        """Adjusts the scale after a step.

        Args:
          finite: whether all of them are, a bool scalar.

        Returns:
          Whether they overflowed for being scaled: not finite, with s above 1. A bool scalar.
        """
        scale, steps = tf.identity(self.value), self.finite_steps + 1
        grows = tf.logical_and(finite, steps >= self._growth_steps)
        grown = tf.where(tf.math.is_finite(2.0 * scale), 2.0 * scale, scale)
        halved = tf.maximum(scale / 2.0, _LEAST)
        self.value.assign(tf.where(finite, tf.where(grows, grown, scale), halved))
        ended = tf.logical_or(grows, tf.logical_not(finite))
        self.finite_steps.assign(tf.where(ended, tf.zeros_like(steps), steps))
        return tf.logical_and(tf.logical_not(finite), scale > _LEAST)
