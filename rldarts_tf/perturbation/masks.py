"""Op weights that are overridden without a new trace and without touching what is saved."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import tensorflow as tf

from rldarts_tf.alpha import Alpha
from rldarts_tf.perturbation.selection import Weights
from rldarts_tf.space import Space


class Mask:
    """p -> keep · p + fixed, for `Alpha.masking`.

    The two are variables, so that a traced function follows them; no checkpoint and no list of
    weights has them. α of an edge that is undecided keeps its gradient, that of a decided one has
    none.

    Args:
      space: the search space of the supernets that are masked.
    """

    def __init__(self, space: Space) -> None:
        self._variables: dict[str, tuple[tf.Variable, tf.Variable]] = {}
        for cell_type in space.cell_types:
            shape = (len(space.edges), len(space.ops(cell_type)))
            self._variables[cell_type] = (
                tf.Variable(tf.ones(shape), trainable=False),
                tf.Variable(tf.zeros(shape), trainable=False),
            )

    def assign(self, weights: Mapping[str, Weights]) -> None:
        """Sets keep and fixed of each cell type."""
        for cell_type, values in weights.items():
            for variable, value in zip(self._variables[cell_type], values):
                variable.assign(value)

    def __call__(self, p: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The op weights in place of p, per cell type [E, |O|]."""
        masked = {}
        for cell_type, of_type in p.items():
            keep, fixed = self._variables[cell_type]
            masked[cell_type] = keep * of_type + fixed
        return masked


@contextlib.contextmanager
def masked(modules: Mapping[str, object], mask: Mask) -> Iterator[None]:
    """Within it, all supernets in the modules, target networks among them, have the mask.

    Args:
      modules: encoders, networks or agents by name; what is no `tf.Module` is passed over.
      mask: the mask.
    """
    alphas = {
        id(alpha): alpha
        for module in modules.values()
        if isinstance(module, tf.Module)
        for alpha in (module, *module.submodules)
        if isinstance(alpha, Alpha)
    }
    try:
        for alpha in alphas.values():
            alpha.masking = mask
        yield
    finally:
        for alpha in alphas.values():
            alpha.masking = None
