"""Discretizes the search of a run directory by what the supernet loses without each op."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rldarts_tf.caps import caps_of
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.perturbation.decisions import Decision, decide, standard_error
from rldarts_tf.perturbation.inherited import evolution, one_hot, random_cells
from rldarts_tf.perturbation.log import DecisionLog
from rldarts_tf.perturbation.ranking import Ranking
from rldarts_tf.perturbation.restored import MaskedSearch, Value, restored
from rldarts_tf.perturbation.selection import Selection
from rldarts_tf.perturbation.settings import PerturbationSettings
from rldarts_tf.runs.paths import RunPaths, ranked_path


class Found(NamedTuple):
    """What a discretization has found."""

    genotype: Genotype
    log: DecisionLog


def discretize_run(
    root: Path, by: str, settings: PerturbationSettings, folder: Path, step: int | None = None
) -> Found:
    """Discretizes the search of a run; goes on from the decisions that the folder holds.

    Args:
      root: the run directory, whose search may be finished or not; nothing of it changes.
      by: "return" or "loss".
      settings: the numbers.
      folder: where decisions and the genotype go.
      step: of the checkpoint; None: the newest.

    Raises:
      RunError: there is no search, or the folder holds decisions of other settings.
      ConfigError: the caps leave an edge without an op.
    """
    with restored(root, by, settings, folder, step) as measured:
        log = DecisionLog(folder, {**measured.told, **dataclasses.asdict(settings)})
        space = measured.supernet.space
        given = settings.max_skips, settings.max_parameter_free
        caps = caps_of(measured.supernet.alpha.search, space, *given)
        selection = Selection(space, settings.top_k, settings.seed, caps)
        try:
            for decision in log.decisions:
                selection.take(decision)
        except ValueError as error:
            raise RunError(f"{str(folder)!r} holds decisions of another search: {error}") from None
        if "supernet" not in log.references:
            log.references["supernet"] = _reference(measured.value)
        measured.mask.assign(selection.weights())
        _decide_all(selection, measured, log)
        if "cell" not in log.references:
            log.references["cell"] = _reference(measured.value)
        log.write()
        genotype = selection.genotype(measured.supernet.output_mode)
    genotype.save(RunPaths(folder).genotype_path)
    return Found(genotype, log)


def rank_run(
    root: Path,
    by: str,
    number: int,
    settings: PerturbationSettings,
    folder: Path,
    step: int | None = None,
    best: int = 1,
) -> Ranking:
    """Ranks whole cells by their return with the weights of a run's supernet.

    Args:
      root: the run directory, as in `discretize_run`.
      by: "random" or "evolution".
      number: cells.
      settings: of episodes and the seed.
      folder: where the ranking and the best genotypes go.
      step: of the checkpoint; None: the newest.
      best: distinct cells that are wanted.

    Raises:
      RunError: there is no search, or the folder holds a ranking of other settings.
      ConfigError: hardly any cell is within the caps of the search; or fewer are found than are
        wanted.
    """
    with restored(root, "return", settings, folder, step) as measured:
        space = measured.supernet.space
        caps = caps_of(measured.supernet.alpha.search, space)

        def measure(genotype: Genotype) -> np.ndarray:
            measured.mask.assign(one_hot(genotype, space))
            return measured.value()

        # Not the number: more cells may be asked for later.
        told = {**measured.told, "by": by, **dataclasses.asdict(settings)}
        told.update((name, cap.most) for name, cap in caps.items())
        ranking = Ranking(folder, told, measure)
        begun, before = time.monotonic(), len(ranking)

        def score(genotype: Genotype) -> float:
            known = len(ranking)
            mean = ranking(genotype)
            if len(ranking) > known:
                seconds = (time.monotonic() - begun) / (len(ranking) - before)
                left = seconds * (number - len(ranking))
                print(
                    f"discretize: {len(ranking)}/{number} cells, the best "
                    f"{ranking.best[0].mean:.4g}, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
            return mean

        arguments = (space, score, number, settings.seed, measured.supernet.output_mode, caps)
        if by == "random":
            random_cells(*arguments)
        else:
            evolution(*arguments)
    path = RunPaths(folder).genotype_path
    for earlier in folder.glob(f"{path.stem}-*{path.suffix}"):
        earlier.unlink()
    for place, scored in enumerate(ranking.best[:best], start=1):
        scored.genotype.save(ranked_path(path, place))
    if len(ranking) < best:
        raise ConfigError(
            f"best: must be at most {len(ranking)}, the distinct cells that were ranked, got {best}"
        )
    return ranking


def _reference(value: Value) -> tuple[float, float]:
    samples = value()
    return float(samples.mean()), standard_error(samples)


def _decide_all(selection: Selection, measured: MaskedSearch, log: DecisionLog) -> None:
    """Answers every question that is left; shows how far it is on standard error."""
    left, begun, made = selection.evaluations_left(), time.monotonic(), 0
    measured.catch_up(len(log.decisions))
    while (question := selection.question()) is not None:
        values = []
        if len(question.candidates) > 1:
            for candidate in range(len(question.candidates)):
                measured.mask.assign(selection.weights(question, candidate))
                values.append(measured.value())
        decision = decide(question, values)
        selection.take(decision)
        measured.mask.assign(selection.weights())
        log.add(decision)
        measured.catch_up(len(log.decisions))
        made += len(values)
        per_evaluation = (time.monotonic() - begun) / max(made, 1)
        seconds = per_evaluation * selection.evaluations_left()
        print(
            f"discretize: {made}/{left} evaluations, {shown(decision)}, {seconds:.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def shown(decision: Decision) -> str:
    """A decision in words."""
    verb = "keeps" if decision.question.kind == "op" else "loses input"
    source, op = decision.edge
    what = op if decision.question.kind == "op" else str(source)
    if not decision.means:
        return f"{decision.question} {verb} {what}"
    noise = ", within noise" if decision.within_noise else ""
    return (
        f"{decision.question} {verb} {what} "
        f"(margin {decision.margin:.3g} ± {decision.margin_error:.2g}{noise})"
    )


def rows(found: Found) -> list[tuple[str, str]]:
    """What was decided, as rows of a table."""
    decisions = found.log.decisions
    compared = [decision for decision in decisions if decision.means]
    noisy = sum(decision.within_noise for decision in compared)
    values = [
        (f"value of the {name}", f"{mean:.4g} ± {error:.2g}")
        for name, (mean, error) in found.log.references.items()
    ]
    return [
        *values,
        ("evaluations", str(sum(len(decision.means) for decision in decisions))),
        ("decisions within noise", f"{noisy} of {len(compared)} (margin <= 2 standard errors)"),
    ]
