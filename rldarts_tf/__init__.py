"""RL-DARTS: differentiable architecture search for the encoders of pixel agents.

    supernet = rldarts_tf.Supernet(rldarts_tf.CLASSIC, depths=[16, 16, 16])
    train(supernet)
    genotype = supernet.discretize()
    train(rldarts_tf.DiscreteNetwork(genotype, depths=[64, 64, 64]))

This package and everything that it names here need TensorFlow and numpy only. The adapters are
modules of their own: `rldarts_tf.encoding_network` for TF-Agents, `rldarts_tf.torso` for Acme,
`rldarts_tf.envs` and `rldarts_tf.agents` for the training programs.

A name is imported when it is first used: the processes that simulate environments import this
package too, and TensorFlow would cost each of them seconds and hundreds of megabytes.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rldarts_tf._version import __version__
    from rldarts_tf.alpha import Alpha
    from rldarts_tf.baselines import ImpalaCNN, NatureCNN, PiSacCNN
    from rldarts_tf.cells import Cell
    from rldarts_tf.cost import Cost, count_cost
    from rldarts_tf.discretization import discretize
    from rldarts_tf.encoders import CellNetwork, DiscreteNetwork, Encoder, Supernet
    from rldarts_tf.errors import ConfigError, GenotypeError, RLDartsError, RunError
    from rldarts_tf.genotype import Genotype, random_genotype
    from rldarts_tf.ops import make_op, register_op, registered_ops
    from rldarts_tf.search_space import (
        CLASSIC,
        CLASSIC_NO_RELU,
        MICRO,
        MICRO_PISAC,
        MICRO_SAC,
        SearchSpace,
        get_search_space,
        register_search_space,
    )

_MODULES = {
    "Alpha": "alpha",
    "CLASSIC": "search_space",
    "CLASSIC_NO_RELU": "search_space",
    "Cell": "cells",
    "CellNetwork": "encoders",
    "ConfigError": "errors",
    "Cost": "cost",
    "DiscreteNetwork": "encoders",
    "Encoder": "encoders",
    "Genotype": "genotype",
    "GenotypeError": "errors",
    "ImpalaCNN": "baselines",
    "MICRO": "search_space",
    "MICRO_PISAC": "search_space",
    "MICRO_SAC": "search_space",
    "NatureCNN": "baselines",
    "PiSacCNN": "baselines",
    "RLDartsError": "errors",
    "RunError": "errors",
    "SearchSpace": "search_space",
    "Supernet": "encoders",
    "__version__": "_version",
    "count_cost": "cost",
    "discretize": "discretization",
    "get_search_space": "search_space",
    "make_op": "ops",
    "random_genotype": "genotype",
    "register_op": "ops",
    "register_search_space": "search_space",
    "registered_ops": "ops",
}

__all__ = [
    "CLASSIC",
    "CLASSIC_NO_RELU",
    "MICRO",
    "MICRO_PISAC",
    "MICRO_SAC",
    "Alpha",
    "Cell",
    "CellNetwork",
    "ConfigError",
    "Cost",
    "DiscreteNetwork",
    "Encoder",
    "Genotype",
    "GenotypeError",
    "ImpalaCNN",
    "NatureCNN",
    "PiSacCNN",
    "RLDartsError",
    "RunError",
    "SearchSpace",
    "Supernet",
    "__version__",
    "count_cost",
    "discretize",
    "get_search_space",
    "make_op",
    "random_genotype",
    "register_op",
    "register_search_space",
    "registered_ops",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
