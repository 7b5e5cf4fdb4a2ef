"""TF-Agents networks around the encoders of this package.

`EncodingNetwork` takes the place of `tf_agents.networks.encoding_network.EncodingNetwork`. The
actor, value and Q networks here are put around a given encoder, so that two of them can share it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gin
import tensorflow as tf
from tf_agents.networks import (
    categorical_projection_network,
    network,
    normal_projection_network,
    q_network,
    utils,
)
from tf_agents.specs import tensor_spec
from tf_agents.utils import nest_utils
from typing_extensions import override

from rldarts_tf.encoders import Encoder
from rldarts_tf.errors import ConfigError
from rldarts_tf.factory import as_encoder, make_encoder
from rldarts_tf.options import forwards_to


@gin.configurable(module="rldarts_tf", denylist=["input_tensor_spec"])
class EncodingNetwork(network.Network):
    """Observations [B, ...] or [B, T, ...] -> features [B, features] or [B, T, features].

    Preprocessing layers, their combiner, the encoder, then fully connected layers, as in TF-Agents'
    class of this name; but the encoder is a supernet, a discrete network or a baseline.

    Args:
      input_tensor_spec: spec of one observation: an image [H, W, C], uint8 (scaled to 0..1 in the
        encoder) or float (taken as it is), or a nest that the preprocessing turns into one image.
      preprocessing_layers: a Keras layer per element of the nest, where an element may be a nest
        itself; they are copied through their config, so that their weights are not shared with the
        caller's.
      preprocessing_combiner: a Keras layer that makes one image of the list of what those layers
        give, or of the nest itself if there are none; copied likewise.
      fc_layer_params: units of each fully connected layer after the encoder.
      activation_fn: of the fully connected layers.
      encoder: an `rldarts_tf.Encoder`, used itself and not a copy, so that the α you hold is the
        one that is trained; or the kind to make: "supernet", "discrete", "impala_cnn",
        "nature_cnn", "pisac_cnn", "minatar_cnn", "resnet_14"
        (20, 38, 74).
      **arguments: further arguments of `rldarts_tf.make_encoder`, for a kind: `genotype`, and
        `search_space`, `depths` and all other `rldarts_tf.EncoderOptions`.

    Raises:
      ConfigError: an argument is not valid; the image does not have rank 3.
      TypeError: there is no such option.
    """

    @forwards_to(make_encoder)
    def __init__(
        self,
        input_tensor_spec: Any,
        preprocessing_layers: Any = None,
        preprocessing_combiner: tf.keras.layers.Layer | None = None,
        fc_layer_params: Sequence[int] | None = None,
        activation_fn: Callable[[tf.Tensor], tf.Tensor] | str = "relu",
        encoder: Encoder | str = "supernet",
        name: str = "EncodingNetwork",
        **arguments: Any,
    ) -> None:
        specs = tf.nest.flatten(input_tensor_spec)
        if preprocessing_layers is not None:
            try:
                nest_utils.flatten_up_to(preprocessing_layers, input_tensor_spec)
            except (TypeError, ValueError):
                raise ConfigError(
                    "preprocessing_layers: not of the structure of input_tensor_spec"
                ) from None
        if len(specs) > 1 and preprocessing_combiner is None:
            raise ConfigError(
                "preprocessing_combiner is required where there is more than one observation"
            )
        unprocessed = preprocessing_layers is None and preprocessing_combiner is None
        if unprocessed and len(specs[0].shape) != 3:
            raise ConfigError(
                "input_tensor_spec: an image must have rank 3, [height, width, channels], "
                f"got shape {tuple(specs[0].shape)}"
            )
        super().__init__(input_tensor_spec=input_tensor_spec, state_spec=(), name=name)
        # The structure without the layers: as attributes the caller's would be tracked too.
        self._preprocessing_nest = tf.nest.map_structure(lambda _: None, preprocessing_layers)
        self._preprocessing_layers = (
            None
            if preprocessing_layers is None
            else [
                _copy_preprocessing(layer, "preprocessing_layers")
                for layer in tf.nest.flatten(preprocessing_layers)
            ]
        )
        self._preprocessing_combiner = (
            None
            if preprocessing_combiner is None
            else _copy_preprocessing(preprocessing_combiner, "preprocessing_combiner")
        )
        self._encoder = as_encoder(encoder, **arguments)
        self._fc_layers = [
            # Named, for PPOAgent sorts variables by name: dense_9 and dense_10 would change places
            # with what else a program has made, and with them the slots of a restored optimizer.
            tf.keras.layers.Dense(units, activation=activation_fn, name=f"fc_{i}")
            for i, units in enumerate(fc_layer_params or ())
        ]
        # The layers of others may do anything with `training`.
        self._uses_training = self._encoder.uses_training or bool(
            preprocessing_layers or preprocessing_combiner
        )
        self._shared: _Computed | None = None

    @property
    def encoder(self) -> Encoder:
        """The encoder, which owns α if it is a supernet."""
        return self._encoder

    def copy(self, **kwargs: Any) -> EncodingNetwork:
        """A new network of the same arguments with weights of its own, as TF-Agents expects.

        Args:
          **kwargs: arguments that differ.
        """
        if isinstance(self._saved_kwargs["encoder"], Encoder):
            kwargs.setdefault("encoder", _copy_layer(self._saved_kwargs["encoder"]))
        return super().copy(**kwargs)

    @contextlib.contextmanager
    def shared_computation(self) -> Iterator[None]:
        """Within this context the same observation tensors are encoded once.

        An actor and a value network that share this encoder then cost one pass instead of two. Keep
        it around code that computes with one state of the weights, such as one loss. What a
        gradient tape is to record must not have been encoded before the tape was opened.
        """
        outer, self._shared = self._shared, _Computed()
        try:
            yield
        finally:
            self._shared = outer

    def call(
        self,
        observation: Any,
        step_type: Any = None,
        network_state: Any = (),
        training: bool = False,
    ) -> tuple[tf.Tensor, Any]:
        """Encodes observations; the step type and the (empty) state are passed over."""
        del step_type
        if self._shared is None:
            return self._encode(observation, training), network_state
        # Symbolic tensors belong to a graph: the key must not match across graphs.
        key = (
            tf.compat.v1.get_default_graph(),
            training and self._uses_training,
            *(tensor.ref() for tensor in tf.nest.flatten(observation)),
        )
        computed = self._shared.features
        if key not in computed:
            computed[key] = self._encode(observation, training)
        return computed[key], network_state

    def _encode(self, observation: Any, training: bool) -> tf.Tensor:
        batch_squash = utils.BatchSquash(
            nest_utils.get_outer_rank(observation, self.input_tensor_spec)
        )
        x = tf.nest.map_structure(batch_squash.flatten, observation)
        if self._preprocessing_layers is not None:
            x = [
                layer(tensor, training=training)
                for layer, tensor in zip(
                    self._preprocessing_layers,
                    nest_utils.flatten_up_to(self._preprocessing_nest, x),
                )
            ]
        if self._preprocessing_combiner is not None:
            x = self._preprocessing_combiner(x)
        elif tf.nest.is_nested(x):  # One image, or the constructor would have asked for a combiner.
            (x,) = tf.nest.flatten(x)
        x = self._encoder(x, training=training)
        for layer in self._fc_layers:
            x = layer(x)
        return batch_squash.unflatten(tf.cast(x, tf.float32))


class _Computed:
    """Features by observation; not a plain dict, which Keras would track as a part of a layer."""

    def __init__(self) -> None:
        self.features: dict[Any, tf.Tensor] = {}


class _AroundEncoder(network.Network):
    """Base class of the networks around an encoder: encodes, then calls the `_head` of a subclass.

    `copy` copies the encoder too. TF-Agents copies a network by calling its constructor with the
    same arguments; an encoder that is an argument would then be shared between a Q network and its
    target.
    """

    def __init__(
        self, input_tensor_spec: Any, encoder: network.Network | Encoder, **kwargs: Any
    ) -> None:
        super().__init__(input_tensor_spec=input_tensor_spec, state_spec=(), **kwargs)
        self._encoder = (
            encoder
            if isinstance(encoder, network.Network)
            else EncodingNetwork(self._observation(input_tensor_spec), encoder=encoder)
        )

    def copy(self, **kwargs: Any) -> Any:
        """A new network of the same arguments with weights of its own."""
        if "encoder" not in kwargs:
            encoder = self._saved_kwargs["encoder"]
            copies = isinstance(encoder, network.Network)
            kwargs["encoder"] = encoder.copy() if copies else _copy_layer(encoder)
        return super().copy(**kwargs)

    def call(
        self, inputs: Any, step_type: Any = None, network_state: Any = (), training: bool = False
    ) -> tuple[Any, Any]:
        """Returns (what the class says, state)."""
        features, network_state = self._encoder(
            self._observation(inputs),
            step_type=step_type,
            network_state=network_state,
            training=training,
        )
        return self._head(features, inputs, training), network_state

    def _observation(self, inputs: Any) -> Any:
        """The part of the inputs, or of their specs, that is encoded."""
        return inputs

    def _head(self, features: tf.Tensor, inputs: Any, training: bool) -> Any:
        """The output for features [B, features] or [B, T, features] of the inputs."""
        raise NotImplementedError


@gin.configurable(
    module="rldarts_tf", denylist=["input_tensor_spec", "output_tensor_spec", "encoder"]
)
class ActorDistributionNetwork(_AroundEncoder, network.DistributionNetwork):
    """Observations -> distribution over actions: categorical if discrete, else tanh-bounded normal.

    Its batch shape is [B] or [B, T].

    Args:
      input_tensor_spec: spec of one observation.
      output_tensor_spec: spec of one action, or a nest of them.
      encoder: an `EncodingNetwork` (another TF-Agents network, such as a value network, may hold
        it too), or an `rldarts_tf.Encoder`.
      logits_scale: scale of the initial weights of the last layer (variance scaling).
      continuous_projection: makes the projection for a continuous action from its spec; for
        SacAgent `tanh_normal_projection_network.TanhNormalProjectionNetwork`. `logits_scale` is
        not used then.
      train_encoder: False if another network alone trains the encoder, as SAC's critic does: this
        one takes the features as constants, and has no variables of the encoder to train.
    """

    def __init__(
        self,
        input_tensor_spec: Any,
        output_tensor_spec: Any,
        encoder: network.Network | Encoder,
        logits_scale: float = 0.01,
        continuous_projection: Callable[[Any], network.DistributionNetwork] | None = None,
        train_encoder: bool = True,
        name: str = "ActorDistributionNetwork",
    ) -> None:
        def projection(spec: Any) -> network.DistributionNetwork:
            if tensor_spec.is_discrete(spec):
                return categorical_projection_network.CategoricalProjectionNetwork(
                    spec, logits_init_output_factor=logits_scale
                )
            if continuous_projection is not None:
                return continuous_projection(spec)
            return normal_projection_network.NormalProjectionNetwork(
                spec, init_means_output_factor=logits_scale
            )

        projections = tf.nest.map_structure(projection, output_tensor_spec)
        output_spec = tf.nest.map_structure(lambda p: p.output_spec, projections)
        super().__init__(input_tensor_spec, encoder, output_spec=output_spec, name=name)
        self._projections = projections
        self._train_encoder = train_encoder

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """Without those of the encoder where this network does not train it."""
        weights = super().trainable_weights
        if self._train_encoder:
            return weights
        encoders = {id(weight) for weight in self._encoder.weights}
        return [weight for weight in weights if id(weight) not in encoders]

    @override
    def _head(self, features: tf.Tensor, inputs: Any, training: bool) -> Any:
        if not self._train_encoder:
            features = tf.stop_gradient(features)
        outer_rank = nest_utils.get_outer_rank(inputs, self.input_tensor_spec)
        return tf.nest.map_structure(
            lambda projection: projection(features, outer_rank, training=training)[0],
            self._projections,
        )


@gin.configurable(module="rldarts_tf", denylist=["input_tensor_spec", "encoder"])
class ValueNetwork(_AroundEncoder):
    """Observations [B, ...] or [B, T, ...] -> values float32 [B] or [B, T].

    Args:
      input_tensor_spec: spec of one observation.
      encoder: an `EncodingNetwork`, perhaps that of the actor, or an `rldarts_tf.Encoder`.
    """

    def __init__(
        self, input_tensor_spec: Any, encoder: network.Network | Encoder, name: str = "ValueNetwork"
    ) -> None:
        super().__init__(input_tensor_spec, encoder, name=name)
        self._value = tf.keras.layers.Dense(1, name="value")

    @override
    def _head(self, features: tf.Tensor, inputs: Any, training: bool) -> tf.Tensor:
        return tf.squeeze(self._value(features), axis=-1)


@gin.configurable(module="rldarts_tf", denylist=["input_tensor_spec", "action_spec", "encoder"])
class QNetwork(_AroundEncoder):
    """Observations [B, ...] or [B, T, ...] -> Q values float32 [B, A] or [B, T, A].

    Args:
      input_tensor_spec: spec of one observation.
      action_spec: spec of one discrete action with A values.
      encoder: an `EncodingNetwork`, or an `rldarts_tf.Encoder`.
    """

    def __init__(
        self,
        input_tensor_spec: Any,
        action_spec: Any,
        encoder: network.Network | Encoder,
        name: str = "QNetwork",
    ) -> None:
        q_network.validate_specs(action_spec, input_tensor_spec)
        (spec,) = tf.nest.flatten(action_spec)
        super().__init__(input_tensor_spec, encoder, name=name)
        self._q_values = tf.keras.layers.Dense(
            int(spec.maximum - spec.minimum + 1), name="q_values"
        )

    @override
    def _head(self, features: tf.Tensor, inputs: Any, training: bool) -> tf.Tensor:
        return self._q_values(features)


@gin.configurable(module="rldarts_tf", denylist=["input_tensor_spec", "encoder"])
class CriticNetwork(_AroundEncoder):
    """(Observations [B, ...], actions [B, A]) -> Q values float32 [B], for SacAgent and its like.

    Args:
      input_tensor_spec: (spec of one observation, spec of one continuous action [A]).
      encoder: an `EncodingNetwork`, perhaps that of another critic, or an `rldarts_tf.Encoder`.
      fc_layer_params: units of each layer that features and actions pass together.
    """

    def __init__(
        self,
        input_tensor_spec: Any,
        encoder: network.Network | Encoder,
        fc_layer_params: Sequence[int] = (256, 256),
        name: str = "CriticNetwork",
    ) -> None:
        _, action_spec = input_tensor_spec
        if len(tf.nest.flatten(action_spec)) != 1 or tensor_spec.is_discrete(action_spec):
            raise ConfigError("input_tensor_spec: there must be one action, and a continuous one")
        super().__init__(input_tensor_spec, encoder, name=name)
        self._joint = [
            tf.keras.layers.Dense(units, activation="relu", name=f"joint_{i}")
            for i, units in enumerate(fc_layer_params)
        ]
        self._q_value = tf.keras.layers.Dense(1, name="q_value")

    @override
    def _observation(self, inputs: tuple[Any, Any]) -> Any:
        return inputs[0]

    @override
    def _head(self, features: tf.Tensor, inputs: tuple[Any, Any], training: bool) -> tf.Tensor:
        (action,) = tf.nest.flatten(inputs[1])
        x = tf.concat([features, tf.cast(action, tf.float32)], axis=-1)
        for layer in self._joint:
            x = layer(x)
        return tf.squeeze(self._q_value(x), axis=-1)


def _copy_preprocessing(layer: Any, field: str) -> tf.keras.layers.Layer:
    if not isinstance(layer, tf.keras.layers.Layer):
        raise ConfigError(f"{field}: not a Keras layer: {layer!r}")
    return _copy_layer(layer)


def _copy_layer(layer: tf.keras.layers.Layer) -> tf.keras.layers.Layer:
    """A layer of the same config with weights of its own."""
    config = layer.get_config()
    if isinstance(layer, Encoder):
        # A name of its own: PPOAgent orders the variables that it trains by their names.
        config.pop("name", None)
    copied = type(layer).from_config(config)
    if not layer.trainable:
        # Not in every config; and targets are updated in the order of `variables`, which it sets.
        copied.trainable = False
    return copied
