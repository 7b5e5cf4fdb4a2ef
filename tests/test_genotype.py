"""Genotypes: what is valid, their files, and what a broken file leads to."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import random
import re
import stat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf import files, search_space
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.genotype import MAX_FILE_BYTES, Genotype, dense_topology, random_genotype
from rldarts_tf.search_space import (
    CLASSIC,
    CLASSIC_NO_RELU,
    MICRO,
    MICRO_PISAC,
    MICRO_SAC,
    OUTPUT_MODES,
    SearchSpace,
    get_search_space,
    register_search_space,
)

# Of ops that nobody registers, in a space that nobody registers either.
OWN = SearchSpace("test_own", ("gate", "blur"), ("pool",), num_reduction=1, num_nodes=3)
SPACES = (CLASSIC, MICRO, MICRO_PISAC, MICRO_SAC, CLASSIC_NO_RELU, OWN)
VALID = {
    "format_version": 2,
    "search_space": MICRO.to_config(),
    "top_k": 2,
    "output_mode": "concat",
    "num_normal": 2,
    "num_reduction": 0,
    "cells": {
        "normal": [
            [[0, "conv_3x3"]],
            [[0, "relu"], [1, "tanh"]],
            [[1, "skip_connect"], [2, "conv_3x3"]],
        ]
    },
}

genotypes = st.builds(
    lambda space, seed, mode: random_genotype(space, random.Random(seed), mode),
    st.sampled_from(SPACES),
    st.integers(0, 2**32),
    st.sampled_from(OUTPUT_MODES),
)


def changed(**fields: object) -> dict:
    """VALID with other fields; a value of ... removes one."""
    data = {**copy.deepcopy(VALID), **fields}
    return {key: value for key, value in data.items() if value is not ...}


def with_space(**fields: object) -> dict:
    """A genotype of OWN with other fields in the definition of the space; ... removes one."""
    data = random_genotype(OWN, random.Random(0)).to_dict()
    space = {**data["search_space"], **fields}
    return {**data, "search_space": {k: v for k, v in space.items() if v is not ...}}


def version_1(**fields: object) -> dict:
    """VALID as version 1 of the format has it."""
    return changed(**{"format_version": 1, "search_space": "micro", **fields})


def with_nodes(*nodes: object) -> dict:
    """VALID with the last of its nodes replaced by others, or by none."""
    return changed(cells={"normal": [*VALID["cells"]["normal"][:2], *nodes]})


@given(genotypes)
def test_json_round_trip_gives_an_equal_genotype(genotype):
    again = Genotype.from_json(genotype.to_json())
    assert again == genotype
    assert hash(again) == hash(genotype)
    assert again.to_json() == genotype.to_json()
    assert "\n" not in genotype.to_json()


@given(genotype=genotypes)
def test_file_round_trip_gives_an_equal_genotype(tmp_path_factory, genotype):
    path = tmp_path_factory.mktemp("genotype") / "genotype.json"
    genotype.save(path)
    assert Genotype.load(path) == Genotype.load(str(path)) == genotype
    # The file is plain JSON with the documented fields.
    assert json.loads(path.read_text("utf-8")) == genotype.to_dict()


def test_file_has_the_documented_fields(tmp_path):
    path = tmp_path / "genotype.json"
    Genotype.from_dict(VALID).save(path)
    assert json.loads(path.read_text("utf-8")) == VALID
    genotype = Genotype.load(path)
    assert genotype.cells["normal"][2] == ((1, "skip_connect"), (2, "conv_3x3"))
    assert genotype.num_nodes == 3


def test_a_node_of_a_cell_is_one_line_of_the_file(tmp_path):
    for name, node in (("a", [[0, "relu"], [2, "tanh"]]), ("b", [[1, "relu"], [2, "tanh"]])):
        Genotype.from_dict(with_nodes(node)).save(tmp_path / name)
    lines = [(tmp_path / name).read_text("utf-8").splitlines() for name in "ab"]
    assert sum(a != b for a, b in zip(*lines)) == 1


def test_order_of_the_edges_of_a_node_does_not_matter():
    one, other = (
        Genotype.from_dict(with_nodes(node))
        for node in ([[0, "relu"], [2, "tanh"]], [[2, "tanh"], [0, "relu"]])
    )
    assert one == other
    assert hash(one) == hash(other)


def test_genotypes_that_differ_are_not_equal():
    base = Genotype.from_dict(VALID)
    for other in (
        changed(output_mode="last"),
        changed(num_normal=1),
        changed(search_space=MICRO_SAC.to_config()),
        with_nodes([[0, "skip_connect"], [2, "conv_3x3"]]),
        with_nodes(),
    ):
        assert Genotype.from_dict(other) != base


def test_failure_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "genotype.json"
    old = Genotype.from_dict(VALID)
    old.save(path)
    for function in ("fsync", "replace"):
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise OSError("disk full")

            patch.setattr(os, function, fail)
            with pytest.raises(OSError, match="disk full"):
                Genotype.from_dict(changed(num_normal=1)).save(path)
        assert Genotype.load(path) == old
        assert os.listdir(tmp_path) == ["genotype.json"]


def test_files_have_the_permissions_of_other_files(tmp_path):
    (tmp_path / "plain").write_text("x")
    Genotype.from_dict(VALID).save(tmp_path / "genotype.json")
    modes = {stat.S_IMODE(os.stat(file).st_mode) for file in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_link_keeps_pointing_at_the_file_that_is_replaced(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    Genotype.from_dict(VALID).save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert Genotype.load(tmp_path / "real.json") == Genotype.from_dict(VALID)


def test_the_temporary_file_of_a_killed_save_is_one_that_a_run_cleans_up(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(os, "replace", lambda source, _: written.append(source))
    Genotype.from_dict(VALID).save(tmp_path / "genotype.json")
    assert str(written[0]).endswith(files.TEMPORARY_SUFFIX)


def test_save_makes_no_folders(tmp_path):
    with pytest.raises(FileNotFoundError):
        Genotype.from_dict(VALID).save(tmp_path / "missing" / "genotype.json")


def test_save_takes_a_bare_file_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Genotype.from_dict(VALID).save("genotype.json")
    assert Genotype.load("genotype.json") == Genotype.from_dict(VALID)


def test_dense_topology_has_every_edge_and_every_op_but_none():
    assert dense_topology(("a", "none", "b"), 2) == (
        ((0, "a"), (0, "b")),
        ((0, "a"), (0, "b"), (1, "a"), (1, "b")),
    )


# --- the space of a genotype --------------------------------------------------------------------


@pytest.fixture
def registry(monkeypatch):
    """The registered spaces, which are those from before again after a test."""
    monkeypatch.setattr(search_space, "_REGISTRY", dict(search_space._REGISTRY))
    return search_space._REGISTRY


def test_a_file_of_version_1_means_the_registered_space_of_that_name():
    genotype = Genotype.from_dict(version_1())
    assert genotype == Genotype.from_dict(VALID)
    assert genotype.space == MICRO
    assert genotype.to_dict() == VALID


def test_a_genotype_carries_its_space_and_reading_registers_nothing(tmp_path, registry):
    before = dict(registry)
    genotype = random_genotype(OWN, random.Random(0))
    genotype.save(tmp_path / "own.json")
    read = Genotype.load(tmp_path / "own.json")
    assert read == genotype and read.space == OWN and read.search_space == "test_own"
    assert registry == before
    with pytest.raises(ConfigError, match="unknown search space"):
        get_search_space("test_own")
    assert register_search_space(read.space) == OWN
    assert Genotype.load(tmp_path / "own.json").space == OWN


def test_a_space_of_another_definition_under_a_registered_name_is_refused(registry):
    genotype = random_genotype(OWN, random.Random(0))
    register_search_space(dataclasses.replace(OWN, reduction_ops=("pool", "blur")))
    for read in (
        lambda: Genotype.from_json(genotype.to_json()),
        lambda: random_genotype(OWN, random.Random(0)),
    ):
        with pytest.raises(GenotypeError, match=r"search_space.reduction_ops: .*'test_own'"):
            read()


def test_other_counts_than_those_of_the_registered_space_are_the_genotypes_own(registry):
    deeper = dataclasses.replace(MICRO, num_nodes=6, top_k=1, num_normal=1)
    genotype = random_genotype(deeper, random.Random(0))
    assert (genotype.num_nodes, genotype.top_k, genotype.num_normal) == (6, 1, 1)
    assert genotype.space == MICRO
    assert Genotype.from_json(genotype.to_json()) == genotype


def test_a_field_of_the_space_that_is_missing_has_its_default():
    data = with_space(top_k=..., num_normal=...)
    assert Genotype.from_dict(data).space == OWN


def test_every_field_of_a_space_is_read_by_its_type():
    # A field of a type that the reader does not know would end in a KeyError.
    data = random_genotype(OWN, random.Random(0)).to_dict()
    for field in dataclasses.fields(SearchSpace):
        with pytest.raises(GenotypeError, match=rf"^search_space.{field.name}: "):
            Genotype.from_dict({**data, "search_space": {**data["search_space"], field.name: {}}})


def test_a_genotype_that_could_not_be_read_again_is_not_made():
    for changes in ({"name": "a\nb"}, {"normal_ops": ("a" * 101,)}, {"num_nodes": 1001}):
        with pytest.raises(GenotypeError, match="search_space"):
            random_genotype(dataclasses.replace(OWN, **changes), random.Random(0))


def test_the_name_and_the_definition_of_a_space_are_of_one_space():
    cells = Genotype.from_dict(VALID).cells
    with pytest.raises(GenotypeError, match="search_space: 'micro' is not the space 'micro_sac'"):
        Genotype("micro", cells, num_normal=2, space=MICRO_SAC)
    with pytest.raises(GenotypeError, match="space: must be a SearchSpace"):
        Genotype("micro", cells, num_normal=2, space="micro")


NORMAL_2 = re.escape("cells.normal[2]")
BROKEN = {
    # name: (content of the file, what the message must name)
    "nothing": ("", "not JSON"),
    "not_json": ("{", "not JSON"),
    "yaml": ("search_space: micro", "not JSON"),
    "trailing_text": (json.dumps(VALID) + "x", "not JSON"),
    "two_documents": (json.dumps(VALID) * 2, "not JSON"),
    "nan": (json.dumps(changed(top_k=float("nan"))), "NaN"),
    "infinity": (json.dumps(changed(top_k=float("inf"))), "Infinity"),
    "repeated_key": ('{"top_k": 1, "top_k": 2}', "'top_k': stands twice"),
    "deeply_nested": ("[" * 100_000, "not JSON"),
    "huge_integer": (json.dumps(VALID).replace('"top_k": 2', f'"top_k": 1{"0" * 9999}'), "."),
    "list": ("[]", "JSON object, got list"),
    "number": ("3", "JSON object, got int"),
    "null": ("null", "JSON object"),
    "no_version": (changed(format_version=...), "format_version"),
    "newer_version": (changed(format_version=3), "format_version: must be 1 to 2, got 3"),
    "older_version": (changed(format_version=0), "format_version: must be 1 to 2, got 0"),
    "boolean_version": (changed(format_version=True), "format_version"),
    "version_as_text": (changed(format_version="1"), "format_version"),
    "unknown_field": (changed(colour="red"), "'colour': unknown field"),
    "unknown_field_of_two_lines": (changed(**{"a\nb": 1}), "unknown field"),
    "no_space": (changed(search_space=...), "search_space: missing"),
    "unknown_space": (version_1(search_space="macro"), "search_space: .*'macro'.*known: .*classic"),
    "space_of_two_lines": (version_1(search_space="a\nb"), "search_space"),
    "long_space": (version_1(search_space="a" * 10_000), "search_space"),
    "space_not_text": (version_1(search_space=["micro"]), "search_space: must be a string"),
    "definition_in_version_1": (version_1(search_space=MICRO.to_config()), "search_space: must be"),
    "name_in_version_2": (changed(search_space="micro"), "search_space: must be a JSON object"),
    "another_micro": (
        changed(search_space={**MICRO.to_config(), "normal_ops": ["conv_3x3", "relu"]}),
        r"search_space.normal_ops: \('conv_3x3', 'relu'\), but a search space 'micro' is "
        r"registered with \('conv_3x3', 'relu', 'tanh'\)",
    ),
    "micro_with_more_nodes": (
        changed(search_space={**MICRO.to_config(), "num_nodes": 5}),
        "search_space.num_nodes: 5, but a search space 'micro' is registered with 4",
    ),
    "no_name": (with_space(name=...), "search_space.name: is missing"),
    "empty_name": (with_space(name=""), "search_space.name: "),
    "name_of_two_lines": (with_space(name="a\nb"), "search_space.name: must be printable"),
    "name_with_an_escape": (with_space(name="\x1b[2J"), "search_space.name: must be printable"),
    "long_name": (with_space(name="a" * 101), "search_space.name: .*100 characters"),
    "name_is_a_number": (with_space(name=3), "search_space.name: must be a name, got 3"),
    "no_ops": (with_space(normal_ops=...), "search_space.normal_ops: is missing"),
    "ops_are_text": (with_space(normal_ops="gate"), "search_space.normal_ops: must be a list"),
    "ops_are_nested": (with_space(normal_ops=[["a"]]), r"search_space.normal_ops\[0\]: .*name"),
    "ops_are_empty": (with_space(normal_ops=[]), "search_space.normal_ops: is empty"),
    "too_many_ops": (
        with_space(normal_ops=[f"op{i}" for i in range(101)]),
        "search_space.normal_ops: must be at most 100 names, got 101",
    ),
    "op_twice": (with_space(normal_ops=["a", "a"]), "search_space.normal_ops: names 'a' twice"),
    "op_that_is_implied": (with_space(normal_ops=["none"]), "search_space.normal_ops: .*implied"),
    "op_with_an_escape": (with_space(reduction_ops=["\x1b"]), r"search_space.reduction_ops\[0\]: "),
    "count_is_text": (with_space(num_nodes="3"), "search_space.num_nodes: must be an integer"),
    "count_is_a_truth_value": (with_space(top_k=True), "search_space.top_k: must be an integer"),
    "no_nodes": (with_space(num_nodes=0), "search_space.num_nodes: must be an integer of at least"),
    "huge_count": (with_space(num_nodes=10**9), "search_space.num_nodes: must be an integer"),
    "unknown_field_of_the_space": (with_space(colour=1), "search_space: 'colour': unknown field"),
    "many_long_ops": (
        {**with_space(normal_ops=[f"{'a' * 90}{i}" for i in range(99)])},
        r"cells.normal\[0\]\[0\]: unknown op",
    ),
    "no_top_k": (changed(top_k=...), "top_k: missing"),
    "zero_top_k": (changed(top_k=0), "top_k: .*got 0"),
    "boolean_top_k": (changed(top_k=True), "top_k"),
    "fractional_top_k": (changed(top_k=2.0), "top_k"),
    "huge_top_k": (changed(top_k=10**9), "top_k"),
    "unknown_mode": (changed(output_mode="median"), "output_mode: .*'median'.*one of concat"),
    "mode_is_a_list": (changed(output_mode=["concat"] * 1000), "output_mode"),
    "negative_num_normal": (changed(num_normal=-1), "num_normal"),
    "text_num_reduction": (changed(num_reduction="0"), "num_reduction"),
    "no_cells_at_all": (changed(num_normal=0), "num_normal"),
    "cells_missing": (changed(cells=...), "cells: missing"),
    "cells_are_a_list": (changed(cells=[]), "cells: must map"),
    "cells_are_empty": (changed(cells={}), "cells.normal: missing"),
    "unknown_cell_type": (changed(cells={**VALID["cells"], "big": []}), "cells: 'big'"),
    "cell_type_of_two_lines": (changed(cells={**VALID["cells"], "a\nb": []}), "cells: "),
    "surrogate_cell_type": (changed(cells={**VALID["cells"], "\ud800": []}), "cells: "),
    "reduction_cells_without_count": (
        changed(cells={**VALID["cells"], "reduction": [[[0, "relu"]]]}),
        "cells: 'reduction'",
    ),
    "reduction_missing": (changed(num_reduction=1), "cells.reduction: missing"),
    "reduction_not_in_space": (
        changed(num_reduction=1, cells={**VALID["cells"], "reduction": [[[0, "relu"]]]}),
        "cells.reduction: search space 'micro' has no such cells",
    ),
    "cell_is_null": (changed(cells={"normal": None}), "cells.normal: "),
    "cell_is_empty": (changed(cells={"normal": []}), "cells.normal: "),
    "cell_is_text": (changed(cells={"normal": "relu"}), "cells.normal: "),
    "too_few_inputs": (with_nodes([[0, "relu"]]), f"{NORMAL_2}: .*must have 2 inputs, got 1"),
    "too_many_inputs": (
        with_nodes([[0, "relu"], [1, "relu"], [2, "relu"]]),
        f"{NORMAL_2}: .*must have 2 inputs, got 3",
    ),
    "node_is_a_number": (with_nodes(3), f"{NORMAL_2}: "),
    "edge_is_a_number": (with_nodes([0, [1, "relu"]]), rf"{NORMAL_2}\[0\]: "),
    "edge_has_three_parts": (
        with_nodes([[0, "relu"], [1, "relu", 2]]),
        rf"{NORMAL_2}\[1\]: must be \[input, op\]",
    ),
    "input_of_itself": (with_nodes([[0, "relu"], [3, "relu"]]), rf"{NORMAL_2}\[1\]: .*got 3"),
    "negative_input": (with_nodes([[-1, "relu"], [1, "relu"]]), rf"{NORMAL_2}\[0\]: .*got -1"),
    "boolean_input": (with_nodes([[True, "relu"], [2, "relu"]]), rf"{NORMAL_2}\[0\]: .*True"),
    "input_as_text": (with_nodes([["0", "relu"], [2, "relu"]]), rf"{NORMAL_2}\[0\]: "),
    "duplicate_input": (
        with_nodes([[1, "relu"], [1, "tanh"]]),
        rf"{NORMAL_2}\[1\]: duplicate input 1",
    ),
    "unknown_op": (
        with_nodes([[0, "relu"], [1, "conv_9x9"]]),
        rf"{NORMAL_2}\[1\]: unknown op 'conv_9x9'; one of conv_3x3, relu",
    ),
    "op_of_another_space": (with_nodes([[0, "conv_5x5"], [1, "relu"]]), "unknown op 'conv_5x5'"),
    "op_of_two_lines": (with_nodes([[0, "a\nb"], [1, "relu"]]), rf"{NORMAL_2}\[0\]: unknown op"),
    "op_is_none": (with_nodes([[0, "none"], [1, "relu"]]), rf"{NORMAL_2}\[0\]: .*'none'"),
    "op_is_null": (with_nodes([[0, None], [1, "relu"]]), rf"{NORMAL_2}\[0\]: unknown op None"),
    "op_is_a_list": (with_nodes([[0, ["relu"]], [1, "relu"]]), rf"{NORMAL_2}\[0\]: unknown op"),
    "not_text": (b"\xff\xfe\x00", "UTF-8"),
    "byte_order_mark": (b"\xef\xbb\xbf" + json.dumps(VALID).encode(), "not JSON"),
    "too_large": (b" " * (MAX_FILE_BYTES + 1) + json.dumps(VALID).encode(), "larger than"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file_ends_in_one_line_that_names_the_field(tmp_path, name):
    content, expected = BROKEN[name]
    if isinstance(content, dict):
        content = json.dumps(content)
    path = tmp_path / "genotype.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(GenotypeError, match=expected) as raised:
        Genotype.load(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert len(message) < len(str(path)) + 1000  # tests register spaces, all of which it lists
    message.encode("utf-8")  # can be printed


@pytest.mark.parametrize(
    "path", ["", "no/such/file.json", ".", "a\0b", "two\nlines", "\ud800", os.devnull]
)
def test_path_that_cannot_be_read_ends_in_one_line(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GenotypeError) as raised:
        Genotype.load(path)
    assert "\n" not in str(raised.value)
    str(raised.value).encode("utf-8")


def test_any_depth_of_nesting_ends_in_a_genotype_error():
    # Near the interpreter's limit parsing may succeed and printing the value fail.
    fields = ("cells", "format_version", "search_space", "output_mode", "top_k", "name", "ops")
    for field in fields:
        for depth in (*range(930, 1001, 2), *range(931, 1000, 10)):
            text = json.dumps(
                with_space(name="X")
                if field == "name"
                else with_space(normal_ops=["X"])
                if field == "ops"
                else changed(**{field: "X"})
            )
            with pytest.raises(GenotypeError):
                Genotype.from_json(text.replace('"X"', "[" * depth + "]" * depth))


def check_strict(read, value) -> None:
    """Reading gives a genotype that is equal after a round trip, or a GenotypeError of a line."""
    try:
        genotype = read(value)
    except GenotypeError as error:
        assert str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
        str(error).encode("utf-8")
    else:
        assert Genotype.from_json(genotype.to_json()) == genotype


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["relu", "conv_3x3", "none", "micro", "classic", "concat", "normal"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=20,
)


@given(json_values)
def test_anything_like_json_is_read_strictly(value):
    check_strict(Genotype.from_dict, value)
    check_strict(Genotype.from_json, json.dumps(value))


@given(st.dictionaries(st.sampled_from([*VALID, "other"]), json_values))
def test_any_values_of_the_fields_are_read_strictly(fields):
    check_strict(Genotype.from_dict, {**VALID, **fields})


@settings(max_examples=300)
@given(data=st.data(), value=json_values, genotype=genotypes)
def test_valid_file_with_one_part_replaced_is_read_strictly(data, value, genotype):
    document = genotype.to_dict()
    parent, key = document, data.draw(st.sampled_from(sorted(document)))
    while isinstance(parent[key], (dict, list)) and parent[key] and data.draw(st.booleans()):
        parent = parent[key]
        keys = sorted(parent) if isinstance(parent, dict) else range(len(parent))
        key = data.draw(st.sampled_from(keys))
    if data.draw(st.booleans()):
        parent[key] = value
    else:
        del parent[key]
    check_strict(Genotype.from_dict, document)


@given(st.dictionaries(st.sampled_from([*OWN.to_config(), "other"]), json_values))
def test_any_definition_of_a_space_is_read_strictly(fields):
    check_strict(Genotype.from_dict, with_space(**fields))


@given(text=st.text() | genotypes.map(Genotype.to_json), data=st.data())
def test_any_text_is_read_strictly(text, data):
    cut = data.draw(st.integers(0, len(text)))
    check_strict(Genotype.from_json, text[:cut] + data.draw(st.text(max_size=3)) + text[cut + 1 :])
    check_strict(Genotype.from_json, text)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_strictly(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "g"
    path.write_bytes(content)
    with pytest.raises(GenotypeError) as raised:
        Genotype.load(path)
    assert "\n" not in str(raised.value)
