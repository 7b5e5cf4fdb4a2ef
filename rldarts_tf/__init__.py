"""RL-DARTS: differentiable architecture search for the encoders of pixel agents.

    supernet = rldarts_tf.Supernet(rldarts_tf.CLASSIC, depths=[16, 16, 16])
    train(supernet)
    genotype = supernet.discretize()
    train(rldarts_tf.DiscreteNetwork(genotype, depths=[64, 64, 64]))

This package and everything that it imports here need TensorFlow and numpy only. The adapters are
modules of their own: `rldarts_tf.encoding_network` for TF-Agents, `rldarts_tf.envs` and
`rldarts_tf.agents` for the training programs.
"""

from rldarts_tf._version import __version__
from rldarts_tf.alpha import Alpha
from rldarts_tf.baselines import ImpalaCNN, NatureCNN
from rldarts_tf.cells import Cell
from rldarts_tf.cost import Cost, count_cost
from rldarts_tf.discretize import discretize
from rldarts_tf.encoders import CellNetwork, DiscreteNetwork, Encoder, Supernet
from rldarts_tf.errors import ConfigError, GenotypeError, RLDartsError, RunError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.ops import make_op, register_op, registered_ops
from rldarts_tf.search_space import (
    CLASSIC,
    CLASSIC_NO_RELU,
    MICRO,
    MICRO_SAC,
    SearchSpace,
    get_search_space,
    register_search_space,
)

__all__ = [
    "CLASSIC",
    "CLASSIC_NO_RELU",
    "MICRO",
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
