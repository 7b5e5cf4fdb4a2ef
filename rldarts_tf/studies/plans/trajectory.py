"""The cells along a search, each trained from scratch."""

from __future__ import annotations

from collections.abc import Iterator

from rldarts_tf.errors import RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs.search_log import read_genotypes
from rldarts_tf.studies.plans.making import TrialMaker
from rldarts_tf.studies.trials import Trial


def trajectory(maker: TrialMaker) -> Iterator[Trial]:
    """Whether the cells of a search become better as it goes on (figures 6 and 16).

    Every so many-th distinct cell is trained, and the last. Which ones they are is known when the
    search is finished.
    """
    for environment in maker.settings.environments:
        found = [*maker.searches(environment)]
        yield from found
        for search in found:
            if maker.paths.state(search) == "finished":
                for step, genotype in _cells(maker, search):
                    for seed in maker.settings.evaluation_seeds:
                        yield _trial(maker, search, step, genotype, seed)


def _cells(maker: TrialMaker, search: Trial) -> list[tuple[int, Genotype]]:
    """Distinct cells in the order in which they appeared, with their steps."""
    path = maker.paths.run(search).stage("search").genotypes_path
    cells = [(step, Genotype.from_dict(data)) for step, data in read_genotypes(path)]
    if not cells:
        raise RunError(f"{str(path)!r} holds no cell")
    chosen = cells[:: maker.settings.every]
    return chosen if chosen[-1] == cells[-1] else [*chosen, cells[-1]]


def _trial(maker: TrialMaker, search: Trial, step: int, genotype: Genotype, seed: int) -> Trial:
    method = search.arm.partition(":")[2]
    name = "-".join(filter(None, ("found", method, str(search.seed), "step", str(step))))
    environment = search.name.partition("/")[0]
    path = maker.paths.genotypes_dir / environment / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        genotype.save(path)
    return maker.cell(
        search.environment,
        name,
        seed,
        str(path.relative_to(maker.paths.root)),
        arm=f"trajectory:{method}" if method else "trajectory",
        architecture=f"search-{search.seed}-step-{step}",
        search=search,
    )
