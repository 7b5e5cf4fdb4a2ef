"""Distillation in the losses of Rainbow and SAC, which learn from replay."""

from __future__ import annotations

import functools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("acme")

import tensorflow as tf
from learner_paths import ACTIONS, BATCH, RainbowPath, SACPath
from trainings import TINY

from rldarts_tf import ImpalaCNN
from rldarts_tf.agents.off_policy.learner import PARTS
from rldarts_tf.agents.rainbow.losses import projected
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.export.policies import read_stage
from rldarts_tf.export.teachers import load_teacher
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.teaching.distillation import PART, TERMS, Distillation
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.teaching.teacher import Teacher
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings
from rldarts_tf.training.stopwatch import Stopwatch

GOLDEN = Path(__file__).with_name("golden")
TEMPERATURE = 0.5
WEIGHTS = ((0.0, 0.0), (2.0, 0.0), (0.0, 3.0), (2.0, 3.0))


def taught_steps(path, said):
    """Metrics of learner steps on one batch with each of `WEIGHTS`; the weights of nets stay.

    Args:
      path: of a learner that hardly learns.
      said: what a teacher says of the batch.
    """
    constants = {name: tf.constant(value, tf.float32) for name, value in said.items()}
    teacher = SimpleNamespace(network=lambda *batch: constants, training_return=None)
    distillation = Distillation(teacher, DistillationSettings(1.0, 1.0, temperature=TEMPERATURE))
    path.learner._distillation = distillation
    path.learner.stopwatch = Stopwatch(*PARTS, PART)
    metrics = []
    # What SAC draws is the same in every step.
    generator = getattr(path.learner, "_generator", None)
    state = None if generator is None else tf.identity(generator.state)
    for actor, critic in WEIGHTS:
        distillation.actor_weight.assign(actor)
        distillation.critic_weight.assign(critic)
        if generator is not None:
            generator.reset(state)
        metrics.append(path.step())
    assert path.learner.stopwatch.take()[PART] > 0
    return metrics


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_rainbow_learns_values_and_distributions_of_returns():
    rng = np.random.default_rng(5)
    path = RainbowPath(ImpalaCNN([2], features=8), learning_rate=1e-12)
    sample = next(path.learner._samples)
    returns = path.learner._network(sample.data.observation)
    probabilities = softmax(rng.normal(size=(BATCH, ACTIONS, 5)))
    q = rng.normal(size=(BATCH, ACTIONS))
    atoms = np.tile(returns.values.numpy(), (BATCH, 1))  # the student's own: Φ changes nothing
    metrics = taught_steps(path, {"q": q, "probabilities": probabilities, "atoms": atoms})
    p, own = softmax(q / TEMPERATURE), softmax(returns.mean().numpy() / TEMPERATURE)
    divergence = np.sum(p * np.log(p / own), axis=-1).mean()
    log_student = np.log(softmax(returns.logits.numpy()))
    cross_entropy = -(probabilities * log_student).sum(axis=-1).mean()
    for (actor, critic), row in zip(WEIGHTS, metrics):
        expected = metrics[0]["loss"] + actor * divergence + critic * cross_entropy
        assert row["loss"] == pytest.approx(expected, rel=1e-4)
        assert row[TERMS[0]] == pytest.approx(divergence, rel=1e-4)
        assert row[TERMS[1]] == pytest.approx(cross_entropy, rel=1e-4)
        assert row["td_error"] == pytest.approx(metrics[0]["td_error"], rel=1e-4)


def test_a_distribution_of_returns_is_projected_on_the_students_atoms_by_hand():
    # Half of the mass at 0.25, between atoms 0 and 0.5; half beyond the last one.
    found = projected(
        tf.constant([[0.25, 2.0]]), tf.constant([[[0.5, 0.5]]]), tf.constant([0.0, 0.5, 1.0])
    )
    np.testing.assert_allclose(found, [[[0.25, 0.25, 0.5]]])


def test_sac_learns_the_gaussian_of_the_actor_and_the_values_of_the_critics():
    rng = np.random.default_rng(5)
    path = SACPath(ImpalaCNN([2], features=8), learning_rate=1e-12, target_update_rate=1e-12)
    networks, data = path.networks, next(path.learner._samples).data
    features = networks.critics.torso(data.observation)
    mean, scale = (x.numpy() for x in networks.actor.mean_and_scale(features))
    q = networks.critics.q(features, data.action).numpy()
    said = {
        "mean": rng.normal(size=mean.shape),
        "stddev": np.exp(rng.normal(size=mean.shape)),
        "q": rng.normal(size=BATCH),
    }
    metrics = taught_steps(path, said)
    squares = said["stddev"] ** 2 + (said["mean"] - mean) ** 2
    divergence = np.log(scale / said["stddev"]) + squares / (2 * scale**2) - 0.5
    divergence = divergence.sum(axis=-1).mean()
    error = ((said["q"] - q) ** 2).mean()
    plain = metrics[0]
    for (actor, critic), row in zip(WEIGHTS, metrics):
        assert row[TERMS[0]] == pytest.approx(divergence, rel=1e-4)
        assert row[TERMS[1]] == pytest.approx(error, rel=1e-4)
        of_actor, of_critic = actor * divergence, critic * error
        assert row["actor_loss"] == pytest.approx(plain["actor_loss"] + of_actor, rel=1e-4)
        assert row["critic_loss"] == pytest.approx(plain["critic_loss"] + of_critic, rel=1e-4)


@pytest.mark.parametrize("algorithm", ["rainbow", "sac"])
def test_a_teacher_of_replay_says_what_its_policy_does(algorithm):
    pytest.importorskip({"rainbow": "procgen", "sac": "dm_control"}[algorithm])
    policy = read_stage(GOLDEN / algorithm, "search").load()
    teacher = load_teacher(GOLDEN / algorithm, "search")
    shape = (3, *policy.image_shape)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    outputs = policy.outputs(tf.constant(images))
    said = teacher.network(tf.constant(images), outputs["action"])
    np.testing.assert_allclose(said["q"], outputs["q"], rtol=1e-4, atol=1e-5)
    if algorithm == "sac":
        np.testing.assert_allclose(tf.tanh(said["mean"]), outputs["action"], atol=1e-5)
        assert set(teacher.reward_scales.values()) == {1.0}
    else:
        q = np.sum(said["probabilities"] * said["atoms"][:, None], axis=-1)
        np.testing.assert_allclose(q, said["q"], rtol=1e-4, atol=1e-5)
        assert min(teacher.reward_scales.values()) > 1


def test_a_training_from_replay_asks_its_teacher_until_the_schedule_ends(tmp_path):
    def network(observations, actions):
        size = tf.shape(observations)[0]
        return {
            "q": tf.zeros([size, ACTIONS]),
            "probabilities": tf.fill([size, ACTIONS, 5], 0.2),
            "atoms": tf.tile(tf.linspace(0.0, 2.0, 5)[None], [size, 1]),
        }

    suite = CatchSuite(CatchSettings(rows=6))
    teacher = Teacher(Path("it/baseline/checkpoints/ckpt-1"), "0", network, {"catch": 0.5})
    learned = DistillationSettings(1.0, 0.5, schedule="linear", linear_fraction=0.25)
    training = Training(
        StagePaths(tmp_path),
        "baseline",
        ImpalaCNN([2], features=8),
        functools.partial(RainbowProgram, distillation=Distillation(teacher, learned)),
        StageSettings(
            suite.fit(TINY["rainbow"]),
            suite,
            TrainingSettings(num_env_steps=64, pictures=0, evaluation_interval=0),
        ),
    )
    training._evaluate = lambda number: {}
    assert training.program.learner._reward_ratio == 0.5
    entry = training.run()
    training.close()
    assert entry["teacher"] == "it/baseline, step 1" and entry["teacher_seconds_per_step"] > 0
    metrics = read_metrics(StagePaths(tmp_path).metrics_path)
    asked = metrics["distillation_actor_weight"] > 0
    assert asked.tolist() == [True, *[False] * (len(asked) - 1)]
    for name in TERMS:
        np.testing.assert_array_equal(np.isfinite(metrics[name]), asked)
    assert np.isfinite(metrics["loss"]).all() and (metrics["seconds_teach"] > 0).tolist() == [
        *asked
    ]
