"""`watch`: a trained policy at play, as a video."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rldarts_tf.commands.inputs import add_policy_arguments, positive
from rldarts_tf.files import write_bytes
from rldarts_tf.runs import summary
from rldarts_tf.runs.paths import RunPaths

if TYPE_CHECKING:
    import numpy as np

    from rldarts_tf.envs.suite import Suite
    from rldarts_tf.export.playing import Episode

HELP = "play a trained policy and write an MP4 or GIF, which the run's report shows"
EXAMPLES = """
python -m rldarts_tf watch runs/starpilot
python -m rldarts_tf watch runs/starpilot --stage=baseline --episodes=3
python -m rldarts_tf watch runs/starpilot --output=starpilot.gif
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    add_policy_arguments(parser)
    parser.add_argument(
        "--episodes",
        type=positive,
        default=1,
        help="whole episodes of each game (default: %(default)s)",
    )
    parser.add_argument(
        "--max_steps",
        type=positive,
        default=2000,
        help="actions after which an episode is stopped (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the simulator (default: 0)")
    parser.add_argument(
        "--sampled",
        action="store_true",
        help="draw actions by PPO's probabilities, as its evaluations do (default: greedy)",
    )
    parser.add_argument(
        "--fps", type=positive, default=20, help="actions per second (default: %(default)s)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="an .mp4 or .gif file (default: STAGE.mp4 in the run directory, where `report` finds "
        "it, as it does STAGE.gif)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Plays, writes the video and prints a table."""
    from rldarts_tf.pictures import video

    root = Path(arguments.run_dir)
    output = arguments.output or RunPaths(root).video_path(arguments.stage)
    file_format = video.format_of(output)

    from rldarts_tf.export.playing import play
    from rldarts_tf.export.policies import load_policy

    policy = load_policy(root, arguments.stage, arguments.step)
    episodes = play(
        policy, arguments.episodes, arguments.seed, arguments.max_steps, arguments.sampled
    )
    pictures = _pictures(episodes, policy.suite)
    write_bytes(output, video.encode(pictures, file_format, arguments.fps))
    acting = "sampled" if arguments.sampled else "greedy"
    rows = [("policy", f"{type(policy.encoder).__name__} at step {policy.step:,}, {acting}")]
    for episode in episodes:
        last = episode.moments[-1]
        stopped = "" if episode.ended else ", stopped"
        rows.append((episode.game, f"return {last.episode_return:g}, {last.step:,} steps{stopped}"))
    summary.print_table(str(output), rows)


def _pictures(episodes: Sequence[Episode], suite: Suite) -> Iterator[np.ndarray]:
    """A picture of each moment, with the game, the return and the step below it."""
    from rldarts_tf.pictures import video

    spec = suite.observation_spec()
    bounds = (spec.minimum, spec.maximum) if hasattr(spec, "minimum") else None
    for episode in episodes:
        for moment in episode.moments:
            yield video.captioned(
                video.picture(moment.observation, suite.frames, bounds),
                [episode.game, f"return {moment.episode_return:.6g}   step {moment.step:,}"],
            )
