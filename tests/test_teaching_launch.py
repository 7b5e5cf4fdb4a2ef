"""Who teaches the stages of a run; one command from the teacher to what is found."""

from __future__ import annotations

import contextlib
import runpy
from pathlib import Path

import gin
import numpy as np
import pytest

pytest.importorskip("tf_agents")

from absl import flags as absl_flags
from tiny import COMMON, SMALL_SPACE

from rldarts_tf.errors import ConfigError, RLDartsError
from rldarts_tf.launch import experiment, flags, gin_files, process
from rldarts_tf.launch.stages import STAGES
from rldarts_tf.launch.teaching import Teaching
from rldarts_tf.pictures.report import make_page
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths
from rldarts_tf.runs.summary import read_entries
from rldarts_tf.teaching.settings import DistillationSettings, TeacherSettings

ROOT = Path(__file__).resolve().parents[1]
OWN = TeacherSettings(run="own_baseline")
ACTOR = DistillationSettings(actor_weight=1.0)
NOTHING = DistillationSettings()
UPDATE = 4 * 8
PPO = (
    "PPOSettings.num_envs = 4",
    "PPOSettings.steps_per_update = 8",
    "PPOSettings.minibatch_size = 16",
    "PPOSettings.num_epochs = 1",
)
SETTINGS = (*COMMON, *SMALL_SPACE, *PPO)


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


# The searches and prices of a2d.gin, in a chain of two layers.
A2D = (
    *COMMON,
    *PPO,
    "search/LayerSpace.name = 'taught_layers'",
    "search/LayerSpace.layer_ops = ['conv_3x3_norm_relu', 'skip_connect']",
    "search/LayerSpace.num_layers = 2",
    "search/EncoderSettings.search_space = 'taught_layers'",
)
A2D_FILES = ("--gin_file=searches/a2d.gin", "--gin_file=searches/cost.gin")


def launch(root, *more, settings=SETTINGS):
    """Runs launchers/ppo_catch.py in this process."""
    made = runpy.run_path(str(ROOT / "launchers" / "ppo_catch.py"))["EXPERIMENT"]
    values = flags.define(made, absl_flags.FlagValues())
    bindings = [f"--gin_bindings={setting}" for setting in settings]
    files = ["--gin_file=catch.gin", "--gin_file=teaching/own_baseline.gin"]
    values(
        ["ppo_catch", f"--root_dir={root}", f"--num_env_steps={UPDATE}", *files, *bindings, *more]
    )
    experiment.run(made, values)


def test_one_command_trains_the_teacher_searches_and_trains_what_is_found(tmp_path, capsys):
    root = tmp_path / "run"
    launch(root)
    entries = read_entries(RunPaths(root).summary_path)
    assert [*entries] == ["baseline", "search", "discretize", "evaluate"]
    assert "teacher" not in entries["baseline"]
    teacher = f"{root}/baseline, step {UPDATE}"
    for stage in ("search", "evaluate"):
        assert entries[stage]["teacher"] == teacher
        metrics = read_metrics(RunPaths(root).stage(stage).metrics_path)
        assert np.isfinite(metrics["distillation_actor"]).all()
        assert metrics["distillation_actor_weight"][0] == 1.0
    assert entries["search"]["teacher_sha256"] == entries["evaluate"]["teacher_sha256"]
    assert teacher in capsys.readouterr().out
    page = make_page([root])
    assert "<th>teacher</th>" in page and page.count(f"<td>{teacher}</td>") == 2
    # The same command has nothing left to do: it loads no teacher and trains nothing.
    launch(root)
    assert read_entries(RunPaths(root).summary_path) == entries


def test_a2d_that_is_stopped_in_each_stage_goes_on_to_the_same_end(tmp_path, monkeypatch):
    def run(root, stop_in=None):
        """Launches all stages, and stops after the first update of one; tells how each ended."""

        def asked():
            return stop_in is not None and RunPaths(root).stage(stop_in).metrics_path.exists()

        monkeypatch.setattr(process, "stop_on_signals", lambda: contextlib.nullcontext(asked))
        launch(root, f"--num_env_steps={2 * UPDATE}", *A2D_FILES, settings=A2D)
        entries = read_entries(RunPaths(root).summary_path)
        return {stage: entry.get("exit_state") for stage, entry in entries.items()}

    parts, whole = tmp_path / "parts", tmp_path / "whole"
    for stage in ("baseline", "search", "evaluate"):
        states = run(parts, stop_in=stage)
        assert [*states][-1] == stage and states.pop(stage) == "interrupted"
        assert "interrupted" not in states.values()
    assert run(parts) == run(whole)
    first, second = RunPaths(parts), RunPaths(whole)
    assert first.genotype_path.read_bytes() == second.genotype_path.read_bytes()
    for stage in TRAINED_STAGES:
        found, expected = (read_metrics(p.stage(stage).metrics_path) for p in (first, second))
        assert [*found] == [*expected] and len(found["step"]) >= 2
        for name in found:
            if "second" not in name and name != "wall_time":
                np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        taught = {"distillation_actor", "distillation_critic"} <= {*found}
        assert taught == (stage != "baseline")
    assert {"cost", "found_cost"} <= {*read_metrics(first.stage("search").metrics_path)}


def test_a_student_goes_on_with_its_teacher_when_that_has_been_moved(tmp_path):
    student = tmp_path / "student"
    launch(tmp_path / "teacher", "--stage=baseline")

    def teach(teacher, steps):
        taught_by = f"--gin_bindings=TeacherSettings.run = {str(teacher)!r}"
        launch(student, "--stage=search", f"--num_env_steps={steps}", taught_by)
        return read_entries(RunPaths(student).summary_path)["search"]

    before = teach(tmp_path / "teacher", UPDATE)
    (tmp_path / "teacher").rename(tmp_path / "moved")
    after = teach(tmp_path / "moved", 2 * UPDATE)
    assert before["env_steps"] == UPDATE and after["env_steps"] >= 2 * UPDATE
    assert before["teacher_sha256"] == after["teacher_sha256"]
    launch(tmp_path / "other", "--stage=baseline", "--seed=1")
    with pytest.raises(RLDartsError, match=r"^TeacherSettings.run: .* is another teacher"):
        teach(tmp_path / "other", 3 * UPDATE)


def test_a_baseline_is_not_trained_on_where_a_student_goes_on_with_it(tmp_path):
    root = tmp_path / "run"
    launch(root, "--stage=baseline")
    launch(root, "--stage=search")
    longer = f"--num_env_steps={3 * UPDATE}"
    with pytest.raises(ConfigError, match=r"as its teacher, .* --stage=search goes on"):
        launch(root, longer)
    before = read_entries(RunPaths(root).summary_path)
    for stage in ("search", "discretize", "evaluate"):
        launch(root, longer, f"--stage={stage}")
    after = read_entries(RunPaths(root).summary_path)
    assert after["baseline"] == before["baseline"]
    assert after["search"]["env_steps"] >= 3 * UPDATE and "evaluate" in after


def test_an_own_baseline_that_could_not_teach_is_refused_before_it_is_trained(tmp_path):
    other = [
        "--gin_bindings=baseline/PPOSettings.discount = 0.9",
        "--gin_bindings=DistillationSettings.critic_weight = 0.5",
    ]
    with pytest.raises(ConfigError, match=r"^TeacherSettings.run: .* its discount is 0.9, not"):
        launch(tmp_path / "run", *other)
    assert not (tmp_path / "run" / "baseline").exists()


def test_a_stage_whose_own_teacher_is_missing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"^TeacherSettings.run = 'own_baseline': .* first"):
        launch(tmp_path / "run", "--stage=search")
    assert not (tmp_path / "run").exists()


def test_a_run_directory_that_is_no_teacher_is_refused(tmp_path):
    with pytest.raises(RLDartsError, match=r"^TeacherSettings.run: 'nowhere' holds no finished"):
        launch(tmp_path / "run", "--gin_bindings=TeacherSettings.run = 'nowhere'")
    assert not (tmp_path / "run").exists()


def teaching(settings):
    return Teaching(settings, None, {}, Path("run"))


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ({}, STAGES["all"]),
        ({s: (OWN, NOTHING) for s in TRAINED_STAGES}, STAGES["all"]),
        ({"baseline": (OWN, ACTOR)}, STAGES["all"]),
        ({"search": (TeacherSettings(run="elsewhere"), ACTOR)}, STAGES["all"]),
        ({"search": (OWN, ACTOR)}, ("baseline", *STAGES["all"])),
        ({s: (OWN, ACTOR) for s in TRAINED_STAGES}, ("baseline", *STAGES["all"])),
    ],
)
def test_the_own_baseline_is_trained_first_where_it_teaches(settings, order):
    assert teaching(settings).order("all") == order
    assert teaching(settings).order("search") == STAGES["search"]
    assert teaching({"baseline": (OWN, ACTOR)}).distillation("baseline") is None


def test_something_to_learn_and_nobody_to_learn_from_is_refused():
    nobody = teaching({"search": (TeacherSettings(), ACTOR)})
    with pytest.raises(ConfigError, match=r"^TeacherSettings.run is None: .* \(stage 'search'\)$"):
        nobody.check("all")
    nobody.check("evaluate")


def test_settings_are_of_a_stage_or_of_all_and_are_recorded_only_where_they_are_given():
    gin_files.load(["catch.gin"])
    assert gin_files.teaching_settings() == {}
    gin_files.load(
        ["catch.gin"],
        ["TeacherSettings.run = 'it'", "evaluate/DistillationSettings.actor_weight = 0.25"],
    )
    made = gin_files.teaching_settings()
    assert {stage: teacher.run for stage, (teacher, _) in made.items()} == dict.fromkeys(
        TRAINED_STAGES, "it"
    )
    weights = {stage: distillation.actor_weight for stage, (_, distillation) in made.items()}
    assert weights == {"search": 0.0, "evaluate": 0.25, "baseline": 0.0}
    gin_files.load(["catch.gin"], ["nowhere/TeacherSettings.run = 'it'"])
    with pytest.raises(ConfigError, match="there is no stage 'nowhere'"):
        gin_files.teaching_settings()
