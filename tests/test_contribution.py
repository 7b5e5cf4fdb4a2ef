"""The contribution of ops: hand-worked, and the same whatever scale θ has."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from spaces import CLASSIC_2

from rldarts_tf import SearchSpace, Supernet
from rldarts_tf.search import SearchSettings, contributions

SMALL = SearchSpace("contributing", ("relu", "conv_1x1"), num_nodes=1)


def test_a_hand_worked_case():
    supernet = Supernet(SMALL, [1], features=2)
    supernet(np.zeros((1, 4, 4, 1), np.float32))
    (cell, *_) = supernet.cells
    cell.set_edge_variables(0, 1, "conv_1x1", [np.full((1, 1, 1, 1), -2.0), np.zeros(1)])
    # x has the values 3 and -4: RMS √12.5; relu 3 and 0: √4.5; -2x: 2 √12.5.
    x = tf.constant([3.0, -4.0], shape=(1, 1, 2, 1))
    p = tf.constant([[0.5, 0.125, 0.25, 0.125]])
    assert SMALL.ops("normal") == ("relu", "conv_1x1", "skip_connect", "none")
    # The node: 0.5 relu(x) - 0.25 x + 0.25 x.
    node = np.sqrt(0.25 * 4.5)
    expected = [1.0, 0.25 * np.sqrt(12.5) / node, 0.25 * np.sqrt(12.5) / node, 0.0]
    np.testing.assert_allclose(cell.contributions(x, p)[0], expected, rtol=1e-6)


@pytest.mark.parametrize("unit_ops", [None, "search"])
def test_no_rescaling_of_theta_changes_it(unit_ops):
    tf.keras.utils.set_random_seed(0)
    supernet = Supernet(CLASSIC_2, [2], features=2, search=SearchSettings(unit_ops=unit_ops))
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 3)).astype(np.float32)
    supernet(images)
    p = dict(supernet.op_weights())
    before = {kind: c.numpy() for kind, c in contributions(supernet, images, p).items()}
    assert {kind: c.shape for kind, c in before.items()} == {"normal": (3, 6), "reduction": (3, 5)}
    for c in before.values():
        assert np.all(c[:, :-1] > 0) and np.all(c[:, -1] == 0)
    # A kernel grows where its p falls: the same function.
    edge = (0, 1, "conv_5x5_relu")
    column = CLASSIC_2.ops("normal").index(edge[-1])
    cell = next(cell for cell in supernet.cells if cell.stride == 1)
    kernel, bias = cell.edge_variables(*edge)
    cell.set_edge_variables(*edge, [4 * kernel, 4 * bias])
    smaller = np.array(p["normal"])
    if unit_ops is None:
        smaller[0, column] /= 4
    p["normal"] = tf.constant(smaller)
    for kind, c in contributions(supernet, images, p).items():
        # ε of the normalization shows where maps are small.
        np.testing.assert_allclose(c, before[kind], rtol=1e-4 if unit_ops is None else 2e-3)


def test_ops_of_unit_size_contribute_in_the_ratio_of_their_weights():
    tf.keras.utils.set_random_seed(0)
    space = SearchSpace("contributing", ("tanh", "conv_3x3"), num_nodes=1)
    supernet = Supernet(space, [4], features=2, search=SearchSettings(unit_ops="always"))
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 3)).astype(np.float32)
    supernet(images)
    for node in supernet.alpha.logits["normal"]:
        node.assign(np.random.default_rng(1).normal(size=node.shape, scale=0.2))
    (c,), (p,) = contributions(supernet, images)["normal"], supernet.op_weights()["normal"]
    np.testing.assert_allclose(c[:-1] / c[0], p[:-1] / p[0], rtol=1e-3)
    # What the ops are in the supernet they are in the cell, where that keeps it.
    network = supernet.extract()
    assert network.unit_ops and network.get_config()["unit_ops"]
    (cell,) = network.cells
    assert cell.banks[0].unit_ops
