"""What reading a cell off a search has cost, summed over commands."""

from __future__ import annotations

import json

import pytest

from rldarts_tf.errors import RunError
from rldarts_tf.runs import budget
from rldarts_tf.runs.budget import Budget, Meter, read_budget


def test_a_budget_is_the_sum_of_all_commands_up_to_their_last_measurement(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    assert read_budget(tmp_path) == Budget(0, 0.0)
    steps = [0]
    meter = Meter(tmp_path, lambda: steps[0])
    for clock, count in ((103.0, 40), (110.0, 80)):
        now[0], steps[0] = clock, count
        meter.write()
        assert read_budget(tmp_path) == Budget(count, clock - 100.0)
    # Killed at 117, in a measurement that it has not written; another one begins at 200.
    now[0] = 200.0
    second = Meter(tmp_path, lambda: 25)
    assert read_budget(tmp_path) == Budget(80, 10.0)
    now[0] = 202.5
    second.write()
    assert read_budget(tmp_path) == Budget(105, 12.5)


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", {"environment_steps": 3}, {"environment_steps": 3, "seconds": -1.0}],
)
def test_a_damaged_budget_is_refused_in_one_line(content, tmp_path):
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "budget.json").write_text(text)
    with pytest.raises(RunError, match=r"^'.*budget.json' holds no budget [^\n]*$"):
        read_budget(tmp_path)
