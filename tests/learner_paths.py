"""One gradient step of PPO, Rainbow and SAC, alike, on data that stay the same."""

from __future__ import annotations

import numpy as np
import reverb
import tensorflow as tf
from acme import specs, types
from tf_agents.specs import tensor_spec
from tf_agents.trajectories import time_step as ts
from tf_agents.trajectories import trajectory

from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.ppo.agent import make_agent
from rldarts_tf.agents.ppo.learner import Learner
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.agents.rainbow.learner import make_learner
from rldarts_tf.agents.rainbow.networks import make_network
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.agents.sac.agent import SACNetworks

SIZE, BATCH, ACTIONS = 8, 12, 3
"""Side of an image, images in a step, and actions (of PPO and Rainbow)."""


def images(seed, *shape):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*shape, SIZE, SIZE, 3)).astype(np.uint8)


class PPOPath:
    """One gradient step of PPO per update, on data that stay the same."""

    kind = PPOSettings

    def __init__(self, encoder, jit_compile=False, **changes):
        self.settings = PPOSettings(
            num_envs=BATCH // 4, steps_per_update=4, num_epochs=1, minibatch_size=BATCH,
            max_gradient_norm=1e9, entropy_coefficient=0.0, jit_compile=jit_compile, **changes,
        )  # fmt: skip
        image = tensor_spec.BoundedTensorSpec((SIZE, SIZE, 3), tf.uint8, 0, 255, "image")
        action = tensor_spec.BoundedTensorSpec((), tf.int32, 0, ACTIONS - 1, "action")
        self.encoder = encoder
        self.agent = make_agent(self.settings, ts.time_step_spec(image), action, self.encoder)
        generator = tf.random.Generator.from_seed(0, alg="philox")
        self.learner = Learner(self.agent, self.settings, generator)
        weights = (*self.agent.actor_net.weights, *self.agent.value_net.weights)
        self.head = [v for v in weights if v.shape in ([8, ACTIONS], [8, 1])]
        self.scale = self.agent.optimizer.loss_scale
        self.trackables = {"optimizer": self.agent.optimizer, "actor": self.agent.actor_net}
        rng = np.random.default_rng(1)
        shape = (BATCH // 4, 5)
        self.experience = trajectory.Trajectory(
            step_type=np.ones(shape, np.int32),
            observation=images(2, *shape),
            action=rng.integers(0, ACTIONS, shape).astype(np.int32),
            policy_info={
                "dist_params": {"logits": np.zeros((*shape, ACTIONS), np.float32)},
                "value_prediction": np.zeros(shape, np.float32),
            },
            next_step_type=np.ones(shape, np.int32),
            reward=rng.normal(size=shape).astype(np.float32),
            discount=np.ones(shape, np.float32),
        )

    def step(self):
        return {name: float(value) for name, value in self.learner.update(self.experience).items()}

    def skipped(self, metrics):
        return metrics["skipped"], metrics.get("overflowed")

    def first_moments(self):
        optimizer = self.agent.optimizer
        return [
            optimizer._momentums[optimizer._index_dict[optimizer._var_key(v)]]
            for v in self.encoder.trainable_weights
        ]


class ReplayPath:
    """A learner step of Rainbow or SAC, on data that stay the same."""

    def _finish(self, learner, encoder, optimizer, variables, head):
        self.learner, self.encoder, self.head = learner, encoder, head
        self.scale, self.trackables = learner.loss_scale, learner.state
        self._slots = {v.ref(): i for i, v in enumerate(variables)}
        self._optimizer = optimizer
        self.logged = []
        learner._logger.write = self.logged.append
        rng = np.random.default_rng(1)
        data = types.Transition(
            observation=images(2, BATCH),
            action=self.actions(rng),
            reward=rng.normal(size=BATCH).astype(np.float32),
            discount=np.ones(BATCH, np.float32),
            next_observation=images(3, BATCH),
        )
        info = reverb.SampleInfo(
            key=tf.constant(range(BATCH), tf.uint64),
            probability=tf.fill([BATCH], tf.constant(0.5, tf.float64)),
            table_size=tf.fill([BATCH], tf.constant(100, tf.int64)),
            priority=tf.ones([BATCH], tf.float64),
            times_sampled=tf.ones([BATCH], tf.int32),
        )
        sample = reverb.ReplaySample(info=info, data=tf.nest.map_structure(tf.constant, data))
        learner.connect(iter([sample] * 100))

    def step(self):
        self.learner.step()
        return self.logged[-1] if self.logged else {}

    def skipped(self, metrics):
        return (self.learner.num_skipped,) * 2

    def first_moments(self):
        return [self._optimizer.m[self._slots[v.ref()]] for v in self.encoder.trainable_weights]


class RainbowPath(ReplayPath):
    kind = RainbowSettings

    def __init__(self, encoder, **changes):
        numbers = RainbowSettings(
            batch_size=BATCH, n_step=1, replay_capacity=100, min_replay_size=1, num_atoms=5,
            hidden_size=8, max_gradient_norm=1e9, **changes,
        )  # fmt: skip
        network = make_network(encoder, ACTIONS, numbers)
        spec = specs.Array((SIZE, SIZE, 3), np.uint8)
        learner = make_learner(network, spec, numbers)
        head = [
            mlp._layers[-1].w for mlp in (network._layers[1]._value, network._layers[1]._advantage)
        ]
        self._finish(learner, encoder, learner._optimizer, network.trainable_variables, head)

    def actions(self, rng):
        return rng.integers(0, ACTIONS, BATCH).astype(np.int32)


class SACPath(ReplayPath):
    kind = SACSettings

    def __init__(self, encoder, **changes):
        numbers = SACSettings(batch_size=BATCH, hidden_sizes=(8,), random_shift=0, **changes)
        spec = environment_spec(
            specs.Array((SIZE, SIZE, 3), np.uint8), specs.BoundedArray((2,), np.float32, -1, 1)
        )
        networks = SACNetworks(spec, encoder, numbers)
        self.networks = networks
        learner = networks.learner(numbers, seed=0)
        critics = networks.critics.trainable_variables
        head = [v for v in critics if v.shape == [8, 1]]
        self._finish(learner, encoder, learner._optimizers["critic"], critics, head)

    def actions(self, rng):
        return rng.uniform(-1, 1, (BATCH, 2)).astype(np.float32)


PATHS = {
    "ppo": PPOPath,
    "ppo, compiled": lambda *args, **kwargs: PPOPath(*args, jit_compile=True, **kwargs),
    "rainbow": RainbowPath,
    "sac": SACPath,
}
