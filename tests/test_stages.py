"""Stages: what runs, in which order, with which network, and what a run directory refuses."""

from __future__ import annotations

import hashlib
import math
import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from reference import reference_discretize

from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.baselines import ImpalaCNN
from rldarts_tf.encoders import DiscreteNetwork, Supernet
from rldarts_tf.errors import ConfigError, GenotypeError, RunError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.launch.stages import STAGES, Pipeline, check_encoders
from rldarts_tf.pictures import drawing, plotting
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.search_log import AlphaLog
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import CLASSIC, MICRO, num_edges
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

ENCODERS = {
    "search": EncoderSettings(depths=[3, 4], output_mode="sum", features=6),
    "evaluate": EncoderSettings(depths=[5, 6, 7], features=8),
    "baseline": EncoderSettings(depths=[9], features=10),
}
RESTING = SimpleNamespace(normal=lambda size: np.linspace(0.0, 0.01, math.prod(size)).reshape(size))
LENGTHS = {stage: 4000 for stage in ENCODERS}
CELL = random_genotype(CLASSIC, random.Random(1))
OTHER_CELL = random_genotype(CLASSIC, random.Random(2))
DRAWINGS = {"normal.png", "normal.svg", "reduction.png", "reduction.svg"}


class FakeTraining:
    """Trains nothing; records its calls, and leaves what a real training would leave.

    Args:
      interrupt: the stages that are interrupted, each only once.
    """

    def __init__(self, interrupt: tuple[str, ...] = ()) -> None:
        self.calls: list[tuple[str, Path, object]] = []
        self.logits: dict[str, np.ndarray] = {}
        self._interrupt = list(interrupt)

    @property
    def stages(self) -> list[str]:
        return [stage for stage, _, _ in self.calls]

    def encoder(self, stage: str):
        return next(encoder for name, _, encoder in self.calls if name == stage)

    def __call__(self, stage, stage_dir, encoder):
        self.calls.append((stage, stage_dir.path, encoder))
        stage_dir.path.mkdir(exist_ok=True)
        if isinstance(encoder, Supernet):
            self._log_random_alpha(stage_dir, encoder.space, seed=len(self.calls))
        interrupted = stage in self._interrupt
        if interrupted:
            self._interrupt.remove(stage)
        return {
            "exit_state": "interrupted" if interrupted else "finished",
            "encoder": type(encoder).__name__,
            "game": "fake_game",
            "distribution_mode": "easy",
            "seed": 17,
            "env_steps": 4321,
            "return_mean": float("nan"),
            "eval_test_return_mean": 2.5,
            "eval_test_return_std": 0.5,
            "eval_test_return_mean_normalized": 0.25,
        }

    def _log_random_alpha(self, stage_dir, space, seed):
        rng = np.random.default_rng(seed)
        log = AlphaLog(
            stage_dir.alphas_path, {t: space.ops(t) for t in space.cell_types}, len(space.edges)
        )
        for step in (0, 100, 200):
            self.logits = {
                t: rng.normal(size=(num_edges(space.num_nodes), len(space.ops(t))))
                for t in space.cell_types
            }
            log.record(step, self.logits)
        log.flush()


@pytest.fixture(autouse=True)
def quick_drawings(monkeypatch):
    """What a drawing looks like is tested elsewhere; here: which cell was drawn, and where."""

    def draw(genotype, directory, formats=("svg", "png")):
        paths = [Path(directory) / f"{t}.{f}" for t in genotype.cells for f in formats]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            path.write_text(genotype.to_json(), "utf-8")
        return paths

    def plot_op_weights(alphas_path, path, contributions_path):
        path.write_text(f"op weights of {alphas_path.parent.name}")

    def plot_run(run_dirs, output):
        (root,) = run_dirs
        folders = [f for f in ("search", "evaluate", "baseline") if (Path(root) / f).exists()]
        if folders == ["baseline"]:
            raise RunError("nothing to draw")
        output.write_text(" ".join(folders))

    monkeypatch.setattr(drawing, "draw_genotype", draw)
    monkeypatch.setattr(plotting, "plot_op_weights", plot_op_weights)
    monkeypatch.setattr(plotting, "plot_run", plot_run)


@pytest.fixture
def run(tmp_path):
    with RunDirectory(tmp_path / "run") as directory:
        yield directory


def files(run) -> dict[str, str]:
    return {
        str(path.relative_to(run.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.root.rglob("*"))
        if path.is_file()
    }


def drawn(run) -> set[str]:
    """The cells that the drawings show, as JSON."""
    assert {path.name for path in run.cells_dir.iterdir()} == DRAWINGS
    return {path.read_text("utf-8") for path in run.cells_dir.iterdir()}


def expected_genotype(train: FakeTraining) -> Genotype:
    """Algorithm 4, as the tests' own reference has it, on the last α of the search."""
    cells = {
        t: reference_discretize({t: logits}, {t: CLASSIC.ops(t)}, CLASSIC.top_k)[t]
        for t, logits in train.logits.items()
    }
    return Genotype("classic", cells, 2, "sum", num_normal=1, num_reduction=1)


# --- what runs ----------------------------------------------------------------------------------


def test_all_is_search_then_discretize_then_evaluate(run, capsys):
    train = FakeTraining()
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is True
    assert [(stage, path) for stage, path, _ in train.calls] == [
        ("search", run.root / "search"),
        ("evaluate", run.root / "evaluate"),
    ]
    stages = read_summary(run.summary_path)["stages"]
    assert list(stages) == ["search", "discretize", "evaluate"]
    assert {entry["exit_state"] for entry in stages.values()} == {"finished"}
    shown = capsys.readouterr().out
    order = [shown.index(f"{name}:") for name in ("search", "discretize", "evaluate")]
    assert order == sorted(order)


def test_each_stage_gets_its_own_network(run):
    train = FakeTraining()
    Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    Pipeline(run, train, ENCODERS, LENGTHS).run("baseline")
    assert train.stages == ["search", "evaluate", "baseline"]
    search, evaluate, baseline = (train.encoder(stage) for stage in train.stages)
    assert type(search) is Supernet and search.space == CLASSIC
    assert (search.depths, search.output_mode, search.features) == ((3, 4), "sum", 6)
    assert type(evaluate) is DiscreteNetwork
    assert evaluate.genotype == Genotype.load(run.genotype_path)
    assert (evaluate.depths, evaluate.features) == ((5, 6, 7), 8)
    assert type(baseline) is ImpalaCNN
    assert (baseline.depths, baseline.features) == ((9,), 10)


def test_the_cell_is_that_of_the_last_weights_of_the_search(run):
    train = FakeTraining()
    Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    genotype = Genotype.load(run.genotype_path)
    assert genotype == expected_genotype(train)
    assert drawn(run) == {genotype.to_json()}
    stages = read_summary(run.summary_path)["stages"]
    assert stages["discretize"]["search_steps"] == 200
    assert stages["evaluate"]["genotype"] == genotype.to_dict()
    assert "genotype" not in stages["search"]


def test_the_cell_is_within_the_caps_of_the_search(run):
    train = FakeTraining()
    method = SearchSettings(max_parameter_free=1)
    Pipeline(run, train, ENCODERS, LENGTHS, search=method).run("all")

    def parameter_free(genotype: Genotype) -> int:
        ops = [op for node in genotype.cells["reduction"] for _, op in node]
        return sum(not op.startswith("conv") for op in ops)

    assert parameter_free(expected_genotype(train)) > 1
    assert parameter_free(Genotype.load(run.genotype_path)) == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_finished_is_not_run_again(run, stage, capsys):
    first = FakeTraining()
    for each in ("all", "baseline"):
        Pipeline(run, first, ENCODERS, LENGTHS).run(each)
    before = files(run)
    capsys.readouterr()
    again = FakeTraining()
    assert Pipeline(run, again, ENCODERS, LENGTHS).run(stage) is True
    assert again.calls == []
    assert files(run) == before
    # What was found is shown all the same.
    shown = capsys.readouterr().out
    assert all(f"{name}: " in shown for name in STAGES[stage])


def test_stages_can_be_run_one_by_one(run, tmp_path):
    train = FakeTraining()
    for stage in ("search", "discretize", "evaluate"):
        assert Pipeline(run, train, ENCODERS, LENGTHS).run(stage) is True
    assert train.stages == ["search", "evaluate"]
    with RunDirectory(tmp_path / "at once") as other:
        Pipeline(other, FakeTraining(), ENCODERS, LENGTHS).run("all")
        assert files(other)["genotype.json"] == files(run)["genotype.json"]


def test_the_baseline_needs_no_search_and_leaves_no_cell(run):
    assert Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).run("baseline") is True
    assert list(read_summary(run.summary_path)["stages"]) == ["baseline"]
    assert not run.genotype_path.exists() and not run.cells_dir.exists()


def test_the_table_shows_what_the_training_returned(run, capsys):
    Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).run("baseline")
    table = " ".join(capsys.readouterr().out.split())
    assert " baseline: finished " in table
    assert "encoder ImpalaCNN" in table and "fake_game (easy), seed 17" in table
    assert "4,321" in table
    assert "2.50 ± 0.50 (normalized 0.25)" in table
    assert "training return - (normalized -;" in table, "there was no episode"


def test_curves_are_drawn_after_each_training(run):
    train = FakeTraining(interrupt=("search",))
    Pipeline(run, train, ENCODERS, LENGTHS).run("search")
    assert (run.root / "returns.png").read_text() == "search"
    assert (run.root / "search" / "op_weights.png").read_text() == "op weights of search"
    Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    Pipeline(run, train, ENCODERS, LENGTHS).run("baseline")
    assert (run.root / "returns.png").read_text() == "search evaluate baseline"


def test_a_run_without_anything_to_draw_stands_all_the_same(run, capsys):
    assert Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).run("baseline") is True
    assert "no curves drawn: nothing to draw" in capsys.readouterr().out
    assert read_summary(run.summary_path)["stages"]["baseline"]["exit_state"] == "finished"
    assert not (run.root / "search").exists()


# --- interruption -------------------------------------------------------------------------------


def test_an_interrupted_search_stops_the_pipeline_and_is_continued(run):
    train = FakeTraining(interrupt=("search",))
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is False
    assert train.stages == ["search"]
    assert read_summary(run.summary_path)["stages"]["search"]["exit_state"] == "interrupted"
    assert not run.genotype_path.exists()
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is True
    assert train.stages == ["search", "search", "evaluate"]
    # The weights of the second call: those that the search ended with.
    assert Genotype.load(run.genotype_path) == expected_genotype(train)
    assert read_summary(run.summary_path)["stages"]["search"]["exit_state"] == "finished"


def test_an_interrupted_evaluation_is_continued_with_the_same_cell(run):
    train = FakeTraining(interrupt=("evaluate",))
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is False
    found = Genotype.load(run.genotype_path)
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is True
    assert train.stages == ["search", "evaluate", "evaluate"]
    assert [encoder.genotype for _, _, encoder in train.calls[1:]] == [found, found]


def test_a_training_that_fails_leaves_no_entry(run):
    def fail(stage, stage_dir, encoder):
        raise RunError("the loss is nan")

    with pytest.raises(RunError, match="the loss is nan"):
        Pipeline(run, fail, ENCODERS, LENGTHS).run("all")
    assert not run.summary_path.exists()
    train = FakeTraining()
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("all") is True
    assert train.stages == ["search", "evaluate"]


def test_drawings_that_were_not_finished_are_made_on_the_next_start(run, monkeypatch):
    draw = drawing.draw_genotype

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(drawing, "draw_genotype", killed)
    train = FakeTraining()
    with pytest.raises(KeyboardInterrupt):
        Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    monkeypatch.setattr(drawing, "draw_genotype", draw)
    Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    assert train.stages == ["search", "evaluate"]
    assert drawn(run) == {expected_genotype(train).to_json()}


# --- a given cell -------------------------------------------------------------------------------


def test_a_given_cell_is_adopted_drawn_and_evaluated(run):
    train = FakeTraining()
    assert Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate") is True
    assert train.stages == ["evaluate"]
    assert train.encoder("evaluate").genotype == CELL
    assert Genotype.load(run.genotype_path) == CELL
    assert drawn(run) == {CELL.to_json()}
    assert read_summary(run.summary_path)["stages"]["evaluate"]["genotype"] == CELL.to_dict()


def test_a_given_cell_takes_the_place_of_one_that_was_not_evaluated(run):
    train = FakeTraining()
    for stage in ("search", "discretize"):
        Pipeline(run, train, ENCODERS, LENGTHS).run(stage)
    assert Genotype.load(run.genotype_path) != CELL
    Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate")
    assert Genotype.load(run.genotype_path) == CELL
    assert drawn(run) == {CELL.to_json()}


def test_the_same_cell_may_be_given_again(run):
    train = FakeTraining(interrupt=("evaluate",))
    assert Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate") is False
    assert Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate") is True
    # Nor need it be given again.
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("evaluate") is True
    assert [encoder.genotype for _, _, encoder in train.calls] == [CELL, CELL]


@pytest.mark.parametrize("interrupt", [(), ("evaluate",)])
def test_another_cell_is_refused_once_one_was_evaluated(run, interrupt):
    train = FakeTraining(interrupt)
    Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate")
    before = files(run)
    for call in ("check", "run"):
        with pytest.raises(RunError) as error:
            getattr(Pipeline(run, train, ENCODERS, LENGTHS, OTHER_CELL), call)("evaluate")
        message = str(error.value)
        assert str(run.root) in message and "another cell" in message and "\n" not in message
    assert files(run) == before
    assert train.stages == ["evaluate"]


def test_a_search_that_finds_another_cell_does_not_replace_an_evaluated_one(run):
    train = FakeTraining()
    Pipeline(run, train, ENCODERS, LENGTHS, CELL).run("evaluate")
    before = files(run)
    with pytest.raises(RunError, match="evaluation of another cell"):
        Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    after = files(run)
    for name, digest in before.items():
        if name not in ("summary.json", "returns.png"):
            assert after[name] == digest, name
    # The search is not lost, and the evaluation still names its own cell.
    stages = read_summary(run.summary_path)["stages"]
    assert set(stages) == {"search", "evaluate"}
    assert stages["evaluate"]["genotype"] == CELL.to_dict()


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "evaluate"])
def test_a_cell_is_refused_where_it_would_not_be_used(run, stage):
    train = FakeTraining()
    for call in ("check", "run"):
        with pytest.raises(ConfigError, match=f"genotype: .*--stage={stage}"):
            getattr(Pipeline(run, train, ENCODERS, LENGTHS, CELL), call)(stage)
    assert train.calls == [] and set(files(run)) <= {".lock"}


# --- what is missing or damaged -----------------------------------------------------------------


@pytest.mark.parametrize("call", ["check", "run"])
def test_discretize_without_a_search_says_so(run, call):
    with pytest.raises(RunError) as error:
        getattr(Pipeline(run, FakeTraining(), ENCODERS, LENGTHS), call)("discretize")
    assert "holds no search" in str(error.value) and str(run.root) in str(error.value)
    assert set(files(run)) <= {".lock"}


@pytest.mark.parametrize("call", ["check", "run"])
def test_discretize_after_a_search_without_records_says_so(run, call):
    stage_dir = run.stage("search")
    ops = {t: CLASSIC.ops(t) for t in CLASSIC.cell_types}
    log = AlphaLog(stage_dir.alphas_path, ops, len(CLASSIC.edges))
    log.record(0, {t: np.ones((10, len(ops[t]))) for t in ops})
    log.flush()
    # A search that is started anew after a kill before its first checkpoint drops the records.
    AlphaLog(stage_dir.alphas_path, ops, len(CLASSIC.edges))
    with pytest.raises(RunError, match="holds no search"):
        getattr(Pipeline(run, FakeTraining(), ENCODERS, LENGTHS), call)("discretize")


@pytest.mark.parametrize("call", ["check", "run"])
def test_evaluate_without_a_cell_says_what_to_do(run, call):
    train = FakeTraining()
    with pytest.raises(ConfigError, match=r"^genotype: .*--stage=search.*--genotype=FILE"):
        getattr(Pipeline(run, train, ENCODERS, LENGTHS), call)("evaluate")
    assert train.calls == [] and set(files(run)) <= {".lock"}


@pytest.mark.parametrize("call", ["check", "run"])
def test_a_damaged_search_log_is_named(run, call):
    train = FakeTraining()
    Pipeline(run, train, ENCODERS, LENGTHS).run("search")
    path = run.stage("search").alphas_path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=r"alphas\.npz"):
        getattr(Pipeline(run, train, ENCODERS, LENGTHS), call)("discretize")
    assert not run.genotype_path.exists()


def test_a_damaged_genotype_file_is_refused_before_training(run):
    run.genotype_path.write_text("{", "utf-8")
    train = FakeTraining()
    with pytest.raises(GenotypeError, match=r"genotype\.json.*not JSON"):
        Pipeline(run, train, ENCODERS, LENGTHS).run("evaluate")
    assert train.calls == []


def test_the_weights_of_another_search_space_are_refused(run):
    Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).run("search")
    micro = {**ENCODERS, "search": EncoderSettings(search_space="micro")}
    with pytest.raises(RunError, match=r"alphas\.npz.*other cells than search space 'micro'"):
        Pipeline(run, FakeTraining(), micro, LENGTHS).run("discretize")
    assert not run.genotype_path.exists()


def test_check_changes_nothing_and_accepts_what_run_accepts(run):
    for stage, genotype in (("all", None), ("search", None), ("evaluate", CELL)):
        Pipeline(run, FakeTraining(), ENCODERS, LENGTHS, genotype).check(stage)
        assert set(files(run)) <= {".lock"}
    Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).run("search")
    Pipeline(run, FakeTraining(), ENCODERS, LENGTHS).check("discretize")
    assert not run.genotype_path.exists()


# --- check_encoders -----------------------------------------------------------------------------


def test_good_settings_of_all_stages_pass():
    check_encoders(ENCODERS)
    check_encoders(ENCODERS, CELL)
    for space in (MICRO.name, "classic_no_relu"):
        check_encoders({**ENCODERS, "search": EncoderSettings(search_space=space)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("depths", [0]),
        ("depths", []),
        ("depths", [16, -1]),
        ("depths", [1.5]),
        ("depths", "16"),
        ("features", 0),
        ("recompute", 1),
        ("precision", "float99"),
        ("output_mode", "concatenate"),
        ("inverse_temperature", 0.0),
        ("normalization", "group"),
        ("baseline", "supernet"),
    ],
)
def test_a_wrong_option_is_refused_as_a_setting(field, value):
    with pytest.raises(ConfigError, match=rf"^EncoderSettings\.{field}\b.* "):
        EncoderSettings(**{field: value})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search_space": "clasic"}, ["search space", "'clasic'"]),
        ({"recompute": True, "normalization": "batch"}, ["recompute", "batch normalization"]),
    ],
)
def test_settings_that_do_not_go_together_are_found_before_the_first_stage(changes, words):
    with pytest.raises(ConfigError) as error:
        check_encoders({**ENCODERS, "search": EncoderSettings(**changes)})
    message = str(error.value)
    assert message.startswith("EncoderSettings: ") and message.endswith("(stage 'search')")
    assert all(word in message for word in words) and "\n" not in message


def test_a_stage_that_has_finished_goes_on_where_it_is_to_be_longer(run):
    train, longer = FakeTraining(), {stage: 9000 for stage in LENGTHS}
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("search")
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("search")
    assert train.stages == ["search"]
    Pipeline(run, train, ENCODERS, longer).run("search")
    assert train.stages == ["search", "search"]


@pytest.mark.parametrize("call", ["check", "run"])
def test_a_search_is_not_extended_past_the_evaluation_of_its_cell(run, call):
    train, longer = FakeTraining(), {stage: 9000 for stage in LENGTHS}
    Pipeline(run, train, ENCODERS, LENGTHS).run("all")
    before = files(run)
    with pytest.raises(RunError, match="extend the evaluation alone"):
        getattr(Pipeline(run, train, ENCODERS, longer), call)("all")
    assert files(run) == before and train.stages == ["search", "evaluate"]
    Pipeline(run, train, ENCODERS, longer).run("evaluate")
    assert train.stages == ["search", "evaluate", "evaluate"]


def test_a_cell_from_an_alpha_that_has_hardly_moved_comes_with_a_warning(run, capsys, monkeypatch):
    train = FakeTraining()
    Pipeline(run, train, ENCODERS, LENGTHS).run("search")
    assert Pipeline(run, train, ENCODERS, LENGTHS).run("discretize")
    assert "hardly moved" not in capsys.readouterr().err
    resting = FakeTraining()
    monkeypatch.setattr(np.random, "default_rng", lambda seed: RESTING)
    with RunDirectory(run.root.parent / "other") as other:
        Pipeline(other, resting, ENCODERS, LENGTHS).run("search")
        assert Pipeline(other, resting, ENCODERS, LENGTHS).run("discretize")
    assert "warning: α has hardly moved: no op's weight is more than 8" in capsys.readouterr().err


def test_a_stage_that_would_end_before_it_learns_is_refused():
    numbers = SACSettings(min_replay_size=1000)
    StageSettings(numbers, None, TrainingSettings(num_env_steps=1001)).check("search", None)
    with pytest.raises(ConfigError, match=r"num_env_steps = 1000 does not reach SACSettings\.min"):
        StageSettings(numbers, None, TrainingSettings(num_env_steps=1000)).check("search", None)
