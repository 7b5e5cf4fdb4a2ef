"""Ops without weights, mixed: Σ_o p_o · f_o(x) over maps, in few passes over memory.

Mixing is bound by memory, not by arithmetic: written op by op, each product and each sum reads and
writes whole feature maps. XLA compiles the sum for one target into a single loop, and so the
gradient for one source. The convolutions stay outside: those of oneDNN and cuDNN are faster.

Maps of half precision are read and written as such, and all between is computed in float32: XLA's
loops on CPUs else round after every operation, which takes 2.5 times as long.

Outside of `tf.function` the same functions run op by op: compiling costs more than one call gains.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# No public names say whether a forward accumulator is active, or check_numerics enabled.
from tensorflow.python.eager import forwardprop_util
from tensorflow.python.framework import op_callbacks

from rldarts_tf.kernels.precision import sum_per_image, wide, widened

IDENTITY = "identity"

Functions = tuple[tuple[str, ...], ...]
"""Per base map the functions that are applied to it: `IDENTITY` or names of Keras activations."""


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles with XLA where a graph is traced."""
    fused = tf.function(function, jit_compile=True, autograph=False)

    @functools.wraps(function)
    def call(*args: Any) -> Any:
        # Debugging puts ops of its own between those of a function, which XLA does not know.
        plain = tf.executing_eagerly() or op_callbacks.should_invoke_op_callbacks()
        return (function if plain else fused)(*args)

    return call


@compiled
def combine(
    addends: Sequence[tf.Tensor], bases: Sequence[tf.Tensor], functions: Functions, p: tf.Tensor
) -> tf.Tensor:
    """Σ addends + Σ_b Σ_f p_bf · f(base_b).

    Args:
      addends: maps [B, H, W, C].
      bases: maps of the same shape.
      functions: per base.
      p: op weights, float [functions], in the order of `functions`; or those of each image,
        [functions, B, 1, 1, 1].

    Returns:
      A map [B, H, W, C].
    """
    terms = [widened(addend) for addend in addends]
    each = iter(tf.unstack(tf.cast(p, wide(bases[0].dtype))))
    for base, names in zip(bases, functions):
        x = widened(base)
        terms += [next(each) * apply_function(name, x) for name in names]
    return tf.cast(functools.reduce(tf.add, terms), bases[0].dtype)


@compiled
def base_gradient(
    base: tf.Tensor,
    names: tuple[str, ...],
    p: tf.Tensor,
    gradients: Sequence[tf.Tensor],
    shrinkage: tf.Tensor | None = None,
) -> tf.Tensor:
    """Σ_f f'(base) · (Σ_t p_ft g_t - c_f f(base)).

    Args:
      base: a map [B, H, W, C].
      names: the functions f.
      p: op weights [functions, targets], or [functions, targets, B, 1, 1, 1].
      gradients: g_t, maps of the same shape.
      shrinkage: c [functions, B, 1, 1, 1]; None: zeros.
    """
    x, p = widened(base), tf.cast(p, wide(base.dtype))
    gs = [widened(g) for g in gradients]
    with tf.GradientTape() as tape:
        tape.watch(x)
        results = [apply_function(name, x) for name in names]
    cotangents = [
        functools.reduce(tf.add, [p_ft * g for p_ft, g in zip(tf.unstack(p_f), gs)])
        for p_f in tf.unstack(p)
    ]
    if shrinkage is not None:
        parts = zip(cotangents, tf.unstack(tf.cast(shrinkage, x.dtype)), results)
        cotangents = [cotangent - c_f * y for cotangent, c_f, y in parts]
    return tf.cast(tape.gradient(results, x, output_gradients=cotangents), base.dtype)


def mix(
    bases: Sequence[tf.Tensor],
    functions: Functions,
    p: tf.Tensor,
    layers: tf.Tensor | None = None,
) -> list[tf.Tensor]:
    """Σ_b Σ_f p_bft · f(base_b) for each of n targets t.

    The gradient reads each map once per target, and needs no map but the bases from the forward
    pass: the functions are computed again.

    Args:
      bases: maps [B, H, W, C].
      functions: per base.
      p: op weights, float [functions, n], in the order of `functions`.
      layers: bool [k, functions, n], at most one function per target in each: no other p has a
        gradient, and of these k are computed for each target.

    Returns:
      n maps [B, H, W, C].
    """

    @tf.custom_gradient
    def run(p: tf.Tensor, *bases: tf.Tensor) -> Any:
        results = [combine([], bases, functions, p_t) for p_t in tf.unstack(p, axis=1)]

        def of_all(gradients: Sequence[tf.Tensor]) -> tf.Tensor:
            """The gradient of p: one function after the other, for every target."""
            ys = (apply_function(f, base) for base, names in zip(bases, functions) for f in names)
            return tf.stack([tf.stack([_dot(g, y, p.dtype) for g in gradients]) for y in ys])

        def of_selected(gradients: Sequence[tf.Tensor], layer: tf.Tensor) -> tf.Tensor:
            """That of one function for each target."""
            one = tf.unstack(tf.cast(layer, p.dtype), axis=1)
            ys = [combine([], bases, functions, one_t) for one_t in one]
            dots = tf.stack([_dot(g, y, p.dtype) for g, y in zip(gradients, ys)])
            return tf.where(layer, dots, tf.zeros_like(dots))

        def gradient(*gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_bases, first = [], 0
            for base, names in zip(bases, functions):
                part = p[first : first + len(names)]
                of_bases.append(base_gradient(base, names, part, list(gradients)))
                first += len(names)
            if layers is None:
                return (of_all(gradients), *of_bases)
            return (
                tf.add_n([of_selected(gradients, one) for one in tf.unstack(layers)]),
                *of_bases,
            )

        return results, gradient

    if in_forward_mode(p):
        return [combine([], bases, functions, p_t) for p_t in tf.unstack(p, axis=1)]
    return run(p, *bases)


def in_forward_mode(x: tf.Tensor) -> bool:
    """Whether a `tf.autodiff.ForwardAccumulator` is active where x, any float tensor, is used.

    It asks for a custom gradient where no tape records: one that has tapes of its own fails.
    """
    # One entry per accumulator, whether it follows x or not.
    return bool(forwardprop_util.pack_tangents([x]).indices)


def apply_function(name: str, x: tf.Tensor) -> tf.Tensor:
    """A function by its name: `IDENTITY` or a Keras activation."""
    return x if name == IDENTITY else tf.keras.activations.get(name)(x)


def _dot(a: tf.Tensor, b: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """<a, b> of maps, summed in the dtype of the op weights: half precision would lose gradients.

    Products of bfloat16 are rounded, which errs to both sides alike; those of float16 would be 0
    where gradients are small.
    """
    if a.dtype == tf.bfloat16:
        return tf.cast(tf.reduce_sum(sum_per_image(a * b)), dtype)
    return tf.reduce_sum(tf.cast(a, dtype) * tf.cast(b, dtype))
