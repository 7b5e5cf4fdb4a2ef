"""Adam as one kernel per variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.agents import gradients
from rldarts_tf.agents.loss_scale import LossScale
from rldarts_tf.search.optimizers import Pair, SearchOptimizer, apply_if


class FusedAdam(tf.keras.optimizers.Adam):
    """Keras' Adam, applied by TensorFlow's fused kernel: the same formula and the same state.

    Keras writes the formula as many small ops per variable, and a supernet has over a hundred
    variables: one kernel each makes a smaller graph to trace.

    Keras' legacy Adam calls the same kernel, as fast (1.01 of the time of a Micro step) and with
    0.87 of the graph's nodes, but cannot read the moments in checkpoints of earlier versions.

    Takes the arguments of `tf.keras.optimizers.Adam`; `amsgrad` has no such kernel.

    XLA never compiles it, whatever `jit_compile` says, which Keras 2.15 sets where it sees a GPU:
    one kernel has nothing to fuse, and Keras would make a program for each variable, each of them
    compiled and launched apart. (In a step that is compiled as a whole it is part of that.)
    """

    def __init__(self, *args: Any, jit_compile: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, jit_compile=jit_compile, **kwargs)
        # By dtype, within a step; nothing of a checkpoint.
        self._of_step: dict[tf.DType, dict[str, tf.Tensor]] = self._no_dependency({})

    def _update_step_xla(self, gradient: tf.Tensor, variable: tf.Variable, key: int) -> None:
        del key
        self._update_step(gradient, variable)

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes the moments of the variables."""
        super().build(var_list)
        if self.amsgrad:
            raise ValueError("FusedAdam has no amsgrad")

    def apply_gradients(self, *args: Any, **kwargs: Any) -> Any:
        """As Keras' optimizers."""
        try:
            return super().apply_gradients(*args, **kwargs)
        finally:
            self._of_step.clear()  # Tensors of a graph that is left.

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Updates one variable (Kingma and Ba 2015, end of section 2)."""
        index = self._index_dict[self._var_key(variable)]
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].handle,
            v=self._velocities[index].handle,
            grad=tf.convert_to_tensor(gradient),
            **self._numbers(variable.dtype),
        )

    def _numbers(self, dtype: tf.DType) -> dict[str, tf.Tensor]:
        """What is the same for all variables of a step: of their nodes in a graph, two thirds."""
        if dtype not in self._of_step:
            t = tf.cast(self.iterations + 1, dtype)
            beta_1, beta_2 = (tf.cast(beta, dtype) for beta in (self.beta_1, self.beta_2))
            self._of_step[dtype] = {
                "beta1_power": tf.pow(beta_1, t),
                "beta2_power": tf.pow(beta_2, t),
                "lr": tf.cast(self.learning_rate, dtype),
                "beta1": beta_1,
                "beta2": beta_2,
                "epsilon": tf.cast(self.epsilon, dtype),
            }
        return self._of_step[dtype]


class MeasuredAdam(FusedAdam):
    """Clips by global norm itself, so that it sees gradients as they were, and measures them.

    Args:
      learning_rate: of Adam.
      max_norm: the global norm to which a gradient is clipped.
      skip_nonfinite: pass over gradients that are not finite.
      loss_scale: what the loss was scaled with, and gradients are divided by before they are
        measured; those that are not finite are passed over. None: there is no scaling.
      search: trains α where a search method asks for it; then θ alone is clipped and trained here.
      **kwargs: as of `tf.keras.optimizers.Adam`.

    Attributes:
      architecture: α, whose gradient is measured apart.
      norms: the norms of the last gradients, see `gradients.norms`; that of α is 0 without α.
      loss_scale: as given.
      search: as given.
    """

    def __init__(
        self,
        learning_rate: float,
        max_norm: float,
        skip_nonfinite: bool = False,
        loss_scale: LossScale | None = None,
        search: SearchOptimizer | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        self._max_norm = max_norm
        self._skip_nonfinite = skip_nonfinite
        self.loss_scale = loss_scale
        self.search = search
        self.architecture: list[tf.Variable] = []
        self.norms = {
            name: tf.Variable(0.0, trainable=False, name=name) for name in gradients.NORMS
        }

    def build(self, var_list: list[tf.Variable]) -> None:
        """Makes the moments of the variables that are trained here."""
        super().build([variable for _, variable in self._split((None, v) for v in var_list)[0]])

    def _split(self, pairs: Iterable[Pair]) -> tuple[list[Pair], list[Pair]]:
        return (list(pairs), []) if self.search is None else self.search.split(pairs)

    def apply_gradients(
        self, grads_and_vars: Iterable[tuple[tf.Tensor, tf.Variable]], *args: Any, **kwargs: Any
    ) -> None:
        """Measures and clips gradients, then applies them."""
        unclipped: Sequence[tf.Tensor | None]
        unclipped, variables = zip(*grads_and_vars)
        if self.loss_scale is not None:
            unclipped = self.loss_scale.unscaled(unclipped)
        for name, norm in gradients.norms(unclipped, variables, self.architecture).items():
            self.norms[name].assign(norm)
        of_theta, of_alpha = self._split(zip(unclipped, variables))
        unclipped, variables = zip(*of_theta)
        clipped, norm = tf.clip_by_global_norm(unclipped, self._max_norm)
        theta = list(zip(clipped, variables))

        def apply_theta() -> None:
            super(MeasuredAdam, self).apply_gradients(theta, *args, **kwargs)

        def apply() -> None:
            if self.search is None:
                apply_theta()
            else:
                self.search.step(theta, of_alpha, self.learning_rate, apply_theta)

        finite = tf.math.is_finite(norm + tf.linalg.global_norm([g for g, _ in of_alpha]))
        if self.loss_scale is not None:
            self.loss_scale.update(finite)
        if self._skip_nonfinite or self.loss_scale is not None:
            apply_if(finite, apply)
        else:
            apply()
