"""Encoders: images [B, H, W, C] -> features [B, features].

`CellNetwork` stacks the cells that a factory makes, where the search space says; `Supernet` and
`DiscreteNetwork` differ only in that factory and in who gives the op weights. Source: RL-DARTS
section 3.1, figure 2, and the hand-designed parts of IMPALA-CNN (Espeholt et al. 2018) that the
paper keeps.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf import discretization
from rldarts_tf.alpha import Alpha
from rldarts_tf.caps import caps_of
from rldarts_tf.cells import Cell
from rldarts_tf.devices import in_shares
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import Genotype, dense_topology, random_genotype
from rldarts_tf.kernels.normalization import FilterResponseNorm, LayerNormalization
from rldarts_tf.kernels.precision import Conv2D
from rldarts_tf.ops import check_ops
from rldarts_tf.options import check_option
from rldarts_tf.search import costs
from rldarts_tf.search.relaxations import make_relaxation
from rldarts_tf.search.settings import SearchSettings, as_search_settings
from rldarts_tf.search_space import get_search_space, read_config
from rldarts_tf.space import CELL, CONV, MAX_POOL, NORM, Numbers, Place, Space

CellFactory = Callable[[Place, Any], Cell]
"""(where it is to stand, Keras policy) -> cell."""

_Encoder = TypeVar("_Encoder", bound="Encoder")


class Encoder(tf.keras.Model):
    """The contract of every encoder, and the head they share: flatten, ReLU, Dense, ReLU.

    Images are uint8, scaled here from 0..255 to 0..1; float, taken as they are; or bool, 0 and 1.
    What other integers mean nobody can know: cast them to float, and scale them yourself.

    Args:
      features: size of the output.
      head: how the features follow from the maps: "relu" as above; "layer_norm" for flatten, ReLU,
        Dense, LayerNormalization (of SAC, where actor and critic are put on what is normalized);
        "pool" for ReLU, mean over all positions, Dense, ReLU, which sees what is in an image and
        not where (as in Impoola-CNN, Trumpp et al. 2025).
      dtype: a Keras policy or its name, such as "mixed_bfloat16"; the global policy if None. In the
        mixed ones, variables, α, the dense layer and the features are float32. "mixed_float16"
        needs loss scaling: a loop of your own `tf.keras.mixed_precision.LossScaleOptimizer`.
    """

    def __init__(
        self,
        features: int = 256,
        name: str | None = None,
        head: str = "relu",
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.features = check_option("features", features)
        self.head = check_option("head", head)
        variables = self.dtype_policy.variable_dtype
        self._flat = (
            tf.keras.layers.GlobalAveragePooling2D(dtype=variables)
            if head == "pool"
            else tf.keras.layers.Flatten()
        )
        self._dense = tf.keras.layers.Dense(
            self.features,
            activation=None if head == "layer_norm" else "relu",
            name="dense",
            dtype=variables,
        )
        self._head = [self._dense]
        if head == "layer_norm":
            # ε is that of PI-SAC's release (encoders.py).
            self._head.append(LayerNormalization(epsilon=1e-5, name="layer_norm", dtype=variables))

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> tf.Tensor:
        """As `call`, but checks the images first: Keras buries what `call` raises in its text."""
        images = images if hasattr(images, "shape") else np.asarray(images)
        _check_images(images.shape, images.dtype)
        self.check_size(images.shape[1:])
        call = super().__call__
        return in_shares(lambda share: call(share, *args, **kwargs), images, self)

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C], uint8, bool or float -> [B, features], >= 0 but with "layer_norm".

        Raises:
          ConfigError: the images are not of rank 4, too small, or of another dtype.
        """
        return self._encode(images, training)

    @property
    def least_side(self) -> int:
        """Pixels that an image must have in height and in width: more than 1 without padding."""
        return 1

    def check_size(self, shape: Sequence[int | None]) -> None:
        """Checks the size of an image before the layers are built.

        Args:
          shape: (height, width, channels); None where it is not known.

        Raises:
          ConfigError: the image is too small for convolutions without padding.
        """
        height, width = shape[:2]
        least = self.least_side
        if any(side is not None and side < least for side in (height, width)):
            raise ConfigError(
                f"{type(self).__name__} is for images of at least {least} x {least} pixels, "
                f"got {height} x {width}"
            )

    # AutoGraph would spend seconds on converting this code, which does not need it.
    @tf.autograph.experimental.do_not_convert
    def _encode(self, images: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self._as_float(images)
        if x.shape[0]:
            return self._features(x, training)
        rows = tf.shape(x)[0]
        return self._features(_at_least_one(x), training)[:rows]

    def _features(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.feature_maps(x, training)
        # Flattened first: of ReLU's output and its flat form, both would be kept for the gradients.
        if self.head != "pool":
            x = self._flat(x)
        if not self.ends_in_activation:
            x = tf.nn.relu(x)
        if self.head == "pool":
            x = self._flat(x)
        for layer in self._head:
            x = layer(x)
        return x

    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Computes the head's input: float images [B, H, W, C] -> maps [B, H', W', C']."""
        raise NotImplementedError

    def _as_float(self, images: tf.Tensor) -> tf.Tensor:
        _check_images(images.shape, images.dtype)
        x = tf.cast(images, self.compute_dtype)
        return x / 255 if images.dtype == tf.uint8 else x

    @property
    def has_second_cells(self) -> bool:
        """Whether its twin has cells of its own; see `Space.has_second_cells`."""
        return False

    def twin(self: _Encoder) -> _Encoder:
        """Another encoder of the same architecture, with weights of its own."""
        return type(self).from_config({**self.get_config(), **self._of_twin()})

    def _of_twin(self) -> dict[str, Any]:
        """What its twin has another value of in its config."""
        return {"name": f"{self.name}_twin"}

    def architecture_loss(self) -> tf.Tensor | None:
        """What the architecture adds to the loss of the agent, a float32 scalar; None: nothing.

        Add it where the loss is computed, under the tape; `with_architecture_loss` does.
        """
        return None

    def set_progress(self, progress: float) -> None:
        """Says how much of the training has passed, from 0 to 1; schedules of a search follow."""

    @property
    def ends_in_activation(self) -> bool:
        """Whether the maps have passed a non-linearity; if not, the head begins with ReLU."""
        return False

    @property
    def uses_training(self) -> bool:
        """Whether `training` may change the output.

        Where it cannot, callers may share one output between the two modes. Subclasses without
        dropout or batch normalization override this with False.
        """
        return True

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for `from_config`."""
        return {
            "name": self.name,
            "features": self.features,
            "head": self.head,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Encoder:
        """An encoder of that config; TensorFlow 2.8 would look for a functional model's in it."""
        del custom_objects
        return cls(**config)


def check_two(encoder: Encoder, two: bool, setting_name: str | None) -> None:
    """Checks that an agent has as many encoders as its search space has cells for.

    Args:
      encoder: the first one.
      two: whether the agent has two.
      setting_name: of what would give it two; None: nothing would.

    Raises:
      ConfigError: cells of the second encoder would be nowhere.
    """
    if encoder.has_second_cells and not two:
        remedy = f"{setting_name} must be True" if setting_name else "this agent has one"
        raise ConfigError(
            "the search space has cells for each of two encoders (SearchSpace.per_encoder): "
            f"{remedy}"
        )


def with_architecture_loss(loss: tf.Tensor, *modules: tf.Module) -> tf.Tensor:
    """A loss with what the encoders in modules add to it; the loss itself where they add nothing.

    Args:
      loss: a scalar.
      *modules: those that are trained; encoders in them are found, each once.
    """
    parts = {id(part): part for module in modules for part in (module, *module.submodules)}
    added = [part.architecture_loss() for part in parts.values() if isinstance(part, Encoder)]
    return sum((tf.cast(term, loss.dtype) for term in added if term is not None), loss)


class CellNetwork(Encoder):
    """D blocks of cells, one channel depth per block, and what the search space has around them.

    Args:
      cell_factory: makes the cells.
      depths: channels of each block.
      space: the search space, whose `places` are the layers.
      numbers: N, R and so on, of a genotype or of the space itself.
      is_second: whether it is the second encoder of an agent that has two; see
        `Space.has_second_cells`.
      **kwargs: arguments of `Encoder`.
    """

    def __init__(
        self,
        cell_factory: CellFactory,
        depths: Sequence[int],
        space: Space,
        numbers: Numbers,
        *,
        is_second: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.depths = check_option("depths", depths)
        self.is_second = is_second
        self._has_second_cells = space.has_second_cells
        places = space.places(self.depths, numbers)
        if is_second:
            places = tuple(
                dataclasses.replace(p, cell_type=space.of_second(p.cell_type)) for p in places
            )
        self._plan = _Plan(places)
        self._stack: list[tf.keras.layers.Layer] = [
            _make_layer(place, cell_factory, self.dtype_policy) for place in self._plan.places
        ]

    @property
    @override
    def ends_in_activation(self) -> bool:
        # Filter response normalization has a thresholded unit.
        return self._plan.places[-1].kind == NORM

    @property
    def cells(self) -> list[Cell]:
        """All cells, from input to output."""
        return [layer for layer in self._stack if isinstance(layer, Cell)]

    @property
    def placed_cells(self) -> list[tuple[Place, Cell]]:
        """All cells with where they stand, from input to output."""
        return [(p, cell) for p, cell in zip(self._plan.places, self._stack) if p.kind == CELL]

    @property
    @override
    def uses_training(self) -> bool:
        return any(cell.uses_training for cell in self.cells)

    @property
    @override
    def least_side(self) -> int:
        # The stem may have no padding; cells and poolings have.
        return least_side([layer for layer in self._stack if isinstance(layer, Conv2D)])

    @property
    @override
    def has_second_cells(self) -> bool:
        return self._has_second_cells

    @override
    def _of_twin(self) -> dict[str, Any]:
        second = {"is_second": True} if self.has_second_cells else {}
        return {**super()._of_twin(), **second}

    @override
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **({"is_second": True} if self.is_second else {})}

    def op_weights(self) -> Mapping[str, tf.Tensor]:
        """p [E, |O|] per cell type; of none where every weight is one."""
        return {}

    def selected_ops(self) -> Mapping[str, tf.Tensor | None]:
        """Per cell type the ops to compute, bool [k, E, |O|]; None, or no entry, for all."""
        return {}

    @override
    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Float images [B, H, W, C] -> maps [B, H', W', depths[-1]].

        With the stem "impala" and R <= 1 H' is H / 2^D; with "pisac" (H - 1) / 2 / 2^(R D), and
        with "none" H / 2^(R D).
        """
        op_weights, selected = self.op_weights(), self.selected_ops()
        for place, layer in zip(self._plan.places, self._stack):
            x = _passed(place, layer, x, op_weights, training, selected)
        return x

    def cell_inputs(
        self, images: tf.Tensor, op_weights: Mapping[str, tf.Tensor]
    ) -> Iterator[tuple[Cell, Place, tf.Tensor]]:
        """(cell, where it stands, its input) of every cell, from input to output."""
        x = self._as_float(images)
        for place, layer in zip(self._plan.places, self._stack):
            if place.kind == CELL:
                yield layer, place, x
            x = _passed(place, layer, x, op_weights, False)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Where the layers of a network stand; not a plain tuple, which Keras would track."""

    places: tuple[Place, ...]


def _make_layer(place: Place, cell_factory: CellFactory, dtype: Any) -> tf.keras.layers.Layer:
    if place.kind == CELL:
        return cell_factory(place, dtype)
    name, padding = place.name, place.padding
    if place.kind == CONV:
        strides = place.stride
        return Conv2D(place.filters, 3, strides, padding=padding, name=name, dtype=dtype)
    if place.kind == MAX_POOL:
        return tf.keras.layers.MaxPool2D(3, place.stride, padding=padding, name=name, dtype=dtype)
    return FilterResponseNorm(name=name, dtype=dtype)


def _passed(
    place: Place,
    layer: tf.keras.layers.Layer,
    x: tf.Tensor,
    op_weights: Mapping[str, tf.Tensor],
    training: bool | None,
    selected: Mapping[str, tf.Tensor | None] | None = None,
) -> tf.Tensor:
    """The output of one layer of the stack."""
    if place.kind != CELL:
        return layer(x)
    p = op_weights.get(place.cell_type)
    active = (selected or {}).get(place.cell_type)
    if place.node is not None:
        p = None if p is None else p[place.rows]
        active = None if active is None else active[:, place.rows]
    return layer(x, p, training=training, active=active)


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


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class DiscreteNetwork(CellNetwork):
    """The encoder that a genotype describes.

    Args:
      genotype: a `Genotype`, the path of a genotype file, or the content of one.
      depths: channels of each block, such as [64, 64, 64].
      normalization: of the convolutions in the cells: None, "layer" or "batch".
      recompute: least memory for activations, for more time; see `rldarts_tf.cells.Cell`.
      unit_ops: bring the outputs of the cells' ops to unit size, as a supernet may have done.
      **kwargs: arguments of `Encoder`.

    Raises:
      GenotypeError: the genotype is not valid.
      ConfigError: another argument is not valid, or an op of the genotype is not registered.
    """

    def __init__(
        self,
        genotype: Genotype | str | os.PathLike[str] | Mapping[str, Any],
        depths: Sequence[int],
        normalization: str | None = None,
        *,
        recompute: bool = False,
        unit_ops: bool = False,
        **kwargs: Any,
    ) -> None:
        discrete = as_genotype(genotype)
        for cell in discrete.cells.values():
            ops = [op for node in cell for _, op in node]
            check_ops(ops, f"genotype of search space {discrete.search_space!r}")
        check_option("normalization", normalization)

        def make_cell(place: Place, dtype: Any) -> Cell:
            return Cell(
                discrete.topology(place),
                place.filters,
                stride=place.stride,
                output_mode=discrete.output_mode,
                normalization=normalization,
                recompute=recompute,
                unit_ops=unit_ops,
                name=place.name,
                dtype=dtype,
            )

        super().__init__(make_cell, depths, discrete.space, discrete, **kwargs)
        self._genotype_json = discrete.to_json()
        self.normalization = normalization
        self.recompute = recompute
        self.unit_ops = unit_ops

    @property
    def genotype(self) -> Genotype:
        """The architecture."""
        return Genotype.from_json(self._genotype_json)

    @override
    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "genotype": self.genotype.to_dict(),
            "depths": list(self.depths),
            "normalization": self.normalization,
            "recompute": self.recompute,
            **({"unit_ops": True} if self.unit_ops else {}),
        }


def as_search_space(value: Space | str | Mapping[str, Any]) -> Space:
    """A search space from itself, its registered name, or its config."""
    if isinstance(value, Space):
        return value
    if isinstance(value, Mapping):
        return read_config(value)
    return get_search_space(value)


def as_genotype(value: Genotype | str | os.PathLike[str] | Mapping[str, Any]) -> Genotype:
    """A genotype from itself, the path of its file, or the content of that."""
    if isinstance(value, Genotype):
        return value
    if isinstance(value, Mapping):
        return Genotype.from_dict(value)
    if not isinstance(value, (str, os.PathLike)):
        raise GenotypeError(f"genotype: must be a Genotype, a path or a mapping, got {value!r}")
    return Genotype.load(value)


def _at_least_one(x: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C], or a black one where there are none.

    TensorFlow's convolutions by oneDNN fail on no images: a replica may have none of a last batch.
    """
    shape = tf.shape(x)
    missing = tf.cast(tf.equal(shape[0], 0), tf.int32)
    size = [shape[axis] if n is None else n for axis, n in enumerate(x.shape)]
    return tf.concat([x, tf.zeros([missing, *size[1:]], x.dtype)], axis=0)


def _check_images(shape: Any, dtype: Any) -> None:
    shape, dtype = tf.TensorShape(shape), tf.as_dtype(dtype)
    if shape.rank != 4:
        raise ConfigError(
            f"images must have rank 4, [batch, height, width, channels], got shape {shape}"
        )
    if not (dtype.is_floating or dtype in (tf.uint8, tf.bool)):
        raise ConfigError(
            f"images must be uint8, bool or float, got {dtype.name}: cast them to float, and scale "
            "them to about 0 to 1"
        )


def least_side(convs: Sequence[tf.keras.layers.Conv2D]) -> int:
    """Pixels of a side of an image of which convolutions, one after another, leave one."""
    side = 1
    for conv in reversed(convs):
        kernel = conv.kernel_size[0] if conv.padding == "valid" else 1
        side = (side - 1) * conv.strides[0] + kernel
    return side


def same_conv(filters: int, name: str, dtype: Any, kernel_size: int = 3) -> tf.keras.layers.Layer:
    """A convolution of IMPALA-CNN's blocks: SAME, stride 1, with bias; 3x3 if nothing is said."""
    return Conv2D(filters, kernel_size, padding="same", name=name, dtype=dtype)
