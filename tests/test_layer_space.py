"""Chains of layers as a search space: what they are, compute and become."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
import tensorflow as tf
from reference import randomize, reference_op
from spaces import CHAIN_3, MICRO_2

import rldarts_tf
from rldarts_tf import commands
from rldarts_tf.discretization import Cap, discretize
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.kernels.banks import ConvolutionBank, LayerBank
from rldarts_tf.layer_space import A2D, A2D_MINATAR, A2D_SMALL, LayerSpace
from rldarts_tf.perturbation.decisions import Decision
from rldarts_tf.perturbation.inherited import mutated
from rldarts_tf.perturbation.selection import Selection
from rldarts_tf.search import SearchSettings
from rldarts_tf.search_space import SearchSpace, read_config

DEPTHS = [2, 3]
IMAGES = np.random.default_rng(0).uniform(size=(3, 9, 8, 2)).astype(np.float32)


# --- the space ----------------------------------------------------------------------------------


def test_a2d_has_nine_ops_to_the_fourteenth_networks():
    assert A2D.size() == 9**14 == 22_876_792_454_961
    assert len(A2D.ops("chain")) == 9 and "none" not in A2D.ops("chain")
    assert A2D_MINATAR.size() == 9**6 and A2D_MINATAR.ops("chain") == A2D.ops("chain")
    assert A2D_SMALL.size() == 4**4 and set(A2D_SMALL.ops("chain")) < set(A2D.ops("chain"))
    assert A2D.edges == tuple((j - 1, j) for j in range(1, 15))
    assert A2D.resized(num_nodes=3).size() == 9**3


def test_layers_are_dealt_to_stages_that_begin_with_a_stride():
    places = A2D.places((16, 32, 64), A2D)
    assert [(p.kind, p.filters, p.stride) for p in places[:1]] == [("conv", 16, 2)]
    layers = places[1:]
    assert [p.node for p in layers] == list(range(1, 15))
    assert [p.filters for p in layers] == [16] * 5 + [32] * 5 + [64] * 4
    assert [j for j, p in enumerate(layers) if p.stride == 2] == [5, 10]
    with pytest.raises(ConfigError, match=r"depths must be of at most 3 stages.* got 4"):
        rldarts_tf.Supernet(CHAIN_3, [2] * 4)


@pytest.mark.parametrize(
    "space", [A2D, A2D_MINATAR, A2D_SMALL, CHAIN_3, MICRO_2], ids=lambda s: s.name
)
def test_a_definition_tells_of_which_kind_it_is(space):
    assert read_config(space.to_config()) == space
    genotype = random_genotype(space, 3)
    assert Genotype.from_json(genotype.to_json()) == genotype


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_ops": ()}, r"LayerSpace\.layer_ops is empty"),
        ({"layer_ops": ("relu", "relu")}, "names 'relu' twice"),
        ({"layer_ops": ("none",)}, "every layer has an op"),
        ({"num_layers": 0}, r"LayerSpace\.num_layers must be"),
        ({"stem_stride": 3}, r"LayerSpace\.stem_stride must be 1 or 2"),
        ({"name": ""}, r"LayerSpace\.name must be"),
    ],
)
def test_bad_fields_of_a_layer_space_are_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(A2D, **changes)
    with pytest.raises(ConfigError, match="top_k must be 1"):
        A2D.resized(top_k=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"top_k": 2}, "top_k: must be 1 in a layer space, got 2"),
        ({"num_reduction": 1}, "num_reduction: must be 0 in a layer space, got 1"),
        ({"output_mode": "concat"}, "output_mode: unknown mode 'concat'; one of last"),
        ({"cells": {"chain": [[[0, "skip_connect"]], [[0, "skip_connect"]]]}}, "must be 1, got 0"),
        ({"cells": {"chain": [[[0, "relu"]]]}}, "unknown op 'relu'"),
        ({"cells": {"normal": [[[0, "relu"]]]}}, "'normal' is not a cell type"),
        (
            {"search_space": {"name": "chain_3", "normal_ops": ["relu"]}},
            "a SearchSpace, but a LayerSpace 'chain_3' is registered",
        ),
        (
            {"search_space": {**CHAIN_3.to_config(), "stem_stride": 2}},
            "search_space.stem_stride: 2, but a search space 'chain_3' is registered with 1",
        ),
        (
            {"search_space": {"name": "other", "layer_ops": ["relu"], "num_layers": "3"}},
            "search_space.num_layers: must be an integer",
        ),
    ],
)
def test_a_broken_genotype_of_layers_is_named(change, message):
    data = {**random_genotype(CHAIN_3, 0).to_dict(), **change}
    with pytest.raises(GenotypeError, match=message):
        Genotype.from_dict(data)


def test_a_chain_is_read_off_layer_by_layer_with_caps():
    z = np.array([[1.0, 2.5, 3.0], [1.0, 0.0, 2.0], [0.0, 5.0, 1.0]])
    _, inverted, skip = CHAIN_3.ops("chain")
    found = discretize({"chain": z}, CHAIN_3)
    assert found.cells["chain"] == (((0, skip),), ((1, skip),), ((2, inverted),))
    assert (found.output_mode, found.top_k) == ("last", 1)
    caps = {"max_skips": Cap(frozenset([skip]), 1)}
    # The skip of the first layer leads by less.
    assert discretize({"chain": z}, CHAIN_3, caps=caps).cells["chain"][0] == ((0, inverted),)
    with pytest.raises(GenotypeError, match="top_k: must be 1"):
        discretize({"chain": z}, CHAIN_3, top_k=2)
    with pytest.raises(ConfigError, match=r"shape must be \(3, 3\)"):
        discretize({"chain": z[:2]}, CHAIN_3)


def test_a_chain_is_decided_by_perturbation_in_one_question_for_each_layer():
    selection = Selection(CHAIN_3)
    assert selection.evaluations_left() == 9
    asked = []
    while (question := selection.question()) is not None:
        asked.append((question.target, len(question.candidates)))
        selection.take(Decision(question, question.target - 1))
    assert sorted(asked) == [(1, 3), (2, 3), (3, 3)]
    expected = tuple(((j, op),) for j, op in enumerate(CHAIN_3.ops("chain")))
    assert selection.genotype().cells["chain"] == expected


def test_a_mutation_of_a_chain_changes_the_op_of_one_layer():
    parent = random_genotype(CHAIN_3, 0)
    for seed in range(5):
        child = mutated(parent, random.Random(seed))
        pairs = list(zip(parent.cells["chain"], child.cells["chain"]))
        assert sum(a != b for a, b in pairs) == 1
        assert [a[0][0] for a, _ in pairs] == [b[0][0] for _, b in pairs]


# --- networks, against their formula ------------------------------------------------------------


def layer_of(cell, x, p):
    """Σ_o p_o o(x) of a layer of `CHAIN_3`; p is [3]."""
    if cell._adapter is not None:
        x = tf.nn.conv2d(x, cell._adapter.kernel, 1, "SAME") + cell._adapter.bias
    (of_conv,) = (bank for bank in cell.banks if isinstance(bank, ConvolutionBank))
    (of_inverted,) = (bank for bank in cell.banks if isinstance(bank, LayerBank))
    variables = {
        "conv_3x3_norm_relu": [of_conv.kernels[0], of_conv.biases[0], of_conv.scales[0]],
        "inv_res_3x3_e3": of_inverted.layers[0].trainable_weights,
        "skip_connect": [],
    }
    return tf.add_n(
        [
            p[column] * reference_op(op, x, variables[op], cell.stride)
            for column, op in enumerate(CHAIN_3.ops("chain"))
        ]
    )


def features_of(supernet, x):
    """A supernet of `CHAIN_3` by its definition, every op computed."""
    p = supernet.alpha.op_weights()["chain"]
    stem, *cells = supernet._stack
    x = tf.nn.conv2d(x, stem.kernel, 1, "SAME") + stem.bias
    for row, cell in enumerate(cells):
        x = layer_of(cell, x, p[row])
    x = tf.reshape(tf.nn.relu(x), [x.shape[0], -1])
    return tf.nn.relu(x @ supernet._dense.kernel + supernet._dense.bias)


@pytest.mark.parametrize("relaxation", ["gumbel", "gumbel_2"])
def test_a_supernet_of_layers_and_its_gradients_are_those_of_the_formula(relaxation):
    search = SearchSettings(relaxation=relaxation)
    supernet = rldarts_tf.Supernet(CHAIN_3, DEPTHS, features=4, search=search)
    supernet.build((None, *IMAGES.shape[1:]))
    randomize(supernet.trainable_weights, 3)
    variables = supernet.trainable_weights

    @tf.function(autograph=False)
    def differentiated(plain):
        with tf.GradientTape() as tape:
            features = features_of(supernet, IMAGES) if plain else supernet(IMAGES)
            loss = tf.reduce_sum(tf.square(features))
        return features, tape.gradient(loss, variables, unconnected_gradients="zero")

    for _ in range(4):
        supernet.alpha.draw()
        expected, expected_gradients = differentiated(True)
        found, gradients = differentiated(False)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        for variable, ours, theirs in zip(variables, gradients, expected_gradients):
            size = 1e-3 + np.abs(theirs).max()
            np.testing.assert_allclose(ours / size, theirs / size, atol=1e-3, err_msg=variable.name)


class Counting(tf.keras.layers.Layer):
    """The identity, which counts its calls."""

    calls = 0

    def __init__(self, filters, stride):
        super().__init__()
        self._conv = tf.keras.layers.Conv2D(filters, 1, stride)

    def call(self, x):
        Counting.calls += 1
        return self._conv(x)


def test_of_a_sampled_layer_nothing_else_is_computed(monkeypatch):
    monkeypatch.setitem(rldarts_tf.ops._REGISTRY, "counting", Counting)
    space = LayerSpace("counting_chain", ("counting", "skip_connect"), num_layers=4)
    search = SearchSettings(relaxation="gumbel")
    supernet = rldarts_tf.Supernet(space, DEPTHS, features=4, search=search)
    supernet(IMAGES)  # Makes the variables, of all ops.
    seen = set()
    for _ in range(8):
        supernet.alpha.draw()
        Counting.calls = 0
        supernet(IMAGES)
        selected = supernet.alpha.numpy_op_weights()["chain"][:, 0].sum()
        assert Counting.calls == selected
        seen.add(Counting.calls)
    assert len(seen) > 1


def test_a_one_hot_supernet_of_layers_is_the_discrete_network_with_its_weights():
    supernet = rldarts_tf.Supernet(CHAIN_3, DEPTHS, features=4)
    supernet.build((None, *IMAGES.shape[1:]))
    randomize(supernet.trainable_weights, 1)
    for node in supernet.alpha.logits["chain"]:
        node.assign(100.0 * node)
    network = supernet.extract()
    assert network.genotype == supernet.discretize()
    np.testing.assert_allclose(network(IMAGES), supernet(IMAGES), rtol=1e-5, atol=1e-6)
    other = random_genotype(dataclasses.replace(CHAIN_3, name="longer", num_layers=4), 0)
    with pytest.raises(ConfigError, match="not of this supernet's search space"):
        supernet.extract(other)


def test_inverted_residuals_are_ops_of_cells_too():
    space = SearchSpace("inverted_cells", ("inv_res_3x3_e1", "relu"), num_nodes=2, stem="none")
    features = rldarts_tf.Supernet(space, [2], features=4, normalization="batch")(IMAGES)
    assert features.shape == (3, 4)
    layer = rldarts_tf.make_op("inv_res_5x5_e3", 4, 2)
    assert layer(IMAGES).shape == (3, 5, 4, 4)
    # Two channels, three times as many between: Conv1x1, depthwise 5x5, Conv1x1; γ and β each.
    assert layer.count_params() == 2 * 6 + 25 * 6 + 6 * 4 + 2 * (6 + 6 + 4)
    assert not layer.uses_training
    assert rldarts_tf.make_op("inv_res_5x5_e3", 4, normalization="batch").uses_training


# --- commands -----------------------------------------------------------------------------------


def test_commands_take_layer_spaces_and_their_genotypes(tmp_path, capsys):
    assert commands.main(["size", "a2d"]) == 0
    out = capsys.readouterr().out
    assert "22,876,792,454,961" in out and "layers" in out
    folder = tmp_path / "random"
    assert commands.main(["random", "a2d", "--count=2", "--seed=1", f"--output={folder}"]) == 0
    one, other = (str(folder / f"genotype-{i}.json") for i in range(2))
    assert len(Genotype.load(one).cells["chain"]) == 14
    assert commands.main(["compare", one, other]) == 0
    assert "chain node 1" in capsys.readouterr().out
    assert commands.main(["draw", one, f"--output={tmp_path}", "--formats=svg"]) == 0
    assert (tmp_path / "chain.svg").stat().st_size > 1000
    small = tmp_path / "small.json"
    random_genotype(CHAIN_3, 0).save(small)
    assert commands.main(["show", str(small), "--depths=2,3", "--image=9x8x3"]) == 0
    out = capsys.readouterr().out
    assert "node 3 = " in out and "multiply-adds" in out
    assert commands.main(["compare", one, str(small)]) == 0
    random_genotype(MICRO_2, 0).save(tmp_path / "micro.json")
    assert commands.main(["compare", one, str(tmp_path / "micro.json")]) == 0
    assert "search_space.layer_ops" in capsys.readouterr().out
