"""A genotype: a discrete architecture as plain data, with strict JSON.

A genotype says everything about a cell that is not a weight: printed, compared and committed, it
lets a network be trained again without the supernet that it came from.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from rldarts_tf import files
from rldarts_tf.checks import as_integer, check_integer, shown
from rldarts_tf.errors import ConfigError, GenotypeError, one_line
from rldarts_tf.files import PathLike
from rldarts_tf.search_space import get_search_space, kind_of
from rldarts_tf.space import NONE, Place, Space

FORMAT_VERSION = 2
"""Version 2 holds the definition of the search space; version 1 held its name alone."""
MAX_FILE_BYTES = 1 << 20
"""A genotype file is about a thousand bytes; a larger one is refused before it is parsed."""
_MAX_COUNT = 1000
_MAX_OPS = 100
_MAX_NAME = 100

Edge = tuple[int, str]
CellTopology = tuple[tuple[Edge, ...], ...]
"""Per node j = 1..I, its incoming edges (input node i < j, op name)."""


@dataclasses.dataclass(frozen=True)
class Genotype:
    """The discrete cells of a network.

    A genotype carries the definition of its search space, and so does its file: one of a space of
    your own is read by any program, whether that has registered the space or not. The ops are
    named only; what makes a network of them needs them registered, what shows or draws them not.

    Attributes:
      search_space: Name of the space that the ops come from.
      cells: Per cell type ("reduction", "normal"; of a layer space "chain"), its topology: per node
        j = 1..I the edges (i, op) that it keeps, min(j, K) or in a chain one, by ascending input i.
      top_k: K.
      output_mode: How a cell's output follows from its nodes.
      num_normal: N, normal cells in a block.
      num_reduction: R, reduction cells in a block.
      space: The definition of the search space; None for the registered one of that name, which is
        here then. A name means one space in a program: where one is registered by it, it must be
        the same, but for the counts that a genotype states itself (N, R, I and K). The registered
        one stands here then too.

    Raises:
      GenotypeError: a field is not valid; the message begins with the field's path.
    """

    search_space: str
    cells: Mapping[str, CellTopology]
    top_k: int = 2
    output_mode: str = "concat"
    num_normal: int = 1
    num_reduction: int = 0
    space: Space = dataclasses.field(default=None, repr=False)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        space = _space_of(self.search_space, self.space)
        object.__setattr__(self, "space", space)
        for name, least in (("top_k", 1), ("num_normal", 0), ("num_reduction", 0)):
            object.__setattr__(self, name, check_count(name, getattr(self, name), least))
        if self.output_mode not in space.output_modes:
            raise GenotypeError(
                f"output_mode: unknown mode {shown(self.output_mode)}; "
                f"one of {', '.join(space.output_modes)}"
            )
        if not isinstance(self.cells, Mapping):
            raise GenotypeError("cells: must map cell types to their nodes")
        expected = space.cell_types_of(self)
        for cell_type in self.cells:
            if cell_type not in expected:
                raise GenotypeError(
                    f"cells: {shown(cell_type)} is not a cell type of this genotype "
                    f"({', '.join(expected)})"
                )
        cells = {}
        for cell_type in expected:
            if cell_type not in self.cells:
                raise GenotypeError(f"cells.{cell_type}: missing")
            if cell_type not in space.cell_types:
                raise GenotypeError(
                    f"cells.{cell_type}: search space {space.name!r} has no such cells"
                )
            cells[cell_type] = _check_cell(
                f"cells.{cell_type}", self.cells[cell_type], space, cell_type, self.top_k
            )
        object.__setattr__(self, "cells", cells)

    def __hash__(self) -> int:
        return hash(self.to_json())

    @property
    def num_nodes(self) -> int:
        """I, the number of intermediate nodes."""
        return max(len(cell) for cell in self.cells.values())

    @classmethod
    def of(
        cls,
        space: Space,
        cells: Mapping[str, CellTopology],
        top_k: int | None = None,
        output_mode: str = "concat",
    ) -> Genotype:
        """Makes the genotype of cells of a space, with the numbers of this.

        Args:
          space: the search space.
          cells: see the class.
          top_k: K; `space.top_k` if None.
          output_mode: not looked at where the space leaves no choice.
        """
        return cls(
            search_space=space.name,
            cells=cells,
            top_k=space.top_k if top_k is None else top_k,
            output_mode=space.output_mode(output_mode),
            num_normal=space.num_normal,
            num_reduction=space.num_reduction,
            space=space,
        )

    def topology(self, place: Place) -> CellTopology:
        """The topology of the cell at a place of the network."""
        return topology_at(self.cells[place.cell_type], place)

    def to_dict(self) -> dict[str, Any]:
        """Returns the content of a genotype file."""
        return {
            "format_version": FORMAT_VERSION,
            "search_space": self.space.to_config(),
            "top_k": self.top_k,
            "output_mode": self.output_mode,
            "num_normal": self.num_normal,
            "num_reduction": self.num_reduction,
            "cells": {
                cell_type: [[[i, op] for i, op in node] for node in cell]
                for cell_type, cell in self.cells.items()
            },
        }

    @classmethod
    def from_dict(cls, data: Any) -> Genotype:
        """Reads a genotype from what `to_dict` returns, in version 1 or 2, and checks every field.

        Nothing is registered: a file may come from anywhere, and must not decide what a name
        means to the rest of the program. Register `genotype.space` to use the space by its name.

        Raises:
          GenotypeError: names the field at fault; or the definition of the space is not that of
            the registered space of the same name.
        """
        if not isinstance(data, Mapping):
            raise GenotypeError(f"genotype: must be a JSON object, got {type(data).__name__}")
        version = data.get("format_version")
        if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
            raise GenotypeError(
                f"format_version: must be 1 to {FORMAT_VERSION}, got {shown(version)}"
            )
        fields = [field.name for field in dataclasses.fields(cls) if field.name != "space"]
        for key in data:
            if key != "format_version" and key not in fields:
                raise GenotypeError(f"{shown(key)}: unknown field")
        for key in fields:
            if key not in data:
                raise GenotypeError(f"{key}: missing")
        values = {key: data[key] for key in fields}
        if version > 1:
            space = read_space(values["search_space"])
            values.update(search_space=space.name, space=space)
        return cls(**values)

    def to_json(self) -> str:
        """Returns one line of JSON, the same for equal genotypes."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Genotype:
        """Reads what `to_json` writes, strictly.

        Raises:
          GenotypeError: not JSON (repeated keys and NaN are not accepted), or a field is wrong.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        except GenotypeError:
            raise
        except (ValueError, RecursionError) as error:
            reason = one_line(error, None)
            raise GenotypeError(f"genotype: not JSON ({reason})") from None
        return cls.from_dict(data)

    def save(self, path: PathLike) -> None:
        """Writes a genotype file atomically: at any moment it is the old one or the new one.

        Raises:
          OSError: it cannot be written.
        """
        files.replace(path, _pretty(self.to_dict()).encode("utf-8"))

    @classmethod
    def load(cls, path: PathLike) -> Genotype:
        """Reads a genotype file.

        Raises:
          GenotypeError: it cannot be read or is not valid; names the file and the field.
        """
        path = os.fspath(path)
        shown = str(path) if str(path).isprintable() else repr(path)
        try:
            with open(path, "rb") as file:
                raw = file.read(MAX_FILE_BYTES + 1)
            if len(raw) > MAX_FILE_BYTES:
                raise GenotypeError(f"genotype: larger than {MAX_FILE_BYTES} bytes")
            return cls.from_json(raw.decode("utf-8"))
        except OSError as error:
            raise GenotypeError(f"{shown}: cannot be read ({error.strerror})") from None
        except UnicodeDecodeError:
            raise GenotypeError(f"{shown}: genotype: not UTF-8 text") from None
        except GenotypeError as error:
            raise GenotypeError(f"{shown}: {error}") from None
        except ValueError:  # of open: a null character or a lone surrogate
            raise GenotypeError(f"{shown}: cannot be read (not a file name)") from None


def topology_at(topology: CellTopology, place: Place) -> CellTopology:
    """Returns the part of a topology that a place has: all of it, or one node of a chain."""
    if place.node is None:
        return topology
    return (tuple((0, op) for _, op in topology[place.node - 1]),)


def dense_topology(ops: Sequence[str], num_nodes: int) -> CellTopology:
    """Returns the topology of a supernet cell: every edge (i, j), i < j, with every op but `none`.

    `none` contributes nothing to a node, so that it needs no edge; its share of the softmax is
    felt through the weights of the others.
    """
    present = [op for op in ops if op != NONE]
    return tuple(
        tuple((i, op) for i in range(j) for op in present) for j in range(1, num_nodes + 1)
    )


class ByteSource(Protocol):
    """The part of `numpy.random.Generator` that is used here."""

    def bytes(self, length: int) -> bytes:
        """Random bytes."""


def random_genotype(
    space: Space,
    rng: random.Random | ByteSource | int | None = None,
    output_mode: str = "concat",
    op_weights: Mapping[str, Sequence[Sequence[float]]] | None = None,
) -> Genotype:
    """Draws a genotype uniformly from the `space.size()` there are (the random-search baseline).

    Args:
      space: the search space; its top_k, num_normal, num_reduction and num_nodes hold.
      rng: source of randomness: a seed, a `random.Random`, or a `numpy.random.Generator`, both of
        which are advanced; None for one that the system seeds.
      output_mode: see `rldarts_tf.cells`.
      op_weights: how often an edge that is kept has an op, relative to its others: per cell type
        [E, |O|], in the order of `space.edges` and `space.ops`; that of none is not used. None: all
        equally often.

    Raises:
      ConfigError: rng is none of these.
    """
    source = _random_source(rng)

    def op_of(cell_type: str, i: int, j: int) -> str:
        if op_weights is None:
            return source.choice([op for op in space.ops(cell_type) if op != NONE])
        row = op_weights[cell_type][space.edges.index((i, j))]
        weights = [0.0 if op == NONE else w for op, w in zip(space.ops(cell_type), row)]
        return source.choices(space.ops(cell_type), weights)[0]

    cells = {}
    for cell_type in space.cell_types:
        cells[cell_type] = tuple(
            tuple(
                (i, op_of(cell_type, i, j))
                for i in sorted(source.sample(inputs, min(len(inputs), space.top_k)))
            )
            for j, inputs in enumerate(map(space.sources, range(1, space.num_nodes + 1)), start=1)
        )
    return Genotype.of(space, cells, output_mode=output_mode)


def _random_source(rng: Any) -> random.Random:
    """Returns the generator that an argument stands for."""
    if isinstance(rng, random.Random):
        return rng
    if rng is None:
        return random.Random()
    # This file does without numpy; who has a generator of numpy's has loaded it.
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(rng, numpy.random.Generator):
        return random.Random(int.from_bytes(rng.bytes(32), "little"))
    seed = as_integer(rng)
    # A negative seed would be the same as the positive one.
    if seed is None or seed < 0:
        raise ConfigError(
            "rng must be a seed of at least 0, a random.Random, a numpy.random.Generator or None, "
            f"got {shown(rng)}"
        )
    return random.Random(seed)


_STATED = ("num_normal", "num_reduction", "num_nodes", "num_layers", "top_k")
"""Fields that a genotype states itself, and in which its space may differ."""


def _space_of(name: Any, space: Space | None) -> Space:
    """Returns the definition of a genotype's space, from the constructor's arguments."""
    if not isinstance(name, str):
        raise GenotypeError(f"search_space: must be a string, got {shown(name)}")
    if space is None:
        try:
            return get_search_space(name)
        except ConfigError as error:
            reason = str(error).replace(repr(name), shown(name))
            raise GenotypeError(f"search_space: {reason}") from None
    if not isinstance(space, Space):
        raise GenotypeError(f"space: must be a SearchSpace or a LayerSpace, got {shown(space)}")
    if space.name != name:
        raise GenotypeError(f"search_space: {shown(name)} is not the space {shown(space.name)}")
    # A space that could not be read again is not accepted either.
    _check_definition(space.to_config())
    known = _registered(name)
    if known is None:
        return space
    _check_same(space, known, but=_STATED)
    return known


def read_space(data: Any) -> Space:
    """Reads the space that a file defines, which anybody may have written; registers nothing.

    Raises:
      GenotypeError: it is not valid, or not the one that is registered by its name.
    """
    if not isinstance(data, Mapping):
        raise GenotypeError(f"search_space: must be a JSON object, got {shown(data)}")
    _check_definition(data)
    kind = kind_of(data)
    try:
        space = kind.from_config(data)
    except ConfigError as error:
        # "SearchSpace.<field> must be ..." -> "search_space.<field>: must be ..."
        field, _, reason = str(error).partition(f"{kind.__name__}.")[2].partition(" ")
        raise GenotypeError(f"search_space.{field}: {reason}") from None
    known = _registered(space.name)
    if known is not None:
        _check_same(space, known)
    return space


def _check_definition(data: Mapping[str, Any]) -> None:
    """Checks the kinds and sizes of a definition's fields; `SearchSpace` checks what they mean."""
    types = {field.name: str(field.type) for field in dataclasses.fields(kind_of(data))}
    for key, value in data.items():
        if key not in types:
            raise GenotypeError(f"search_space: {shown(key)}: unknown field")
        _CHECKS[types[key]](f"search_space.{key}", value)


def _check_names(where: str, names: Any) -> None:
    if not isinstance(names, list):
        raise GenotypeError(f"{where}: must be a list of names, got {shown(names)}")
    if len(names) > _MAX_OPS:
        raise GenotypeError(f"{where}: must be at most {_MAX_OPS} names, got {len(names)}")
    for i, name in enumerate(names):
        _check_name(f"{where}[{i}]", name)


def _check_flag(where: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise GenotypeError(f"{where}: must be true or false, got {shown(value)}")


def _check_name(where: str, name: Any) -> None:
    """Raises a GenotypeError unless it is a name that can be printed in a line."""
    if not isinstance(name, str) or not name:
        raise GenotypeError(f"{where}: must be a name, got {shown(name)}")
    if len(name) > _MAX_NAME or not name.isprintable():
        raise GenotypeError(
            f"{where}: must be printable and of at most {_MAX_NAME} characters, got {shown(name)}"
        )


_CHECKS: Mapping[str, Callable[[str, Any], object]] = {
    "str": _check_name,
    "int": lambda where, value: check_count(where, value, least=0),
    "bool": _check_flag,
    "tuple[str, ...]": _check_names,
}
"""Check of a field of a space by its type: (path, value in JSON) -> GenotypeError."""


def _registered(name: str) -> Space | None:
    try:
        return get_search_space(name)
    except ConfigError:
        return None


def _check_same(space: Space, known: Space, but: Sequence[str] = ()) -> None:
    """Raises a GenotypeError if a space is not the registered one of its name."""
    if type(space) is not type(known):
        raise GenotypeError(
            f"search_space: a {type(space).__name__}, but a {type(known).__name__} {space.name!r} "
            "is registered: one of them needs another name"
        )
    for field in dataclasses.fields(space):
        own, other = getattr(space, field.name), getattr(known, field.name)
        if own != other and field.name not in but:
            raise GenotypeError(
                f"search_space.{field.name}: {shown(own)}, but a search space {space.name!r} is "
                f"registered with {shown(other)}: one of them needs another name"
            )


def check_count(field: str, value: Any, least: int) -> int:
    """Returns the value as an int; GenotypeError unless it is an integer in least..1000."""
    return check_integer(f"{field}:", value, least, _MAX_COUNT, GenotypeError)


def _check_cell(where: str, cell: Any, space: Space, cell_type: str, top_k: int) -> CellTopology:
    if not isinstance(cell, (list, tuple)) or not 1 <= len(cell) <= _MAX_COUNT:
        raise GenotypeError(f"{where}: must be a list of 1 to {_MAX_COUNT} nodes")
    return tuple(
        _check_node(f"{where}[{j - 1}]", j, node, space.sources(j), space.ops(cell_type), top_k)
        for j, node in enumerate(cell, start=1)
    )


def _check_node(
    where: str, j: int, node: Any, sources: range, ops: tuple[str, ...], top_k: int
) -> tuple[Edge, ...]:
    count = min(len(sources), top_k)
    if not isinstance(node, (list, tuple)) or len(node) != count:
        got = len(node) if isinstance(node, (list, tuple)) else shown(node)
        raise GenotypeError(f"{where}: node {j} must have {count} inputs, got {got}")
    edges: list[Edge] = []
    for position, edge in enumerate(node):
        place = f"{where}[{position}]"
        if not isinstance(edge, (list, tuple)) or len(edge) != 2:
            raise GenotypeError(f"{place}: must be [input, op], got {shown(edge)}")
        i, op = edge
        source = as_integer(i)
        if source is None or source not in sources:
            among = " to ".join(map(str, dict.fromkeys((sources[0], sources[-1]))))
            raise GenotypeError(f"{place}: input of node {j} must be {among}, got {shown(i)}")
        if op == NONE:
            raise GenotypeError(f"{place}: a discrete cell cannot use {NONE!r}")
        if not isinstance(op, str) or op not in ops:
            known = _listed([name for name in ops if name != NONE])
            raise GenotypeError(f"{place}: unknown op {shown(op)}; one of {known}")
        if any(source == other for other, _ in edges):
            raise GenotypeError(f"{place}: duplicate input {source} of node {j}")
        edges.append((source, op))
    return tuple(sorted(edges))


def _listed(names: Sequence[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 500 else text[:497] + "..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise GenotypeError(f"{shown(key)}: stands twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> Any:
    raise GenotypeError(f"genotype: not JSON ({name} is not a JSON number)")


def _pretty(data: dict[str, Any]) -> str:
    """Returns JSON with a field or a node of a cell per line, so that files can be diffed."""
    lines = []
    for key, value in data.items():
        if key == "cells":
            cells = []
            for cell_type, nodes in value.items():
                body = ",\n".join(f"      {json.dumps(node)}" for node in nodes)
                cells.append(f"    {json.dumps(cell_type)}: [\n{body}\n    ]")
            shown = "{\n" + ",\n".join(cells) + "\n  }"
        elif isinstance(value, dict):
            fields = [f"    {json.dumps(name)}: {json.dumps(value[name])}" for name in value]
            shown = "{\n" + ",\n".join(fields) + "\n  }"
        else:
            shown = json.dumps(value)
        lines.append(f"  {json.dumps(key)}: {shown}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
