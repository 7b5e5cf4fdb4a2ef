"""Small search spaces: Micro and Classic with fewer cells and edges, which are traced sooner."""

from __future__ import annotations

import dataclasses

from rldarts_tf import CLASSIC, MICRO, LayerSpace
from rldarts_tf.search_space import register_search_space

MICRO_2 = register_search_space(
    dataclasses.replace(MICRO, name="micro_2", num_normal=1, num_nodes=2)
)
CLASSIC_2 = register_search_space(
    dataclasses.replace(CLASSIC, name="classic_2", num_normal=1, num_nodes=2)
)
CHAIN_3 = register_search_space(
    LayerSpace("chain_3", ("conv_3x3_norm_relu", "inv_res_3x3_e3", "skip_connect"), num_layers=3)
)
