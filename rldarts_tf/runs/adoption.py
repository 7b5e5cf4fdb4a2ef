"""Whether a run may be given another cell."""

from __future__ import annotations

from rldarts_tf.errors import RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.paths import RunPaths


def check_replaceable(run: RunPaths, genotype: Genotype) -> bool:
    """Whether a genotype differs from the run's, which must not have been evaluated then.

    Raises:
      RunError: the run holds an evaluation of another cell.
    """
    if run.genotype_path.exists() and Genotype.load(run.genotype_path) == genotype:
        return False
    if run.stage("evaluate").path.exists():
        raise RunError(
            f"root_dir {str(run.root)!r} holds an evaluation of another cell: use another root_dir"
        )
    return True
