"""Environment steps that this project's Rainbow and Acme's DQN need for Catch.

    python benchmarks/catch.py --seeds=0,1,2 --output=catch.json

All learn in Acme's EnvironmentLoop, with the same supernet, batches, samples per insert, learning
rate and ε = 0.1. Counted are the environment steps until the greedy policy catches 97 of 100 balls,
tried every 20 episodes.

  rainbow    double Q, dueling, C51, prioritized replay, n-step returns
  dqn        Acme's: the same but for C51
  plain_dqn  Acme's with one-step returns, uniform replay and one stream of values: that of Mnih
             et al. 2015, but with double Q, which Acme always has
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))  # no package

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
import acme
import catching
import sonnet as snt
import tensorflow as tf
from acme.agents.tf import dqn
from acme.tf import networks
from acme.utils import loggers
from spaces import MICRO_2

import rldarts_tf
from rldarts_tf import acme_compat
from rldarts_tf.agents.rainbow import Rainbow, RainbowSettings
from rldarts_tf.envs.catch import Catch
from rldarts_tf.torso import Torso
from rldarts_tf.training.seeds import derived_seed

SETTINGS = RainbowSettings(**catching.SETTINGS)
CAUGHT = 0.97


def make_rainbow(spec: Any, supernet: rldarts_tf.Supernet, seed: int) -> tuple[Any, Callable]:
    """Makes Rainbow; returns it and its function images -> action values."""
    agent = Rainbow(spec, supernet, SETTINGS, seed=seed)
    return agent, lambda images: agent._learner._network(images).mean()


def make_dqn(
    spec: Any, supernet: rldarts_tf.Supernet, seed: int, plain: bool = False
) -> tuple[Any, Callable]:
    """Makes Acme's DQN; returns it and its function images -> action values."""
    del seed
    num_actions = spec.actions.num_values
    head = (
        snt.nets.MLP([SETTINGS.hidden_size, num_actions])
        if plain
        else networks.DuellingMLP(num_actions, [SETTINGS.hidden_size])
    )
    network = snt.Sequential([Torso(supernet), head])
    agent = dqn.DQN(
        spec,
        network,
        batch_size=SETTINGS.batch_size,
        samples_per_insert=SETTINGS.samples_per_insert,
        min_replay_size=SETTINGS.min_replay_size,
        max_replay_size=SETTINGS.replay_capacity,
        importance_sampling_exponent=0.0 if plain else SETTINGS.importance_exponent,
        priority_exponent=0.0 if plain else SETTINGS.priority_exponent,
        target_update_period=SETTINGS.target_update_period,
        n_step=1 if plain else SETTINGS.n_step,
        epsilon=tf.Variable(SETTINGS.epsilon_base),
        learning_rate=SETTINGS.learning_rate,
        discount=SETTINGS.discount,
        max_gradient_norm=SETTINGS.max_gradient_norm,
        logger=loggers.NoOpLogger(),
        checkpoint=False,
    )
    return agent, network


AGENTS = {
    "rainbow": make_rainbow,
    "dqn": make_dqn,
    "plain_dqn": functools.partial(make_dqn, plain=True),
}


def learn(name: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps (None if there were not enough) and seconds until it has learned."""
    tf.keras.utils.set_random_seed(seed)
    board = (args.rows, args.columns)
    environment = Catch(*board, seed=seed, miss_reward=0.0)
    supernet = rldarts_tf.Supernet(MICRO_2, [8], features=64)
    spec = acme.make_environment_spec(environment)
    agent, values = AGENTS[name](spec, supernet, seed)
    values = tf.function(values, autograph=False)
    first = derived_seed(seed, "evaluation environments")
    loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
    start, steps = time.perf_counter(), 0
    while steps < args.max_steps:
        for _ in range(20):
            steps += loop.run_episode()["episode_length"]
        # Of a hundred balls, with a reward of 1 for each that is caught.
        if catching.mean_return(values, first, board) >= CAUGHT:
            return {"seed": seed, "steps": steps, "seconds": time.perf_counter() - start}
    return {"seed": seed, "steps": None, "seconds": time.perf_counter() - start}


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--seeds",
        type=lambda text: [int(part) for part in text.split(",")],
        default="0,1,2",
        help="separated by commas (%(default)s)",
    )
    parser.add_count("--rows", 6, "of pixels")
    parser.add_count("--columns", 5, "of pixels")
    parser.add_count("--max_steps", 3000, "to give up after")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args: argparse.Namespace = make_parser().parse_args(argv)
    acme_compat.patch_reverb()
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in AGENTS}
    for seed in args.seeds:
        for name, runs in results.items():
            common.progress(f"{name}, seed {seed}")
            runs.append(learn(name, seed, args))
    common.print_table(
        f"Environment steps until {CAUGHT:.0%} of the balls are caught",
        ("agent", "median", *(f"seed {seed}" for seed in args.seeds)),
        [
            (
                name,
                statistics.median(run["steps"] or args.max_steps for run in runs),
                *(run["steps"] for run in runs),
            )
            for name, runs in results.items()
        ],
    )
    common.write_results(args, results)


if __name__ == "__main__":
    common.run(main)
