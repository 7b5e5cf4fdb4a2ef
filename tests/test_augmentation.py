"""Augmented images: random shifts, DrAC's terms in PPO's loss, DrQ's transitions in Rainbow's."""

from __future__ import annotations

import dataclasses
import math
import random
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import tensorflow as tf
import tensorflow_probability as tfp
from learner_paths import ACTIONS, PATHS, PPOPath, RainbowPath
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent
from tf_agents.trajectories import time_step as ts
from trainings import TINY, StopAfter, arrays_of, state_of

from rldarts_tf import ImpalaCNN, SearchSpace, Supernet, random_genotype
from rldarts_tf.agents.augmentation import Augmentation, random_shift
from rldarts_tf.agents.off_policy.learner import PARTS
from rldarts_tf.agents.ppo import PPOProgram
from rldarts_tf.agents.ppo.augmentation import INVARIANCE, with_invariance
from rldarts_tf.agents.ppo.learner import Learner
from rldarts_tf.agents.ppo.terms import divergence, parameters
from rldarts_tf.agents.rainbow import RainbowProgram
from rldarts_tf.encoders import DiscreteNetwork
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.teaching.distillation import PART, TERMS, Distillation
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.seeds import make_generator
from rldarts_tf.training.settings import TrainingSettings
from rldarts_tf.training.stopwatch import Stopwatch

SPACE = SearchSpace(name="augmented", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=2)


# --- random shifts ------------------------------------------------------------------------------


def offsets_of(shifted, images, pixels):
    """The place of each shifted image in the padded one, [(row, column)]."""
    height, width = images.shape[1:3]
    around = [(0, 0), (pixels, pixels), (pixels, pixels), (0, 0)]
    padded = np.pad(images, around, "edge")
    found = []
    for b, image in enumerate(shifted):
        matching = [
            (i, j)
            for i, j in np.ndindex(2 * pixels + 1, 2 * pixels + 1)
            if np.array_equal(padded[b, i : i + height, j : j + width], image)
        ]
        assert len(matching) == 1
        found += matching
    return found


def test_a_shifted_image_is_a_crop_of_the_one_with_repeated_edges():
    images = np.random.default_rng(0).integers(0, 256, (60, 7, 9, 3), np.uint8)
    shifted = random_shift(tf.constant(images), 2, tf.constant([1, 2]), padding="edge")
    assert shifted.dtype == tf.uint8 and shifted.shape == images.shape
    found = offsets_of(shifted.numpy(), images, 2)
    # Both directions, independently.
    assert {i for i, _ in found} == {j for _, j in found} == set(range(5))
    assert len(set(found)) > 10


def test_every_image_of_a_batch_has_an_offset_of_its_own_and_every_call_others():
    image = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)
    images = np.tile(image, (24, 1, 1, 1))
    f = Augmentation("shift", 3, make_generator(0, "learner"))
    # As PPO has them: sequences of one step.
    calls = [f(tf.constant(images[:, None])).numpy()[:, 0] for _ in range(2)]
    found = [offsets_of(shifted, images, 3) for shifted in calls]
    # Of 24 places among 49 about 19 differ.
    assert all(len(set(places)) > 12 for places in found)
    assert found[0] != found[1]


@pytest.mark.parametrize("padding", ["edge", "symmetric"])
def test_a_shift_by_nothing_leaves_images_as_they_are(padding):
    images = np.random.default_rng(0).integers(0, 256, (5, 6, 7, 2), np.uint8)
    shifted = random_shift(tf.constant(images), 0, tf.constant([1, 2]), padding=padding)
    np.testing.assert_array_equal(shifted, images)


def test_a_shift_beyond_the_image_is_all_edge():
    image = np.arange(4, dtype=np.uint8).reshape(1, 2, 2, 1)
    for seed in range(9):
        shifted = random_shift(tf.constant(image), 50, tf.constant([0, seed]), padding="edge")
        assert set(np.unique(shifted)) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("kind", "pixels", "size", "expected"),
    [
        ("shift", None, (84, 84), 4),  # DrQ
        ("shift", None, (64, 64), 3),
        ("shift", None, (10, 10), 1),  # MinAtar: not 0
        ("crop", None, (64, 64), 12),  # DrAC
        ("crop", None, (64, 32), 6),
        ("crop", None, (10, 10), 2),
        ("crop", 5, (64, 64), 5),
    ],
)
def test_pixels_are_those_of_the_papers_for_the_size_of_the_images(kind, pixels, size, expected):
    assert Augmentation(kind, pixels, make_generator(0, "learner")).pixels(*size) == expected


# --- PPO, DrAC's rule ---------------------------------------------------------------------------


class TableAgent:
    """Policy and value are read from tables by the observation's number; 0 is s and 1 is f(s)."""

    def __init__(self, policies, values):
        self.collect_policy = self
        self._policies, self._values = policies, values

    def get_initial_state(self, batch_size):
        return ()

    def _distribution(self, time_steps, state, training):
        return SimpleNamespace(action=self._policies(time_steps.observation))

    def apply_value_network(self, observation, step_type, value_state, training):
        return tf.gather(self._values, observation), ()


def invariance(agent, weight, mask):
    """(loss, extra) of a loss of 10 with DrAC's terms, of as many transitions as the mask has."""
    zeros = tf.zeros([len(mask), 1])
    s, f_of_s = (tf.fill([len(mask), 1], number) for number in (0, 1))
    own = tf_agent.LossInfo(tf.constant(10.0), ppo_agent.PPOLossInfo(*[tf.constant(0.0)] * 6))
    time_steps = ts.TimeStep(tf.ones([len(mask), 1], tf.int32), zeros, zeros, s)
    weights = tf.constant(mask)[:, None]
    return with_invariance(
        agent, own, time_steps, *[None] * 5, weights, augmented=f_of_s, weight=weight
    )


def test_the_terms_of_drac_by_hand():
    logits = tf.Variable(np.log([[0.5, 0.5], [0.25, 0.75]]), dtype=tf.float32)
    values = tf.Variable([1.0, 3.0])
    agent = TableAgent(
        lambda numbers: tfp.distributions.Categorical(logits=tf.gather(logits, numbers)), values
    )
    with tf.GradientTape() as tape:
        info = invariance(agent, 0.1, mask=[1.0, 0.0])
    # ½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln 4/3 and (1 - 3)² = 4, of one transition of two.
    g_policy, g_value = 0.25 * math.log(4 / 3), 2.0
    assert float(info.extra.augmentation_policy) == pytest.approx(g_policy, rel=1e-5)
    assert float(info.extra.augmentation_value) == pytest.approx(g_value)
    assert float(info.loss) == pytest.approx(10 + 0.1 * (g_policy + g_value), rel=1e-6)
    assert info.extra.distillation_actor == 0
    of_logits, of_values = (
        tf.convert_to_tensor(g) for g in tape.gradient(info.loss, [logits, values])
    )
    # What is of s is a constant; of f(s) it is π(·|f(s)) - π(·|s) and -2 (1 - 3).
    np.testing.assert_allclose(of_logits, [[0, 0], [-0.0125, 0.0125]], atol=1e-6)
    np.testing.assert_allclose(of_values, [0, 0.2], atol=1e-6)


def test_the_divergence_of_continuous_policies_by_hand():
    normal = tfp.distributions.MultivariateNormalDiag
    # N(1, 2²) beside N(0, 1): ln ½ + (4 + 1) / 2 - ½.
    found = divergence(parameters(normal([[[1.0]]], [[[2.0]]])), normal([[[0.0]]], [[[1.0]]]))
    np.testing.assert_allclose(found, [[2 - math.log(2)]], rtol=1e-6)


def reversed_images(images):
    """An augmentation that anybody can repeat."""
    return tf.reverse(images, [-2])


def ppo_path(**changes):
    tf.keras.utils.set_random_seed(1)
    return PPOPath(ImpalaCNN([2], features=8), **changes)


def test_the_loss_of_ppo_has_the_terms_with_their_weight():
    paths = [
        ppo_path(learning_rate=1e-12, augmentation="shift", augmentation_weight=weight)
        for weight in (0, None, 3)
    ]
    experience, agent = paths[0].experience, paths[0].agent
    images = experience.observation[:, :-1]

    def network_outputs(images):
        step_type = tf.ones(images.shape[:2], tf.int32)
        policy, value = (net(images, step_type)[0] for net in (agent.actor_net, agent.value_net))
        logits = policy.logits_parameter().numpy()
        return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)), value.numpy()

    (log_p, value), (log_p_of_f, value_of_f) = map(network_outputs, (images, images[..., ::-1, :]))
    g_policy = np.sum(np.exp(log_p) * (log_p - log_p_of_f), axis=-1).mean()
    g_value = ((value - value_of_f) ** 2).mean()
    for path in paths:
        path.learner._augmentation = reversed_images
    found = [path.step() for path in paths]
    for metrics, weight in zip(found, (0, 0.1, 3)):
        assert metrics[INVARIANCE[0]] == pytest.approx(g_policy, rel=1e-3)
        assert metrics[INVARIANCE[1]] == pytest.approx(g_value, rel=1e-4)
        expected = found[0]["loss"] + weight * (g_policy + g_value)
        assert metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert g_value > 1e-3, "or the terms were not tried"


def test_ppos_own_loss_is_of_the_images_as_they_are():
    plain, measured = ppo_path(), ppo_path(augmentation="crop", augmentation_weight=0.0)
    found = plain.step(), measured.step()
    assert set(found[1]) == {*found[0], *INVARIANCE}
    assert found[1][INVARIANCE[1]] > 0
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-6, abs=1e-7), name
    for mine, theirs in zip(plain.encoder.weights, measured.encoder.weights):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-7)


def test_policy_and_value_become_invariant():
    path = ppo_path(learning_rate=1e-3, augmentation="shift", augmentation_weight=1e3)
    path.learner._augmentation = reversed_images
    first, *_, last = [path.step() for _ in range(20)]
    for name in INVARIANCE:
        assert last[name] < 0.9 * first[name]
    assert last[INVARIANCE[1]] < 0.6 * first[INVARIANCE[1]]


def test_a_teacher_of_ppo_and_its_student_see_the_images_as_they_are():
    found = []
    for augmentation in (None, "crop"):
        path = ppo_path(learning_rate=1e-12, augmentation=augmentation)
        shape = path.experience.reward[:, :-1].shape
        lesson = {
            "logits": np.tile(np.float32([1, 0, -1]), (*shape, 1)),
            "value": np.ones(shape, np.float32),
        }
        teacher = SimpleNamespace(network=lambda *batch: None, training_return=None)
        distillation = Distillation(teacher, DistillationSettings(2.0, 3.0))
        generator = tf.random.Generator.from_seed(0, alg="philox")
        learner = Learner(path.agent, path.settings, generator, distillation)
        found.append({k: float(v) for k, v in learner.update(path.experience, lesson).items()})
    plain, augmented = found
    assert set(augmented) == {*plain, *INVARIANCE}
    for name in (*TERMS, "policy_loss", "value_loss"):
        assert augmented[name] == pytest.approx(plain[name], rel=1e-5, abs=1e-7)
    added = 0.1 * sum(augmented[name] for name in INVARIANCE)
    assert augmented["loss"] == pytest.approx(plain["loss"] + added, rel=1e-5)


# --- Rainbow, DrQ's rule ------------------------------------------------------------------------


def rainbow_path(**changes):
    tf.keras.utils.set_random_seed(1)
    return RainbowPath(ImpalaCNN([2], features=8), **changes)


def with_images(path, change):
    """Gives a learner its sample with other images, again and again; returns the sample."""
    sample = next(path.learner._samples)
    data = sample.data._replace(
        observation=change(sample.data.observation),
        next_observation=change(sample.data.next_observation),
    )
    path.learner.connect(iter([sample._replace(data=data)] * 100))
    return sample


def test_rainbow_learns_from_both_images_of_a_transition_shifted_independently():
    plain, augmented = rainbow_path(), rainbow_path(augmentation="shift", augmentation_pixels=2)
    original = plain.step()
    generator = make_generator(0, "learner")
    f = Augmentation("shift", 2, generator)
    plain = rainbow_path()
    with_images(plain, f)
    expected, found = plain.step(), augmented.step()
    for name in ("loss", "td_error", "q_mean"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
        assert found[name] != pytest.approx(original[name], rel=1e-3)
    np.testing.assert_array_equal(augmented.learner._augmentation.generator.state, generator.state)

    # Of one image twice the shifts differ.
    images = tf.tile(tf.reshape(tf.range(64), [1, 8, 8, 1]), [16, 1, 1, 1])
    first, second = (f(images).numpy() for _ in range(2))
    assert (first != second).any(axis=(1, 2, 3)).sum() > 8


def test_a_teacher_of_rainbow_sees_the_images_as_they_are():
    path, seen = rainbow_path(augmentation="crop"), []
    sample = with_images(path, tf.identity)
    said = {
        "q": tf.zeros([12, ACTIONS]),
        "probabilities": tf.fill([12, ACTIONS, 5], 0.2),
        "atoms": tf.tile(tf.linspace(0.0, 1.0, 5)[None], [12, 1]),
    }
    teacher = SimpleNamespace(network=lambda *batch: said, training_return=None)
    distillation = Distillation(teacher, DistillationSettings(1.0, 1.0))
    distillation.lesson = lambda observations, actions: seen.append(observations) or said
    path.learner._distillation = distillation
    path.learner.stopwatch = Stopwatch(*PARTS, PART)
    assert set(TERMS) <= set(path.step())
    np.testing.assert_array_equal(seen[0], sample.data.observation)


def test_a_checkpoint_restores_the_shifts_that_come_next(tmp_path):
    changes = {"augmentation": "shift", "augmentation_pixels": 2}
    path = rainbow_path(**changes)
    path.step()
    written = tf.train.Checkpoint(**path.trackables).write(str(tmp_path / "checkpoint"))
    expected = [path.step() for _ in range(2)]
    other = rainbow_path(**changes)
    other.learner._augmentation.generator.reset_from_key_counter(7, [0, 0])
    tf.train.Checkpoint(**other.trackables).read(written).assert_consumed()
    for step in expected:
        found = other.step()
        for name in ("loss", "td_error", "q_mean"):
            assert found[name] == pytest.approx(step[name], rel=1e-6)
    assert "learner_generator" not in rainbow_path().trackables


# --- with what else there is --------------------------------------------------------------------


def supernet(dtype="float32"):
    return Supernet(SPACE, [4], features=8, dtype=dtype)


def cell():
    return DiscreteNetwork(random_genotype(SPACE, random.Random(0)), [4], features=8)


ENCODERS = {
    "supernet": supernet,
    "supernet, mixed_float16": lambda: supernet("mixed_float16"),
    "cell": cell,
}


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("name", ["ppo", "ppo, compiled", "rainbow"])
def test_supernets_and_cells_learn_with_it(name, encoder):
    tf.keras.utils.set_random_seed(1)
    path = PATHS[name](ENCODERS[encoder](), augmentation="shift")
    before = [w.numpy() for w in path.encoder.trainable_weights]
    found = [path.step() for _ in range(2)][-1]
    assert path.skipped(found)[0] == 0
    assert all(math.isfinite(value) for value in found.values())
    if name != "rainbow":
        assert found[INVARIANCE[0]] > 0 and found[INVARIANCE[1]] > 0
    assert all((w.numpy() != b).any() for w, b in zip(path.encoder.trainable_weights, before))


def test_a_compiled_step_draws_the_shifts_of_a_plain_one():
    found = []
    for jit_compile in (False, True):
        found.append(ppo_path(jit_compile=jit_compile, augmentation="shift").step())
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


# --- trainings ----------------------------------------------------------------------------------

SUITE = CatchSuite(CatchSettings(rows=6))
AUGMENTED = {
    name: dataclasses.replace(TINY[name], augmentation="shift") for name in ("ppo", "rainbow")
}
KINDS = {"ppo": PPOProgram, "rainbow": RainbowProgram}


def make_training(name, folder, *stopping):
    """A search that is not evaluated."""
    tf.keras.utils.set_random_seed(1)
    training = Training(
        StagePaths(folder),
        "search",
        supernet(),
        KINDS[name],
        StageSettings(
            SUITE.fit(AUGMENTED[name]),
            SUITE,
            TrainingSettings(
                num_env_steps=128, pictures=0, evaluation_interval=0, checkpoint_minutes=0
            ),
        ),
        *stopping,
    )
    training._evaluate = lambda number: {}
    return training


def trained(name, folder, *stopping):
    """(what it ended with, as arrays; its metrics)."""
    training = make_training(name, folder, *stopping)
    training.run()
    kept = snapshot(training)
    training.close()
    return kept, read_metrics(StagePaths(folder).metrics_path)


def snapshot(training):
    """Weights, moments and generators, and all that the program keeps as arrays."""
    parts = dict(training.program.trackables)
    generators = {
        name: parts.pop(name).state.numpy() for name in [*parts] if name.endswith("generator")
    }
    numbers = {
        name: parts.pop(name).numpy() for name in [*parts] if not hasattr(parts[name], "variables")
    }
    return {**generators, **numbers, **arrays_of(**parts), **state_of(training)}


def test_ppo_resumes_with_the_shifts_of_a_run_that_was_never_stopped(tmp_path):
    expected, metrics = trained("ppo", tmp_path / "whole")
    trained("ppo", tmp_path / "parts", StopAfter(2))
    found, of_parts = trained("ppo", tmp_path / "parts")
    assert set(found) == set(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert len(metrics["step"]) >= 3
    for name in ("loss", *INVARIANCE):
        assert np.isfinite(metrics[name]).all()
        np.testing.assert_array_equal(of_parts[name], metrics[name], err_msg=name)


def test_rainbow_resumes_with_its_generator(tmp_path):
    kept, _ = trained("rainbow", tmp_path, StopAfter(12))
    resumed = make_training("rainbow", tmp_path)
    found = snapshot(resumed)
    assert set(found) == set(kept)
    for name, array in kept.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    begun = make_generator(0, "learner").state.numpy()
    assert (found["learner_generator"] != begun).any(), "or nothing has been drawn"
    resumed.run()
    resumed.close()
    assert np.isfinite(read_metrics(StagePaths(tmp_path).metrics_path)["loss"]).any()


def test_the_held_out_loss_is_without_augmentation():
    losses = []
    for settings in (TINY["ppo"], AUGMENTED["ppo"]):
        tf.keras.utils.set_random_seed(1)
        encoder, paths = supernet(), StagePaths("nowhere")
        with (
            PPOProgram(encoder, SUITE, SUITE.fit(settings), 0, paths) as program,
            program.held_out(seed=5) as held_out,
        ):
            state = program._act._generator.state.numpy()
            losses.append(held_out.losses(held_out.collect(1)).numpy())
            np.testing.assert_array_equal(program._act._generator.state, state)
    np.testing.assert_array_equal(losses[0], losses[1])
