"""The encoder that is searched: cells of all candidate ops, and α."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf import discretization
from rldarts_tf.alpha import Alpha
from rldarts_tf.caps import caps_of
from rldarts_tf.cells import Cell
from rldarts_tf.encoders.cell_network import CellNetwork
from rldarts_tf.encoders.discrete_network import DiscreteNetwork
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype, dense_topology, random_genotype
from rldarts_tf.ops import check_ops
from rldarts_tf.options import check_option
from rldarts_tf.search import costs
from rldarts_tf.search.relaxations import make_relaxation
from rldarts_tf.search.settings import SearchSettings, as_search_settings
from rldarts_tf.search_space import get_search_space, read_config
from rldarts_tf.space import Place, Space


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class Supernet(CellNetwork):
    """The encoder that mixes all candidate ops, and owns the architecture variables α.

    Train it like any other encoder: α is among its `trainable_weights`. Then `discretize()`.

    Args:
      search_space: a `SearchSpace` or `LayerSpace`, or the name of a registered one.
      depths: channels of each block, such as [16, 16, 16].
      output_mode: how a cell's output follows from its nodes; see `rldarts_tf.cells.Cell`. A layer
        space leaves no choice.
      inverse_temperature: β, which multiplies α in the softmax; the paper's values are 5 for PPO
        and 10 for Rainbow (appendix F.1). `supernet.alpha.inverse_temperature` is a variable.
      normalization: of the convolutions in the cells: None, "layer" or "batch".
      train_alpha: False freezes α: a uniform mixture (appendix B.2).
      recompute: least memory for activations, for more time; see `rldarts_tf.cells.Cell`.
      search: the search method, `rldarts_tf.search.SearchSettings`; that of the paper if None.
      **kwargs: arguments of `Encoder`.

    Raises:
      ConfigError: an argument is not valid.
    """

    def __init__(
        self,
        search_space: Space | str | Mapping[str, Any],
        depths: Sequence[int],
        output_mode: str = "concat",
        inverse_temperature: float = 5.0,
        normalization: str | None = None,
        *,
        train_alpha: bool = True,
        recompute: bool = False,
        search: SearchSettings | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        space = as_search_space(search_space)
        for cell_type in space.cell_types:
            check_ops(space.ops(cell_type), f"search space {space.name!r}")
        check_option("output_mode", output_mode)
        check_option("inverse_temperature", inverse_temperature)
        check_option("normalization", normalization)
        check_option("train_alpha", train_alpha)
        method = as_search_settings(search)
        discretization.check_caps(space, caps_of(method, space))
        if space.has_second_cells and method.cost.is_on:
            raise ConfigError(
                f"CostSettings: not in search space {space.name!r}, in which an architecture is "
                "that of two encoders"
            )
        selects = any(
            make_relaxation(method, space.ops(t), space).selects for t in space.cell_types
        )
        if normalization == "batch" and selects:
            raise ConfigError(
                "normalization: 'batch' needs all channels, of which SearchSettings.relaxation = "
                f"{method.relaxation!r} computes only those of the drawn ops; 'layer' does not"
            )

        output_mode = space.output_mode(output_mode)

        def make_cell(place: Place, dtype: Any) -> Cell:
            ops = space.ops(place.cell_type)
            return Cell(
                dense_topology(ops, space.num_nodes if place.node is None else 1),
                place.filters,
                stride=place.stride,
                output_mode=output_mode,
                normalization=normalization,
                op_columns=ops,
                recompute=recompute,
                unit_ops=method.unit_ops is not None,
                partial=method.partial_channels,
                name=place.name,
                dtype=dtype,
            )

        super().__init__(make_cell, depths, space, space, **kwargs)
        # Whether ops that a sample leaves out are computed all the same, as to count their cost.
        self.computes_all_ops = False
        # Whether α is that of the supernet that this one is a twin of.
        self.shares_alpha = False
        self._twin: weakref.ref[Supernet] | None = None
        self.space = space
        self.output_mode = output_mode
        self.normalization = normalization
        self.recompute = recompute
        # Under this network's name, so that the α of two networks can be told apart: TF-Agents'
        # PPO orders what it trains by name.
        with tf.name_scope(self.name):
            self.alpha = Alpha(space, inverse_temperature, trainable=train_alpha, search=method)

    @override
    def op_weights(self) -> Mapping[str, tf.Tensor]:
        """p = softmax(β α): per cell type float32 [E, |O|], a row per edge of `Space.edges`."""
        return self.alpha.op_weights()

    @override
    def selected_ops(self) -> Mapping[str, tf.Tensor | None]:
        if self.computes_all_ops:
            return super().selected_ops()
        return self.alpha.selected_ops()

    @override
    def set_progress(self, progress: float) -> None:
        if self.built and self.alpha.search.cost.is_on:
            # Makes variables: the first update would be traced again if it were made there.
            self.cost_table  # noqa: B018
        weight, before = self.alpha.cost_weight, self.alpha.progress
        if weight is not None and before is not None:
            # As the variable has it: what is resumed tells its last progress again.
            progress = float(np.float32(progress))
            # While α rests, λ would rise for what nothing can change.
            passed = progress - max(float(before), self.alpha.search.warm_up)
            if passed > 0:
                cost = self.alpha.search.cost
                weight.assign(cost.adapted(float(weight), self.found_cost(), passed))
        self.alpha.set_progress(progress)

    @property
    def cost_weight(self) -> tf.Variable | float:
        """λ, the weight of the cost in the loss."""
        weight = self.alpha.cost_weight
        return self.alpha.search.cost.weight if weight is None else weight

    @functools.cached_property
    def cost_table(self) -> costs.CostTable:
        """What architectures cost for an image of the size that this was built for.

        Raises:
          ConfigError: there are no weights yet; latencies are to be read, and some are missing; or
            no architecture costs as little as the target.
        """
        if not self.built:
            raise ConfigError("the supernet has no weights yet: call it on images first")
        settings = self.alpha.search.cost
        if settings.latency_table is not None:
            op_cost = costs.read_latencies(settings.latency_table)
            return costs.make_table(self.space, self.placed_cells, op_cost)
        op_cost = costs.counts(self.cells[0], settings.measure)
        table = costs.make_table(self.space, self.placed_cells, op_cost)
        # Any architecture tells what all have in common.
        genotype = random_genotype(self.space, 0, self.output_mode)

        def network() -> DiscreteNetwork:
            return DiscreteNetwork(
                genotype,
                self.depths,
                self.normalization,
                features=self.features,
                head=self.head,
                dtype=self.dtype_policy,
            )

        whole = costs.count_layer(network, self._input_shape()[1:])[
            settings.measure == "parameters"
        ]
        fixed = whole - costs.of_genotype(table, genotype, self.space)
        table = dataclasses.replace(table, fixed=fixed)
        target = settings.target_multiply_adds
        if target is not None and target < table.least:
            raise ConfigError(
                f"CostSettings.target_multiply_adds must be at least {table.least:,.0f}, which the "
                f"cheapest architecture of {self.space.name!r} costs here, got {target:,}"
            )
        return table

    def expected_cost(self) -> float:
        """The expected cost of the architecture, in the unit of `CostSettings.measure` (eager)."""
        return self.cost_table.most * float(self.cost_table.share(self.alpha.mean_op_weights()))

    def found_cost(self) -> float:
        """The cost of the architecture that α stands for now, in the same unit (eager)."""
        table, genotype = self.cost_table, self.discretize()
        return table.fixed + costs.of_genotype(table, genotype, self.space)

    @override
    def twin(self) -> Supernet:
        """Another supernet with θ of its own and the same α, which this one goes on to own."""
        other = super().twin()
        other.alpha, other.shares_alpha = self.alpha, True
        # Weak, for Keras would track what is another network's.
        self._twin = weakref.ref(other)
        return other

    def encoders_of_alpha(self) -> tuple[Supernet, ...]:
        """The supernets that have the cells of all types: this one, and a twin with its own.

        Raises:
          ConfigError: there is no twin to have them.
        """
        if not self.has_second_cells:
            return (self,)
        twin = None if self._twin is None else self._twin()
        if twin is None:
            raise ConfigError(
                f"the second encoder, which has cells of its own in search space "
                f"{self.space.name!r}, does not exist: make it with twin()"
            )
        return self, twin

    @override
    def architecture_loss(self) -> tf.Tensor | None:
        if self.shares_alpha or not self.alpha.search.cost.is_on:
            return None
        return self.cost_weight * self.cost_table.share(self.alpha.mean_op_weights())

    def discretize(self, top_k: int | None = None, *, capped: bool = True) -> Genotype:
        """δ(α), the discrete cell that α stands for now (Algorithm 4).

        Args:
          top_k: K; that of the search space if None.
          capped: whether the caps of the search hold.
        """
        caps = caps_of(self.alpha.search, self.space) if capped else None
        logits = self.alpha.numpy_logits()
        return discretization.discretize(logits, self.space, top_k, self.output_mode, caps=caps)

    def extract(self, genotype: Genotype | None = None) -> DiscreteNetwork:
        """The discrete network of a genotype, with this supernet's weights θ.

        A supernet whose softmax is one-hot at the genotype's ops computes the same function.

        Args:
          genotype: one of this search space; `discretize()` if None.

        Raises:
          ConfigError: the genotype is of other cells, or this supernet has no weights yet.
        """
        genotype = self.discretize() if genotype is None else genotype
        if (genotype.search_space, genotype.num_normal, genotype.num_reduction) != (
            self.space.name,
            self.space.num_normal,
            self.space.num_reduction,
        ) or any(
            len(cell) != self.space.num_nodes
            or genotype.space.ops(cell_type) != self.space.ops(cell_type)
            for cell_type, cell in genotype.cells.items()
        ):
            raise ConfigError(f"genotype: not of this supernet's search space {self.space.name!r}")
        if genotype.output_mode != self.output_mode:
            raise ConfigError(
                f"genotype: output_mode is {genotype.output_mode!r}, "
                f"that of the supernet {self.output_mode!r}"
            )
        if not self.built:
            raise ConfigError("the supernet has no weights yet: call it on images first")
        if self.alpha.search.partial_channels > 1:
            raise ConfigError(
                "SearchSettings.partial_channels: the ops of a cell see all channels, and cannot "
                "have the weights of ops that saw a part of them"
            )
        network = DiscreteNetwork(
            genotype,
            self.depths,
            normalization=self.normalization,
            features=self.features,
            head=self.head,
            recompute=self.recompute,
            unit_ops=self.alpha.search.unit_ops is not None,
            is_second=self.is_second,
            dtype=self.dtype_policy,
        )
        network.build(self._input_shape())
        pairs = [*zip(network._stack, self._stack), *zip(network._head, self._head)]
        for mine, theirs in pairs:
            if isinstance(mine, Cell):
                mine.inherit_weights(theirs)
            else:
                mine.set_weights(theirs.get_weights())
        return network

    def _input_shape(self) -> Any:
        if self._build_input_shape is not None:
            return self._build_input_shape
        # Read from a SavedModel: such a network was never built here, but knows its calls.
        (images, *_), _ = self.save_spec()
        return images.shape

    @override
    def get_config(self) -> dict[str, Any]:
        # α and the present β are weights.
        alpha = self.alpha.get_config()
        return {
            **super().get_config(),
            "search_space": self.space.to_config(),
            "depths": list(self.depths),
            "output_mode": self.output_mode,
            "inverse_temperature": alpha["inverse_temperature"],
            "normalization": self.normalization,
            "train_alpha": alpha["trainable"],
            "recompute": self.recompute,
            **({"search": alpha["search"]} if "search" in alpha else {}),
        }


def as_search_space(value: Space | str | Mapping[str, Any]) -> Space:
    """A search space from itself, its registered name, or its config."""
    if isinstance(value, Space):
        return value
    if isinstance(value, Mapping):
        return read_config(value)
    return get_search_space(value)
