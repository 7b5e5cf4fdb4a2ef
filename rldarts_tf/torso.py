"""The encoders of this package as a Sonnet module, for agents of Acme.

    torso = Torso("supernet", search_space="classic", depths=[16, 16, 16])
    network = snt.Sequential([torso, networks.DuellingMLP(num_actions, hidden_sizes=[512])])

Needs TensorFlow and Sonnet only: it is the same file beside every version of Acme.
"""

from __future__ import annotations

import copy
from typing import Any

import sonnet as snt
import tensorflow as tf

from rldarts_tf.encoders import Encoder
from rldarts_tf.errors import ConfigError
from rldarts_tf.factory import as_encoder, make_encoder
from rldarts_tf.options import forwards_to


class Torso(snt.Module):
    """Images [B, H, W, C], uint8 (scaled to 0..1 in the encoder) or float -> float32 [B, features].

    α of a supernet is among `trainable_variables`, as are all weights, each of them once.

    Sonnet reads what can be trained from each variable. α is frozen by `train_alpha=False`; Keras'
    `encoder.trainable = False` is a property of a layer, which Sonnet does not see.

    Acme's own agents call networks without a `training` flag: batch normalization would keep using
    its initial statistics. Choose `normalization="layer"` or none for them. Rainbow and SAC of this
    package pass the flag where they train, see `training_options`.

    Args:
      encoder: an `rldarts_tf.Encoder`, used itself and not a copy, so that the α you hold is the
        one that is trained; or the kind to make: "supernet", "discrete", "impala_cnn",
        "nature_cnn", "pisac_cnn", "minatar_cnn".
      name: of the module.
      **arguments: further arguments of `rldarts_tf.make_encoder`, for a kind: `genotype`, and
        `search_space`, `depths` and all other `rldarts_tf.EncoderOptions`.

    Raises:
      ConfigError: an argument is not valid.
      TypeError: there is no such option.
    """

    @forwards_to(make_encoder)
    def __init__(
        self, encoder: Encoder | str = "supernet", *, name: str = "torso", **arguments: Any
    ) -> None:
        super().__init__(name=name)
        if arguments and not isinstance(encoder, str):
            raise ConfigError(
                f"{', '.join(arguments)}: only for the name of a kind; encoder is {encoder!r}"
            )
        self._encoder = as_encoder(encoder, **arguments)

    @property
    def encoder(self) -> Encoder:
        """The encoder, which owns α if it is a supernet."""
        return self._encoder

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Images [B, H, W, C] -> features float32 [B, features].

        Args:
          images: uint8, bool or float.
          training: whether batch normalization uses the statistics of the batch.

        Raises:
          ConfigError: the images are not of rank 4, or of another dtype.
        """
        return tf.cast(self._encoder(images, training=training), tf.float32)

    def __deepcopy__(self, memo: dict[int, Any]) -> Torso:
        """A torso with an encoder of its own and equal weights; this is how Acme makes targets.

        Keras would write the encoder to a file and read it again: slowly, and other classes may
        come back than went in. Two torsos with one encoder become two with one copy of it.
        """
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        if id(self._encoder) not in memo:
            memo[id(self._encoder)] = _copy_encoder(self._encoder)
        # Trackable objects keep what is assigned to them in lists of their own, which are among
        # these; and Acme notes a module's input signature in it.
        copied.__dict__.update(copy.deepcopy(vars(self), memo))
        return copied


class TwinTorsos(snt.Module):
    """Two encoders of one architecture: images [B, H, W, C] -> the features of both.

    Args:
      encoder: the first one, used itself; the second is its twin.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(name="twin_torsos")
        self._first = Torso(encoder, name="first")
        self._second = Torso(encoder.twin(), name="second")

    def __call__(self, images: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
        """Features of the first and of the second, float32 [B, features] each."""
        return self._first(images, training), self._second(images, training)

    def __deepcopy__(self, memo: dict[int, Any]) -> TwinTorsos:
        """Two encoders of their own that are twins again, with equal weights."""
        first, second = self._first.encoder, self._second.encoder
        copied = memo[id(self)] = type(self)(_copy_encoder(first))
        _copy_weights(second, copied._second.encoder)
        return copied


def training_options(module: tf.Module) -> dict[str, bool]:
    """The options of the one forward pass that is differentiated: with them an encoder trains.

    In that pass batch normalization uses the statistics of the batch, and moves its own, which all
    other passes use: those of acting, of targets and of choices among actions.

    Args:
      module: a `Torso`, or a module that passes `training` on to one, as snt.Sequential does to its
        first.

    Returns:
      {"training": True} if an encoder in the module may depend on it, else {}.
    """
    parts = (module, *module.submodules)
    depends = any(isinstance(part, Encoder) and part.uses_training for part in parts)
    return {"training": True} if depends else {}


def _copy_encoder(encoder: Encoder) -> Encoder:
    """An encoder of the same config and weights; if those do not exist yet, of the same α."""
    copied = type(encoder).from_config(encoder.get_config())
    _copy_weights(encoder, copied)
    return copied


def _copy_weights(encoder: Encoder, copied: Encoder) -> None:
    """Gives an encoder of the same config the weights of another one, those that exist."""
    if encoder.built:
        shape = encoder._build_input_shape
        if shape is None:  # Read from a SavedModel.
            (images, *_), _ = encoder.save_spec()
            shape = images.shape
        copied(tf.zeros([1, *shape[1:]]))
    for mine, theirs in zip(_variables(copied), _variables(encoder)):
        mine.assign(theirs)


def _variables(encoder: Encoder) -> tuple[tf.Variable, ...]:
    """In the order of Sonnet, which also updates targets by it; there may be none yet.

    Keras' own order depends on what is trainable.
    """
    return tf.Module.variables.fget(encoder)
