"""`python -m rldarts_tf.studies.child PARENT ARGUMENT ...`: a command that ends with its parent.

The command is `python -m rldarts_tf ARGUMENT ...`. When the process PARENT dies, however that
happens, the kernel sends SIGTERM: a training then stops with a checkpoint. Otherwise it would go
on, unseen, in a run directory that nobody else can use.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Runs the command in this process."""
    parent = int(sys.argv.pop(1))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # It died before the call.
        sys.exit(1)
    runpy.run_module("rldarts_tf", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
