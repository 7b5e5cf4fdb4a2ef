"""The encoder of a TF-Agents PPO, swapped for a supernet, on a game of Gymnasium.

python examples/swap_encoder_tf_agents.py --game=MinAtar/Breakout-v1 --updates=60

Agent, driver and buffer are TF-Agents' own. At the end stands the cell of the moment.
"""

import argparse

import tensorflow as tf
from tf_agents.agents.ppo import ppo_clip_agent
from tf_agents.drivers.dynamic_step_driver import DynamicStepDriver
from tf_agents.environments.tf_py_environment import TFPyEnvironment
from tf_agents.metrics import tf_metrics
from tf_agents.replay_buffers.tf_uniform_replay_buffer import TFUniformReplayBuffer

from rldarts_tf.encoding_network import ActorDistributionNetwork, EncodingNetwork, ValueNetwork
from rldarts_tf.envs.gymnasium.batch import make_gymnasium
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.py_environment import PyEnvironment
from rldarts_tf.pictures.topology import genotype_text

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--game", default="MinAtar/Breakout-v1")
parser.add_argument("--updates", type=int, default=60)
parser.add_argument("--num_envs", type=int, default=64)
parser.add_argument("--steps", type=int, default=64, help="per environment and update")
arguments = parser.parse_args()
num_envs, steps = arguments.num_envs, arguments.steps

tf.get_logger().setLevel("ERROR")
games = make_gymnasium(GymnasiumSettings(env=arguments.game), num_envs, seed=0)
environment = TFPyEnvironment(PyEnvironment(games))
observations, actions = environment.observation_spec(), environment.action_spec()
# Before the swap: tf_agents.networks.encoding_network.EncodingNetwork(observations,
#   conv_layer_params=[(16, 3, 1)], fc_layer_params=(128,))
encoder = EncodingNetwork(observations, search_space="micro", depths=[16])
agent = ppo_clip_agent.PPOClipAgent(
    environment.time_step_spec(),
    actions,
    tf.keras.optimizers.Adam(1e-3),
    actor_net=ActorDistributionNetwork(observations, actions, encoder),
    value_net=ValueNetwork(observations, encoder),
    entropy_regularization=0.01,
    num_epochs=3,
    normalize_observations=False,
)
agent.initialize()
train = tf.function(agent.train)
buffer = TFUniformReplayBuffer(agent.collect_data_spec, num_envs, max_length=steps + 1)
returns = tf_metrics.AverageReturnMetric(batch_size=num_envs, buffer_size=100)
observers = [buffer.add_batch, returns]
driver = DynamicStepDriver(environment, agent.collect_policy, observers, num_steps=num_envs * steps)
for update in range(arguments.updates):
    driver.run()
    loss = train(buffer.gather_all()).loss
    buffer.clear()
    print(f"{update}: return {returns.result():.2f}, loss {loss:.3f}", flush=True)
print(genotype_text(encoder.encoder.discretize()))
