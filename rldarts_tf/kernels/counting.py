"""Counts what the ops of a TensorFlow graph do with images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import tensorflow as tf


def multiply_adds(op: tf.Operation) -> int:
    """Multiply-adds of a convolution or matrix product; 0 for any other op."""
    if op.type == "Conv2D":
        height, width, channels, _ = op.inputs[1].shape
        return int(math.prod(op.outputs[0].shape)) * height * width * channels
    if op.type == "DepthwiseConv2dNative":
        height, width, _, _ = op.inputs[1].shape
        return int(math.prod(op.outputs[0].shape)) * height * width
    if op.type in ("MatMul", "BatchMatMulV2"):
        inner = op.inputs[0].shape[-2 if op.get_attr(_transpose_name(op)) else -1]
        return int(math.prod(op.outputs[0].shape)) * inner
    return 0


def _transpose_name(op: tf.Operation) -> str:
    return "transpose_a" if op.type == "MatMul" else "adj_x"


_ALIASES = (
    "Identity",
    "IdentityN",
    "Reshape",
    "StopGradient",
    "PreventGradient",
    "Squeeze",
    "ExpandDims",
)
"""Ops whose outputs are the memory of their inputs, output k that of input k."""


def depending_on_images(ops: Sequence[tf.Operation]) -> set[tf.Operation]:
    """Selects the ops, in creation order, whose results depend on the images."""
    depending: set[tf.Operation] = set()
    for op in ops:
        source = op.type == "Placeholder" and op.outputs[0].dtype != tf.resource
        follows = any(memory_of(t).op in depending for t in op.inputs)
        if source or (follows and op.type not in ("Shape", "Size", "Rank")):
            depending.add(op)
    return depending


def memory_of(tensor: tf.Tensor) -> tf.Tensor:
    """The tensor whose buffer this one is."""
    while tensor.op.type in _ALIASES:
        tensor = tensor.op.inputs[tensor.value_index]
    return tensor
