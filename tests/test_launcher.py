"""The launcher as its user meets it: processes, exit codes, terminals and files."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import sys
import sysconfig
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import events
import numpy as np
import pytest
import tiny
from launching import (
    Interrupted,
    assert_little_was_lost,
    assert_only_progress,
    assert_stopped_well,
    assert_valid,
    binding,
    complaints,
    documented,
    interrupt,
    preloads,
)
from processes import (
    ROOT,
    Ended,
    Launcher,
    assert_refused,
    checkpoint_step,
    complete_rows,
    contents,
    numbers,
    rows_of,
    snapshot,
)
from reference import reference_discretize

from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.search_space import CLASSIC

PPO = tiny.PPO.launcher
LAUNCHER = PPO.path

# On a busy machine; alone it takes a few minutes for the whole file.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

BATCH = tiny.PPO.update
# Cells of both kinds, small.
WHOLE = tiny.PPO.having(
    *tiny.SMALL_SPACE,
    "search/SearchSpace.reduction_ops = ['conv_3x3', 'max_pool_3x3']",
    "search/SearchSpace.num_reduction = 1",
    "TrainingSettings.pictures = 1",
    "TrainingSettings.evaluation_interval = 64",
    "TrainingSettings.evaluation_episodes = 1",
    "TrainingSettings.final_evaluation_episodes = 2",
)


quick = preloads(PPO)


# --- runs, made once for all tests --------------------------------------------------------------

STEPS = 6 * BATCH
LONG_STEPS = 24 * BATCH


@dataclasses.dataclass(frozen=True)
class Whole:
    """A run of all stages, and the baseline after it."""

    root: Path
    ended: Ended
    files: dict[str, tuple]
    baseline: Ended
    files_after_baseline: dict[str, tuple]


def make_whole(root: Path, quick: Launcher) -> Whole:
    ended = PPO.launch(WHOLE.flags(root, STEPS))
    files = snapshot(root)
    baseline = quick.launch(WHOLE.flags(root, STEPS, "--stage=baseline"))
    return Whole(root, ended, files, baseline, snapshot(root))


def make_interrupted(root: Path, quick: Launcher) -> Interrupted:
    flags = tiny.PPO.having(*tiny.SMALL_SPACE).flags(root, LONG_STEPS, "--stage=search")
    return interrupt(quick, root, flags)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, quick):
    folder = tmp_path_factory.mktemp("runs")
    with ThreadPoolExecutor(2) as pool:
        whole = pool.submit(make_whole, folder / "whole", quick)
        interrupted = pool.submit(make_interrupted, folder / "interrupted", quick)
        return whole.result(), interrupted.result()


@pytest.fixture(scope="module")
def whole(runs) -> Whole:
    assert runs[0].ended.code == 0, runs[0].ended.err
    return runs[0]


@pytest.fixture(scope="module")
def interrupted(runs) -> Interrupted:
    return runs[1]


# --- a whole run --------------------------------------------------------------------------------


def test_a_run_leaves_every_file_of_the_contract_and_no_other(whole):
    names = {
        re.sub(r"(ckpt|events\.out\.tfevents)[-.].*", r"\1", name)
        for name, entry in whole.files.items()
        if entry != ("folder",)
    }
    each = {"metrics.csv", "checkpoints/checkpoint", "checkpoints/ckpt"}
    each |= {"tensorboard/events.out.tfevents"}
    assert names == {
        "config.gin",
        "genotype.json",
        "summary.json",
        *(f"cells/{cell}.{form}" for cell in ("normal", "reduction") for form in ("svg", "png")),
        *(f"{stage}/{name}" for stage in ("search", "evaluate") for name in each),
        "search/alphas.npz",
        "search/genotypes.jsonl",
        "search/op_weights.png",
        "returns.png",
    }


def test_the_cell_is_what_the_last_weights_of_the_search_say(whole):
    history = read_alphas(whole.root / "search/alphas.npz")
    assert history.steps.tolist() == list(range(0, STEPS + 1, BATCH))
    implied = ("skip_connect", "none")
    ops = {
        "reduction": ("conv_3x3", "max_pool_3x3", *implied),
        "normal": ("relu", "conv_3x3", *implied),
    }
    assert (history.ops, history.num_edges) == (ops, 3)
    for logits in history.logits.values():
        assert logits.shape == (STEPS // BATCH + 1, 3, 4)
        np.testing.assert_array_equal(logits[0], 0)
    assert any((logits[-1] != 0).any() for logits in history.logits.values())
    _, last = history.at(STEPS)
    genotype = Genotype.load(whole.root / "genotype.json")
    assert genotype.cells == reference_discretize(last, ops, 2)
    assert (genotype.search_space, genotype.output_mode) == ("launcher_space", "concat")
    # The log of distinct cells ends with it, or has met it before.
    lines = (whole.root / "search/genotypes.jsonl").read_text("utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert entries[0]["step"] == 0
    assert [entry["step"] for entry in entries] == sorted({entry["step"] for entry in entries})
    logged = [Genotype.from_dict(entry["genotype"]) for entry in entries]
    assert genotype in logged and len(set(logged)) == len(logged)


def test_the_drawings_are_pictures_of_the_cells(whole):
    from matplotlib import image

    for curves in ("returns.png", "search/op_weights.png"):
        assert image.imread(whole.root / curves).std() > 0.01
    genotype = Genotype.load(whole.root / "genotype.json")
    for cell, nodes in genotype.cells.items():
        pixels = image.imread(whole.root / f"cells/{cell}.png")
        assert min(pixels.shape[:2]) > 100 and pixels.std() > 0.01
        svg = xml.etree.ElementTree.parse(whole.root / f"cells/{cell}.svg").getroot()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        source = (whole.root / f"cells/{cell}.svg").read_text("utf-8")
        assert all(op in source for node in nodes for _, op in node)


def test_summary_tells_what_each_stage_ended_with(whole):
    summary = json.loads((whole.root / "summary.json").read_text("utf-8"))
    stages = summary["stages"]
    assert [stages[stage]["exit_state"] for stage in ("search", "discretize", "evaluate")] == [
        "finished"
    ] * 3
    assert {"python", "tensorflow", "tf_agents", "numpy", "rldarts_tf"} <= set(summary["versions"])
    assert summary["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    for stage, encoder in (("search", "Supernet"), ("evaluate", "DiscreteNetwork")):
        entry = stages[stage]
        assert (entry["encoder"], entry["game"], entry["seed"]) == (encoder, "bossfight", 0)
        assert entry["env_steps"] == STEPS
        assert entry["wall_time_s"] > 0 and entry["env_steps_per_second"] > 0
        assert entry["eval_test_return_mean"] >= 0
        # "easy" bossfight: R_min 0.5, R_max 13.
        normalized = (entry["eval_test_return_mean"] - 0.5) / (13 - 0.5)
        assert entry["eval_test_return_mean_normalized"] == pytest.approx(normalized)
    genotype = Genotype.load(whole.root / "genotype.json").to_dict()
    assert stages["evaluate"]["genotype"] == genotype
    assert stages["discretize"]["search_steps"] == STEPS


@pytest.mark.parametrize("stage", ["search", "evaluate"])
def test_metrics_have_a_row_for_each_update_and_tensorboard_has_the_same(whole, stage):
    rows = rows_of(whole.root / stage / "metrics.csv")
    assert numbers(rows, "step") == list(range(BATCH, STEPS + 1, BATCH))
    assert {"wall_time", "return_mean", "return_std", "episodes", "loss"} <= set(rows[0])
    times = numbers(rows, "wall_time")
    assert times == sorted(times) and times[0] > 0
    for column in ("loss", "policy_loss", "value_loss", "entropy", "episodes"):
        assert len(numbers(rows, column)) == len(rows)
    # Evaluated every 64 steps; the last evaluation stands in the summary.
    evaluated = [int(row["step"]) for row in rows if row["eval_test_return_mean"]]
    assert evaluated == list(range(64, STEPS, 64))

    seen: dict[str, dict[int, float]] = {}
    folder = whole.root / stage / "tensorboard"
    assert len([*folder.iterdir()]) == 1
    for tag, step, number in events.scalars(folder):
        # Its group stands before the name.
        seen.setdefault(tag.rpartition("/")[2], {})[step] = number
    for column in set(rows[0]) - {"step", "wall_time"}:
        table = {int(row["step"]): float(row[column]) for row in rows if row[column]}
        assert seen.get(column, {}) == pytest.approx(table, rel=1e-6), column


def test_the_newest_checkpoint_is_of_the_last_step(whole):
    for stage in ("search", "evaluate"):
        assert checkpoint_step(whole.root / stage) == STEPS


def test_standard_output_has_the_tables_and_the_cell(whole):
    out = whole.ended.out
    order = [
        out.index(f"{line}\n")
        for line in ("search: finished", f"discretize: the cell at step {STEPS}")
    ]
    order.append(out.index("evaluate: finished\n"))
    # At the end, where a user looks first: what was found, and where it is.
    order.append(out.index("the cell found:\n"))
    order.append(out.index(f"genotype: {whole.root / 'genotype.json'}\n"))
    assert order == sorted(order)
    for text in ("Supernet", "DiscreteNetwork", "bossfight (easy), seed 0", "environment steps"):
        assert text in out
    for cell, nodes in Genotype.load(whole.root / "genotype.json").cells.items():
        assert f"{cell} cell" in out
        assert all(op in out for node in nodes for _, op in node)
    assert f"drawings: {whole.root / 'cells'}" in out
    assert out.endswith(f"run: {whole.root}\n")


def test_standard_error_has_plain_lines_of_progress_and_nothing_else(whole):
    assert_only_progress(whole.ended.err, STEPS)
    lines = whole.ended.err.splitlines()
    for stage in ("search", "evaluate"):
        own = [line for line in lines if line.startswith(stage)]
        assert f"{STEPS}/{STEPS} steps (100.0 %)" in own[-1]
    assert "\x1b" not in whole.ended.err + whole.ended.out


def test_a_second_start_trains_nothing_and_changes_nothing(whole, quick):
    again = quick(WHOLE.flags(whole.root, STEPS))
    assert again.code == 0, again.err
    assert complaints(again.err) == []
    assert "search: finished" in again.out and "evaluate: finished" in again.out
    assert contents(whole.root) == {
        name: entry[0] for name, entry in whole.files_after_baseline.items()
    }


def test_the_run_is_repeated_from_its_config(whole, quick, tmp_path):
    config = whole.root / "config.gin"
    # On its own directory it is the same run: nothing is left to do.
    again = quick([f"--gin_file={config}", f"--root_dir={whole.root}"])
    assert (again.code, complaints(again.err)) == (0, [])
    assert "evaluate: finished" in again.out
    # On another it evaluates, say, the cell; a cell that is there already shows it at no cost.
    other = tmp_path / "other"
    other.mkdir()
    (other / "summary.json").write_bytes((whole.root / "summary.json").read_bytes())
    repeated = quick([f"--gin_file={config}", f"--root_dir={other}", "--stage=search"])
    assert repeated.code == 0, repeated.err
    assert (other / "config.gin").read_bytes() == config.read_bytes()


def test_the_config_names_every_setting_of_every_stage(whole):
    text = (whole.root / "config.gin").read_text("utf-8")
    for stage in ("search", "evaluate", "baseline"):
        assert f"{stage}/EncoderSettings.depths = [2]" in text
        assert f"{stage}/ProcgenSettings.game = 'bossfight'" in text
        assert f"{stage}/TrainingSettings.num_env_steps = {STEPS}" in text
        assert f"{stage}/TrainingSettings.seed = 0" in text
        assert f"{stage}/PPOSettings.discount = 0.999" in text
    assert "search/EncoderSettings.search_space = 'launcher_space'" in text


def test_the_baseline_joins_the_run(whole):
    assert whole.baseline.code == 0, whole.baseline.err
    assert "baseline: finished" in whole.baseline.out and "ImpalaCNN" in whole.baseline.out
    rows = rows_of(whole.root / "baseline" / "metrics.csv")
    assert numbers(rows, "step") == list(range(BATCH, STEPS + 1, BATCH))
    assert checkpoint_step(whole.root / "baseline") == STEPS
    stages = json.loads((whole.root / "summary.json").read_text("utf-8"))["stages"]
    assert stages["baseline"]["exit_state"] == "finished"
    assert set(stages) == {"search", "discretize", "evaluate", "baseline"}
    # It touches nothing of the others; the curves are drawn anew.
    for name, entry in whole.files.items():
        if name not in ("summary.json", "returns.png", "search/op_weights.png"):
            assert whole.files_after_baseline[name] == entry


# --- interruption -------------------------------------------------------------------------------


def test_sigterm_ends_with_a_checkpoint_and_exit_code_0(interrupted):
    stopped = interrupted.terminated
    assert_stopped_well(stopped, LONG_STEPS)
    assert len(stopped.metrics) >= 3
    assert stopped.summary["stages"]["search"]["env_steps"] == stopped.checkpoint
    assert "search: interrupted" in stopped.ended.out
    assert "stopping after this update" in stopped.ended.err


def test_a_start_after_sigterm_continues(interrupted):
    before, after = interrupted.terminated, interrupted.killed
    # Wall times included: what was done is not done again.
    assert after.metrics[: len(before.metrics)] == before.metrics
    assert len(after.metrics) >= len(before.metrics) + 3


def test_kill_9_loses_at_most_what_came_after_the_last_checkpoint(interrupted):
    # checkpoint_minutes = 0: after each update.
    assert_little_was_lost(interrupted, BATCH)
    killed = interrupted.killed
    assert killed.checkpoint <= int(killed.metrics[-1][0])
    final = complete_rows(interrupted.root / "search/metrics.csv")
    kept = [row for row in killed.metrics if int(row[0]) <= killed.checkpoint]
    assert len(kept) >= len(interrupted.terminated.metrics) + 2
    assert final[: len(kept)] == kept


def test_an_interrupted_run_ends_like_any_other(interrupted):
    assert interrupted.ended.code == 0, interrupted.ended.err
    assert "search: finished" in interrupted.ended.out
    expected = list(range(BATCH, LONG_STEPS + 1, BATCH))
    rows = rows_of(interrupted.root / "search/metrics.csv")
    assert [int(row["step"]) for row in rows] == expected
    times = numbers(rows, "wall_time")
    assert times == sorted(times)
    episodes = numbers(rows, "episodes")
    assert episodes == sorted(episodes)
    history = read_alphas(interrupted.root / "search/alphas.npz")
    assert history.steps.tolist() == [0, *expected]
    lines = (interrupted.root / "search/genotypes.jsonl").read_text("utf-8").splitlines()
    assert len(set(lines)) == len(lines) == numbers(rows, "distinct_genotypes")[-1]
    assert checkpoint_step(interrupted.root / "search") == LONG_STEPS
    entry = json.loads((interrupted.root / "summary.json").read_text("utf-8"))["stages"]["search"]
    assert (entry["exit_state"], entry["env_steps"]) == ("finished", LONG_STEPS)
    # No leftovers of the killed process.
    assert [name for name in contents(interrupted.root) if "partial" in name] == []


# --- bad input ----------------------------------------------------------------------------------

CELL = random_genotype(CLASSIC)


def write_inputs(folder: Path) -> None:
    """The files that the cases below refer to."""
    (folder / "file").write_text("a file, not a directory\n")
    (folder / "not_json.json").write_text("{'a': 1}")
    unknown_op = CELL.to_dict()
    unknown_op["cells"]["normal"][0][0][1] = "conv_9x9"
    (folder / "unknown_op.json").write_text(json.dumps(unknown_op))
    (folder / "binary.json").write_bytes(b"\xff\xfe\x00")
    CELL.save(folder / "cell.json")
    (folder / "self.gin").write_text(f"include '{folder / 'self.gin'}'\n")
    (folder / "typo.gin").write_text("include 'classic.gin'\n\nPPOSettings.lerning_rate = 1e-3\n")
    (folder / "open.gin").write_text("PPOSettings.num_envs = [1,\n")
    (folder / "binary.gin").write_bytes(b"\xff\xfe\x00")


# name: (flags, what the line must say). "{}" stands for the folder of `write_inputs`.
BAD_INPUT = {
    "unknown flag": (["--lerning_rate=1"], ["lerning_rate"]),
    "flag without its value": (["--seed"], ["seed"]),
    "flag of the wrong type": (["--num_env_steps=many"], ["num_env_steps", "many"]),
    "stray argument": (["classic.gin"], ["unknown argument 'classic.gin'"]),
    "unknown stage": (["--stage=train"], ["stage", "train", "evaluate"]),
    "unknown game": (["--env_name=starpilott"], ["game", "'starpilott'", "'starpilot'"]),
    "game of another suite": (["--env_name=pong"], ["game", "'pong'", "coinrun"]),
    "unknown gin file": (["--gin_file=clasic.gin"], ["gin_file", "'clasic.gin'"]),
    "empty gin file name": (["--gin_file="], ["gin_file"]),
    "gin file is a folder": (["--gin_file=spaces"], ["gin_file", "spaces"]),
    "gin file includes itself": (["--gin_file={}/self.gin"], ["self.gin", "includes itself"]),
    "gin file with a typo": (["--gin_file={}/typo.gin"], ["typo.gin", "line 3", "lerning_rate"]),
    "gin file cut short": (["--gin_file={}/open.gin"], ["open.gin", "not closed"]),
    "gin file is binary": (["--gin_file={}/binary.gin"], ["binary.gin"]),
    "unknown gin configurable": (binding("PPO.clip = 0.1"), ["'PPO.clip = 0.1'", "'PPO'"]),
    "unknown gin parameter": (binding("PPOSettings.clp = 0.1"), ["PPOSettings", "'clp'"]),
    "unknown gin scope": (binding("serch/PPOSettings.clip = 0.1"), ["'serch'", "search"]),
    "unknown gin reference": (binding("PPOSettings.clip = @clips()"), ["@clips()"]),
    "unknown gin macro": (binding("PPOSettings.clip = %CLIP"), ["CLIP"]),
    "unknown gin import": (binding("import nowhere"), ["nowhere"]),
    "binding without a value": (binding("PPOSettings.clip ="), ["PPOSettings.clip ="]),
    "binding without =": (binding("PPOSettings.clip 0.1"), ["PPOSettings.clip 0.1"]),
    "binding that is not closed": (binding("PPOSettings.clip = (1,"), ["PPOSettings.clip = (1,"]),
    "binding with a bare word": (binding("PPOSettings.clip = high"), ["PPOSettings.clip = high"]),
    "empty binding with a dot": (binding("."), ["gin_bindings '.'"]),
    "zero depth": (
        binding("search/EncoderSettings.depths = [16, 0]"),
        ["depths[1]", "got 0", "'search'"],
    ),
    "zero depth in a later stage": (
        binding("evaluate/EncoderSettings.depths = [0]"),
        ["depths[0]", "got 0", "'evaluate'"],
    ),
    "no depths": (binding("baseline/EncoderSettings.depths = []"), ["depths", "'baseline'"]),
    "unknown search space": (
        binding("search/EncoderSettings.search_space = 'big'"),
        ["search space 'big'", "classic"],
    ),
    "unknown precision": (
        binding("search/EncoderSettings.precision = 'float99'"),
        ["EncoderSettings", "precision", "'float99'", "mixed_bfloat16", "'search'"],
    ),
    "unknown precision in a later stage": (
        binding("baseline/EncoderSettings.precision = 'float99'"),
        ["EncoderSettings", "precision", "'float99'", "'baseline'"],
    ),
    "number for a truth value": (
        binding("search/EncoderSettings.recompute = 1"),
        ["EncoderSettings", "recompute", "True or False", "1", "'search'"],
    ),
    "text for a truth value": (
        binding("evaluate/EncoderSettings.recompute = 'yes'"),
        ["EncoderSettings", "recompute", "'yes'", "'evaluate'"],
    ),
    "unknown output mode": (
        binding("search/EncoderSettings.output_mode = 'max'"),
        ["output_mode", "'max'"],
    ),
    "configuration of another algorithm": (
        ["--gin_file=micro.gin"],
        ["gin_file 'micro.gin'", "RainbowSettings", "PPOSettings"],
    ),
    "negative learning rate": (
        binding("search/PPOSettings.learning_rate = -1e-4"),
        ["PPOSettings.learning_rate", "-0.0001"],
    ),
    "text for a number": (binding("PPOSettings.clip = 'x'"), ["PPOSettings.clip", "'x'"]),
    "minibatch that does not divide": (
        binding("search/PPOSettings.minibatch_size = 300"),
        ["minibatch_size", "300", "divide"],
    ),
    "no environments": (binding("PPOSettings.num_envs = 0"), ["PPOSettings.num_envs", "0"]),
    "negative seed": (["--seed=-1"], ["TrainingSettings.seed", "-1"]),
    "no steps": (["--num_env_steps=0"], ["TrainingSettings.num_env_steps", "0"]),
    "unknown difficulty": (
        binding("ProcgenSettings.distribution_mode = 'extreme'"),
        ["distribution_mode", "'extreme'"],
    ),
    "module that is not there": (["--import=no.such_module"], ["import", "'no.such_module'"]),
    "genotype file missing": (
        ["--stage=evaluate", "--genotype={}/none.json"],
        ["genotype", "none.json", "No such file"],
    ),
    "genotype file not JSON": (
        ["--stage=evaluate", "--genotype={}/not_json.json"],
        ["genotype", "not JSON"],
    ),
    "genotype file not text": (["--stage=evaluate", "--genotype={}/binary.json"], ["not UTF-8"]),
    "genotype with an unknown op": (
        ["--stage=evaluate", "--genotype={}/unknown_op.json"],
        ["cells.normal[0][0]", "'conv_9x9'"],
    ),
    "genotype without a name": (["--stage=evaluate", "--genotype="], ["genotype"]),
    "genotype for a search": (["--genotype={}/cell.json"], ["genotype", "--stage=evaluate"]),
    "evaluate without a genotype": (["--stage=evaluate"], ["genotype", "--stage=search"]),
    "discretize without a search": (["--stage=discretize"], ["no search", "--stage=search"]),
    "the cell of an α that is not trained": (
        ["--gin_bindings=search/SearchSettings.relaxation = 'random'"],
        ["relaxation = 'random'", "--stage=search", "--by=random"],
    ),
    "root_dir below a file": (["--root_dir={}/file/run"], ["root_dir", "file/run"]),
    "root_dir is a file": (["--root_dir={}/file"], ["root_dir", "is a file"]),
    "root_dir is elsewhere": (["--root_dir=gs://bucket/run"], ["root_dir", "gs://bucket/run"]),
    "empty root_dir": (["--root_dir="], ["root_dir"]),
}

# Those that are tried with processes of their own from the first import on: what is seen first of
# all, and what last. Between them nothing is imported that the others do not import.
FROM_THE_START = ("unknown flag", "root_dir below a file")


def flags_of(name: str, folder: Path) -> list[str]:
    flags = [flag.replace("{}", str(folder)) for flag in BAD_INPUT[name][0]]
    return [f"--root_dir={folder / 'run'}", *flags]


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_ends_with_one_line_and_writes_nothing(name, quick, tmp_path):
    write_inputs(tmp_path)
    before = snapshot(tmp_path)
    assert_refused(quick(flags_of(name, tmp_path)), BAD_INPUT[name][1])
    after = snapshot(tmp_path)
    # A directory that was missing may stand there empty: trying is the only way to know that it
    # can be written.
    if after.get("run") == ("folder",):
        assert name in ("evaluate without a genotype", "discretize without a search") or (
            name == "genotype for a search"
        )
        del after["run"]
    assert after == before


def fresh_cache(folder: Path) -> dict[str, str]:
    """Environment of a Python that has compiled nothing yet but packages that take longest."""
    packages = Path(sysconfig.get_path("purelib"))
    for name in ("tensorflow", "keras", "numpy", "scipy", "matplotlib"):
        for compiled in (packages / name).rglob("__pycache__/*.pyc"):
            link = folder / compiled.parents[1].relative_to("/") / compiled.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(compiled)
    return {"PYTHONPYCACHEPREFIX": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def test_bad_input_looks_the_same_from_a_fresh_installation(tmp_path, tmp_path_factory):
    write_inputs(tmp_path)
    before = contents(tmp_path)
    # Python has more to warn of then.
    fresh = fresh_cache(tmp_path_factory.mktemp("cache"))

    def run(name: str) -> Ended:
        environment = fresh if name == FROM_THE_START[0] else {}
        return PPO.launch(flags_of(name, tmp_path), env=environment)

    with ThreadPoolExecutor(2) as pool:
        for name, ended in zip(FROM_THE_START, pool.map(run, FROM_THE_START)):
            assert_refused(ended, BAD_INPUT[name][1])
    after = contents(tmp_path)
    after.pop("run", None)
    assert after == before


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        (["--seed=1"], ["TrainingSettings.seed: 0 -> 1"]),
        (["--num_env_steps=100"], ["TrainingSettings.num_env_steps: 192 -> 100"]),
        (["--env_name=coinrun"], ["ProcgenSettings.game: 'bossfight' -> 'coinrun'"]),
        (
            binding("search/EncoderSettings.depths = [4, 4]"),
            ["search/EncoderSettings.depths: [2] -> [4, 4]"],
        ),
        (binding("baseline/PPOSettings.clip = 0.1"), ["baseline/PPOSettings.clip: 0.2 -> 0.1"]),
    ],
    ids=["seed", "fewer steps", "game", "depths", "setting of another stage"],
)
def test_a_run_does_not_continue_with_other_settings(whole, quick, flags, parts):
    before = snapshot(whole.root)
    ended = quick([*WHOLE.flags(whole.root, STEPS), *flags])
    assert_refused(ended, ["root_dir", str(whole.root), *parts])
    assert snapshot(whole.root) == before


def test_another_cell_does_not_replace_an_evaluated_one(whole, quick, tmp_path):
    own = Genotype.load(whole.root / "genotype.json")
    other = next(cell for cell in iter(lambda: random_genotype(CLASSIC), None) if cell != own)
    other.save(tmp_path / "other.json")
    before = snapshot(whole.root)
    flags = ["--stage=evaluate", f"--genotype={tmp_path / 'other.json'}"]
    ended = quick(WHOLE.flags(whole.root, STEPS, *flags))
    assert_refused(ended, ["root_dir", str(whole.root), "another cell"])
    assert snapshot(whole.root) == before


def test_a_directory_in_use_is_refused(quick, tmp_path):
    with RunDirectory(tmp_path / "run"):
        before = snapshot(tmp_path)
        ended = quick([f"--root_dir={tmp_path / 'run'}"])
        assert_refused(ended, ["root_dir", "in use", str(os.getpid())])
        assert snapshot(tmp_path) == before


def test_a_run_has_a_directory_by_default(quick, tmp_path):
    ended = quick(["--stage=discretize", "--env_name=maze", "--seed=3"], cwd=tmp_path)
    assert_refused(ended, ["no search", str(tmp_path / "runs/ppo_procgen-maze-3")])


# --- help and examples --------------------------------------------------------------------------


def test_help_shows_examples_and_every_flag(quick):
    ended = quick(["--help"])
    text = " ".join(ended.out.split())
    assert "Examples:" in text
    assert "python launchers/ppo_procgen.py --gin_file=classic.gin" in text
    for flag, words in {
        "root_dir": "Run directory",
        "gin_file": "Settings file",
        "gin_bindings": "One setting",
        "env_name": "Procgen game",
        "seed": "Random seed",
        "num_env_steps": "Environment steps",
        "genotype": "Genotype file",
        "stage": "all|search|discretize|evaluate|baseline",
    }.items():
        shown = re.search(rf"--{flag}: (.*?)(?= --\w+: | Try )", text)
        assert shown and words in shown[1], flag
    assert ended.err == ""


MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
DEMO = re.search(r"^DEMO_PROCGEN_FLAGS \?= (.*)$", MAKEFILE, re.M)[1]
DOCUMENTED = {
    **documented(PPO),
    "Makefile": DEMO.replace("$(DEMO_PROCGEN_ROOT)", "runs/demo-procgen").split(),
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_documented_commands_are_valid(name, quick, tmp_path):
    CELL.save(tmp_path / "cell.json")
    flags = [
        re.sub(r"^--genotype=.*", f"--genotype={tmp_path / 'cell.json'}", flag)
        for flag in DOCUMENTED[name]
    ]
    assert flags
    assert_valid(quick, tmp_path, flags)


def test_documented_commands_are_found():
    assert len([name for name in DOCUMENTED if name.startswith(LAUNCHER)]) == 5
    assert len([name for name in DOCUMENTED if name.startswith("docs/")]) >= 2
