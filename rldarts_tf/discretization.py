"""Discretization δ: logits β α, or strengths of ops, -> genotype (RL-DARTS A.1, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rldarts_tf.checks import check_integer, check_number
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import CellTopology, Edge, Genotype, check_count
from rldarts_tf.space import NONE, Space


class Cap(NamedTuple):
    """The most edges of a cell that may have an op of a kind (for skips P-DARTS, section 3.3)."""

    ops: frozenset[str]
    most: int


Caps = Mapping[str, Cap]
"""Caps by the names that messages call them."""

HARDLY_MOVED = 0.05
"""Lead over uniform below which a cell read off α deserves a warning."""


def discretize(
    logits: Mapping[str, Any],
    space: Space,
    top_k: int | None = None,
    output_mode: str = "concat",
    *,
    threshold: float | None = None,
    caps: Caps | None = None,
) -> Genotype:
    """Keeps the strongest op of every edge and the K strongest edges of every node.

    The strength of an edge is w = max over o != none of p_o, where p = softmax(z). Edges are
    ranked by their log-odds

        log(w / (1 - w)) = z_best - log Σ_{o != best} exp(z_o),

    which grow with w: in float32 w itself is 1 for every edge whose best op leads by more than
    about 17, and rounding would decide between them. Exact ties break to the op that stands first
    in the space, and to the lower input; so do leads that differ by less than float64 can tell
    (one part in 10^15).

    Args:
      logits: z = β α, per cell type one array [E, |O|]: a row per edge (i, j) in the order (0,1),
        (0,2), (1,2), (0,3), ... (`Space.edges`; in a chain (0,1), (1,2), ...), a column per op in
        the order of `space.ops(cell_type)`. Computed on as float64: form the product in float64 too
        (`Alpha.numpy_logits`).
      space: the search space that the columns belong to.
      top_k: K; `space.top_k` if None.
      output_mode: recorded in the genotype.
      threshold: K is the largest number of edges into any node whose w is above it, at least 1: no
        edge that is above is lost. Instead of `top_k`.
      caps: while a cell has too many edges with an op of a kind, the weakest of them is given its
        strongest op of another kind, and the edges of the node are ranked anew.

    Raises:
      ConfigError: an array is missing, has the wrong shape or is not finite; or there is a list
        of arrays, one per node, where one array is needed; or the caps leave an edge without an
        op; or there is a threshold and K.
      GenotypeError: top_k is not a positive integer.
    """
    z = _checked_all("logits", logits, space)

    def strength(cell_type: str, best: np.ndarray) -> np.ndarray:
        return _log_odds(z[cell_type], best)

    if threshold is not None:
        check_number("threshold", threshold, "a weight between 0 and 1", lambda w: 0 < w < 1)
        threshold = float(np.log(threshold / (1 - threshold)))
    return _discretize(z, strength, space, top_k, output_mode, threshold, caps)


def discretize_strengths(
    strengths: Mapping[str, Any],
    space: Space,
    top_k: int | None = None,
    output_mode: str = "concat",
    *,
    threshold: float | None = None,
    caps: Caps | None = None,
) -> Genotype:
    """As `discretize`, by any strength of an op on an edge: an edge is as strong as its best op.

    Args:
      strengths: per cell type one array [E, |O|] as logits are, larger is stronger, that of `none`
        is not looked at; such as `contribution.contributions`.
      space: see `discretize`, as all others.
      top_k: K.
      output_mode: recorded in the genotype.
      threshold: of strengths.
      caps: of kinds of ops.

    Raises:
      ConfigError, GenotypeError: see `discretize`.
    """
    values = _checked_all("strengths", strengths, space)

    def strength(cell_type: str, best: np.ndarray) -> np.ndarray:
        return values[cell_type][np.arange(len(best)), best]

    return _discretize(values, strength, space, top_k, output_mode, threshold, caps)


def within_caps(genotype: Genotype, caps: Caps) -> bool:
    """Whether a cell is one that `discretize` could make with the caps."""
    return all(
        sum(op in cap.ops for node in cell for _, op in node) <= cap.most
        for cell in genotype.cells.values()
        for cap in caps.values()
    )


def check_caps(space: Space, caps: Caps) -> None:
    """Checks that some op remains for every edge, whatever other edges are given.

    Raises:
      ConfigError: none may; or a cap is below 0.
    """
    capped = frozenset().union(*(cap.ops for cap in caps.values()))
    for name, cap in caps.items():
        check_integer(name, cap.most, least=0)
    for cell_type in space.cell_types:
        if capped >= {op for op in space.ops(cell_type) if op != NONE}:
            raise ConfigError(
                f"{', '.join(caps)}: all ops of {cell_type} cells of {space.name!r} are limited: "
                "nothing could take their place"
            )


Strength = Callable[[str, np.ndarray], np.ndarray]
"""(cell type, the column of an op for each edge [E]) -> how strong the edges are with these."""


def _discretize(
    values: Mapping[str, np.ndarray],
    strength: Strength,
    space: Space,
    top_k: int | None,
    output_mode: str,
    threshold: float | None,
    caps: Caps | None,
) -> Genotype:
    """The cell of values, float64 [E, |O|] per cell type, by which the ops of an edge compare."""
    check_caps(space, caps or {})
    if threshold is not None:
        if top_k is not None:
            raise ConfigError("threshold: decides about K, so top_k must not be given")
        top_k = max(
            _most_inputs(values[t], partial(strength, t), space, t, threshold)
            for t in space.cell_types
        )
    top_k = check_count("top_k", space.top_k if top_k is None else top_k, least=1)
    cells = {
        t: _discretize_cell(values[t], partial(strength, t), space, t, top_k, caps or {})
        for t in space.cell_types
    }
    return Genotype.of(space, cells, top_k, output_mode)


def _checked_all(name: str, arrays: Mapping[str, Any], space: Space) -> dict[str, np.ndarray]:
    """Returns the arrays of all cell types as float64 [E, |O|], checked."""
    found = {}
    for cell_type in space.cell_types:
        if cell_type not in arrays:
            raise ConfigError(f"{name}: none for {cell_type!r} cells")
        where, num_ops = f"{name}[{cell_type!r}]", len(space.ops(cell_type))
        found[cell_type] = _checked(where, arrays[cell_type], space, num_ops)
    return found


def lead_over_uniform(logits: Mapping[str, Any]) -> float:
    """How far α has moved: the largest p_o - 1/|O| of any op on any edge, where p = softmax(z).

    Args:
      logits: z = β α, per cell type [E, |O|].

    Returns:
      0 where α is at its start, at most 1 - 1/|O|.
    """
    leads = []
    for z in logits.values():
        shifted = np.exp(z - np.max(z, axis=-1, keepdims=True))
        p = shifted / shifted.sum(axis=-1, keepdims=True)
        leads.append(float(np.max(p)) - 1 / z.shape[-1])
    return max(leads)


def unmoved_warning(logits: Mapping[str, Any], gradient_steps: int | None = None) -> str | None:
    """Says that a cell is little better than one drawn at random, if α has hardly moved.

    Args:
      logits: z = β α, per cell type [E, |O|].
      gradient_steps: how many moved it, where known.

    Returns:
      A sentence, or None for an α in which some op leads by `HARDLY_MOVED` or more.
    """
    lead = lead_over_uniform(logits)
    if lead >= HARDLY_MOVED:
        return None
    steps = "" if gradient_steps is None else f" in {gradient_steps:,} gradient steps"
    return (
        f"warning: α has hardly moved{steps}: no op's weight is more than {lead:.2g} above "
        "uniform, so chance had most of the say in this cell"
    )


def _checked(where: str, logits: Any, space: Space, num_ops: int) -> np.ndarray:
    """Returns the logits of a cell type as float64 [E, |O|], checked."""
    if _is_list_of_nodes(logits):
        raise ConfigError(
            f"{where}: must be one array with a row per edge, not a list of arrays per node: "
            "np.concatenate them"
        )
    try:
        z = np.asarray(logits, dtype=np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: not an array of numbers") from None
    rows = space.edges
    if z.shape != (len(rows), num_ops):
        raise ConfigError(
            f"{where}: shape must be {(len(rows), num_ops)}: the edges of {space.num_nodes} nodes, "
            f"and ops; got {z.shape}"
        )
    for edge, row in zip(rows, z):
        if not np.all(np.isfinite(row)):
            raise ConfigError(f"{where}: not finite at edge {edge}")
    return z


def _is_list_of_nodes(logits: Any) -> bool:
    """Whether these are arrays per node [j, |O|], the form that `discretize` once took."""

    def is_matrix(value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return any(isinstance(row, (list, tuple)) for row in value)
        return len(getattr(value, "shape", ())) == 2

    return isinstance(logits, (list, tuple)) and any(map(is_matrix, logits))


def _discretize_cell(
    values: np.ndarray,
    strength: Callable[[np.ndarray], np.ndarray],
    space: Space,
    cell_type: str,
    top_k: int,
    caps: Caps,
) -> CellTopology:
    """Returns the edges that each node keeps, from values [E, |O|]."""
    ops = space.ops(cell_type)
    allowed = np.broadcast_to([op != NONE for op in ops], values.shape).copy()
    while True:
        # np.argmax takes the first of equals.
        best = np.argmax(np.where(allowed, values, -np.inf), axis=1)
        strengths = strength(best)
        kept = _kept(strengths, space, top_k)
        for cap in caps.values():
            capped = [row for row in kept if ops[best[row]] in cap.ops]
            if len(capped) > cap.most:
                weakest = min(capped, key=lambda row: strengths[row])
                allowed[weakest] &= [op not in cap.ops for op in ops]
                break
        else:
            break
    nodes: list[list[Edge]] = [[] for _ in range(space.num_nodes)]
    for row in kept:
        source, target = space.edges[row]
        nodes[target - 1].append((source, ops[best[row]]))
    return tuple(map(tuple, nodes))


def _kept(strengths: np.ndarray, space: Space, top_k: int) -> list[int]:
    """Returns the rows of the K strongest edges of every node, of strengths [E]."""
    rows: list[int] = []
    targets = np.array([target for _, target in space.edges])
    for j in range(1, space.num_nodes + 1):
        of_node = np.flatnonzero(targets == j)
        # A stable sort keeps the lower input first among equals.
        rows += sorted(of_node[np.argsort(-strengths[of_node], kind="stable")[:top_k]])
    return rows


def _most_inputs(
    values: np.ndarray,
    strength: Callable[[np.ndarray], np.ndarray],
    space: Space,
    cell_type: str,
    threshold: float,
) -> int:
    """Returns the largest number of edges into a node that are stronger than that, at least 1."""
    nonzero = np.array([op != NONE for op in space.ops(cell_type)])
    above = strength(np.argmax(np.where(nonzero, values, -np.inf), axis=1)) > threshold
    targets = [target for _, target in space.edges]
    return max(1, int(np.bincount(targets, weights=above).max()))


def _log_odds(z: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)) of one column of each row, where p = softmax(z).

    Args:
      z: logits, float64 [j, |O|], |O| >= 2.
      best: the column of each row, int [j].

    Returns:
      float64 [j]. Rows with the same differences, in whatever order, have the same value bit by
      bit: these are rounded alike, and summed in the order of their size.
    """
    rows = np.arange(len(z))
    behind = z - z[rows, best][:, None]
    behind = np.sort(behind[np.arange(z.shape[1]) != best[:, None]].reshape(len(z), -1), axis=1)
    largest = behind[:, -1]
    return -(largest + np.log(np.exp(behind - largest[:, None]).sum(axis=1)))
