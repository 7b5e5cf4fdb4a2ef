"""Does the search pay? Its cells beside cells drawn at random and hand-designed encoders."""

from __future__ import annotations

from collections.abc import Iterator

from rldarts_tf.studies.plans.making import TrialMaker, Variation
from rldarts_tf.studies.trials import Trial

UNIFORM = Variation(gin_files=("studies/uniform_alpha.gin",))


def search_pays(maker: TrialMaker) -> Iterator[Trial]:
    """Searches, their cells, random cells, baselines and supernets with uniform α (section 4.4).

    All are trained for equally many steps; the comparison at equal wall-clock time takes as many of
    the random cells as fit into the time of a search. The supernet with uniform α shows what the
    training of α adds to a supernet's own return. No cell is read off it: all ops of an edge have
    the same weight, so the cell would be that of the rule for ties.
    """
    for environment in maker.settings.environments:
        yield from searches_and_cells(maker, environment)
        yield from baselines(maker, environment)
        if maker.settings.uniform_alpha:
            for seed in maker.settings.search_seeds:
                yield maker.search(environment, seed, variation=UNIFORM, arm="uniform", cell=False)
        yield from random_trials(maker, environment)


def random_cells(maker: TrialMaker) -> Iterator[Trial]:
    """Where the found cells stand in the distribution of random ones (figures 9 and 18)."""
    for environment in maker.settings.environments:
        yield from searches_and_cells(maker, environment)
        yield from random_trials(maker, environment)


def searches_and_cells(maker: TrialMaker, environment: str) -> Iterator[Trial]:
    """The searches of every method and seed, and the cells that they find."""
    searches = [
        maker.search(environment, seed, method, variation)
        for method, variation in maker.methods()
        for seed in maker.settings.search_seeds
    ]
    yield from searches
    for search in searches:
        for seed in maker.settings.evaluation_seeds:
            yield maker.found(search, seed)


def random_trials(maker: TrialMaker, environment: str) -> Iterator[Trial]:
    """All random cells with one seed, then with the next: early results show their spread."""
    for seed in maker.settings.evaluation_seeds:
        for number in range(maker.settings.random_cells):
            yield maker.random(environment, number, seed)


def baselines(maker: TrialMaker, environment: str) -> Iterator[Trial]:
    """The hand-designed encoders."""
    for kind in maker.settings.baselines:
        for seed in maker.settings.evaluation_seeds:
            yield maker.baseline(environment, kind, seed)
