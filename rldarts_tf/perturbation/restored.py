"""The supernet of a run, restored, with op weights that can be masked, and its value."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.encoders import Supernet
from rldarts_tf.errors import ConfigError
from rldarts_tf.export.policies import read_stage
from rldarts_tf.perturbation.agent import SearchAgent
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.perturbation.returns import PairedReturns
from rldarts_tf.perturbation.settings import PerturbationSettings
from rldarts_tf.runs.budget import Meter
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import RunPaths

Value = Callable[[], np.ndarray]
"""The value of the supernet as it is now, of every sample [samples]; larger is better."""


@dataclasses.dataclass(frozen=True)
class MaskedSearch:
    """A restored supernet whose op weights can be masked, and its value.

    Attributes:
      supernet: the supernet.
      mask: of its op weights.
      value: its value with them.
      told: what it depends on beside the settings.
      catch_up: trains it after a decision, given the number of decisions, where that is asked for.
    """

    supernet: Supernet
    mask: Mask
    value: Value
    told: dict[str, Any]
    catch_up: Callable[[int], None]


@contextlib.contextmanager
def restored(
    root: Path, by: str, settings: PerturbationSettings, folder: Path, step: int | None
) -> Iterator[MaskedSearch]:
    """Restores the search of a run.

    Args:
      root: the run directory.
      by: what its value is: "return" or "loss".
      settings: the numbers.
      folder: where fine-tuning has its checkpoints, and budget.json the sum of what is spent;
        nobody else may use it meanwhile.
      step: of the checkpoint; None: the newest.

    Raises:
      RunError: there is none, or a folder is in use.
      ConfigError: the search has left out ops itself.
    """
    stage = read_stage(root, "search", step)
    with contextlib.ExitStack() as stack:
        stack.enter_context(RunDirectory(folder))
        if settings.fine_tune_steps:
            # Replay is read where a search that is running would write.
            stack.enter_context(RunDirectory(root))
        policy = stage.load()
        supernet = policy.encoder
        assert isinstance(supernet, Supernet)
        if supernet.alpha.kept:
            # The supernet would not miss them, and θ of them has not learned since.
            raise ConfigError(
                "by: must be p or contribution where the search has left out ops itself "
                f"(SearchSettings.progressive = {supernet.alpha.search.progressive!r})"
            )
        mask = Mask(supernet.space)
        stack.enter_context(masked({"policy": supernet}, mask))
        agent: SearchAgent | None = None
        play: PairedReturns | None = None

        def steps() -> int:
            return sum(part.environment_steps for part in (agent, play) if part is not None)

        meter = Meter(folder, steps)
        if settings.fine_tune_steps or by == "loss":
            stage_dir = RunPaths(root).stage("search")
            agent = stack.enter_context(
                SearchAgent(stage, mask, stage_dir, folder, settings.fine_tune_steps, settings.seed)
            )

        def catch_up(decisions: int) -> None:
            before = steps()
            checkpoint = None if agent is None else agent.catch_up(decisions)
            if steps() > before:
                meter.write()
            if checkpoint is not None:
                policy.restore(checkpoint)

        value: Value
        if by == "loss" and agent is not None:
            value = agent.held_out_loss(settings.minibatches)
        else:
            value = play = PairedReturns(
                policy, settings.episodes, settings.seed, settings.max_steps, settings.greedy
            )

        def metered() -> np.ndarray:
            samples = value()
            meter.write()
            return samples

        yield MaskedSearch(supernet, mask, metered, {"by": by, "step": policy.step}, catch_up)
