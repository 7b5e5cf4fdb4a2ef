"""What makes environments comparable: their scores on one scale, and short names for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rldarts_tf.studies.results import RANDOM, StudyResults
from rldarts_tf.studies.statistics.differences import architecture_means


def short_names(environments: Sequence[str]) -> dict[str, str]:
    """Names without what all have in front, nor a version: "MinAtar/Asterix-v1" is "Asterix"."""
    prefixes = {name.rpartition("/")[0] for name in environments}
    names = [n.rpartition("/")[2] if len(prefixes) == 1 else n for n in environments]
    short = [name[:-3] if name[-3:-1] == "-v" else name for name in names]
    return dict(zip(environments, short if len(set(short)) == len(short) else environments))


def scaled(
    results: StudyResults, environments: Sequence[str], arms: Sequence[str]
) -> tuple[str, dict[str, list[np.ndarray]]] | None:
    """Scores of arms on a scale that environments share.

    That is the suite's, if it has references for all of them, and else a multiple of what random
    cells score.

    Args:
      results: of the study.
      environments: those in which all arms have results.
      arms: the arms.

    Returns:
      The scale in words, and by arm the scores [architectures, seeds] in each environment. None
      where there is no such scale.
    """

    def tables(name: str) -> dict[str, list[np.ndarray]]:
        found = {arm: [results.scores(e, arm, name) for e in environments] for arm in arms}
        return {arm: [s.values for s in of_arm if s is not None] for arm, of_arm in found.items()}

    if not environments:
        return None
    own = tables("final_return")
    referenced = [
        any(result.normalized_return != result.final_return for result in results.of(environment))
        for environment in environments
    ]
    if all(referenced):
        return "returns normalized by the suite's reference returns", tables("normalized_return")
    if len(environments) == 1:
        return "returns as they are", own
    units = [float(architecture_means(values).mean()) for values in own.get(RANDOM, ())]
    if not units or min(units) <= 0:
        return None
    divided = {arm: [values / unit for values, unit in zip(own[arm], units)] for arm in arms}
    return "returns divided by the mean of the random cells", divided
