"""What machines do to a run, in small counts; `faults/faults.py` is the script for many."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "faults"))

import faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


# The others are met in test_launcher.py and test_hostile_files.py too.
FAULTS = {
    "kill -9 at a random moment": 2,
    "checkpoint: flip a bit": 1,
    "full disk": 1,
    "loss that is never finite": 1,
    "clock jumps": 1,
}


def test_the_first_kills_and_the_worst_faults_are_survived(tmp_path):
    table = faults.run_all(tmp_path, kills=2, seed=0, updates=5, only=FAULTS)
    assert {name: row["failures"] for name, row in table.items() if row["failures"]} == {}
    assert {name: row["tried"] for name, row in table.items()} == FAULTS
