"""SAC from states, without an encoder: what the agent itself learns on the DM Control Suite.

    python benchmarks/sac_states.py --domain_name=cartpole --task_name=balance --steps=10000

The agent is `rldarts_tf.agents.sac.agent.SAC` in Acme's EnvironmentLoop, with the settings of
`algorithms/sac.gin`. Printed is the return of greedy episodes as it learns, beside that of a random
player; a reward is at most 1 for each of the 1000 steps of an episode.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
import acme
import numpy as np
import sonnet as snt
import tensorflow as tf
from acme.utils import loggers

from rldarts_tf.agents.sac import SAC, SACSettings
from rldarts_tf.envs.dm_control.environment import DMControl
from rldarts_tf.training.seeds import derived_seed


def mean_return(environment: DMControl, act: Callable[[Any], Any], episodes: int) -> float:
    """Mean return of whole episodes."""
    returns = []
    for _ in range(episodes):
        step, total = environment.reset(), 0.0
        while not step.last():
            step = environment.step(act(step.observation))
            total += float(step.reward)
        returns.append(total)
    return statistics.mean(returns)


def learn(args: argparse.Namespace) -> dict[str, Any]:
    """Returns over environment steps."""

    def make(seed: int) -> DMControl:
        return DMControl(
            args.domain_name,
            args.task_name,
            seed=seed,
            action_repeat=args.action_repeat,
            observations="state",
        )

    tf.keras.utils.set_random_seed(args.seed)
    environment = make(args.seed)
    settings = SACSettings(
        batch_size=args.batch_size,
        samples_per_insert=args.batch_size,
        min_replay_size=min(SACSettings.min_replay_size, args.steps // 2),
    )
    agent = SAC(acme.make_environment_spec(environment), snt.Flatten(), settings, seed=args.seed)
    policy = agent.networks.policy(None, greedy=True)
    greedy = tf.function(lambda state: policy(state[None])[0], autograph=False)
    loop = acme.EnvironmentLoop(environment, agent, logger=loggers.NoOpLogger())
    rng = np.random.default_rng(args.seed)
    size = environment.action_spec().shape
    evaluation = make(derived_seed(args.seed, "evaluation environments"))
    curve = [
        {
            "steps": 0,
            "return": mean_return(
                evaluation, lambda state: rng.uniform(-1, 1, size), args.episodes
            ),
            "player": "random",
        }
    ]
    steps, asked, start = 0, 0, time.perf_counter()
    while steps < args.steps:
        steps += loop.run_episode()["episode_length"]
        if steps // args.interval > asked or steps >= args.steps:
            asked = steps // args.interval
            value = mean_return(
                evaluation, lambda state: greedy(tf.constant(state)).numpy(), args.episodes
            )
            common.progress(f"{steps:,} of {args.steps:,} steps: return {value:.0f}")
            curve.append({"steps": steps, "return": value, "player": "SAC"})
    agent.close()
    return {"curve": curve, "seconds": time.perf_counter() - start}


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument("--domain_name", default="cartpole", help="(%(default)s)")
    parser.add_argument("--task_name", default="balance", help="(%(default)s)")
    parser.add_argument("--action_repeat", type=common.positive, help="by default that of the task")
    parser.add_count("--steps", 10_000, "of the environment")
    parser.add_count("--interval", 2_000, "steps between two evaluations")
    parser.add_count("--episodes", 5, "in an evaluation")
    parser.add_count("--batch_size", 256, "of a learner step; there is one for each step")
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Learns, prints and writes."""
    args = make_parser().parse_args(argv)
    result = learn(args)
    common.print_table(
        f"{args.domain_name}/{args.task_name} from states, seed {args.seed}: "
        f"{result['seconds']:,.0f} s",
        ("steps", "player", "return"),
        [(point["steps"], point["player"], point["return"]) for point in result["curve"]],
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
