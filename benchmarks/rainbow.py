"""Rainbow end to end on Procgen: environment steps per second, and where the time goes.

    python benchmarks/rainbow.py --encoder=micro --output=rainbow.json

The program is that of the launcher, without its files and evaluations. The first learner steps warm
up (they include tracing) and do not count. The parts: act (the policy), simulate (Procgen), insert
(n-step adders), sample (from replay), learn (the rest of a learner step: gradients and priorities).

Two references run in the same process: a learner step on one batch that is held, without replay
around it; and acting for one environment after another, as Acme's own actor does.
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

import rldarts_tf
from rldarts_tf.agents.rainbow.program import RainbowProgram
from rldarts_tf.agents.settings import RainbowSettings
from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.runs.paths import StagePaths

ENCODERS = ("impala_cnn", "micro", "classic")
PARTS = ("act", "simulate", "insert", "sample", "learn")


class Training:
    """One encoder on one game, with a clock around each part of the launcher's program.

    Args:
      encoder: not yet built.
      settings: the numbers of Rainbow.
      game: the game.
      folder: where nothing is written, as no checkpoint is made.
      seed: of everything random.
    """

    def __init__(
        self,
        encoder: rldarts_tf.Encoder,
        settings: RainbowSettings,
        game: str,
        folder: str,
        seed: int = 0,
    ) -> None:
        tf.keras.utils.set_random_seed(seed)
        suite = ProcgenSuite(ProcgenSettings(game))
        settings = settings.for_games(suite.games)
        program = RainbowProgram(encoder, suite, settings, seed, StagePaths(Path(folder)))
        program.start()
        self.program, self.settings = program, settings
        learner = program.learner
        self._act = program._act = common.Clock(program._act)
        self._simulate = program.environment.step = common.Clock(program.environment.step)
        self._insert = program._adder.add = common.Clock(program._adder.add)
        self._sample = common.Clock(learner._samples.__next__)
        learner.connect(iter(self._sample, None), program.replay.client)
        self._learn = learner.step = common.Clock(learner.step)

    def advance(self) -> tuple[int, dict[str, float]]:
        """One update: environment steps, and the seconds of its parts."""
        clocks = (self._act, self._simulate, self._insert, self._sample, self._learn)
        for clock in clocks:
            clock.take()
        steps, _ = self.program.advance(lambda: False)
        seconds = dict(zip(PARTS, (clock.take() for clock in clocks)))
        seconds["learn"] -= seconds["sample"]
        return steps, seconds

    def bare_step(self) -> common.Call:
        """A learner step on one batch that is held."""
        sample = next(iter(self._sample, None))
        return lambda: float(self.program.learner._step(sample)[0]["loss"])

    def act_for_all(self) -> common.Call:
        """The policy on all environments at once."""
        frames = self.program.environment.current_time_step().observation
        return lambda: self._act(frames)[0].numpy()

    def act_one_by_one(self) -> common.Call:
        """The policy on one environment after another."""
        frames = self.program.environment.current_time_step().observation

        def act() -> None:
            # The greedy policy: the other one has an ε of each environment.
            for frame in frames:
                self.program._act_evaluating(frame[None])[0].numpy()

        return act


def measure(args: argparse.Namespace, settings: RainbowSettings) -> dict[str, Any]:
    """Environment steps per second, the split, and the references."""
    if args.encoder == "impala_cnn":
        encoder = rldarts_tf.ImpalaCNN(args.depths)
    else:
        encoder = rldarts_tf.Supernet(args.encoder, args.depths)
    with tempfile.TemporaryDirectory() as folder:
        training = Training(encoder, settings, args.game, folder)
        try:
            common.progress("the steps that warm up")
            while training.program.learner.num_steps < 2:
                training.advance()
            rows, wall = [], []
            for index in range(args.updates):
                common.progress(f"update {index + 1} of {args.updates}")
                start = time.perf_counter()
                rows.append(training.advance())
                wall.append(time.perf_counter() - start)
            common.progress("the references")
            bare = common.interleaved({"step": training.bare_step()}, args.repeats)["step"]
            acting = common.interleaved(
                {"one by one": training.act_one_by_one(), "all": training.act_for_all()},
                args.repeats,
            )
        finally:
            training.program.close()
    steps = sum(steps for steps, _ in rows)
    seconds = {part: sum(row[part] for _, row in rows) for part in PARTS}
    seconds["rest"] = sum(wall) - sum(seconds.values())
    learner_steps = steps * settings.samples_per_insert / settings.batch_size
    return {
        "env_steps_per_second": steps / sum(wall),
        "samples_per_second": learner_steps * settings.batch_size / sum(wall),
        "seconds": {part: value / len(rows) for part, value in seconds.items()},
        "share": {part: value / sum(wall) for part, value in seconds.items()},
        "learner_step_seconds": (seconds["learn"] + seconds["sample"]) / learner_steps,
        **bare.to_dict("bare_step"),
        "learner_step_times_bare": (seconds["learn"] + seconds["sample"])
        / learner_steps
        / bare.median,
        "one_by_one_times_all": acting["one by one"].times(acting["all"]),
        "peak_memory_bytes": common.peak_memory_bytes(),
        "settings": dataclasses.asdict(settings),
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument(
        "--encoder", choices=ENCODERS, default="impala_cnn", help="of %(choices)s (%(default)s)"
    )
    parser.add_depths()
    parser.add_argument(
        "--game", choices=games.GAMES, metavar="GAME", default="coinrun", help="(%(default)s)"
    )
    parser.add_argument(
        "--num_envs", type=common.positive, default=64, help="stepped together (%(default)s)"
    )
    parser.add_argument(
        "--batch_size", type=common.positive, default=256, help="of a learner step (%(default)s)"
    )
    parser.add_argument(
        "--samples_per_insert",
        type=common.positive,
        default=4,
        help="samples per environment step (%(default)s)",
    )
    parser.add_argument(
        "--steps_per_update",
        type=common.positive,
        default=4,
        help="of each environment, in what is measured at once (%(default)s)",
    )
    parser.add_argument(
        "--updates", type=common.positive, default=5, help="that are measured (%(default)s)"
    )
    parser.add_argument(
        "--repeats", type=common.positive, default=5, help="of the references (%(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    names = ("num_envs", "batch_size", "samples_per_insert", "steps_per_update")
    settings = RainbowSettings(
        **{name: getattr(args, name) for name in names}, min_replay_size=args.batch_size
    )
    result = measure(args, settings)
    common.print_table(
        f"Rainbow, {args.encoder} on {args.game}: {result['env_steps_per_second']:,.1f} "
        f"environment steps per second, {result['samples_per_second']:,.0f} samples per second",
        ("part", "s per update", "%"),
        [
            (part, seconds, 100 * result["share"][part])
            for part, seconds in result["seconds"].items()
        ],
    )
    print(
        f"a learner step takes {result['learner_step_times_bare']:.2f} times as long as one on a "
        f"batch that is held ({result['bare_step_seconds']:.3f} s);\nacting for one environment "
        f"after another takes {result['one_by_one_times_all']:.1f} times as long as for all at once"
    )
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
