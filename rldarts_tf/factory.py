"""Makes any encoder from names and numbers, such as flags and gin files give."""

from __future__ import annotations

import dataclasses
import inspect
import os
from typing import Any

from rldarts_tf.baselines import ImpalaCNN, MinAtarCNN, NatureCNN, PiSacCNN
from rldarts_tf.checks import check_choice
from rldarts_tf.encoders import DiscreteNetwork, Encoder, Supernet
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.options import EncoderOptions, forwards_to
from rldarts_tf.resnet import ResNet
from rldarts_tf.search.settings import SearchSettings

RESNETS = {f"resnet_{num_layers}": num_layers for num_layers in (14, 20, 38, 74)}
"""The layers of each residual network, which are those that A2D compares with."""
BASELINES: dict[str, type[Encoder]] = {
    "impala_cnn": ImpalaCNN,
    "nature_cnn": NatureCNN,
    "pisac_cnn": PiSacCNN,
    "minatar_cnn": MinAtarCNN,
    **dict.fromkeys(RESNETS, ResNet),
}
ENCODERS: dict[str, type[Encoder]] = {
    "supernet": Supernet,
    "discrete": DiscreteNetwork,
    **BASELINES,
}
"""The class of each kind of encoder."""


@forwards_to(EncoderOptions)
def make_encoder(
    encoder: str = "supernet",
    genotype: Genotype | str | os.PathLike[str] | None = None,
    options: EncoderOptions | None = None,
    search: SearchSettings | None = None,
    **changes: Any,
) -> Encoder:
    """Makes an encoder; options that the chosen kind does not have are not used.

    Args:
      encoder: "supernet", "discrete", "impala_cnn", "nature_cnn", "pisac_cnn", "minatar_cnn",
        or "resnet_14" (20, 38, 74).
      genotype: of the discrete network; a genotype or the path of its file.
      options: the options; the defaults if None.
      search: the search method of a supernet; that of the paper if None.
      **changes: single options, which replace those of `options`; see `EncoderOptions`.

    Raises:
      ConfigError: an option is not valid; a genotype is missing, or given to another kind.
      GenotypeError: the genotype is not valid.
      TypeError: there is no such option.
    """
    check_choice("encoder", encoder, tuple(ENCODERS))
    if (genotype is None) == (encoder == "discrete"):
        missing = "is required for" if genotype is None else "is only for"
        raise ConfigError(f"genotype {missing} encoder 'discrete' (encoder is {encoder!r})")
    options = dataclasses.replace(options or EncoderOptions(), **changes)
    given = {
        "genotype": genotype,
        "search": search,
        "unit_ops": search is not None and search.unit_ops == "always",
        **vars(options),
        "dtype": options.precision,
        "num_layers": RESNETS.get(encoder),
    }
    kind = ENCODERS[encoder]
    return kind(**{name: given[name] for name in _arguments(kind) & given.keys()})


@forwards_to(make_encoder)
def as_encoder(encoder: Encoder | str, **arguments: Any) -> Encoder:
    """The encoder itself, or the one to make.

    Args:
      encoder: an encoder, which is returned itself and not a copy; or the name of a kind.
      **arguments: further arguments of `make_encoder`, for a kind; not used for an encoder.

    Raises:
      ConfigError: it is neither, or `make_encoder` does not take it so.
      TypeError: there is no such option.
    """
    if isinstance(encoder, str):
        return make_encoder(encoder, **arguments)
    if not isinstance(encoder, Encoder):
        raise ConfigError(f"encoder must be an Encoder or the name of a kind, got {encoder!r}")
    return encoder


def _arguments(kind: type[Encoder]) -> set[str]:
    """Names of the arguments of the constructors of a class and of its bases."""
    bases = [base for base in kind.__mro__ if issubclass(base, Encoder)]
    return {name for base in bases for name in inspect.signature(base.__init__).parameters}
