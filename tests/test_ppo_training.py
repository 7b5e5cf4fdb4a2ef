"""The PPO training program on a real game: files, numbers, and going on where it stopped."""

from __future__ import annotations

import collections
import dataclasses
import json
import shutil
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

pytest.importorskip("procgen")
pytest.importorskip("tf_agents")

import events
import tensorflow as tf
from trainings import (
    StopAfter,
    arrays_of,
    assert_filled,
    assert_returns,
    assert_scale_is_resumed,
    registers,
    state_of,
)

from rldarts_tf import ImpalaCNN, SearchSpace, Supernet
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.cost import count_cost
from rldarts_tf.envs.procgen import joint
from rldarts_tf.envs.procgen.batch import ProcgenEnvironment
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.envs.reward import RewardNormalizer
from rldarts_tf.errors import RunError
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.search_log import read_genotypes
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.recorder import SearchRecorder
from rldarts_tf.training.seeds import derived_seed
from rldarts_tf.training.settings import TrainingSettings

# Small, because tracing is what costs.
SPACE = SearchSpace(name="small", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=2)
BATCH = 8 * 16
UPDATES = 4
SETTINGS = StageSettings(
    PPOSettings(
        num_envs=8,
        steps_per_update=16,
        num_epochs=2,
        minibatch_size=64,
        learning_rate=5e-4,
        final_learning_rate=1e-4,
    ),
    ProcgenSuite(ProcgenSettings(game="starpilot", num_levels=3, start_level=50)),
    TrainingSettings(
        num_env_steps=UPDATES * BATCH - 1,  # The update that passes it is made in full.
        seed=31,  # episodes with different returns end in its first 64 steps
        evaluation_interval=2 * BATCH,
        evaluation_episodes=8,
        final_evaluation_episodes=8,
        checkpoint_minutes=0,
        pictures=2,
    ),
)
PICTURED = [0, 2 * BATCH, 4 * BATCH]
STEPS = [BATCH * k for k in range(1, UPDATES + 1)]


class RecordingEnvironment(ProcgenEnvironment):
    """Writes down how each environment was made and what it paid."""

    made: ClassVar[list[RecordingEnvironment]] = []

    def __init__(self, game, num_envs, *, num_threads, **kwargs):
        super().__init__(game, num_envs, num_threads=num_threads, **kwargs)
        self.arguments = {"game": game, "num_envs": num_envs, **kwargs}
        self.rewards, self.ended, self.closed = [], [], False
        self.made.append(self)

    def _step(self, action):
        time_step = super()._step(action)
        self.rewards.append(time_step.reward.astype(np.float64))
        self.ended.append(time_step.is_last())
        return time_step

    def close(self):
        self.closed = True
        super().close()


registered = registers(SPACE)


@pytest.fixture(scope="module", autouse=True)
def recording_environments():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint, "ProcgenEnvironment", RecordingEnvironment)
        yield


def make_training(stage_dir, label, encoder, settings, *stopping):
    return Training(stage_dir, label, encoder, PPOProgram, settings, *stopping)


def make_supernet():
    return Supernet(SPACE, [4], features=16)


def snapshot(training):
    """Everything that a training resumes from, as arrays, but for the seconds it took."""
    agent = training.program.agent
    parts = {name: training.program.trackables[name] for name in ("actor", "value", "optimizer")}
    return {
        **arrays_of(alpha=training._encoder.alpha, **parts),
        "train_step": agent.train_step_counter.numpy(),
        "generator": training.program._act._generator.state.numpy(),
        **state_of(training),
    }


def assert_same(actual, expected, name):
    """Equal, but for the rounding of sums whose order threads decide."""
    if np.issubdtype(expected.dtype, np.floating):
        np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7, err_msg=name)
    else:
        np.testing.assert_array_equal(actual, expected, err_msg=name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search from start to end."""
    stage_dir = StagePaths(tmp_path_factory.mktemp("whole") / "search")
    first = len(RecordingEnvironment.made)
    training = make_training(stage_dir, "search", make_supernet(), SETTINGS)
    summary = training.run()
    yield SimpleNamespace(
        stage_dir=stage_dir,
        training=training,
        summary=summary,
        metrics=read_metrics(stage_dir.metrics_path),
        environments=RecordingEnvironment.made[first:],
        snapshot=snapshot(training),
    )
    training.close()


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory):
    """The same search, stopped after 2 updates, killed in the fourth, and run to the end."""
    stage_dir = StagePaths(tmp_path_factory.mktemp("parts") / "search")
    begins, summaries = [], []
    for stopping in (StopAfter(2), StopAfter(2, KeyboardInterrupt()), StopAfter()):
        training = make_training(stage_dir, "search", make_supernet(), SETTINGS, stopping)
        begins.append(training.step)
        try:
            summaries.append(training.run())
        except KeyboardInterrupt:
            # The fourth row is out, but its checkpoint is not.
            rows = read_metrics(stage_dir.metrics_path)["step"].tolist()
            summaries.append({"rows": rows})
        last = snapshot(training)
        training.close()
    return SimpleNamespace(stage_dir=stage_dir, begins=begins, summaries=summaries, snapshot=last)


# --- a run from start to end -----------------------------------------------------------------


def test_it_ends_with_the_first_update_that_reaches_the_number_of_steps(whole):
    assert whole.training.step == UPDATES * BATCH
    assert whole.metrics["step"].tolist() == STEPS
    assert int(whole.training.program.agent.train_step_counter) == UPDATES * 2 * (BATCH // 64)


SECONDS = {
    f"seconds_{part}" for part in ("act", "simulate", "store", "learn", "evaluate", "save", "left")
}


def test_metrics_have_all_columns_filled_but_for_evaluations_between_intervals(whole):
    evaluations = {
        f"eval_{levels}_return_{what}"
        for levels in ("train", "test")
        for what in ("mean", "std", "mean_normalized")
    }
    assert set(whole.metrics) == {
        "step", "wall_time", "return_mean", "return_std", "return_mean_normalized",
        "episodes", "length_mean", "loss",
        "policy_loss", "value_loss", "entropy", "clip_fraction", "gradient_norm_theta",
        "gradient_norm_alpha", "skipped_updates", "learning_rate", "steps_per_second", *SECONDS,
        *(f"op_weight_normal_{op}" for op in SPACE.ops("normal")),
        "alpha_entropy_normal", "distinct_genotypes", "last_genotype_step", *evaluations,
    }  # fmt: skip
    # Every 2 updates, but not at the end, where the last evaluation follows.
    assert_filled(whole.metrics, evaluations, whole.metrics["step"] == 2 * BATCH)


def test_the_learning_rate_falls_linearly_to_its_last_value(whole):
    """Of an update, that of its beginning."""
    made = np.array([0, *STEPS[:-1]]) / SETTINGS.training.num_env_steps
    np.testing.assert_allclose(whole.metrics["learning_rate"], 5e-4 - 4e-4 * made, rtol=1e-6)


def test_returns_are_those_of_the_episodes_that_ended_in_raw_rewards(whole):
    environment = whole.environments[0]
    assert_returns(whole.metrics, environment.rewards, environment.ended, 16)


def test_rewards_are_normalized_with_a_discount_of_their_own(whole):
    # train-procgen makes VecNormalize(venv, ob=False), whose own discount is 0.99; γ is 0.999.
    environment = whole.environments[0]
    expected = RewardNormalizer(8, 0.99)
    for reward, ended in zip(environment.rewards, environment.ended):
        expected(reward, ended)
    for name, value in expected.state().items():
        np.testing.assert_allclose(
            whole.snapshot[f"agent/normalizer/{name}"], value, rtol=1e-12, err_msg=name
        )


def test_evaluations_play_fresh_environments_of_training_and_unseen_levels(whole):
    training, *evaluations = whole.environments
    common = {"game": "starpilot", "distribution_mode": "easy", "num_envs": 8}
    seen = {**common, "num_levels": 3, "start_level": 50}
    unseen = {**common, "num_levels": 0, "start_level": 0}
    assert training.arguments == {**seen, "seed": derived_seed(31, "environments")}
    arguments = [environment.arguments for environment in evaluations]
    assert len(arguments) == 2 * 2  # after two updates and at the end
    seed = {"seed": derived_seed(31, "evaluation environments")}
    assert arguments.count({**seen, **seed}) == arguments.count({**unseen, **seed}) == 2
    assert all(environment.closed for environment in evaluations)
    results = {"test": [], "train": []}
    for environment in evaluations:
        # One episode of each environment.
        ended = np.array(environment.ended)
        returns = [
            np.array(environment.rewards)[: ended[:, i].argmax() + 1, i].sum() for i in range(8)
        ]
        levels = "train" if environment.arguments["num_levels"] else "test"
        results[levels].append((np.mean(returns), np.std(returns)))
    for levels, expected in results.items():
        for i, what in enumerate(("mean", "std")):
            name = f"eval_{levels}_return_{what}"
            reported = [whole.metrics[name][1], whole.summary[name]]
            np.testing.assert_allclose(reported, [e[i] for e in expected], atol=1e-6, err_msg=name)


def test_the_seconds_of_the_parts_are_shares_of_the_time_of_a_row(whole):
    table = whole.metrics
    parts = [table[name] for name in sorted(SECONDS - {"seconds_left", "seconds_save"})]
    assert all((table[f"seconds_{part}"] > 0).all() for part in ("act", "simulate", "learn"))
    assert np.all(sum(parts) <= BATCH / table["steps_per_second"])
    evaluated = np.isfinite(table["eval_test_return_mean"])
    assert np.array_equal(table["seconds_evaluate"] > 0, evaluated)
    # Every update is followed by a checkpoint.
    assert np.array_equal(table["seconds_save"] > 0, np.array(STEPS) > STEPS[0])


def test_tensorboard_has_the_numbers_of_the_table(whole):
    assert len([*whole.stage_dir.tensorboard_dir.iterdir()]) == 1
    scalars, groups = {}, set()
    for tag, step, number in events.scalars(whole.stage_dir.tensorboard_dir):
        group, _, column = tag.partition("/")
        groups.add(group)
        scalars.setdefault(column, {})[step] = number
    assert groups == {"returns", "learning", "speed", "evaluation", "search", "op_weights_normal"}
    assert set(scalars) == set(whole.metrics) - {"step", "wall_time"}
    for tag, points in scalars.items():
        column = {
            step: number
            for step, number in zip(STEPS, whole.metrics[tag].tolist())
            if np.isfinite(number)
        }
        assert points == pytest.approx(column, rel=1e-6), tag


def test_a_search_logs_op_weights_and_genotypes_from_step_0(whole):
    alphas = read_alphas(whole.stage_dir.alphas_path)
    supernet = whole.training._encoder
    assert alphas.steps.tolist() == [0, *STEPS]
    logged = alphas.logits["normal"]
    np.testing.assert_array_equal(logged[0], 0)
    last = supernet.alpha.numpy_logits()["normal"]
    np.testing.assert_array_equal(logged[-1], last)
    assert np.all(np.any(logged[1:] != logged[:-1], axis=(1, 2))), "alpha was not trained"
    genotypes = read_genotypes(whole.stage_dir.genotypes_path)
    assert genotypes[0] == (0, make_supernet().discretize().to_dict())
    assert len(genotypes) == whole.metrics["distinct_genotypes"][-1]
    p = alphas.op_weights()["normal"][1:]
    entropy = -(p * np.log(p)).sum(-1).mean(-1)
    np.testing.assert_allclose(whole.metrics["alpha_entropy_normal"], entropy, rtol=1e-5)


def test_the_summary_tells_the_result(whole):
    summary = whole.summary
    json.dumps(summary, allow_nan=False)
    expected = {
        "exit_state": "finished",
        "encoder": "Supernet",
        "game": "starpilot",
        "distribution_mode": "easy",
        "seed": 31,
        "env_steps": UPDATES * BATCH,
        "episodes": whole.metrics["episodes"][-1],
        "return_mean": whole.metrics["return_mean"][-1],
        **dataclasses.asdict(count_cost(make_supernet(), (64, 64, 3))),
    }
    for name in ("return_mean", "eval_train_return_mean", "eval_test_return_mean"):
        # starpilot, easy: from 2.5 to 64 (Cobbe et al. 2020).
        expected[f"{name}_normalized"] = (summary[name] - 2.5) / (64 - 2.5)
    actual = {name: summary[name] for name in expected}
    assert actual == pytest.approx(expected)
    assert 0 < summary["wall_time_s"] <= whole.metrics["wall_time"][-1] + 0.1
    speed = summary["env_steps"] / summary["wall_time_s"]
    assert summary["env_steps_per_second"] == pytest.approx(speed, rel=0.05)


# --- stopping and going on -------------------------------------------------------------------


def test_a_stopped_training_says_so_and_leaves_a_checkpoint(in_parts):
    stopped, killed, finished = in_parts.summaries
    assert stopped["exit_state"] == "interrupted"
    assert stopped["env_steps"] == 2 * BATCH
    assert "eval_test_return_mean" not in stopped
    assert killed["rows"] == STEPS[:4]
    assert in_parts.begins == [0, 2 * BATCH, 3 * BATCH]
    assert finished["exit_state"] == "finished"


def test_in_parts_everything_ends_as_in_one_run(whole, in_parts):
    assert set(in_parts.snapshot) == set(whole.snapshot)
    for name, array in whole.snapshot.items():
        assert_same(in_parts.snapshot[name], array, name)


def test_in_parts_all_files_are_those_of_one_run(whole, in_parts):
    metrics = read_metrics(in_parts.stage_dir.metrics_path)
    assert list(metrics) == list(whole.metrics)
    for name in set(metrics) - {"wall_time", "steps_per_second", *SECONDS}:
        assert_same(metrics[name], whole.metrics[name], name)
    assert np.all(np.diff(metrics["wall_time"]) > 0)
    alphas = [read_alphas(parts.stage_dir.alphas_path) for parts in (whole, in_parts)]
    assert_same(alphas[1].steps, alphas[0].steps, "steps")
    for name, array in alphas[0].logits.items():
        assert_same(alphas[1].logits[name], array, name)
    texts = [parts.stage_dir.genotypes_path.read_text() for parts in (whole, in_parts)]
    assert texts[0] == texts[1]


def test_in_parts_the_summary_is_that_of_one_run(whole, in_parts):
    timed = {"wall_time_s", "env_steps_per_second"}
    summaries = [
        {name: value for name, value in summary.items() if name not in timed}
        for summary in (whole.summary, in_parts.summaries[-1])
    ]
    assert summaries[1].pop("evaluations") == summaries[0].pop("evaluations")
    assert summaries[1] == pytest.approx(summaries[0])
    # The seconds of a killed process count up to its last checkpoint.
    assert in_parts.summaries[-1]["wall_time_s"] > in_parts.summaries[0]["wall_time_s"]


def test_evaluations_change_nothing_in_the_training(whole, tmp_path):
    settings = dataclasses.replace(
        SETTINGS, training=dataclasses.replace(SETTINGS.training, evaluation_interval=0)
    )
    training = make_training(StagePaths(tmp_path / "search"), "x", make_supernet(), settings)
    training.run()
    actual = snapshot(training)
    training.close()
    assert set(actual) == set(whole.snapshot)
    for name, expected in whole.snapshot.items():
        assert_same(actual[name], expected, name)


def test_a_finished_training_is_only_evaluated_again(whole, tmp_path):
    shutil.copytree(whole.stage_dir.path, tmp_path / "search")
    stage_dir = StagePaths(tmp_path / "search")
    training = make_training(stage_dir, "search", make_supernet(), SETTINGS)
    assert training.step == UPDATES * BATCH
    restored = snapshot(training)
    for name in (n for n in restored if n != "generator"):  # the last evaluation has drawn since
        np.testing.assert_array_equal(restored[name], whole.snapshot[name], err_msg=name)
    summary = training.run()
    training.close()
    assert summary["eval_test_return_mean"] == pytest.approx(whole.summary["eval_test_return_mean"])
    assert read_metrics(stage_dir.metrics_path)["step"].tolist() == STEPS


# --- divergence, and a baseline --------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_training_and_leaves_the_last_checkpoint(tmp_path):
    settings = StageSettings(
        SETTINGS.algorithm,
        ProcgenSuite(ProcgenSettings(game="leaper")),
        TrainingSettings(
            num_env_steps=10 * BATCH,
            seed=2**31 - 1,
            evaluation_interval=BATCH,
            evaluation_episodes=2,
            checkpoint_minutes=0,
        ),
    )
    stage_dir = StagePaths(tmp_path / "baseline")
    first = len(RecordingEnvironment.made)
    at_checkpoint = []

    def spoil():
        # After the first update, before its checkpoint: the second one must diverge.
        training.program.agent.optimizer.learning_rate.assign(1e18)
        at_checkpoint.extend(w.numpy() for w in training._encoder.weights)
        return False

    training = make_training(stage_dir, "baseline", ImpalaCNN([4], features=16), settings, spoil)
    with pytest.raises(RunError, match=r"diverged.*PPOSettings\.learning_rate") as caught:
        training.run()
    training.close()
    assert "\n" not in str(caught.value)
    metrics = read_metrics(stage_dir.metrics_path)
    assert metrics["step"].tolist() == [BATCH]
    # All levels are in training: there are no others to evaluate on.
    assert np.isfinite(metrics["eval_test_return_mean"]).all()
    assert "eval_train_return_mean" not in metrics
    assert len(RecordingEnvironment.made) == first + 2
    assert RecordingEnvironment.made[-1].arguments["num_envs"] == 2
    # What only a search has.
    assert not {"alpha_entropy_normal", "distinct_genotypes"} & set(metrics)
    assert not stage_dir.alphas_path.exists() and not stage_dir.genotypes_path.exists()

    restored = make_training(stage_dir, "baseline", ImpalaCNN([4], features=16), settings)
    restored.close()
    assert restored.step == BATCH
    assert at_checkpoint
    for weight, expected in zip(restored._encoder.weights, at_checkpoint):
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(weight, expected)


# --- several games ---------------------------------------------------------------------------


def test_in_float16_overflows_are_counted_and_a_resumed_run_has_the_scale(tmp_path):
    settings = dataclasses.replace(
        SETTINGS,
        training=dataclasses.replace(
            SETTINGS.training, num_env_steps=2 * BATCH, evaluation_interval=0, pictures=0
        ),
    )
    stage_dir = StagePaths(tmp_path / "search")

    def make(*stopping):
        encoder = Supernet(SPACE, [4], features=16, dtype="mixed_float16")
        training = make_training(stage_dir, "search", encoder, settings, *stopping)
        return training, training.program.agent.optimizer.loss_scale

    losses = ("loss", "value_loss", "gradient_norm_theta", "gradient_norm_alpha")
    # Four gradient steps in an update.
    metrics = assert_scale_is_resumed(
        make, StopAfter(1), stage_dir, 2.0**10, losses, skipped_by=lambda program: 4
    )
    assert len(metrics["step"]) == 2


def test_one_learner_plays_several_games_and_tells_the_return_of_each(tmp_path):
    # The shortest episodes there are, so that all games end some.
    names = ("bossfight", "fruitbot")
    settings = StageSettings(
        SETTINGS.algorithm,
        ProcgenSuite(ProcgenSettings(game=names)),
        TrainingSettings(
            num_env_steps=8 * BATCH, evaluation_interval=0, final_evaluation_episodes=8
        ),
    )
    stage_dir = StagePaths(tmp_path / "baseline")
    training = make_training(stage_dir, "baseline", ImpalaCNN([4], features=16), settings)
    assert training.program.environment.games == (names[0],) * 4 + (names[1],) * 4
    summary = training.run()
    training.close()
    metrics = read_metrics(stage_dir.metrics_path)
    ranges = {"bossfight": (0.5, 13.0), "fruitbot": (-1.5, 32.4)}
    for row in ({name: column[-1] for name, column in metrics.items()}, summary):
        for kind in ("return_mean", "eval_test_return_mean"):
            returns = {name: row.get(f"{kind}_{name}") for name in names}
            if kind == "return_mean" or row is summary:
                assert row[kind] == pytest.approx(np.mean([*returns.values()]))
                normalized = [
                    (value - ranges[name][0]) / (ranges[name][1] - ranges[name][0])
                    for name, value in returns.items()
                ]
                assert row[f"{kind}_normalized"] == pytest.approx(np.mean(normalized))
    assert summary["game"] == "bossfight, fruitbot"


def test_tensorboard_shows_op_weights_and_the_cell_as_pictures(whole):
    pictures = collections.defaultdict(dict)
    for tag, step, (width, height, png) in events.pictures(whole.stage_dir.tensorboard_dir):
        pixels = tf.io.decode_png(png).numpy()
        assert pixels.shape[:2] == (int(height), int(width)) and pixels.std() > 5
        pictures[tag][step] = pixels
    assert set(pictures) == {"op_weights", "cell/normal"}
    for shown in pictures.values():
        # At the beginning, after one half (`pictures` is 2), and at the end.
        assert sorted(shown) == PICTURED
    first, *_, last = (pictures["op_weights"][step] for step in PICTURED)
    assert first.shape == last.shape and (first != last).any()


# --- what a search records -------------------------------------------------------------------


def test_the_genotype_log_grows_when_alpha_stands_for_another_cell(tmp_path):
    stage_dir = StagePaths(tmp_path)
    supernet = Supernet("micro", [4])
    recorder = SearchRecorder(stage_dir, supernet, resume_step=None)
    genotypes = [supernet.discretize().to_dict()]
    counts = [recorder.record(0)["distinct_genotypes"]]
    supernet.alpha.logits["normal"][0].assign_add([[0.0, 0.0, 0.01, 0.0, 0.0]])
    for step in (1, 2):  # The same cell twice.
        counts.append(recorder.record(step)["distinct_genotypes"])
    genotypes.append(supernet.discretize().to_dict())
    # One op of all edges: no entropy is left.
    for node in supernet.alpha.logits["normal"]:
        node.assign(np.tile([[0.0, 99.0, 0.0, 0.0, 0.0]], (node.shape[0], 1)))
    row = recorder.record(3)
    genotypes.append(supernet.discretize().to_dict())
    assert counts == [1, 2, 2] and row["distinct_genotypes"] == 3
    assert row["alpha_entropy_normal"] == pytest.approx(0.0, abs=1e-6)
    assert list(row) == [column for columns in recorder.columns.values() for column in columns]
    assert row["last_genotype_step"] == 3
    # All edges have the second op.
    ops = supernet.space.ops("normal")
    means = [row[f"op_weight_normal_{op}"] for op in ops]
    np.testing.assert_allclose(means, [0, 1, 0, 0, 0], atol=1e-6)
    assert read_genotypes(stage_dir.genotypes_path) == list(zip([0, 1, 3], genotypes))
    assert len({json.dumps(genotype) for genotype in genotypes}) == 3
    recorder.flush()
    alphas = read_alphas(stage_dir.alphas_path)
    assert alphas.steps.tolist() == [0, 1, 2, 3]
    assert alphas.ops == {"normal": supernet.space.ops("normal")}
    np.testing.assert_array_equal(alphas.logits["normal"][1], alphas.logits["normal"][2])
    p = alphas.op_weights()["normal"][3]
    np.testing.assert_allclose(p, [[0, 1, 0, 0, 0]] * 10, atol=1e-6)
