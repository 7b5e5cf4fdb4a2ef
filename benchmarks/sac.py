"""SAC end to end on the DM Control Suite: environment steps per second, and where the time goes.

    python benchmarks/sac.py --encoder=pisac_cnn --output=sac.json

The program is that of the launcher, without its files and evaluations. The first learner steps warm
up (they include tracing) and do not count. The parts: act (the policy), simulate (MuJoCo and its
frames), insert (adders), sample (from replay), learn (the rest of a learner step).

The reference, in the same process: a learner step on one batch that is held, without replay. With
--beside=pisac_cnn,supernet_blocks learner steps of other encoders on that batch are timed in turn
with it.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before TensorFlow loads; see the launchers.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import common
import tensorflow as tf

from rldarts_tf.agents.off_policy.replay import environment_spec
from rldarts_tf.agents.sac.agent import SACNetworks
from rldarts_tf.agents.sac.program import SACProgram
from rldarts_tf.agents.settings import SACSettings
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.factory import make_encoder
from rldarts_tf.runs.paths import StagePaths

ENCODERS: dict[str, dict[str, Any]] = {
    "pisac_cnn": {"encoder": "pisac_cnn", "depths": [32, 32, 32, 32]},
    "supernet": {"search_space": "micro_pisac", "depths": [32]},
    "supernet_blocks": {"search_space": "micro_sac", "depths": [32, 32, 32]},
}
"""Arguments of `make_encoder`, with the depths of appendix A.3."""
PARTS = ("act", "simulate", "insert", "sample", "learn")


def encoder_of(name: str, args: argparse.Namespace) -> Encoder:
    """The encoder of that name."""
    options = dict(ENCODERS[name])
    if args.depths:
        options["depths"] = [int(part) for part in args.depths.split(",")]
    return make_encoder(**options, features=50, head="layer_norm")


def held_steps(
    program: SACProgram, held: Any, args: argparse.Namespace, settings: SACSettings
) -> dict[str, common.Call]:
    """Learner steps on one batch: of the program's own encoder first."""
    environment = program.environment
    spec = environment_spec(environment.observation_spec(), environment.action_spec())
    learners = {args.encoder: program.learner}
    for name in args.beside:
        learners[name] = SACNetworks(spec, encoder_of(name, args), settings).learner(settings, 0)
    return {
        name: lambda learner=learner: float(learner._step(held)["critic_loss"])
        for name, learner in learners.items()
    }


def measure(args: argparse.Namespace, settings: SACSettings) -> dict[str, Any]:
    """Environment steps per second, the split, and the reference."""
    tf.keras.utils.set_random_seed(0)
    encoder = encoder_of(args.encoder, args)
    suite = DMControlSuite(
        DMControlSettings(args.domain_name, args.task_name, image_size=args.image_side)
    )
    suite.check()
    with tempfile.TemporaryDirectory() as folder:
        program = SACProgram(encoder, suite, settings, 0, StagePaths(Path(folder)))
        try:
            program.start()
            learner = program.learner
            act = program._act = common.Clock(program._act)
            simulate = program.environment.step = common.Clock(program.environment.step)
            insert = program._adder.add = common.Clock(program._adder.add)
            sample = common.Clock(learner._samples.__next__)
            learner.connect(iter(sample, None), program.replay.client)
            learn = learner.step = common.Clock(learner.step)
            clocks = (act, simulate, insert, sample, learn)
            common.progress("the steps that warm up")
            while learner.num_steps < 2:
                program.advance(lambda: False)
            rows, wall, steps, learner_steps = [], 0.0, 0, learner.num_steps
            for index in range(args.updates):
                common.progress(f"update {index + 1} of {args.updates}")
                for clock in clocks:
                    clock.take()
                start = time.perf_counter()
                steps += program.advance(lambda: False)[0]
                wall += time.perf_counter() - start
                rows.append(dict(zip(PARTS, (clock.take() for clock in clocks))))
            learner_steps = learner.num_steps - learner_steps
            common.progress("the reference")
            held = next(iter(sample, None)).data
            timings = common.interleaved(held_steps(program, held, args, settings), args.repeats)
            bare = timings[args.encoder]
        finally:
            program.close()
    seconds = {part: sum(row[part] for row in rows) for part in PARTS}
    seconds["learn"] -= seconds["sample"]
    seconds["rest"] = wall - sum(seconds.values())
    return {
        "env_steps_per_second": steps / wall,
        "learner_steps_per_second": learner_steps / wall,
        "seconds": {part: value / len(rows) for part, value in seconds.items()},
        "share": {part: value / wall for part, value in seconds.items()},
        "learner_step_seconds": (seconds["learn"] + seconds["sample"]) / learner_steps,
        **bare.to_dict("bare_step"),
        "beside": {
            name: {**timings[name].to_dict("step"), "times": timings[name].times(bare)}
            for name in args.beside
        },
        "learner_step_times_bare": (seconds["learn"] + seconds["sample"])
        / learner_steps
        / bare.median,
        "peak_memory_bytes": common.peak_memory_bytes(),
        "settings": dataclasses.asdict(settings),
    }


def names_of_encoders(text: str) -> list[str]:
    """For the command line."""
    names = text.split(",")
    for name in names:
        if name not in ENCODERS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ENCODERS)}")
    return names


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--encoder", choices=ENCODERS, default="pisac_cnn", help="of %(choices)s (%(default)s)"
    )
    parser.add_argument(
        "--beside", type=names_of_encoders, default=[], help="other encoders, separated by commas"
    )
    parser.add_argument("--depths", help="such as 8,8,8; by default those of the paper")
    parser.add_argument("--domain_name", default="cartpole", help="(%(default)s)")
    parser.add_argument("--task_name", default="swingup", help="(%(default)s)")
    parser.add_argument(
        "--image_side", type=common.positive, default=64, help="pixels (%(default)s)"
    )
    for name, default, text in (
        ("num_envs", 2, "stepped together"),
        ("batch_size", 256, "of a learner step"),
        ("samples_per_insert", 256, "samples per environment step"),
        ("steps_per_update", 4, "of each environment, in what is measured at once"),
        ("updates", 5, "that are measured"),
        ("repeats", 5, "of the reference"),
    ):
        parser.add_argument(
            f"--{name}", type=common.positive, default=default, help=f"{text} (%(default)s)"
        )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    names = ("num_envs", "batch_size", "samples_per_insert", "steps_per_update")
    settings = SACSettings(**{name: getattr(args, name) for name in names}, min_replay_size=8)
    result = measure(args, settings)
    common.print_table(
        f"SAC, {args.encoder} on {args.domain_name}/{args.task_name}: "
        f"{result['env_steps_per_second']:,.1f} environment steps and "
        f"{result['learner_steps_per_second']:,.1f} learner steps per second",
        ("part", "s per update", "%"),
        [
            (part, seconds, 100 * result["share"][part])
            for part, seconds in result["seconds"].items()
        ],
    )
    print(
        f"a learner step takes {result['learner_step_times_bare']:.2f} times as long as one on a "
        f"batch that is held ({result['bare_step_seconds']:.3f} s)"
    )
    for name, beside in result["beside"].items():
        print(
            f"one of {name} takes {beside['step_seconds']:.3f} s: "
            f"{beside['times']:.2f} times as long"
        )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
