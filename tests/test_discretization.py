"""Discretization (Algorithm 4): a table of cases made by hand, and a slow reference."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_odds, reference_discretize

from rldarts_tf import ops
from rldarts_tf.caps import caps_of, make_caps
from rldarts_tf.discretization import Cap, discretize, discretize_strengths
from rldarts_tf.encoders import Supernet
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.ops import parameter_free
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import CLASSIC, MICRO, SearchSpace, num_edges, register_search_space

# Columns: a = conv_3x3, b = relu, skip_connect, none.
SPACE = register_search_space(
    SearchSpace("test_discretize", ["conv_3x3", "relu"], num_nodes=3, top_k=2)
)
TWO = register_search_space(SearchSpace("test_discretize_2", ["conv_3x3", "relu"], num_nodes=2))
ONE = register_search_space(SearchSpace("test_discretize_1", ["conv_3x3", "relu"], num_nodes=1))
A, B, S = "conv_3x3", "relu", "skip_connect"

NODE_1 = [[0.7, 0.1, 0.1, 0.1]]
NODE_2 = [[0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.5, 0.3]]

CASES = {
    # name: (space, K, weights p per node, expected cell)
    "the_strongest_op_of_the_only_edge": (ONE, 1, [[[0.1, 0.2, 0.4, 0.3]]], [[(0, S)]]),
    "none_is_strongest_but_never_kept": (ONE, 1, [[[0.1, 0.2, 0.1, 0.6]]], [[(0, B)]]),
    "none_is_all_there_is": (ONE, 1, [[[0.0, 0.0, 0.0, 1.0]]], [[(0, A)]]),
    "tie_of_ops_goes_to_the_first_of_the_space": (ONE, 1, [[[0.1, 0.4, 0.4, 0.1]]], [[(0, B)]]),
    "k_larger_than_the_number_of_inputs": (TWO, 5, [NODE_1, NODE_2], [[(0, A)], [(0, B), (1, S)]]),
    "k_1_keeps_the_stronger_edge": (TWO, 1, [NODE_1, NODE_2], [[(0, A)], [(0, B)]]),
    "k_1_keeps_a_later_edge_that_is_stronger": (
        TWO,
        1,
        [NODE_1, NODE_2[::-1]],
        [[(0, A)], [(1, B)]],
    ),
    "k_1_tie_of_edges_goes_to_the_lower_input": (
        TWO,
        1,
        [NODE_1, [[0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2]]],
        [[(0, A)], [(0, B)]],
    ),
    "an_edge_that_none_dominates_loses_to_a_weak_op": (
        TWO,
        1,
        # The best op of edge 0 has 0.2; that of edge 1 has 0.3 although `none` has less on edge 0.
        [NODE_1, [[0.2, 0.1, 0.1, 0.6], [0.3, 0.2, 0.25, 0.25]]],
        [[(0, A)], [(1, A)]],
    ),
    "an_edge_that_none_dominates_wins_by_its_other_op": (
        TWO,
        1,
        [NODE_1, [[0.01, 0.45, 0.0, 0.54], [0.4, 0.3, 0.2, 0.1]]],
        [[(0, A)], [(0, B)]],
    ),
    "k_2_of_three_edges_by_ascending_input": (
        SPACE,
        2,
        [NODE_1, NODE_2, [[0.3, 0.3, 0.2, 0.2], [0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.8, 0.2]]],
        [[(0, A)], [(0, B), (1, S)], [(1, A), (2, S)]],
    ),
    "k_2_tie_for_the_second_place_goes_to_the_lower_input": (
        SPACE,
        2,
        [NODE_1, NODE_2, [[0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2], [0.0, 0.0, 0.9, 0.1]]],
        [[(0, A)], [(0, B), (1, S)], [(0, B), (2, S)]],
    ),
    "k_2_tie_of_all_three_edges": (
        SPACE,
        2,
        [NODE_1, NODE_2, [[0.2, 0.2, 0.5, 0.1], [0.5, 0.2, 0.2, 0.1], [0.2, 0.5, 0.2, 0.1]]],
        [[(0, A)], [(0, B), (1, S)], [(0, S), (1, A)]],
    ),
    "k_3_keeps_all_edges_of_the_third_node": (
        SPACE,
        3,
        [NODE_1, NODE_2, [[0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2], [0.0, 0.0, 0.9, 0.1]]],
        [[(0, A)], [(0, B), (1, S)], [(0, B), (1, A), (2, S)]],
    ),
    "all_uniform": (
        SPACE,
        2,
        [np.full((j, 4), 0.25) for j in (1, 2, 3)],
        [[(0, A)], [(0, A), (1, A)], [(0, A), (1, A)]],
    ),
}


def logits_of(weights):
    """log p of one node; of p = 0 very little."""
    p = np.asarray(weights, np.float64)
    return np.log(np.where(p > 0, p, 1e-300))


@pytest.mark.parametrize("name", CASES)
def test_case_made_by_hand(name):
    space, top_k, weights, expected = CASES[name]
    z = np.concatenate([logits_of(p) for p in weights])
    genotype = discretize({"normal": z}, space, top_k)
    assert [list(node) for node in genotype.cells["normal"]] == expected
    assert genotype.top_k == top_k
    assert genotype.search_space == space.name


@given(
    space=st.sampled_from([CLASSIC, MICRO, SPACE]),
    top_k=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
    # Few different values force ties, among ops and among edges.
    levels=st.sampled_from([1, 2, 3, 5, None]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_discretization_is_algorithm_4(space, top_k, seed, levels, dtype):
    rng = np.random.default_rng(seed)
    ops = {cell_type: space.ops(cell_type) for cell_type in space.cell_types}
    logits = {}
    for cell_type in space.cell_types:
        shape = (num_edges(space.num_nodes), len(ops[cell_type]))
        z = rng.normal(size=shape) if levels is None else rng.integers(levels, size=shape) / 8
        logits[cell_type] = z.astype(dtype)
    genotype = discretize(logits, space, top_k, "last")
    assert genotype.cells == reference_discretize(logits, ops, top_k)
    assert (genotype.top_k, genotype.output_mode) == (top_k, "last")
    assert (genotype.num_normal, genotype.num_reduction) == (space.num_normal, space.num_reduction)


@given(space=st.sampled_from([CLASSIC, MICRO]), seed=st.integers(0, 2**32 - 1))
def test_weights_that_stand_out_give_their_genotype_back(space, seed):
    genotype = random_genotype(space, random.Random(seed))
    rng = np.random.default_rng(seed)
    logits = {}
    for cell_type in space.cell_types:
        ops = space.ops(cell_type)
        nodes = []
        for j, node in enumerate(genotype.cells[cell_type], start=1):
            # More than half of an edge is the kept op's, or that of `none`.
            strongest = [ops.index(dict(node).get(i, "none")) for i in range(j)]
            p = 0.4 * rng.dirichlet(np.ones(len(ops)), size=j)
            p[np.arange(j), strongest] += 0.6
            # A constant per edge changes no softmax.
            nodes.append(np.log(p) + 10 * rng.normal(size=(j, 1)))
        logits[cell_type] = np.concatenate(nodes)
    assert discretize(logits, space) == genotype


# --- α that has converged ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def supernet():
    return Supernet(MICRO, [4])


def discretized(supernet, beta, alpha):
    """The cell of α, given per node as [j, |O|]."""
    supernet.alpha.inverse_temperature.assign(beta)
    for variable, value in zip(supernet.alpha.logits["normal"], alpha):
        variable.assign(value)
    return supernet.discretize().cells["normal"]


@pytest.mark.parametrize("leads", [(0.9, 1.0, 1.2), (1.4, 1.5, 1.7), (1.8, 2.0, 2.5)])
def test_edges_whose_weights_are_all_1_in_float32_keep_their_order(supernet, leads):
    alpha = [np.zeros((j, 5), np.float32) for j in (1, 2, 3, 4)]
    alpha[2][:, 0] = leads
    cell = discretized(supernet, 10.0, alpha)
    assert cell[2] == ((1, "conv_3x3"), (2, "conv_3x3"))


def test_equal_edges_tie_in_whatever_order_their_ops_stand(supernet):
    # The same numbers, so the same p: only rounding in the sum could tell them apart.
    row = np.array([0.1, 0.7, -0.3, 0.2, 1.1], np.float32)
    alpha = [np.zeros((j, 5), np.float32) for j in (1, 2, 3, 4)]
    alpha[3][:] = [row[[2, 3, 0, 1, 4]], row[[1, 0, 2, 3, 4]], row, row[[3, 1, 2, 0, 4]]]
    cell = discretized(supernet, 7.0, alpha)
    assert cell[3] == ((0, "skip_connect"), (1, "conv_3x3"))


@pytest.mark.parametrize("convert", [np.asarray, tf.constant, lambda node: node.tolist()])
def test_a_list_of_nodes_is_refused_in_a_line_that_says_what_to_do(convert):
    for space in (SPACE, ONE):
        nodes = [np.full((j, 4), 0.25) for j in range(1, space.num_nodes + 1)]
        for logits in (list(map(convert, nodes)), tuple(map(convert, nodes))):
            with pytest.raises(ConfigError, match=r"row per edge.*np\.concatenate") as raised:
                discretize({"normal": logits}, space)
            assert "'normal'" in str(raised.value) and "\n" not in str(raised.value)
        assert discretize({"normal": np.concatenate(nodes)}, space)
        # Rows in a list are an array.
        assert discretize({"normal": list(map(convert, np.concatenate(nodes)))}, space)


def alpha_of_a_search(rng, kind, scale):
    """α up to ±1000, float32, per node [j, 5]."""
    nodes = []
    for j in (1, 2, 3, 4):
        if kind == "random":
            alpha = scale * rng.normal(size=(j, 5))
        elif kind == "few values":
            alpha = scale * rng.integers(-2, 3, size=(j, 5))
        else:  # converged: one op leads, on every edge by nearly the same
            alpha = 0.01 * rng.normal(size=(j, 5))
            alpha[np.arange(j), rng.integers(5, size=j)] += scale
        nodes.append(np.clip(alpha, -1000, 1000).astype(np.float32))
    return nodes


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["random", "few values", "converged"]),
    scale=st.sampled_from([1e-6, 0.1, 1.0, 3.0, 10.0, 300.0, 1000.0]),
    beta=st.sampled_from([1.0, 5.0, 10.0]) | st.floats(1, 50, width=32),
)
def test_a_cell_is_that_of_exact_arithmetic(supernet, seed, kind, scale, beta):
    alpha = alpha_of_a_search(np.random.default_rng(seed), kind, scale)
    cell = discretized(supernet, beta, alpha)
    ops = MICRO.ops("normal")
    for node, kept in zip(alpha, cell):
        z = [[Fraction(float(beta)) * Fraction(float(a)) for a in row] for row in node]
        # The nodes before it do not matter.
        before = [z[0]] * sum(range(len(z)))
        expected = reference_discretize({"normal": before + z}, {"normal": ops}, 2)["normal"][-1]
        odds = dict(enumerate(exact_odds(row, ops) for row in z))
        assert all(op == odds[i][0] for i, op in kept)
        # Float64 has some 15 digits of a lead, which is up to 10^5 here. Edges that differ by less
        # may stand in either order; those that do not differ at all may not.
        for i, _ in set(kept) - set(expected):
            for other, _ in set(expected) - set(kept):
                assert odds[i][1] < odds[other][1] < odds[i][1] * (1 + Decimal("1e-10"))


def test_top_k_is_that_of_the_space_by_default():
    assert discretize({"normal": np.zeros((6, 4))}, SPACE).top_k == 2


def test_bad_logits_are_named_in_one_line():
    good = np.full((6, 4), 0.25)
    nan, infinite = good.copy(), good.copy()
    nan[2, 1], infinite[3:, 0] = np.nan, np.inf
    for logits, name in (
        ({}, "'normal'"),
        ({"normal": good[:3]}, r"logits\['normal'\]: shape must be \(6, 4\).* 3 nodes.*\(3, 4\)"),
        ({"normal": good[:, :3]}, r"logits\['normal'\]: shape must be \(6, 4\).*\(6, 3\)"),
        ({"normal": good[0]}, r"shape must be \(6, 4\).*\(4,\)"),
        ({"normal": 3}, r"shape must be \(6, 4\).*\(\)"),
        ({"normal": nan}, r"not finite at edge \(1, 2\)"),
        ({"normal": infinite}, r"not finite at edge \(0, 3\)"),
        ({"normal": [["x"] * 4] * 6}, r"\['normal'\]: not an array of numbers"),
        ({"normal": [[1, 2, 3, 4], [1]]}, r"\['normal'\]: not an array"),
    ):
        with pytest.raises(ConfigError, match=name) as raised:
            discretize(logits, SPACE)
        assert "\n" not in str(raised.value)
    for top_k in (0, -1, True, "2", 1.5):
        with pytest.raises(GenotypeError, match="top_k"):
            discretize({"normal": good}, SPACE, top_k)


# --- strengths, caps and thresholds -------------------------------------------------------------

# Rows: edges (0, 1), (0, 2), (1, 2); columns: conv_3x3, relu, skip_connect, none.
STRENGTHS = {"normal": [[0.3, 0.2, 0.5, 9.0], [0.2, 0.1, 0.6, 9.0], [0.1, 0.4, 0.9, 9.0]]}


@pytest.mark.parametrize(
    ("caps", "expected"),
    [
        ({}, [[(0, S)], [(0, S), (1, S)]]),
        # The weakest skips go first: those of the edges (0, 1), then (0, 2).
        ({"max_skips": Cap(frozenset([S]), 2)}, [[(0, A)], [(0, S), (1, S)]]),
        ({"max_skips": Cap(frozenset([S]), 1)}, [[(0, A)], [(0, A), (1, S)]]),
        ({"max_skips": Cap(frozenset([S]), 0)}, [[(0, A)], [(0, A), (1, B)]]),
        ({"max_parameter_free": Cap(frozenset([B, S]), 0)}, [[(0, A)], [(0, A), (1, A)]]),
    ],
)
def test_the_weakest_capped_ops_give_way(caps, expected):
    found = discretize_strengths(STRENGTHS, TWO, caps=caps)
    assert found.cells["normal"] == tuple(map(tuple, expected))
    # With logits too, where all edges are ranked by log-odds.
    logits = {"normal": np.where(np.eye(4)[3], -9.0, STRENGTHS["normal"])}
    counted = discretize(logits, TWO, caps=caps).cells["normal"]
    for cap in caps.values():
        assert sum(op in cap.ops for node in counted for _, op in node) <= cap.most


def test_an_edge_that_gave_way_is_ranked_by_its_new_op():
    strengths = {"normal": [[0.3, 0, 0, 0], [0.2, 0, 0.9, 0], [0.5, 0, 0, 0]]}
    assert discretize_strengths(strengths, TWO, top_k=1).cells["normal"][1] == ((0, S),)
    capped = {"max_skips": Cap(frozenset([S]), 0)}
    found = discretize_strengths(strengths, TWO, top_k=1, caps=capped)
    assert found.cells["normal"][1] == ((1, A),)


@pytest.mark.parametrize(("threshold", "top_k"), [(0.7, 1), (0.55, 2), (0.95, 1)])
def test_a_threshold_sets_k_so_that_no_stronger_edge_is_lost(threshold, top_k):
    assert discretize_strengths(STRENGTHS, TWO, threshold=threshold).top_k == top_k
    p = np.array([[0.1, 0.2, 0.6, 0.1], [0.1, 0.6, 0.2, 0.1], [0.1, 0.1, 0.72, 0.08]])
    assert discretize({"normal": np.log(p)}, TWO, threshold=threshold).top_k == top_k


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caps": {"a": Cap(frozenset([A, B, S]), 1)}}, "a: all ops of normal cells"),
        ({"caps": {"max_skips": Cap(frozenset([S]), -1)}}, "max_skips must be an integer of at"),
        ({"threshold": 0.5, "top_k": 1}, "threshold: decides about K"),
        ({"threshold": 1.5}, "threshold must be a weight between 0 and 1"),
    ],
)
def test_limits_that_make_no_cell_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        discretize({"normal": np.zeros((3, 4))}, TWO, **options)


def test_caps_count_every_op_that_has_no_weights():
    caps = make_caps(MICRO, max_skips=1, max_parameter_free=2)
    assert caps == {
        "max_skips": (frozenset([S]), 1),
        "max_parameter_free": (frozenset(["relu", "tanh", S]), 2),
    }
    assert make_caps(CLASSIC) == {}


def test_an_op_is_made_once_to_tell_whether_it_has_weights(monkeypatch):
    made = []

    def factory(filters, stride):
        made.append(tf.keras.layers.Conv2D(filters, 1, strides=stride))
        return made[-1]

    monkeypatch.setitem(ops._REGISTRY, "test_counted", factory)
    assert {parameter_free(["test_counted", S]) for _ in range(3)} == {frozenset([S])}
    assert len(made) == 1
    # Another op of that name is asked again.
    monkeypatch.setitem(ops._REGISTRY, "test_counted", lambda *_: tf.keras.layers.ReLU())
    assert parameter_free(["test_counted"]) == {"test_counted"}


def test_caps_of_a_search_hold_unless_others_are_given():
    search = SearchSettings(max_skips=1)
    assert caps_of(search, MICRO) == make_caps(MICRO, max_skips=1)
    assert caps_of(search, MICRO, 0, 3) == make_caps(MICRO, max_skips=0, max_parameter_free=3)


def test_a_supernet_reads_its_cell_off_within_the_caps_of_its_search():
    supernet = Supernet("micro", [2], features=2, search={"max_parameter_free": 3})
    for node in supernet.alpha.logits["normal"]:
        node.assign(np.broadcast_to([op == S for op in MICRO.ops("normal")], node.shape) * 1.0)
    found = [op for node in supernet.discretize().cells["normal"] for _, op in node]
    assert (found.count(S), found.count("conv_3x3")) == (3, 4)
    assert {op for node in supernet.discretize(capped=False).cells["normal"] for _, op in node} == {
        S
    }
    bare = SearchSpace("test_no_weights", ["relu", "tanh"])
    with pytest.raises(ConfigError, match=r"max_parameter_free.*nothing could take their place"):
        Supernet(bare, [2], features=2, search={"max_parameter_free": 0})
