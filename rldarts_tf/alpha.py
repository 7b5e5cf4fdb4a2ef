"""The architecture variables α and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import SearchSpace


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class Alpha(tf.keras.layers.Layer):
    """α, shared by all cells of a type: per node j one variable [j, |O|], which starts at zero.

    Row i of a variable holds the logits of edge (i, j) in the order of `space.ops(cell_type)`.
    All values are float32 whatever the precision of the network around them. What follows from α
    has one array [E, |O|] per cell type, a row per edge in the order of `search_space.edge_row`:
    the variables one below the other.

    Args:
      space: the search space.
      inverse_temperature: β, which multiplies α in the softmax; a variable that is not trained,
        so that a program may schedule it (`inverse_temperature.assign`).
      search: the search method; that of the paper if None.
      trainable: False freezes α, at zero a uniform mixture (appendix B.2).

    Attributes:
      masking: what is done to p, such as leaving out an op: p -> p, both per cell type [E, |O|];
        None for nothing. It is no part of config or checkpoints, and a traced function keeps the
        one that it was traced with, whose variables may change.
    """

    masking: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]] | None = None

    def __init__(
        self,
        space: SearchSpace | dict[str, Any],
        inverse_temperature: float = 5.0,
        trainable: bool = True,
        search: SearchSettings | Mapping[str, Any] | None = None,
        name: str = "alpha",
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = tf.float32
        super().__init__(name=name, trainable=trainable, **kwargs)
        self.space = space if isinstance(space, SearchSpace) else SearchSpace.from_config(space)
        self._initial_inverse_temperature = float(inverse_temperature)
        self._train_alpha = trainable
        self.search = (
            search if isinstance(search, SearchSettings) else SearchSettings(**search or {})
        )
        self.logits: dict[str, list[tf.Variable]] = {}
        # Variables exist from the start, so that a supernet can be discretized before its first
        # call. Their names say nothing of "kernel": TF-Agents' L2 penalties select by that word.
        for cell_type in self.space.cell_types:
            self.logits[cell_type] = [
                self.add_weight(
                    name=f"{name}/{cell_type}/node_{j}",
                    shape=(j, len(self.space.ops(cell_type))),
                    initializer="zeros",
                    # Of the variable itself: Keras sets `trainable` of a layer to that of the model
                    # around it when it reads a SavedModel.
                    trainable=trainable,
                )
                for j in range(1, self.space.num_nodes + 1)
            ]
        self.inverse_temperature = self.add_weight(
            name=f"{name}/inverse_temperature",
            shape=(),
            initializer=tf.keras.initializers.Constant(inverse_temperature),
            trainable=False,
        )
        # The clock of schedules: a method without any has none, as older checkpoints have none.
        self.progress: tf.Variable | None = None
        if not self.search.is_default:
            self.progress = self.add_weight(
                name=f"{name}/progress", shape=(), initializer="zeros", trainable=False
            )
        self.built = True

    def set_progress(self, progress: float) -> None:
        """Says how much of the search has passed, from 0 to 1; all schedules follow it.

        A program's `Training` does so after each update. No effect without a method that asks.
        """
        if self.progress is not None:
            self.progress.assign(progress)

    def op_weights(self) -> dict[str, tf.Tensor]:
        """p = softmax(β α), masked if there is a mask: per cell type float32 [E, |O|]."""
        p = {cell_type: tf.nn.softmax(z) for cell_type, z in self._scaled_logits().items()}
        return p if self.masking is None else self.masking(p)

    def entropy(self) -> dict[str, tf.Tensor]:
        """Mean over the edges of each cell type of -Σ_o p_o log p_o, in nats; float32 scalars."""
        return {
            cell_type: tf.reduce_mean(_entropy(z)) for cell_type, z in self._scaled_logits().items()
        }

    def _scaled_logits(self) -> dict[str, tf.Tensor]:
        """z = β α in float32: per cell type [E, |O|]."""
        return {
            cell_type: self.inverse_temperature * tf.concat(nodes, axis=0)
            for cell_type, nodes in self.logits.items()
        }

    def numpy_logits(self) -> dict[str, np.ndarray]:
        """z = β α, the logits of the softmax: per cell type float64 [E, |O|] (eager only).

        The product of two float32 numbers is exact in float64, so no order is lost here.
        """
        beta = self.inverse_temperature.numpy().astype(np.float64)
        return {
            cell_type: beta * np.concatenate([node.numpy() for node in nodes], dtype=np.float64)
            for cell_type, nodes in self.logits.items()
        }

    def numpy_op_weights(self) -> dict[str, np.ndarray]:
        """`op_weights` as numpy arrays (eager only)."""
        return {cell_type: p.numpy() for cell_type, p in self.op_weights().items()}

    def get_config(self) -> dict[str, Any]:
        """Config for `from_config`; values of variables are weights, not config."""
        config = super().get_config()
        config.pop("dtype")
        config["space"] = self.space.to_config()
        config["inverse_temperature"] = self._initial_inverse_temperature
        config["trainable"] = self._train_alpha
        if not self.search.is_default:
            config["search"] = dataclasses.asdict(self.search)
        return config


def _entropy(logits: tf.Tensor) -> tf.Tensor:
    """Entropy of softmax(logits) by row, finite however large the logits are."""
    log_p = tf.nn.log_softmax(logits)
    # exp(-large) is exactly 0 and 0 · log p is 0, where p · log(p) would be NaN.
    return -tf.reduce_sum(tf.exp(log_p) * log_p, axis=-1)
