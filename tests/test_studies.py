"""Studies: which trials there are, and that each runs to its end whatever happens on the way."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import gin
import pytest
from processes import ROOT, wait_until
from tiny import COMMON
from tiny import PPO as TINY

pytest.importorskip("gin")

from rldarts_tf import commands
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.launch import gin_files
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.studies.display import Display, read_progress
from rldarts_tf.studies.engines import LocalEngine
from rldarts_tf.studies.loading import load_study
from rldarts_tf.studies.plans import PLANS, planned
from rldarts_tf.studies.plans.making import TrialMaker, search_space_of
from rldarts_tf.studies.preview import preview
from rldarts_tf.studies.results import read_results
from rldarts_tf.studies.runner import run_study
from rldarts_tf.studies.settings import StudySettings, changed_setting
from rldarts_tf.studies.trials import Study, StudyPaths, Trial

GIN = ROOT / "gin"
TRIALS = str(Path(__file__).with_name("study_trials.py"))
SIZES = {
    "paper": [],
    "laptop": ["studies/sizes/laptop.gin"],
    "laptop_pools": ["studies/sizes/laptop_pools.gin"],
    "laptop_taught": ["studies/sizes/laptop_taught.gin"],
    "planted": ["studies/sizes/planted.gin"],
    "smoke": ["studies/sizes/smoke.gin"],
}
QUICK = StudySettings(
    launcher="ppo_catch",
    gin_files=("catch.gin", "studies/trial.gin", "studies/smoke_space.gin"),
    environments=("catch",),
    environment_flags=(),
    search_seeds=(0,),
    evaluation_seeds=(100,),
    search_steps=3,
    evaluation_steps=3,
    random_cells=2,
    uniform_alpha=False,
)


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


def start_trial(arguments, log, task=None):
    """Starts what leaves the files of a training in a moment."""
    return subprocess.Popen([sys.executable, "-S", TRIALS, *arguments], stdout=log, stderr=log)


def run(root, settings=QUICK, start=start_trial, stopping=lambda: False):
    """Runs a study, two trials at a time; returns whether it is finished, and what it said."""
    return run_on(LocalEngine(2, start), root, settings, stopping)


def run_on(engine, root, settings, stopping=lambda: False):
    said = io.StringIO()
    display = Display(settings.kind, StudyPaths(root), said)
    return run_study(settings, root, engine, 1, stopping, display), said.getvalue()


def starts(root) -> dict[str, list[int]]:
    """The step from which each start of a trial went on, by trial."""
    trials = StudyPaths(root)
    return {
        trial.name: [*map(int, (trials.run(trial).root / "starts").read_text().split())]
        for trial in Study.load(root).trials
        if (trials.run(trial).root / "starts").exists()
    }


# --- plans --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["count", "dilated", "shortcut"])
def test_a_planted_size_is_that_of_its_task_and_else_as_planted(task):
    settings, planted = (
        load_study(["studies/search_pays.gin", f"studies/sizes/planted{name}.gin"])
        for name in (f"_{task}", "")
    )
    assert f"tasks/planted_{task}.gin" in settings.gin_files
    changed = {"environments": (f"planted_{task}",), "search_environment": f"planted_{task}"}
    assert settings == dataclasses.replace(planted, gin_files=settings.gin_files, **changed)


@pytest.mark.parametrize(("kind", "size"), itertools.product(PLANS, SIZES))
def test_every_study_makes_trials_in_every_size(kind, size, tmp_path):
    settings = load_study([f"studies/{kind}.gin", *SIZES[size]])
    assert settings.kind == kind
    settings = dataclasses.replace(settings, random_cells=min(2, settings.random_cells))
    maker = TrialMaker(settings, tmp_path)
    trials = [*planned(maker).values()]
    assert {len([*PLANS[kind](maker)])} <= {len(trials), len(trials) - len(maker.teachers)}
    seen: set[str] = set()
    for trial in trials:
        assert trial.name not in seen and set(trial.needs) <= seen
        seen.add(trial.name)
        assert Trial.from_dict(json.loads(json.dumps(dataclasses.asdict(trial)))) == trial
        seeds = settings.search_seeds if trial.stage == "search" else settings.evaluation_seeds
        assert trial.seed in seeds
    assert {trial.seed for trial in trials if trial.stage != "search"}.isdisjoint(
        trial.search_seed for trial in trials
    )


@pytest.mark.parametrize("kind", PLANS)
def test_every_study_trains_the_teacher_of_its_searches_before_them(kind, tmp_path):
    settings = dataclasses.replace(
        QUICK,
        kind=kind,
        baselines=("impala_cnn", "nature_cnn"),
        teacher="nature_cnn",
        variants={"wide": ["A.b = 3"]},
        search_environment="catch",
    )
    trials = planned(TrialMaker(settings, tmp_path))
    names = [*trials]
    for name, trial in trials.items():
        assert all(names.index(need) < names.index(name) for need in trial.needs)
    searches = [trial for trial in trials.values() if trial.stage == "search"]
    assert {trial.needs for trial in searches} <= {("catch/nature_cnn/seed-100",)}
    assert bool(searches) == (kind not in ("kernel_size", "model_size"))


def test_variants_of_several_baselines_are_trials_of_their_own(tmp_path):
    settings = dataclasses.replace(
        QUICK,
        kind="kernel_size",
        baselines=("impala_cnn", "nature_cnn"),
        variants={"wide": ["A.b = 3"]},
    )
    kinds = {
        trial.architecture: trial.commands[0][-1]
        for trial in planned(TrialMaker(settings, tmp_path)).values()
    }
    assert kinds == {
        f"{kind}_wide": f"--gin_bindings=EncoderSettings.baseline = '{kind}'"
        for kind in settings.baselines
    }


def test_cells_of_a_method_whose_unit_ops_stay_are_trained_with_them(tmp_path):
    unit = "search/SearchSettings.unit_ops = 'always'"
    settings = dataclasses.replace(
        QUICK,
        methods={
            "paper": [],
            "gone": ["searches/unit_ops.gin"],
            "kept": [unit],
            "capped": ["--max_skips=1"],
        },
        random_cells=1,
    )
    with_unit_ops = {
        trial.arm
        for trial in planned(TrialMaker(settings, tmp_path)).values()
        if any("unit_ops = 'always'" in argument for argument in trial.commands[0])
    }
    assert with_unit_ops == {"search:kept", "found:kept"}


def test_trials_that_differ_may_not_share_a_name(tmp_path):
    settings = dataclasses.replace(
        QUICK,
        kind="teaching",
        baselines=("impala_cnn", "nature_cnn"),
        variants={"impala_cnn": ["A.b = 3"]},
    )
    with pytest.raises(ConfigError, match="named 'catch/impala_cnn/seed-100'"):
        planned(TrialMaker(settings, tmp_path))


@pytest.mark.parametrize("kind", PLANS)
def test_the_file_of_a_study_says_where_the_paper_has_it(kind):
    comment = (GIN / "studies" / f"{kind}.gin").read_text("utf-8").partition("\ninclude")[0]
    assert comment.startswith("# Study: ")
    assert re.search(r"(section|appendix) \w|(table|figure)s? \d|abstract", comment)


@pytest.mark.parametrize("kind", PLANS)
def test_the_gin_files_and_settings_of_all_trials_of_the_papers_size_are_valid(kind, tmp_path):
    settings = dataclasses.replace(load_study([f"studies/{kind}.gin"]), random_cells=0)
    trials = PLANS[kind](TrialMaker(settings, tmp_path))
    trained = (trial for trial in trials if trial.run is None)
    told = {
        tuple(a for a in trial.commands[0] if a.startswith("--gin_")): trial for trial in trained
    }
    for arguments in told:
        parts = [argument.partition("=") for argument in arguments]
        files, bindings = (
            [text for flag, _, text in parts if flag == name]
            for name in ("--gin_file", "--gin_bindings")
        )
        gin_files.load(files, bindings)
        assert gin.query_parameter("TrainingSettings.pictures") == 0
        gin_files.resolve()


def test_search_pays_compares_what_it_says(tmp_path):
    settings = dataclasses.replace(
        QUICK, environments=("a/b", "c"), environment_flags=("env_name",)
    )
    settings = dataclasses.replace(settings, evaluation_seeds=(7, 8), uniform_alpha=True)
    trials = [*PLANS["search_pays"](TrialMaker(settings, tmp_path))]
    arms = [trial.arm for trial in trials if trial.environment == "a/b"]
    assert arms == ["search", *2 * ["found"], *2 * ["baseline"], "uniform", *4 * ["random"]]
    search, found = trials[:2]
    assert search.name == "a-b/search/seed-0" and search.architecture == "search-0"
    assert "--env_name=a/b" in search.commands[0] and "--seed=0" in search.commands[0]
    assert [command[-1] for command in search.commands] == ["--stage=search", "--stage=discretize"]
    assert found.needs == (search.name,) and found.genotype == search.makes
    assert (found.architecture, found.search_seed, found.seed) == ("search-0", 0, 7)
    assert "--genotype={root}/trials/a-b/search/seed-0/genotype.json" in found.commands[0]
    (uniform,) = (t for t in trials if t.arm == "uniform" and t.environment == "c")
    assert uniform.makes is None and len(uniform.commands) == 1
    assert "--gin_file=studies/uniform_alpha.gin" in uniform.commands[0]


def test_random_cells_are_uniform_draws_that_do_not_depend_on_their_number(tmp_path):
    space, output_mode = search_space_of(QUICK)
    rng = random.Random(QUICK.random_seed)
    expected = [*dict.fromkeys(random_genotype(space, rng, output_mode) for _ in range(100))]
    for number in (2, 5):
        maker = TrialMaker(dataclasses.replace(QUICK, random_cells=number), tmp_path)
        paths = [tmp_path / maker.random_cell(i) for i in range(number)]
        assert [Genotype.load(path) for path in paths] == expected[:number]
    other = TrialMaker(dataclasses.replace(QUICK, random_seed=3), tmp_path)
    with pytest.raises(ConfigError, match=r"random_seed.*random-0.*holds another cell"):
        _ = [other.random_cell(i) for i in range(2)]
    many = dataclasses.replace(QUICK, random_cells=space.size() + 1)
    with pytest.raises(ConfigError, match=f"random_cells must be at most {space.size()}"):
        TrialMaker(many, tmp_path).random_cell(0)


def test_methods_change_the_searches_and_how_a_cell_is_read(tmp_path):
    methods = {
        "own": [
            "searches/sdarts.gin",
            "SearchSettings.max_skips = 3",
            "--by=return",
            "--episodes=4",
        ]
    }
    settings = dataclasses.replace(QUICK, methods=methods)
    search, found = [*PLANS["search_pays"](TrialMaker(settings, tmp_path))][:2]
    assert (search.arm, found.arm) == ("search:own", "found:own")
    assert found.name == "catch/found-own-0/seed-100"
    assert {"--gin_file=searches/sdarts.gin", "--gin_bindings=SearchSettings.max_skips = 3"} <= set(
        search.commands[0]
    )
    run = "{root}/trials/catch/search-own/seed-0"
    output = f"--output={run}/genotype.json"
    assert search.commands[1] == ("discretize", run, "--by=return", "--episodes=4", output)
    assert "--gin_file=searches/sdarts.gin" not in found.commands[0]


def test_methods_that_only_read_a_cell_off_otherwise_share_the_search(tmp_path):
    methods = {
        "darts": ["SearchSettings.max_skips = 3"],
        "capped": ["SearchSettings.max_skips = 3", "--max_skips=1"],
        "return": ["SearchSettings.max_skips = 3", "--by=return"],
        "other": [],
    }
    settings = dataclasses.replace(QUICK, methods=methods, search_seeds=(0, 1))
    trials = {t.name: t for t in PLANS["sweep"](TrialMaker(settings, tmp_path))}
    trained = [name for name, t in trials.items() if t.stage == "search" and t.run is None]
    seeds = [f"catch/search-{method}/seed-{k}" for method in ("darts", "other") for k in (0, 1)]
    assert trained == seeds
    capped, by_return = (trials[f"catch/search-{m}/seed-1"] for m in ("capped", "return"))
    assert (capped.run, capped.needs) == (seeds[1], (seeds[1],))
    output = "--output={root}/genotypes/catch/search-capped/seed-1.json"
    assert capped.commands == (
        ("discretize", f"{{root}}/trials/{seeds[1]}", "--max_skips=1", output),
    )
    # Two ways by return would else find the decisions of each other.
    assert "--work_dir={root}/genotypes/catch/search-return/seed-1" in by_return.commands[0]
    found = trials["catch/found-capped-1/seed-100"]
    assert (found.arm, found.needs) == ("found:capped", (capped.name,))
    assert found.genotype == "genotypes/catch/search-capped/seed-1.json"


def test_the_searches_that_methods_share_are_those_of_the_one_that_measures_nothing(tmp_path):
    settings = dataclasses.replace(QUICK, methods={"return": ["--by=return"], "darts": []})
    trials = [*planned(TrialMaker(settings, tmp_path)).values()]
    runs = {t.arm: t.run for t in trials if t.stage == "search"}
    assert runs == {"search:return": "catch/search-darts/seed-0", "search:darts": None}

    # What has been trained stays: a study may grow in any order.
    old = dataclasses.replace(settings, methods={"return": ["--by=return"]})
    known = [*planned(TrialMaker(old, tmp_path)).values()]
    grown = planned(TrialMaker(settings, tmp_path, known))
    assert all(grown[trial.name] == trial for trial in known)
    runs = {t.arm: t.run for t in grown.values() if t.stage == "search"}
    assert runs == {"search:return": None, "search:darts": "catch/search-return/seed-0"}


def test_a_cell_that_is_read_off_a_search_is_finished_when_it_is_there(tmp_path):
    settings = dataclasses.replace(QUICK, methods={"p": [], "capped": ["--max_skips=1"]})
    search, reading = [*PLANS["search_pays"](TrialMaker(settings, tmp_path))][:2]
    paths = StudyPaths(tmp_path)
    stage = paths.run(search).stage("search").path
    stage.mkdir(parents=True)
    (stage / "metrics.csv").write_text("step,wall_time,return_mean\n3,1.0,1.0\n")
    assert (paths.state(search), paths.state(reading)) == ("interrupted", "waiting")
    entry = {"exit_state": "finished", "env_steps": 3, "eval_test_return_mean": 1.0}
    paths.run(search).summary_path.write_text(json.dumps({"stages": {"search": entry}}))
    assert paths.state(reading) == "waiting"
    for made in (search.makes, reading.makes):
        (tmp_path / made).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / made).write_text("{}")
    assert (paths.state(search), paths.state(reading)) == ("finished", "finished")
    Study("search_pays", {}, (search, reading)).save(tmp_path)
    results = read_results(tmp_path)
    assert (results.arms(supernets=True), results.missing) == (("search:p",), {})


def test_a_study_of_an_earlier_version_has_no_trials_that_read_others(tmp_path):
    trial = dataclasses.asdict(TrialMaker(QUICK, tmp_path).search("catch", 0))
    del trial["run"]
    assert Trial.from_dict(trial).run is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"evaluation_seeds": [3, 0]}, "evaluation_seeds must have no seed of .*search_seeds"),
        ({"search_seeds": [1, 1]}, "search_seeds has a seed twice"),
        ({"search_seeds": 3}, "search_seeds must be a list of seeds"),
        ({"evaluation_seeds": []}, "evaluation_seeds must not be empty"),
        ({"environments": ["a", "a"]}, "environments names something twice"),
        ({"environments": ["a", "b"], "environment_flags": []}, "environments must have one name"),
        ({"methods": {"a-b": []}}, "methods must have names of letters"),
        ({"methods": ["a"]}, "methods must be a dict of lists"),
        ({"methods": {"a": "b"}}, r"methods\['a'\] must be a list of texts"),
    ],
)
def test_settings_that_make_no_study_are_refused(fields, message):
    with pytest.raises(ConfigError, match=f"StudySettings.{message}"):
        StudySettings(**fields)


def test_an_environment_of_two_parts_sets_two_flags(tmp_path):
    flags = ("domain_name", "task_name")
    settings = dataclasses.replace(QUICK, environments=("a/b",), environment_flags=flags)
    search = next(PLANS["search_pays"](TrialMaker(settings, tmp_path)))
    assert {"--domain_name=a", "--task_name=b"} <= set(search.commands[0])
    settings = dataclasses.replace(settings, environments=("a",))
    with pytest.raises(ConfigError, match="must be names such as 'domain_name/task_name'"):
        next(PLANS["search_pays"](TrialMaker(settings, tmp_path)))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--engine=ray", "--processes=2"], "processes: is for --engine=local"),
        (["--gpus=1"], "gpus: is for --engine=ray"),
        (["--ray_address=auto"], "ray_address: is for --engine=ray"),
        (["--gin_file=nothing.gin"], "gin_file: 'nothing.gin' is neither a path nor in"),
        (["--gin_bindings=StudySettings.random_cells = -1"], "StudySettings.random_cells must be"),
        (["--gin_bindings=StudySettings.kind = 'x'"], "StudySettings.kind must be one of search_"),
        (["--gin_bindings=StudySettings.cells = 3"], "cells"),
    ],
)
def test_bad_input_ends_the_command_with_one_line_and_writes_nothing(
    flags, message, tmp_path, capsys
):
    root = tmp_path / "study"
    given = ["--gin_file=studies/search_pays.gin", f"--root_dir={root}", *flags]
    assert commands.main(["study", *given]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("error: ") and message in captured.err
    assert not root.exists()


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(tmp_path, capsys):
    root = tmp_path / "study"
    methods = "StudySettings.methods = {'paper': [], 'capped': ['--max_skips=1']}"
    given = ["--gin_file=studies/search_pays.gin", "--gin_file=studies/sizes/smoke.gin"]
    dry = ["study", *given, f"--root_dir={root}", f"--gin_bindings={methods}", "--dry_run"]
    assert commands.main(dry) == 0
    said = capsys.readouterr().out.splitlines()
    assert "catch  search:paper: 1 x 2,048 steps" in said
    assert "catch  search:capped: 1 x a cell read off" in said
    assert "catch  random: 4 x 2,048 steps" in said
    # Two cells and two random ones, IMPALA-CNN, each with two seeds; a search; uniform α.
    left = (2 * (2 + 2 + 1) + 1 + 1) * 2048
    assert said[-1] == (
        f"search_pays: 13 trials, of which 0 are finished; {left:,} environment steps are left"
    )
    assert not root.exists()


def test_a_dry_run_counts_what_is_finished(tmp_path):
    grown = dataclasses.replace(QUICK, evaluation_seeds=(100, 101))
    run(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert preview(QUICK, tmp_path).splitlines()[-1].endswith("; 0 environment steps are left")
    assert "9 trials, of which 5 are finished; 12 environment steps" in preview(grown, tmp_path)
    with pytest.raises(RunError, match=r"with other settings: .*search_steps: 3 -> 4"):
        preview(dataclasses.replace(QUICK, search_steps=4), tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_number_of_candidates_that_is_none_is_refused(tmp_path):
    settings = dataclasses.replace(QUICK, methods={"ranked": ["--by=random", "--best=many"]})
    with pytest.raises(ConfigError, match=r"StudySettings.methods: --best must .* got 'many'"):
        planned(TrialMaker(settings, tmp_path))


# --- study.json ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda study: study.update(format=2), "format"),
        (lambda study: study.pop("trials"), "lacks settings or trials"),
        (lambda study: study["trials"][0].pop("seed"), "trial must have the fields"),
        (lambda study: study["trials"][0].update(seed=-1), "trial.seed must be an integer"),
        (lambda study: study["trials"][0].update(name="../../etc"), "cannot name a folder"),
        (lambda study: study["trials"][0].update(commands=[3]), "commands must be a list of texts"),
        (lambda study: study["trials"][0].update(stage="all"), "stage must be one of"),
    ],
)
def test_a_damaged_study_is_refused_in_one_line(change, message, tmp_path):
    trials = tuple(PLANS["search_pays"](TrialMaker(QUICK, tmp_path)))
    Study("search_pays", QUICK.plain(), trials).save(tmp_path)
    assert Study.load(tmp_path).trials == trials
    path = StudyPaths(tmp_path).study_path
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(RunError, match=message) as raised:
        Study.load(tmp_path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "value", "changed"),
    [
        ("search_seeds", (0, 1), False),
        ("search_seeds", (1,), True),
        ("random_cells", 5, False),
        ("random_cells", 1, True),
        ("uniform_alpha", True, False),
        ("evaluation_steps", 4, True),
        ("launcher", "ppo_gymnasium", True),
        ("methods", {"new": []}, True),
        ("baselines", ("impala_cnn", "nature_cnn"), False),
    ],
)
def test_settings_may_grow_and_not_change(name, value, changed):
    found = changed_setting(QUICK.plain(), dataclasses.replace(QUICK, **{name: value}).plain())
    assert (found is not None) == changed
    if changed:
        assert found.startswith(f"StudySettings.{name}: ") and " -> " in found


def test_a_setting_that_an_earlier_version_did_not_know_has_its_default():
    old = QUICK.plain()
    del old["every"]
    assert changed_setting(old, QUICK.plain()) is None
    found = changed_setting(old, dataclasses.replace(QUICK, every=3).plain())
    assert found == "StudySettings.every: 1 -> 3"


# --- running ------------------------------------------------------------------------------------


def test_a_study_runs_every_trial_once_and_searches_before_their_cells(tmp_path):
    finished, said = run(tmp_path)
    assert finished
    study = Study.load(tmp_path)
    assert starts(tmp_path) == {trial.name: [0] for trial in study.trials}
    assert len(study.trials) == 5 and study.settings == QUICK.plain()
    assert all(StudyPaths(tmp_path).state(trial) == "finished" for trial in study.trials)
    lines = said.splitlines()
    assert lines.index("[0/5] catch/search/seed-0: started") == 0
    ended = next(i for i, line in enumerate(lines) if "search/seed-0: finished, return 0.3" in line)
    assert next(i for i, line in enumerate(lines) if "found-0" in line) > ended
    assert len(lines) == 10
    # Of each trial its newest checkpoint stays.
    kept = [path.name for path in tmp_path.rglob("checkpoints/**/*")]
    assert kept == ["ckpt-3.index"] * 5
    # Again: nothing is left to do.
    assert run(tmp_path) == (True, "")
    assert starts(tmp_path) == {trial.name: [0] for trial in study.trials}


def test_a_trial_that_fails_once_is_run_again_and_one_that_fails_twice_stops_no_other(
    tmp_path, monkeypatch
):
    faults = {"random-00/seed-100": 1, "search/seed-0": 2}
    monkeypatch.setenv("TRIAL_FAULTS", json.dumps(faults))
    with pytest.raises(RunError) as raised:
        run(tmp_path)
    line = str(raised.value)
    assert line.startswith("1 of 5 trials failed, 1 others were not run: catch/search/seed-0: ")
    assert "exit code 3: error: the simulator has burnt down" in line and "\n" not in line
    assert str(tmp_path / "trials" / "catch" / "search" / "seed-0.log") in line
    begun = starts(tmp_path)
    assert begun.pop("catch/random-00/seed-100") == [0, 0]
    assert begun.pop("catch/search/seed-0") == [0, 0]
    assert [*begun.values()] == [[0], [0]]
    assert "catch/search/seed-0" in json.loads((tmp_path / "failures.json").read_text("utf-8"))
    # The same command tries it again.
    finished, _ = run(tmp_path)
    assert finished and len(starts(tmp_path)) == 5
    assert json.loads((tmp_path / "failures.json").read_text("utf-8")) == {}


def test_a_study_that_is_stopped_resumes_from_the_checkpoints_of_its_trials(tmp_path, monkeypatch):
    monkeypatch.setenv("STEP_SECONDS", "0.05")
    settings = dataclasses.replace(QUICK, search_steps=400, evaluation_steps=20, random_cells=0)
    table = tmp_path / "trials" / "catch" / "search" / "seed-0" / "search" / "metrics.csv"

    def stopping():
        return table.exists() and len(table.read_text().splitlines()) > 3

    finished, said = run(tmp_path, settings, stopping=stopping)
    assert not finished and "catch/search/seed-0: stopped" in said
    search = Study.load(tmp_path).trials[0]
    assert StudyPaths(tmp_path).state(search) == "interrupted"
    progress = read_progress(StudyPaths(tmp_path), search)
    assert 3 <= progress.step < 400 and progress.speed == 20
    monkeypatch.setenv("STEP_SECONDS", "0")
    finished, said = run(tmp_path, settings)
    assert finished and "catch/search/seed-0: resumed" in said
    assert starts(tmp_path)[search.name] == [0, progress.step]


def test_a_study_grows_and_its_trials_stay_as_they_are(tmp_path):
    run(tmp_path, dataclasses.replace(QUICK, random_cells=1))
    before = starts(tmp_path)
    grown = dataclasses.replace(QUICK, search_seeds=(0, 1), evaluation_seeds=(100, 5))
    finished, _ = run(tmp_path, grown)
    after = starts(tmp_path)
    assert finished and len(before) == 4 and len(after) == 2 + 4 + 2 + 4
    assert set(map(tuple, after.values())) == {(0,)}
    assert Study.load(tmp_path).settings == grown.plain()
    with pytest.raises(RunError, match=r"other settings: StudySettings.random_cells: 2 -> 1; use"):
        run(tmp_path, dataclasses.replace(grown, random_cells=1))
    assert Study.load(tmp_path).settings == grown.plain()


def test_a_directory_is_of_one_process(tmp_path):
    with RunDirectory(tmp_path), pytest.raises(RunError, match="is in use by process"):
        run(tmp_path)


def test_the_cells_along_a_search_become_trials_when_it_is_finished(tmp_path):
    settings = dataclasses.replace(QUICK, kind="trajectory", every=2)
    finished, _ = run(tmp_path, settings)
    assert finished
    search, *cells = Study.load(tmp_path).trials
    assert [cell.architecture for cell in cells] == ["search-0-step-0", "search-0-step-2"]
    assert {cell.arm for cell in cells} == {"trajectory"}
    assert all(cell.needs == (search.name,) for cell in cells)
    kept = [Genotype.load(tmp_path / cell.genotype).cells["normal"][1][1] for cell in cells]
    assert kept == [(1, "conv_3x3"), (1, "skip_connect")]
    assert run(tmp_path, settings) == (True, "")


@pytest.mark.parametrize("kind", ["search_pays", "transfer"])
def test_of_the_best_of_a_ranking_that_with_the_best_training_is_the_cell_found(kind, tmp_path):
    settings = dataclasses.replace(
        QUICK,
        kind=kind,
        search_environment="catch",
        random_cells=0,
        baselines=(),
        methods={"p": [], "ranked": ["--by=random", "--best=3"]},
    )
    maker = TrialMaker(settings, tmp_path)
    before = [trial.arm for trial in planned(maker).values()]
    assert before == ["search:p", "search:ranked", *3 * ["candidate:ranked"], "found:p"]
    assert run(tmp_path, settings)[0]
    trials = {trial.name: trial for trial in Study.load(tmp_path).trials}
    ranked = "genotypes/catch/search-ranked/seed-0"
    candidates = [trial for trial in trials.values() if trial.arm == "candidate:ranked"]
    assert [c.genotype for c in candidates] == [f"{ranked}{n}.json" for n in ("", "-02", "-03")]
    # Trained with the seed of the search: no seed that scores the cell has chosen it.
    assert {(c.seed, c.needs) for c in candidates} == {(0, ("catch/search-ranked/seed-0",))}
    found = trials["catch/found-ranked-0/seed-100"]
    # The second has a ReLU, with which trainings are better.
    assert (found.genotype, found.architecture) == (f"{ranked}-02.json", "search-0")
    own = "trials/catch/search-p/seed-0/genotype.json"
    assert trials["catch/found-p-0/seed-100"].genotype == own
    assert run(tmp_path, settings) == (True, "")


def test_a_trial_that_is_killed_is_run_again_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setenv("STEP_SECONDS", "0.02")
    settings = dataclasses.replace(QUICK, kind="ablations", search_steps=25)
    begun = []

    def start(arguments, log, task):
        begun.append(start_trial(arguments, log))
        return begun[-1]

    step = tmp_path / "trials" / "catch" / "search" / "seed-0" / "search" / "step"

    def kill():
        wait_until(lambda: step.exists() and int(step.read_text()) >= 3)
        begun[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    finished, said = run(tmp_path, settings, start=start)
    killer.join()
    assert finished and "failed, once more: exit code -9" in said
    first, second = starts(tmp_path)["catch/search/seed-0"]
    assert first == 0 and second >= 3


RUNNER = """
import json, sys
from study_trials import start_child
from rldarts_tf.studies.engines import LocalEngine
from rldarts_tf.studies.runner import run_study
from rldarts_tf.studies.settings import StudySettings

run_study(StudySettings(**json.loads(sys.argv[2])), sys.argv[1], LocalEngine(2, start_child), 1)
"""


def test_trials_stop_with_checkpoints_when_the_study_is_killed_and_it_resumes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("STEP_SECONDS", "0.05")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(TRIALS).parent)]))
    settings = dataclasses.replace(QUICK, kind="ablations", search_seeds=(0, 1), search_steps=200)
    program = [sys.executable, "-c", RUNNER, str(tmp_path), json.dumps(settings.plain())]
    runner = subprocess.Popen(program, cwd=ROOT)
    tables = [
        tmp_path / "trials" / "catch" / "search" / f"seed-{i}" / "search" / "step" for i in (0, 1)
    ]
    wait_until(lambda: all(table.exists() for table in tables) or runner.poll() is not None)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    summaries = [table.parents[1] / "summary.json" for table in tables]
    wait_until(lambda: all(summary.exists() for summary in summaries))
    states = [read_summary(path)["stages"]["search"]["exit_state"] for path in summaries]
    assert states == ["interrupted"] * 2
    monkeypatch.setenv("STEP_SECONDS", "0")
    settings = dataclasses.replace(QUICK, kind="ablations", search_seeds=(0, 1), search_steps=200)
    assert run(tmp_path, settings)[0]
    for steps in starts(tmp_path).values():
        assert len(steps) == 2 and 0 < steps[1] < 200


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_of_real_trainings_ends_with_results_and_a_report(tmp_path, server, capsys):
    pytest.importorskip("tf_agents")
    settings = dataclasses.replace(
        QUICK,
        bindings=[*TINY.settings, *COMMON],
        search_steps=32,
        evaluation_steps=32,
        random_cells=0,
        baselines=(),
        methods={"darts": [], "capped": ["--max_parameter_free=0"]},
    )
    paths, program = StudyPaths(tmp_path), str(ROOT / "rldarts_tf" / "__main__.py")
    finished, _ = run(tmp_path, settings, lambda a, log, task: server.start([program, *a]))
    assert finished
    trials = Study.load(tmp_path).trials
    kinds = [(trial.arm, trial.run) for trial in trials]
    search = "catch/search-darts/seed-0"
    assert kinds == [
        *(("search:darts", None), ("search:capped", search)),
        *(("found:darts", None), ("found:capped", None)),
    ]
    for trial in trials:
        entry = read_summary(paths.run(trial).summary_path)["stages"][trial.stage]
        assert entry["exit_state"] == "finished" and entry["env_steps"] >= 32
        assert entry["seed"] == trial.seed and "eval_test_return_mean" in entry
        config = paths.run(trial).config_path.read_text("utf-8")
        assert f"{trial.stage}/TrainingSettings.evaluation_interval = 0" in config
    assert entry["genotype"] == Genotype.load(tmp_path / trials[3].genotype).to_dict()
    (cell,) = Genotype.load(tmp_path / trials[3].genotype).cells.values()
    assert {op for node in cell for _, op in node} == {"conv_3x3"}
    # A study that is whole has a report.
    stated = [f"StudySettings.{name} = {value!r}" for name, value in settings.plain().items()]
    (tmp_path / "same.gin").write_text("\n".join(stated), "utf-8")
    assert (
        commands.main(["study", f"--gin_file={tmp_path}/same.gin", f"--root_dir={tmp_path}"]) == 0
    )
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    assert "4 of 4 trials" in (tmp_path / "report.md").read_text("utf-8")


# --- the display --------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_shows_the_trials_that_run_and_the_time_left(tmp_path, monkeypatch):
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    maker = TrialMaker(QUICK, tmp_path)
    trial = dataclasses.replace(maker.search("catch", 0), steps=1000)
    folder = maker.paths.run(trial).stage("search").path
    folder.mkdir(parents=True)
    table = "step,return_mean,steps_per_second\n100,1.5,50\n400,2.5,100\n500,3"
    (folder / "metrics.csv").write_text(table)
    terminal = Terminal()
    other = dataclasses.replace(trial, name="catch/other")
    with Display("search_pays", maker.paths, terminal) as display:
        display.show([trial, other], set(), {trial.name}, {})
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", terminal.getvalue())
    assert "search_pays: 0 of 2 finished, 1 running, 16 s left" in shown
    row = next(line for line in shown.splitlines() if "catch/search/seed-0" in line)
    assert row.split()[1:] == ["40", "%", "100", "2.5", "6", "s"]


def test_searches_that_are_taught_need_the_baseline_that_teaches_them(tmp_path):
    settings = dataclasses.replace(
        QUICK,
        kind="teaching",
        baselines=("impala_cnn", "minatar_cnn"),
        evaluation_seeds=(100, 101),
        random_cells=0,
        teacher="impala_cnn",
        methods={"none": [], "actor": ["search/DistillationSettings.actor_weight = 1.0"]},
        variants={"narrow": ["baseline/EncoderSettings.depths = [4]"]},
    )
    trials = [*PLANS["teaching"](TrialMaker(settings, tmp_path))]
    names = [trial.name.removeprefix("catch/") for trial in trials]
    assert names[:4] == [f"{k}/seed-{s}" for k in ("impala_cnn", "narrow") for s in (100, 101)]
    searches = [trial for trial in trials if trial.stage == "search"]
    assert [trial.arm for trial in searches] == ["search:none", "search:actor"]
    for search in searches:
        assert search.needs == ("catch/impala_cnn/seed-100",)
        run = "TeacherSettings.run = '{root}/trials/catch/impala_cnn/seed-100'"
        assert f"--gin_bindings={run}" in search.commands[0]
    taught = "--gin_bindings=search/DistillationSettings.actor_weight = 1.0"
    assert [taught in search.commands[0] for search in searches] == [False, True]
    found = [trial for trial in trials if trial.arm.startswith("found")]
    assert len(found) == 4
    assert not any("TeacherSettings" in text for trial in found for text in trial.commands[0])
    with pytest.raises(ConfigError, match=r"^StudySettings.teacher must be one of"):
        dataclasses.replace(settings, teacher="nature_cnn")
