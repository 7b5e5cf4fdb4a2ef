"""RL-DARTS: differentiable architecture search for the encoders of pixel agents.

    supernet = rldarts_tf.Supernet(rldarts_tf.CLASSIC, depths=[16, 16, 16])
    train(supernet)
    genotype = supernet.discretize()
    train(rldarts_tf.DiscreteNetwork(genotype, depths=[64, 64, 64]))

This package and everything that it names here need TensorFlow only, with numpy and
typing-extensions, which come with it. The adapters are modules of their own:
`rldarts_tf.encoding_network` for TF-Agents, `rldarts_tf.torso` for Acme, `rldarts_tf.envs` and
`rldarts_tf.agents` for the training programs.

A name is imported when it is first used: the processes that simulate environments import this
package too, and TensorFlow would cost each of them seconds and hundreds of megabytes.
"""

import importlib
from typing import TYPE_CHECKING, Any

# Type checkers read statements and no table, and `X as X` as "public": the one place where a name
# stands again, and a stub file would be no other. tests/test_imports.py compares it with the table.
if TYPE_CHECKING:
    from rldarts_tf._version import __version__ as __version__
    from rldarts_tf.alpha import Alpha as Alpha
    from rldarts_tf.baselines import ImpalaCNN as ImpalaCNN
    from rldarts_tf.baselines import MinAtarCNN as MinAtarCNN
    from rldarts_tf.baselines import NatureCNN as NatureCNN
    from rldarts_tf.baselines import PiSacCNN as PiSacCNN
    from rldarts_tf.cells import Cell as Cell
    from rldarts_tf.cost import Cost as Cost
    from rldarts_tf.cost import count_cost as count_cost
    from rldarts_tf.discretization import discretize as discretize
    from rldarts_tf.encoders import CellNetwork as CellNetwork
    from rldarts_tf.encoders import DiscreteNetwork as DiscreteNetwork
    from rldarts_tf.encoders import Encoder as Encoder
    from rldarts_tf.encoders import Supernet as Supernet
    from rldarts_tf.errors import ConfigError as ConfigError
    from rldarts_tf.errors import GenotypeError as GenotypeError
    from rldarts_tf.errors import RLDartsError as RLDartsError
    from rldarts_tf.errors import RunError as RunError
    from rldarts_tf.factory import make_encoder as make_encoder
    from rldarts_tf.genotype import Genotype as Genotype
    from rldarts_tf.genotype import random_genotype as random_genotype
    from rldarts_tf.layer_space import A2D as A2D
    from rldarts_tf.layer_space import A2D_MINATAR as A2D_MINATAR
    from rldarts_tf.layer_space import A2D_SMALL as A2D_SMALL
    from rldarts_tf.layer_space import LayerSpace as LayerSpace
    from rldarts_tf.ops import make_op as make_op
    from rldarts_tf.ops import register_op as register_op
    from rldarts_tf.ops import registered_ops as registered_ops
    from rldarts_tf.options import EncoderOptions as EncoderOptions
    from rldarts_tf.resnet import ResNet as ResNet
    from rldarts_tf.search_space import CLASSIC as CLASSIC
    from rldarts_tf.search_space import CLASSIC_NO_RELU as CLASSIC_NO_RELU
    from rldarts_tf.search_space import MICRO as MICRO
    from rldarts_tf.search_space import MICRO_PISAC as MICRO_PISAC
    from rldarts_tf.search_space import MICRO_SAC as MICRO_SAC
    from rldarts_tf.search_space import SearchSpace as SearchSpace
    from rldarts_tf.search_space import get_search_space as get_search_space
    from rldarts_tf.search_space import register_search_space as register_search_space

_PUBLIC = {
    "_version": ("__version__",),
    "alpha": ("Alpha",),
    "baselines": ("ImpalaCNN", "MinAtarCNN", "NatureCNN", "PiSacCNN"),
    "cells": ("Cell",),
    "cost": ("Cost", "count_cost"),
    "discretization": ("discretize",),
    "encoders": ("CellNetwork", "DiscreteNetwork", "Encoder", "Supernet"),
    "errors": ("ConfigError", "GenotypeError", "RLDartsError", "RunError"),
    "factory": ("make_encoder",),
    "genotype": ("Genotype", "random_genotype"),
    "ops": ("make_op", "register_op", "registered_ops"),
    "options": ("EncoderOptions",),
    "resnet": ("ResNet",),
    "search_space": (
        "CLASSIC",
        "CLASSIC_NO_RELU",
        "MICRO",
        "MICRO_PISAC",
        "MICRO_SAC",
        "SearchSpace",
        "get_search_space",
        "register_search_space",
    ),
    "layer_space": ("A2D", "A2D_MINATAR", "A2D_SMALL", "LayerSpace"),
}
"""Public names by module."""

_MODULES = {name: module for module, names in _PUBLIC.items() for name in names}
__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
