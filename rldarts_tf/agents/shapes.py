"""Checks of what is known of shapes, while a function is traced: at run time they cost nothing."""

from __future__ import annotations

from typing import Any, Union

import tensorflow as tf

Shape = tuple[Union[int, str], ...]
"""Sizes of axes; those with the same name, such as "B", are equal."""


def check_shapes(**tensors: tuple[Any, Shape]) -> None:
    """Checks ranks and sizes: [B] against [B, 1] would broadcast to [B, B] without a word.

    Args:
      **tensors: by name, a tensor or Python number and its shape, such as `r_t=(r_t, ("B",))`.

    Raises:
      ValueError: a shape, as far as it is known, is another; the message names the tensor.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, axes) in tensors.items():
        shape = tf.TensorShape(getattr(tensor, "shape", ()))
        if shape.rank is not None:
            for axis, size in zip(axes, shape):
                if isinstance(axis, str) and size is not None:
                    sizes.setdefault(axis, size)
        expected = [sizes.get(axis) if isinstance(axis, str) else axis for axis in axes]
        if not shape.is_compatible_with(expected):
            wanted = ", ".join(map(str, axes))
            raise ValueError(f"{name}: shape {shape} is not [{wanted}] with {sizes}")
