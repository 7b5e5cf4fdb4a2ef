"""Encoders: images [B, H, W, C] -> features [B, features].

From the first module to the last:

* `base`: the contract of every encoder, also of hand-designed ones, and the head they share;
* `convolutions`: what is IMPALA-CNN's, in them and around cells;
* `cell_network`: `CellNetwork` stacks the cells that a factory makes, where the search space says;
* `discrete_network`, `supernet`: `DiscreteNetwork` and `Supernet`, which differ in that factory and
  in who gives the op weights alone.
"""

from rldarts_tf.encoders.base import Encoder, check_two, with_architecture_loss
from rldarts_tf.encoders.cell_network import CellNetwork
from rldarts_tf.encoders.convolutions import least_side, same_conv
from rldarts_tf.encoders.discrete_network import DiscreteNetwork
from rldarts_tf.encoders.supernet import Supernet, as_search_space

__all__ = [
    "CellNetwork",
    "DiscreteNetwork",
    "Encoder",
    "Supernet",
    "as_search_space",
    "check_two",
    "least_side",
    "same_conv",
    "with_architecture_loss",
]
