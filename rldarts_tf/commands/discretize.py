"""`discretize`: a genotype from a search: from its α, or from what its policy loses without ops."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rldarts_tf.commands import inputs
from rldarts_tf.commands.recorded_alpha import read_recorded
from rldarts_tf.discretization import discretize, discretize_strengths, unmoved_warning
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.settings import PerturbationSettings
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.runs import summary
from rldarts_tf.runs.adoption import check_replaceable
from rldarts_tf.runs.budget import read_budget
from rldarts_tf.runs.paths import RunPaths, ranked_path
from rldarts_tf.search.settings import SearchSettings

HELP = "make a genotype from a search, at any step and with any K"
EXAMPLES = """
python -m rldarts_tf discretize runs/starpilot
python -m rldarts_tf discretize runs/starpilot --step=1000000 --top_k=1 --output=early.json
python -m rldarts_tf discretize runs/starpilot/search/checkpoints/ckpt-2000000
python -m rldarts_tf discretize alphas.npz --space=micro
python -m rldarts_tf discretize runs/breakout --by=contribution --max_parameter_free=4
python -m rldarts_tf discretize runs/breakout --by=return --episodes=128
python -m rldarts_tf discretize runs/breakout --by=return --fine_tune_steps=8192 --max_skips=2
python -m rldarts_tf discretize runs/breakout --by=random --cells=1000 --episodes=16
python -m rldarts_tf discretize runs/breakout --by=random --best=10 --output=cells/found.json
"""

BY = {
    "p": "the op weights (Algorithm 4)",
    "contribution": "their share in what a node becomes, on states that the policy visits",
    "return": "the return without each op, in the same episodes",
    "loss": "the loss without each op, on held-out experience",
    "random": "the return of whole cells that are drawn at random, with the supernet's weights",
    "evolution": "the same, of cells that evolve",
}
_CAPS = ("top_k", "max_skips", "max_parameter_free")
_OPTIONS = {
    "p": ("space", "output_mode", "threshold", *_CAPS),
    "contribution": ("states", "seed", "threshold", *_CAPS),
    "return": ("episodes", "max_steps", "greedy", "seed", "fine_tune_steps", "work_dir", *_CAPS),
    "loss": ("minibatches", "seed", "fine_tune_steps", "work_dir", *_CAPS),
    "random": ("cells", "best", "episodes", "max_steps", "greedy", "seed", "work_dir"),
    "evolution": ("cells", "best", "episodes", "max_steps", "greedy", "seed", "work_dir"),
}
"""What each of them reads, beside `step` and `output`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "source",
        help="a run directory; by p also an alphas.npz, a checkpoint, or a folder of checkpoints",
    )
    parser.add_argument(
        "--by",
        choices=BY,
        default="p",
        help=f"what an op is judged by: {'; '.join(f'{name}: {BY[name]}' for name in BY)} "
        "(default: p)",
    )
    parser.add_argument(
        "--step",
        type=int,
        help="environment steps: the last record up to this step (default: the last of all); of "
        "checkpoints, the one of exactly this step",
    )
    parser.add_argument("--output", metavar="FILE", help="where the genotype goes (default: shown)")
    parser.add_argument("--space", help="search space (default: that of the run's config.gin)")
    parser.add_argument(
        "--output_mode", help="recorded in the genotype (default: that of config.gin, or concat)"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        help="K is the largest number of edges into a node that are stronger than this, at least 1",
    )
    parser.add_argument(
        "--states",
        type=inputs.positive,
        help="observations that contributions are measured on (default: 1024)",
    )
    parser.add_argument(
        "--cells", type=inputs.positive, help="cells that are ranked (default: 100)"
    )
    parser.add_argument(
        "--best",
        type=inputs.positive,
        help="cells of the ranking that are given, to FILE, FILE-02, FILE-03, ... (default: 1)",
    )
    for field in dataclasses.fields(PerturbationSettings):
        readers = ", ".join(by for by, names in _OPTIONS.items() if field.name in names)
        default = "that of the space" if field.name == "top_k" else field.default
        text = f"{field.metadata['doc']} (by {readers}; default: {default})"
        if str(field.type) == "bool":
            parser.add_argument(f"--{field.name}", action="store_true", default=None, help=text)
        else:
            parser.add_argument(f"--{field.name}", type=int, help=text)
    parser.add_argument(
        "--work_dir",
        metavar="DIR",
        help="where decisions.json and decisions.csv, or ranking.json, and genotype.json go "
        "(default: discretize/BY in the run directory); what is there is not measured again",
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints the genotype, or writes it and prints where."""
    for name in dict.fromkeys(name for names in _OPTIONS.values() for name in names):
        if getattr(arguments, name) is not None and name not in _OPTIONS[arguments.by]:
            raise ConfigError(f"{name}: not with --by={arguments.by}, which does not use it")
    given = {
        field.name: getattr(arguments, field.name)
        for field in dataclasses.fields(PerturbationSettings)
        if getattr(arguments, field.name) is not None
    }
    settings = PerturbationSettings(**given)
    ways = {
        "p": _by_alpha,
        "contribution": _by_contribution,
        "random": _by_ranking,
        "evolution": _by_ranking,
    }
    ways.get(arguments.by, _by_perturbation)(arguments, settings)


def _by_alpha(arguments: argparse.Namespace, settings: PerturbationSettings) -> None:
    recorded = read_recorded(Path(arguments.source), arguments.step, arguments.space)
    recorded.search.check_tells_cell()
    if arguments.threshold is not None and not recorded.search.sums_to_one:
        raise ConfigError(
            f"threshold: not with SearchSettings.relaxation = {recorded.search.relaxation!r}, "
            "whose op weights are no shares; give top_k"
        )
    genotype = discretize(
        recorded.logits,
        recorded.space,
        output_mode=arguments.output_mode or recorded.output_mode,
        threshold=arguments.threshold,
        **_limits(settings, recorded.space, recorded.search),
    )
    _give(genotype, arguments)
    print(f"from {recorded.origin}", file=sys.stderr)
    # Of other methods the logits are made to rank as they do, and have a lead from the start.
    warning = unmoved_warning(recorded.logits) if recorded.search.reads_logits else None
    if warning is not None:
        print(warning, file=sys.stderr)


def _by_contribution(arguments: argparse.Namespace, settings: PerturbationSettings) -> None:
    from rldarts_tf.export.playing import visited
    from rldarts_tf.export.policies import load_policy
    from rldarts_tf.search.contribution import contributions

    policy = load_policy(Path(arguments.source), "search", arguments.step)
    images = visited(policy, arguments.states or 1024, settings.seed)
    supernet: Any = policy.encoder
    strengths = {t: c.numpy() for t, c in contributions(supernet, images).items()}
    genotype = discretize_strengths(
        strengths,
        supernet.space,
        output_mode=supernet.output_mode,
        threshold=arguments.threshold,
        **_limits(settings, supernet.space, supernet.alpha.search),
    )
    _give(genotype, arguments)
    print(f"from checkpoint of step {policy.step:,}, {len(images)} states", file=sys.stderr)


def _limits(settings: PerturbationSettings, space: Any, search: SearchSettings) -> dict[str, Any]:
    """K and caps, as arguments of `discretize`."""
    caps, given = {}, (settings.max_skips, settings.max_parameter_free)
    if {*given, search.max_skips, search.max_parameter_free} != {None}:
        from rldarts_tf.caps import caps_of

        caps = caps_of(search, space, *given)
    return {"top_k": settings.top_k, "caps": caps}


def _by_perturbation(arguments: argparse.Namespace, settings: PerturbationSettings) -> None:
    from rldarts_tf.perturbation import session

    root, work_dir = _directories(arguments)
    found = session.discretize_run(root, arguments.by, settings, work_dir, arguments.step)
    _give(found.genotype, arguments)
    rows = [*session.rows(found), *_spent(work_dir)]
    summary.print_table(str(work_dir), rows, sys.stderr)


def _by_ranking(arguments: argparse.Namespace, settings: PerturbationSettings) -> None:
    from rldarts_tf.perturbation import session

    root, work_dir = _directories(arguments)
    number, best = arguments.cells or 100, arguments.best or 1
    if best > number:
        raise ConfigError(f"best: must be at most {number}, the cells that are ranked, got {best}")
    ranking = session.rank_run(root, arguments.by, number, settings, work_dir, arguments.step, best)
    _give_all([scored.genotype for scored in ranking.best[:best]], arguments)
    rows = [
        (f"cell {place}", f"{scored.mean:.4g} ± {scored.error:.2g}")
        for place, scored in enumerate(ranking.best[:10], start=1)
    ]
    summary.print_table(str(work_dir), [*rows, *_spent(work_dir)], sys.stderr)


def _spent(work_dir: Path) -> list[tuple[str, str]]:
    """What the measurements have cost, as rows of a table."""
    budget = read_budget(work_dir)
    return [
        ("environment steps", f"{budget.environment_steps:,}"),
        ("seconds", f"{budget.seconds:,.0f}"),
    ]


def _directories(arguments: argparse.Namespace) -> tuple[Path, Path]:
    """The run directory, and where what is measured goes."""
    run_paths = RunPaths(Path(arguments.source))
    return run_paths.root, Path(arguments.work_dir or run_paths.discretization_dir(arguments.by))


def _give(genotype: Genotype, arguments: argparse.Namespace) -> None:
    """Prints the genotype, or writes it and prints where."""
    _give_all([genotype], arguments)


def _give_all(genotypes: Sequence[Genotype], arguments: argparse.Namespace) -> None:
    """Prints genotypes, the best first, or writes them and prints where."""
    if arguments.output is None:
        for genotype in genotypes:
            print(genotype_text(genotype))
            print(genotype.to_json())
        return
    output = Path(arguments.output)
    run_paths = RunPaths(output.absolute().parent)
    if output.name == run_paths.genotype_path.name:
        check_replaceable(run_paths, genotypes[0])
    paths = [ranked_path(output, place) for place in range(1, len(genotypes) + 1)]
    # The best one last: where it is, the others are.
    for path, genotype in reversed([*zip(paths, genotypes)]):
        try:
            genotype.save(path)
        except OSError as error:
            raise ConfigError(
                f"output: {str(path)!r} cannot be written: {error.strerror}"
            ) from None
    for path in paths:
        print(path)
