"""PPO end to end beside its peers, in turn: CleanRL's, and the form of the authors' release.

    python benchmarks/peers.py --cleanrl=CHECKOUT --cleanrl_python=PYTHON --output=peers.json
    python benchmarks/peers.py --networks=micro,classic --epochs=1 --minibatch_size=256

  impala_cnn      ours beside "cleanrl": its script ppo_procgen.py as published, run as it is
  micro, classic  supernets, ours beside "stack" (plain.py) in the same PPO

CHECKOUT is a folder with cleanrl/ppo_procgen.py: a checkout, or the folder that `pip install
--no-deps cleanrl==1.2.0` put it in. PYTHON is the interpreter of an environment with what the
script imports (torch, gym 0.23, procgen, tensorboard) and, for MinAtar, gymnasium and minatar.

All have the same environments, steps, epochs, minibatches and threads, in float32 on the CPU, and
IMPALA-CNN the same layers (16, 32, 32 channels, 256 features). "procgen" is starpilot, easy; with
"minatar" (Breakout, 10 x 10 x 4) CleanRL's script gets another `procgen` to import, which steps the
vector environment that ours has (minatar_as_procgen.py). Ours is the program of the launcher
without its files. Each runs as a process of its own in each round, and ends once it has used
`--seconds` of CPU time since its first update, which traces and compiles and does not count.
Steps per second of CPU time are changed less by what else the machine does than steps per second.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import common  # first: it sets what TensorFlow reads when it loads

# isort: split
import cleanrl_ppo
import printed_updates
from plain import PlainEncoder
from printed_updates import Speed, Training

import rldarts_tf
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.ppo.program import PPOProgram
from rldarts_tf.commands.inputs import integers
from rldarts_tf.envs.gymnasium.suite import GymnasiumSuite
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.envs.suite import Suite
from rldarts_tf.runs.paths import StagePaths

PACKAGE, CLEANRL, STACK = "package", "cleanrl", "stack"
PEERS = {"impala_cnn": CLEANRL, "micro": STACK, "classic": STACK}
"""By network, what ours is timed beside."""
OWN_UPDATE = re.compile(r"environment steps: (\d+)")
THREADS = (
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)


@dataclasses.dataclass(frozen=True)
class Frames:
    """Environments, the shape of their images, and the channels of supernets there."""

    suite: type[Suite]
    shape: tuple[int, int, int]
    depths: tuple[int, ...]


FRAMES = {
    "procgen": Frames(ProcgenSuite, (64, 64, 3), (16, 16, 16)),
    "minatar": Frames(GymnasiumSuite, (10, 10, 4), (16,)),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """What ours and a peer both do."""

    frames: str
    network: str
    threads: int

    def __str__(self) -> str:
        return f"{self.frames}, {self.network}, threads: {self.threads}"


def measure(case: Case, form: str, args: argparse.Namespace) -> Speed:
    """The speed of one of the forms, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            **os.environ,
            **dict.fromkeys(THREADS, str(case.threads)),
            "CUDA_VISIBLE_DEVICES": "",
        }
        command, update = own_command(case, form, args), OWN_UPDATE
        if form == CLEANRL:
            command, update = cleanrl_ppo.make_command(args), cleanrl_ppo.UPDATE
            variables |= cleanrl_ppo.make_place(folder, case.frames)
        training = Training(command, variables, update, batch=args.num_envs * args.steps)
        return printed_updates.measure(training, folder, args.seconds)


def own_command(case: Case, form: str, args: argparse.Namespace) -> list[str]:
    """Runs `train` below."""
    flags = ("num_envs", "steps", "epochs", "minibatch_size")
    return [
        *(sys.executable, "-u", os.path.abspath(__file__), f"--form={form}"),
        *(f"--frames={case.frames}", f"--networks={case.network}", f"--threads={case.threads}"),
        *(f"--{flag}={getattr(args, flag)}" for flag in flags),
    ]


def train(case: Case, form: str, settings: PPOSettings) -> None:
    """Trains until the process is ended, and prints the steps of each update."""
    frames = FRAMES[case.frames]
    suite = frames.suite(frames.suite.settings_class())
    encoder = make_encoder(case.network, form, frames)
    stage = StagePaths(Path("nothing is written"))
    with PPOProgram(encoder, suite, suite.fit(settings), 0, stage) as program:
        program.start()
        while True:
            print("environment steps:", program.advance(lambda: False)[0])


def make_encoder(network: str, form: str, frames: Frames) -> rldarts_tf.Encoder:
    """The encoder, a supernet in the form that is asked for."""
    if network == "impala_cnn":
        return rldarts_tf.ImpalaCNN([16, 32, 32])  # as in CleanRL
    if form == STACK:
        return PlainEncoder(frames.shape, form, network, frames.depths)
    return rldarts_tf.Supernet(network, frames.depths)


def compare(case: Case, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours and its peer in turn; how many times as fast ours is, as medians over the rounds."""
    speeds: dict[str, list[Speed]] = {PACKAGE: [], PEERS[case.network]: []}
    for round_ in range(args.rounds):
        for form, measured in speeds.items():
            common.progress(f"{form}, {case}, round {round_ + 1}")
            measured.append(measure(case, form, args))
    wall = timings(speeds, "seconds")
    cpu = timings(speeds, "cpu_seconds")
    return [
        {
            **dataclasses.asdict(case),
            "form": form,
            "steps_per_second": 1 / wall[form].median,
            "steps_per_cpu_second": 1 / cpu[form].median,
            "package_times": wall[form].times(wall[PACKAGE]),
            "package_times_cpu": cpu[form].times(cpu[PACKAGE]),
            "rounds": [dataclasses.asdict(speed) for speed in measured],
        }
        for form, measured in speeds.items()
    ]


def timings(speeds: Mapping[str, Sequence[Speed]], field: str) -> dict[str, common.Timing]:
    """The seconds of one environment step, by form and round."""
    return {
        form: common.Timing([getattr(speed, field) / speed.steps for speed in measured])
        for form, measured in speeds.items()
    }


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    cleanrl_ppo.add_arguments(parser)
    for flag, names, default in (
        ("--networks", tuple(PEERS), "impala_cnn"),
        ("--frames", tuple(FRAMES), ",".join(FRAMES)),
    ):
        text = f"of {', '.join(names)} ({default})"
        parser.add_argument(flag, type=common.names_of(names), default=default, help=text)
    parser.add_argument("--threads", type=integers, default="1", help="such as 1,2 (%(default)s)")
    parser.add_count("--num_envs", 64, "environments")
    parser.add_count("--steps", 32, "of each environment in an update")
    parser.add_count("--epochs", 3, "of an update")
    parser.add_count("--minibatch_size", 512, "transitions in a gradient step")
    parser.add_count("--seconds", 20, "of CPU time that are measured, at least")
    parser.add_count("--rounds", 3)
    parser.add_argument("--form", choices=(PACKAGE, STACK), help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints and writes."""
    args = make_parser().parse_args(argv)
    settings = PPOSettings(args.num_envs, args.steps, args.epochs, args.minibatch_size)
    cases = list(
        itertools.starmap(Case, itertools.product(args.frames, args.networks, args.threads))
    )
    if args.form is not None:
        train(cases[0], args.form, settings)
    if "impala_cnn" in args.networks:
        cleanrl_ppo.make_command(args)  # before anything is measured
    results: list[dict[str, Any]] = []
    for case in cases:
        results += compare(case, args)
        common.write_results(args, results)  # it may be long until the next
    common.print_table(
        "PPO end to end: environment steps, and how many times as fast ours is",
        ("frames, network, form", "threads", "per s", "per CPU s", "ours, times", "by CPU time"),
        [
            (
                f"{row['frames']}, {row['network']}, {row['form']}",
                *(row["threads"], row["steps_per_second"], row["steps_per_cpu_second"]),
                *(row["package_times"], row["package_times_cpu"]),
            )
            for row in results
        ],
    )


if __name__ == "__main__":
    common.run(main)
