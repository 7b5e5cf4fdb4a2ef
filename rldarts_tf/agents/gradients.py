"""Gradient norms (θ and α separately) and the non-finite check."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import tensorflow as tf

from rldarts_tf.alpha import Alpha
from rldarts_tf.errors import RunError

NORMS = ("gradient_norm_theta", "gradient_norm_alpha")
"""Names of the norms that `norms` returns: of the weights θ and the architecture variables α."""


def diverged(name: str, value: object, settings: type) -> RunError:
    """The error that ends a training whose numbers are not finite.

    Args:
      name: of the number, such as "loss".
      value: what it is.
      settings: the class of the algorithm's settings.
    """
    return RunError(
        f"the {name} is {value}: training has diverged; lower {settings.__name__}.learning_rate "
        "(the last checkpoint is intact)"
    )


def architecture_variables(*modules: tf.Module) -> list[tf.Variable]:
    """Trainable α of all supernets in the modules; empty for other networks."""
    layers = {
        id(layer): layer
        for module in modules
        for layer in module.submodules
        if isinstance(layer, Alpha)
    }
    return [weight for layer in layers.values() for weight in layer.trainable_weights]


def norms(
    gradients: Sequence[tf.Tensor | None],
    variables: Sequence[tf.Variable],
    architecture: Collection[tf.Variable],
) -> dict[str, tf.Tensor]:
    """Global norms of the gradients of θ and α, float32 scalars; without α only the first."""
    of_alpha = {variable.ref() for variable in architecture}
    parts: dict[str, list[tf.Tensor]] = {name: [] for name in NORMS}
    for gradient, variable in zip(gradients, variables):
        parts[NORMS[variable.ref() in of_alpha]].append(gradient)
    return {name: tf.linalg.global_norm(part) for name, part in parts.items() if part}
