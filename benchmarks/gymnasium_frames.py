"""Steps per second of a Gymnasium environment, and of PPO in it.

    python benchmarks/gymnasium_frames.py --gin_file=minatar.gin --output=minatar.json
    python benchmarks/gymnasium_frames.py --gin_file=atari.gin --env_name=ALE/Pong-v5

The environments are those of a launcher with this file, as many as PPO has there. Alone they are
stepped with random actions, by Gymnasium's own vector environment and as our batch of it, in turn.
A step of one environment counts as one, however many frames the simulator repeats its action for.

PPO is the launcher's, without files and evaluations; its parts are timed as in metrics.csv (act,
simulate, store, learn: docs/metrics.md). The first update (it includes tracing) does not count.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before TensorFlow loads; see the launchers.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import numpy as np
import tensorflow as tf
from absl import logging
from agents import measure_updates, warm_up

from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
from rldarts_tf.envs.gymnasium.vector import make_vector
from rldarts_tf.factory import BASELINES
from rldarts_tf.launch import gin_files
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.settings import EncoderSettings

ENCODERS = ("supernet", *BASELINES)


def measure_environments(
    suite: GymnasiumSuite, num_envs: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Steps per second of all environments together."""
    vector = make_vector(suite.settings, num_envs)
    batch = suite.make(num_envs, seed=0)
    vector.reset(seed=0)
    batch.reset()
    count = batch.action_spec().num_values
    actions = np.random.default_rng(0).integers(count, size=(args.steps, num_envs))

    def stepped(environment: Any) -> common.Call:
        def run() -> None:
            for action in actions:
                environment.step(action)

        return run

    try:
        timings = common.interleaved(
            {"vector": stepped(vector), "batch": stepped(batch)}, args.repeats
        )
    finally:
        vector.close()
        batch.close()
    steps = args.steps * num_envs
    return {
        "vector_steps_per_second": steps / timings["vector"].median,
        "batch_steps_per_second": steps / timings["batch"].median,
        "batch_times_vector": timings["batch"].times(timings["vector"]),
    }


def measure_ppo(
    encoder: Encoder, suite: GymnasiumSuite, settings: PPOSettings, updates: int
) -> dict[str, Any]:
    """Environment steps per second of training, and the share of each part."""
    tf.keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        place = StagePaths(Path(folder))
        with PPOProgram(encoder, suite, suite.fit(settings), 0, place) as program:
            program.start()
            warm_up(program)
            return measure_updates(program, updates)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """The environments alone, then PPO with each encoder."""
    logging.use_absl_handler()  # as in a launcher, where gin's search for files is not heard
    overrides = [("GymnasiumSettings.env", args.env_name)]
    gin_files.load([args.gin_file], args.gin_bindings, overrides)
    stages = gin_files.resolve(EncoderSettings, PPOSettings, GymnasiumSettings)
    _, settings, chosen = stages["baseline"]
    suite = GymnasiumSuite(chosen)
    common.progress("the environments alone")
    result = {
        "env": chosen.env,
        "num_envs": settings.num_envs,
        **measure_environments(suite, settings.num_envs, args),
        "ppo": {},
    }
    for name in args.encoders:
        options, settings, _ = stages["search" if name == "supernet" else "baseline"]
        result["ppo"][name] = measure_ppo(options.make(name), suite, settings, args.updates)
    return result


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--gin_file", default="minatar.gin", help="a path, or a file in gin/ (%(default)s)"
    )
    parser.add_argument("--env_name", help="an id (that of the file)")
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        help="one setting, such as 'PPOSettings.num_envs = 32'; may be repeated",
    )
    parser.add_argument(
        "--encoders",
        type=common.names_of(ENCODERS),
        default=["impala_cnn"],
        help=f"of PPO, any of {', '.join(ENCODERS)} (impala_cnn)",
    )
    parser.add_argument(
        "--steps", type=common.positive, default=200, help="measured at once (%(default)s)"
    )
    parser.add_argument(
        "--updates", type=common.positive, default=3, help="of PPO, measured (%(default)s)"
    )
    parser.add_argument("--repeats", type=common.positive, default=5, help="(%(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    result = measure(args)
    rows = [
        ("Gymnasium's vector environment", result["vector_steps_per_second"], None),
        ("as a batch", result["batch_steps_per_second"], None),
    ]
    for name, trained in result["ppo"].items():
        share = trained["share"]["simulate"] + trained["share"]["store"]
        rows.append((f"PPO, {name}", trained["env_steps_per_second"], 100 * share))
    common.print_table(
        f"{result['env']}, {result['num_envs']} environments",
        ("", "steps per second", "% simulate and store"),
        rows,
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
