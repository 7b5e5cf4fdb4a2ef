"""Adapter that lets dm-acme 0.2.2 run with dm-reverb 0.14.

Acme's adders pass `get_signature_timeout_ms` to `reverb.Client.trajectory_writer`, which does not
take that argument any more. `ReverbClient` takes it.

    adder = adders.NStepTransitionAdder(acme_compat.ReverbClient(address), n_step=5, discount=0.99)

is enough where the program makes the client itself. Acme's own agents make theirs: call
`patch_reverb()` once before an agent is made.
"""

from __future__ import annotations

import inspect
from typing import Any

import reverb

_TIMEOUT = "get_signature_timeout_ms"
_OBSOLETE = _TIMEOUT not in inspect.signature(reverb.Client.trajectory_writer).parameters


class ReverbClient(reverb.Client):
    """Reverb client that accepts the obsolete argument which Acme's adders pass.

    Equal to `reverb.Client` in everything else, and wholly so where that takes the argument itself.
    """

    def trajectory_writer(self, num_keep_alive_refs: int, **options: Any) -> Any:
        """See `reverb.Client.trajectory_writer`.

        Args:
          num_keep_alive_refs: how many steps an item can span.
          **options: those of `reverb.Client`; `get_signature_timeout_ms` is dropped where that does
            not take it.

        Returns:
          A `reverb.TrajectoryWriter`.
        """
        if _OBSOLETE:
            options.pop(_TIMEOUT, None)
        return super().trajectory_writer(num_keep_alive_refs, **options)


def patch_reverb() -> None:
    """Makes Acme's own agents run: puts `ReverbClient` in the place of `reverb.Client`.

    Replaced is that one attribute of the module `reverb`, for the whole process, whether Acme has
    been imported yet or not (its agents look the name up when they make a client). Clients that
    exist stay what they are, as does a name bound by `from reverb import Client`. Nothing is
    replaced where Reverb takes what Acme passes. A second call does nothing.
    """
    if _OBSOLETE:
        reverb.Client = ReverbClient
