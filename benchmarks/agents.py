"""A training program end to end: environment steps per second, and where the time goes.

    python benchmarks/agents.py ppo --encoder=classic --output=ppo.json
    python benchmarks/agents.py sac --gin_bindings="SACSettings.batch_size = 64"

The program is that of the launcher, without its files and evaluations, and times its own parts as
in metrics.csv (docs/metrics.md): act, simulate, store, sample (from replay), learn. The first
updates warm up (they include tracing) and do not count.

References in the same process: acting for one environment after another, over all at once; where
there is replay, a learner step on one batch that is held, and with --beside=NAME,NAME those of
other encoders on that batch, in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import gin
import tensorflow as tf

from rldarts_tf.agents.off_policy.program import OffPolicyProgram
from rldarts_tf.agents.registry import ALGORITHMS
from rldarts_tf.commands.inputs import integers
from rldarts_tf.encoders import Encoder
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.envs.suite import Suite
from rldarts_tf.errors import ConfigError, one_line
from rldarts_tf.factory import make_encoder
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.training.program import AgentProgram

ENCODERS: dict[str, dict[str, Any]] = {
    "impala_cnn": {"encoder": "impala_cnn"},
    "micro": {"search_space": "micro"},
    "classic": {"search_space": "classic"},
    # Appendix A.3; the last is in three of IMPALA's blocks.
    "pisac_cnn": {"encoder": "pisac_cnn", "depths": [32, 32, 32, 32]},
    "micro_pisac": {"search_space": "micro_pisac", "depths": [32]},
    "micro_sac": {"search_space": "micro_sac", "depths": [32, 32, 32]},
}
"""Arguments of `make_encoder`."""


@dataclasses.dataclass(frozen=True)
class Case:
    """How an algorithm is measured."""

    suite: type[Suite]
    encoder: str
    options: dict[str, Any]
    """Arguments of `make_encoder`."""
    bindings: tuple[str, ...]
    """Settings that differ from the defaults of the algorithm."""


CASES = {
    "ppo": Case(
        ProcgenSuite,
        "impala_cnn",
        {},
        ("PPOSettings.steps_per_update = 64", "PPOSettings.minibatch_size = 512"),
    ),
    "rainbow": Case(
        ProcgenSuite,
        "impala_cnn",
        {},
        (
            "ProcgenSettings.game = 'coinrun'",
            "RainbowSettings.min_replay_size = 256",
            "RainbowSettings.steps_per_update = 4",
        ),
    ),
    "sac": Case(
        DMControlSuite,
        "pisac_cnn",
        {"features": 50, "head": "layer_norm"},
        (
            "SACSettings.num_envs = 2",
            "SACSettings.min_replay_size = 8",
            "SACSettings.steps_per_update = 4",
        ),
    ),
}


class Benchmark:
    """Programs of one case, as the command line says.

    Args:
      args: of the command line.
      folder: of replay, of which nothing is saved.
    """

    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        case = CASES[args.algorithm]
        gin.clear_config()
        try:
            gin.parse_config([*case.bindings, *args.gin_bindings])
            self.suite = case.suite(case.suite.settings_class())
            self.settings = self.suite.fit(ALGORITHMS[args.algorithm].settings())
        except (ValueError, TypeError, SyntaxError) as error:
            reason, *_ = str(error).split("\n  In call to configurable")
            raise ConfigError(f"--gin_bindings: {one_line(reason)}") from None
        self.suite.check()
        self._program = ALGORITHMS[args.algorithm].program
        self._options = case.options
        self._chosen: dict[str, Any] = {"precision": args.precision}
        if args.depths is not None:
            self._chosen["depths"] = args.depths
        self._folder = folder

    def encoder(self, name: str) -> Encoder:
        """The encoder of a name, not yet built."""
        return make_encoder(**{**ENCODERS[name], **self._options, **self._chosen})

    def program(self, encoder: str) -> AgentProgram:
        """A new program, not yet started."""
        tf.keras.utils.set_random_seed(0)
        place = StagePaths(self._folder / encoder)
        return self._program(self.encoder(encoder), self.suite, self.settings, 0, place)


def never() -> bool:
    """Nothing stops the program."""
    return False


def warm_up(program: AgentProgram) -> float:
    """Advances until everything has been traced; returns the seconds."""
    common.progress("the updates that warm up")
    begun = time.perf_counter()
    while program.advance(never)[1].get("learner_steps", 2) < 2:
        pass
    return time.perf_counter() - begun


def measure_updates(program: AgentProgram, updates: int) -> dict[str, Any]:
    """Environment steps per second, and the seconds of each part."""
    rows, walls, total = [], [], 0
    program.stopwatch.take()
    for index in range(updates):
        common.progress(f"update {index + 1} of {updates}")
        begun = time.perf_counter()
        total += program.advance(never)[0]
        walls.append(time.perf_counter() - begun)
        parts = program.stopwatch.take()
        rows.append({**parts, "rest": walls[-1] - sum(parts.values())})
    seconds = {part: sum(row[part] for row in rows) for part in rows[0]}
    return {
        "env_steps_per_second": total / sum(walls),
        "env_steps_per_second_median": total / updates / statistics.median(walls),
        "env_steps_per_second_max": total / updates / min(walls),
        "seconds": {part: value / updates for part, value in seconds.items()},
        "share": {part: value / sum(walls) for part, value in seconds.items()},
        "updates": rows,
    }


def acting_calls(program: AgentProgram) -> dict[str, common.Call]:
    """The policy of evaluations, on one environment after another and on all at once."""
    policy = program.evaluation_policy(0)
    observations = program.environment.current_time_step().observation

    def one_by_one() -> None:
        for observation in observations:
            policy(observation[None])

    return {"one by one": one_by_one, "all": lambda: policy(observations)}


def held_steps(programs: dict[str, OffPolicyProgram], batch_size: int) -> dict[str, common.Call]:
    """A learner step of each program on one batch, which the first of them samples."""
    first, *_ = programs.values()
    sample = next(first.replay.sample(batch_size))
    for program in programs.values():
        program.learner.connect(itertools.repeat(sample))
    return {name: program.learner.step for name, program in programs.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Environment steps per second, the split, and the references."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        benchmark = Benchmark(args, folder)

        def made(encoder: str) -> Any:
            return stack.enter_context(benchmark.program(encoder))

        program = made(args.encoder)
        program.start()
        result = {"warm_up_seconds": warm_up(program)}
        warmed_up = program.learner.num_steps if isinstance(program, OffPolicyProgram) else 0
        result |= measure_updates(program, args.updates)
        result["peak_memory_bytes"] = common.peak_memory_bytes()
        result["settings"] = dataclasses.asdict(benchmark.settings)
        common.progress("the references")
        acting = common.interleaved(acting_calls(program), args.repeats)
        result["one_by_one_times_all"] = acting["one by one"].times(acting["all"])
        if not isinstance(program, OffPolicyProgram):
            return result
        # Before the steps on the batch that is held.
        steps = program.learner.num_steps - warmed_up
        if not steps:
            raise ConfigError("--updates: too few, no learner step was measured")
        learning = args.updates * (result["seconds"]["learn"] + result["seconds"]["sample"])
        programs = {args.encoder: program, **{name: made(name) for name in args.beside}}
        calls = held_steps(programs, benchmark.settings.batch_size)
        held = common.interleaved(calls, args.repeats)
        bare = held[args.encoder]
        return {
            **result,
            "learner_steps_per_second": steps / args.updates / sum(result["seconds"].values()),
            "learner_step_seconds": learning / steps,
            **bare.to_dict("held_step"),
            "learner_step_times_held": learning / steps / bare.median,
            "beside": {
                name: {**held[name].to_dict("step"), "times": held[name].times(bare)}
                for name in args.beside
            },
        }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    parser.add_argument("algorithm", choices=CASES, help="one of %(choices)s")
    parser.add_argument(
        "--encoder", choices=ENCODERS, help="one of %(choices)s (that of the algorithm's paper)"
    )
    parser.add_argument(
        "--beside",
        type=common.names_of(tuple(ENCODERS)),
        default=[],
        help="other encoders whose learner steps are timed, where there is replay",
    )
    parser.add_argument(
        "--depths", type=integers, help="channels per block (16,16,16, or those of the paper)"
    )
    parser.add_precision()
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        help="one setting, such as 'PPOSettings.num_envs = 32'; may be repeated",
    )
    parser.add_count("--updates", 3, "that are measured")
    parser.add_count("--repeats", 5, "of the references")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    parser = make_parser()
    args = parser.parse_args(argv)
    args.encoder = args.encoder or CASES[args.algorithm].encoder
    if args.beside and args.algorithm == "ppo":
        parser.error("--beside: ppo has no replay")
    result = measure(args)
    common.print_table(
        f"{args.algorithm}, {args.encoder}: {result['env_steps_per_second']:,.1f} environment "
        f"steps per second (median of updates {result['env_steps_per_second_median']:,.1f}, best "
        f"{result['env_steps_per_second_max']:,.1f})",
        ("part", "s per update", "%"),
        [(part, s, 100 * result["share"][part]) for part, s in result["seconds"].items()],
    )
    print(
        "acting for one environment after another takes "
        f"{result['one_by_one_times_all']:.1f} times as long as for all at once"
    )
    if "held_step_seconds" in result:
        print(
            f"a learner step takes {result['learner_step_times_held']:.2f} times as long as one on "
            f"a batch that is held ({result['held_step_seconds']:.3f} s)"
        )
    for name, beside in result.get("beside", {}).items():
        print(f"one of {name}: {beside['step_seconds']:.3f} s, {beside['times']:.2f} times as long")
    common.write_results(args, result)


if __name__ == "__main__":
    common.run(main)
