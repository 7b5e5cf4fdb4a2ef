"""Convolutions of the hand-designed parts, and what they leave of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from rldarts_tf.kernels.precision import Conv2D


def least_side(convs: Sequence[tf.keras.layers.Conv2D]) -> int:
    """Pixels of a side of an image of which convolutions, one after another, leave one."""
    side = 1
    for conv in reversed(convs):
        kernel = conv.kernel_size[0] if conv.padding == "valid" else 1
        side = (side - 1) * conv.strides[0] + kernel
    return side


def same_conv(filters: int, name: str, dtype: Any, kernel_size: int = 3) -> tf.keras.layers.Layer:
    """A convolution of IMPALA-CNN's blocks: SAME, stride 1, with bias; 3x3 if nothing is said."""
    return Conv2D(filters, kernel_size, padding="same", name=name, dtype=dtype)
