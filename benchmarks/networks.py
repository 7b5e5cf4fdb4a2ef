"""Speed of the encoders alone: acting (forward) and a train step, beside a plain matrix product.

TF_ENABLE_ONEDNN_OPTS=1 python benchmarks/networks.py --encoders=impala_cnn,micro,classic

One line of JSON per encoder: samples per second, GFLOP/s counted from the network (a train step as
three forward passes), its ratio to a 2048 x 2048 float32 matrix product measured in the same
process, and the time of the first train step, which includes tracing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

import rldarts_tf

IMAGE_SHAPE = (64, 64, 3)
SIDE = 2048


def median_seconds(call: Callable[[], object], repeats: int) -> float:
    """Median time of a call that waits for its result, after one call to warm up."""
    call()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def make_encoder(name: str, depths: list[int]) -> rldarts_tf.Encoder:
    """An encoder by the name of a baseline or of a search space."""
    if name == "impala_cnn":
        return rldarts_tf.ImpalaCNN(depths)
    return rldarts_tf.Supernet(name, depths)


def measure(name: str, depths: list[int], batch: int, repeats: int) -> dict[str, float]:
    """Times one encoder."""
    encoder = make_encoder(name, depths)
    cost = rldarts_tf.count_cost(encoder, IMAGE_SHAPE)
    optimizer = tf.keras.optimizers.Adam(1e-4)
    optimizer.build(encoder.trainable_weights)
    images = tf.constant(np.random.default_rng(0).integers(256, size=(batch, *IMAGE_SHAPE)))
    images = tf.cast(images, tf.uint8)

    @tf.function(autograph=False)
    def act():
        return tf.reduce_sum(encoder(images))

    @tf.function(autograph=False)
    def train():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(encoder(images, training=True) ** 2)
        gradients = tape.gradient(loss, encoder.trainable_weights)
        optimizer.apply_gradients(zip(gradients, encoder.trainable_weights))
        return loss

    start = time.perf_counter()
    train().numpy()
    first = time.perf_counter() - start
    act_seconds = median_seconds(lambda: act().numpy(), repeats)
    train_seconds = median_seconds(lambda: train().numpy(), repeats)
    flop = 2 * cost.multiply_adds * batch
    return {
        "act_samples_per_second": batch / act_seconds,
        "act_gflops": flop / act_seconds / 1e9,
        "train_samples_per_second": batch / train_seconds,
        "train_gflops": 3 * flop / train_seconds / 1e9,
        "first_train_step_seconds": first,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "activation_bytes": cost.activation_bytes,
    }


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", default="impala_cnn,micro,classic")
    parser.add_argument("--depths", default="16,16,16")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    matrix = tf.random.normal([SIDE, SIDE])
    product = tf.function(lambda: tf.reduce_sum(matrix @ matrix))
    matmul_gflops = 2 * SIDE**3 / median_seconds(lambda: product().numpy(), args.repeats) / 1e9
    for name in args.encoders.split(","):
        depths = [int(depth) for depth in args.depths.split(",")]
        result = measure(name, depths, args.batch, args.repeats)
        result["train_over_matmul"] = result["train_gflops"] / matmul_gflops
        rounded = {key: round(value, 2) for key, value in result.items()}
        print(json.dumps({"encoder": name, "matmul_gflops": round(matmul_gflops), **rounded}))


if __name__ == "__main__":
    main()
