"""Discretization δ: op weights -> genotype (RL-DARTS appendix A.1, Algorithm 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Edge, Genotype, check_count
from rldarts_tf.search_space import NONE, SearchSpace


def discretize(
    op_weights: Mapping[str, Sequence[Any]],
    space: SearchSpace,
    top_k: int | None = None,
    output_mode: str = "concat",
) -> Genotype:
    """Keeps the strongest op of every edge and the K strongest edges of every node.

    Only the order of the weights in a row and between the rows of a node matters. Ties break to
    the op that stands first in the space, and to the lower input.

    Args:
      op_weights: p, per cell type one array [j, |O|] per node j = 1..I: row i holds
        softmax(β α^(i,j)) over the ops in the order of `space.ops(cell_type)`.
      space: the search space that the columns belong to.
      top_k: K; `space.top_k` if None.
      output_mode: recorded in the genotype.

    Raises:
      ConfigError: an array is missing, has the wrong shape or is not finite.
      GenotypeError: top_k is not a positive integer.
    """
    top_k = space.top_k if top_k is None else top_k
    check_count("top_k", top_k, least=1)
    cells = {}
    for cell_type in space.cell_types:
        if cell_type not in op_weights:
            raise ConfigError(f"op_weights: no weights for {cell_type!r} cells")
        if len(op_weights[cell_type]) != space.num_nodes:
            raise ConfigError(
                f"op_weights[{cell_type!r}]: must have {space.num_nodes} nodes, "
                f"got {len(op_weights[cell_type])}"
            )
        ops = space.ops(cell_type)
        cells[cell_type] = tuple(
            _discretize_node(f"op_weights[{cell_type!r}][{j - 1}]", p, j, ops, top_k)
            for j, p in enumerate(op_weights[cell_type], start=1)
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


def _discretize_node(
    where: str, weights: Any, j: int, ops: tuple[str, ...], top_k: int
) -> tuple[Edge, ...]:
    try:
        p = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: not an array of numbers") from None
    if p.shape != (j, len(ops)):
        raise ConfigError(f"{where}: shape must be {(j, len(ops))}, got {p.shape}")
    if not np.all(np.isfinite(p)):
        raise ConfigError(f"{where}: not finite")
    nonzero = [column for column, op in enumerate(ops) if op != NONE]
    # Argmax: w_ij = max over o != none of p_o, with its op. np.argmax takes the first of equals.
    best = np.argmax(p[:, nonzero], axis=1)
    strength = p[:, nonzero].max(axis=1)
    # Prune: the K strongest edges; a stable sort keeps the lower input first among equals.
    kept = np.argsort(-strength, kind="stable")[:top_k]
    return tuple((int(i), ops[nonzero[best[i]]]) for i in sorted(kept))
