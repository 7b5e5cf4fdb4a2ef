"""Discretizes the search of a run directory by what the supernet loses without each op."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rldarts_tf.encoders import Supernet
from rldarts_tf.errors import RunError
from rldarts_tf.export.policies import Policy, TrainedStage, read_stage
from rldarts_tf.genotype import Genotype
from rldarts_tf.ops import parameter_free
from rldarts_tf.perturbation.decisions import Decision, decide, standard_error
from rldarts_tf.perturbation.fine_tuning import FineTuning
from rldarts_tf.perturbation.log import DecisionLog
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.returns import PairedReturns
from rldarts_tf.perturbation.selection import Selection
from rldarts_tf.perturbation.settings import PerturbationSettings
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import RunPaths, StagePaths, checkpoint_steps
from rldarts_tf.search_space import SKIP_CONNECT, SearchSpace

Value = Callable[[], np.ndarray]
"""The value of the supernet as it is now, of every sample [samples]; larger is better."""


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
    stage = read_stage(root, "search", step)
    with contextlib.ExitStack() as stack:
        stack.enter_context(RunDirectory(folder))
        if settings.fine_tune_steps:
            # Replay is read where a search that is running would write.
            stack.enter_context(RunDirectory(root))
        found = _discretize(stage, by, settings, folder, RunPaths(root).stage("search"), stack)
    return found


def _discretize(
    stage: TrainedStage,
    by: str,
    settings: PerturbationSettings,
    folder: Path,
    stage_dir: StagePaths,
    stack: contextlib.ExitStack,
) -> Found:
    (found,) = checkpoint_steps([stage.checkpoint])
    log = DecisionLog(folder, {"by": by, "step": found, **dataclasses.asdict(settings)})
    policy = stage.load()
    supernet = policy.encoder
    assert isinstance(supernet, Supernet)
    selection = Selection(
        supernet.space, settings.top_k, settings.seed, caps(supernet.space, settings)
    )
    try:
        for decision in log.decisions:
            selection.take(decision)
    except ValueError as error:
        raise RunError(f"{str(folder)!r} holds decisions of another search: {error}") from None
    mask = Mask(supernet.space)
    stack.enter_context(masked({"policy": supernet}, mask))
    value = _value(policy, by, settings)
    if "supernet" not in log.references:
        log.references["supernet"] = _reference(value)
    mask.assign(selection.weights())
    tuning: FineTuning | None = None
    if settings.fine_tune_steps:
        tuning = stack.enter_context(
            FineTuning(stage, mask, stage_dir, folder, settings.fine_tune_steps, settings.seed)
        )

    def prepare() -> None:
        checkpoint = None if tuning is None else tuning.catch_up(len(log.decisions))
        if checkpoint is not None:
            policy.restore(checkpoint)

    _decide_all(selection, mask, value, log, prepare)
    if "cell" not in log.references:
        log.references["cell"] = _reference(value)
    log.write()
    genotype = selection.genotype(supernet.output_mode)
    genotype.save(folder / "genotype.json")
    return Found(genotype, log)


def caps(
    space: SearchSpace, settings: PerturbationSettings
) -> dict[str, tuple[frozenset[str], int]]:
    """The caps that the settings ask for, as `Selection` takes them."""
    found: dict[str, tuple[frozenset[str], int]] = {}
    if settings.max_skips is not None:
        found["max_skips"] = (frozenset([SKIP_CONNECT]), settings.max_skips)
    if settings.max_parameter_free is not None:
        ops = {op for cell_type in space.cell_types for op in space.ops(cell_type)}
        found["max_parameter_free"] = (parameter_free(ops), settings.max_parameter_free)
    return found


def _value(policy: Policy, by: str, settings: PerturbationSettings) -> Value:
    assert by == "return"
    return PairedReturns(
        policy, settings.episodes, settings.seed, settings.max_steps, settings.greedy
    )


def _reference(value: Value) -> tuple[float, float]:
    samples = value()
    return float(samples.mean()), standard_error(samples)


def _decide_all(
    selection: Selection,
    mask: Mask,
    value: Value,
    log: DecisionLog,
    prepare: Callable[[], None],
) -> None:
    """Answers every question that is left; shows how far it is on standard error.

    Args:
      selection: with the decisions of the log.
      mask: with what is decided.
      value: of the supernet.
      log: takes the decisions.
      prepare: called before each question, and after the last one.
    """
    left, begun, made = selection.evaluations_left(), time.monotonic(), 0
    prepare()
    while (question := selection.question()) is not None:
        values = []
        if len(question.candidates) > 1:
            for candidate in range(len(question.candidates)):
                mask.assign(selection.weights(question, candidate))
                values.append(value())
        decision = decide(question, values)
        selection.take(decision)
        mask.assign(selection.weights())
        log.add(decision)
        prepare()
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
