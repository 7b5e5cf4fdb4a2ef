"""Dilated convolutions as ordinary ones: TensorFlow has no gradient for them on a CPU."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

SpatialShape = tuple[Any, ...]
"""(H, W), each an integer or, where it is unknown when a graph is traced, a scalar tensor."""


def as_dense(x: tf.Tensor, stride: int, dilation: int) -> tuple[tf.Tensor, int, int]:
    """(maps, stride, dilation) such that a convolution of the maps without dilation serves.

    With a stride, dilation = stride: every s-th row and column is all that the output depends on.
    Without, the interleaved sub-images: the result has to be deinterleaved by the dilation left.
    """
    if dilation == 1:
        return x, stride, 1
    if stride > 1:
        return x[:, ::stride, ::stride], 1, 1
    return _interleave(x, dilation), 1, dilation


def _interleave(x: tf.Tensor, dilation: int) -> tf.Tensor:
    """Moves the dilation² interleaved sub-images of [B, H, W, C] into the batch.

    A SAME convolution of the sub-images is the dilated SAME convolution of the images: taps that
    are `dilation` apart become neighbours, and padding by zeros stays padding by zeros.
    """
    paddings = [[0, -size % dilation] for size in spatial_shape(x)]
    return tf.space_to_batch(x, block_shape=[dilation, dilation], paddings=paddings)


def deinterleave(x: tf.Tensor, dilation: int, shape: SpatialShape) -> tf.Tensor:
    """Moves interleaved sub-images back: images [B, H, W, C] of the given (H, W)."""
    crops = [[0, -size % dilation] for size in shape]
    return tf.batch_to_space(x, block_shape=[dilation, dilation], crops=crops)


def spatial_shape(x: tf.Tensor) -> SpatialShape:
    """(H, W) of maps [B, H, W, C]: integers where they are known, else scalar tensors.

    Not `tf.shape(x)` where they are known: TensorFlow's graph optimizer (2.15, the remapper, with
    oneDNN) ends the whole process where the crops of maps that are not square are computed in the
    graph while the batch is unknown.
    """
    return tuple(
        tf.shape(x)[axis] if x.shape[axis] is None else int(x.shape[axis]) for axis in (1, 2)
    )
