"""Discretization δ: logits β α -> genotype (RL-DARTS appendix A.1, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Edge, Genotype, check_count
from rldarts_tf.search_space import NONE, SearchSpace, edge_row, edges

HARDLY_MOVED = 0.05
"""Lead over uniform below which a cell read off α deserves a warning."""


def discretize(
    logits: Mapping[str, Any],
    space: SearchSpace,
    top_k: int | None = None,
    output_mode: str = "concat",
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
        (0,2), (1,2), (0,3), ... (`search_space.edge_row`), a column per op in the order of
        `space.ops(cell_type)`. Computed on as float64: form the product in float64 too
        (`Alpha.numpy_logits`).
      space: the search space that the columns belong to.
      top_k: K; `space.top_k` if None.
      output_mode: recorded in the genotype.

    Raises:
      ConfigError: an array is missing, has the wrong shape or is not finite; or there is a list
        of arrays, one per node, where one array is needed.
      GenotypeError: top_k is not a positive integer.
    """
    top_k = check_count("top_k", space.top_k if top_k is None else top_k, least=1)
    cells = {}
    for cell_type in space.cell_types:
        if cell_type not in logits:
            raise ConfigError(f"logits: none for {cell_type!r} cells")
        ops = space.ops(cell_type)
        z = _checked(f"logits[{cell_type!r}]", logits[cell_type], space.num_nodes, len(ops))
        cells[cell_type] = tuple(
            _discretize_node(z[edge_row(0, j) : edge_row(0, j + 1)], ops, top_k)
            for j in range(1, space.num_nodes + 1)
        )
    return Genotype(
        search_space=space.name,
        cells=cells,
        top_k=top_k,
        output_mode=output_mode,
        num_normal=space.num_normal,
        num_reduction=space.num_reduction,
        space=space,
    )


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


def _checked(where: str, logits: Any, num_nodes: int, num_ops: int) -> np.ndarray:
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
    rows = edges(num_nodes)
    if z.shape != (len(rows), num_ops):
        raise ConfigError(
            f"{where}: shape must be {(len(rows), num_ops)}: the edges of {num_nodes} nodes, and "
            f"ops; got {z.shape}"
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


def _discretize_node(z: np.ndarray, ops: tuple[str, ...], top_k: int) -> tuple[Edge, ...]:
    """Returns the edges that a node j keeps, from its logits [j, |O|]."""
    nonzero = np.array([column for column, op in enumerate(ops) if op != NONE])
    # Argmax over o != none. np.argmax takes the first of equals.
    best = nonzero[np.argmax(z[:, nonzero], axis=1)]
    # Prune: the K strongest edges; a stable sort keeps the lower input first among equals.
    kept = np.argsort(-_log_odds(z, best), kind="stable")[:top_k]
    return tuple((int(i), ops[best[i]]) for i in sorted(kept))


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
