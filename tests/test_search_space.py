"""Search spaces: their fields, their sizes, and uniform draws from them."""

from __future__ import annotations

import collections
import dataclasses
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import enumerate_cells

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.search_space import (
    CLASSIC,
    CLASSIC_NO_RELU,
    MICRO,
    MICRO_PISAC,
    MICRO_SAC,
    SearchSpace,
    edge_row,
    edges,
    get_search_space,
    num_edges,
    num_nodes_of,
    register_search_space,
)


def test_named_spaces_are_those_of_the_paper():
    assert CLASSIC.ops("normal") == (
        "conv_3x3_relu",
        "conv_5x5_relu",
        "dil_conv_3x3_relu",
        "dil_conv_5x5_relu",
        "skip_connect",
        "none",
    )
    assert CLASSIC.ops("reduction") == (
        "conv_3x3",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "none",
    )
    assert CLASSIC_NO_RELU.ops("normal")[:4] == (
        "conv_3x3",
        "conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    assert CLASSIC_NO_RELU.ops("reduction") == CLASSIC.ops("reduction")
    assert MICRO.ops("normal") == ("conv_3x3", "relu", "tanh", "skip_connect", "none")
    assert MICRO_SAC.ops("normal") == MICRO.ops("normal")
    # N, R, I, K
    macro = {
        space.name: (space.num_normal, space.num_reduction, space.num_nodes, space.top_k)
        for space in (CLASSIC, CLASSIC_NO_RELU, MICRO, MICRO_PISAC, MICRO_SAC)
    }
    assert macro == {
        "classic": (1, 1, 4, 2),
        "classic_no_relu": (1, 1, 4, 2),
        "micro": (2, 0, 4, 2),
        "micro_pisac": (3, 0, 4, 1),
        "micro_sac": (3, 0, 4, 1),
    }


def test_stem_that_is_unknown_is_named():
    with pytest.raises(
        ConfigError, match=r"^SearchSpace.stem must be one of impala, pisac, none, got"
    ):
        SearchSpace("counted", ["relu"], stem="resnet")


def test_spaces_for_sac_differ_in_their_stem_alone():
    assert (MICRO_PISAC.stem, MICRO_SAC.stem, MICRO.stem) == ("pisac", "impala", "impala")
    assert dataclasses.replace(MICRO_PISAC, name="micro_sac", stem="impala") == MICRO_SAC


def test_size_of_classic_is_the_published_number():
    # Appendix G.1 counts from node 2 on and lets Onz^K stand for nodes with K inputs; node 1 has
    # one input and Onz choices, which is the factor 5 (4) beside its product.
    assert CLASSIC.size("normal") == 1_406_250
    assert CLASSIC.size("reduction") == 294_912
    assert CLASSIC.size() == 1_406_250 * 294_912 == 414_720_000_000
    assert CLASSIC_NO_RELU.size() == CLASSIC.size()


def _space(num_ops: int, num_nodes: int, top_k: int) -> SearchSpace:
    return SearchSpace(
        "counted", [f"op_{i}" for i in range(num_ops)], num_nodes=num_nodes, top_k=top_k
    )


@pytest.mark.parametrize("num_nodes,num_ops", [(1, 3), (2, 2), (3, 1), (3, 2), (4, 1)])
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_size_is_the_number_of_cells_that_exist(num_ops, num_nodes, top_k):
    space = _space(num_ops, num_nodes, top_k)
    cells = enumerate_cells(space.ops("normal"), num_nodes, top_k)
    assert len(set(cells)) == len(cells)
    assert space.size() == len(cells)


def test_size_of_two_cell_types_is_the_product():
    space = SearchSpace("two", ["a"], ["b", "c"], num_reduction=1, num_nodes=2, top_k=1)
    assert space.size("normal") == len(enumerate_cells(space.ops("normal"), 2, 1)) == 8
    assert space.size("reduction") == len(enumerate_cells(space.ops("reduction"), 2, 1)) == 18
    assert space.size() == 8 * 18


TINY = register_search_space(
    SearchSpace("test_tiny", ["relu"], ["conv_3x3"], num_reduction=1, num_nodes=2, top_k=1)
)
TINY_NODES = register_search_space(SearchSpace("test_tiny_nodes", ["relu"], num_nodes=3, top_k=2))


@pytest.mark.parametrize("space", [TINY, TINY_NODES], ids=lambda space: space.name)
def test_random_genotypes_cover_a_small_space_uniformly(space):
    everything = {()}
    for cell_type in space.cell_types:
        cells = enumerate_cells(space.ops(cell_type), space.num_nodes, space.top_k)
        everything = {(*drawn, cell) for drawn in everything for cell in cells}
    size = space.size()
    assert len(everything) == size
    per_cell = 100
    rng = random.Random(0)
    counts = collections.Counter(
        tuple(random_genotype(space, rng).cells[cell_type] for cell_type in space.cell_types)
        for _ in range(per_cell * size)
    )
    assert set(counts) == everything
    chi_square = sum((count - per_cell) ** 2 / per_cell for count in counts.values())
    # Chi-square of size - 1 degrees of freedom: mean size - 1, variance twice that.
    assert abs(chi_square - (size - 1)) < 4 * math.sqrt(2 * (size - 1))


def test_random_genotypes_repeat_with_their_seed():
    drawn = [random_genotype(CLASSIC, random.Random(7)) for _ in range(2)]
    assert drawn[0] == drawn[1] != random_genotype(CLASSIC, random.Random(8))
    assert random_genotype(CLASSIC) != random_genotype(CLASSIC)


@pytest.mark.parametrize(
    "source",
    [
        random.Random,
        np.random.default_rng,
        lambda seed: np.random.Generator(np.random.MT19937(seed)),
    ],
    ids=["random", "numpy", "numpy_mt"],
)
def test_a_generator_is_advanced_and_gives_the_same_cells_again(source):
    def draw(seed):
        rng = source(seed)
        return [random_genotype(CLASSIC, rng) for _ in range(20)]

    drawn = draw(7)
    assert drawn == draw(7) != draw(8)
    assert len(set(drawn)) == 20


def test_a_seed_is_that_of_a_new_generator():
    expected = random_genotype(CLASSIC, random.Random(7))
    for seed in (7, np.int64(7), np.uint8(7)):
        assert random_genotype(CLASSIC, seed) == expected
    assert random_genotype(CLASSIC, 0) == random_genotype(CLASSIC, random.Random(0))


@pytest.mark.parametrize(
    "rng", [True, 1.0, "7", -1, np.int64(-7), [7], np.arange(2), np.random.RandomState(0), random]
)
def test_what_is_no_source_of_randomness_is_refused(rng):
    with pytest.raises(ConfigError, match=r"rng must be .*got") as raised:
        random_genotype(CLASSIC, rng)
    assert "\n" not in str(raised.value)


def test_random_genotype_has_the_macro_structure_of_its_space():
    genotype = random_genotype(MICRO_SAC, random.Random(0), output_mode="last")
    assert genotype.search_space == "micro_sac"
    assert (genotype.num_normal, genotype.num_reduction) == (3, 0)
    assert (genotype.num_nodes, genotype.top_k, genotype.output_mode) == (4, 1, "last")
    assert [len(node) for node in genotype.cells["normal"]] == [1, 1, 1, 1]


op_names = st.text(min_size=1, max_size=5).filter(lambda op: op not in ("none", "skip_connect"))


@given(
    normal=st.lists(op_names, min_size=1, max_size=4, unique=True),
    reduction=st.lists(op_names, min_size=1, max_size=4, unique=True),
    counts=st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 5), st.integers(1, 5)),
)
def test_config_of_a_space_makes_an_equal_one(normal, reduction, counts):
    num_normal, num_reduction, num_nodes, top_k = counts
    if num_normal + num_reduction == 0:
        num_normal = 1
    space = SearchSpace("x", normal, reduction, num_normal, num_reduction, num_nodes, top_k)
    assert SearchSpace.from_config(space.to_config()) == space
    assert hash(SearchSpace.from_config(space.to_config())) == hash(space)


def test_a_config_is_read_strictly_and_may_lack_what_has_a_default():
    config = MICRO.to_config()
    del config["reduction_ops"], config["top_k"]
    assert SearchSpace.from_config(config) == MICRO
    with pytest.raises(ConfigError, match="no field 'colour'"):
        SearchSpace.from_config({**config, "colour": "red"})
    with pytest.raises(ConfigError, match=r"SearchSpace\.normal_ops is missing"):
        SearchSpace.from_config({"name": "x"})


@pytest.mark.parametrize(
    "changes,field",
    [
        ({"name": ""}, "name"),
        ({"name": 3}, "name"),
        ({"num_normal": -1}, "num_normal"),
        ({"num_normal": True}, "num_normal"),
        ({"num_reduction": 1.0}, "num_reduction"),
        ({"num_nodes": 0}, "num_nodes"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": "2"}, "top_k"),
        ({"num_normal": 0, "num_reduction": 0}, "num_normal"),
        ({"normal_ops": ()}, "normal_ops"),
        ({"normal_ops": "relu"}, "normal_ops"),
        ({"normal_ops": None}, "normal_ops"),
        ({"normal_ops": (1, 2)}, "normal_ops"),
        ({"normal_ops": ("relu", "relu")}, "normal_ops"),
        ({"normal_ops": ("none",)}, "none"),
        ({"normal_ops": ("skip_connect",)}, "skip_connect"),
        ({"reduction_ops": ()}, "reduction_ops"),
    ],
)
def test_bad_fields_of_a_space_are_named(changes, field):
    with pytest.raises(ConfigError, match=field) as raised:
        dataclasses.replace(CLASSIC, **changes)
    assert "\n" not in str(raised.value)


def test_spaces_are_found_by_name_and_names_are_taken_once():
    assert get_search_space("classic") is CLASSIC
    assert register_search_space(dataclasses.replace(CLASSIC)) == CLASSIC
    with pytest.raises(ConfigError, match="'classic'"):
        register_search_space(dataclasses.replace(CLASSIC, top_k=1))
    for name in ("no_such_space", None, ["classic"]):
        with pytest.raises(ConfigError, match=r"known: .*classic.*micro"):
            get_search_space(name)
    with pytest.raises(ConfigError, match="no 'reduction' cells"):
        MICRO.ops("reduction")


def test_rows_of_edges_are_ordered_by_node_then_by_input():
    assert edges(3) == [(0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
    for count in range(1, 12):
        assert [edge_row(i, j) for i, j in edges(count)] == list(range(num_edges(count)))
        assert num_nodes_of(num_edges(count)) == count
    assert [num_nodes_of(count) for count in range(8)] == [0, 1, 0, 2, 0, 0, 3, 0]
