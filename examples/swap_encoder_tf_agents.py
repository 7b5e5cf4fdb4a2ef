"""The encoder of a TF-Agents PPO, swapped for a supernet, on a game of Gymnasium.

python examples/swap_encoder_tf_agents.py --game=MinAtar/Breakout-v1 --updates=60

Everything but the network is TF-Agents' own. At the end stands the cell of the moment.
"""

import argparse

import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.drivers import dynamic_step_driver
from tf_agents.environments import py_environment, tf_py_environment
from tf_agents.metrics import tf_metrics
from tf_agents.replay_buffers import tf_uniform_replay_buffer
from tf_agents.specs import ArraySpec, BoundedArraySpec
from tf_agents.trajectories import time_step as ts

from rldarts_tf.encoding_network import ActorDistributionNetwork, EncodingNetwork, ValueNetwork
from rldarts_tf.envs.gymnasium.batch import make_gymnasium
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.pictures.topology import genotype_text


class Games(py_environment.PyEnvironment):
    """Games of Gymnasium side by side."""

    batched = True
    batch_size = property(lambda self: self._games.batch_size)

    def __init__(self, game, size):
        super().__init__(handle_auto_reset=False)  # each begins its next episode by itself
        self._games = make_gymnasium(GymnasiumSettings(env=game), size, seed=0)

    def observation_spec(self):
        spec = self._games.observation_spec()
        return ArraySpec(spec.shape, spec.dtype)

    def action_spec(self):
        spec = self._games.action_spec()
        return BoundedArraySpec(spec.shape, spec.dtype, spec.minimum, spec.maximum)

    def _reset(self):
        return ts.TimeStep(*self._games.reset())

    def _step(self, action):
        return ts.TimeStep(*self._games.step(action))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="MinAtar/Breakout-v1")
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--num_envs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=64, help="per environment and update")
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()

    tf.get_logger().setLevel("ERROR")
    games = Games(arguments.game, arguments.num_envs)
    environment = tf_py_environment.TFPyEnvironment(games)
    observation_spec, action_spec = environment.observation_spec(), environment.action_spec()
    # Before the swap: tf_agents.networks.encoding_network.EncodingNetwork(observation_spec,
    #   conv_layer_params=[(16, 3, 1)], fc_layer_params=(128,))
    encoder = EncodingNetwork(observation_spec, search_space="micro", depths=[16])
    agent = ppo_clip_agent.PPOClipAgent(
        environment.time_step_spec(),
        action_spec,
        tf.keras.optimizers.Adam(1e-3),
        actor_net=ActorDistributionNetwork(observation_spec, action_spec, encoder),
        value_net=ValueNetwork(observation_spec, encoder),
        entropy_regularization=0.01,
        num_epochs=arguments.epochs,
        normalize_observations=False,
    )
    agent.initialize()
    agent.train = tf.function(agent.train)
    buffer = tf_uniform_replay_buffer.TFUniformReplayBuffer(
        agent.collect_data_spec, arguments.num_envs, max_length=arguments.steps + 1
    )
    returns = tf_metrics.AverageReturnMetric(batch_size=arguments.num_envs, buffer_size=100)
    driver = dynamic_step_driver.DynamicStepDriver(
        environment,
        agent.collect_policy,
        observers=[buffer.add_batch, returns],
        num_steps=arguments.num_envs * arguments.steps,
    )
    for update in range(arguments.updates):
        driver.run()
        loss = agent.train(buffer.gather_all()).loss
        buffer.clear()
        print(f"{update}: return {returns.result():.2f}, loss {loss:.3f}", flush=True)
    print(genotype_text(encoder.encoder.discretize()))


if __name__ == "__main__":
    main()
