"""The contract of every encoder: images [B, H, W, C] -> features [B, features]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from rldarts_tf.devices import in_shares
from rldarts_tf.errors import ConfigError
from rldarts_tf.kernels.normalization import LayerNormalization
from rldarts_tf.options import check_option

_Encoder = TypeVar("_Encoder", bound="Encoder")


class Encoder(tf.keras.Model):
    """The contract of every encoder, and the head they share: flatten, ReLU, Dense, ReLU.

    Images are uint8, scaled here from 0..255 to 0..1; float, taken as they are; or bool, 0 and 1.
    What other integers mean nobody can know: cast them to float, and scale them yourself.

    Args:
      features: size of the output.
      head: how the features follow from the maps: "relu" as above; "layer_norm" for flatten, ReLU,
        Dense, LayerNormalization (of SAC, where actor and critic are put on what is normalized);
        "pool" for ReLU, mean over all positions, Dense, ReLU, which sees what is in an image and
        not where (as in Impoola-CNN, Trumpp et al. 2025).
      dtype: a Keras policy or its name, such as "mixed_bfloat16"; the global policy if None. In the
        mixed ones, variables, α, the dense layer and the features are float32. "mixed_float16"
        needs loss scaling: a loop of your own `tf.keras.mixed_precision.LossScaleOptimizer`.
    """

    def __init__(
        self,
        features: int = 256,
        name: str | None = None,
        head: str = "relu",
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, **kwargs)
        self.features = check_option("features", features)
        self.head = check_option("head", head)
        variables = self.dtype_policy.variable_dtype
        self._flat = (
            tf.keras.layers.GlobalAveragePooling2D(dtype=variables)
            if head == "pool"
            else tf.keras.layers.Flatten()
        )
        self._dense = tf.keras.layers.Dense(
            self.features,
            activation=None if head == "layer_norm" else "relu",
            name="dense",
            dtype=variables,
        )
        self._head = [self._dense]
        if head == "layer_norm":
            # ε is that of PI-SAC's release (encoders.py).
            self._head.append(LayerNormalization(epsilon=1e-5, name="layer_norm", dtype=variables))

    def __call__(self, images: Any, *args: Any, **kwargs: Any) -> tf.Tensor:
        """As `call`, but checks the images first: Keras buries what `call` raises in its text."""
        images = images if hasattr(images, "shape") else np.asarray(images)
        _check_images(images.shape, images.dtype)
        self.check_size(images.shape[1:])
        call = super().__call__
        return in_shares(lambda share: call(share, *args, **kwargs), images, self)

    def call(self, images: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Images [B, H, W, C], uint8, bool or float -> [B, features], >= 0 but with "layer_norm".

        Raises:
          ConfigError: the images are not of rank 4, too small, or of another dtype.
        """
        return self._encode(images, training)

    @property
    def least_side(self) -> int:
        """Pixels that an image must have in height and in width: more than 1 without padding."""
        return 1

    def check_size(self, shape: Sequence[int | None]) -> None:
        """Checks the size of an image before the layers are built.

        Args:
          shape: (height, width, channels); None where it is not known.

        Raises:
          ConfigError: the image is too small for convolutions without padding.
        """
        height, width = shape[:2]
        least = self.least_side
        if any(side is not None and side < least for side in (height, width)):
            raise ConfigError(
                f"{type(self).__name__} is for images of at least {least} x {least} pixels, "
                f"got {height} x {width}"
            )

    # AutoGraph would spend seconds on converting this code, which does not need it.
    @tf.autograph.experimental.do_not_convert
    def _encode(self, images: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self._as_float(images)
        if x.shape[0]:
            return self._features(x, training)
        rows = tf.shape(x)[0]
        return self._features(_at_least_one(x), training)[:rows]

    def _features(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        x = self.feature_maps(x, training)
        # Flattened first: of ReLU's output and its flat form, both would be kept for the gradients.
        if self.head != "pool":
            x = self._flat(x)
        if not self.ends_in_activation:
            x = tf.nn.relu(x)
        if self.head == "pool":
            x = self._flat(x)
        for layer in self._head:
            x = layer(x)
        return x

    def feature_maps(self, x: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Computes the head's input: float images [B, H, W, C] -> maps [B, H', W', C']."""
        raise NotImplementedError

    def _as_float(self, images: tf.Tensor) -> tf.Tensor:
        _check_images(images.shape, images.dtype)
        x = tf.cast(images, self.compute_dtype)
        return x / 255 if images.dtype == tf.uint8 else x

    @property
    def has_second_cells(self) -> bool:
        """Whether its twin has cells of its own; see `Space.has_second_cells`."""
        return False

    def twin(self: _Encoder) -> _Encoder:
        """Another encoder of the same architecture, with weights of its own."""
        return type(self).from_config({**self.get_config(), **self._of_twin()})

    def _of_twin(self) -> dict[str, Any]:
        """What its twin has another value of in its config."""
        return {"name": f"{self.name}_twin"}

    def architecture_loss(self) -> tf.Tensor | None:
        """What the architecture adds to the loss of the agent, a float32 scalar; None: nothing.

        Add it where the loss is computed, under the tape; `with_architecture_loss` does.
        """
        return None

    def set_progress(self, progress: float) -> None:
        """Says how much of the training has passed, from 0 to 1; schedules of a search follow."""

    @property
    def ends_in_activation(self) -> bool:
        """Whether the maps have passed a non-linearity; if not, the head begins with ReLU."""
        return False

    @property
    def uses_training(self) -> bool:
        """Whether `training` may change the output.

        Where it cannot, callers may share one output between the two modes. Subclasses without
        dropout or batch normalization override this with False.
        """
        return True

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for `from_config`."""
        return {
            "name": self.name,
            "features": self.features,
            "head": self.head,
            "dtype": self.dtype_policy.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Encoder:
        """An encoder of that config; TensorFlow 2.8 would look for a functional model's in it."""
        del custom_objects
        return cls(**config)


def check_two(encoder: Encoder, two: bool, setting_name: str | None) -> None:
    """Checks that an agent has as many encoders as its search space has cells for.

    Args:
      encoder: the first one.
      two: whether the agent has two.
      setting_name: of what would give it two; None: nothing would.

    Raises:
      ConfigError: cells of the second encoder would be nowhere.
    """
    if encoder.has_second_cells and not two:
        remedy = f"{setting_name} must be True" if setting_name else "this agent has one"
        raise ConfigError(
            "the search space has cells for each of two encoders (SearchSpace.per_encoder): "
            f"{remedy}"
        )


def with_architecture_loss(loss: tf.Tensor, *modules: tf.Module) -> tf.Tensor:
    """A loss with what the encoders in modules add to it; the loss itself where they add nothing.

    Args:
      loss: a scalar.
      *modules: those that are trained; encoders in them are found, each once.
    """
    parts = {id(part): part for module in modules for part in (module, *module.submodules)}
    added = [part.architecture_loss() for part in parts.values() if isinstance(part, Encoder)]
    return sum((tf.cast(term, loss.dtype) for term in added if term is not None), loss)


def _at_least_one(x: tf.Tensor) -> tf.Tensor:
    """Images [B, H, W, C], or a black one where there are none.

    TensorFlow's convolutions by oneDNN fail on no images: a replica may have none of a last batch.
    """
    shape = tf.shape(x)
    missing = tf.cast(tf.equal(shape[0], 0), tf.int32)
    size = [shape[axis] if n is None else n for axis, n in enumerate(x.shape)]
    return tf.concat([x, tf.zeros([missing, *size[1:]], x.dtype)], axis=0)


def _check_images(shape: Any, dtype: Any) -> None:
    shape, dtype = tf.TensorShape(shape), tf.as_dtype(dtype)
    if shape.rank != 4:
        raise ConfigError(
            f"images must have rank 4, [batch, height, width, channels], got shape {shape}"
        )
    if not (dtype.is_floating or dtype in (tf.uint8, tf.bool)):
        raise ConfigError(
            f"images must be uint8, bool or float, got {dtype.name}: cast them to float, and scale "
            "them to about 0 to 1"
        )
