"""Searches and their cells beside random cells, baselines and supernets with uniform α."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rldarts_tf.studies.plans.making import TrialMaker, Variation
from rldarts_tf.studies.trials import Trial

UNIFORM = Variation(gin_files=("studies/uniform_alpha.gin",))


def search_pays(maker: TrialMaker) -> Iterator[Trial]:
    """Whether the search pays (section 4.4, tables 4 and 5).

    All are trained for equally many steps; the comparison at equal wall-clock time takes as many of
    the random cells as fit into the time of a search. The supernet with uniform α shows what the
    training of α adds to a supernet's own return. No cell is read off it: all ops of an edge have
    the same weight, so the cell would be that of the rule for ties.
    """
    for environment in maker.settings.environments:
        yield from _searches_and_cells(maker, environment)
        yield from _baselines(maker, environment)
        if maker.settings.uniform_alpha:
            for seed in maker.settings.search_seeds:
                yield maker.search(environment, seed, variation=UNIFORM, arm="uniform", cell=False)
        yield from _random_cells(maker, environment)


def random_cells(maker: TrialMaker) -> Iterator[Trial]:
    """Where the found cells stand among random ones (figures 9 and 18)."""
    for environment in maker.settings.environments:
        yield from _searches_and_cells(maker, environment)
        yield from _random_cells(maker, environment)


def searches(maker: TrialMaker) -> Iterator[Trial]:
    """Searches, their cells and the baselines."""
    for environment in maker.settings.environments:
        yield from _searches_and_cells(maker, environment)
        yield from _baselines(maker, environment)


def transfer(maker: TrialMaker) -> Iterator[Trial]:
    """Cells that were searched for in one environment, or in all jointly, in others (figure 10)."""
    found = [*maker.searches(maker.settings.search_environment)]
    yield from found
    for search in found:
        yield from maker.candidates(search)
    for environment in maker.settings.environments:
        for search in found:
            yield from maker.found(search, maker.settings.evaluation_seeds, environment)
        yield from _baselines(maker, environment)


def ablations(maker: TrialMaker) -> Iterator[Trial]:
    """Which supernets can be trained at all (table 2). No cells are read off them."""
    for environment in maker.settings.environments:
        yield from maker.searches(environment, cell=False)


def taught(maker: TrialMaker) -> Iterator[Trial]:
    """Searches with and without a teacher, or with other costs, their cells, and others (A2D).

    The baselines are first. Nobody teaches a cell: found ones,
    random ones and baselines are trained alike. Where there are variants, the last baseline is
    trained in each of those alone.
    """
    kinds = maker.settings.baselines
    varied = kinds[-1:] if maker.settings.variants else ()
    for environment in maker.settings.environments:
        yield from _baselines(maker, environment, kinds[: len(kinds) - len(varied)])
        yield from _variants(maker, environment, varied)
        yield from _searches_and_cells(maker, environment)
        yield from _random_cells(maker, environment)


def baseline_variants(maker: TrialMaker) -> Iterator[Trial]:
    """Baselines of the ops that α prefers, and of those that it does not (table 1); of any size."""
    for environment in maker.settings.environments:
        yield from _variants(maker, environment, maker.settings.baselines)


def _searches_and_cells(maker: TrialMaker, environment: str) -> Iterator[Trial]:
    """The searches of every method and seed, and the cells that they find."""
    found = [*maker.searches(environment)]
    yield from found
    for search in found:
        yield from maker.candidates(search)
    for search in found:
        yield from maker.found(search, maker.settings.evaluation_seeds, environment)


def _random_cells(maker: TrialMaker, environment: str) -> Iterator[Trial]:
    """All random cells with one seed, then with the next: early results show their spread."""
    for seed in maker.settings.evaluation_seeds:
        for number in range(maker.settings.random_cells):
            yield maker.random(environment, number, seed)


def _baselines(
    maker: TrialMaker, environment: str, kinds: Sequence[str] | None = None
) -> Iterator[Trial]:
    """The hand-designed encoders; all of the study where no kinds are given."""
    for kind in maker.settings.baselines if kinds is None else kinds:
        for seed in maker.settings.evaluation_seeds:
            yield maker.baseline(environment, kind, seed)


def _variants(maker: TrialMaker, environment: str, kinds: Sequence[str]) -> Iterator[Trial]:
    """The variants of hand-designed encoders; their kind names them too where there are several."""
    for variant, texts in (maker.settings.variants or {}).items():
        for kind in kinds:
            name = variant if len(kinds) == 1 else f"{kind}_{variant}"
            for seed in maker.settings.evaluation_seeds:
                yield maker.baseline(environment, kind, seed, name, Variation.parse(texts))
