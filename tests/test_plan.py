"""Plans of cells: every edge once, computed with its like, and found again."""

from __future__ import annotations

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldarts_tf.genotype import dense_topology
from rldarts_tf.kernels.plan import FanOut, Kind, find_edge, make_plan, targets_by_op

KINDS = {
    "conv_3x3": Kind.CONVOLUTION,
    "conv_5x5": Kind.CONVOLUTION,
    "relu": Kind.PARAMETER_FREE,
    "skip_connect": Kind.PARAMETER_FREE,
    "sep_conv_3x3": Kind.LAYER,
    "my_op": Kind.LAYER,
}


@st.composite
def topologies(draw):
    """Per node 1..I some edges (i, op), each once, in any order."""
    nodes = []
    for j in range(1, draw(st.integers(1, 5)) + 1):
        edges = st.tuples(st.integers(0, j - 1), st.sampled_from([*KINDS]))
        nodes.append(tuple(draw(st.lists(edges, min_size=1, max_size=8, unique=True))))
    return tuple(nodes)


def edges_of(topology):
    return [(i, j, op) for j, node in enumerate(topology, start=1) for i, op in node]


def plan_of(topology):
    return make_plan(topology, {(i, op): KINDS[op] for i, op in targets_by_op(topology)})


def edges_by_address(plan):
    return {
        (f, o, t): (fan_out.source, target, op)
        for f, fan_out in enumerate(plan)
        for o, op in enumerate(fan_out.ops)
        for t, target in enumerate(fan_out.targets)
    }


@given(topologies())
def test_every_edge_is_in_exactly_one_fan_out(topology):
    planned = edges_by_address(plan_of(topology)).values()
    assert collections.Counter(planned) == collections.Counter(edges_of(topology))


@given(topologies())
def test_address_of_an_edge_leads_to_that_edge(topology):
    plan = plan_of(topology)
    for address, edge in edges_by_address(plan).items():
        assert find_edge(plan, *edge) == address


@given(topologies())
def test_fan_out_is_of_one_kind_and_all_its_like(topology):
    plan = plan_of(topology)
    for fan_out in plan:
        assert {KINDS[op] for op in fan_out.ops} == {fan_out.kind}
        assert fan_out.kind is not Kind.LAYER or len(fan_out.ops) == 1
    banked = [(f.source, f.kind, f.targets) for f in plan if f.kind is not Kind.LAYER]
    assert len(banked) == len(set(banked))
    assert [(f.source, f.kind) for f in plan] == sorted((f.source, f.kind) for f in plan)


def test_supernet_cell_has_a_fan_out_per_node_and_kind():
    plan = plan_of(dense_topology(("conv_3x3", "relu", "conv_5x5", "skip_connect", "none"), 2))
    assert plan == (
        FanOut(0, Kind.PARAMETER_FREE, ("relu", "skip_connect"), (1, 2)),
        FanOut(0, Kind.CONVOLUTION, ("conv_3x3", "conv_5x5"), (1, 2)),
        FanOut(1, Kind.PARAMETER_FREE, ("relu", "skip_connect"), (2,)),
        FanOut(1, Kind.CONVOLUTION, ("conv_3x3", "conv_5x5"), (2,)),
    )


def test_ops_with_other_targets_and_layers_have_fan_outs_of_their_own():
    topology = (((0, "conv_5x5"), (0, "my_op")), ((0, "conv_3x3"), (0, "sep_conv_3x3")))
    assert plan_of(topology) == (
        FanOut(0, Kind.LAYER, ("my_op",), (1,)),
        FanOut(0, Kind.LAYER, ("sep_conv_3x3",), (2,)),
        FanOut(0, Kind.CONVOLUTION, ("conv_5x5",), (1,)),
        FanOut(0, Kind.CONVOLUTION, ("conv_3x3",), (2,)),
    )


def test_op_may_be_of_another_kind_where_it_leaves_another_node():
    topology = (((0, "my_op"),), ((1, "my_op"),))
    plan = make_plan(topology, {(0, "my_op"): Kind.CONVOLUTION, (1, "my_op"): Kind.LAYER})
    assert [fan_out.kind for fan_out in plan] == [Kind.CONVOLUTION, Kind.LAYER]


def test_places_of_op_weights_are_the_rows_of_edges_and_the_columns_of_ops():
    fan_out = FanOut(1, Kind.CONVOLUTION, ("b", "a"), (2, 4))
    # Rows: (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3), (0, 4), (1, 4), ...
    assert fan_out.places(("a", "none", "b")) == [[(2, 2), (7, 2)], [(2, 0), (7, 0)]]


@pytest.mark.parametrize("edge", [(0, 2, "relu"), (0, 1, "conv_3x3"), (1, 2, "conv_5x5")])
def test_edge_that_the_plan_lacks_is_named(edge):
    plan = plan_of((((0, "relu"),), ((1, "relu"), (0, "conv_5x5"))))
    with pytest.raises(KeyError, match=edge[2]):
        find_edge(plan, *edge)
