"""PPO end to end on Procgen: environment steps per second, and where the time goes.

    python benchmarks/ppo.py --preset=impala --output=ppo.json

Collector, actor and learner are those of the training program, without its files and evaluations.
One update warms up (it includes tracing) and does not count. The parts: act (the policy), simulate
(Procgen), store (the rest of the collection) and learn (the update).
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

# Before TensorFlow loads; see the launchers.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import tensorflow as tf
from tf_agents.specs import tensor_spec

import rldarts_tf
from rldarts_tf.agents.ppo.agent import Actor, Learner, make_agent, on_host
from rldarts_tf.agents.ppo.collect import Collector
from rldarts_tf.agents.settings import PPOSettings
from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.envs.reward import RewardNormalizer

ENCODERS = ("impala_cnn", "micro", "classic")
PARTS = ("act", "simulate", "store", "learn")
PRESETS = {
    "impala": {
        "encoder": "impala_cnn",
        "steps_per_update": 64,
        "num_epochs": 3,
        "minibatch_size": 512,
    },
    "supernet": {
        "encoder": "classic",
        "steps_per_update": 256,
        "num_epochs": 1,
        "minibatch_size": 256,
    },
}


class Training:
    """One encoder on one game, put together as the training program does.

    Args:
      encoder: not yet built.
      settings: the numbers of PPO.
      game: the game.
      seed: of everything random.
    """

    def __init__(
        self, encoder: rldarts_tf.Encoder, settings: PPOSettings, game: str, seed: int = 0
    ) -> None:
        tf.keras.utils.set_random_seed(seed)
        suite = ProcgenSuite(ProcgenSettings(game))
        environment = suite.make(settings.num_envs, seed)
        agent = make_agent(
            settings,
            tensor_spec.from_spec(environment.time_step_spec()),
            tensor_spec.from_spec(environment.action_spec()),
            encoder,
        )
        generator = tf.random.Generator.from_seed(seed, alg="philox")
        self._learner = Learner(agent, settings, generator)
        self._act = common.Clock(Actor(agent, generator))
        # On the object itself, so that the collector keeps the environment that it expects.
        self._simulate = environment.step = common.Clock(environment.step)
        self._collector = Collector(
            environment,
            self._act,
            settings.steps_per_update,
            RewardNormalizer(settings.num_envs, settings.reward_discount, settings.reward_clip),
        )
        self._environment = environment

    def update(self) -> dict[str, float]:
        """One update; the seconds of its parts."""
        self._act.take()
        self._simulate.take()
        start = time.perf_counter()
        experience = self._collector.collect()
        collected = time.perf_counter()
        losses = self._learner.update(on_host(experience))
        tf.nest.map_structure(float, losses)  # waits for the numbers
        learned = time.perf_counter()
        act, simulate = self._act.take(), self._simulate.take()
        store = collected - start - act - simulate
        return dict(zip(PARTS, (act, simulate, store, learned - collected)))

    def close(self) -> None:
        """Ends the simulator."""
        self._environment.close()


def measure(args: argparse.Namespace, settings: PPOSettings) -> dict[str, Any]:
    """Environment steps per second and the split."""
    depths = args.depths
    if args.encoder == "impala_cnn":
        encoder = rldarts_tf.ImpalaCNN(depths)
    else:
        encoder = rldarts_tf.Supernet(args.encoder, depths)
    training = Training(encoder, settings, args.game)
    try:
        common.progress("the update that warms up")
        warm_up = sum(training.update().values())
        updates = []
        for index in range(args.updates):
            common.progress(f"update {index + 1} of {args.updates}")
            updates.append(training.update())
    finally:
        training.close()
    totals = [sum(update.values()) for update in updates]
    parts = {part: sum(update[part] for update in updates) for part in PARTS}
    return {
        "env_steps_per_second": args.updates * settings.batch_size / sum(totals),
        "env_steps_per_second_median": settings.batch_size / statistics.median(totals),
        "env_steps_per_second_max": settings.batch_size / min(totals),
        "seconds": {part: seconds / args.updates for part, seconds in parts.items()},
        "share": {part: seconds / sum(totals) for part, seconds in parts.items()},
        "updates": updates,
        "warm_up_seconds": warm_up,
        "peak_memory_bytes": common.peak_memory_bytes(),
        "settings": dataclasses.asdict(settings),
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="impala",
        help="impala: IMPALA-CNN, 64 steps, 3 epochs, minibatch 512; supernet: Classic, 256 steps, "
        "1 epoch, minibatch 256 (%(default)s). The flags below override it.",
    )
    parser.add_argument("--encoder", choices=ENCODERS, help="of %(choices)s")
    parser.add_argument("--steps_per_update", type=common.positive, help="of each environment")
    parser.add_argument("--num_epochs", type=common.positive, help="passes over an update's data")
    parser.add_argument("--minibatch_size", type=common.positive, help="of a gradient step")
    parser.add_depths()
    parser.add_argument(
        "--game", choices=games.GAMES, metavar="GAME", default="starpilot", help="(%(default)s)"
    )
    parser.add_argument(
        "--num_envs", type=common.positive, default=64, help="stepped together (%(default)s)"
    )
    parser.add_argument(
        "--updates", type=common.positive, default=3, help="that are measured (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    for name, value in PRESETS[args.preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    names = ("num_envs", "steps_per_update", "num_epochs", "minibatch_size")
    settings = PPOSettings(**{name: getattr(args, name) for name in names})
    result = measure(args, settings)
    common.print_table(
        f"PPO, {args.encoder} on {args.game}: {result['env_steps_per_second']:,.0f} environment "
        f"steps per second (median of updates {result['env_steps_per_second_median']:,.0f}, best "
        f"{result['env_steps_per_second_max']:,.0f})",
        ("part", "s per update", "%"),
        [(part, result["seconds"][part], 100 * result["share"][part]) for part in PARTS],
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
