"""The terms that a node is the sum of, and which of them are computed together.

A bank may hand over a term before it is computed: the node that receives it adds terms of several
banks in one convolution or in one loop over memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Union

import tensorflow as tf

from rldarts_tf.kernels.dilation import as_dense, deinterleave, spatial_shape
from rldarts_tf.kernels.mixing import Functions, combine
from rldarts_tf.kernels.precision import bias_add


class MapTerm(NamedTuple):
    """A map that is computed: y, [B, H, W, C]."""

    y: tf.Tensor


class ConvolutionTerm(NamedTuple):
    """A linear convolution: kernel * x + bias.

    Attributes:
      x: [B, H, W, C].
      kernel: [k, k, C, filters].
      bias: [filters].
      stride: 1 or 2.
      dilation: with stride 2, that or 1.
    """

    x: tf.Tensor
    kernel: tf.Tensor
    bias: tf.Tensor
    stride: int
    dilation: int


class MixtureTerm(NamedTuple):
    """A weighted sum of functions of maps: Σ_b Σ_f p_bf · f(base_b).

    Attributes:
      bases: maps [B, H, W, C].
      functions: per base.
      p: op weights, float, one per function in the order of `functions`.
    """

    bases: tuple[tf.Tensor, ...]
    functions: Functions
    p: tf.Tensor


Term = Union[MapTerm, ConvolutionTerm, MixtureTerm]


def total(terms: Sequence[Term]) -> tf.Tensor:
    """The sum of terms, [B, H, W, C].

    Convolutions of the same kind run as one, of the concatenated inputs; functions are evaluated
    while they are summed.
    """
    maps = [term.y for term in terms if isinstance(term, MapTerm)]
    maps += _convolve([term for term in terms if isinstance(term, ConvolutionTerm)])
    mixtures = [term for term in terms if isinstance(term, MixtureTerm)]
    if not mixtures:
        return add(maps)
    bases = [base for mixture in mixtures for base in mixture.bases]
    functions = tuple(names for mixture in mixtures for names in mixture.functions)
    p = tf.concat([mixture.p for mixture in mixtures], axis=0)
    return combine(maps, bases, functions, p)


def _convolve(terms: Sequence[ConvolutionTerm]) -> list[tf.Tensor]:
    """One map for each kind of convolution, the sum of all terms of that kind.

    Σ_i k_i * x_i is one convolution of the concatenated x_i, with the kernels stacked likewise.
    """
    kinds: dict[tuple[int, int, int], list[ConvolutionTerm]] = {}
    for term in terms:
        kind = (int(term.kernel.shape[0]), term.stride, term.dilation)
        kinds.setdefault(kind, []).append(term)
    results = []
    for (_, stride, dilation), members in kinds.items():
        x = tf.concat([c.x for c in members], axis=-1) if len(members) > 1 else members[0].x
        kernel = tf.concat([c.kernel for c in members], axis=2)
        maps, stride_left, dilation_left = as_dense(x, stride, dilation)
        y = tf.nn.conv2d(maps, kernel, strides=stride_left, padding="SAME")
        y = bias_add(y, add([c.bias for c in members]))
        if dilation_left > 1:
            y = deinterleave(y, dilation_left, spatial_shape(x))
        results.append(y)
    return results


def add(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """The sum of one or more tensors of the same shape."""
    return tensors[0] if len(tensors) == 1 else tf.add_n(tensors)
