"""Discretization (Algorithm 4): a table of cases made by hand, and a slow reference."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import reference_discretize

from rldarts_tf.discretization import discretize
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.search_space import CLASSIC, MICRO, SearchSpace, register_search_space

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
    # name: (space, K, weights per node, expected cell)
    "the_strongest_op_of_the_only_edge": (ONE, 1, [[[0.1, 0.2, 0.4, 0.3]]], [[(0, S)]]),
    "none_is_strongest_but_never_kept": (ONE, 1, [[[0.1, 0.2, 0.1, 0.6]]], [[(0, B)]]),
    "none_is_all_there_is": (ONE, 1, [[[0.0, 0.0, 0.0, 1.0]]], [[(0, A)]]),
    "tie_of_ops_goes_to_the_first_of_the_space": (
        ONE,
        1,
        [[[0.1, 0.4, 0.4, 0.1]]],
        [[(0, B)]],
    ),
    "k_larger_than_the_number_of_inputs": (
        TWO,
        5,
        [NODE_1, NODE_2],
        [[(0, A)], [(0, B), (1, S)]],
    ),
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
        [
            NODE_1,
            NODE_2,
            [[0.3, 0.3, 0.2, 0.2], [0.9, 0.1, 0.0, 0.0], [0.0, 0.0, 0.8, 0.2]],
        ],
        [[(0, A)], [(0, B), (1, S)], [(1, A), (2, S)]],
    ),
    "k_2_tie_for_the_second_place_goes_to_the_lower_input": (
        SPACE,
        2,
        [
            NODE_1,
            NODE_2,
            [[0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2], [0.0, 0.0, 0.9, 0.1]],
        ],
        [[(0, A)], [(0, B), (1, S)], [(0, B), (2, S)]],
    ),
    "k_2_tie_of_all_three_edges": (
        SPACE,
        2,
        [
            NODE_1,
            NODE_2,
            [[0.2, 0.2, 0.5, 0.1], [0.5, 0.2, 0.2, 0.1], [0.2, 0.5, 0.2, 0.1]],
        ],
        [[(0, A)], [(0, B), (1, S)], [(0, S), (1, A)]],
    ),
    "k_3_keeps_all_edges_of_the_third_node": (
        SPACE,
        3,
        [
            NODE_1,
            NODE_2,
            [[0.1, 0.5, 0.2, 0.2], [0.5, 0.1, 0.2, 0.2], [0.0, 0.0, 0.9, 0.1]],
        ],
        [[(0, A)], [(0, B), (1, S)], [(0, B), (1, A), (2, S)]],
    ),
    "all_uniform": (
        SPACE,
        2,
        [np.full((j, 4), 0.25) for j in (1, 2, 3)],
        [[(0, A)], [(0, A), (1, A)], [(0, A), (1, A)]],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_case_made_by_hand(name):
    space, top_k, weights, expected = CASES[name]
    genotype = discretize({"normal": weights}, space, top_k)
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
    weights = {}
    for cell_type in space.cell_types:
        weights[cell_type] = []
        for j in range(1, space.num_nodes + 1):
            shape = (j, len(ops[cell_type]))
            p = rng.random(shape) if levels is None else rng.integers(levels, size=shape) / 8
            weights[cell_type].append(p.astype(dtype))
    genotype = discretize(weights, space, top_k, "last")
    assert genotype.cells == reference_discretize(weights, ops, top_k)
    assert (genotype.top_k, genotype.output_mode) == (top_k, "last")
    assert (genotype.num_normal, genotype.num_reduction) == (
        space.num_normal,
        space.num_reduction,
    )


@given(space=st.sampled_from([CLASSIC, MICRO]), seed=st.integers(0, 2**32 - 1))
def test_weights_that_stand_out_give_their_genotype_back(space, seed):
    genotype = random_genotype(space, random.Random(seed))
    rng = np.random.default_rng(seed)
    weights = {}
    for cell_type in space.cell_types:
        ops = space.ops(cell_type)
        weights[cell_type] = []
        for j, node in enumerate(genotype.cells[cell_type], start=1):
            p = 0.4 * rng.random((j, len(ops)))
            p[:, ops.index("none")] = rng.random(j)
            for i, op in node:
                p[i, ops.index(op)] = 0.5 + 0.5 * rng.random()
            weights[cell_type].append(p)
    assert discretize(weights, space) == genotype


def test_top_k_is_that_of_the_space_by_default():
    weights = {"normal": [np.full((j, 4), 0.25) for j in (1, 2, 3)]}
    assert discretize(weights, SPACE).top_k == 2


def test_bad_weights_are_named_in_one_line():
    good = [np.full((j, 4), 0.25) for j in (1, 2, 3)]
    for weights, name in (
        ({}, "'normal'"),
        ({"normal": good[:2]}, r"op_weights\['normal'\]: must have 3 nodes"),
        ({"normal": [*good, good[0]]}, r"op_weights\['normal'\]: must have 3 nodes"),
        ({"normal": [good[0], good[0], good[2]]}, r"\[1\]: shape must be \(2, 4\)"),
        ({"normal": [good[0], good[1] * np.nan, good[2]]}, r"\[1\]: not finite"),
        ({"normal": [good[0], good[1], good[2] * np.inf]}, r"\[2\]: not finite"),
        ({"normal": [[["x"] * 4], *good[1:]]}, r"\[0\]: not an array of numbers"),
        ({"normal": [good[0], [[1, 2, 3, 4], [1]], good[2]]}, r"\[1\]: not an array"),
    ):
        with pytest.raises(ConfigError, match=name) as raised:
            discretize(weights, SPACE)
        assert "\n" not in str(raised.value)
    for top_k in (0, -1, True, "2", 1.5):
        with pytest.raises(GenotypeError, match="top_k"):
            discretize({"normal": good}, SPACE, top_k)
