"""PPO: advantages against the formula, the update against TF-Agents' own agent, minibatches."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

pytest.importorskip("tf_agents")
pytest.importorskip("rich")

import tensorflow as tf
from spaces import MICRO_2
from tf_agents.agents import tf_agent
from tf_agents.agents.ppo import ppo_agent, ppo_clip_agent
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rldarts_tf import ConfigError, ImpalaCNN, SearchSpace, Supernet, ops
from rldarts_tf.agents import ppo
from rldarts_tf.agents.gradients import NORMS
from rldarts_tf.agents.ppo.acting import Actor
from rldarts_tf.agents.ppo.agent import in_order
from rldarts_tf.agents.ppo.learner import LOSSES, Learner
from rldarts_tf.agents.ppo.settings import PPOSettings
from rldarts_tf.encoding_network import ActorDistributionNetwork, EncodingNetwork, ValueNetwork

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))  # scripts, no package

import bare_convolutions

FIRST, MID, LAST = 0, 1, 2
IMAGE = tensor_spec.BoundedTensorSpec((8, 8, 3), tf.uint8, 0, 255, name="image")
NUM_ACTIONS = 5
ACTION = tensor_spec.BoundedTensorSpec((), tf.int32, 0, NUM_ACTIONS - 1, name="action")
N, T = 4, 6
SETTINGS = PPOSettings(
    num_envs=N, steps_per_update=T, num_epochs=2, minibatch_size=8, discount=0.97, gae_lambda=0.9
)


def make_encoder(kind="supernet"):
    return Supernet(MICRO_2, [4], features=8) if kind == "supernet" else ImpalaCNN([4], features=8)


def make_agent(encoder, settings=SETTINGS):
    return ppo.make_agent(settings, ts.time_step_spec(IMAGE), ACTION, encoder)


@pytest.fixture(scope="module")
def supernet():
    tf.keras.utils.set_random_seed(3)
    return make_encoder()


@pytest.fixture(scope="module")
def agent(supernet):
    return make_agent(supernet)


@pytest.fixture(scope="module")
def actor(agent):
    return Actor(agent, tf.random.Generator.from_seed(0, alg="philox"))


def images(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 8, 8, 3)).astype(np.uint8)


def make_experience(seed=0, ends=None):
    """N x (T + 1) steps by the `Collector`'s convention, of a policy other than today's."""
    rng = np.random.default_rng(seed)
    shape = (N, T + 1)
    ends = rng.random((N, T)) < 0.25 if ends is None else np.asarray(ends)
    ended_before = np.concatenate([rng.random((N, 1)) < 0.5, ends], axis=1)
    last = np.zeros((N, 1), bool)
    return trajectory.Trajectory(
        step_type=np.where(ended_before, FIRST, MID).astype(np.int32),
        observation=images(shape, seed),
        action=rng.integers(0, NUM_ACTIONS, shape).astype(np.int32),
        policy_info={
            "dist_params": {"logits": rng.normal(size=(*shape, NUM_ACTIONS)).astype(np.float32)},
            "value_prediction": rng.normal(size=shape).astype(np.float32),
        },
        next_step_type=np.where(np.append(ends, last, axis=1), LAST, MID).astype(np.int32),
        reward=np.append(rng.normal(size=(N, T)), np.zeros((N, 1)), axis=1).astype(np.float32),
        discount=np.where(np.append(ends, last, axis=1), 0.0, 1.0).astype(np.float32),
    )


def as_tensors(nest):
    return tf.nest.map_structure(tf.constant, nest)


# --- settings --------------------------------------------------------------------------------

BAD_SETTINGS = {
    "no environments": ("num_envs", {"num_envs": 0}),
    "a fraction of a step": ("steps_per_update", {"steps_per_update": 2.5}),
    "a text": ("num_epochs", {"num_epochs": "3"}),
    "a truth value": ("num_epochs", {"num_epochs": True}),
    "a negative minibatch": ("minibatch_size", {"minibatch_size": -8}),
    "a minibatch that does not divide": ("minibatch_size", {"minibatch_size": 7}),
    "a minibatch larger than all": ("minibatch_size", {"minibatch_size": 2 * 64 * 256}),
    "learning rate 0": ("learning_rate", {"learning_rate": 0.0}),
    "learning rate of text": ("learning_rate", {"learning_rate": "5e-4"}),
    "learning rate NaN": ("learning_rate", {"learning_rate": math.nan}),
    "learning rate infinite": ("learning_rate", {"learning_rate": math.inf}),
    "epsilon 0": ("adam_epsilon", {"adam_epsilon": 0}),
    "discount above 1": ("discount", {"discount": 1.01}),
    "discount None": ("discount", {"discount": None}),
    "lambda above 1": ("gae_lambda", {"gae_lambda": 2}),
    "lambda below 0": ("gae_lambda", {"gae_lambda": -0.5}),
    "clip 0": ("clip", {"clip": 0}),
    "value clip negative": ("value_clip", {"value_clip": -0.2}),
    "entropy negative": ("entropy_coefficient", {"entropy_coefficient": -0.01}),
    "value weight negative": ("value_coefficient", {"value_coefficient": -1}),
    "gradient norm 0": ("max_gradient_norm", {"max_gradient_norm": 0.0}),
    "gradient norm infinite": ("max_gradient_norm", {"max_gradient_norm": math.inf}),
    "reward discount above 1": ("reward_discount", {"reward_discount": 1.5}),
    "reward discount of text": ("reward_discount", {"reward_discount": "0.99"}),
    "reward clip 0": ("reward_clip", {"reward_clip": 0.0}),
    "jit_compile of text": ("jit_compile", {"jit_compile": "yes"}),
    "an unknown augmentation": ("augmentation", {"augmentation": "rotate"}),
    "a shift by nothing": ("augmentation_pixels", {"augmentation_pixels": 0}),
    "augmentation weight negative": ("augmentation_weight", {"augmentation_weight": -0.1}),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_bad_settings_are_refused_with_one_line_that_names_the_field(case):
    field, arguments = BAD_SETTINGS[case]
    with pytest.raises(ConfigError, match=rf"^PPOSettings\.{field} ") as caught:
        PPOSettings(**arguments)
    # gin adds a line of its own on where it was called.
    assert "\n" not in str(caught.value).split("\n  In call to configurable")[0]


def test_the_defaults_are_those_of_the_design():
    # Cobbe et al. 2020; 64 * 256 transitions in 8 minibatches.
    assert dataclasses.asdict(PPOSettings()) == {
        "num_envs": 64, "steps_per_update": 256, "num_epochs": 3, "minibatch_size": 64 * 256 // 8,
        "learning_rate": 5e-4, "final_learning_rate": None, "adam_epsilon": 1e-5,
        "discount": 0.999, "gae_lambda": 0.95,
        "clip": 0.2, "value_clip": 0.2, "entropy_coefficient": 0.01, "value_coefficient": 0.5,
        "max_gradient_norm": 0.5, "reward_discount": 0.99, "reward_clip": 10.0,
        "augmentation": None, "augmentation_pixels": None, "augmentation_weight": None,
        "separate_encoders": False,
        "skip_nonfinite_updates": False, "jit_compile": False,
    }  # fmt: skip


def test_limits_are_allowed():
    PPOSettings(
        num_envs=1, steps_per_update=1, num_epochs=1, minibatch_size=1, discount=1, gae_lambda=0,
        value_clip=0, entropy_coefficient=0, value_coefficient=0, reward_discount=1,
    )  # fmt: skip


# --- advantages ------------------------------------------------------------------------------


def reference_gae(reward, ended, value, discount, gae_lambda):
    """Schulman et al. 2016, equation 16, cut at the ends of episodes: one step at a time."""
    advantage = np.zeros(reward.shape)
    for n in range(reward.shape[0]):
        following = 0.0
        for t in reversed(range(reward.shape[1])):
            on = 0.0 if ended[n, t] else 1.0
            delta = reward[n, t] + on * discount * value[n, t + 1] - value[n, t]
            following = delta + on * discount * gae_lambda * following
            advantage[n, t] = following
    return advantage


ENDS = st.lists(st.booleans(), min_size=N * T, max_size=N * T)


@settings(max_examples=30)
@given(ends=ENDS, seed=st.integers(0, 999))
def test_advantages_and_returns_are_those_of_the_formula(agent, ends, seed):
    ends = np.reshape(ends, (N, T))
    experience = make_experience(seed, ends)
    processed = agent.preprocess_sequence(as_tensors(experience))
    value = experience.policy_info["value_prediction"].astype(np.float64)
    expected = reference_gae(experience.reward[:, :T], ends, value, 0.97, 0.9)
    actual = processed.policy_info["advantage"][:, :T]
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        processed.policy_info["return"][:, :T], expected + value[:, :T], rtol=1e-5, atol=1e-5
    )


def test_the_last_advantage_bootstraps_from_the_value_after_it(agent):
    experience = make_experience(ends=np.zeros((N, T), bool))
    later = experience.policy_info["value_prediction"].copy()
    later[:, -1] += 1
    advantages = [
        agent.preprocess_sequence(
            as_tensors(
                experience.replace(
                    policy_info={**experience.policy_info, "value_prediction": value}
                )
            )
        )
        .policy_info["advantage"]
        .numpy()[:, :T]
        for value in (experience.policy_info["value_prediction"], later)
    ]
    # V(s_T) counts γ in the last step, and γ (γ λ)^k in the step k before it.
    effect = 0.97 * (0.97 * 0.9) ** np.arange(T)[::-1]
    np.testing.assert_allclose(advantages[1] - advantages[0], np.tile(effect, (N, 1)), atol=1e-5)


def episodes_of(rng, shape):
    """Step types [N, T + 1] as dm_env gives them, with discounts of the steps that lead there.

    Episodes terminate, are cut off at LAST, or are dropped without one.
    """
    types, discounts = np.full(shape, MID, np.int32), np.ones(shape, np.float32)
    types[:, 0] = rng.integers(0, 3, shape[0])
    for n, t in np.ndindex(shape[0], shape[1] - 1):
        end = rng.choice(["on", "on", "terminated", "cut", "dropped"])
        if types[n, t] == LAST or end == "dropped":
            types[n, t + 1] = FIRST
        elif end != "on":
            types[n, t + 1] = LAST
            discounts[n, t + 1] = end == "cut"
    return types, discounts


@settings(max_examples=30)
@given(seed=st.integers(0, 9999))
def test_advantages_look_beyond_an_episode_that_was_cut_off_and_never_into_another(agent, seed):
    rng = np.random.default_rng(seed)
    types, discounts = episodes_of(rng, (N, T + 1))
    shifted = lambda x, last: np.append(x[:, 1:], np.full((N, 1), last, x.dtype), axis=1)  # noqa: E731
    experience = make_experience(seed).replace(
        step_type=types, next_step_type=shifted(types, MID), discount=shifted(discounts, 1)
    )
    value = experience.policy_info["value_prediction"].astype(np.float64)
    found = agent.preprocess_sequence(as_tensors(experience)).policy_info["advantage"].numpy()
    for n in range(N):
        following = 0.0
        for t in reversed(range(T)):
            if types[n, t + 1] == FIRST:  # no transition: the step only began an episode
                following = 0.0
                continue
            ended = types[n, t + 1] == LAST
            beyond = 0.0 if ended and discounts[n, t + 1] == 0 else value[n, t + 1]
            delta = experience.reward[n, t] + 0.97 * beyond - value[n, t]
            following = delta + (0.0 if ended else 0.97 * 0.9 * following)
            np.testing.assert_allclose(found[n, t], following, rtol=1e-5, atol=1e-5)


# --- the update against TF-Agents' own -------------------------------------------------------


def plain_agent(encoder, ppo_settings):
    """TF-Agents' class itself around the same kind of networks; no computation is shared."""
    network = EncodingNetwork(IMAGE, encoder=encoder)
    plain = ppo_clip_agent.PPOClipAgent(
        ts.time_step_spec(IMAGE),
        ACTION,
        optimizer=tf.keras.optimizers.Adam(
            ppo_settings.learning_rate, epsilon=ppo_settings.adam_epsilon
        ),
        actor_net=ActorDistributionNetwork(IMAGE, ACTION, network),
        value_net=ValueNetwork(IMAGE, network),
        importance_ratio_clipping=ppo_settings.clip,
        lambda_value=ppo_settings.gae_lambda,
        discount_factor=ppo_settings.discount,
        entropy_regularization=ppo_settings.entropy_coefficient,
        value_pred_loss_coef=ppo_settings.value_coefficient,
        value_clipping=ppo_settings.value_clip,
        gradient_clipping=ppo_settings.max_gradient_norm,
        num_epochs=1,
        use_gae=True,
        use_td_lambda_return=True,
        normalize_rewards=False,
        normalize_observations=False,
        update_normalizers_in_train=False,
        compute_value_and_advantage_in_train=False,
        train_step_counter=tf.Variable(0, dtype=tf.int64),
    )
    plain.initialize()
    return plain


def variables(an_agent):
    return [*an_agent.actor_net.variables, *an_agent._value_net.variables]


def train_and_measure(agent, transitions, monkeypatch):
    """A step of TF-Agents' agent; what it returns, and the norms before the gradient is clipped."""
    total, clipped = [], {"gradient_norm_theta": [], "gradient_norm_alpha": []}
    clip, apply = tf.clip_by_global_norm, agent._optimizer.apply_gradients

    def measuring_clip(gradients, max_norm):
        total.append(float(tf.linalg.global_norm(gradients)))
        return clip(gradients, max_norm)

    def measuring_apply(grads_and_vars):
        for gradient, weight in grads_and_vars:
            part = "alpha" if "alpha" in weight.name else "theta"
            clipped[f"gradient_norm_{part}"].append(float(tf.norm(gradient)))
        return apply(grads_and_vars)

    with monkeypatch.context() as patch:
        patch.setattr(tf, "clip_by_global_norm", measuring_clip)
        patch.setattr(agent._optimizer, "apply_gradients", measuring_apply)
        tf.config.run_functions_eagerly(True)
        try:
            info = agent.train(transitions)
        finally:
            tf.config.run_functions_eagerly(False)
    scale = total[0] / min(total[0], agent._gradient_clipping)
    return info, {name: scale * np.linalg.norm(part) for name, part in clipped.items() if part}


@pytest.mark.parametrize(
    ("kind", "jit_compile"), [("supernet", False), ("impala_cnn", False), ("supernet", True)]
)
def test_an_update_of_one_minibatch_is_a_step_of_tf_agents_own_agent(
    kind, jit_compile, monkeypatch
):
    ppo_settings = dataclasses.replace(
        SETTINGS, num_epochs=1, minibatch_size=N * T, jit_compile=jit_compile
    )
    encoder, plain_encoder = make_encoder(kind), make_encoder(kind)
    fast, plain = make_agent(encoder, ppo_settings), plain_agent(plain_encoder, ppo_settings)
    for mine, theirs in zip(variables(fast), variables(plain)):
        theirs.assign(mine)
    if kind == "supernet":  # Not where all ops weigh the same.
        logits = zip(*(s.alpha.logits["normal"] for s in (encoder, plain_encoder)))
        for j, (mine, theirs) in enumerate(logits):
            start = np.random.default_rng(j).normal(size=mine.shape)
            mine.assign(start)
            theirs.assign(start)
    before = [v.numpy() for v in variables(fast)]
    experience = as_tensors(make_experience(seed=1))
    transitions = tf.nest.map_structure(lambda x: x[:, :-1], fast.preprocess_sequence(experience))
    log_p = tf.nn.log_softmax(
        plain.actor_net(transitions.observation)[0].logits_parameter()
    ).numpy()

    expected, norms = train_and_measure(plain, transitions, monkeypatch)
    generator = tf.random.Generator.from_seed(0, alg="philox")
    learner = Learner(fast, ppo_settings, generator)
    losses = learner.update(experience)

    assert set(losses) == {*LOSSES[:5], *norms, "skipped"}
    assert float(losses["skipped"]) == 0
    assert norms["gradient_norm_theta"] > ppo_settings.max_gradient_norm, "or nothing is clipped"
    for name, value in norms.items():
        np.testing.assert_allclose(losses[name], value, rtol=1e-4, err_msg=name)
    for name, value in {
        "loss": expected.loss,
        "policy_loss": expected.extra.policy_gradient_loss,
        "value_loss": expected.extra.value_estimation_loss,
        "entropy": -(np.exp(log_p) * log_p).sum(-1).mean(),
        "clip_fraction": expected.extra.clip_fraction,
    }.items():
        np.testing.assert_allclose(losses[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    assert 0 < losses["clip_fraction"] < 1, "or the clipping was not tried"
    for mine, theirs, start in zip(variables(fast), variables(plain), before):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6, err_msg=mine.name)
        if mine.trainable and "alpha" in mine.name:
            assert np.abs(mine - start).max() > ppo_settings.learning_rate / 10
    assert int(fast.train_step_counter) == int(plain.train_step_counter) == 1


def test_the_losses_are_those_of_ppo2_but_for_a_half_of_the_value_loss():
    # Baselines' ppo2/model.py; docs/architecture.md has the comparison.
    numbers = dataclasses.replace(SETTINGS, num_epochs=1, minibatch_size=N * T)
    agent = make_agent(make_encoder("impala_cnn"), numbers)
    experience = make_experience(seed=1)
    observation = tf.constant(experience.observation[:, :-1])
    log_p = tf.nn.log_softmax(agent.actor_net(observation)[0].logits_parameter()).numpy()
    values = agent.value_net(observation)[0].numpy()

    old_values = experience.policy_info["value_prediction"]
    ended = experience.discount[:, :-1] == 0
    advantages = reference_gae(
        experience.reward[:, :-1], ended, old_values, numbers.discount, numbers.gae_lambda
    )
    returns, old = advantages + old_values[:, :-1], old_values[:, :-1]
    normalized = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    old_logits = experience.policy_info["dist_params"]["logits"][:, :-1]
    actions = experience.action[:, :-1, None]

    def of_action(table):
        return np.take_along_axis(table, actions, axis=-1)[..., 0]

    ratio = np.exp(of_action(log_p) - of_action(tf.nn.log_softmax(old_logits).numpy()))
    near = np.clip(ratio, 1 - numbers.clip, 1 + numbers.clip)
    clipped = old + np.clip(values - old, -numbers.value_clip, numbers.value_clip)
    squares = np.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    expected = {
        "policy_loss": np.maximum(-normalized * ratio, -normalized * near).mean(),
        # Baselines has another ½ here; the authors' release has not.
        "value_loss": numbers.value_coefficient * squares.mean(),
        "entropy": -(np.exp(log_p) * log_p).sum(-1).mean(),
    }

    learner = Learner(agent, numbers, tf.random.Generator.from_seed(0, alg="philox"))
    losses = learner.update(as_tensors(experience))
    for name, value in expected.items():
        np.testing.assert_allclose(losses[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("skip", [False, True])
def test_a_minibatch_that_is_not_finite_is_skipped_and_counted_where_that_is_asked_for(skip):
    ppo_settings = dataclasses.replace(
        SETTINGS, num_epochs=2, minibatch_size=N * T // 4, skip_nonfinite_updates=skip
    )
    agent = make_agent(make_encoder("supernet"), ppo_settings)
    learner = Learner(agent, ppo_settings, tf.random.Generator.from_seed(0, alg="philox"))
    experience = as_tensors(make_experience(seed=1))
    # The reward of the first step is in the advantage of that step alone.
    reward = experience.reward.numpy()
    reward[0, 0] = math.nan
    losses = learner.update(experience._replace(reward=tf.constant(reward)))
    finite = all(np.isfinite(v.numpy()).all() for v in variables(agent))
    assert finite == skip
    assert all(np.isfinite(value) for value in losses.values()) == skip
    assert losses["skipped"] == (2 if skip else 0)  # One of four, in each epoch.
    assert int(agent.optimizer.iterations) == (6 if skip else 8)


# --- minibatches -----------------------------------------------------------------------------


class RecordingAgent:
    """Writes down which transitions each call of `train` was given, and by which field."""

    FIELDS = ("action", "reward", "observation", "value_prediction")

    def __init__(self, settings):
        steps = settings.num_epochs * settings.batch_size // settings.minibatch_size
        shape = [2 * steps, len(self.FIELDS), settings.minibatch_size]
        self.seen = tf.Variable(tf.fill(shape, -1))
        self.calls = tf.Variable(0)
        self.optimizer = SimpleNamespace(
            norms={name: tf.Variable(0.0) for name in NORMS}, architecture=[None], loss_scale=None
        )

    def preprocess_sequence(self, experience):
        return experience

    def train(self, minibatch):
        fields = [
            minibatch.action,
            minibatch.reward,
            minibatch.observation[:, :, 0],
            minibatch.policy_info["value_prediction"],
        ]
        ids = tf.stack([tf.cast(x[:, 0], tf.int32) for x in fields])
        self.seen.scatter_nd_update([[self.calls]], ids[None])
        call = tf.cast(self.calls.assign_add(1), tf.float32)
        for k, norm in enumerate(self.optimizer.norms.values()):
            norm.assign((3 + k) * call)
        extra = ppo_agent.PPOLossInfo(
            policy_gradient_loss=10 * call,
            value_estimation_loss=100 * call,
            l2_regularization_loss=0.0,
            entropy_regularization_loss=-0.01 * call,
            kl_penalty_loss=0.0,
            clip_fraction=call**2,
        )
        return tf_agent.LossInfo(loss=call, extra=extra)

    def adding(self):
        return contextlib.nullcontext()


def record_updates(ppo_settings, generator, learner_and_agent, updates=1, begun=()):
    """Ids [update, epoch, minibatch, M] of the transitions of `updates` updates, and the losses."""
    learner, recorder = learner_and_agent
    recorder.calls.assign(0)
    recorder.seen.assign(tf.fill(recorder.seen.shape, -1))
    ids = np.arange(ppo_settings.num_envs * (ppo_settings.steps_per_update + 1), dtype=np.int32)
    ids = ids.reshape(ppo_settings.num_envs, ppo_settings.steps_per_update + 1)
    experience = trajectory.Trajectory(
        step_type=np.full_like(ids, MID),
        observation=ids[..., None],
        action=ids,
        policy_info={"value_prediction": ids.astype(np.float32)},
        next_step_type=np.where(np.isin(ids, begun), FIRST, MID).astype(np.int32),
        reward=ids.astype(np.float32),
        discount=np.ones_like(ids, np.float32),
    )
    losses = [learner.update(experience) for _ in range(updates)]
    seen = recorder.seen.numpy()[: int(recorder.calls)]
    for field in range(1, seen.shape[1]):
        np.testing.assert_array_equal(seen[:, field], seen[:, 0], RecordingAgent.FIELDS[field])
    return seen[:, 0].reshape(
        updates, ppo_settings.num_epochs, -1, ppo_settings.minibatch_size
    ), losses


RECORDED = PPOSettings(num_envs=3, steps_per_update=8, num_epochs=3, minibatch_size=4)


@pytest.fixture(scope="module")
def recorded():
    """A learner of `RECORDED` around a fake agent, and the generator of its orders."""
    recorder = RecordingAgent(RECORDED)
    generator = tf.random.Generator.from_seed(5, alg="philox")
    return (Learner(recorder, RECORDED, generator), recorder), generator


def test_every_epoch_uses_every_transition_once_and_never_the_last_step(recorded):
    ids, _ = record_updates(RECORDED, recorded[1], recorded[0], updates=2)
    assert ids.shape == (2, 3, 6, 4)
    transitions = [9 * n + t for n in range(3) for t in range(8)]  # of T + 1 = 9 steps
    for epoch in ids.reshape(6, -1):
        np.testing.assert_array_equal(np.sort(epoch), transitions)


def test_steps_that_only_begin_an_episode_are_in_no_minibatch(recorded):
    begun = {0, 11, 12, 25}
    ids, _ = record_updates(RECORDED, recorded[1], recorded[0], updates=2, begun=[*begun])
    transitions = {9 * n + t for n in range(3) for t in range(8)} - begun
    twice = set()
    for epoch in ids.reshape(6, -1):
        found, counts = np.unique(epoch, return_counts=True)
        assert set(found) == transitions and counts.sum() == 24 and counts.max() == 2
        twice |= set(found[counts == 2])
    assert len(twice) > 8, "others take their place in each epoch"


def test_the_order_is_another_in_each_epoch_and_update(recorded):
    ids, _ = record_updates(RECORDED, recorded[1], recorded[0], updates=2)
    orders = {tuple(order) for order in ids.reshape(6, -1).tolist()}
    orders.add(tuple(sorted(next(iter(orders)))))
    assert len(orders) == 7


def test_the_order_is_reproduced_from_the_state_of_the_generator(recorded):
    learner, generator = recorded
    state = generator.state.numpy()
    first, _ = record_updates(RECORDED, generator, learner, updates=2)
    other, _ = record_updates(RECORDED, generator, learner, updates=2)
    generator.state.assign(state)
    again, _ = record_updates(RECORDED, generator, learner, updates=2)
    np.testing.assert_array_equal(again, first)
    assert np.any(other != first)


def test_reported_losses_are_means_over_the_gradient_steps(recorded):
    _, (losses,) = record_updates(RECORDED, recorded[1], recorded[0])
    calls = np.arange(1, 3 * 6 + 1)
    expected = [calls.mean(), 10 * calls.mean(), 100 * calls.mean(), calls.mean()]
    expected += [np.mean(calls**2), 3 * calls.mean(), 4 * calls.mean()]
    np.testing.assert_allclose([losses[name] for name in LOSSES], expected, rtol=1e-5)


def test_without_an_entropy_bonus_the_entropy_is_zero_and_not_nan():
    ppo_settings = dataclasses.replace(RECORDED, entropy_coefficient=0.0)
    recorder = RecordingAgent(ppo_settings)
    generator = tf.random.Generator.from_seed(5, alg="philox")
    learner = Learner(recorder, ppo_settings, generator)
    _, (losses,) = record_updates(ppo_settings, generator, (learner, recorder))
    assert float(losses["entropy"]) == 0.0
    assert float(losses["loss"]) == np.arange(1, 19).mean()


# --- what is computed how often --------------------------------------------------------------


def count_convolutions(function):
    """Those of the forward pass that are executed: the rest of a graph is pruned."""
    return sum(bare_convolutions.is_forward(op) for op in bare_convolutions.collect(function))


def test_observations_are_encoded_once_per_action_and_once_per_gradient_step(
    agent, actor, supernet
):
    batch = tf.TensorSpec((N, *IMAGE.shape), tf.uint8)
    once = count_convolutions(tf.function(supernet).get_concrete_function(batch))
    assert once >= 1
    # The count would see a second pass:
    scalars = [tf.TensorSpec(N, dtype) for dtype in (tf.int32, tf.float32, tf.float32)]
    time_steps = ts.TimeStep(*scalars, batch)
    distribution = tf.function(
        lambda step: agent.collect_policy.distribution(step).info, autograph=False
    )
    assert count_convolutions(distribution.get_concrete_function(time_steps)) == 2 * once

    acting = actor._act.get_concrete_function(batch, tf.zeros([2], tf.int32))
    assert count_convolutions(acting) == once
    # All gradient steps of an update are one loop, whose body the graph holds once.
    learner = Learner(agent, SETTINGS, tf.random.Generator.from_seed(0, alg="philox"))
    experience = make_experience()
    before = int(agent.train_step_counter)
    for _ in range(2):
        learner.update(experience)
    assert int(agent.train_step_counter) == before + 2 * (2 * N * T // 8)
    assert learner.update.experimental_get_tracing_count() == 1
    assert count_convolutions(learner.update.get_concrete_function(experience)) == once


def test_every_variable_is_in_the_optimizer_exactly_once_alpha_included(agent, supernet):
    weights = {
        v.ref() for v in (*agent.actor_net.trainable_weights, *agent.value_net.trainable_weights)
    }
    slots = [v.name for v in agent.optimizer.variables]
    assert len([name for name in slots if name.startswith("m/")]) == len(weights)
    assert len([name for name in slots if name.startswith("v/")]) == len(weights)
    logits = supernet.alpha.logits["normal"]
    assert len(logits) == supernet.space.num_nodes
    for variable in logits:
        assert variable.ref() in weights
        assert slots.count(f"m/{variable.name}") == slots.count(f"v/{variable.name}") == 1


# --- actions ---------------------------------------------------------------------------------


@pytest.fixture
def biased(agent):
    """The agent with clear preferences, for the time of a test."""
    (bias,) = (v for v in agent.actor_net.trainable_weights if v.shape == (NUM_ACTIONS,))
    before = bias.numpy()
    bias.assign(np.log([0.05, 0.4, 0.1, 0.15, 0.3]))
    yield agent
    bias.assign(before)


def test_what_accompanies_an_action_is_what_the_networks_say(biased, actor):
    observation = images([N])
    action, dist_params, value = actor(observation)
    distribution, _ = biased.actor_net(tf.constant(observation))
    np.testing.assert_allclose(dist_params["logits"], distribution.logits_parameter(), atol=1e-5)
    np.testing.assert_allclose(value, biased.value_net(tf.constant(observation))[0], atol=1e-5)
    assert action.shape == value.shape == (N,)
    assert action.dtype == tf.int32


def test_actions_are_sampled_from_the_distribution(biased):
    sampler = Actor(biased, tf.random.Generator.from_seed(11, alg="philox"))
    frames = images([2])
    num = 4000
    draws = [sampler(np.repeat(frames, num, axis=0)) for _ in range(2)]
    for i in range(2):
        rows = slice(i * num, (i + 1) * num)
        p = tf.nn.softmax(draws[0][1]["logits"][rows][0]).numpy()
        assert p.max() > 0.35 and p.min() < 0.1
        actions = np.concatenate([action.numpy()[rows] for action, _, _ in draws])
        frequency = np.bincount(actions, minlength=NUM_ACTIONS) / (2 * num)
        sigma = np.sqrt(p * (1 - p) / (2 * num))
        np.testing.assert_array_less(np.abs(frequency - p), 4 * sigma)
    # Neither rows nor calls repeat each other: they agree as often as independent draws do.
    (one, _, _), (two, _, _) = draws
    agreement = float((p**2).sum())
    for a, b in ((one[:num], one[num:]), (one, two)):
        assert abs(np.mean(a.numpy() == b.numpy()) - agreement) < 0.05


def test_another_source_of_randomness_leaves_that_of_the_actor_alone(biased, actor):
    observation = images([N])
    state = actor._generator.state.numpy()
    draws = []
    for seed in (7, 7, 8):
        other = actor.drawing_from(tf.random.Generator.from_seed(seed, alg="philox"))
        draws.append([other(observation)[0].numpy() for _ in range(8)])
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    np.testing.assert_array_equal(actor._generator.state, state)
    assert actor._act.experimental_get_tracing_count() == 1, "not traced once more"


def test_actions_are_reproduced_from_the_state_of_the_generator(biased, actor):
    generator = actor._generator
    observation = images([N])
    state = generator.state.numpy()
    first = [actor(observation)[0].numpy() for _ in range(8)]
    generator.state.assign(state)
    again = [actor(observation)[0].numpy() for _ in range(8)]
    np.testing.assert_array_equal(again, first)
    assert len({tuple(actions) for actions in first}) > 4


def test_the_optimizer_knows_variables_in_an_order_that_no_other_layers_change():
    """Its checkpoint has numbers of them, and a process that resumes may have made fewer layers."""
    space = SearchSpace("order", ["sep_conv_3x3", "test_twice"], num_nodes=3, num_normal=1)
    orders = []
    for made_before in (0, 1, 8, 9, 95):
        tf.keras.backend.clear_session()
        for _ in range(made_before):
            tf.keras.layers.Conv2D(1, 1)
        supernet = Supernet(space, [4], features=2)
        supernet(tf.zeros([1, 6, 6, 3]))
        variables = supernet.trainable_weights
        places = {w.ref(): place for place, w in enumerate(variables)}
        orders.append([places[w.ref()] for w in in_order((*variables[::-1], *variables))])
    assert sorted(orders[0]) == [*range(len(places))]
    assert all(order == orders[0] for order in orders)


class Twice(tf.keras.layers.Layer):
    """An op of a user's own, whose parts have the names that Keras gives."""

    def __init__(self, filters, stride):
        super().__init__()
        self._parts = [
            tf.keras.layers.Conv2D(filters, 1, s, padding="same", use_bias=False)
            for s in (stride, 1)
        ]

    def call(self, x):
        for part in self._parts:
            x = part(x)
        return x


@pytest.fixture(autouse=True, scope="module")
def twice():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ops._REGISTRY, "test_twice", Twice)
        yield
