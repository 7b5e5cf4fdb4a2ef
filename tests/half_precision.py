"""A training in float16 that overflows, stops and resumes: the same for Rainbow and SAC."""

from __future__ import annotations

import numpy as np

from rldarts_tf.runs.metrics import read_metrics


def assert_scale_is_resumed(make, stopping, stage_dir, scale_afterwards, losses):
    """Overflows of the first row are counted, and the resumed training has the loss scale.

    Args:
      make: given when to stop, or nothing, makes the training; returns it and its loss scale.
      stopping: stops it after its first row.
      stage_dir: where its metrics are.
      scale_afterwards: a loss scale with which nothing overflows.
      losses: columns that are finite in the last row, not in the first.

    Returns:
      Its metrics.
    """
    training, scale = make(stopping)
    scale.value.assign(2.0**120)
    training.run()
    training.close()
    resumed, scale = make()
    skipped = resumed.program.learner.num_steps
    assert skipped > 0 and float(scale.value) == 2.0 ** (120 - skipped)
    scale.value.assign(scale_afterwards)
    resumed.run()
    resumed.close()
    metrics = read_metrics(stage_dir.metrics_path)
    others = len(metrics["step"]) - 1
    assert metrics["skipped_updates"].tolist() == [skipped] * (1 + others)
    assert metrics["learner_steps"][-1] > skipped
    assert metrics["loss_scale"].tolist() == [2.0 ** (120 - skipped), *[scale_afterwards] * others]
    for name in losses:
        assert np.isfinite(metrics[name][[0, -1]]).tolist() == [False, True]
    return metrics
