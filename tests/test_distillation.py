"""Terms of distillation by hand, schedules, and settings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.teaching import losses
from rldarts_tf.teaching.distillation import Distillation
from rldarts_tf.teaching.schedules import Schedule
from rldarts_tf.teaching.settings import DistillationSettings, TeacherSettings
from rldarts_tf.teaching.teacher import Teacher, in_chunks

NAN = math.nan


def test_divergence_of_categorical_policies_by_hand():
    teacher = np.log([[0.5, 0.5], [0.9, 0.1]]).astype(np.float32) + 3  # logits have any offset
    student = np.log([[0.25, 0.75], [0.9, 0.1]]).astype(np.float32)
    # ½ ln(½ / ¼) + ½ ln(½ / ¾) = ½ ln 2 + ½ ln ⅔ = ½ ln 4/3
    expected = [0.5 * math.log(4 / 3), 0.0]
    np.testing.assert_allclose(losses.categorical_kl(teacher, student), expected, atol=1e-6)


def test_divergence_of_gaussians_by_hand():
    ones = np.ones([1, 2], np.float32)
    # N(1, 2²) beside N(0, 1): ln ½ + (4 + 1) / 2 - ½; in the other dimension they are equal.
    divergence = losses.gaussian_kl([[1.0, 1.0]], [[2.0, 1.0]], [[0.0, 1.0]], ones)
    np.testing.assert_allclose(divergence, [2 - math.log(2)], rtol=1e-6)


def test_squared_error_by_hand():
    np.testing.assert_allclose(losses.squared_error([1.0, -1.0], [3.0, -1.0]), [4.0, 0.0])


def test_divergence_of_softmaxed_values_by_hand():
    # With τ = 0.1 values 0.1 ln 3 apart are probabilities ¾ and ¼.
    teacher, student = tf.constant([[0.1 * math.log(3), 0.0]]), tf.constant([[5.0, 5.0]])
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    np.testing.assert_allclose(losses.softmax_q_kl(teacher, student, 0.1), [expected], rtol=1e-5)


def test_cross_entropy_of_returns_by_hand():
    teacher = [[[1.0, 0.0], [0.5, 0.5]]]  # [1 state, 2 actions, 2 atoms]
    logits = np.log([[[0.5, 0.5], [0.2, 0.8]]]).astype(np.float32)
    of_actions = [math.log(2), -0.5 * (math.log(0.2) + math.log(0.8))]
    cross_entropy = losses.return_cross_entropy(teacher, logits)
    np.testing.assert_allclose(cross_entropy, [np.mean(of_actions)], rtol=1e-6)


@pytest.mark.parametrize(
    ("term", "arguments"),
    [
        (losses.categorical_kl, [[[0.3, -1.0]], [[0.1, 0.2]]]),
        (losses.gaussian_kl, [[[0.3]], [[0.5]], [[-0.2]], [[1.5]]]),
        (losses.squared_error, [[0.3], [0.7]]),
        (lambda t, s: losses.softmax_q_kl(t, s, 0.5), [[[0.3, -1.0]], [[0.1, 0.2]]]),
        (losses.return_cross_entropy, [[[[0.3, 0.7]]], [[[0.1, 0.2]]]]),
    ],
)
def test_gradients_are_the_students_alone_and_descend(term, arguments):
    variables = [tf.Variable(value, dtype=tf.float32) for value in arguments]
    half = len(variables) // 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(term(*variables))
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    assert all(np.all(g == 0) for g in gradients[:half])
    for variable, gradient in zip(variables[half:], gradients[half:]):
        variable.assign_sub(1e-3 * gradient)
    assert tf.reduce_sum(term(*variables)) < loss


LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=3, max_size=3)


@settings(max_examples=20, deadline=None)
@given(LOGITS, LOGITS)
def test_divergences_are_never_negative(one, other):
    assert float(losses.categorical_kl([one], [other])[0]) >= -1e-5
    scales = np.exp(np.array(other, np.float32) / 20)
    assert float(losses.gaussian_kl([one], [scales], [other], [scales[::-1]])[0]) >= -1e-5
    assert float(losses.gaussian_kl([one], [scales], [one], [scales])[0]) == pytest.approx(0)


# --- schedules ----------------------------------------------------------------------------------


def test_constant_weights_stay():
    schedule = Schedule(DistillationSettings(actor_weight=1.0), None)
    assert [schedule.factor(f, r) for f, r in [(0, NAN), (0.5, 1e9), (1, 0)]] == [1, 1, 1]


def test_linear_weights_reach_zero_at_their_fraction():
    schedule = Schedule(DistillationSettings(schedule="linear", linear_fraction=0.4), None)
    factors = [schedule.factor(fraction, NAN) for fraction in (0, 0.1, 0.2, 0.4, 1)]
    assert factors == pytest.approx([1, 0.75, 0.5, 0, 0])


@pytest.mark.parametrize(("teacher", "enough"), [(10.0, 8.0), (-10.0, -12.0), (0.0, 0.0)])
def test_weights_by_return_end_for_good_once_the_student_is_good_enough(teacher, enough):
    schedule = Schedule(DistillationSettings(schedule="return", return_share=0.8), teacher)
    returns = [NAN, enough - 0.1, enough, enough - 5]
    assert [schedule.factor(0.5, r) for r in returns] == [1, 1, 0, 0]


def test_weights_by_return_need_a_return():
    with pytest.raises(ConfigError, match=r"^DistillationSettings.schedule = 'return' needs"):
        Schedule(DistillationSettings(schedule="return"), None)


def test_the_terms_are_off_by_default():
    assert not DistillationSettings().teaches
    assert DistillationSettings(actor_weight=0.1).teaches
    assert DistillationSettings(critic_weight=0.1).teaches


@pytest.mark.parametrize(
    "arguments", [{"run": ""}, {"run": 3}, {"run": "own_baseline", "stage": "search"}]
)
def test_settings_of_a_teacher_name_their_field(arguments):
    with pytest.raises(ConfigError, match=rf"^TeacherSettings.{[*arguments][-1]}"):
        TeacherSettings(**arguments)


# --- teachers -----------------------------------------------------------------------------------


def make_teacher(checksum="abc", training_return=None):
    return Teacher(
        Path("runs/teacher/baseline/checkpoints/ckpt-1200"),
        checksum,
        lambda observations, actions: {"value": tf.cast(observations, tf.float32)[:, 0] * 2},
        {"one": 4.0, "two": 0.5},
        training_return,
    )


def test_a_teacher_has_a_scale_for_each_environment_and_a_name():
    teacher = make_teacher()
    assert teacher.scales(["two", "one", "two"]).tolist() == [0.5, 4.0, 0.5]
    assert teacher.name == "runs/teacher/baseline, step 1,200"


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9))
def test_many_observations_are_asked_in_chunks_of_one_size(total, size):
    sizes = []

    def ask(chunk):
        sizes.append(len(chunk))
        return {"square": chunk**2}

    numbers = np.arange(total)
    np.testing.assert_array_equal(in_chunks(ask, numbers, size)["square"], numbers**2)
    assert set(sizes) == {size} and len(sizes) == -(-total // size)


def test_weights_in_force_follow_the_schedule_and_the_teacher_rests_when_they_are_zero():
    learned = DistillationSettings(actor_weight=2.0, critic_weight=0.5, schedule="linear")
    distillation = Distillation(make_teacher(), learned)
    shown = []
    for step in (0, 25, 50):
        distillation.follow(step, step / 100, NAN)
        shown.append((*distillation.weights().values(), distillation.active))
    assert shown == [(2.0, 0.5, True), (1.0, 0.25, True), (0.0, 0.0, False)]
    assert distillation.lesson(np.array([[3]], np.uint8))["value"].tolist() == [6.0]


def test_a_resumed_training_has_the_schedule_and_refuses_another_teacher():
    learned = DistillationSettings(actor_weight=1.0, schedule="return", return_share=1.0)
    first = Distillation(make_teacher(training_return=5.0), learned)
    first.follow(10, 0.1, 6.0)
    resumed = Distillation(make_teacher(training_return=5.0), learned)
    resumed.set_state(first.state())
    resumed.check_resumed()
    resumed.follow(10, 0.1, 1.0)
    assert not resumed.active
    other = Distillation(make_teacher("def", 5.0), learned)
    other.set_state(first.state())
    with pytest.raises(RunError, match=r"^TeacherSettings.run: runs/teacher/baseline, step 1,200"):
        other.check_resumed()
