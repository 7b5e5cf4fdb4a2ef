"""The share that each op has in what a node becomes, which p alone does not tell.

Where nothing fixes the size of an op's output, θ can take from p and give back: p · (k * x) with
half of p and twice the kernel is the same function. The contribution is measured on the result:

    c_eo = RMS(p_eo · o(x_i)) / RMS(x_j),  e = (i, j)

over images, pixels and channels. No rescaling of θ that leaves the function as it is changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from rldarts_tf.encoders import Supernet


def contributions(
    supernet: Supernet, images: tf.Tensor, op_weights: Mapping[str, Any] | None = None
) -> dict[str, tf.Tensor]:
    """Contributions of the ops of a supernet, each a mean over the cells of its type.

    Args:
      supernet: a supernet with weights; with its twin, where that has cells of its own.
      images: states that it meets, [B, H, W, C].
      op_weights: p by cell type, [E, |O|]; if None the supernet's `Alpha.lasting_op_weights`: of a
        draw, an op that was not drawn would contribute nothing.

    Returns:
      Per cell type float32 [E, |O|], rows in the order of `Space.edges`; `none`
      contributes 0. They do not sum to 1: the ops of a node may cancel each other.

    Raises:
      ConfigError: see `Supernet.encoders_of_alpha`.
    """
    p = supernet.alpha.lasting_op_weights() if op_weights is None else op_weights
    found: dict[str, dict[int | None, list[tf.Tensor]]] = {}
    for network in supernet.encoders_of_alpha():
        for cell, place, x in network.cell_inputs(images, p):
            measured = cell.contributions(x, p[place.cell_type][place.rows])
            found.setdefault(place.cell_type, {}).setdefault(place.node, []).append(measured)
    return {
        cell_type: tf.concat([tf.add_n(cells) / len(cells) for cells in by_node.values()], axis=0)
        for cell_type, by_node in found.items()
    }
