"""Several devices: encoders compute gradient steps in equal shares of a minibatch.

    strategy = make_strategy(2)
    with splitting(strategy):  # around what traces a gradient step, whatever its loss
        ...

Within this context an encoder runs in the replicas of a `tf.distribute.MirroredStrategy`, forward
and backward, each on its share of the images: features are put together again in their order, and
gradients of variables are summed. Everything else, which costs little beside the encoder, is
computed once, of the whole minibatch, and as it is on one device: heads, losses, normalized
advantages, priorities, random draws, loss scale, clipping, optimizers.

Variables are not mirrored: they stay on the first device, from where the others read them in each
step. So acting, evaluations and checkpoints know nothing of devices. Mirrored ones would not do:
Sonnet's optimizers refuse them, and Keras' cannot skip a step in a replica.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import tensorflow as tf
from typing_extensions import TypeAlias

from rldarts_tf.errors import ConfigError

Strategy: TypeAlias = tf.distribute.MirroredStrategy
"""Its replicas are the devices."""

_HOST = "/cpu:0"

# A thread has a context of its own: in its replica, an encoder computes its share as a whole.
_SPLITTING: ContextVar[Strategy | None] = ContextVar("splitting", default=None)


def make_available(count: int) -> None:
    """Makes so many devices: without a GPU virtual CPUs; to be called before TensorFlow computes.

    Raises:
      ConfigError: there are fewer GPUs.
    """
    if count == 1:
        return
    cpus, gpus = map(tf.config.list_physical_devices, ("CPU", "GPU"))
    if gpus:
        _check(count, len(gpus), "GPUs")
    else:
        virtual = [tf.config.LogicalDeviceConfiguration() for _ in range(count)]
        # It is too late where TensorFlow has computed something: `make_strategy` then says so.
        with contextlib.suppress(RuntimeError):
            tf.config.set_logical_device_configuration(cpus[0], virtual)


def make_strategy(count: int) -> Strategy | None:
    """The first so many GPUs, or CPUs where there is no GPU; None for one device.

    Raises:
      ConfigError: there are fewer.
    """
    if count == 1:
        return None
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    names = [device.name for device in tf.config.list_logical_devices(kind)]
    _check(count, len(names), f"{kind}s")
    # Sums are of use on the first device alone.
    return Strategy(names[:count], cross_device_ops=tf.distribute.ReductionToOneDevice())


def _check(count: int, there: int, kind: str) -> None:
    if count > there:
        raise ConfigError(
            f"TrainingSettings.devices = {count} must be at most {there}: so many {kind} are there"
        )


@contextlib.contextmanager
def splitting(strategy: Strategy | None) -> Iterator[None]:
    """Within this context what is traced has encoders that compute `in_shares`; None: it has not.

    No gradient of a gradient goes through an encoder there, and none reaches the images.
    """
    token = _SPLITTING.set(strategy)
    try:
        yield
    finally:
        _SPLITTING.reset(token)


# AutoGraph, which an agent's own step may ask for, cannot convert it and would warn of that.
@tf.autograph.experimental.do_not_convert
def in_shares(
    function: Callable[[tf.Tensor], tf.Tensor], images: Any, module: tf.Module
) -> tf.Tensor:
    """function(images), each device with its share where a graph is traced within `splitting`.

    Args:
      function: images [B, ...] -> features [B, ...], of each image by itself.
      images: [B, ...]; B is a multiple of the number of devices.
      module: whose variables the function reads; they exist.
    """
    strategy = _SPLITTING.get()
    if strategy is None or tf.executing_eagerly():
        return function(images)
    count = strategy.num_replicas_in_sync
    # Of Keras' own, those that may be trained depend on more than each variable.
    variables = tf.Module.trainable_variables.fget(module)
    # From replay or a rollout images come to the CPU, and no GPU has all kernels for uint8.
    with tf.device(_HOST):
        shares = _distributed(strategy, tf.split(images, count))
    recorded: dict[int, tuple[tf.GradientTape, tf.Tensor]] = {}

    def forward(share: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            features = function(share)
        recorded[_replica()] = tape, features
        return features

    def backward(upstream: tf.Tensor) -> list[tf.Tensor]:
        tape, features = recorded[_replica()]
        return tape.gradient(features, variables, upstream, unconnected_gradients="zero")

    def gradient(upstream: tf.Tensor) -> list[tf.Tensor]:
        upstreams = _distributed(strategy, tf.split(upstream, count))
        found = strategy.run(backward, args=(upstreams,))
        with tf.device(strategy.extended.worker_devices[0]):
            return [strategy.reduce(tf.distribute.ReduceOp.SUM, g, axis=None) for g in found]

    features = strategy.run(forward, args=(shares,))
    together = tf.concat(strategy.experimental_local_results(features), axis=0)

    # For the tape of the caller, which sees nothing of the replicas: they are other threads.
    @tf.custom_gradient
    def of_variables(*values: tf.Tensor) -> Any:
        del values
        return tf.identity(together), gradient

    return of_variables(*map(tf.convert_to_tensor, variables))


def _distributed(strategy: Strategy, parts: Sequence[tf.Tensor]) -> Any:
    """One part for each replica."""
    return strategy.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )


def _replica() -> int:
    """The number of the replica in which this is traced."""
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))
