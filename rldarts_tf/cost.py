"""Counts the cost of an encoder: parameters, multiply-adds, and activation memory.

The numbers are read off the TensorFlow graph of the encoder, so they hold for user-defined ops too
and follow the implementation: they count what is executed and what is kept, not what a formula
says ought to be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence

import tensorflow as tf

from rldarts_tf.encoders import Supernet
from rldarts_tf.errors import ConfigError
from rldarts_tf.kernels.counting import depending_on_images, memory_of, multiply_adds


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of an encoder for one image.

    Attributes:
      parameters: trainable scalars, α included.
      multiply_adds: of convolutions and matrix products in the forward pass of one image. A
        dilated convolution on maps of odd size counts the padding to even size that it computes on.
      activation_bytes: what the forward pass keeps for the backward pass, per image, beside the
        image itself.
    """

    parameters: int
    multiply_adds: int
    activation_bytes: int


def count_cost(
    encoder: tf.keras.Model, image_shape: Sequence[int], dtype: tf.DType = tf.uint8
) -> Cost:
    """Counts an encoder's cost; nothing is executed.

    Args:
      encoder: images [B, H, W, C] -> features [B, features]; built by this if it was not.
      image_shape: (H, W, C).
      dtype: of the images.

    Raises:
      ConfigError: image_shape is not three positive integers.
    """
    if len(image_shape) != 3 or min(image_shape) < 1:
        raise ConfigError(f"image_shape must be (height, width, channels), got {image_shape}")
    batch = 1
    forward_ops: list[tf.Operation] = []
    needed: set[tf.Operation] = set()

    def train(images: tf.Tensor) -> list[tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        with tf.GradientTape() as tape:
            features = encoder(images, training=True)
            forward_ops.extend(graph.get_operations())
            needed.update(_needed_for([features]))
        return tape.gradient(features, encoder.trainable_weights)

    if not encoder.built:
        encoder.build((None, *image_shape))
    # Traced anew by tf.function: the encoder may not create variables while that runs.
    images = tf.TensorSpec((batch, *image_shape), dtype)
    with _all_ops(encoder):
        graph = tf.function(train, autograph=False).get_concrete_function(images).graph
    # A node that no output has is traced, and never executed.
    on_images = depending_on_images([op for op in forward_ops if op in needed])
    return Cost(
        parameters=sum(int(math.prod(w.shape)) for w in encoder.trainable_weights),
        multiply_adds=sum(multiply_adds(op) for op in on_images) // batch,
        activation_bytes=_kept_bytes(graph, forward_ops, on_images) // batch,
    )


@contextlib.contextmanager
def _all_ops(encoder: tf.keras.Model) -> Iterator[None]:
    """A supernet whose samples leave ops out is counted with all of them."""
    if isinstance(encoder, Supernet):
        encoder.computes_all_ops = True
    try:
        yield
    finally:
        if isinstance(encoder, Supernet):
            encoder.computes_all_ops = False


def _kept_bytes(
    graph: tf.Graph, forward_ops: Sequence[tf.Operation], on_images: set[tf.Operation]
) -> int:
    """Bytes of the forward results that the gradient reads, each buffer once.

    Results that do not depend on the images (kernels, op weights, shapes) are no activations.
    """
    forward = set(forward_ops)
    kept: dict[str, int] = {}
    for op in _needed_for(graph.outputs):
        if op in forward or op.type in ("Shape", "ShapeN", "Size", "Rank"):
            continue
        for tensor in op.inputs:
            if tensor.op not in forward:
                continue
            source = memory_of(tensor)
            if source.op not in on_images or source.op.type == "Placeholder":
                continue
            # The rank of a normalization's workspace is unknown: it holds nothing but with cuDNN.
            if source.shape.rank is not None:
                kept[source.name] = int(math.prod(source.shape)) * source.dtype.size
    return sum(kept.values())


def _needed_for(outputs: Sequence[tf.Tensor]) -> set[tf.Operation]:
    """Returns the ops that tensors depend on; TensorFlow prunes the rest."""
    executed: set[tf.Operation] = set()
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        op = waiting.pop()
        if op not in executed:
            executed.add(op)
            waiting += [*(tensor.op for tensor in op.inputs), *op.control_inputs]
    return executed
