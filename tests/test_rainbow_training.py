"""The Rainbow training program on real games: files, numbers, and going on where it stopped."""

from __future__ import annotations

import collections
import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("procgen")
pytest.importorskip("acme")
pytest.importorskip("reverb")

import tensorflow as tf
from replay_reader import read_items
from trainings import (
    StopAfter,
    arrays_of,
    assert_filled,
    assert_returns,
    assert_scale_is_resumed,
    digest,
    registers,
    state_of,
)

from rldarts_tf import ImpalaCNN, SearchSpace, Supernet
from rldarts_tf.agents.gradients import NORMS
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.rainbow.settings import RainbowSettings
from rldarts_tf.cost import count_cost
from rldarts_tf.envs.procgen.games import GAMES
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.search_log import read_genotypes
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings

# Small, because tracing is what costs.
SPACE = SearchSpace(name="small", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=1)
N, T, UPDATES, CAPACITY, GAMMA = 4, 32, 5, 300, 0.9
BATCH = N * T
RAINBOW = RainbowSettings(
    num_envs=N,
    batch_size=8,
    samples_per_insert=0.5,
    min_replay_size=32,
    n_step=3,
    replay_capacity=CAPACITY,
    learning_rate=1e-3,
    discount=GAMMA,
    num_atoms=5,
    hidden_size=8,
    target_update_period=10,
    initial_priority=3.0,
    epsilon_base=0.9,
    epsilon_exponents=(1.0, 4.0),
    epsilon_decay=2.0,
    epsilon_steps=400,
    evaluation_epsilon=0.3,
    steps_per_update=T,
)
SETTINGS = StageSettings(
    RAINBOW,
    ProcgenSuite(ProcgenSettings(game="chaser")),
    TrainingSettings(
        num_env_steps=UPDATES * BATCH - 1,  # The update that passes it is made in full.
        seed=1,
        evaluation_interval=2 * BATCH,
        evaluation_episodes=4,
        final_evaluation_episodes=4,
        checkpoint_minutes=0,
        pictures=0,
    ),
)
# Of returns (Cobbe et al. 2020).
EASY_MAXIMUM = {"chaser": 13.0}
HARD_MAXIMUM = {"fruitbot": 27.2, "chaser": 14.2}


registered = registers(SPACE)


class Recorder:
    """Writes down what an environment is given and what it gives."""

    def __init__(self, environment):
        self.frames = [environment.current_time_step().observation.copy()]
        self.actions, self.rewards, self.ended, self.discounts = [], [], [], []
        step = environment._step

        def recording_step(actions):
            time_step = step(actions)
            self.actions.append(np.array(actions))
            self.rewards.append(time_step.reward.astype(np.float64))
            self.ended.append(time_step.is_last())
            self.discounts.append(time_step.discount)
            self.frames.append(time_step.observation.copy())
            return time_step

        environment._step = recording_step


def make_training(stage_dir, settings=SETTINGS, encoder=None, *stopping):
    encoder = encoder or Supernet(SPACE, [4], features=16)
    return Training(stage_dir, "stage", encoder, RainbowProgram, settings, *stopping)


def replay_names(stage_dir):
    return sorted(path.name for path in stage_dir.replay_dir.iterdir())


def snapshot(training):
    """Everything that a training resumes from, as arrays, but for the seconds it took."""
    parts = dict(training.program.trackables)
    replay = {
        f"replay/{key}": np.concatenate([np.ravel(part) for part in (priority, *data)])
        for key, (priority, data) in read_items(training.program.replay).items()
    }
    return {
        "learner_steps": parts.pop("num_steps").numpy(),
        "skipped": parts.pop("num_skipped").numpy(),
        "generator": parts.pop("generator").state.numpy(),
        **arrays_of(alpha=training._encoder.alpha, **parts),
        **replay,
        **state_of(training),
    }


def assert_equal_snapshots(actual, expected):
    assert set(actual) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def written(number):
    """To compare sums of float32 and of float64."""
    return round(float(number), 5)


def n_step_transitions(record, games, maximum, n):
    """The definition: [(time, (frame, action, return, discount, next frame))] by environment."""
    frames = [[digest(image) for image in images] for images in record.frames]
    transitions = []
    for i, game in enumerate(games):
        begin = 0
        for t in range(len(record.rewards)):
            end = bool(record.ended[t][i])
            # Windows of n rewards that end here; at the end of an episode also all shorter ones.
            first = max(begin, t - n + 1)
            for s in range(first, t + 1 if end else first + 1):
                value = sum(
                    GAMMA**k * record.rewards[s + k][i] / maximum[game] for k in range(t - s + 1)
                )
                discount = 0.0 if end else GAMMA ** (t - s)
                transition = (frames[s][i], int(record.actions[s][i]), written(value))
                transitions.append((t, (*transition, written(discount), frames[t + 1][i])))
            if end:
                begin = t + 1
    return transitions


def transitions_in(replay):
    return collections.Counter(
        (digest(s), int(a), written(r), written(d), digest(following))
        for _, (s, a, r, d, following) in read_items(replay).values()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search from start to end."""
    stage_dir = StagePaths(tmp_path_factory.mktemp("whole") / "search")
    training = make_training(stage_dir)
    record = Recorder(training.program.environment)
    summary = training.run()
    yield SimpleNamespace(
        stage_dir=stage_dir,
        training=training,
        program=training.program,
        record=record,
        summary=summary,
        metrics=read_metrics(stage_dir.metrics_path),
    )
    training.close()


@pytest.fixture(scope="module")
def in_parts(tmp_path_factory):
    """The same search: stopped in its third update; killed after the fifth; stopped by a full disk.

    What is called killed ends between a row of metrics and the checkpoint of its step; the disk is
    full when replay has been saved, and the checkpoint it belongs to has not.
    """
    stage_dir = StagePaths(tmp_path_factory.mktemp("parts") / "search")
    settings = dataclasses.replace(
        SETTINGS, training=dataclasses.replace(SETTINGS.training, num_env_steps=600)
    )
    runs = []

    def run(stopping=None, before_run=lambda training: None):
        training = make_training(stage_dir, settings, None, stopping or StopAfter())
        result = SimpleNamespace(begin=training.step, first=snapshot(training), last=None)
        after_checkpoint = training.program.after_checkpoint

        def snapshot_after_checkpoint(kept):
            after_checkpoint(kept)
            result.last = snapshot(training)

        training.program.after_checkpoint = snapshot_after_checkpoint
        before_run(training)
        try:
            result.summary = training.run()
        except (KeyboardInterrupt, RunError) as error:
            result.error = error
        training.close()
        result.rows = read_metrics(stage_dir.metrics_path)["step"].tolist()
        result.replay_names = replay_names(stage_dir)
        runs.append(result)

    def fill_disk(training):
        def save(step, files):
            raise RunError(f"checkpoint of step {step} cannot be written: the disk is full")

        training._checkpoints.save = save

    run(StopAfter(2 * (T + 1) + 5))
    run(StopAfter((T - 5 + 1) + (T + 1), KeyboardInterrupt()))
    run(before_run=fill_disk)
    run()
    return SimpleNamespace(stage_dir=stage_dir, runs=runs)


# --- a run from start to end -----------------------------------------------------------------


def test_metrics_have_all_columns_filled_but_for_evaluations_between_intervals(whole):
    losses = {"loss", "td_error", "q_mean", *NORMS, "importance_mean"}
    evaluations = {f"eval_test_return_{what}" for what in ("mean", "std", "mean_normalized")}
    steps = whole.metrics["step"]
    assert steps.tolist() == [BATCH * k for k in range(1, UPDATES + 1)]
    assert whole.training.step == UPDATES * BATCH
    assert set(whole.metrics) == {
        "step", "wall_time", "return_mean", "return_std", "return_mean_normalized", "episodes",
        "length_mean", *losses, "epsilon", "learner_steps", "replay_size", "skipped_updates",
        "steps_per_second", "seconds_left",
        *(f"seconds_{part}" for part in ("act", "simulate", "store", "sample", "learn")),
        "seconds_evaluate", "seconds_save",
        *evaluations, *(f"op_weight_normal_{op}" for op in SPACE.ops("normal")),
         "alpha_entropy_normal", "distinct_genotypes",
        "last_genotype_step",
    }  # fmt: skip
    assert_filled(whole.metrics, evaluations, steps % (2 * BATCH) == 0)


def test_the_learner_keeps_its_ratio_to_the_steps_of_the_environments(whole):
    steps = whole.metrics["step"]
    # 0.5 samples for each step after the first 32, in batches of 8.
    expected = [int((step - 32) * 0.5 // 8) for step in steps]
    assert whole.metrics["learner_steps"].tolist() == expected
    assert whole.program.learner.num_steps == expected[-1] == 38


def epsilons(step):
    """That of each environment."""
    return 0.9 ** (np.array([1.0, 2.0, 3.0, 4.0]) * (1 + 2 * min(step / 400, 1)))


def test_each_environment_explores_with_an_epsilon_of_its_own_that_falls(whole):
    expected = [epsilons(step).mean() for step in whole.metrics["step"]]
    assert whole.metrics["epsilon"] == pytest.approx(expected)
    actions = np.array(whole.record.actions)
    assert np.bincount(actions[: 32 // N].ravel(), minlength=15).max() < 16  # Random ones.
    np.testing.assert_allclose(whole.program._epsilon, epsilons(400), rtol=1e-6)


def test_returns_are_those_of_the_episodes_that_ended_in_raw_rewards(whole):
    assert_returns(whole.metrics, whole.record.rewards, whole.record.ended, T)


def test_replay_holds_the_newest_transitions_of_the_game(whole):
    expected = n_step_transitions(
        whole.record, ["chaser"] * N, EASY_MAXIMUM, whole.program._settings.n_step
    )
    held = transitions_in(whole.program.replay)
    assert sum(held.values()) == CAPACITY
    assert not held - collections.Counter(transition for _, transition in expected)
    # Writers are not in step with each other, so the border is not sharp.
    newest = sorted(time for time, _ in expected)[-CAPACITY + 40]
    recent = collections.Counter(transition for time, transition in expected if time > newest)
    assert not recent - held
    # Rewards among them, divided by the maximum, and ends.
    assert written(0.04 / 13) in {transition[2] for transition in held}
    assert any(transition[3] == 0 for transition in held)
    for k, size in enumerate(whole.metrics["replay_size"], start=1):
        inserted = sum(time < k * T for time, _ in expected)
        # Of each environment up to 5 may be on their way.
        assert min(inserted - 5 * N, CAPACITY) <= size <= min(inserted, CAPACITY)


def test_transitions_that_were_learned_from_have_other_priorities(whole):
    priorities = np.array([p for p, _ in read_items(whole.program.replay).values()])
    assert np.all(priorities > 0)
    # 38 batches of 8 from at most 660 transitions.
    assert 20 < np.sum(priorities != 3) < CAPACITY


def test_new_transitions_have_the_initial_priority_of_the_settings(whole):
    priorities = np.array([p for p, _ in read_items(whole.program.replay).values()])
    assert np.sum(priorities == 3) > 20


def test_a_search_logs_op_weights_and_genotypes_from_step_0(whole):
    alphas = read_alphas(whole.stage_dir.alphas_path)
    supernet = whole.training._encoder
    assert alphas.steps.tolist() == [0, *whole.metrics["step"].tolist()]
    logged = alphas.logits["normal"]
    np.testing.assert_array_equal(logged[0], 0)
    np.testing.assert_array_equal(logged[-1], supernet.alpha.numpy_logits()["normal"])
    assert np.all(np.any(logged[1:] != logged[:-1], axis=(1, 2))), "alpha was not trained"
    genotypes = read_genotypes(whole.stage_dir.genotypes_path)
    assert genotypes[0] == (0, Supernet(SPACE, [4], features=16).discretize().to_dict())
    assert len(genotypes) == whole.metrics["distinct_genotypes"][-1]


def test_the_summary_tells_the_result(whole):
    json.dumps(whole.summary, allow_nan=False)
    expected = {
        "exit_state": "finished",
        "encoder": "Supernet",
        "game": "chaser",
        "distribution_mode": "easy",
        "seed": 1,
        "env_steps": UPDATES * BATCH,
        "episodes": whole.metrics["episodes"][-1],
        "return_mean": whole.metrics["return_mean"][-1],
        **dataclasses.asdict(count_cost(Supernet(SPACE, [4], features=16), (64, 64, 3))),
    }
    for name in ("return_mean", "eval_test_return_mean"):
        expected[f"{name}_normalized"] = (whole.summary[name] - 0.5) / (13 - 0.5)
    assert {name: whole.summary[name] for name in expected} == pytest.approx(expected)


def test_evaluations_are_greedy_but_for_their_own_epsilon(whole):
    frames = np.repeat(whole.record.frames[-1][:1], 600, axis=0)
    actions = whole.program.evaluation_policy(0)(frames)
    assert actions.dtype == np.int32
    q = whole.program.learner._network(tf.constant(frames[:1])).mean().numpy()[0]
    counts = np.bincount(actions, minlength=15)
    others = 600 - counts[q.argmax()]
    # 0.3 of the actions are drawn uniformly, of which 14 / 15 are others.
    p = 0.3 * 14 / 15
    assert abs(others - 600 * p) < 4.5 * np.sqrt(600 * p * (1 - p))


def test_evaluations_draw_the_same_every_time_and_nothing_that_training_would(whole):
    program = whole.program
    frames = np.repeat(whole.record.frames[-1][:1], 50, axis=0)
    state = program.trackables["generator"].state.numpy()
    draws = []
    for seed in (7, 7, 8):
        policy = program.evaluation_policy(seed)
        draws.append([policy(frames), policy(frames)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2]) and not np.array_equal(*draws[0])
    np.testing.assert_array_equal(program.trackables["generator"].state, state)


# --- stopping and going on -------------------------------------------------------------------

STOPPED = 2 * BATCH + 5 * N
SAVED = 3 * BATCH  # The update that was stopped is completed first.


def test_a_stopped_training_ends_within_an_update_with_a_checkpoint(in_parts):
    stopped = in_parts.runs[0]
    assert stopped.summary["exit_state"] == "interrupted"
    assert stopped.summary["env_steps"] == STOPPED
    assert "eval_test_return_mean" not in stopped.summary
    assert stopped.rows == [BATCH, 2 * BATCH, STOPPED]
    assert len(stopped.replay_names) == 2  # of three


def test_it_goes_on_from_its_last_checkpoint_replay_included(in_parts):
    stopped, killed, full, last = in_parts.runs
    assert [run.begin for run in in_parts.runs] == [0, STOPPED, SAVED, SAVED]
    assert_equal_snapshots(killed.first, stopped.last)
    assert_equal_snapshots(full.first, killed.last)
    assert_equal_snapshots(last.first, killed.last)
    for run, step in ((killed, STOPPED), (full, SAVED)):
        assert run.first["agent/step"] == run.first["step"] == step
        assert run.first["learner_steps"] == (step - 32) * 0.5 // 8
        items = [name for name in run.first if name.startswith("replay/")]
        assert len(items) == (CAPACITY if step == SAVED else len(items)) > 250
        assert len({run.first[name][0] for name in items}) > 10  # Priorities.


def test_a_killed_training_leaves_the_replay_of_both_checkpoints(in_parts):
    stopped, killed = in_parts.runs[:2]
    assert isinstance(killed.error, KeyboardInterrupt)
    # The row is out, but its checkpoint is not.
    assert killed.rows == [BATCH, 2 * BATCH, STOPPED, SAVED, SAVED + BATCH]
    assert killed.replay_names == [str(run.last["agent/replay"]) for run in (stopped, killed)]


def test_a_crash_between_replay_and_checkpoint_leaves_the_older_replay(in_parts):
    killed, full, last = in_parts.runs[1:]
    assert "the disk is full" in str(full.error)
    assert len(full.replay_names) == 3
    assert full.replay_names[:2] == killed.replay_names
    # Not the newer one, of which no checkpoint knows.
    assert str(last.first["agent/replay"]) == killed.replay_names[-1]
    assert len(last.replay_names) == 2
    assert last.replay_names[-1] == str(last.last["agent/replay"])
    assert not set(last.replay_names) & set(full.replay_names)


def test_in_parts_metrics_have_no_gaps_and_no_repeats(in_parts):
    metrics = read_metrics(in_parts.stage_dir.metrics_path)
    steps = [BATCH, 2 * BATCH, STOPPED, SAVED, SAVED + BATCH, SAVED + 2 * BATCH]
    assert metrics["step"].tolist() == steps
    assert metrics["learner_steps"].tolist() == [(step - 32) * 0.5 // 8 for step in steps]
    assert metrics["epsilon"] == pytest.approx([epsilons(step).mean() for step in steps])
    for name in ("wall_time", "episodes"):
        assert np.all(np.diff(metrics[name]) >= 0), name
    alphas = read_alphas(in_parts.stage_dir.alphas_path)
    assert alphas.steps.tolist() == [0, *steps]
    summary = in_parts.runs[-1].summary
    assert summary["exit_state"] == "finished"
    assert summary["env_steps"] == steps[-1]
    assert summary["episodes"] == metrics["episodes"][-1]


# --- two games, and divergence ---------------------------------------------------------------


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    """A baseline on two games, whose weights are spoilt after the first update."""
    stage_dir = StagePaths(tmp_path_factory.mktemp("joint") / "baseline")
    settings = StageSettings(
        dataclasses.replace(RAINBOW, steps_per_update=80, reward_maximum="hard"),
        ProcgenSuite(ProcgenSettings(game=("fruitbot", "chaser"))),
        TrainingSettings(
            num_env_steps=10_000,
            evaluation_interval=N * 80,
            evaluation_episodes=2,
            checkpoint_minutes=0,
            pictures=0,
        ),
    )

    def stopping():
        if stop.asked == 80:  # After the first update, before its checkpoint.
            result.transitions = transitions_in(training.program.replay)
            result.at_checkpoint = [w.numpy() for w in training._encoder.weights]
        if stop.asked == 81:
            weights = training._encoder.weights[0]
            weights.assign(np.full(weights.shape, np.nan))
        return stop()

    stop, result = StopAfter(), SimpleNamespace(stage_dir=stage_dir, settings=settings)
    training = make_training(stage_dir, settings, ImpalaCNN([4], features=16), stopping)
    result.record = Recorder(training.program.environment)
    result.games = training.program.environment.games
    with pytest.raises(RunError) as caught:
        training.run()
    result.error = caught.value
    training.close()
    training.close()  # May be called twice.
    result.metrics = read_metrics(stage_dir.metrics_path)
    return result


def test_of_two_games_each_has_its_columns(joint):
    assert joint.games == ("fruitbot", "fruitbot", "chaser", "chaser")
    metrics = joint.metrics
    assert metrics["step"].tolist() == [N * 80]
    running, returns = np.zeros(N), collections.defaultdict(list)
    for reward, ended in zip(joint.record.rewards[:80], joint.record.ended):
        running += reward
        for i in np.flatnonzero(ended):
            returns[joint.games[i]].append(running[i])
            running[i] = 0
    assert sum(map(len, returns.values())) == metrics["episodes"][0] > 0
    means = {game: np.mean(returns[game] or np.nan) for game in HARD_MAXIMUM}
    for game, mean in means.items():
        assert metrics[f"return_mean_{game}"][0] == pytest.approx(mean, nan_ok=True)
    expected = np.mean(list(means.values()))
    assert metrics["return_mean"][0] == pytest.approx(expected, nan_ok=True)
    evaluated = {game: metrics[f"eval_test_return_mean_{game}"][0] for game in HARD_MAXIMUM}
    assert metrics["eval_test_return_mean"][0] == pytest.approx(np.mean([*evaluated.values()]))
    # Return ranges are those of the mode that is played, whatever rewards are divided by.
    normalized = ((evaluated["fruitbot"] + 1.5) / 33.9 + (evaluated["chaser"] - 0.5) / 12.5) / 2
    assert metrics["eval_test_return_mean_normalized"][0] == pytest.approx(normalized)
    assert not {"alpha_entropy_normal", "distinct_genotypes"} & set(metrics)
    assert not joint.stage_dir.alphas_path.exists()


def test_replay_holds_both_games_each_with_its_own_scale(joint):
    record = SimpleNamespace(**{k: v[:81] for k, v in vars(joint.record).items()})
    for name in ("actions", "rewards", "ended", "discounts"):
        setattr(record, name, getattr(record, name)[:80])
    expected = collections.Counter(
        transition for _, transition in n_step_transitions(record, joint.games, HARD_MAXIMUM, 3)
    )
    held = joint.transitions
    assert not held - expected
    assert sum(held.values()) >= min(CAPACITY, sum(expected.values()) - 5 * N)
    # Of one reward each.
    returns = {transition[2] for transition in held}
    assert written(1 / 27.2) in returns or written(-4 / 27.2) in returns
    assert written(0.04 / 14.2) in returns


def test_divergence_is_an_error_of_one_line_and_leaves_the_last_checkpoint(joint):
    assert "training has diverged" in str(joint.error)
    assert "RainbowSettings.learning_rate" in str(joint.error)
    assert "\n" not in str(joint.error)
    assert len(replay_names(joint.stage_dir)) == 1
    restored = make_training(joint.stage_dir, joint.settings, ImpalaCNN([4], features=16))
    assert restored.step == N * 80
    for weight, expected in zip(restored._encoder.weights, joint.at_checkpoint):
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(weight, expected)
    restored.close()


def test_in_float16_overflows_are_counted_and_a_resumed_run_has_the_scale(tmp_path):
    settings = dataclasses.replace(
        SETTINGS,
        training=dataclasses.replace(
            SETTINGS.training, num_env_steps=2 * BATCH, evaluation_interval=0
        ),
    )
    stage_dir = StagePaths(tmp_path / "search")

    def make(*stopping):
        encoder = Supernet(SPACE, [4], features=16, dtype="mixed_float16")
        training = make_training(stage_dir, settings, encoder, *stopping)
        return training, training.program.learner.loss_scale

    losses = ("loss", "gradient_norm_theta", "gradient_norm_alpha")
    metrics = assert_scale_is_resumed(make, StopAfter(T + 1), stage_dir, 2.0**10, losses)
    assert len(metrics["step"]) == 2


# --- settings --------------------------------------------------------------------------------

BAD_SETTINGS = {
    "no environments": ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
    "half a batch": ({"batch_size": 0.5}, "batch_size must be an integer"),
    "no samples": ({"samples_per_insert": 0}, "samples_per_insert must be positive"),
    "negative samples": ({"samples_per_insert": -1}, "samples_per_insert must be a finite number"),
    "learning at once": ({"min_replay_size": 0}, "min_replay_size must be an integer"),
    "no step": ({"n_step": 0}, "n_step must be an integer of at least 1"),
    "a text": ({"n_step": "3"}, "n_step must be an integer"),
    "no default": ({"n_step_by_game": {"maze": 3}}, r"n_step_by_game must be .*'default'"),
    "no table": ({"n_step_by_game": 7}, "n_step_by_game must be a dictionary"),
    "bad entry": (
        {"replay_capacity_by_game": {"default": 10, "maze": 0}},
        r"replay_capacity_by_game\['maze'\] must be an integer",
    ),
    "bad default": (
        {"replay_capacity_by_game": {"default": 1.5}},
        r"replay_capacity_by_game\['default'\] must be an integer",
    ),
    "no capacity": ({"replay_capacity": 0}, "replay_capacity must be an integer"),
    "no rate": ({"learning_rate": 0.0}, "learning_rate must be positive"),
    "rate is text": ({"learning_rate": "1e-3"}, "learning_rate must be a finite number"),
    "no adam epsilon": ({"adam_epsilon": 0.0}, "adam_epsilon must be positive"),
    "discount": ({"discount": 1.1}, "discount must be at most 1"),
    "negative discount": ({"discount": -0.1}, "discount must be a finite number >= 0"),
    "priority": ({"priority_exponent": -0.1}, "priority_exponent must be a finite number"),
    "importance": ({"importance_exponent": float("nan")}, "importance_exponent must be a finite"),
    "one atom": ({"num_atoms": 1}, "num_atoms must be an integer of at least 2"),
    "empty support": ({"v_min": 1.0, "v_max": 1.0}, "v_min = 1.0 must be less than v_max = 1.0"),
    "infinite support": ({"v_max": float("inf")}, "v_max must be a finite number"),
    "no support": ({"v_min": None}, "v_min must be a finite number"),
    "hidden": ({"hidden_size": 0}, "hidden_size must be an integer"),
    "target": ({"target_update_period": 0}, "target_update_period must be an integer"),
    "gradient": ({"max_gradient_norm": 0}, "max_gradient_norm must be positive"),
    "no gradient": ({"max_gradient_norm": "None"}, "max_gradient_norm must be a finite number"),
    "initial priority": ({"initial_priority": 0}, "initial_priority must be positive"),
    "epsilon base": ({"epsilon_base": 2}, "epsilon_base must be at most 1"),
    "negative epsilon": ({"epsilon_base": -0.5}, "epsilon_base must be a finite number >= 0"),
    "one exponent": ({"epsilon_exponents": 1.0}, "epsilon_exponents must be two finite numbers"),
    "three exponents": ({"epsilon_exponents": (1, 2, 3)}, "epsilon_exponents must be two finite"),
    "exponents of text": ({"epsilon_exponents": "18"}, "epsilon_exponents must be two finite"),
    "negative exponent": ({"epsilon_exponents": (-1, 8)}, "epsilon_exponents must be two finite"),
    "epsilon decay": ({"epsilon_decay": -1}, "epsilon_decay must be a finite number >= 0"),
    "epsilon steps": ({"epsilon_steps": 0}, "epsilon_steps must be an integer"),
    "evaluation": ({"evaluation_epsilon": 1.5}, "evaluation_epsilon must be at most 1"),
    "no steps": ({"steps_per_update": True}, "steps_per_update must be an integer"),
    "augmentation": ({"augmentation": "rotate"}, "augmentation must be "),
    "shift by nothing": ({"augmentation_pixels": 0}, "augmentation_pixels must be an integer"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_refused_with_one_line_that_names_the_field(case):
    options, message = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=rf"^RainbowSettings\.{message}") as caught:
        RainbowSettings(**options)
    # gin adds a line of its own on where it was called.
    assert "\n" not in str(caught.value).split("\n  In call to configurable")[0]


BAD_FOR_GAMES = {
    "too few environments": (
        {"num_envs": 1},
        ("maze", "leaper"),
        "num_envs = 1 must be at least the number of games, 2",
    ),
    "replay too small": (
        {"min_replay_size": 101, "replay_capacity": 100},
        ("maze",),
        "min_replay_size = 101 is more than replay_capacity = 100",
    ),
    "replay of the game too small": (
        {"min_replay_size": 10_001},
        ("starpilot",),
        "min_replay_size = 10001 is more than replay_capacity = 10000",
    ),
    "unknown mode": (
        {"reward_maximum": "extreme"},
        ("maze",),
        "reward_maximum: 'extreme' is not supported",
    ),
}


@pytest.mark.parametrize("case", BAD_FOR_GAMES)
def test_settings_that_do_not_fit_the_games_are_refused(case):
    options, games, message = BAD_FOR_GAMES[case]
    with pytest.raises(ConfigError, match=rf"^RainbowSettings\.{message}") as caught:
        ProcgenSuite(ProcgenSettings(games)).fit(RainbowSettings(**options))
    assert "\n" not in str(caught.value)


REACTIVE = {"bigfish", "bossfight", "chaser", "dodgeball", "miner", "plunder", "starpilot"}


@pytest.mark.parametrize("game", GAMES)
def test_games_choose_the_returns_and_the_capacity_of_the_design(game):
    chosen = RainbowSettings().for_games((game,))
    expected = (2, 10_000) if game in REACTIVE else (7, 500_000)
    assert (chosen.n_step, chosen.replay_capacity) == expected


def test_what_is_set_comes_before_the_tables_and_several_games_have_the_default():
    tables = RainbowSettings(
        n_step_by_game={"default": 4, "maze": 5}, replay_capacity_by_game={"default": 20_000}
    )
    for games, n_step in ((("maze",), 5), (("leaper",), 4), (("maze", "leaper"), 4)):
        chosen = tables.for_games(games)
        assert (chosen.n_step, chosen.replay_capacity) == (n_step, 20_000)
        assert chosen.for_games(games) == chosen
    chosen = dataclasses.replace(tables, n_step=1, replay_capacity=30_000).for_games(("maze",))
    assert (chosen.n_step, chosen.replay_capacity) == (1, 30_000)


def test_the_defaults_are_those_of_the_design():
    defaults = dataclasses.asdict(RainbowSettings().for_games(("maze",)))
    for name in ("n_step_by_game", "replay_capacity_by_game"):
        del defaults[name]
    assert defaults == {
        "num_envs": 64, "batch_size": 256, "samples_per_insert": 4.0, "min_replay_size": 10_000,
        "n_step": 7, "replay_capacity": 500_000, "reward_maximum": None, "learning_rate": 5e-5,
        "adam_epsilon": 1e-8, "discount": 0.99, "priority_exponent": 0.8,
        "importance_exponent": 0.2, "initial_priority": 4.0, "num_atoms": 51, "v_min": 0.0,
        "v_max": 1.0, "hidden_size": 512, "target_update_period": 500, "max_gradient_norm": None,
        "augmentation": None, "augmentation_pixels": None,
        "separate_encoders": False,
        "epsilon_base": 0.4, "epsilon_exponents": (1.0, 8.0), "epsilon_decay": 7.0,
        "epsilon_steps": 25_000_000, "evaluation_epsilon": 0.0,
        "skip_nonfinite_updates": False, "steps_per_update": 16,
    }  # fmt: skip


def test_limits_are_allowed():
    RainbowSettings(
        discount=1.0,
        priority_exponent=0.0,
        importance_exponent=0,
        num_atoms=2,
        max_gradient_norm=1,
        epsilon_base=0.0,
        epsilon_exponents=[0, 0],
        epsilon_decay=0,
        evaluation_epsilon=1,
        v_min=-10,
        replay_capacity_by_game={"default": 1},
    )
