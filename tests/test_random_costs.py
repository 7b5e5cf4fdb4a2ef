"""Random cells of every cost."""

from __future__ import annotations

import dataclasses
import itertools
import random

import gin
import numpy as np
import pytest

pytest.importorskip("gin")

from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.layer_space import A2D, LayerSpace
from rldarts_tf.search_space import SearchSpace
from rldarts_tf.studies.loading import load_study
from rldarts_tf.studies.plans.costs import (
    drawn_over_costs,
    op_weights,
    price_of,
    van_der_corput,
)
from rldarts_tf.studies.plans.making import TrialMaker, costs_of, search_space_of

CELLS = SearchSpace("priced_cells", ("conv_3x3", "relu"), ("conv_3x3",), num_reduction=1)
CHAIN = LayerSpace("priced_chain", A2D.layer_ops)
SMALL = SearchSpace("priced_small", ("conv_3x3",), num_nodes=2, top_k=1)


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def made_up(space, seed=0):
    """Costs of the ops, of which none has the least: it must not matter."""
    rng = np.random.default_rng(seed)
    tables = {
        t: rng.uniform(1, 100, (len(space.edges), len(space.ops(t)))) for t in space.cell_types
    }
    for t, table in tables.items():
        table[:, [op == "none" for op in space.ops(t)]] = 0
    return tables


def cost(space, costs, genotype):
    return sum(
        costs[t][space.edges.index((i, j)), space.ops(t).index(op)]
        for t, cell in genotype.cells.items()
        for j, node in enumerate(cell, start=1)
        for i, op in node
    )


def test_the_sequence_is_van_der_corputs():
    assert [van_der_corput(n) for n in range(1, 8)] == [
        1 / 2,
        1 / 4,
        3 / 4,
        1 / 8,
        5 / 8,
        3 / 8,
        7 / 8,
    ]


@pytest.mark.parametrize("space", [CELLS, CHAIN], ids=["cells", "chain"])
def test_the_mean_cost_of_draws_at_a_price_is_the_share_that_was_asked_for(space):
    costs, rng = made_up(space), random.Random(0)

    def ends(t, row):
        _, j = space.edges[row]
        kept = [c for c, op in zip(costs[t][row], space.ops(t)) if op != "none"]
        share = min(1, space.top_k / len(space.sources(j)))
        return np.array([min(kept), max(kept)]) * share

    least, most = sum(ends(t, row) for t in costs for row in range(len(space.edges)))
    for share in (0.02, 0.3, 0.5, 0.9):
        weights = op_weights(space, costs, price_of(space, costs, share))
        drawn = [
            cost(space, costs, random_genotype(space, rng, op_weights=weights)) for _ in range(1500)
        ]
        error = np.std(drawn) / np.sqrt(len(drawn))
        expected = least + share * (most - least)
        assert np.mean(drawn) == pytest.approx(expected, abs=5 * error), share


def test_without_a_price_all_ops_are_as_likely_and_none_is_never_drawn():
    weights = op_weights(CELLS, made_up(CELLS), 0.0)
    assert {tuple(row) for row in weights["normal"]} == {(1 / 3, 1 / 3, 1 / 3, 0.0)}
    ops = {
        op
        for _ in range(50)
        for node in random_genotype(CELLS, random.Random(_), op_weights=weights).cells["normal"]
        for _, op in node
    }
    assert ops == {"conv_3x3", "relu", "skip_connect"}


def test_an_op_without_weight_is_not_drawn_and_that_of_none_is_not_used():
    weights = {t: [[0.0, 1.0, 0.0, 9.0]] * 10 for t in CELLS.cell_types}
    weights["reduction"] = [[0.0, 1.0, 9.0]] * 10
    genotype = random_genotype(CELLS, 3, op_weights=weights)
    assert {op for node in genotype.cells["normal"] for _, op in node} == {"relu"}
    assert {op for node in genotype.cells["reduction"] for _, op in node} == {"skip_connect"}


def test_a_chain_of_many_layers_is_drawn_over_more_costs_than_by_uniform_draws():
    costs = made_up(CHAIN, 1)
    draws = drawn_over_costs(CHAIN, costs, random.Random(0), "concat")
    spread = [cost(CHAIN, costs, genotype) for genotype in itertools.islice(draws, 15)]
    rng = random.Random(0)
    uniform = [cost(CHAIN, costs, random_genotype(CHAIN, rng)) for _ in range(15)]
    assert np.ptp(spread) > 2 * np.ptp(uniform)
    targets = [van_der_corput(n) for n in range(1, 16)]
    assert np.corrcoef(spread, targets)[0, 1] > 0.97


@pytest.mark.parametrize("equal", [False, True], ids=["", "all cost the same"])
def test_every_cell_there_is_can_be_drawn_and_none_twice(equal):
    costs = made_up(SMALL)
    if equal:
        costs = {t: np.ones_like(table) for t, table in costs.items()}
    draws = drawn_over_costs(SMALL, costs, random.Random(0), "concat")
    assert len({*itertools.islice(draws, SMALL.size())}) == SMALL.size()


def test_a_study_with_more_of_them_has_the_first_of_one_with_fewer(tmp_path):
    settings = load_study(["studies/pareto.gin"])
    assert settings.random_costs
    settings = dataclasses.replace(settings, random_cells=3)
    few, more = (
        TrialMaker(dataclasses.replace(settings, random_cells=n), tmp_path / str(n)) for n in (3, 7)
    )
    cells = [
        Genotype.load(maker.paths.root / maker.random_cell(i))
        for maker, n in ((few, 3), (more, 7))
        for i in range(n)
    ]
    assert cells[:3] == cells[3:6] and len({*cells[3:]}) == 7
    # Multiply-adds of its own ops: a larger kernel costs more, and what skips a layer nothing.
    space, _ = search_space_of(settings)
    costs = costs_of(settings)
    (cell_type,) = space.cell_types
    of_op = dict(zip(space.ops(cell_type), costs[cell_type][1]))
    assert (
        of_op["skip_connect"]
        < of_op["inv_res_3x3_e1"]
        < of_op["inv_res_5x5_e1"]
        < of_op["inv_res_5x5_e3"]
    )
    priced = [cost(space, costs, genotype) for genotype in cells[3:]]
    # 1/2, 1/4, 3/4, 1/8, 5/8, 3/8, 7/8 of the way.
    assert priced[3] < priced[1] < priced[0] < priced[2] < priced[6]
