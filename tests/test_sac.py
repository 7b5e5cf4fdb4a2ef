"""SAC: its equations by hand, its learner against them, and that it learns."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("acme")
pytest.importorskip("tensorflow_probability")

import acme
import dm_env
import sonnet as snt
import tensorflow as tf
from acme import specs, types
from acme.utils import loggers

from rldarts_tf import MICRO, ConfigError, PiSacCNN, RunError, Supernet
from rldarts_tf.acme_compat import patch_reverb
from rldarts_tf.agents.augmentation import random_shift
from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.sac import losses
from rldarts_tf.agents.sac.agent import SAC, SACNetworks
from rldarts_tf.agents.sac.learner import LOSSES
from rldarts_tf.agents.sac.losses import actor_loss, critic_loss, soft_target, temperature_loss
from rldarts_tf.agents.sac.networks import TanhGaussianHead
from rldarts_tf.agents.sac.settings import SACSettings

TINY = dataclasses.replace(MICRO, name="tiny_sac", num_normal=1, num_nodes=2, top_k=1)
SETTINGS = SACSettings(batch_size=8, hidden_sizes=(16,), random_shift=2, min_replay_size=10)
SIZE, DIMENSIONS, BATCH = 8, 2, 8
SPEC = environment_spec(
    specs.Array((SIZE, SIZE, 3), np.uint8), specs.BoundedArray((DIMENSIONS,), np.float32, -1, 1)
)


@pytest.fixture(autouse=True)
def seeded():
    tf.keras.utils.set_random_seed(1)


@pytest.fixture
def patched_reverb():
    patch_reverb()


def small_encoder():
    return Supernet(TINY, [3], features=6, head="layer_norm")


def transitions(seed=0, batch=BATCH):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (2, batch, SIZE, SIZE, 3), np.uint8)
    return types.Transition(
        observation=tf.constant(images[0]),
        action=tf.constant(rng.uniform(-1, 1, (batch, DIMENSIONS)), tf.float32),
        reward=tf.constant(rng.normal(size=batch), tf.float32),
        discount=tf.constant(np.arange(batch) % 3 > 0, tf.float32),
        next_observation=tf.constant(images[1]),
    )


# --- the equations, by hand --------------------------------------------------------------------


def test_soft_target_takes_the_lesser_critic_and_adds_entropy():
    y = soft_target(
        r_t=tf.constant([1.0, 2.0, 3.0]),
        d_t=tf.constant([0.9, 0.9, 0.0]),  # the third episode terminated
        q_t=tf.constant([[5.0, 1.0, 100.0], [4.0, 7.0, 100.0]]),
        log_pi_t=tf.constant([-2.0, 0.5, -3.0]),
        temperature=0.1,
    )
    # 1 + 0.9 (4 + 0.2), 2 + 0.9 (1 - 0.05), 3.
    np.testing.assert_allclose(y, [4.78, 2.855, 3.0], rtol=1e-6)


def test_critic_loss_is_half_the_squared_error_of_both_critics():
    q = tf.Variable([[1.0, 2.0], [4.0, 0.0]])
    y = tf.Variable([2.0, 2.0])
    with tf.GradientTape() as tape:
        loss = critic_loss(q, y)
    # Transition 1: ½ (1 + 4), transition 2: ½ (0 + 4); the mean.
    assert float(loss) == pytest.approx((2.5 + 2.0) / 2)
    gradient, none = tape.gradient(loss, [q, y])
    np.testing.assert_allclose(gradient, [[-0.5, 0.0], [1.0, -1.0]])
    assert none is None, "the target is a constant"


def test_actor_loss_is_entropy_against_the_lesser_critic():
    loss = actor_loss(tf.constant([[1.0, 2.0], [3.0, -1.0]]), tf.constant([-1.0, 2.0]), 0.5)
    # (-0.5 - 1, 1 + 1)
    assert float(loss) == pytest.approx((-1.5 + 2.0) / 2)


@pytest.mark.parametrize(("log_pi", "sign"), [(-1.0, 1), (3.0, -1)])
def test_temperature_falls_where_entropy_is_above_its_target(log_pi, sign):
    log_temperature, values = tf.Variable(math.log(0.2)), tf.Variable([log_pi, log_pi])
    with tf.GradientTape() as tape:
        loss = temperature_loss(log_temperature, values, target_entropy=-1.0)
    assert float(loss) == pytest.approx(-0.2 * (log_pi - 1.0), rel=1e-6)
    gradient, none = tape.gradient(loss, [log_temperature, values])
    # Entropy is -log π; the temperature descends.
    assert float(gradient) == pytest.approx(-0.2 * (log_pi - 1.0), rel=1e-6)
    assert np.sign(gradient) == sign and none is None


B = tf.zeros([4])
Q = tf.zeros([2, 4])
ARGUMENTS = {
    "soft_target": {"r_t": B, "d_t": B, "q_t": Q, "log_pi_t": B, "temperature": tf.constant(1.0)},
    "critic_loss": {"q_tm1": Q, "target": B},
    "actor_loss": {"q": Q, "log_pi": B, "temperature": tf.constant(1.0)},
    "temperature_loss": {"log_temperature": tf.constant(0.0), "log_pi": B, "target_entropy": -1.0},
}


@pytest.mark.parametrize("unknown_batch", [False, True])
@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_loss_refuses_to_broadcast(function, unknown_batch):
    arguments = dict(ARGUMENTS[function])
    entropy = {k: arguments.pop(k) for k in ("target_entropy",) if k in arguments}

    def trace(shapes):
        specs = {
            name: tf.TensorSpec([None if unknown_batch and n == 4 else n for n in shape])
            for name, shape in shapes.items()
        }
        traced = tf.function(
            lambda **tensors: getattr(losses, function)(**tensors, **entropy), autograph=False
        )
        traced.get_concrete_function(**specs)

    shapes = {name: tensor.shape.as_list() for name, tensor in arguments.items()}
    trace(shapes)
    for name, shape in shapes.items():
        with pytest.raises(ValueError, match=rf"^{name}: shape .* is not \["):
            trace({**shapes, name: [*shape, 1]})


@pytest.mark.parametrize("shape", [[3], [1]])
def test_a_loss_refuses_a_batch_of_another_size(shape):
    with pytest.raises(ValueError, match=r"^target: shape"):
        critic_loss(Q, tf.zeros(shape))
    with pytest.raises(ValueError, match=r"^log_pi: shape"):
        actor_loss(Q, tf.zeros(shape), 0.1)


def test_the_policy_is_a_gaussian_through_tanh():
    head = TanhGaussianHead(DIMENSIONS, (7,))
    features = tf.constant(np.random.default_rng(0).normal(size=(5, 4)), tf.float32)
    distribution = head(features)
    mean, scale = (x.numpy().astype(np.float64) for x in head.mean_and_scale(features))
    actions, log_pi = distribution.experimental_sample_and_log_prob(seed=(1, 2))
    assert actions.shape == (5, DIMENSIONS) and log_pi.shape == (5,)
    u = np.arctanh(actions.numpy().astype(np.float64))
    # Haarnoja et al. 2018, equation 26: log π(a) = log N(u) - Σ log(1 - tanh² u).
    gaussian = -0.5 * ((u - mean) / scale) ** 2 - np.log(scale) - 0.5 * math.log(2 * math.pi)
    expected = np.sum(gaussian - np.log1p(-(np.tanh(u) ** 2)), axis=-1)
    np.testing.assert_allclose(log_pi, expected, rtol=1e-3, atol=1e-3)


def test_the_scale_of_the_policy_is_bounded():
    head = TanhGaussianHead(1, (4,))
    head(tf.zeros([1, 3]))
    head._mlp._layers[-1].b.assign([0.0, 50.0])
    assert float(head.mean_and_scale(tf.zeros([1, 3]))[1]) == pytest.approx(math.exp(2))
    head._mlp._layers[-1].b.assign([0.0, -50.0])
    assert float(head.mean_and_scale(tf.zeros([1, 3]))[1]) == pytest.approx(math.exp(-20))


# --- random shifts -----------------------------------------------------------------------------


def test_a_shifted_image_is_a_crop_of_the_mirrored_one():
    images = np.random.default_rng(0).integers(0, 256, (60, 7, 9, 3), np.uint8)
    shifted = random_shift(tf.constant(images), 2, tf.constant([1, 2]))
    assert shifted.dtype == tf.uint8 and shifted.shape == images.shape
    padded = np.pad(images, [(0, 0), (2, 2), (2, 2), (0, 0)], "symmetric")
    crops = {(i, j): padded[:, i : i + 7, j : j + 9] for i in range(5) for j in range(5)}
    found = []
    for b, image in enumerate(shifted.numpy()):
        matching = [where for where, crop in crops.items() if np.array_equal(crop[b], image)]
        assert len(matching) == 1
        found += matching
    # Both directions, independently, and not the same for all images.
    assert {i for i, _ in found} == {j for _, j in found} == set(range(5))
    assert len(set(found)) > 10


def test_shifts_follow_their_seed():
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (9, 8, 8, 3), np.uint8))
    one, again, other = (random_shift(images, 3, tf.constant([0, s])).numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


# --- the learner -------------------------------------------------------------------------------


@pytest.fixture
def networks():
    return SACNetworks(SPEC, small_encoder(), SETTINGS)


def adam(gradient, rate=SETTINGS.learning_rate, epsilon=SETTINGS.adam_epsilon):
    """The first step of Adam."""
    return -rate * gradient / (np.abs(gradient) + epsilon)


def log_prob(mean, scale, u):
    gaussian = -0.5 * tf.square((u - mean) / scale) - tf.math.log(scale)
    gaussian -= 0.5 * math.log(2 * math.pi)
    # log(1 - tanh² u), in a form that does not lose digits.
    return tf.reduce_sum(gaussian - 2.0 * (math.log(2.0) - u - tf.math.softplus(-2.0 * u)), axis=-1)


def test_a_step_descends_the_three_losses(networks):
    """Against the equations, with TensorFlow's gradients but none of the learner's code."""
    learner = networks.learner(SETTINGS, seed=3)
    learner._log_temperature.assign(math.log(0.3))
    critics, actor = networks.critics, networks.actor
    targets = learner._target_critics
    for variable in targets.trainable_variables:  # So that they differ from the online ones.
        variable.assign(variable + 0.05)
    batch = transitions()
    state = tf.identity(learner._generator.state)  # A generator of the variable would share it.
    generator = tf.random.Generator.from_state(state, alg="philox")
    seeds = tf.unstack(generator.make_seeds(4), axis=1)

    def shifted(images, seed):
        return random_shift(images, SETTINGS.random_shift, tf.cast(seed, tf.int32))

    def act(features, seed):
        mean, scale = actor.mean_and_scale(features)
        seed = tf.cast(seed, tf.int32)
        sampled, _ = actor(features).experimental_sample_and_log_prob(seed=seed)
        noise = (tf.atanh(tf.clip_by_value(sampled, -1 + 1e-6, 1 - 1e-6)) - mean) / scale
        u = mean + scale * tf.stop_gradient(noise)
        return tf.tanh(u), log_prob(mean, scale, u)

    o_tm1 = shifted(batch.observation, seeds[0])
    o_t = shifted(batch.next_observation, seeds[1])
    a_t, log_pi_t = act(critics.torso(o_t), seeds[2])
    y = batch.reward + 0.99 * batch.discount * (
        tf.reduce_min(targets(o_t, a_t), axis=0) - 0.3 * log_pi_t
    )
    y = tf.stop_gradient(y)
    groups = {"critic": critics.trainable_variables, "actor": actor.trainable_variables}
    with tf.GradientTape(persistent=True) as tape:
        q_1, q_2 = tf.unstack(critics(o_tm1, batch.action))
        losses = {"critic": tf.reduce_mean(0.5 * (q_1 - y) ** 2 + 0.5 * (q_2 - y) ** 2)}
        features = tf.stop_gradient(critics.torso(o_tm1))
        a, log_pi = act(features, seeds[3])
        losses["actor"] = tf.reduce_mean(
            0.3 * log_pi - tf.reduce_min(critics.q(features, a), axis=0)
        )
    gradients = {name: tape.gradient(losses[name], groups[name]) for name in groups}
    before = {name: [v.numpy() for v in group] for name, group in groups.items()}
    target_before = [v.numpy() for v in targets.trainable_variables]

    metrics = learner._learn(type("Sample", (), {"data": batch}))

    assert float(metrics["critic_loss"]) == pytest.approx(float(losses["critic"]), rel=1e-4)
    assert float(metrics["actor_loss"]) == pytest.approx(float(losses["actor"]), rel=1e-3, abs=1e-3)
    assert float(metrics["entropy"]) == pytest.approx(-np.mean(log_pi), rel=1e-3, abs=1e-3)
    # H̄ = -dim(A) / 2.
    excess = np.mean(log_pi) - DIMENSIONS / 2
    assert float(metrics["temperature_loss"]) == pytest.approx(-0.3 * excess, rel=1e-3, abs=1e-3)
    assert float(learner._log_temperature) == pytest.approx(
        math.log(0.3) + 3e-4 * np.sign(0.3 * excess), abs=1e-6
    )
    for name, group in groups.items():
        for variable, old, gradient in zip(group, before[name], gradients[name]):
            large = np.abs(gradient) > 1e-4  # Adam magnifies what rounding leaves of the others.
            change = (variable.numpy() - old)[large]
            np.testing.assert_allclose(change, adam(gradient.numpy())[large], atol=2e-5)
        assert sum((np.abs(g) > 1e-4).sum() for g in gradients[name]) > 50
    for target, old, new in zip(
        targets.trainable_variables, target_before, critics.trainable_variables
    ):
        np.testing.assert_allclose(target, 0.995 * old + 0.005 * new.numpy(), atol=1e-6)
    assert learner.num_steps == 1


def test_the_encoder_and_its_alpha_are_trained_by_the_critics_alone(networks):
    trained = networks.learner(SETTINGS, seed=0)._trained
    encoder = networks.critics.torso.encoder
    references = {name: {v.ref() for v in group} for name, group in trained.items()}
    of_encoder = {v.ref() for v in encoder.trainable_variables}
    alphas = {v.ref() for nodes in encoder.alpha.logits.values() for v in nodes}
    assert alphas < of_encoder < references["critic"]
    assert not of_encoder & references["actor"]
    assert not references["actor"] & references["critic"]
    for group in trained.values():
        assert len(group) == len({v.ref() for v in group})


def test_a_step_that_is_not_finite_is_skipped_and_counted_where_that_is_asked_for(networks):
    learner = networks.learner(dataclasses.replace(SETTINGS, skip_nonfinite_updates=True), seed=0)
    good, bad = transitions(), transitions()._replace(reward=tf.fill([BATCH], math.inf))
    learner.connect(iter([type("Sample", (), {"data": data}) for data in (bad, good)]))
    trained = [v for group in learner._trained.values() for v in group]
    before = [v.numpy() for v in trained]
    learner.step()
    for old, variable in zip(before, trained):
        np.testing.assert_array_equal(old, variable)
    assert learner.num_skipped == 1
    learner.step()
    assert learner.num_skipped == 1 and learner.num_steps == 2
    assert any((old != variable.numpy()).any() for old, variable in zip(before, trained))
    assert all(np.isfinite(v.numpy()).all() for v in trained)


def test_a_target_that_is_not_finite_ends_the_training(networks):
    learner = networks.learner(SETTINGS, seed=0)
    batch = transitions()._replace(reward=tf.fill([BATCH], math.inf))
    learner.connect(iter([type("Sample", (), {"data": batch})]))
    with pytest.raises(RunError, match=r"diverged; lower SACSettings\.learning_rate"):
        learner.step()


def test_a_checkpoint_restores_the_learner(networks, tmp_path):
    learner = networks.learner(SETTINGS, seed=0)
    sample = type("Sample", (), {"data": transitions()})
    learner._learn(sample)
    path = tf.train.Checkpoint(**learner.state).save(str(tmp_path / "checkpoint"))
    expected = [learner._learn(sample) for _ in range(2)]
    other = SACNetworks(SPEC, small_encoder(), SETTINGS).learner(SETTINGS, seed=5)
    tf.train.Checkpoint(**other.state).restore(path).assert_consumed()
    assert other.num_steps == 1
    for step in expected:
        actual = other._learn(sample)
        for name in LOSSES:
            np.testing.assert_allclose(actual[name], step[name], rtol=1e-4, atol=1e-5)


# --- the policy --------------------------------------------------------------------------------


def test_actions_are_random_at_first_then_sampled_then_greedy(networks):
    generator = tf.random.Generator.from_seed(0, alg="philox")
    uniform = tf.Variable(True)
    policy = networks.policy(generator, uniform=uniform)
    images = tf.repeat(transitions(batch=1).observation, 4000, axis=0)
    anything = policy(images).numpy()
    assert anything.shape == (4000, DIMENSIONS)
    # Uniform on [-1, 1]: variance 1/3, fourth moment 1/5.
    np.testing.assert_allclose(anything.mean(0), 0, atol=0.05)
    np.testing.assert_allclose((anything**2).mean(0), 1 / 3, atol=0.03)
    np.testing.assert_allclose((anything**4).mean(0), 1 / 5, atol=0.03)
    uniform.assign(False)
    mean, scale = networks.actor.mean_and_scale(networks.critics.torso(images[:1]))
    u = np.arctanh(policy(images).numpy().astype(np.float64))
    np.testing.assert_allclose(u.mean(0), mean[0], atol=0.08 * float(tf.reduce_max(scale)))
    np.testing.assert_allclose(u.std(0), scale[0], rtol=0.08)
    greedy = networks.policy(generator, greedy=True)(images[:2])
    np.testing.assert_allclose(greedy, np.tanh(mean.numpy()).repeat(2, 0), atol=1e-5)


def test_policies_with_equal_generators_act_alike(networks):
    images = transitions().observation
    one, again, other = (
        networks.policy(tf.random.Generator.from_seed(seed, alg="philox"))(images).numpy()
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


# --- the agent ---------------------------------------------------------------------------------


class Copying(dm_env.Environment):
    """Pays -(a - s)² for the action a in the state s; episodes of eight steps."""

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)

    def _observe(self):
        self._state = self._rng.uniform(-0.8, 0.8, 1).astype(np.float32)
        return self._state

    def reset(self):
        self._steps = 0
        return dm_env.restart(self._observe())

    def step(self, action):
        assert action.shape == (1,) and abs(action[0]) <= 1
        self._steps += 1
        reward = np.float32(-((action[0] - self._state[0]) ** 2))
        step_type = dm_env.StepType.LAST if self._steps == 8 else dm_env.StepType.MID
        return dm_env.TimeStep(step_type, reward, np.float32(1), self._observe())

    def observation_spec(self):
        return specs.Array((1,), np.float32)

    def action_spec(self):
        return specs.BoundedArray((1,), np.float32, -1, 1)

    def reward_spec(self):
        return specs.Array((), np.float32)

    def discount_spec(self):
        return specs.BoundedArray((), np.float32, 0, 1)


def test_the_agent_learns_from_states_in_acmes_loop(patched_reverb):
    environment = Copying(0)
    settings = SACSettings(
        batch_size=64,
        samples_per_insert=64,
        min_replay_size=100,
        learning_rate=3e-3,
        discount=0.0,
        hidden_sizes=(32,),
    )
    agent = SAC(specs.make_environment_spec(environment), snt.Flatten(), settings)
    loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
    greedy = agent.networks.policy(tf.random.Generator.from_seed(0, alg="philox"), greedy=True)
    states = tf.linspace([-0.8], [0.8], 9)

    def error():
        return np.abs(greedy(states) - states).max()

    untrained = error()
    for _ in range(10):
        loop.run(num_episodes=10)
        if error() < 0.25:
            break
    agent.close()
    assert untrained > 0.5 > 0.25 > error()


def test_the_agent_learns_as_often_as_it_should(patched_reverb):
    settings = dataclasses.replace(SETTINGS, samples_per_insert=4.0, min_replay_size=20)
    environment = Copying(0)
    agent = SAC(specs.make_environment_spec(environment), snt.Flatten(), settings)
    acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger()).run(num_episodes=10)
    # 80 steps, 60 of them after the first 20: a batch of 8 for each 2.
    assert agent._learner.num_steps == 30
    assert not agent._uniform
    agent.close()


def test_images_are_encoded_by_the_encoder_that_is_given():
    encoder = PiSacCNN([3, 3], features=5, head="layer_norm")
    networks = SACNetworks(SPEC, encoder, SETTINGS)
    assert networks.critics.torso.encoder is encoder
    batch = transitions()
    q = networks.critics(batch.observation, batch.action)
    assert q.shape == (2, BATCH)
    np.testing.assert_allclose(
        q, networks.critics.q(encoder(batch.observation), batch.action), rtol=1e-5
    )
    assert (q[0] != q[1]).numpy().all(), "two critics, with weights of their own"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "SACSettings.num_envs must be an integer"),
        ({"discount": 1.5}, "SACSettings.discount must be at most 1"),
        ({"target_update_rate": 0.0}, "SACSettings.target_update_rate must be positive"),
        ({"hidden_sizes": ()}, "SACSettings.hidden_sizes must be a list"),
        ({"hidden_sizes": (8, 0)}, "SACSettings.hidden_sizes must be an integer"),
        ({"random_shift": -1}, "SACSettings.random_shift must be an integer"),
        ({"initial_log_temperature": math.nan}, "SACSettings.initial_log_temperature must be"),
        ({"replay_capacity": 10}, "min_replay_size = 1000 is more than replay_capacity = 10"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ConfigError) as raised:
        SACSettings(**options)
    # gin appends where it was called.
    assert message in str(raised.value).splitlines()[0]
