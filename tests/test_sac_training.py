"""The SAC program: what gets into replay, how often it learns, crashes, and going on."""

from __future__ import annotations

import collections
import dataclasses
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("acme")
pytest.importorskip("dm_control")
pytest.importorskip("tensorflow_probability")

import tensorflow as tf
from dm_env import StepType
from replay_reader import read_items
from trainings import StopAfter, arrays_of, assert_scale_is_resumed, digest, registers

from rldarts_tf import PiSacCNN, RunError, SearchSpace, Supernet
from rldarts_tf.agents.sac.learner import LOSSES
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.agents.sac.settings import SACSettings
from rldarts_tf.envs.dm_control.environment import DMControl
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.envs.serial import SerialBatch
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings

pytestmark = pytest.mark.timeout(600)

# Small, because tracing is what costs.
SPACE = SearchSpace("small_sac", ("conv_3x3", "tanh"), num_normal=1, num_nodes=1, top_k=1)
# Episodes of 1000 / 50 actions.
N, T, LENGTH = 2, 15, 20
RANDOM_STEPS = 20
SETTINGS = StageSettings(
    SACSettings(
        num_envs=N,
        batch_size=8,
        samples_per_insert=2.0,
        min_replay_size=RANDOM_STEPS,
        replay_capacity=1000,
        hidden_sizes=(8,),
        steps_per_update=T,
    ),
    DMControlSuite(DMControlSettings("cartpole", "balance", action_repeat=50, image_size=16)),
    TrainingSettings(
        num_env_steps=100,
        seed=1,
        evaluation_interval=60,
        evaluation_episodes=2,
        final_evaluation_episodes=3,
        checkpoint_minutes=0,
        pictures=0,
    ),
)
# For what has nothing to do with evaluations: each episode of one is a simulator to be started.
BRIEF = dataclasses.replace(
    SETTINGS,
    training=dataclasses.replace(
        SETTINGS.training, evaluation_interval=0, final_evaluation_episodes=1
    ),
)


registered = registers(SPACE)


class SerialSuite(DMControlSuite):
    """The tasks in this process: a process for each takes most of the time of a short training."""

    def make(self, num_envs, seed, **overrides):
        task = dataclasses.asdict(self.settings)
        del task["step_timeout"]
        return SerialBatch(lambda s: DMControl(seed=s, **task), self.games * num_envs, seed, task)


def in_this_process(settings):
    """The same settings, for what has nothing to do with workers."""
    return dataclasses.replace(settings, suite=SerialSuite(settings.suite.settings))


def make_training(folder, encoder=None, settings=SETTINGS, stopping=lambda: False):
    encoder = encoder or Supernet(SPACE, [3], features=5, head="layer_norm")
    return Training(StagePaths(folder), "search", encoder, SACProgram, settings, stopping)


class Recorder:
    """Writes down what the environments are given and what they give."""

    def __init__(self, environment):
        self.steps = [environment.current_time_step()]
        self.actions = []
        step = environment.step

        def recording_step(actions):
            self.actions.append(np.array(actions))
            self.steps.append(step(actions))
            return self.steps[-1]

        environment.step = recording_step

    def transitions(self):
        """Those of one step that lie within an episode."""
        return collections.Counter(
            (
                digest(before.observation[i]),
                tuple(np.round(action[i], 5)),
                round(float(after.reward[i]), 4),
                float(after.discount[i]),
                digest(after.observation[i]),
            )
            for before, action, after in zip(self.steps, self.actions, self.steps[1:])
            for i in range(N)
            if after.step_type[i] != StepType.FIRST
        )


def transitions_in(replay):
    return collections.Counter(
        (digest(s), tuple(np.round(a, 5)), round(float(r), 4), float(d), digest(following))
        for _, (s, a, r, d, following) in read_items(replay).values()
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search from start to end."""
    folder = tmp_path_factory.mktemp("whole") / "search"
    training = make_training(folder, settings=in_this_process(SETTINGS))
    record = Recorder(training.program.environment)
    summary = training.run()
    yield SimpleNamespace(
        training=training,
        program=training.program,
        record=record,
        summary=summary,
        metrics=read_metrics(StagePaths(folder).metrics_path),
        folder=folder,
    )
    training.close()


def test_replay_holds_every_transition_and_none_across_episodes(whole):
    expected = whole.record.transitions()
    firsts = sum(int((step.step_type == StepType.FIRST).sum()) for step in whole.record.steps[1:])
    assert firsts == 2 * N and sum(expected.values()) == whole.training.step
    assert transitions_in(whole.program.replay) == expected
    # A time limit is no termination.
    lasts = [step for step in whole.record.steps if (step.step_type == StepType.LAST).any()]
    assert len(lasts) == 2 and all((step.discount == 1).all() for step in lasts)


def test_steps_are_those_that_acted(whole):
    played = len(whole.record.actions) * N
    # 100 steps and four that only began an episode, in rows of 30 less those.
    assert whole.training.step == played - 2 * N >= 100
    assert whole.metrics["step"][-1] == whole.training.step
    assert whole.metrics["episodes"][-1] == 2 * N
    assert whole.metrics["length_mean"][-1] == LENGTH


def test_the_learner_keeps_its_ratio_to_the_steps_of_the_environments(whole):
    expected = [max(int((step - RANDOM_STEPS) * 2 // 8), 0) for step in whole.metrics["step"]]
    assert whole.metrics["learner_steps"].tolist() == expected
    for name in LOSSES:
        assert np.isfinite(whole.metrics[name][whole.metrics["learner_steps"] > 0]).all()


def test_the_first_actions_are_random_and_the_others_those_of_the_actor(whole):
    actions = np.array(whole.record.actions)
    assert (np.abs(actions) <= 1).all()
    first = actions[: RANDOM_STEPS // N].ravel()
    assert first.min() < -0.5 and first.max() > 0.5 and len(set(first)) == len(first)


def test_returns_are_sums_of_rewards_and_normalized_by_the_length_of_an_episode(whole):
    returns = [
        sum(float(step.reward[i]) for step in whole.record.steps[k : k + LENGTH + 1])
        for i in range(N)
        for k in (0, LENGTH + 1)
    ]
    assert whole.metrics["return_mean"][-1] == pytest.approx(np.mean(returns), rel=1e-4)
    for row in ("return_mean", "eval_test_return_mean"):
        assert 100 < whole.summary[row] <= 1000
        assert whole.summary[f"{row}_normalized"] == pytest.approx(whole.summary[row] / 1000)
    evaluated = np.isfinite(whole.metrics["eval_test_return_mean"])
    assert evaluated.sum() == 1
    assert whole.summary["game"] == "cartpole/balance"
    assert whole.summary["action_repeat"] == 50


def test_alpha_and_the_encoder_are_trained(whole):
    encoder = whole.training._encoder
    assert all(v.numpy().any() for nodes in encoder.alpha.logits.values() for v in nodes)
    assert whole.metrics["distinct_genotypes"][-1] >= 1


def test_actor_and_learner_draw_from_streams_of_their_own_that_evaluations_leave_alone(whole):
    trackables = whole.training.program.trackables
    generators = [trackables[name] for name in ("generator", "learner_generator")]
    drawn = []
    for generator in generators:
        state = generator.state.numpy()
        whole.training.program.evaluation_policy(0)(whole.record.steps[-1].observation)
        np.testing.assert_array_equal(generator.state, state)
        # From its beginning: the last word is the key, the others count. The second word of a
        # stateless seed is always 0.
        copy = tf.random.Generator.from_state([0, 0, state[-1]], alg="philox")
        drawn.append(set(np.ravel([copy.make_seeds(4).numpy()[0] for _ in range(100)]).tolist()))
    assert len(drawn[0]) == len(drawn[1]) == 400 and not drawn[0] & drawn[1]


def state_of(training):
    """Everything that a checkpoint restores, as arrays."""
    parts = dict(training.program.trackables)
    return {
        "learner_steps": parts.pop("num_steps").numpy(),
        "skipped": parts.pop("num_skipped").numpy(),
        "log_temperature": parts.pop("log_temperature").numpy(),
        **{name: parts.pop(name).state.numpy() for name in ("generator", "learner_generator")},
        **arrays_of(**parts),
        "step": training.step,
        "episodes": training._returns.episodes,
        "crashes": training.program.environment.crashes,
    }


def test_a_resumed_training_has_the_same_state_and_replay_and_begins_new_episodes(tmp_path):
    stopping = StopAfter(T + 6)  # in the middle of the second row

    def encoder():  # One that is traced sooner than a supernet.
        return PiSacCNN([3, 3], features=5, head="layer_norm")

    folder = tmp_path / "search"
    training = make_training(folder, encoder(), BRIEF, stopping)
    record = Recorder(training.program.environment)
    training.program.environment.crashes = 3  # as if
    save_replay, seconds = training.program.before_checkpoint, []

    def save_replay_slowly():
        seconds.append(training._seconds)
        time.sleep(0.3)
        return save_replay()

    training.program.before_checkpoint = save_replay_slowly
    assert training.run()["exit_state"] == "interrupted"
    before, kept = state_of(training), transitions_in(training.program.replay)
    generation = training.program.environment.get_state()["generation"]
    training.close()

    resumed = make_training(folder, encoder(), BRIEF)
    for name, array in before.items():
        np.testing.assert_array_equal(state_of(resumed)[name], array, err_msg=name)
    assert before["learner_steps"] > 0 and before["step"] < 100 and before["crashes"] == 3
    assert resumed._seconds >= seconds[-1] + 0.3
    assert transitions_in(resumed.program.replay) == kept == record.transitions()
    environment = resumed.program.environment
    assert (environment.get_state()["generation"] > generation).all()
    assert (environment.current_time_step().step_type == StepType.FIRST).all()
    again = Recorder(environment)
    assert resumed.run()["exit_state"] == "finished"
    assert transitions_in(resumed.program.replay) == kept + again.transitions()
    metrics = read_metrics(StagePaths(folder).metrics_path)
    assert (np.diff(metrics["step"]) > 0).all() and metrics["step"][-1] == resumed.step >= 100
    # The episodes that ran when it was stopped do not count.
    assert metrics["length_mean"][-1] == LENGTH
    resumed.close()


def test_a_worker_that_is_killed_costs_its_episode_and_nothing_else(tmp_path, capfd):
    encoder = PiSacCNN([3, 3], features=5, head="layer_norm")
    training = make_training(tmp_path / "search", encoder, BRIEF)
    environment = training.program.environment
    record = Recorder(environment)
    step, calls = environment.step, []

    def step_with_a_murder(actions):
        calls.append(None)
        if len(calls) == T + 3:  # of the second row
            os.kill(environment._workers[0].pid, signal.SIGKILL)
        return step(actions)

    environment.step = step_with_a_murder
    summary = training.run()
    assert summary["exit_state"] == "finished"
    assert environment.crashes == 1
    crashed = record.steps[T + 3]
    assert crashed.step_type.tolist() == [0, 1]
    # No transition leads from the episode that was lost into the next.
    assert transitions_in(training.program.replay) == record.transitions()
    metrics = read_metrics(StagePaths(tmp_path / "search").metrics_path)
    assert metrics["crashes"][[0, 1, -1]].tolist() == [0, 1, 1]
    assert metrics["length_mean"][-1] == LENGTH
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "cartpole/balance" in line]
    assert "environment 0" in line
    training.close()


SINGLE = dataclasses.replace(
    in_this_process(SETTINGS),
    algorithm=dataclasses.replace(SETTINGS.algorithm, num_envs=1, steps_per_update=1),
    training=dataclasses.replace(BRIEF.training, num_env_steps=45),
)


def test_an_update_that_only_begins_an_episode_is_no_row_and_no_record(tmp_path):
    # One environment and one action an update: after steps 20 and 40 an update makes none.
    training = make_training(tmp_path / "search", settings=SINGLE)
    record = Recorder(training.program.environment)
    summary = training.run()
    training.close()
    assert len(record.actions) == 47 and summary["env_steps"] == 45
    stage = StagePaths(tmp_path / "search")
    assert read_metrics(stage.metrics_path)["step"].tolist() == [*range(1, 46)]
    assert read_alphas(stage.alphas_path).steps.tolist() == [*range(46)]


def test_a_stop_while_an_episode_begins_leaves_a_checkpoint_that_goes_on(tmp_path):
    settings = dataclasses.replace(
        SINGLE, algorithm=dataclasses.replace(SINGLE.algorithm, steps_per_update=20)
    )

    def begins():
        return training.step > 0 and training.program.environment.current_time_step().first()[0]

    training = make_training(tmp_path / "search", settings=settings, stopping=begins)
    summary = training.run()
    training.close()
    assert (summary["exit_state"], summary["env_steps"]) == ("interrupted", 20)
    training = make_training(tmp_path / "search", settings=settings)
    assert training.step == 20
    summary = training.run()
    training.close()
    assert (summary["exit_state"], summary["env_steps"]) == ("finished", 59)
    stage = StagePaths(tmp_path / "search")
    # It began a new episode when it was restored; the last update begins the next.
    assert read_alphas(stage.alphas_path).steps.tolist() == [0, 20, 40, 59]


def test_environments_that_only_begin_episodes_end_the_training_with_one_line(tmp_path):
    training = make_training(tmp_path / "search", settings=SINGLE)
    training.program.advance = lambda stopping: (0, {})
    with pytest.raises(RunError, match=r"^no environment step in 100 updates in a row"):
        training.run()
    training.close()


def test_in_float16_overflows_are_counted_and_a_resumed_run_has_the_scale(tmp_path):
    training = dataclasses.replace(BRIEF.training, num_env_steps=60)
    settings = dataclasses.replace(in_this_process(SETTINGS), training=training)
    stopping = StopAfter(T + 1)  # after the first row

    def make(*stopping):
        encoder = PiSacCNN([3, 3], features=5, head="layer_norm", dtype="mixed_float16")
        made = make_training(tmp_path / "search", encoder, settings, *stopping)
        return made, made.program.learner.loss_scale

    # Small, as the rewards of this task are large.
    scale, losses = 4.0, ("critic_loss", "gradient_norm_theta")
    stage_dir = StagePaths(tmp_path / "search")
    assert_scale_is_resumed(make, stopping, stage_dir, scale, losses)


def test_a_policy_that_is_not_finite_ends_the_training(tmp_path):
    training = make_training(tmp_path / "search", settings=in_this_process(SETTINGS))
    for variable in training.program.learner._actor.trainable_variables:
        variable.assign(tf.fill(variable.shape, np.nan))
    with pytest.raises(RunError, match=r"not finite.*SACSettings\.learning_rate"):
        training.run()
    training.close()
