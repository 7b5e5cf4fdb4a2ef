"""Makes any encoder from names and numbers, such as flags and gin files give."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rldarts_tf.baselines import ImpalaCNN, MinAtarCNN, NatureCNN, PiSacCNN
from rldarts_tf.encoders import DiscreteNetwork, Encoder, Supernet
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.search_space import SearchSpace

BASELINES = ("impala_cnn", "nature_cnn", "pisac_cnn", "minatar_cnn")
ENCODERS = ("supernet", "discrete", *BASELINES)
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def as_encoder(encoder: Encoder | str, **options: Any) -> Encoder:
    """The encoder itself, or the one to make.

    Args:
      encoder: an encoder, which is returned itself and not a copy; or the name of a kind.
      **options: further arguments of `make_encoder`, for a kind.

    Raises:
      ConfigError: it is neither, or `make_encoder` does not take it so.
    """
    if isinstance(encoder, str):
        return make_encoder(encoder, **options)
    if not isinstance(encoder, Encoder):
        raise ConfigError(f"encoder must be an Encoder or the name of a kind, got {encoder!r}")
    return encoder


def make_encoder(
    encoder: str = "supernet",
    search_space: SearchSpace | str = "classic",
    genotype: Genotype | str | os.PathLike[str] | None = None,
    depths: Sequence[int] = (16, 16, 16),
    output_mode: str = "concat",
    inverse_temperature: float = 5.0,
    normalization: str | None = None,
    features: int = 256,
    train_alpha: bool = True,
    recompute: bool = False,
    precision: str | None = None,
    head: str = "relu",
    kernel_size: int = 3,
) -> Encoder:
    """Makes an encoder; arguments that the chosen kind does not have are not used.

    Args:
      encoder: "supernet", "discrete", "impala_cnn", "nature_cnn", "pisac_cnn" or
        "minatar_cnn".
      search_space: of the supernet; a space or the name of a registered one.
      genotype: of the discrete network; a genotype or the path of its file.
      depths: channels of each block, for pisac_cnn of each convolution; not for nature_cnn
        and minatar_cnn.
      output_mode: of the supernet's cells ("discrete": the genotype says it).
      inverse_temperature: β of the supernet.
      normalization: of the convolutions in the cells: None, "layer" or "batch".
      features: size of the output.
      train_alpha: whether α of the supernet is trained.
      recompute: least memory for the activations of the cells, for more time.
      precision: "float32", or "mixed_bfloat16" or "mixed_float16" where the hardware has it; the
        global Keras policy if None. α, the dense layer and the features stay float32.
      head: what makes the features: "relu" or "layer_norm"; see `rldarts_tf.Encoder`.
      kernel_size: of the convolutions of impala_cnn.

    Raises:
      ConfigError: an argument is not valid; a genotype is missing, or given to another kind.
      GenotypeError: the genotype is not valid.
    """
    if encoder not in ENCODERS:
        raise ConfigError(f"encoder must be one of {', '.join(ENCODERS)}, got {encoder!r}")
    if (genotype is None) == (encoder == "discrete"):
        missing = "is required for" if genotype is None else "is only for"
        raise ConfigError(f"genotype {missing} encoder 'discrete' (encoder is {encoder!r})")
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    if not isinstance(recompute, bool):
        raise ConfigError(f"recompute must be True or False, got {recompute!r}")
    if encoder == "impala_cnn":
        return ImpalaCNN(
            depths, features=features, head=head, kernel_size=kernel_size, dtype=precision
        )
    if encoder == "nature_cnn":
        return NatureCNN(features=features, head=head, dtype=precision)
    if encoder == "minatar_cnn":
        return MinAtarCNN(features=features, head=head, dtype=precision)
    if encoder == "pisac_cnn":
        return PiSacCNN(depths, features=features, head=head, dtype=precision)
    if genotype is not None:
        return DiscreteNetwork(
            genotype,
            depths,
            normalization=normalization,
            features=features,
            recompute=recompute,
            head=head,
            dtype=precision,
        )
    return Supernet(
        search_space,
        depths,
        output_mode=output_mode,
        inverse_temperature=inverse_temperature,
        normalization=normalization,
        features=features,
        train_alpha=train_alpha,
        recompute=recompute,
        head=head,
        dtype=precision,
    )
