"""Traces networks of many image sizes with an unknown batch: `shape_sweep.py NAME@HxW ...`.

A program of its own, for what it looks for ends the whole process: TensorFlow's graph optimizer
aborts on some graphs. It prints each case before it is tried, so that the last line tells which.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable

# Before TensorFlow loads; with oneDNN too, with which the abort was seen.
import rldarts_tf.tensorflow_environment

# isort: split
import numpy as np
import tensorflow as tf

import rldarts_tf
from rldarts_tf.encoders import Encoder
from rldarts_tf.search_space import SearchSpace

# The smallest space whose supernets aborted: a dilated convolution beside another one, after a
# reduction cell.
SMALL = SearchSpace(
    "sweep",
    ("conv_3x3_relu", "dil_conv_3x3_relu"),
    ("conv_3x3",),
    num_normal=1,
    num_reduction=1,
    num_nodes=2,
)


def _discrete() -> Encoder:
    cells = {
        "normal": [[[0, "dil_conv_3x3_relu"]], [[0, "conv_3x3_relu"], [1, "dil_conv_5x5_relu"]]],
        "reduction": [[[0, "conv_3x3"]], [[0, "max_pool_3x3"], [1, "skip_connect"]]],
    }
    genotype = rldarts_tf.Genotype("classic", cells, num_normal=1, num_reduction=1)
    return rldarts_tf.DiscreteNetwork(genotype, [2], features=4)


NETWORKS: dict[str, Callable[[], Encoder]] = {
    "small": lambda: rldarts_tf.Supernet(SMALL, [2], features=4),
    "layer": lambda: rldarts_tf.Supernet(SMALL, [2], features=4, normalization="layer"),
    "batch": lambda: rldarts_tf.Supernet(SMALL, [2], features=4, normalization="batch"),
    "recompute": lambda: rldarts_tf.Supernet(SMALL, [2], features=4, recompute=True),
    "bfloat16": lambda: rldarts_tf.Supernet(SMALL, [2], features=4, dtype="mixed_bfloat16"),
    "discrete": _discrete,
    "impala_cnn": lambda: rldarts_tf.ImpalaCNN([2], features=4),
    **{
        name: lambda name=name: rldarts_tf.Supernet(name, [2], features=4)
        for name in ("classic", "micro", "micro_sac", "classic_no_relu")
    },
}


def check(name: str, height: int, width: int) -> None:
    """Traces forward and backward with an unknown batch, compares with the call of eager mode."""
    network = NETWORKS[name]()
    images = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), np.uint8)
    expected = network(images).numpy()

    def gradients(x: tf.Tensor) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            features = network(x)
            loss = tf.reduce_sum(features**2)
        return features, tape.gradient(loss, network.trainable_weights)

    signature = [tf.TensorSpec([None, height, width, 3], tf.uint8)]
    forward = tf.function(network, input_signature=signature, autograph=False)
    backward = tf.function(gradients, input_signature=signature, autograph=False)
    tolerance = 0.05 if network.compute_dtype == "bfloat16" else 1e-4
    for features in (forward(images), backward(images)[0]):
        np.testing.assert_allclose(features.numpy(), expected, rtol=tolerance, atol=tolerance)


def check_saved(name: str, height: int, width: int) -> None:
    """The same through a SavedModel and through TFLite."""
    network = NETWORKS[name]()
    images = np.random.default_rng(0).random((2, height, width, 3), np.float32)
    expected = network(images).numpy()
    signature = [tf.TensorSpec([None, height, width, 3], tf.float32, name="images")]
    serving = tf.function(lambda images: {"features": network(images)}, signature, autograph=False)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(network, folder, signatures=serving)
        loaded = tf.saved_model.load(folder).signatures["serving_default"]
        features = loaded(images=tf.constant(images))["features"].numpy()
        np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-4)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        # A supernet's gradients are its own: TFLite has no ops for what the file holds of them.
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.TFLITE_BUILTINS,
            tf.lite.OpsSet.SELECT_TF_OPS,
        ]
        assert converter.convert()


def main(*cases: str) -> None:
    """See the module; NAME:saved checks saved forms."""
    for case in cases:
        print(case, flush=True)
        network, _, size = case.partition("@")
        name, _, how = network.partition(":")
        height, width = map(int, size.split("x"))
        (check_saved if how == "saved" else check)(name, height, width)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
