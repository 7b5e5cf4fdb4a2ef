"""Discretization by perturbation: the order of questions, the masks, episodes, resuming."""

from __future__ import annotations

import csv
import dataclasses
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.discretization import Cap
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.perturbation import decisions, inherited
from rldarts_tf.perturbation.decisions import Decision, Question, decide
from rldarts_tf.perturbation.inherited import evolution, mutated, one_hot, random_cells
from rldarts_tf.perturbation.log import DecisionLog
from rldarts_tf.perturbation.selection import Selection
from rldarts_tf.search_space import CLASSIC, MICRO, NONE, SKIP_CONNECT, SearchSpace, edge_row, edges

SMALL = SearchSpace("perturbed", ("conv_3x3", "relu"), num_nodes=3, top_k=1)


def answer(selection, value):
    """Answers all questions; returns the decisions and the number of evaluations.

    Args:
      value: weights by cell type -> float [samples].
    """
    made, evaluations = [], 0
    while (question := selection.question()) is not None:
        assert NONE not in [op for _, op in question.candidates]
        values = []
        if len(question.candidates) > 1:
            values = [
                value(selection.weights(question, i)) for i in range(len(question.candidates))
            ]
        evaluations += len(values)
        made.append(decide(question, values))
        selection.take(made[-1])
    return made, evaluations


def worth(space, rng):
    """A worth of every op on every edge, and a value that is the sum of what is present."""
    of_ops = {
        t: rng.normal(size=(len(edges(space.num_nodes)), len(space.ops(t))))
        for t in space.cell_types
    }

    def value(weights):
        total = sum(np.sum(of_ops[t] * (w.keep + w.fixed)) for t, w in weights.items())
        return np.full(3, total)

    return of_ops, value


# --- questions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "top_k", "expected"),
    [
        # Per cell type 10 edges of 5 or 4 ops, then 3 + 4 + 3 inputs of nodes 3 and 4.
        (CLASSIC, 2, 10 * 5 + 10 * 4 + 2 * (3 + 4 + 3)),
        (CLASSIC, 1, 10 * 5 + 10 * 4 + 2 * (2 + 3 + 2 + 4 + 3 + 2)),
        (CLASSIC, 4, 10 * 5 + 10 * 4),
        (MICRO, 2, 10 * 4 + 3 + 4 + 3),
    ],
)
def test_the_number_of_evaluations_is_known_before(space, top_k, expected):
    selection = Selection(space, top_k)
    assert selection.evaluations_left() == expected
    _, value = worth(space, np.random.default_rng(0))
    _, made = answer(selection, value)
    assert made == expected and selection.evaluations_left() == 0
    assert top_k != 2 or expected <= 130


@given(seed=st.integers(0, 100), order=st.integers(0, 100), top_k=st.integers(1, 3))
@settings(max_examples=20)
def test_what_is_worth_most_is_kept_in_any_order(seed, order, top_k):
    of_ops, value = worth(CLASSIC, np.random.default_rng(seed))
    selection = Selection(CLASSIC, top_k, order)
    answer(selection, value)
    for cell_type, cell in selection.genotype().cells.items():
        ops = CLASSIC.ops(cell_type)
        strengths = of_ops[cell_type][:, : ops.index(NONE)]
        for j, node in enumerate(cell, start=1):
            of_node = strengths[edge_row(0, j) : edge_row(0, j + 1)]
            best = np.argsort(-of_node.max(axis=1))[:top_k]
            assert node == tuple((i, ops[of_node[i].argmax()]) for i in sorted(best))


def test_an_op_is_left_out_without_renormalizing_and_a_decided_edge_has_one_op():
    selection = Selection(SMALL)
    first = selection.question()
    source, _ = first.candidates[1]
    row = edge_row(source, first.target)
    keep, fixed = selection.weights(first, 1)["normal"]
    expected = np.ones((6, 4))
    expected[row, 1] = 0
    np.testing.assert_array_equal(keep, expected)
    assert not fixed.any()
    selection.take(decide(first, [np.ones(2), np.zeros(2), np.ones(2)]))
    keep, fixed = selection.weights()["normal"]
    assert not keep[row].any() and keep.sum() == 5 * 4
    assert fixed.sum() == fixed[row, 1] == 1


def test_an_input_is_left_out_as_a_whole():
    _, value = worth(SMALL, np.random.default_rng(0))
    selection = Selection(SMALL)
    while selection.question().kind == "op":
        question = selection.question()
        selection.take(decide(question, [value(selection.weights(question, i)) for i in range(3)]))
    question = selection.question()
    source, _ = question.candidates[1]
    keep, fixed = selection.weights(question, 1)["normal"]
    assert not keep.any() and fixed.sum() == 5
    assert not fixed[edge_row(source, question.target)].any()


def test_no_more_edges_than_the_cap_are_given_a_skip():
    of_ops, value = worth(CLASSIC, np.random.default_rng(0))
    for cell_type, array in of_ops.items():
        array[:, CLASSIC.ops(cell_type).index(SKIP_CONNECT)] += 100
    selection = Selection(CLASSIC, caps={"max_skips": Cap(frozenset([SKIP_CONNECT]), 2)})
    answer(selection, value)
    for cell in selection.genotype().cells.values():
        assert sum(op == SKIP_CONNECT for node in cell for _, op in node) <= 2
    with pytest.raises(ConfigError, match=r"max_parameter_free.*nothing could take their place"):
        Selection(SMALL, caps={"max_parameter_free": Cap(frozenset(SMALL.ops("normal")), 2)})


def test_a_question_without_a_choice_costs_nothing():
    caps = {"a": Cap(frozenset(["relu", SKIP_CONNECT]), 0)}
    made, evaluations = answer(Selection(SMALL, top_k=3, caps=caps), None)
    assert evaluations == 0 and {d.edge[1] for d in made} == {"conv_3x3"}
    assert {(d.means, d.within_noise) for d in made} == {((), False)}


# --- whole cells --------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
@settings(max_examples=30)
def test_a_child_differs_from_its_parent_in_one_edge(seed):
    rng = random.Random(seed)
    parent = random_genotype(CLASSIC, rng)
    child = mutated(parent, rng)
    before, after = (
        {
            (t, j, edge)
            for t, cell in g.cells.items()
            for j, node in enumerate(cell)
            for edge in node
        }
        for g in (parent, child)
    )
    assert len(before - after) == len(after - before) == 1
    (t, j, (source, op)), (u, k, (other, new)) = *(before - after), *(after - before)
    assert (t, j) == (u, k) and (source == other) != (op == new)


@pytest.mark.parametrize("searcher", [random_cells, evolution])
def test_a_searcher_is_repeatable_and_evolution_finds_what_is_worth_more(searcher):
    of_ops, _ = worth(CLASSIC, np.random.default_rng(0))

    def found(number):
        scores = []

        def score(genotype):
            fixed = {t: w.fixed for t, w in one_hot(genotype, CLASSIC).items()}
            scores.append(sum(float(np.sum(of_ops[t] * f)) for t, f in fixed.items()))
            return scores[-1]

        searcher(CLASSIC, score, number, seed=0)
        return scores

    scores = found(200)
    assert scores[:50] == found(50)
    first, last = np.mean(scores[:20]), np.mean(scores[-20:])
    assert (last > first + 5) == (searcher is evolution)


@pytest.mark.parametrize("searcher", [random_cells, evolution])
def test_searchers_keep_caps(searcher):
    caps = {"max_skips": Cap(frozenset([SKIP_CONNECT]), 1)}
    cells = []

    def score(genotype):
        cells.append(genotype)
        return float(sum(op == SKIP_CONNECT for node in genotype.cells["normal"] for _, op in node))

    searcher(CLASSIC, score, 60, seed=0, caps=caps)
    of_cell = [[op for node in c for _, op in node] for g in cells for c in g.cells.values()]
    assert len(cells) == 60 and {ops.count(SKIP_CONNECT) for ops in of_cell} == {0, 1}


def test_caps_that_leave_hardly_any_cell_are_refused(monkeypatch):
    monkeypatch.setattr(inherited, "DRAWS", 50)
    caps = {"max_skips": Cap(frozenset(CLASSIC.ops("normal")), 0)}
    with pytest.raises(ConfigError, match="max_skips: of 50 cells that were drawn none is within"):
        random_cells(CLASSIC, lambda genotype: 0.0, 1, seed=0, caps=caps)


# --- decisions ----------------------------------------------------------------------------------


def test_a_margin_is_that_of_pairs():
    shared = np.array([0.0, 10.0, 20.0, 30.0])  # what all masks share: easy and hard episodes
    question = Question("op", "normal", 1, ((0, "conv_3x3"), (0, "relu"), (0, SKIP_CONNECT)))
    without = [shared + 1, shared - np.array([1, 2, 1, 2]), shared]
    found = decide(question, without)
    assert found.edge == (0, "relu") and found.means == (16, 13.5, 15)
    assert found.margin == 1.5 and not found.within_noise
    # By hand: the differences are 1, 2, 1, 2, of variance 1 / 3.
    assert found.margin_error == pytest.approx(np.sqrt(1 / 3 / 4))
    assert found.errors[2] == pytest.approx(np.std(shared, ddof=1) / 2)
    deleted = decide(dataclasses.replace(question, kind="input"), without)
    assert deleted.edge == (0, "conv_3x3") and deleted.margin == 1 and deleted.margin_error == 0


def test_equals_are_within_noise_and_go_to_the_first():
    question = Question("input", "normal", 2, ((0, "relu"), (1, "relu")))
    found = decide(question, [np.ones(3), np.ones(3)])
    assert found.chosen == 0 and found.within_noise


# --- files --------------------------------------------------------------------------------------


def test_decisions_are_read_as_they_were_written(tmp_path):
    _, value = worth(SMALL, np.random.default_rng(0))
    caps = {"a": Cap(frozenset(["relu", SKIP_CONNECT]), 1)}
    made, evaluations = answer(Selection(SMALL, caps=caps), value)
    log = DecisionLog(tmp_path, {"episodes": 4})
    log.references["supernet"] = (1.0, 0.5)
    for decision in made:
        log.add(decision)
    again = DecisionLog(tmp_path, {"episodes": 4})
    assert again.decisions == made and again.references == log.references
    with (tmp_path / "decisions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == decisions.COLUMNS
    assert sum(row["mean_without"] != "" for row in rows) == evaluations
    chosen = [row for row in rows if row["chosen"] == "1"]
    assert [(int(row["source"]), row["op"]) for row in chosen] == [d.edge for d in made]
    with pytest.raises(RunError, match=r"other settings: episodes: 4 -> 8; .*--work_dir"):
        DecisionLog(tmp_path, {"episodes": 8})


BAD = {
    "no JSON": lambda text: text[:-10],
    "a list": lambda text: "[]",
    "no decisions": lambda text: text.replace('"decisions"', '"answers"'),
    "a choice that is none": lambda text: text.replace('"chosen": 0', '"chosen": 7'),
    "a mean too few": lambda text: text.replace('"means": [', '"means": [0.5,'),
    "a mean that is no number": lambda text: text.replace('"means": [', '"means": ["x",'),
    "another format": lambda text: text.replace('"format": 1', '"format": 2'),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_refused_in_one_line(case, tmp_path):
    question = Question("op", "normal", 1, ((0, "conv_3x3"), (0, "relu")))
    DecisionLog(tmp_path, {}).add(decide(question, [np.zeros(2), np.ones(2)]))
    path = tmp_path / "decisions.json"
    path.write_text(BAD[case](path.read_text()))
    with pytest.raises(RunError, match=r"decisions\.json' holds no decisions"):
        DecisionLog(tmp_path, {})


def test_a_decision_of_another_search_is_refused():
    selection = Selection(SMALL)
    stranger = Decision(Question("op", "normal", 1, ((0, "tanh"),)), 0)
    with pytest.raises(ValueError, match="not the next question"):
        selection.take(stranger)
    assert json.loads(json.dumps(stranger.to_dict()))["margin"] is None
