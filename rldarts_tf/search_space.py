"""Search spaces of cells: which ops a supernet mixes, and how its cells are stacked.

Source: RL-DARTS sections 3.1 and 4.1, appendices A.3, B.1 and G.1. Chains of layers, the other kind
of space, are in `layer_space`. Ops are named here and implemented in `rldarts_tf.ops`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from typing_extensions import override

from rldarts_tf.checks import check_choice, check_integers
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.layer_space import A2D, A2D_MINATAR, A2D_SMALL, LayerSpace
from rldarts_tf.space import (
    CELL,
    CONV,
    MAX_POOL,
    NONE,
    NORM,
    SKIP_CONNECT,
    Numbers,
    Place,
    Space,
)

NORMAL = "normal"
REDUCTION = "reduction"

OUTPUT_MODES = ("concat", "last", "sum", "average", "weighted_sum")
"""Ways to combine intermediate nodes into a cell's output; see `rldarts_tf.cells`."""

IMPALA_STEM = "impala"
PISAC_STEM = "pisac"
NO_STEM = "none"
STEMS = (IMPALA_STEM, PISAC_STEM, NO_STEM)
"""Layers around the cells; see `SearchSpace`."""


def edge_row(source: int, target: int) -> int:
    """Returns the row of edge (source, target) in an array [E, ...] of a cell's edges.

    This is the order of p, z and everything with a value per edge: nodes in order, for each its
    inputs, (0, 1), (0, 2), (1, 2), (0, 3), ...
    """
    return target * (target - 1) // 2 + source


def num_edges(num_nodes: int) -> int:
    """Returns E = I (I + 1) / 2, the edges of a cell where every node reads all before it."""
    return edge_row(0, num_nodes + 1)


def num_nodes_of(num_edges: int) -> int:
    """Returns I of a cell with E edges; 0 if there is none."""
    nodes = (math.isqrt(8 * num_edges + 1) - 1) // 2
    return nodes if edge_row(0, nodes + 1) == num_edges else 0


def edges(num_nodes: int) -> list[tuple[int, int]]:
    """Returns all edges (source, target) in the order of `edge_row`."""
    return [(i, j) for j in range(1, num_nodes + 1) for i in range(j)]


@dataclasses.dataclass(frozen=True)
class SearchSpace(Space):
    """The ops O of each cell type and the macro structure (N, R, I) around them.

    Attributes:
      name: The name by which genotypes refer to it.
      normal_ops: O_base of the normal cells. `none` and `skip_connect` are always added.
      reduction_ops: O_base of the reduction cells; empty where R = 0.
      num_normal: N, normal cells in a block.
      num_reduction: R, reduction cells in a block.
      num_nodes: I, intermediate nodes in a cell.
      top_k: K, the edges that a node keeps when its cell is discretized.
      stem: "impala": a Conv3x3 comes first where R > 0; where R = 0 each block begins with IMPALA's
        Conv3x3 and MaxPool3x3 of stride 2. "pisac": the first convolution of PI-SAC's encoder,
        3x3 of stride 2 without padding, comes before all blocks, and its filter response
        normalization after them; blocks are cells alone.
        "none": cells alone.
      per_position: each of the N and of the R cells of a block has an α of its own, which the
        blocks share ("normal1", "normal2" of the authors' release), instead of one for all cells
        of a kind.
      per_encoder: each of the two encoders of an agent (`separate_encoders`) has an α of its own,
        and so cells of its own ("normal_of_second" beside "normal"), instead of one for both. For
        agents with two encoders alone.

    Raises:
      ConfigError: the stem is unknown, a count is out of range, or an op stands twice or is one of
        the two implied.
    """

    normal_ops: tuple[str, ...]
    reduction_ops: tuple[str, ...] = ()
    num_normal: int = 1
    num_reduction: int = 0
    num_nodes: int = 4
    top_k: int = 2
    stem: str = IMPALA_STEM
    per_position: bool = False
    per_encoder: bool = False

    def __post_init__(self) -> None:
        for field in ("normal_ops", "reduction_ops"):
            self._keep_tuple(field)
        super().__post_init__()
        check_integers(self, "num_normal", "num_reduction", least=0)
        check_integers(self, "num_nodes", "top_k", least=1)
        check_choice("SearchSpace.stem", self.stem, STEMS)
        for field in ("per_position", "per_encoder"):
            check_choice(f"SearchSpace.{field}", getattr(self, field), (False, True))
        if self.num_normal + self.num_reduction == 0:
            raise ConfigError("SearchSpace.num_normal and num_reduction are both 0: no cells")
        implied = dict.fromkeys((NONE, SKIP_CONNECT), "it is implied")
        for kind, count in _counts(self).items():
            if count:
                self._check_ops(f"{kind}_ops", implied)

    @property
    @override
    def cell_types(self) -> tuple[str, ...]:
        """The cell types, each with its own α, in the order of a block; the second's at the end."""
        return self._of_encoders([cell_type for _, cell_type in self._block(self)])

    @property
    @override
    def has_second_cells(self) -> bool:
        return self.per_encoder

    def _of_encoders(self, cell_types: Collection[str]) -> tuple[str, ...]:
        """Those of the first encoder, then those of the second where it has its own."""
        return tuple(dict.fromkeys([*cell_types, *map(self.of_second, cell_types)]))

    def _block(self, numbers: Numbers) -> list[tuple[str, str]]:
        """(kind, cell type) of each cell of a block."""
        return [
            (kind, f"{kind}{position}" if self.per_position else kind)
            for kind, count in _counts(numbers).items()
            for position in range(1, count + 1)
        ]

    @override
    def ops(self, cell_type: str) -> tuple[str, ...]:
        """O of a cell type, in the order of α's columns: O_base, `skip_connect`, `none`."""
        if cell_type not in self.cell_types:
            raise ConfigError(f"search space {self.name!r} has no {cell_type!r} cells")
        base_ops = self.normal_ops if cell_type.startswith(NORMAL) else self.reduction_ops
        return (*base_ops, SKIP_CONNECT, NONE)

    @override
    def to_config(self) -> dict[str, Any]:
        config = super().to_config()
        for field in ("per_position", "per_encoder"):
            if not config[field]:
                del config[field]  # Files of such spaces are those of earlier versions.
        return config

    @override
    def sources(self, node: int) -> range:
        return range(node)

    @property
    @override
    def output_modes(self) -> tuple[str, ...]:
        return OUTPUT_MODES

    @override
    def cell_types_of(self, numbers: Numbers) -> tuple[str, ...]:
        counts = _counts(numbers)
        if not any(counts.values()):
            raise GenotypeError("num_normal: and num_reduction are both 0: no cells")
        if not self.per_position:
            return self._of_encoders([kind for kind, count in counts.items() if count])
        for kind, count in _counts(self).items():
            if counts[kind] != count:
                raise GenotypeError(
                    f"num_{kind}: must be {count}, as search space {self.name!r} has it, whose "
                    f"cells differ by position; got {counts[kind]}"
                )
        return self.cell_types

    @override
    def places(self, depths: Sequence[int], numbers: Numbers) -> tuple[Place, ...]:
        reductions, found = numbers.num_reduction, []
        if self.stem == PISAC_STEM:
            found.append(Place(CONV, "stem", depths[0], 2, "valid"))
        elif self.stem == IMPALA_STEM and reductions:
            found.append(Place(CONV, "stem", depths[0]))
        for d, filters in enumerate(depths):
            if self.stem == IMPALA_STEM and not reductions:
                found.append(Place(CONV, f"block_{d}_conv", filters))
                found.append(Place(MAX_POOL, f"block_{d}_pool", filters, 2))
            for c, (kind, cell_type) in enumerate(self._block(numbers)):
                stride = 2 if kind == REDUCTION else 1
                name = f"block_{d}_{kind}_{c}"
                found.append(Place(CELL, name, filters, stride, cell_type=cell_type))
        if self.stem == PISAC_STEM:
            found.append(Place(NORM, "norm", depths[-1]))
        return tuple(found)

    @override
    def size(self, cell_type: str | None = None) -> int:
        """Counts the discrete cells (appendix G.1).

        Node i takes K of its i possible inputs (all of them while i < K), each with one of the
        Onz = |O| - 1 ops other than `none`: prod over i of Onz^min(i,K) * C(i, min(i,K)).

        Args:
          cell_type: count the cells of one type; None for all combinations of the types.
        """
        if cell_type is None:
            return math.prod(self.size(t) for t in self.cell_types)
        nonzero = len(self.ops(cell_type)) - 1
        size = 1
        for node in range(1, self.num_nodes + 1):
            kept = min(node, self.top_k)
            size *= nonzero**kept * math.comb(node, kept)
        return size

    @override
    def resized(self, num_nodes: int | None = None, top_k: int | None = None) -> SearchSpace:
        nodes = self.num_nodes if num_nodes is None else num_nodes
        kept = self.top_k if top_k is None else top_k
        return dataclasses.replace(self, num_nodes=nodes, top_k=kept)

    @override
    def structure(self, numbers: Numbers) -> list[tuple[str, str]]:
        reductions, normal = numbers.num_reduction, numbers.num_normal
        return [
            ("cells in a block", f"{reductions} reduction, {normal} normal"),
            ("nodes, inputs of a node", f"{numbers.num_nodes}, {numbers.top_k}"),
        ]


def _counts(numbers: Numbers) -> dict[str, int]:
    """How many cells of each kind a block has, in its order."""
    return {REDUCTION: numbers.num_reduction, NORMAL: numbers.num_normal}


CLASSIC = SearchSpace(
    name="classic",
    normal_ops=("conv_3x3_relu", "conv_5x5_relu", "dil_conv_3x3_relu", "dil_conv_5x5_relu"),
    reduction_ops=("conv_3x3", "max_pool_3x3", "avg_pool_3x3"),
    num_normal=1,
    num_reduction=1,
)
"""Section 4.1, used with PPO."""

MICRO = SearchSpace(name="micro", normal_ops=("conv_3x3", "relu", "tanh"), num_normal=2)
"""Section 4.1, used with Rainbow."""

MICRO_PISAC = dataclasses.replace(MICRO, name="micro_pisac", num_normal=3, top_k=1, stem=PISAC_STEM)
"""Used with SAC at 32 channels (appendix A.3), as in the authors' release: with depths [32], three
cells on 31x31 maps stand in place of all but the first convolution of PI-SAC's encoder."""

MICRO_SAC = dataclasses.replace(MICRO_PISAC, name="micro_sac", stem=IMPALA_STEM)
"""Cells of `MICRO_PISAC` in IMPALA's blocks, as in the paper's other networks."""

CLASSIC_NO_RELU = dataclasses.replace(
    CLASSIC,
    name="classic_no_relu",
    normal_ops=("conv_3x3", "conv_5x5", "dil_conv_3x3", "dil_conv_5x5"),
)
"""The ablation of appendix B.1: a space whose supernet cannot learn."""

KINDS: tuple[type[SearchSpace] | type[LayerSpace], ...] = (SearchSpace, LayerSpace)
"""The kinds of spaces; a definition is of the one that has its fields."""


def read_config(config: Mapping[str, Any]) -> Space:
    """Makes a space of what `Space.to_config` gave.

    Raises:
      ConfigError: see `Space.from_config`.
    """
    return kind_of(config).from_config(config)


def kind_of(config: Iterable[str]) -> type[SearchSpace] | type[LayerSpace]:
    """The kind of space with most of these fields; of cells where nothing speaks against it."""
    fields = set(config)

    def known(kind: type[Space]) -> int:
        return len(fields & {field.name for field in dataclasses.fields(kind)})

    return max(KINDS, key=known)


_REGISTRY: dict[str, Space] = {}
_AnySpace = TypeVar("_AnySpace", bound=Space)


def register_search_space(space: _AnySpace) -> _AnySpace:
    """Makes a space known by its name, so that genotype files and gin can refer to it.

    Raises:
      ConfigError: another space has that name already.
    """
    known = _REGISTRY.setdefault(space.name, space)
    if known != space:
        raise ConfigError(f"a different search space named {space.name!r} is registered already")
    return space


def names() -> tuple[str, ...]:
    """The names of all registered spaces, sorted."""
    return tuple(sorted(_REGISTRY))


def get_search_space(name: str) -> Space:
    """Returns the registered space of that name.

    Raises:
      ConfigError: there is none; the message lists those there are.
    """
    try:
        return _REGISTRY[name]
    except (KeyError, TypeError):
        raise ConfigError(
            f"unknown search space {name!r}; known: {', '.join(names())} "
            "(a space of your own: register_search_space)"
        ) from None


_space: Space
for _space in (
    CLASSIC,
    MICRO,
    MICRO_PISAC,
    MICRO_SAC,
    CLASSIC_NO_RELU,
    A2D,
    A2D_MINATAR,
    A2D_SMALL,
):
    register_search_space(_space)
