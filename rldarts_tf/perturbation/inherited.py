"""Rival searchers that rank whole cells on the weights of one supernet.

Random search with weight sharing (Li and Talwalkar 2019) and regularized evolution (Real et al.
2019, Algorithm 1) on the same inherited weights: no gradient of α, one evaluation per cell.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import random
from collections.abc import Callable

import numpy as np

from rldarts_tf.discretization import Caps, within_caps
from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.perturbation.selection import Weights
from rldarts_tf.space import NONE, Space

Score = Callable[[Genotype], float]
"""The value of a cell with inherited weights; larger is better. It may be asked twice."""
DRAWS = 100_000
"""Cells that are drawn for one within the caps, before it is said that there is hardly any."""


def one_hot(genotype: Genotype, space: Space) -> dict[str, Weights]:
    """The op weights under which a supernet is the discrete network of a genotype.

    Args:
      genotype: a cell of the space.
      space: of the supernet.
    """
    found = {}
    for cell_type, cell in genotype.cells.items():
        ops = space.ops(cell_type)
        fixed = np.zeros((len(space.edges), len(ops)), np.float32)
        for target, node in enumerate(cell, start=1):
            for source, op in node:
                fixed[space.edges.index((source, target)), ops.index(op)] = 1
        found[cell_type] = Weights(np.zeros_like(fixed), fixed)
    return found


def random_cells(
    space: Space,
    score: Score,
    number: int,
    seed: int,
    output_mode: str = "concat",
    caps: Caps | None = None,
) -> None:
    """Scores cells that are drawn uniformly.

    Args:
      space: the search space.
      score: is told of each cell, and keeps what it finds.
      number: cells.
      seed: of the draws.
      output_mode: of the cells.
      caps: that every cell keeps.

    Raises:
      ConfigError: no cell within the caps is found.
    """
    rng = random.Random(seed)
    for _ in range(number):
        score(_within(caps, lambda: random_genotype(space, rng, output_mode)))


def evolution(
    space: Space,
    score: Score,
    number: int,
    seed: int,
    output_mode: str = "concat",
    caps: Caps | None = None,
    population: int = 20,
    sample: int = 5,
) -> None:
    """Regularized evolution: the best of a random sample has a child, and the oldest cell dies.

    Args:
      space: the search space.
      score: see `random_cells`, as all others.
      number: cells in all, those of the first population included.
      seed: of all draws.
      output_mode: of the cells.
      caps: that every cell keeps.
      population: P, cells that are alive.
      sample: S, cells among which the parent is chosen.

    Raises:
      ConfigError: no cell within the caps is found.
    """
    rng = random.Random(seed)
    alive: collections.deque[tuple[float, Genotype]] = collections.deque()
    for index in range(number):
        if index < population:
            child = _within(caps, lambda: random_genotype(space, rng, output_mode))
        else:
            contestants = rng.sample(list(alive), min(sample, len(alive)))
            _, parent = max(contestants, key=lambda scored: scored[0])
            child = _within(caps, functools.partial(mutated, parent, rng))
            alive.popleft()
        alive.append((score(child), child))


def _within(caps: Caps | None, draw: Callable[[], Genotype]) -> Genotype:
    """The first of the drawn cells that is within the caps."""
    for _ in range(DRAWS):
        genotype = draw()
        if caps is None or within_caps(genotype, caps):
            return genotype
    raise ConfigError(
        f"{', '.join(caps or ())}: of {DRAWS:,} cells that were drawn none is within the caps"
    )


def mutated(genotype: Genotype, rng: random.Random) -> Genotype:
    """A cell that differs in the op of one edge, or in the input that it comes from.

    Args:
      genotype: the parent.
      rng: of the draws.
    """
    options: list[tuple[str, int, int, tuple[int, str]]] = []  # (cell type, node, place, new edge)
    for cell_type, cell in genotype.cells.items():
        for j, node in enumerate(cell):
            inputs = genotype.space.sources(j + 1)
            sources = {source for source, _ in node}
            for place, (source, op) in enumerate(node):
                ops = [o for o in genotype.space.ops(cell_type) if o not in (NONE, op)]
                edges = [(source, other) for other in ops]
                edges += [(i, op) for i in inputs if i not in sources]
                options += [(cell_type, j, place, edge) for edge in edges]
    if not options:
        return genotype
    cell_type, j, place, edge = rng.choice(options)
    nodes = [list(node) for node in genotype.cells[cell_type]]
    nodes[j][place] = edge
    cells = {**genotype.cells, cell_type: tuple(tuple(sorted(node)) for node in nodes)}
    return dataclasses.replace(genotype, cells=cells)
