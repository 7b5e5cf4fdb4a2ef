"""Loss scaling: its rule against Keras', and what the three learners make of it in float16."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")
pytest.importorskip("reverb")

import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_paths import BATCH, PATHS

from rldarts_tf import RunError, SearchSpace, Supernet
from rldarts_tf.agents.loss_scale import LossScale

SPACE = SearchSpace(name="scaled", normal_ops=("conv_3x3", "tanh"), num_normal=1, num_nodes=1)


def make_encoder(precision, depths=(4,)):
    return Supernet(SPACE, depths, features=8, dtype=precision)


def make(name, precision, **changes):
    return PATHS[name](make_encoder(precision), **changes)


def gradient(name, precision, weights=None):
    """A step whose loss sends little to the encoder.

    Returns (its gradient by variable, the weights that it began with, the variables).
    """
    # With other seeds a rounding decides at some pixel which side of a ReLU it is on, or which is
    # the largest of a pool, and the stem's gradient differs by up to 6 %.
    tf.keras.utils.set_random_seed(6)
    path = PATHS[name](make_encoder(precision, (4, 4)))
    if weights is not None:
        path.encoder.set_weights(weights)
    weights = path.encoder.get_weights()
    assert path.head
    for variable in path.head:
        rng = np.random.default_rng(7)
        variable.assign(1e-5 * rng.choice([-1.0, 1.0], variable.shape).astype(np.float32))
    path.step()
    # After one step from zero it is (1 - β_1) g.
    found = [10 * m.numpy().astype(np.float64) for m in path.first_moments()]
    return found, weights, path.encoder.trainable_weights


def relative_error(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


# --- the rule ----------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    finite=st.lists(st.booleans(), max_size=25),
    initial=st.sampled_from([1.0, 4.0, 2.0**15, 2.0**127]),
    growth_steps=st.integers(1, 4),
)
def test_the_scale_follows_the_rule_of_keras(finite, initial, growth_steps):
    variable = tf.Variable(0.0)
    keras = tf.keras.mixed_precision.LossScaleOptimizer(
        tf.keras.optimizers.SGD(), initial_scale=initial, dynamic_growth_steps=growth_steps
    )
    ours = LossScale(initial, growth_steps)
    for sound in finite:
        keras.get_scaled_loss(tf.constant(1.0))
        of_variable = keras.get_unscaled_gradients([tf.constant(0.0 if sound else math.inf)])
        keras.apply_gradients(zip(of_variable, [variable]))
        before = float(ours.value)
        overflowed = ours.update(tf.constant(sound))
        assert float(ours.value) == float(keras.loss_scale)
        assert bool(overflowed) == (not sound and before > 1)


def test_a_scaled_loss_is_the_loss_and_its_unscaled_gradient_the_gradient():
    scale, x = LossScale(1024.0), tf.Variable([1.0, 3.0])
    with tf.GradientTape() as tape:
        loss = scale.scaled(tf.reduce_sum(x**2))
    scaled = tape.gradient(loss, [x])
    assert float(loss) == 10.0
    np.testing.assert_array_equal(scaled[0], [2048.0, 6144.0])
    unscaled, none = scale.unscaled([*scaled, None])
    np.testing.assert_array_equal(unscaled, [2.0, 6.0])
    assert none is None


# --- what the learners make of it --------------------------------------------------------------


@pytest.mark.parametrize("name", PATHS)
def test_small_gradients_are_those_of_float32_and_without_scaling_are_not(name, monkeypatch):
    expected, weights, trained = gradient(name, "float32")
    actual, *_ = gradient(name, "mixed_float16", weights)
    monkeypatch.setattr(LossScale, "needed_by", lambda *modules: None)
    unscaled, *_ = gradient(name, "mixed_float16", weights)
    (stem,) = (i for i, v in enumerate(trained) if v.name.endswith("block_0_conv/kernel:0"))
    assert np.any(expected[stem])
    assert relative_error(actual[stem], expected[stem]) < 0.05
    assert relative_error(unscaled[stem], expected[stem]) > 0.5
    flat, expected = (np.concatenate([*map(np.ravel, g)]) for g in (actual, expected))
    assert relative_error(flat, expected) < 0.05


@pytest.mark.parametrize("name", PATHS)
def test_an_overflow_is_counted_halves_the_scale_and_changes_no_weight(name, tmp_path):
    path = make(name, "mixed_float16")
    path.step()
    before = path.encoder.get_weights()
    moments = [m.numpy() for m in path.first_moments()]
    path.scale.value.assign(2.0**120)
    path.step()
    metrics = path.step()
    assert float(path.scale.value) == 2.0**118
    for new, old in zip([*path.encoder.get_weights(), *path.first_moments()], [*before, *moments]):
        np.testing.assert_array_equal(new, old)
    assert path.skipped(metrics) == ((1, 1) if name.startswith("ppo") else (2, 2))
    # The state of the scale is in a checkpoint.
    path.scale.finite_steps.assign(7)
    saved = tf.train.Checkpoint(**path.trackables).save(str(tmp_path / "c"))
    other = make(name, "mixed_float16")
    tf.train.Checkpoint(**other.trackables).restore(saved).assert_existing_objects_matched()
    assert float(other.scale.value) == 2.0**118 and int(other.scale.finite_steps) == 7
    # And it is of use again once it has fallen far enough.
    path.scale.value.assign(2.0**10)
    metrics = path.step()
    assert all(math.isfinite(value) for value in metrics.values())
    assert any((a != b).any() for a, b in zip(path.encoder.get_weights(), before))


def spoil(path):
    """Gradients, but not the loss, are not finite, whatever the scale."""
    scaled = path.scale.scaled

    @tf.custom_gradient
    def run(loss):
        return tf.identity(loss), lambda upstream: upstream * math.inf

    path.scale.scaled = lambda loss: run(scaled(loss))


@pytest.mark.parametrize("name", ["rainbow", "sac"])
def test_gradients_that_are_never_finite_end_the_run_when_the_scale_is_1(name):
    made = make(name, "mixed_float16")
    spoil(made)
    before = made.encoder.get_weights()
    for _ in range(15):
        made.step()
    assert float(made.scale.value) == 1.0 and made.learner.num_skipped == 15 and not made.logged
    with pytest.raises(RunError, match=rf"diverged; lower {made.kind.__name__}\.learning_rate"):
        made.step()
    for new, old in zip(made.encoder.get_weights(), before):
        np.testing.assert_array_equal(new, old)


def test_in_ppo_they_are_no_overflow_when_the_scale_is_1():
    made = make("ppo", "mixed_float16")
    spoil(made)
    for _ in range(15):
        assert made.skipped(made.step()) == (1, 1)
    metrics = made.step()
    assert made.skipped(metrics) == (0, 0) and not math.isfinite(metrics["gradient_norm_theta"])


@pytest.mark.parametrize("skip", [False, True])
def test_a_loss_that_is_not_finite_is_no_overflow(skip):
    made = make("ppo", "mixed_float16", skip_nonfinite_updates=skip)
    made.experience.reward[0, 0] = math.nan
    metrics = made.step()
    assert made.skipped(metrics) == (1 if skip else 0, 0) and not math.isfinite(metrics["loss"])

    made = make("rainbow", "mixed_float16", skip_nonfinite_updates=skip)
    sample = next(made.learner._samples)
    reward = tf.fill([BATCH], math.nan)
    made.learner.connect(iter([sample._replace(data=sample.data._replace(reward=reward))]))
    if skip:
        made.step()
        assert made.learner.num_skipped == 1 and made.learner._skipped_in_a_row == 1
    else:
        with pytest.raises(RunError, match="diverged"):
            made.step()


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_other_precisions_have_no_scale_in_their_checkpoint(precision, tmp_path):
    for name in ("ppo", "rainbow", "sac"):
        path = make(name, precision)
        assert path.scale is None
        written = tf.train.Checkpoint(**path.trackables).write(str(tmp_path / "c"))
        names = [name for name, _ in tf.train.list_variables(written)]
        assert len(names) > 5 and not any("scale" in name for name in names)


def test_a_policy_that_is_set_for_the_whole_program_is_seen():
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        network = Supernet(SPACE, [4], features=8)
    finally:
        tf.keras.mixed_precision.set_global_policy(None)
    assert LossScale.needed_by(network) is not None
    assert LossScale.needed_by(make_encoder("float32"), network) is not None
    assert LossScale.needed_by(make_encoder("float32")) is None
