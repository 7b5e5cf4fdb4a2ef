"""`study`: many trainings that answer one question."""

from __future__ import annotations

import argparse
import os

from rldarts_tf.commands.inputs import positive
from rldarts_tf.errors import ConfigError, RunError

HELP = "run a study: searches, their cells, random cells and baselines, on all cores or a cluster"
EXAMPLES = "\n".join(
    (
        "python -m rldarts_tf study --gin_file=studies/search_pays.gin "
        "--gin_file=studies/sizes/smoke.gin --root_dir=runs/smoke",
        "python -m rldarts_tf study --gin_file=my_study.gin --root_dir=runs/mine --dry_run",
        "python -m rldarts_tf study --gin_file=my_study.gin --root_dir=runs/mine --processes=2",
        "python -m rldarts_tf study --gin_file=studies/scores.gin --root_dir=/shared/scores "
        "--engine=ray --ray_address=auto --gpus=1",
    )
)
ENGINES = ("local", "ray")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        required=True,
        metavar="FILE",
        help="the study, and overlays such as studies/sizes/laptop.gin, looked up in gin/ or by "
        "path; may be repeated, later files override",
    )
    parser.add_argument(
        "--gin_bindings",
        action="append",
        default=[],
        metavar="SETTING",
        help="one setting, such as 'StudySettings.random_cells = 20'; may be repeated",
    )
    parser.add_argument(
        "--root_dir",
        required=True,
        metavar="DIR",
        help="directory of the study; started again on the same one, what is missing is run",
    )
    parser.add_argument(
        "--processes",
        type=positive,
        help="trials at a time on this machine (default: CPUs / threads)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        help="threads of each trial; on small images two trials with one thread each are faster "
        "than one with two (default: %(default)s)",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="say which trials there would be and how many steps are left; runs and writes nothing",
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="local",
        help="processes of this machine, or tasks of a Ray cluster whose machines share the "
        "directory (default: %(default)s)",
    )
    parser.add_argument(
        "--ray_address", metavar="ADDRESS", help="of the cluster (default: one on this machine)"
    )
    parser.add_argument(
        "--gpus", type=float, default=0.0, help="of each trial, for Ray (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Runs what is missing of the study, and writes the report of one that is whole."""
    if arguments.engine == "ray" and arguments.processes:
        raise ConfigError("processes: is for --engine=local; Ray runs as many as there is room for")
    if arguments.engine != "ray" and (arguments.ray_address or arguments.gpus):
        flag = "ray_address" if arguments.ray_address else "gpus"
        raise ConfigError(f"{flag}: is for --engine=ray")
    # TensorFlow comes with them.
    from rldarts_tf.launch import process
    from rldarts_tf.studies.engines import Engine, LocalEngine, RayEngine
    from rldarts_tf.studies.loading import load_study
    from rldarts_tf.studies.preview import preview
    from rldarts_tf.studies.report import write_study_report
    from rldarts_tf.studies.runner import run_study

    settings = load_study(arguments.gin_file, arguments.gin_bindings)
    if arguments.dry_run:
        print(preview(settings, arguments.root_dir))
        return
    engine: Engine
    if arguments.engine == "ray":
        engine = RayEngine(arguments.ray_address, arguments.threads, arguments.gpus)
    else:
        cores = len(os.sched_getaffinity(0))
        engine = LocalEngine(arguments.processes or max(1, cores // arguments.threads))
    with process.stop_on_signals() as stopping:
        finished = run_study(settings, arguments.root_dir, engine, arguments.threads, stopping)
    root = os.path.abspath(arguments.root_dir)
    if not finished:
        print(f"interrupted; the same command continues it: {root}")
        return
    print(f"study: {root}")
    try:
        print(f"report: {write_study_report(root)}")
    except RunError as error:
        print(error)  # What is to be installed for it: the study itself is whole.
