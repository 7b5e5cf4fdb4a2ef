"""`python -m rldarts_tf` as its user meets it."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rldarts_tf import commands, search_space
from rldarts_tf.caps import make_caps
from rldarts_tf.discretization import discretize
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs.search_log import AlphaLog
from rldarts_tf.search_space import CLASSIC, MICRO, SearchSpace


@pytest.fixture
def run(capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def run_command(*argv):
        try:
            code = commands.main([str(argument) for argument in argv])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return run_command


@pytest.fixture
def genotype_file(tmp_path):
    path = tmp_path / "genotype.json"
    random_genotype(CLASSIC, random.Random(0)).save(path)
    return path


def assert_refused(ended, *parts):
    code, out, err = ended
    assert (code, out) == (2, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and err.endswith("\n")
    for part in parts:
        assert part in err


# --- help and bad input -------------------------------------------------------------------------


def test_help_lists_the_commands_and_each_has_examples_that_are_read(run):
    code, out, _ = run("--help")
    assert code == 0
    for name in commands.COMMANDS:
        assert re.search(rf"^    {name}\b", out, re.MULTILINE)
        code, text, _ = run(name, "--help")
        examples = text.partition("examples:\n")[2].strip().splitlines()
        assert code == 0 and len(examples) >= 2
        for example in examples:
            program, _, arguments = example.strip().partition(f"rldarts_tf {name}")
            assert program == "python -m "
            commands.make_parser().parse_args([name, *arguments.split()])


def test_the_module_is_run_as_the_examples_say(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "rldarts_tf", "size", "micro"], capture_output=True, text=True
    )
    assert ended.returncode == 0 and "search space micro" in ended.stdout
    assert ended.stderr == ""
    many = [sys.executable, "-m", "rldarts_tf", "random", "micro", "--count=5000"]
    with subprocess.Popen(many, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()  # As `head -1` does.
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("argv", "parts"),
    [
        ([], ["COMMAND"]),
        (["shwo"], ["shwo"]),
        (["show"], ["genotype"]),
        (["show", "nowhere.json"], ["nowhere.json", "cannot be read"]),
        (["show", "."], ["genotype.json", "discretized"]),
        (["show", "x", "--depths=16,0"], ["--depths", "'0'"]),
        (["show", "x", "--image=64x64"], ["--image", "HEIGHTxWIDTHxCHANNELS"]),
        (["show", "x", "--image=100000x100000x3"], ["--image", "at most 1024"]),
        (["size", "mirco"], ["mirco", "micro"]),
        (["size", "micro", "--top_k=0"], ["--top_k"]),
        (["random", "micro", "--output=/proc/nothing"], ["/proc/nothing"]),
        (["discretize", "nowhere.npz"], ["nowhere.npz", "cannot be read"]),
        (["discretize", "nowhere"], ["nowhere"]),
        (["compare", "nowhere.json", "elsewhere.json"], ["nowhere.json"]),
        (["draw", "nowhere.json", "--output=x"], ["nowhere.json"]),
    ],
)
def test_bad_input_is_one_line_that_names_it(run, argv, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert_refused(run(*argv), *parts)
    assert list(tmp_path.iterdir()) == []


def test_a_space_of_any_size_is_counted(run):
    code, out, _ = run("size", "classic", "--num_nodes=1000")
    assert code == 0 and re.search(r"normal cells +10\^\d+\.\d", out)


def test_a_bug_is_one_line_with_the_file_of_its_traceback(run, monkeypatch):
    monkeypatch.setattr(commands.size, "space_of", lambda arguments: {}["missing"])
    code, out, err = run("size", "classic")
    assert code == 1 and out == "" and err.count("\n") == 1
    (path,) = re.findall(r"unexpected KeyError: 'missing'; the traceback is in (\S+)", err)
    assert "space_of" in Path(path).read_text("utf-8")
    Path(path).unlink()


# --- show, draw, size, random -------------------------------------------------------------------


def test_show_tells_the_cells_and_what_they_cost(run, genotype_file):
    from rldarts_tf import DiscreteNetwork, count_cost

    genotype = Genotype.load(genotype_file)
    code, out, _ = run("show", genotype_file, "--depths=4,8", "--image=32x32x3", "--features=16")
    assert code == 0
    assert all(op in out for cell in genotype.cells.values() for node in cell for _, op in node)
    cost = count_cost(DiscreteNetwork(genotype, [4, 8], features=16), (32, 32, 3))
    assert f"{cost.parameters:,}" in out and f"{cost.multiply_adds:,}" in out
    code, out, _ = run("show", genotype_file, "--cost", "--json")
    expected = dataclasses.asdict(count_cost(DiscreteNetwork(genotype, [16] * 3), (64, 64, 3)))
    assert json.loads(out) == {"genotype": genotype.to_dict(), "cost": expected}


def test_show_counts_nothing_where_it_is_not_asked_to(run, genotype_file):
    genotype = Genotype.load(genotype_file)
    _, out, _ = run("show", genotype_file)
    assert "--cost" in out and "parameters" not in out
    _, out, _ = run("show", genotype_file, "--json")
    assert json.loads(out) == {"genotype": genotype.to_dict(), "cost": None}


# Each prints, after its own output, whether TensorFlow has been loaded; pyplot never should be.
WATCHED = """
import json, sys
from rldarts_tf import commands
for line in json.load(sys.stdin):
    code = commands.main(line)
    loaded = {"tensorflow", "matplotlib.pyplot"} & set(sys.modules)
    print("LOADED" if loaded else "not loaded", code, line[0], flush=True)
"""


def test_no_command_that_makes_no_network_loads_tensorflow(logged, genotype_file, tmp_path):
    root, _ = logged
    (root / "search" / "metrics.csv").write_text("step,wall_time,return_mean\n1,1,1\n250,2,2\n")
    genotype_file.rename(root / "genotype.json")
    lines = [
        ["size", "classic"],
        ["random", "micro", f"--output={tmp_path}/random"],
        ["show", str(root)],
        ["show", str(root), "--json"],
        ["draw", str(root), f"--output={tmp_path}/drawn"],
        ["compare", str(root / "genotype.json"), f"{tmp_path}/random/genotype-0.json"],
        ["compare", str(root), str(root)],
        ["discretize", str(root)],
        ["plot", str(root), f"--output={tmp_path}/returns.png"],
        ["report", str(root), f"--output={tmp_path}/report.html"],
    ]
    ended = subprocess.run(
        [sys.executable, "-c", WATCHED], input=json.dumps(lines), capture_output=True, text=True
    )
    told = [line for line in ended.stdout.splitlines() if "oaded" in line.lower()]
    assert told == [f"not loaded 0 {line[0]}" for line in lines], ended.stderr


def test_notices_of_tensorflow_are_no_output(genotype_file):
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    ended = subprocess.run(
        [sys.executable, "-m", "rldarts_tf", "show", genotype_file, "--depths=4", "--image=8x8x3"],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "parameters" in ended.stdout


# --- a space and ops of one's own ---------------------------------------------------------------

OPS_OF_THE_USER = """
import tensorflow as tf
import rldarts_tf
rldarts_tf.register_op(
    "commands_blur",
    lambda filters, stride: tf.keras.layers.Conv2D(filters, 7, stride, padding="same"),
)
rldarts_tf.register_search_space(
    rldarts_tf.SearchSpace("commands_mine", ["commands_blur"], num_nodes=1)
)
"""


@pytest.fixture
def own_genotype_file(tmp_path):
    """A cell of one op, which is implemented in `commands_ops.py` beside it and nowhere else."""
    (tmp_path / "commands_ops.py").write_text(OPS_OF_THE_USER)
    path = tmp_path / "own.json"
    cells = {"normal": (((0, "commands_blur"),),)}
    space = SearchSpace("commands_mine", ("commands_blur",), num_nodes=1)
    Genotype("commands_mine", cells, space=space).save(path)
    return path


def test_a_cell_of_ops_that_are_not_there_is_shown_and_drawn(run, own_genotype_file, tmp_path):
    code, out, _ = run("show", own_genotype_file)
    assert code == 0 and "commands_blur(input)" in out
    assert run("draw", own_genotype_file, f"--output={tmp_path}", "--formats=svg")[0] == 0
    assert (tmp_path / "normal.svg").exists()
    assert run("compare", own_genotype_file, own_genotype_file)[1] == "cells: equal\n"


def test_what_needs_the_op_says_what_brings_it(own_genotype_file, server):
    show = ["show", str(own_genotype_file), "--depths=4", "--image=8x8x3"]

    def run(*arguments):
        return server.run(["-m", "rldarts_tf", *arguments], cwd=own_genotype_file.parent)

    ended = run(*show)
    assert (ended.code, ended.out) == (2, "")
    assert "'commands_blur'" in ended.err and "--import" in ended.err
    ended = run("--import", "commands_ops", *show)
    assert ended.code == 0 and "parameters" in ended.out, ended.err


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "No module named 'commands_broken'"),
        ("(", "SyntaxError"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_an_import_that_fails_is_one_line(run, tmp_path, monkeypatch, text, part):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    if text is not None:
        (tmp_path / "commands_broken.py").write_text(text)
    assert_refused(run("--import=commands_broken", "size", "micro"), "'commands_broken'", part)


def test_modules_are_imported_before_the_command_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(search_space, "_REGISTRY", dict(search_space._REGISTRY))
    for name in ("one", "two"):
        (tmp_path / f"commands_{name}.py").write_text(
            "from rldarts_tf.search_space import SearchSpace, register_search_space\n"
            f"register_search_space(SearchSpace('commands_{name}', ('op_of_{name}',)))\n"
        )
    imports = ["--import=commands_one", "--import", "commands_two"]
    for name in ("one", "two"):
        code, out, _ = run(*imports, "size", f"commands_{name}")
        assert code == 0 and f"op_of_{name}" in out


def test_show_takes_the_directory_of_a_run(run, genotype_file):
    by_file = run("show", genotype_file, "--json")
    assert run("show", genotype_file.parent, "--json") == by_file


def test_draw_writes_a_picture_of_each_cell(run, genotype_file, tmp_path):
    code, out, _ = run("draw", genotype_file, "--output", tmp_path / "new", "--formats=svg")
    assert code == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["normal.svg", "reduction.svg"]
    assert set(out.split()) == {str(p) for p in (tmp_path / "new").iterdir()}


def test_size_is_that_of_the_appendix(run):
    # G.1: Classic has 5^7 * 4^7 ... per cell type; the space itself is the oracle of the text.
    code, out, _ = run("size", "classic")
    assert code == 0
    for size in (CLASSIC.size("normal"), CLASSIC.size("reduction"), CLASSIC.size()):
        assert f"{size:,}" in out
    _, out, _ = run("size", "micro", "--top_k=1", "--num_nodes=2")
    # One input each: node 1 has 1, node 2 has 2; 4 ops.
    assert f"{4 * (4 * 2):,}" in out


def test_random_cells_are_those_of_the_seed_and_of_the_space(run, tmp_path):
    code, out, _ = run("random", "micro", "--count=3", "--seed=7", "--output", tmp_path / "cells")
    assert code == 0 and len(out.split()) == 3
    rng = random.Random(7)
    for i in range(3):
        path = tmp_path / "cells" / f"genotype-{i}.json"
        assert Genotype.load(path) == random_genotype(MICRO, rng)
    assert run("random", "micro", "--seed=7") == run("random", "micro", "--seed=7")


# --- compare ------------------------------------------------------------------------------------


def test_genotypes_that_are_equal_differ_in_nothing(run, genotype_file):
    code, out, _ = run("compare", genotype_file, genotype_file)
    assert (code, out) == (0, "cells: equal\n")


@settings(max_examples=50)
@given(seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)))
def test_every_node_that_differs_is_told_and_no_other(seeds):
    one, other = (random_genotype(MICRO, random.Random(seed)) for seed in seeds)
    told = {what for what, _, _ in commands.importlib.import_module(
        "rldarts_tf.commands.compare").genotype_differences(one, other)}  # fmt: skip
    expected = {
        f"normal node {j}"
        for j, (a, b) in enumerate(zip(one.cells["normal"], other.cells["normal"]), start=1)
        if a != b
    }
    assert told == expected


def test_definitions_of_a_space_are_compared_field_by_field(run, tmp_path):
    spaces = [SearchSpace("commands_either", ops, num_nodes=1) for ops in (("a",), ("a", "b"))]
    for name, space in zip("xy", spaces):
        Genotype(space.name, {"normal": [[(0, "a")]]}, space=space).save(tmp_path / name)
    code, out, _ = run("compare", tmp_path / "x", tmp_path / "y")
    assert code == 0
    assert out == "cells: 1 differ\n  search_space.normal_ops  ['a']  |  ['a', 'b']\n"


def test_two_runs_differ_in_settings_results_and_cells(run, tmp_path):
    for name, seed in (("a", 1), ("b", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.gin").write_text(f"TrainingSettings.seed = {seed}\nX.y = 1\n")
        stages = {"search": {"env_steps": 10, "return_mean": float(seed)}}
        (folder / "summary.json").write_text(json.dumps({"stages": stages}))
        random_genotype(MICRO, random.Random(seed)).save(folder / "genotype.json")
    code, out, _ = run("compare", tmp_path / "a", tmp_path / "b")
    assert code == 0
    assert "settings: 1 differ\n  TrainingSettings.seed  1  |  2\n" in out
    assert "results: 1 differ\n  search return_mean  1.00  |  2.00\n" in out
    assert "cells: " in out and "normal node 4" in out
    assert_refused(run("compare", tmp_path / "a", tmp_path / "a" / "genotype.json"), "directory")


# --- discretize ---------------------------------------------------------------------------------

OPS = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}
STEPS = (0, 100, 250)


def random_logits(rng, space=CLASSIC):
    return {cell: rng.normal(size=(10, len(space.ops(cell)))) for cell in space.cell_types}


@pytest.fixture
def logged(tmp_path):
    """A run directory with a log of α, and β α by step."""
    rng = np.random.default_rng(0)
    root = tmp_path / "run"
    (root / "search").mkdir(parents=True)
    (root / "config.gin").write_text(
        "search/EncoderSettings.search_space = 'classic'\n"
        "EncoderSettings.search_space = 'micro'\n"
        "EncoderSettings.output_mode = 'last'\n"
    )
    log = AlphaLog(root / "search" / "alphas.npz", OPS, 10)
    logits = {step: random_logits(rng) for step in STEPS}
    for step, value in logits.items():
        log.record(step, value)
    log.flush()
    return root, logits


@pytest.mark.parametrize(("asked", "step"), [(None, 250), (250, 250), (249, 100), (0, 0)])
@pytest.mark.parametrize("top_k", [None, 1, 3])
def test_discretize_takes_the_record_of_a_step_and_any_k(run, logged, tmp_path, asked, step, top_k):
    root, logits = logged
    options = [f"--step={asked}"] if asked is not None else []
    options += [f"--top_k={top_k}"] if top_k else []
    output = tmp_path / "found.json"
    code, out, err = run("discretize", root, f"--output={output}", *options)
    assert (code, out) == (0, f"{output}\n")
    assert f"step {step}\n" in err
    expected = discretize(logits[step], CLASSIC, top_k=top_k, output_mode="last")
    assert Genotype.load(output) == expected
    by_log = run("discretize", root / "search" / "alphas.npz", *options)
    assert expected.to_json() in by_log[1]


@pytest.mark.parametrize(("options", "cap"), [([], 2), (["--max_parameter_free=0"], 0)])
def test_discretize_keeps_to_the_caps_of_the_search_or_to_those_given(run, logged, options, cap):
    root, logits = logged
    with (root / "config.gin").open("a") as config:
        config.write("search/SearchSettings.max_parameter_free = 2\n")
    code, out, _ = run("discretize", root, *options)
    caps = make_caps(CLASSIC, max_parameter_free=cap)
    assert code == 0
    assert discretize(logits[250], CLASSIC, output_mode="last", caps=caps).to_json() in out


def test_a_threshold_is_refused_where_op_weights_are_no_shares(run, logged):
    root, _ = logged
    with (root / "config.gin").open("a") as config:
        config.write("search/SearchSettings.relaxation = 'sigmoid'\n")
        config.write("search/SearchSettings.alpha_learning_rate = 0.01\n")
    assert_refused(run("discretize", root, "--threshold=0.85"), "threshold: not with")
    code, _, err = run("discretize", root)
    assert code == 0 and "hardly moved" not in err


def test_discretize_knows_the_space_that_a_run_defines(run, tmp_path):
    space = SearchSpace("commands_defined", ("gate", "relu"), num_nodes=2, top_k=1)
    (tmp_path / "search").mkdir()
    lines = [f"search/SearchSpace.{k} = {v!r}" for k, v in space.to_config().items()]
    lines.append("search/EncoderSettings.search_space = 'commands_defined'")
    (tmp_path / "config.gin").write_text("\n".join(lines))
    log = AlphaLog(tmp_path / "search" / "alphas.npz", {"normal": space.ops("normal")}, 3)
    rng = np.random.default_rng(0)
    weights = {"normal": rng.dirichlet(np.ones(4), 3)}
    log.record(0, weights)
    log.flush()
    code, out, _ = run("discretize", tmp_path)
    assert code == 0 and discretize(weights, space).to_json() in out
    (tmp_path / "config.gin").write_text("\n".join([*lines, "SearchSpace.name = 3"][1:]))
    assert_refused(run("discretize", tmp_path), "search space")


def test_discretize_refuses_what_does_not_fit(run, logged, tmp_path, monkeypatch):
    root, _ = logged
    assert_refused(run("discretize", root, "--step=-1"), "step 0", "step -1")
    assert_refused(run("discretize", root, "--space=micro"), "space", "other cells", "reduction")
    for name, part in (("classic_no_relu", "other ops"), ("classic_six_nodes", "6 nodes")):
        if name == "classic_six_nodes":
            six = dataclasses.replace(CLASSIC, name=name, num_nodes=6)
            monkeypatch.setitem(search_space._REGISTRY, name, six)
        assert_refused(run("discretize", root, f"--space={name}"), "space", part, name)
    alone = tmp_path / "alphas.npz"
    alone.write_bytes((root / "search" / "alphas.npz").read_bytes())
    assert_refused(run("discretize", alone), "--space")
    assert run("discretize", alone, "--space=classic")[0] == 0
    assert_refused(run("discretize", root, f"--output={tmp_path}/no/where"), "output", "no/where")


def test_discretize_names_the_log_that_a_run_lacks_and_what_it_has(run, logged):
    root, _ = logged
    (root / "search" / "alphas.npz").unlink()
    assert_refused(run("discretize", root), str(root), "has no search/alphas.npz\n")
    checkpoints = root / "search" / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / "ckpt-7.index").touch()
    assert_refused(run("discretize", root), "has no search/alphas.npz; its", str(checkpoints))


def test_discretize_finds_alpha_in_a_checkpoint_of_any_program(run, tmp_path):
    import tensorflow as tf

    from rldarts_tf import Supernet
    from rldarts_tf.runs.alpha_checkpoint import read_logits

    supernet, target = (Supernet(MICRO, [4], inverse_temperature=2.0) for _ in range(2))
    rng = np.random.default_rng(1)
    for node in supernet.alpha.logits["normal"]:
        node.assign(rng.normal(size=node.shape))
    optimizer = tf.keras.optimizers.Adam()
    optimizer.build(supernet.alpha.trainable_weights)
    checkpoint = tf.train.Checkpoint(
        # The weights are saved under the shorter path, which does not say what they are.
        weights=list(supernet.alpha.trainable_weights),
        agent=tf.train.Checkpoint(inner=supernet),
        target_network=target,
        optimizer=optimizer,
    )
    folder = tmp_path / "checkpoints"
    prefix = checkpoint.write(str(folder / "ckpt-7"))
    found = read_logits(prefix)
    np.testing.assert_array_equal(found["normal"], supernet.alpha.numpy_logits()["normal"])
    expected = dataclasses.replace(supernet.discretize(), top_k=2)
    for source in (prefix, f"{prefix}.index", folder):
        code, out, _ = run("discretize", source, "--space=micro")
        assert code == 0 and expected.to_json() in out
    assert_refused(run("discretize", folder, "--space=micro", "--step=8"), "step 8", "it has 7")
    assert_refused(run("discretize", prefix, "--space=classic"), "classic", "reduction")
    (folder / "ckpt-7.index").write_bytes(b"nothing")
    assert_refused(run("discretize", prefix, "--space=micro"), "cannot be read")
    empty = tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "other"))
    assert_refused(run("discretize", empty, "--space=micro"), "no supernet")
