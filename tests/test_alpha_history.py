"""alphas.npz: what older versions wrote, and what is none. The present one: `test_runs.py`."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from rldarts_tf import commands
from rldarts_tf.discretization import discretize
from rldarts_tf.errors import RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.alpha_history import FORMAT, read_alphas
from rldarts_tf.runs.search_log import AlphaLog, read_genotypes
from rldarts_tf.search_space import CLASSIC

GOLDEN = Path(__file__).parent / "golden" / "search_log_1"
"""Of a search of Classic at β = 5, written when alphas.npz held softmax weights."""

OPS = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}


# --- format 1 ----------------------------------------------------------------------------------


def test_the_cells_of_an_older_log_are_those_that_it_was_found_to_have():
    history = read_alphas(GOLDEN / "alphas.npz")
    assert (history.ops, history.num_edges) == (OPS, 10)
    genotypes = read_genotypes(GOLDEN / "genotypes.jsonl")
    assert [step for step, _ in genotypes] == history.steps.tolist() == [0, 100, 200, 300]
    for step, genotype in genotypes:
        found, logits = history.at(step)
        assert found == step
        assert discretize(logits, CLASSIC) == Genotype.from_dict(genotype)


def test_the_command_finds_the_cell_of_an_older_log(tmp_path, capsys):
    output = tmp_path / "genotype.json"
    arguments = ["discretize", str(GOLDEN / "alphas.npz"), "--space=classic", f"--output={output}"]
    assert commands.main(arguments) == 0
    assert Genotype.load(output) == Genotype.load(GOLDEN / "genotype.json")


def test_the_weights_of_an_older_log_are_those_it_holds():
    arrays = np.load(GOLDEN / "alphas.npz")
    history = read_alphas(GOLDEN / "alphas.npz")
    for cell, weights in history.op_weights().items():
        p = np.concatenate([arrays[f"{cell}_node_{j}"] for j in (1, 2, 3, 4)], axis=1)
        np.testing.assert_allclose(weights, p, rtol=1e-6, atol=1e-44)
        assert np.any(p == 0) and np.all(np.isfinite(history.logits[cell]))


def test_a_weight_of_zero_is_less_than_any_other(tmp_path):
    smallest = np.float32(1e-45)
    np.savez(
        tmp_path / "alphas.npz",
        step=np.array([7]),
        normal_ops=np.array(["relu", "skip_connect", "none"]),
        normal_node_1=np.array([[[0, smallest, 1]]], np.float32),
    )
    zero, small, one = read_alphas(tmp_path / "alphas.npz").logits["normal"][0, 0]
    assert zero < small < one == 0


def test_a_resumed_search_converts_the_log_that_an_older_version_began(tmp_path):
    path = tmp_path / "alphas.npz"
    shutil.copy(GOLDEN / "alphas.npz", path)
    old = read_alphas(path)
    log = AlphaLog(path, OPS, 10, resume_step=200)
    assert len(log) == 3
    assert np.load(path)["format"] == FORMAT
    z = {cell: np.full((10, len(OPS[cell])), -3.0) for cell in OPS}
    log.record(250, z)
    log.flush()
    history = read_alphas(path)
    assert history.steps.tolist() == [0, 100, 200, 250]
    for cell, logits in history.logits.items():
        np.testing.assert_array_equal(logits[:3], old.logits[cell][:3])
        np.testing.assert_array_equal(logits[3], np.full((10, len(OPS[cell])), -3.0))


# --- files that are none -----------------------------------------------------------------------

SOUND = {
    "format": np.array(2),
    "step": np.array([0, 5]),
    "normal_ops": np.array(["relu", "none"]),
    "normal_logits": np.zeros((2, 3, 2)),
}
OLD = {
    "step": np.array([0, 5]),
    "normal_ops": np.array(["relu", "none"]),
    "normal_node_1": np.full((2, 1, 2), 0.5),
    "normal_node_2": np.full((2, 2, 2), 0.5),
}
REFUSED = {
    "no steps": (SOUND, {"step": None}, "'step'"),
    "steps that are no integers": (SOUND, {"step": np.zeros(2)}, "'step'"),
    "steps that go back": (SOUND, {"step": np.array([5, 0])}, "go back"),
    "a newer format": (SOUND, {"format": np.array(3)}, "newer version"),
    "a format that is none": (SOUND, {"format": np.array([2, 2])}, "format"),
    "no ops": (SOUND, {"normal_ops": None}, "no ops"),
    "ops that are no text": (SOUND, {"normal_ops": np.zeros(2)}, "no ops"),
    "ops that are no characters": (
        SOUND,
        {"normal_ops": np.array([2**31 - 1, 65], np.uint32).view("<U1")},
        "no text",
    ),
    "ops that are half a character": (SOUND, {"normal_ops": np.array(["\ud800"] * 2)}, "no text"),
    "no logits": (SOUND, {"normal_logits": None}, "'normal' cell are incomplete"),
    "other ops": (SOUND, {"normal_logits": np.zeros((2, 3, 3))}, "incomplete"),
    "other steps": (SOUND, {"normal_logits": np.zeros((3, 3, 2))}, "incomplete"),
    "no edges": (SOUND, {"normal_logits": np.zeros((2, 0, 2))}, "incomplete"),
    "integers": (SOUND, {"normal_logits": np.zeros((2, 3, 2), int)}, "incomplete"),
    "infinity": (SOUND, {"normal_logits": np.full((2, 3, 2), np.inf)}, "not finite"),
    "cells of different sizes": (
        SOUND,
        {"reduction_ops": np.array(["x", "none"]), "reduction_logits": np.zeros((2, 1, 2))},
        "different numbers of nodes",
    ),
    "an old one without nodes": (OLD, {"normal_node_1": None, "normal_node_2": None}, "nodes"),
    "an old one without its first node": (OLD, {"normal_node_1": None}, "incomplete"),
    "an old one with other edges": (OLD, {"normal_node_1": np.ones((2, 2, 2))}, "incomplete"),
    "an old one with other ops": (OLD, {"normal_node_2": np.ones((2, 2, 3))}, "incomplete"),
    "negative weights": (OLD, {"normal_node_2": np.full((2, 2, 2), -0.5)}, "negative"),
    "weights that are not numbers": (OLD, {"normal_node_1": np.full((2, 1, 2), np.nan)}, "finite"),
}


@pytest.mark.parametrize("sound", [SOUND, OLD], ids=["present", "old"])
def test_a_sound_file_is_read(tmp_path, sound):
    np.savez(tmp_path / "alphas.npz", **sound)
    history = read_alphas(tmp_path / "alphas.npz")
    assert (len(history), history.num_edges) == (2, 3)
    np.testing.assert_allclose(history.op_weights()["normal"], np.full((2, 3, 2), 0.5))


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_of_another_kind_is_refused_in_one_line(tmp_path, case):
    sound, changes, message = REFUSED[case]
    arrays = {name: array for name, array in {**sound, **changes}.items() if array is not None}
    np.savez(tmp_path / "alphas.npz", **arrays)
    with pytest.raises(RunError, match=message) as raised:
        read_alphas(tmp_path / "alphas.npz")
    assert "alphas.npz" in str(raised.value) and "\n" not in str(raised.value)


# --- of which search space it is ----------------------------------------------------------------

OTHER_SPACES = {
    "no reduction cells": ({"num_reduction": 0, "reduction_ops": ()}, "other cells.*reduction"),
    "other ops": ({"normal_ops": (*CLASSIC.normal_ops[:3], "relu")}, "other ops.*normal cells"),
    "ops in another order": ({"normal_ops": CLASSIC.normal_ops[::-1]}, "other ops.*normal cells"),
    "fewer ops": ({"reduction_ops": CLASSIC.reduction_ops[:2]}, "other ops.*reduction cells"),
    "more nodes": ({"num_nodes": 5}, "15 edges.*of 10"),
}


def test_a_log_is_of_every_space_with_its_ops_and_nodes():
    history = read_alphas(GOLDEN / "alphas.npz")
    history.check(CLASSIC)
    # Neither the name nor what α does not depend on.
    history.check(dataclasses.replace(CLASSIC, name="mine", num_normal=3, top_k=1))


@pytest.mark.parametrize("case", OTHER_SPACES)
def test_a_log_of_another_space_says_in_one_line_what_differs(case):
    changes, message = OTHER_SPACES[case]
    space = dataclasses.replace(CLASSIC, name="other", **changes)
    with pytest.raises(RunError, match=message) as raised:
        read_alphas(GOLDEN / "alphas.npz").check(space)
    assert "'other'" in str(raised.value) and "\n" not in str(raised.value)
