"""The interface of search spaces: what to choose from, and the network around it."""

from __future__ import annotations

import abc
import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from rldarts_tf.errors import ConfigError

NONE = "none"
"""The zero op: takes part in the softmax, contributes nothing, never survives discretization."""
LEFT_OUT = -1e9
"""z of an op that a search has left out: its share in a softmax is exactly 0, as that of -inf, but
z, gradients and files of α stay finite."""
SKIP_CONNECT = "skip_connect"

CONV, MAX_POOL, NORM, CELL = "conv", "max_pool", "norm", "cell"
"""Kinds of layers in a network; see `Place`."""

_Space = TypeVar("_Space", bound="Space")


class Numbers(Protocol):
    """The numbers that a genotype states itself, and a space has as their defaults."""

    @property
    def num_nodes(self) -> int:
        """I, intermediate nodes of a cell; of a chain its layers."""

    @property
    def top_k(self) -> int:
        """K, the edges that a node keeps when a cell is discretized."""

    @property
    def num_normal(self) -> int:
        """N, normal cells in a block."""

    @property
    def num_reduction(self) -> int:
        """R, reduction cells in a block."""


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer between a network's images and its head.

    Attributes:
      kind: "conv" (3x3, with bias), "max_pool" (3x3, SAME), "norm" (filter response normalization)
        or "cell".
      name: of the layer.
      filters: its channels.
      stride: 1 or 2.
      padding: of a convolution, "same" or "valid".
      cell_type: of a cell.
      node: where the topology is a chain, the node j that this cell is; None: it has all nodes.
    """

    kind: str
    name: str
    filters: int
    stride: int = 1
    padding: str = "same"
    cell_type: str = ""
    node: int | None = None

    @property
    def rows(self) -> slice:
        """The rows of p [E, |O|] that belong to this cell."""
        return slice(None) if self.node is None else slice(self.node - 1, self.node)


@dataclasses.dataclass(frozen=True)
class Space(abc.ABC):
    """A search space, plain data.

    An architecture has per cell type a topology of nodes 1 to I, whose edges (i, j) have one of the
    ops O each. α, z and p have a row per edge in the order of `edges`, a column per op.

    Attributes:
      name: the name by which genotypes refer to it.
    """

    name: str

    def __post_init__(self) -> None:
        if not self.name or not isinstance(self.name, str):
            raise ConfigError(
                f"{type(self).__name__}.name must be a non-empty string, got {self.name!r}"
            )

    @property
    @abc.abstractmethod
    def cell_types(self) -> tuple[str, ...]:
        """The cell types, each with its own α."""

    @property
    @abc.abstractmethod
    def num_nodes(self) -> int:
        """I."""

    @property
    @abc.abstractmethod
    def top_k(self) -> int:
        """K."""

    @property
    @abc.abstractmethod
    def num_normal(self) -> int:
        """N."""

    @property
    @abc.abstractmethod
    def num_reduction(self) -> int:
        """R."""

    @abc.abstractmethod
    def ops(self, cell_type: str) -> tuple[str, ...]:
        """O of a cell type, in the order of α's columns."""

    @abc.abstractmethod
    def sources(self, node: int) -> range:
        """The nodes i that node j may have an edge (i, j) from."""

    @property
    @abc.abstractmethod
    def output_modes(self) -> tuple[str, ...]:
        """Ways in which a cell's output may follow from its nodes."""

    def output_mode(self, asked: str) -> str:
        """The mode to use where one is asked for; where there is no choice it is not looked at."""
        return asked

    @abc.abstractmethod
    def cell_types_of(self, numbers: Numbers) -> tuple[str, ...]:
        """The cell types of a genotype of these numbers.

        Raises:
          GenotypeError: there are none, or a number is none of this kind of space.
        """

    @abc.abstractmethod
    def places(self, depths: Sequence[int], numbers: Numbers) -> tuple[Place, ...]:
        """The layers of a network of these depths and numbers, from images to maps.

        Raises:
          ConfigError: there cannot be so many blocks.
        """

    @abc.abstractmethod
    def size(self, cell_type: str | None = None) -> int:
        """Counts the architectures; of one cell type, or of all together if None."""

    @abc.abstractmethod
    def resized(self: _Space, num_nodes: int | None = None, top_k: int | None = None) -> _Space:
        """The same space with other numbers; None: as they are.

        Raises:
          ConfigError: one is not possible.
        """

    @abc.abstractmethod
    def structure(self, numbers: Numbers) -> list[tuple[str, str]]:
        """Rows (name, text) of a table that says what the numbers are."""

    @property
    def has_second_cells(self) -> bool:
        """Whether the second encoder of an agent that has two has cells of its own."""
        return False

    def of_second(self, cell_type: str) -> str:
        """The cell type that stands in the second encoder where the first has this one."""
        return f"{cell_type}_of_second" if self.has_second_cells else cell_type

    @functools.cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """All edges (i, j), in the order of the rows of p: by j, then by i."""
        return tuple((i, j) for j in range(1, self.num_nodes + 1) for i in self.sources(j))

    def to_config(self) -> dict[str, Any]:
        """Plain data from which `from_config` makes an equal space."""
        fields = dataclasses.asdict(self)
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}

    @classmethod
    def from_config(cls: type[_Space], config: Mapping[str, Any]) -> _Space:
        """The inverse of `to_config`; a field that is missing has its default, if there is one.

        Raises:
          ConfigError: a field is unknown, missing without a default, or not valid.
        """
        fields = [field.name for field in dataclasses.fields(cls)]
        for key in config:
            if key not in fields:
                raise ConfigError(
                    f"{cls.__name__} has no field {key!r}; it has {', '.join(fields)}"
                )
        for name in cls.required():
            if name not in config:
                raise ConfigError(f"{cls.__name__}.{name} is missing")
        return cls(**config)

    @classmethod
    def required(cls) -> tuple[str, ...]:
        """The fields without a default."""
        fields = dataclasses.fields(cls)
        return tuple(field.name for field in fields if field.default is dataclasses.MISSING)

    def _check_ops(self, field: str, reserved: Mapping[str, str]) -> None:
        """Checks that a field holds names of ops, at least one, none twice and none reserved."""
        ops, where = getattr(self, field), f"{type(self).__name__}.{field}"
        if not all(isinstance(op, str) for op in ops):
            raise ConfigError(f"{where} must be names of ops, got {ops!r}")
        if not ops:
            raise ConfigError(f"{where} is empty")
        for op, count in collections.Counter(ops).items():
            if op in reserved:
                raise ConfigError(f"{where} must not name {op!r}: {reserved[op]}")
            if count > 1:
                raise ConfigError(f"{where} names {op!r} twice")

    def _keep_tuple(self, field: str) -> None:
        """Makes a tuple of a field that is a list of ops."""
        ops = getattr(self, field)
        if not isinstance(ops, (list, tuple)):
            raise ConfigError(f"{type(self).__name__}.{field} must be a list of ops, got {ops!r}")
        object.__setattr__(self, field, tuple(ops))
