"""Faults of machines, in small counts; `faults/faults.py` is the script for many."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "faults"))

import faults

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


# The script tries the others, and these more often.
FAULTS = {"kill -9 at a random moment": 1, "full disk": 1}


def test_kill_and_full_disk_are_survived_and_alpha_is_that_of_an_undisturbed_search(
    tmp_path, server, monkeypatch
):
    quick = faults.PPO.launcher.preloaded(server)
    monkeypatch.setattr(faults, "PPO", faults.PPO.started_by(quick))
    table = faults.run_all(tmp_path, kills=1, seed=3, updates=4, only=FAULTS)
    assert {name: row["failures"] for name, row in table.items() if row["failures"]} == {}
    assert {name: row["tried"] for name, row in table.items()} == FAULTS
