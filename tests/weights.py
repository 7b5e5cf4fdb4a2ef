"""What tests look at in the variables of a network."""

from __future__ import annotations

import numpy as np


def alphas(encoder):
    """α of a supernet."""
    return [variable for nodes in encoder.alpha.logits.values() for variable in nodes]


def values(variables):
    return [variable.numpy() for variable in variables]


def unchanged(variables, before):
    """The names of variables that still have the `values` of before."""
    return [v.name for v, old in zip(variables, before) if np.array_equal(v.numpy(), old)]
