"""The cost of what a supernet stands for: counted exactly, differentiated, weighted in a loss."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from spaces import CHAIN_3, CLASSIC_2

import rldarts_tf
from rldarts_tf.cost import count_cost
from rldarts_tf.encoders import with_architecture_loss
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.search import CostSettings, SearchSettings, costs

# Two nodes that keep both of their inputs: all edges of the supernet.
DENSE = dataclasses.replace(CLASSIC_2, name="cost_dense", top_k=2)
SHAPE = (9, 8, 3)


def supernet_of(space, shape=SHAPE, **fields):
    search = SearchSettings(cost=CostSettings(**{"weight": 0.5, **fields}))
    supernet = rldarts_tf.Supernet(space, [2, 3], "concat", 1.0, features=4, search=search)
    supernet.build((None, *shape))
    return supernet


@pytest.fixture(scope="module", params=[CHAIN_3, DENSE], ids=["layers", "cells"])
def supernet(request):
    return supernet_of(request.param)


def set_alpha(supernet, genotype, size):
    """α whose softmax is one-hot at a genotype, or nearly so."""
    space = supernet.space
    for cell_type, cell in genotype.cells.items():
        z = np.zeros((len(space.edges), len(space.ops(cell_type))), np.float32)
        for j, node in enumerate(cell, start=1):
            for i, op in node:
                z[space.edges.index((i, j)), space.ops(cell_type).index(op)] = size
        rows = np.split(z, np.cumsum([v.shape[0] for v in supernet.alpha.logits[cell_type]])[:-1])
        for variable, value in zip(supernet.alpha.logits[cell_type], rows):
            variable.assign(value)


@pytest.mark.parametrize("seed", range(3))
def test_a_one_hot_p_costs_what_the_discrete_network_costs(supernet, seed):
    genotype = random_genotype(supernet.space, seed)
    set_alpha(supernet, genotype, 200.0)
    network = rldarts_tf.DiscreteNetwork(genotype, [2, 3], features=4)
    counted = count_cost(network, SHAPE).multiply_adds
    assert supernet.expected_cost() == pytest.approx(counted, rel=1e-6)
    table = supernet.cost_table
    assert table.fixed + costs.of_genotype(table, genotype, supernet.space) == counted


def test_parameters_are_those_of_the_discrete_network():
    supernet = supernet_of(CHAIN_3, measure="parameters")
    genotype = random_genotype(CHAIN_3, 5)
    set_alpha(supernet, genotype, 200.0)
    network = rldarts_tf.DiscreteNetwork(genotype, [2, 3], features=4)
    assert supernet.expected_cost() == pytest.approx(count_cost(network, SHAPE).parameters)


def test_the_most_expensive_architecture_costs_one(supernet):
    genotype = random_genotype(supernet.space, 0)
    best = {t: costs_of.argmax(axis=1) for t, costs_of in supernet.cost_table.ops.items()}
    cells = {
        t: tuple(
            tuple(
                (i, supernet.space.ops(t)[best[t][supernet.space.edges.index((i, j))]])
                for i, _ in node
            )
            for j, node in enumerate(cell, start=1)
        )
        for t, cell in genotype.cells.items()
    }
    set_alpha(supernet, dataclasses.replace(genotype, cells=cells), 200.0)
    share = supernet.cost_table.share(supernet.alpha.mean_op_weights())
    assert float(share) == pytest.approx(1.0, rel=1e-6)


def test_the_gradient_of_the_cost_to_alpha_is_that_of_finite_differences(supernet):
    rng = np.random.default_rng(0)
    variables = supernet.alpha.trainable_weights
    for variable in variables:
        variable.assign(rng.normal(size=variable.shape))
    with tf.GradientTape() as tape:
        loss = supernet.architecture_loss()
    gradients = tape.gradient(loss, variables)

    def share_at():
        """λ C in float64."""
        table, total = supernet.cost_table, supernet.cost_table.fixed
        for t, z in supernet.alpha.numpy_logits().items():
            p = np.exp(z - z.max(axis=1, keepdims=True))
            total += (p / p.sum(axis=1, keepdims=True) * table.ops[t]).sum()
        return 0.5 * total / table.most

    assert float(loss) == pytest.approx(share_at(), rel=1e-5)
    for variable, gradient in zip(variables, gradients):
        value = variable.numpy()
        for place in np.ndindex(*value.shape):
            shifted = []
            for sign in (1, -1):
                moved = value.copy()
                moved[place] += np.float32(sign * 2.0**-8)
                variable.assign(moved)
                shifted.append(share_at())
            variable.assign(value)
            difference = (shifted[0] - shifted[1]) * 2.0**7
            assert float(gradient[place]) == pytest.approx(difference, abs=2e-6)


def test_the_loss_of_an_agent_has_the_cost_of_its_supernet_once_and_else_nothing(supernet):
    loss = tf.constant(2.0)
    holder = tf.Module()
    holder.one = holder.other = supernet
    added = with_architecture_loss(loss, holder, supernet)
    np.testing.assert_allclose(added, 2.0 + supernet.architecture_loss(), rtol=1e-6)
    plain = rldarts_tf.Supernet(CHAIN_3, [2], features=4)
    assert plain.architecture_loss() is None and with_architecture_loss(loss, plain) is loss
    assert rldarts_tf.ImpalaCNN([2]).architecture_loss() is None


def test_an_update_is_traced_once_where_the_clock_of_the_search_was_set_before():
    supernet, traces = supernet_of(CHAIN_3), []
    supernet.set_progress(0.0)

    @tf.function
    def loss():
        traces.append(supernet.architecture_loss())
        return traces[-1]

    assert float(loss()) == pytest.approx(float(supernet.architecture_loss()))
    assert len(traces) == 1


def test_the_loss_of_learners_from_replay_has_the_cost():
    pytest.importorskip("acme")
    from dm_env import specs

    from rldarts_tf.agents.rainbow import RainbowSettings
    from rldarts_tf.agents.rainbow.learner import make_learner
    from rldarts_tf.agents.rainbow.networks import make_network

    settings, supernet = RainbowSettings(hidden_size=4), supernet_of(CHAIN_3)
    network = make_network(supernet, 3, settings)
    learner = make_learner(network, specs.Array(SHAPE, np.uint8), settings)
    loss = learner._scaled(tf.constant(2.0))
    np.testing.assert_allclose(loss, 2.0 + supernet.architecture_loss(), rtol=1e-6)


def test_the_weight_follows_the_target_in_log_space():
    supernet = supernet_of(CHAIN_3, target_multiply_adds=4600.0, adaptation=3.0)
    cost = supernet.found_cost()
    assert cost != pytest.approx(4600.0, rel=0.1)
    for progress in (0.25, 0.5, 0.5):
        supernet.set_progress(progress)
    # By hand: dλ/dt = 3 λ log(cost / target) over half of the search, from 0.5.
    expected = 0.5 * (cost / 4600.0) ** (3.0 * 0.5)
    assert float(supernet.cost_weight) == pytest.approx(expected, rel=1e-5)
    settings = supernet.alpha.search.cost
    assert settings.adapted(0.5, 1e30, 1.0) == pytest.approx(50.0)
    assert settings.adapted(0.5, 1e-30, 1.0) == pytest.approx(0.005)
    assert CostSettings(target_multiply_adds=5).first_weight == 0.1


def test_the_weight_follows_what_would_be_found_and_not_the_mean_under_p():
    supernet = supernet_of(CHAIN_3)
    for node in supernet.alpha.logits["chain"]:
        node.assign([[0.0, 0.0, 0.1]])  # `skip_connect` leads, by little.
    mean, found = supernet.expected_cost(), supernet.found_cost()
    network = rldarts_tf.DiscreteNetwork(supernet.discretize(), [2, 3], features=4)
    assert found == count_cost(network, SHAPE).multiply_adds < 0.8 * mean
    # The mean is at the target, and too little would be found: λ has to fall.
    targeted = supernet_of(CHAIN_3, target_multiply_adds=mean)
    for node, value in zip(targeted.alpha.logits["chain"], supernet.alpha.logits["chain"]):
        node.assign(value)
    targeted.set_progress(0.1)
    assert float(targeted.cost_weight) < 0.5


def test_the_weight_rests_while_alpha_does():
    cost = CostSettings(target_multiply_adds=4600.0)
    method = SearchSettings(cost=cost, warm_up=0.5, alpha_learning_rate=1e-2)
    supernet = rldarts_tf.Supernet(CHAIN_3, [2, 3], "concat", 1.0, features=4, search=method)
    supernet.build((None, *SHAPE))
    expected = cost.adapted(cost.first_weight, supernet.found_cost(), 0.25)
    for progress in (0.25, 0.5):
        supernet.set_progress(progress)
        assert float(supernet.cost_weight) == pytest.approx(cost.first_weight)
    supernet.set_progress(0.75)
    assert float(supernet.cost_weight) == pytest.approx(expected, rel=1e-5)


def test_a_resumed_search_that_tells_its_progress_again_has_the_same_weight():
    supernet = supernet_of(CHAIN_3, target_multiply_adds=4600.0)
    for step in range(1, 50):
        supernet.set_progress(step / 49)
        before = float(supernet.cost_weight)
        supernet.set_progress(step / 49)
        assert float(supernet.cost_weight) == before


def test_sigmoids_cost_as_much_as_architectures_do():
    method = SearchSettings(
        relaxation="sigmoid", alpha_learning_rate=1e-2, cost=CostSettings(weight=0.5)
    )
    supernet = rldarts_tf.Supernet(CHAIN_3, [2, 3], "concat", 1.0, features=4, search=method)
    supernet.build((None, *SHAPE))
    # All are ½ at first, as the shares of a softmax are equal.
    assert supernet.expected_cost() == pytest.approx(supernet_of(CHAIN_3).expected_cost())


@pytest.mark.parametrize("seconds", [float("nan"), -1.0, 0.0])
def test_latencies_that_are_none_are_refused(seconds, tmp_path):
    path = tmp_path / "latencies.json"
    found = {}
    supernet = supernet_of(CHAIN_3)
    costs.make_table(CHAIN_3, supernet.placed_cells, lambda at: found.setdefault(at, seconds))
    path.write_text(json.dumps({"results": costs.latencies_as_data(found)}))
    with pytest.raises(ConfigError, match="seconds must be finite, at least 0, and some above 0"):
        costs.read_latencies(str(path))


def test_latencies_are_read_from_a_table_that_has_all_ops(tmp_path):
    path = str(tmp_path / "latencies.json")
    supernet = supernet_of(CHAIN_3)
    found = {}
    costs.make_table(
        CHAIN_3, supernet.placed_cells, lambda at: found.setdefault(at, len(found) + 1.0)
    )
    document = {"results": costs.latencies_as_data(found)}
    (tmp_path / "latencies.json").write_text(json.dumps(document))
    measured = supernet_of(CHAIN_3, measure="latency", latency_table=path)
    # Three layers, each with its own three ops; the second stage has other maps than the first.
    assert measured.cost_table.ops["chain"].tolist() == [[1, 2, 3], [1, 2, 3], [4, 5, 6]]
    assert measured.expected_cost() == pytest.approx(2 + 2 + 5)
    other = supernet_of(CHAIN_3, shape=(6, 6, 3), measure="latency", latency_table=path)
    with pytest.raises(ConfigError, match=r"lacks conv_3x3_norm_relu on 6 x 6 maps of 2 channels"):
        other.architecture_loss()


def test_cost_settings_that_do_not_fit_are_named(tmp_path):
    cases = [
        ({"weight": -1}, "CostSettings.weight must be"),
        ({"measure": "watts"}, "CostSettings.measure must be one of"),
        ({"measure": "latency"}, "latency_table must be given"),
        ({"latency_table": "x"}, "latency_table must be given"),
        ({"measure": "parameters", "target_multiply_adds": 1e6}, "target_multiply_adds must be"),
    ]
    for fields, message in cases:
        with pytest.raises(ConfigError, match=message):
            CostSettings(**fields)
    with pytest.raises(ConfigError, match=r"SearchSettings\.cost must be"):
        SearchSettings(cost=3)
    for content in ("", "{}", "[]", '{"results": {"format_version": 2}}'):
        (tmp_path / "bad.json").write_text(content)
        with pytest.raises(ConfigError, match=r"bad.json' is no table of latencies"):
            costs.read_latencies(str(tmp_path / "bad.json"))
    beyond = supernet_of(CHAIN_3, target_multiply_adds=10)
    least = int(supernet_of(CHAIN_3).cost_table.least)
    with pytest.raises(ConfigError, match=rf"target_multiply_adds must be at least {least:,}"):
        beyond.architecture_loss()
    unbuilt = rldarts_tf.Supernet(CHAIN_3, [2], search=SearchSettings(cost=CostSettings(weight=1)))
    with pytest.raises(ConfigError, match="no weights yet"):
        unbuilt.architecture_loss()
