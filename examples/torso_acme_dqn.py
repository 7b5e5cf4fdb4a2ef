"""A supernet as the torso of Acme's DQN, on Catch.

python examples/torso_acme_dqn.py --episodes=400

Agent and loop are Acme's own. At the end stands the cell of the moment.
"""

import argparse

import acme
import numpy as np
import sonnet as snt
import tensorflow as tf
from acme.agents.tf import dqn

from rldarts_tf.acme_compat import patch_reverb
from rldarts_tf.envs.catch import Catch
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.torso import Torso

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--episodes", type=int, default=400)
parser.add_argument("--batch_size", type=int, default=32)
arguments = parser.parse_args()

patch_reverb()  # dm-acme 0.2.2 beside today's Reverb
environment = Catch(rows=8, columns=5, seed=0)
spec = acme.make_environment_spec(environment)
# Before the swap: acme.tf.networks.AtariTorso()
torso = Torso(search_space="micro", depths=[8], features=64)
agent = dqn.DQN(
    spec,
    snt.Sequential([torso, snt.nets.MLP([64, spec.actions.num_values])]),
    batch_size=arguments.batch_size,
    samples_per_insert=arguments.batch_size,
    min_replay_size=100,
    target_update_period=50,
    epsilon=tf.Variable(0.1),
    learning_rate=1e-3,
    checkpoint=False,
    logger=acme.utils.loggers.NoOpLogger(),
)
loop = acme.EnvironmentLoop(environment, agent, logger=acme.utils.loggers.NoOpLogger())
returns = []
for episode in range(1, arguments.episodes + 1):
    returns.append(loop.run_episode()["episode_return"])
    if episode % 20 == 0:
        print(f"{episode}: mean return of 20 episodes {np.mean(returns[-20:]):.2f}", flush=True)
print(genotype_text(torso.encoder.discretize()))
