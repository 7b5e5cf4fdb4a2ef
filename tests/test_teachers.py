"""Teachers from run directories, and trainings that have one."""

from __future__ import annotations

import dataclasses
import functools
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tf_agents")

import gin
import tensorflow as tf
from learner_paths import PPOPath
from readme import A2D, marked_block
from tf_agents.trajectories import trajectory
from trained_runs import trained_stage
from trainings import TINY, StopAfter

from rldarts_tf import ImpalaCNN
from rldarts_tf.agents.ppo.agent import tensor_specs
from rldarts_tf.agents.ppo.learner import Learner
from rldarts_tf.agents.ppo.program import PPOProgram, value_ratio
from rldarts_tf.agents.registry import ALGORITHMS
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.envs.planted.settings import PlantedSettings
from rldarts_tf.envs.planted.suite import PlantedSuite
from rldarts_tf.errors import ConfigError, RLDartsError, RunError
from rldarts_tf.export import teachers
from rldarts_tf.export.policies import read_stage
from rldarts_tf.export.teachers import check_teacher, load_teacher
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import RunPaths, StagePaths, find_checkpoint
from rldarts_tf.runs.summary import write_summary
from rldarts_tf.teaching.distillation import COLUMNS, TERMS, Distillation
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

GOLDEN = Path(__file__).with_name("golden")
SUITE = CatchSuite(CatchSettings(rows=6))  # episodes of five steps
UPDATE = 32
BOTH = DistillationSettings(actor_weight=1.0, critic_weight=0.5)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished baseline of PPO, and what its program said at the end."""
    root = tmp_path_factory.mktemp("teacher") / "run"
    encoders = EncoderSettings(depths=[2], features=8)
    observations = np.random.default_rng(0).integers(0, 256, (5, *SUITE.observation_spec().shape))
    with trained_stage(root, "baseline", TINY["ppo"], encoders, SUITE) as program:
        _, policy, values = program._act(observations.astype(np.uint8))
        scale = program._rewards.scale
    entry = {"exit_state": "finished", "return_mean": 0.5}
    write_summary(RunPaths(root).summary_path, "baseline", entry)
    write_summary(RunPaths(root).summary_path, "evaluate", {"exit_state": "interrupted"})
    return SimpleNamespace(
        root=root,
        step=RunPaths(root).stage("baseline").newest_step(),
        observations=observations.astype(np.uint8),
        logits=policy["logits"].numpy(),
        values=values.numpy(),
        scale=float(scale[0]),
    )


def student(suite=SUITE, steps=2 * UPDATE, **numbers):
    settings = dataclasses.replace(TINY["ppo"], **numbers)
    training = TrainingSettings(
        num_env_steps=steps, pictures=0, evaluation_interval=0, checkpoint_minutes=0
    )
    return StageSettings(suite.fit(settings), suite, training)


def make_training(folder, distillation, settings, *stopping):
    """A training that is not evaluated."""
    program = functools.partial(PPOProgram, distillation=distillation)
    encoder = ImpalaCNN([2], features=8)
    training = Training(StagePaths(folder), "student", encoder, program, settings, *stopping)
    training._evaluate = lambda number: {}
    return training


# --- from a run directory -----------------------------------------------------------------------


def test_a_teacher_says_what_the_policy_of_its_run_said(run):
    teacher = load_teacher(run.root)
    said = teacher.network(run.observations)
    np.testing.assert_allclose(said["logits"], run.logits, atol=1e-5)
    np.testing.assert_allclose(said["value"], run.values, atol=1e-5)
    (game,) = SUITE.games
    assert teacher.reward_scales == {game: pytest.approx(run.scale)}
    assert run.scale != 1
    assert teacher.training_return == 0.5
    assert teacher.name == f"{run.root}/baseline, step {run.step}"
    assert len(teacher.checksum) == 64


REFUSED = {
    "no run": ({"root": "nowhere"}, {}, "holds no finished training"),
    "no such stage": ({"stage": "search"}, {}, "holds no checkpoint"),
    "no such step": ({"step": 7}, {}, "no checkpoint of step 7; it has"),
    "algorithm": ({}, {"algorithm": ALGORITHMS["rainbow"]}, "its algorithm is ppo, not rainbow"),
    "game": ({}, {"suite": PlantedSuite(PlantedSettings())}, "its game is catch, not"),
    "frames": ({}, {"suite": CatchSuite(CatchSettings(rows=7))}, "its frames are (6, 5, 1) uint8"),
    "discount": ({}, {"discount": 0.5}, "its discount is 0.999, not 0.5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(run, case):
    asked, changes, message = REFUSED[case]
    asked = {"root": run.root, "stage": None, "step": None, **asked}
    changes = dict(changes)
    algorithm = changes.pop("algorithm", ALGORITHMS["ppo"])
    with pytest.raises(RLDartsError, match=r"^TeacherSettings.run: ") as caught:
        check_teacher(**asked, algorithm=algorithm, student=student(**changes), distillation=BOTH)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_action_repeat_that_is_left_to_the_task_is_that_of_the_task():
    pytest.importorskip("dm_control")
    from rldarts_tf.envs.dm_control.settings import DMControlSettings
    from rldarts_tf.envs.dm_control.suite import DMControlSuite

    suites = [DMControlSuite(DMControlSettings(action_repeat=n)) for n in (None, 4, 3)]
    left, own, other = (teachers._unit(suite, "action_repeat") for suite in suites)
    assert left == own != other


def test_other_actions_are_refused_and_other_discounts_are_no_matter_of_the_actor(run, monkeypatch):
    arguments = (run.root, None, None, ALGORITHMS["ppo"], student(discount=0.5))
    check_teacher(*arguments, DistillationSettings(actor_weight=1.0))
    suite = CatchSuite(SUITE.settings)
    spec = suite.action_spec()
    four = SimpleNamespace(shape=spec.shape, dtype=spec.dtype, minimum=0, maximum=3)
    monkeypatch.setattr(suite, "action_spec", lambda: four)
    with pytest.raises(ConfigError, match=r"its actions are .* to 2, not .* to 3$"):
        check_teacher(*arguments[:-1], student(suite), BOTH)


# --- the loss of PPO ----------------------------------------------------------------------------


def numpy_kl(teacher, student):
    def log_softmax(x):
        return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))

    p, q = log_softmax(teacher), log_softmax(student)
    return (np.exp(p) * (p - q)).sum(axis=-1)


def test_the_loss_of_ppo_has_the_two_terms_with_their_weights():
    path = PPOPath(ImpalaCNN([2], features=8), learning_rate=1e-12)
    images, rng = path.experience.observation[:, :-1], np.random.default_rng(3)
    shape = images.shape[:2]
    lesson = {
        "logits": rng.normal(size=(*shape, 3)).astype(np.float32),
        "value": rng.normal(size=shape).astype(np.float32),
    }
    policy, _ = path.agent.actor_net(images, tf.ones(shape, tf.int32))
    values, _ = path.agent.value_net(images, tf.ones(shape, tf.int32))
    divergence = numpy_kl(lesson["logits"], policy.logits_parameter().numpy()).mean()
    error = ((lesson["value"] - values.numpy()) ** 2).mean()
    distillation = Distillation(Mirror(), BOTH)
    generator = tf.random.Generator.from_seed(0, alg="philox")
    learner = Learner(path.agent, path.settings, generator, distillation)
    plain = None
    for actor, critic in ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0)):
        distillation.actor_weight.assign(actor)
        distillation.critic_weight.assign(critic)
        metrics = learner.update(path.experience, lesson)
        plain = float(metrics["loss"]) if plain is None else plain
        expected = plain + actor * divergence + critic * error
        assert float(metrics["loss"]) == pytest.approx(expected, rel=1e-5)
        assert float(metrics["distillation_actor"]) == pytest.approx(divergence, rel=1e-5)
        assert float(metrics["distillation_critic"]) == pytest.approx(error, rel=1e-5)


def test_values_of_a_teacher_become_those_of_the_students_rewards():
    # A return of 6 in the game is 3 where rewards are divided by 2, and 12 where by 0.5.
    ratio = value_ratio(np.array([2.0, 2.0, 1.0]), np.array([0.5, 4.0, 1e-4]), reward_clip=10.0)
    np.testing.assert_array_equal(ratio, [4.0, 0.5, 10.0])
    assert ratio[0] * 6 / 2 == 6 / 0.5


class Mirror:
    """A teacher that says what the student itself says."""

    name, checksum, checkpoint, training_return = "mirror", "0", "mirror/ckpt-0", None

    def __init__(self):
        self.program = None

    def network(self, observations, actions):
        agent = self.program.agent
        step_type = tf.fill([tf.shape(observations)[0]], 1)
        policy, _ = agent.actor_net(observations, step_type=step_type)
        value, _ = agent.value_net(observations, step_type=step_type)
        return {"logits": policy.logits_parameter(), "value": value}

    def scales(self, games):
        return self.program._rewards.scale


def test_what_a_teacher_says_of_a_state_is_learned_at_that_state_and_asked_once(tmp_path):
    teacher = Mirror()
    distillation = Distillation(teacher, BOTH)
    asked, ask = [], distillation._network

    def counted(chunk, actions):
        asked.append(len(chunk))
        return ask(chunk, actions)

    distillation._network = counted
    settings = student(steps=UPDATE, learning_rate=1e-12, num_epochs=3)
    training = make_training(tmp_path, distillation, settings)
    teacher.program = training.program
    training.run()
    training.close()
    metrics = read_metrics(StagePaths(tmp_path).metrics_path)
    # Its policy and values are the student's: any other state's would differ.
    np.testing.assert_allclose(metrics["distillation_actor"], 0, atol=1e-6)
    np.testing.assert_allclose(metrics["distillation_critic"], 0, atol=1e-6)
    assert sum(asked) == len(metrics["step"]) * UPDATE  # in three epochs
    assert metrics["seconds_teach"][0] > 0


# --- trainings ----------------------------------------------------------------------------------


def test_a_student_learns_from_its_teacher_and_resumes_with_it_alone(run, tmp_path):
    folder = tmp_path / "student"
    paths = StagePaths(folder)
    learned = dataclasses.replace(BOTH, schedule="linear", linear_fraction=1.0)
    teacher = load_teacher(run.root)
    settings = student(steps=3 * UPDATE)
    training = make_training(folder, Distillation(teacher, learned), settings, StopAfter(1))
    entry = training.run()
    training.close()
    assert entry["exit_state"] == "interrupted"
    saved, own = (
        {name for name, _ in tf.train.list_variables(str(checkpoint))}
        for checkpoint in (find_checkpoint(paths.checkpoints_dir), teacher.checkpoint)
    )
    assert saved == own  # The student's variables are those of the same agent without a teacher.

    other = dataclasses.replace(teacher, checksum="another")
    with pytest.raises(RunError, match=r"^TeacherSettings.run: .* is another teacher"):
        make_training(folder, Distillation(other, learned), settings)

    training = make_training(folder, Distillation(teacher, learned), settings)
    entry = training.run()
    training.close()
    metrics = read_metrics(paths.metrics_path)
    assert set(COLUMNS) <= set(metrics)
    made = np.array([0, *metrics["step"][:-1]])  # steps before each update
    weights = 1 - made / (3 * UPDATE)
    assert len(weights) >= 3
    np.testing.assert_allclose(metrics["distillation_actor_weight"], weights, atol=1e-6)
    np.testing.assert_allclose(metrics["distillation_critic_weight"], weights / 2, atol=1e-6)
    assert all(np.isfinite(metrics[name]).all() for name in TERMS)
    assert entry["teacher"] == teacher.name and entry["teacher_sha256"] == teacher.checksum
    assert 0 < entry["teacher_seconds_per_step"] < 1


def test_tf_agents_own_ppo_learns_from_a_teacher(run):
    made = {"__name__": "a2d"}
    exec(compile(marked_block("tf-agents", A2D), "a2d.md", "exec"), made)
    environments = SUITE.make(2, seed=0)
    specs = tensor_specs(environments.observation_spec(), environments.action_spec())
    agent = made["make_student"](*specs, run.root)
    shape, rng = (2, 4), np.random.default_rng(0)
    images = rng.integers(0, 256, (*shape, *SUITE.observation_spec().shape)).astype(np.uint8)
    experience = trajectory.Trajectory(
        step_type=np.ones(shape, np.int32),
        observation=images,
        action=rng.integers(0, 3, shape).astype(np.int32),
        policy_info={"dist_params": {"logits": np.zeros((*shape, 3), np.float32)}},
        next_step_type=np.ones(shape, np.int32),
        reward=np.ones(shape, np.float32),
        discount=np.ones(shape, np.float32),
    )
    teacher = load_teacher(run.root)
    said = teacher.network(images.reshape(-1, *images.shape[2:]))
    logits = agent.actor_net(images, experience.step_type)[0].logits_parameter().numpy()
    values, _ = agent.collect_policy.apply_value_network(images, experience.step_type, ())
    divergence = numpy_kl(said["logits"].numpy().reshape(logits.shape), logits)
    error = (said["value"].numpy().reshape(shape) * run.scale - values.numpy()) ** 2
    info = agent.train(tf.nest.map_structure(tf.constant, experience))
    weights = np.ones(shape)
    weights[:, -1] = 0  # No next value is known: TF-Agents masks it.
    expected = (divergence * weights).mean(), (error * weights).mean()
    # A small divergence is the difference of larger numbers.
    assert float(info.extra.distillation_actor) == pytest.approx(expected[0], rel=1e-3, abs=1e-6)
    assert float(info.extra.distillation_critic) == pytest.approx(expected[1], rel=1e-4)
    parts = info.extra[:5]
    total = sum(map(float, parts)) + expected[0] + 0.5 * expected[1]
    assert float(info.loss) == pytest.approx(total, rel=1e-4)


def test_a_setting_that_a_teacher_did_not_know_is_not_its_student_s(tmp_path):
    root = shutil.copytree(GOLDEN / "ppo", tmp_path / "run")
    config = (root / "config.gin").read_text("utf-8")
    (root / "config.gin").write_text(re.sub(r".*PPOSettings\.clip = .*\n", "", config), "utf-8")
    gin.clear_config()
    gin.bind_parameter("PPOSettings.clip", 0.7)
    try:
        assert read_stage(root, "search").settings.clip == 0.2
        assert "PPOSettings.clip" not in gin.operative_config_str()
    finally:
        gin.clear_config()
