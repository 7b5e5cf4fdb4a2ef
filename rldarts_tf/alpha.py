"""The architecture variables α and what follows from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from rldarts_tf.search.progressive import Rule, make_rule
from rldarts_tf.search.relaxations import Moment, Relaxation, make_relaxation, ranked_by
from rldarts_tf.search.settings import SearchSettings, as_search_settings
from rldarts_tf.search_space import read_config
from rldarts_tf.space import LEFT_OUT, NONE, Space


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class Alpha(tf.keras.layers.Layer):
    """α, shared by all cells of a type: per node j one variable [j, |O|], which starts at zero.

    In a chain of layers a node has one input, and a variable [1, |O|].

    Row i of a variable holds the logits of edge (i, j) in the order of `space.ops(cell_type)`.
    All values are float32 whatever the precision of the network around them. What follows from α
    has one array [E, |O|] per cell type, a row per edge in the order of `Space.edges`:
    the variables one below the other.

    Args:
      space: the search space.
      inverse_temperature: β, which multiplies α in the softmax; a variable that is not trained,
        so that a program may schedule it (`inverse_temperature.assign`).
      search: the search method; that of the paper if None.
      trainable: False freezes α, at zero a uniform mixture (appendix B.2). A search method that
        does not train it freezes it too.

    Attributes:
      edge_logits: of edge normalization, per cell type and node j one variable [j].
      kept: of a progressive search, per cell type a variable, bool [E, |O|]: what it has not left
        out so far.
      masking: what is done to p, such as leaving out an op: p -> p, both per cell type [E, |O|];
        None for nothing. It is no part of config or checkpoints, and a traced function keeps the
        one that it was traced with, whose variables may change.
      settled: whether p is what the search stands for, in place of what was drawn: see
        `search.settled`, which sets it. No part of config or checkpoints either; a mask, which is
        made for the mean of p, goes before it.
    """

    masking: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]] | None = None
    settled: bool = False

    def __init__(
        self,
        space: Space | dict[str, Any],
        inverse_temperature: float = 5.0,
        trainable: bool = True,
        search: SearchSettings | Mapping[str, Any] | None = None,
        name: str = "alpha",
        **kwargs: Any,
    ) -> None:
        kwargs["dtype"] = tf.float32
        method = as_search_settings(search)
        trains = trainable and method.trains_alpha
        super().__init__(name=name, trainable=trains, **kwargs)
        self.search = method
        self.space = space if isinstance(space, Space) else read_config(space)
        self._initial_inverse_temperature = float(inverse_temperature)
        self._train_alpha = trainable
        # Variables exist from the start, so that a supernet can be discretized before its first
        # call. Their names say nothing of "kernel": TF-Agents' L2 penalties select by that word.
        self.logits = self._of_nodes("node", with_ops=True)
        self.inverse_temperature = self._number("inverse_temperature", inverse_temperature)
        self.relaxations: dict[str, Relaxation] = {
            cell_type: make_relaxation(method, self.space.ops(cell_type), self.space)
            for cell_type in self.space.cell_types
        }
        self.edge_logits: dict[str, list[tf.Variable]] = {}
        if method.edge_normalization:
            self.edge_logits = self._of_nodes("edges", with_ops=False)
        # The clock of schedules: a method without any has none, as older checkpoints have none.
        self.progress: tf.Variable | None = None
        self.draws: tf.Variable | None = None
        # λ of a search that is to reach a cost.
        self.cost_weight: tf.Variable | None = None
        if not method.is_default:
            self.progress = self._number("progress", 0.0)
            self.draws = self._number("draws", 0, tf.int64)
        if method.cost.target_multiply_adds is not None:
            self.cost_weight = self._number("cost_weight", method.cost.first_weight)
        self.rules: dict[str, Rule] = {}
        self.kept: dict[str, tf.Variable] = {}
        # An α that is not trained says nothing of what to leave out.
        if self.search.progressive is not None and trainable:
            self.rules = {t: make_rule(self.search, self.space, t) for t in self.space.cell_types}
            # Truth values: target networks, which follow numbers slowly, take these as they are.
            self.kept = {
                cell_type: self.add_weight(
                    name=f"{name}/{cell_type}/kept",
                    shape=(len(self.space.edges), len(self.space.ops(cell_type))),
                    dtype=tf.bool,
                    initializer="ones",
                    trainable=False,
                )
                for cell_type in self.space.cell_types
            }
        self.built = True

    def _of_nodes(self, kind: str, *, with_ops: bool) -> dict[str, list[tf.Variable]]:
        """Per cell type and node j a variable of zeros, [j, |O|] or [j]."""
        return {
            cell_type: [
                self.add_weight(
                    name=f"{self.name}/{cell_type}/{kind}_{j}",
                    shape=(
                        len(self.space.sources(j)),
                        *((len(self.space.ops(cell_type)),) if with_ops else ()),
                    ),
                    initializer="zeros",
                    # Of the variable itself: Keras sets `trainable` of a layer to that of the model
                    # around it when it reads a SavedModel.
                    trainable=self.trainable,
                )
                for j in range(1, self.space.num_nodes + 1)
            ]
            for cell_type in self.space.cell_types
        }

    def _number(self, name: str, value: float, dtype: Any = None) -> tf.Variable:
        """A variable of one number that is not trained."""
        return self.add_weight(
            name=f"{self.name}/{name}",
            shape=(),
            dtype=dtype,
            initializer=tf.keras.initializers.Constant(value),
            trainable=False,
        )

    def set_progress(self, progress: float) -> None:
        """Says how much of the search has passed, from 0 to 1; all schedules follow it.

        A program's `Training` does so after each update. No effect without a method that asks.
        A progressive search makes the decisions that are due by then.
        """
        if self.progress is not None:
            # TensorFlow keeps every Python number that it has converted.
            self.progress.assign(np.float32(progress))
            end = self.search.inverse_temperature_end
            if end is not None:
                first = self._initial_inverse_temperature
                self.inverse_temperature.assign(np.float32(first * (end / first) ** progress))
        for cell_type, rule in self.rules.items():
            kept = self.kept[cell_type].numpy()
            self.kept[cell_type].assign(rule.kept(self._exact_logits(cell_type), kept, progress))

    def seed_draws(self, seed: int) -> None:
        """Begins a sequence of draws that is the seed's own."""
        if self.draws is not None:
            self.draws.assign(seed << 32)

    def draw(self) -> None:
        """Draws anew what the relaxation samples; until then it stays; eagerly or in a trace."""
        if self.draws is not None and self.samples:
            self.draws.assign_add(1)

    @property
    def samples(self) -> bool:
        """Whether op weights depend on what was drawn."""
        return any(relaxation.samples for relaxation in self.relaxations.values())

    def op_weights(self) -> dict[str, tf.Tensor]:
        """p of z = β α by the relaxation, masked if there is a mask: by type float32 [E, |O|]."""
        p = {
            cell_type: self.relaxations[cell_type].op_weights(z, self._moment(index))
            for index, (cell_type, z) in enumerate(self._scaled_logits().items())
        }
        p = self._times_edge_shares(p)
        return p if self.masking is None else self.masking(p)

    def mean_op_weights(self) -> dict[str, tf.Tensor]:
        """p without draws, mask and edge normalization: per cell type float32 [E, |O|].

        Its rows are what each op of an edge is to cost a share of: those of sigmoids are divided by
        their sum, for all of them together are no architecture.
        """
        moment = Moment(self._moment(0).progress, None)
        p = self._undrawn(moment)
        if self.search.sums_to_one:
            return p
        return {
            t: of_type / tf.reduce_sum(of_type, axis=1, keepdims=True) for t, of_type in p.items()
        }

    def lasting_op_weights(self) -> dict[str, tf.Tensor]:
        """p times γ as the end of the search will have it: without draws, auxiliary skip and mask.

        What is told of a search: a draw says nothing of what was learned, and an auxiliary skip is
        no part of a cell. Per cell type float32 [E, |O|].
        """
        moment = Moment(tf.constant(1.0), None)
        return self._times_edge_shares(self._undrawn(moment))

    def _undrawn(self, moment: Moment) -> dict[str, tf.Tensor]:
        """p of all cell types at a moment that has no seed."""
        return {
            cell_type: self.relaxations[cell_type].op_weights(z, moment)
            for cell_type, z in self._scaled_logits().items()
        }

    def _times_edge_shares(self, p: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """p times γ, of PC-DARTS' equation 4 (there its logits are called β), if there is one."""
        for cell_type, nodes in self.edge_logits.items():
            shares = tf.concat([tf.nn.softmax(node) for node in nodes], axis=0)
            p[cell_type] *= shares[:, None]
        return p

    def selected_ops(self) -> dict[str, tf.Tensor | None]:
        """Per cell type which ops have to be computed, bool [k, E, |O|]; None: all."""
        chosen: dict[str, tf.Tensor | None] = {}
        for index, (cell_type, z) in enumerate(self._scaled_logits().items()):
            relaxation = self.relaxations[cell_type]
            selects = relaxation.selects and self.masking is None
            chosen[cell_type] = relaxation.selected(z, self._moment(index)) if selects else None
        return chosen

    def _moment(self, index: int) -> Moment:
        """What the op weights of a cell type depend on beside z; nothing by default."""
        if self.progress is None:
            return Moment(tf.constant(0.0), tf.zeros([2], tf.int64))
        # A mask chooses among all ops of an edge, not among those that were drawn.
        seed = tf.stack([self.draws, index]) if self.masking is None else None
        settled = self.settled and self.masking is None
        return Moment(tf.convert_to_tensor(self.progress), seed, settled)

    def penalty(self) -> tf.Tensor:
        """R(α), what the search method adds to the loss of α, a float32 scalar.

        The sum over the cell types of the relaxation's own penalty, of `entropy_penalty` times the
        mean entropy of p, and of `beta_decay` times the mean over the edges of
        log Σ_o exp(α_o) (Ye et al. 2022, "β-DARTS", arXiv:2203.01665, eq. 15); the last two grow
        with the progress of the search.
        """
        settings, total = self.search, tf.constant(0.0)
        progress = self._moment(0).progress
        for cell_type, z in self._scaled_logits().items():
            relaxation = self.relaxations[cell_type]
            own = relaxation.penalty(z)
            if own is not None:
                total += own
            if settings.entropy_penalty:
                total += settings.entropy_penalty * progress * tf.reduce_mean(relaxation.entropy(z))
            if settings.beta_decay:
                alpha = self._of_kept(cell_type, tf.concat(self.logits[cell_type], axis=0))
                spread = tf.reduce_mean(tf.reduce_logsumexp(alpha, axis=1))
                total += settings.beta_decay * progress * spread
        return total

    def regularization(self) -> tf.Tensor:
        """R(α) + ½ λ |α|², λ = `alpha_weight_decay`: a float32 scalar, 0 for an α trained with θ.

        Its gradient is what α's own optimizer adds to that of the loss: see `SearchOptimizer`.
        """
        if self.search.alpha_learning_rate is None:
            return tf.constant(0.0)
        squares = tf.add_n([tf.reduce_sum(tf.square(v)) for v in self.trainable_weights])
        return self.penalty() + 0.5 * self.search.alpha_weight_decay * squares

    def entropy(self) -> dict[str, tf.Tensor]:
        """Mean over the edges of each cell type of `Relaxation.entropy`; float32 scalars."""
        return {
            cell_type: tf.reduce_mean(self.relaxations[cell_type].entropy(z))
            for cell_type, z in self._scaled_logits().items()
        }

    def _scaled_logits(self) -> dict[str, tf.Tensor]:
        """z = β α in float32, `LEFT_OUT` where an op is: per cell type [E, |O|]."""
        return {
            cell_type: self._of_kept(cell_type, self.inverse_temperature * tf.concat(nodes, axis=0))
            for cell_type, nodes in self.logits.items()
        }

    def _of_kept(self, cell_type: str, logits: tf.Tensor) -> tf.Tensor:
        """Logits [E, |O|] whose softmax is that of the ops that are kept."""
        kept = self.kept.get(cell_type)
        return logits if kept is None else tf.where(kept, logits, LEFT_OUT)

    def numpy_logits(self) -> dict[str, np.ndarray]:
        """The logits that Algorithm 4 reads: per cell type float64 [E, |O|] (eager only).

        They are z = β α, `LEFT_OUT` where a progressive search has left out an op; of a relaxation
        that is no softmax, those whose softmax ranks ops and edges as it does. The product of two
        float32 numbers is exact in float64, so no order is lost here.
        """
        found = {}
        for cell_type in self.logits:
            z = self._exact_logits(cell_type)
            ops = self.space.ops(cell_type)
            none = ops.index(NONE) if NONE in ops else None
            found[cell_type] = (
                self._normalized(z, cell_type, none)
                if self.edge_logits
                else self.relaxations[cell_type].ranking(z, none)
            )
        return found

    def _exact_logits(self, cell_type: str) -> np.ndarray:
        """z as `_scaled_logits` has it, float64 [E, |O|] (eager only)."""
        beta = self.inverse_temperature.numpy().astype(np.float64)
        nodes = [node.numpy() for node in self.logits[cell_type]]
        z = beta * np.concatenate(nodes, dtype=np.float64)
        return np.where(self.kept[cell_type].numpy(), z, LEFT_OUT) if self.kept else z

    def _normalized(self, z: np.ndarray, cell_type: str, none: int | None) -> np.ndarray:
        """Logits that rank by γ p; where p is a softmax theirs is γ p, and for `none` the rest."""
        nodes = [node.numpy().astype(np.float64) for node in self.edge_logits[cell_type]]
        log_share = np.concatenate([node - np.logaddexp.reduce(node) for node in nodes])
        log_p = self.relaxations[cell_type].log_op_weights(z) + log_share[:, None]
        if none is None:
            return log_p
        if not self.search.sums_to_one:
            return ranked_by(log_p, none)
        others = np.exp(np.delete(log_p, none, axis=1)).sum(axis=1)
        log_p[:, none] = np.log(np.maximum(1 - others, np.finfo(np.float64).tiny))
        return log_p

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
