"""Random cells of every cost, for what is found to be compared with others that cost as much."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping

import numpy as np

from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.space import NONE, Space


def drawn_over_costs(
    space: Space, costs: Mapping[str, np.ndarray], rng: random.Random, output_mode: str
) -> Iterator[Genotype]:
    """Genotypes, all different, whose costs spread evenly from the least to the most there are.

    A uniform draw of a space of many layers has about the mean cost each time. Here each draw has a
    cost of its own to expect: its ops have the probabilities p_o ∝ exp(-λ c_o), those of the
    largest entropy of all with that expected cost. The expected costs are a van der Corput sequence
    from the least to the most, so that any number of first draws spread.

    Args:
      space: the search space. There is no end to its cells: take no more than `space.size()`.
      costs: of the ops, per cell type [E, |O|], in any unit.
      rng: of the draws.
      output_mode: of the genotypes.
    """
    drawn: set[Genotype] = set()
    for number in itertools.count(1):
        price = price_of(space, costs, van_der_corput(number))
        while True:
            genotype = random_genotype(space, rng, output_mode, op_weights(space, costs, price))
            if genotype not in drawn:
                break
            # Of some costs there are few: nearer to the uniform draw there are others.
            price *= 0.99
        drawn.add(genotype)
        yield genotype


def van_der_corput(number: int) -> float:
    """The number's binary digits behind the point in reverse: 1/2, 1/4, 3/4, 1/8, 5/8, ... from 1.

    Source: van der Corput 1935; every first part of the sequence spreads over (0, 1).
    """
    return sum(int(digit) / 2**i for i, digit in enumerate(reversed(f"{number:b}"), start=1))


def op_weights(
    space: Space, costs: Mapping[str, np.ndarray], price: float
) -> dict[str, list[list[float]]]:
    """p_o ∝ exp(-λ c_o), per cell type [E, |O|], as `random_genotype` takes them.

    Args:
      space: the search space.
      costs: of its ops.
      price: λ, in one over the most expensive op's cost.
    """
    most = max(float(table.max()) for table in costs.values()) or 1.0
    weights = {}
    for cell_type, table in costs.items():
        kept = np.array([op != NONE for op in space.ops(cell_type)])
        z = np.where(kept, -price * table / most, -np.inf)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        weights[cell_type] = (p / p.sum(axis=1, keepdims=True)).tolist()
    return weights


def price_of(space: Space, costs: Mapping[str, np.ndarray], share: float) -> float:
    """λ at which the expected cost is this share of the way from the least to the most.

    Args:
      space: the search space.
      costs: of its ops.
      share: in (0, 1).

    Returns:
      λ in one over the most expensive op's cost, within ±`_EXTREME`.
    """
    kept = {t: np.array([op != NONE for op in space.ops(t)]) for t in costs}
    # An edge into a node of n inputs is kept in min(n, K) draws of n.
    shares = np.array(
        [min(len(space.sources(j)), space.top_k) / len(space.sources(j)) for _, j in space.edges]
    )

    def expected(price: float) -> float:
        p = op_weights(space, costs, price)
        return float(sum(shares @ (np.array(p[t]) * costs[t]).sum(axis=1) for t in costs))

    least, most = (
        float(sum(shares @ limit(costs[t][:, kept[t]], axis=1) for t in costs))
        for limit in (np.min, np.max)
    )
    target = least + share * (most - least)
    low, high = -_EXTREME, _EXTREME
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > target else (low, middle)
    return (low + high) / 2


_EXTREME = 1e4
