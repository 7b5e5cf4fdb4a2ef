"""What a finished trial leaves on disk: results, and the newest checkpoint."""

from __future__ import annotations

import shutil

from rldarts_tf.runs.paths import CHECKPOINT_PREFIX, StagePaths, checkpoint_steps


def prune(stage: StagePaths) -> None:
    """Deletes replay, which nothing but resuming reads, and all checkpoints but the newest.

    With Rainbow and SAC a checkpoint has all that replay holds: a gigabyte, of each trial.

    Args:
      stage: a stage that is finished.
    """
    folder = stage.checkpoints_dir
    shutil.rmtree(stage.replay_dir, ignore_errors=True)
    for step in sorted(checkpoint_steps(folder.glob(f"{CHECKPOINT_PREFIX}*")))[:-1]:
        for path in folder.glob(f"{CHECKPOINT_PREFIX}{step}.*"):
            path.unlink(missing_ok=True)
