"""Cells where the search space says, and the hand-designed layers around them.

Source: RL-DARTS section 3.1, figure 2; the layers that are IMPALA-CNN's (Espeholt et al. 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.cells import Cell
from rldarts_tf.encoders.base import Encoder
from rldarts_tf.encoders.convolutions import least_side
from rldarts_tf.kernels.normalization import FilterResponseNorm
from rldarts_tf.kernels.precision import Conv2D
from rldarts_tf.options import check_option
from rldarts_tf.space import CELL, CONV, MAX_POOL, NORM, Numbers, Place, Space

CellFactory = Callable[[Place, Any], Cell]
"""(where it is to stand, Keras policy) -> cell."""


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
