"""When periodic actions are due, and the seconds of the parts of a program."""

from __future__ import annotations

import pytest

from rldarts_tf.training.stopwatch import Stopwatch
from rldarts_tf.training.triggers import StepTrigger, TimeTrigger


class Clock:
    """Seconds that a test sets."""

    now = 100.0

    def __call__(self):
        return self.now


def due_steps(trigger, steps):
    return [after for before, after in zip(steps, steps[1:]) if trigger.due(before, after)]


@pytest.mark.parametrize("at_end", [False, True])
def test_steps_are_due_where_a_multiple_is_reached_or_passed(at_end):
    trigger = StepTrigger(10, end=47, at_end=at_end)
    steps = [0, 9, 10, 12, 25, 29, 45, 48]
    # Once, however many multiples an update passes; the end is a multiple or is not.
    assert due_steps(trigger, steps) == [10, 25, 45, *([48] if at_end else [])]
    assert due_steps(StepTrigger(10, end=40, at_end=at_end), [35, 40]) == [40] * at_end


def test_an_interval_may_be_a_fraction_and_0_is_never():
    assert due_steps(StepTrigger(100 / 3, end=100, at_end=True), range(101)) == [34, 67, 100]
    assert due_steps(StepTrigger(0, end=10, at_end=True), range(11)) == []


def test_time_counts_from_the_last_action():
    clock = Clock()
    trigger = TimeTrigger(60, clock=clock)
    due = []
    for now in (159, 160, 200, 219.9, 220):
        clock.now = now
        due.append(trigger.due())
        if trigger.due():
            trigger.acted(1.0)
            assert not trigger.due()
    assert due == [False, True, False, False, True]


def test_what_takes_long_is_done_more_rarely_until_it_is_fast_again():
    clock = Clock()
    trigger = TimeTrigger(60, most_share=0.1, clock=clock)
    trigger.acted(30.0)
    clock.now += 299
    assert not trigger.due()
    clock.now += 1
    assert trigger.due()
    trigger.acted(0.0)
    clock.now += 60
    assert trigger.due()


def test_0_seconds_are_always_due():
    trigger = TimeTrigger(0, clock=Clock())
    trigger.acted(1000.0)
    assert trigger.due()
    assert not TimeTrigger(float("inf")).due()


def test_a_stopwatch_sums_up_the_seconds_of_each_part():
    clock = Clock()
    stopwatch = Stopwatch("act", "learn", clock=clock)
    for seconds in (1.0, 2.0):
        with stopwatch.measure("act"):
            clock.now += seconds
        clock.now += 10
    assert stopwatch.parts == ("act", "learn")
    assert stopwatch.take() == {"act": 3.0, "learn": 0.0}
    assert stopwatch.take() == {"act": 0.0, "learn": 0.0}
    with pytest.raises(RuntimeError), stopwatch.measure("learn"):
        clock.now += 4
        raise RuntimeError
    assert stopwatch.take()["learn"] == 4.0
    with pytest.raises(KeyError), stopwatch.measure("nonsense"):
        pass


def test_the_seconds_of_an_inner_part_are_not_those_of_the_outer_one():
    clock = Clock()
    stopwatch = Stopwatch("outer", "middle", "inner", clock=clock)
    with stopwatch.measure("outer"):
        clock.now += 1
        with stopwatch.measure("middle"):
            clock.now += 2
            for _ in range(2):
                with stopwatch.measure("inner"):
                    clock.now += 4
        with stopwatch.measure("inner"):
            clock.now += 16
        clock.now += 32
    assert stopwatch.take() == {"outer": 33.0, "middle": 2.0, "inner": 24.0}
