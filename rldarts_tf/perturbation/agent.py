"""The agent of a search, restored to be trained on and to measure its loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.export.policies import TrainedStage, restore
from rldarts_tf.perturbation.masks import Mask, masked
from rldarts_tf.runs.checkpoints import ArrayState, Checkpoints
from rldarts_tf.runs.paths import StagePaths, checkpoint_steps, find_checkpoint
from rldarts_tf.training.program import AgentProgram
from rldarts_tf.training.state import part_of, with_prefix


class SearchAgent(Closing):
    """The agent of a search, with a mask.

    It goes on as it was: optimizer, replay, and α of what is undecided. Checkpoints
    are numbered by decisions. With Rainbow and SAC each start begins with the replay of the search.

    Args:
      stage: the search.
      mask: of the op weights, as `masks.masked` takes it.
      stage_dir: of the search, which replay is read from.
      folder: where checkpoints go, and from where the newest is restored.
      fine_tune_steps: environment steps after each decision; the update that reaches them is
        completed.
      seed: of what the search's checkpoint does not have.

    Attributes:
      environment_steps: those that this object has made.

    Raises:
      RunError: a checkpoint cannot be restored.
    """

    def __init__(
        self,
        stage: TrainedStage,
        mask: Mask,
        stage_dir: StagePaths,
        folder: Path,
        fine_tune_steps: int,
        seed: int,
    ) -> None:
        self.environment_steps = 0
        self._steps = fine_tune_steps
        self._seed = seed
        self._own = StagePaths(folder)
        self._program = stage.algorithm.program(
            stage.make_encoder(), stage.suite, stage.suite.fit(stage.settings), seed, stage_dir
        )
        try:
            # Never left: the program is used here alone.
            self._masked = masked(self._program.trackables, mask)
            self._masked.__enter__()
            state = ArrayState(
                lambda: with_prefix("agent", self._program.state()),
                lambda arrays: self._program.set_state(part_of(arrays, "agent")),
            )
            objects = {**self._program.trackables, "program": state}
            self._checkpoints = Checkpoints(self._own, objects)
            if not self._checkpoints.restore():
                restore(objects, stage.checkpoint)
            # A learning rate that falls over a search has nothing left at its end.
            self._program.set_progress(0.0)
            if fine_tune_steps:
                self._program.start()
        except BaseException:
            self._program.close()
            raise

    def catch_up(self, decisions: int) -> Path | None:
        """Trains after a decision, unless that was done by an earlier process.

        Args:
          decisions: how many have been made.

        Returns:
          The path of the present checkpoint; None where nothing was trained yet.
        """
        if not decisions or not self._steps:
            return None
        folder = self._own.checkpoints_dir
        if decisions not in checkpoint_steps(folder.glob("*.json")):
            made = 0
            while made < self._steps:
                made += self._program.advance(lambda: False)[0]
            self.environment_steps += made
            self._checkpoints.save(decisions)
        return find_checkpoint(folder, decisions)

    def held_out_loss(self, groups: int) -> HeldOutLoss:
        """The loss on experience that is collected now, by the policy as it is.

        Raises:
          ConfigError: the algorithm has none.
        """
        loss = HeldOutLoss(self._program, groups, self._seed)
        self.environment_steps += loss.environment_steps
        return loss

    @override
    def close(self) -> None:
        self._program.close()


class HeldOutLoss:
    """Minus the loss on held-out experience, of each of its minibatches.

    Args:
      program: of the agent.
      groups: minibatches.
      seed: of environments and actions.

    Attributes:
      environment_steps: those of the experience.
    """

    def __init__(self, program: AgentProgram, groups: int, seed: int) -> None:
        with program.held_out(seed) as held_out:
            self._experience = held_out.collect(groups)
            self.environment_steps = held_out.environment_steps
        self._losses = tf.function(held_out.losses, autograph=False)

    def __call__(self) -> np.ndarray:
        """float64 [groups]."""
        return -self._losses(self._experience).numpy().astype(np.float64)
