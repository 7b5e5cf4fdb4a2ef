"""Means of training returns against plain lists, one game and several."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest

pytest.importorskip("procgen")

from rldarts_tf.envs.episodes import FinishedEpisodes
from rldarts_tf.envs.procgen.games import normalized_return
from rldarts_tf.training.returns import WINDOW, ReturnTracker, game_columns, summarize

# Easy: starpilot from 2.5 to 64, leaper from 3 to 10, maze from 5 to 10 (Cobbe et al. 2020).
EASY = {"starpilot": (2.5, 64.0), "leaper": (3.0, 10.0), "maze": (5.0, 10.0)}
HARD = {"starpilot": (1.5, 35.0), "leaper": (1.5, 10.0), "maze": (4.0, 10.0)}


def finished(*episodes):
    """Of (return, length, environment)."""
    returns, lengths, environments = zip(*episodes) if episodes else ((), (), ())
    return FinishedEpisodes(
        np.array(returns, np.float64), np.array(lengths, np.int64), np.array(environments, np.int64)
    )


def random_episodes(count, num_envs, seed=0):
    rng = np.random.default_rng(seed)
    returns, lengths = rng.normal(10, 5, count), rng.integers(1, 1000, count)
    return list(zip(returns, lengths, rng.integers(0, num_envs, count)))


def approx(value):
    return pytest.approx(value, rel=1e-9, nan_ok=True)


def normalizer(mode):
    return lambda value, game: normalized_return(value, game, mode)


# --- one game --------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "ranges"), [("easy", EASY), ("hard", HARD)])
@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 350])
def test_of_one_game_means_are_those_of_the_last_100_episodes(count, mode, ranges):
    tracker = ReturnTracker(["starpilot"] * 3, normalizer(mode))
    episodes = random_episodes(count, 3)
    for i in range(0, count, 7):  # In pieces of any size, none among them.
        tracker.add(finished(*episodes[i : i + 7]))
        tracker.add(finished())
    last_returns = [e[0] for e in episodes][-100:]
    low, high = ranges["starpilot"]
    mean = sum(last_returns) / len(last_returns)
    variance = sum((r - mean) ** 2 for r in last_returns) / len(last_returns)
    assert tracker.metrics() == approx(
        {
            "return_mean": mean,
            "return_std": math.sqrt(variance),
            "return_mean_normalized": (mean - low) / (high - low),
            "episodes": count,
            "length_mean": np.mean([e[1] for e in episodes][-100:]),
        }
    )
    assert tracker.episodes == count


def test_the_window_is_100_episodes():
    assert WINDOW == 100


def test_nothing_is_known_before_an_episode_has_ended():
    metrics = ReturnTracker(["maze"] * 2, normalizer("easy")).metrics()
    assert metrics.pop("episodes") == 0
    assert metrics and all(math.isnan(value) for value in metrics.values())


# --- several games ---------------------------------------------------------------------------

GAMES = ("leaper", "leaper", "maze", "starpilot")


def test_of_several_games_means_are_over_the_games_and_each_has_a_column():
    tracker = ReturnTracker(GAMES, normalizer("easy"))
    tracker.add(finished((10, 30, 0), (0, 50, 1), (5, 200, 2), (20, 400, 3)))
    tracker.add(finished((4, 100, 0), (15.5, 100, 3)))
    # leaper 10, 0, 4; maze 5; starpilot 20, 15.5.
    leaper, maze, starpilot = 14 / 3, 5.0, 17.75
    expected = {
        "return_mean": (leaper + maze + starpilot) / 3,
        "return_std": (math.sqrt(152 / 9) + 0 + 2.25) / 3,
        "return_mean_normalized": ((leaper - 3) / 7 + (maze - 5) / 5 + (starpilot - 2.5) / 61.5)
        / 3,
        "episodes": 6,
        "length_mean": (180 / 3 + 200 + 500 / 2) / 3,
        "return_mean_leaper": leaper,
        "return_mean_maze": maze,
        "return_mean_starpilot": starpilot,
    }
    assert tracker.metrics() == approx(expected)


def test_means_over_games_wait_for_the_last_game_but_those_of_a_game_do_not():
    tracker = ReturnTracker(GAMES, normalizer("easy"))
    tracker.add(finished((10, 30, 0), (20, 400, 3)))
    metrics = tracker.metrics()
    known = {"episodes": 2, "return_mean_leaper": 10.0, "return_mean_starpilot": 20.0}
    assert {name: metrics[name] for name in known} == known
    assert {name for name, value in metrics.items() if math.isnan(value)} == set(metrics) - set(
        known
    )
    tracker.add(finished((7, 10, 2)))
    assert not any(map(math.isnan, tracker.metrics().values()))


def test_every_game_has_a_window_of_its_own():
    tracker = ReturnTracker(["leaper", "maze"], normalizer("easy"))
    tracker.add(finished((10, 1, 1)))
    leaper = [(float(i), 5, 0) for i in range(250)]
    tracker.add(finished(*leaper))
    metrics = tracker.metrics()
    # leaper's 250 episodes do not push out maze's only one.
    assert metrics["return_mean_maze"] == 10
    assert metrics["return_mean_leaper"] == approx(sum(range(150, 250)) / 100)
    assert metrics["return_mean"] == approx((10 + 199.5) / 2)
    assert metrics["episodes"] == 251


# --- states and names ------------------------------------------------------------------------


@pytest.mark.parametrize("games", [("leaper",) * 4, GAMES], ids=["one game", "several"])
@pytest.mark.parametrize("before", [0, 2, 450])
def test_a_tracker_goes_on_from_a_state_that_was_on_disk(games, before):
    episodes = random_episodes(before + 60, 4)
    tracker = ReturnTracker(games, normalizer("easy"))
    tracker.add(finished(*episodes[:before]))
    file = io.BytesIO()
    np.savez(file, **tracker.state())
    file.seek(0)
    resumed = ReturnTracker(games, normalizer("easy"))
    with np.load(file, allow_pickle=False) as state:
        resumed.set_state(state)
    assert resumed.metrics() == approx(tracker.metrics())
    for each in (tracker, resumed):
        each.add(finished(*episodes[before:]))
    assert resumed.metrics() == approx(tracker.metrics())
    assert resumed.episodes == before + 60


@pytest.mark.parametrize("games", [("leaper",) * 4, GAMES], ids=["one game", "several"])
def test_columns_are_the_names_of_the_metrics(games):
    tracker = ReturnTracker(games, normalizer("easy"))
    assert sorted(tracker.columns) == sorted(tracker.metrics())
    assert len(set(tracker.columns)) == len(tracker.columns)


def test_games_have_columns_only_where_there_are_several():
    assert game_columns("return_mean", ["maze"]) == ()
    assert game_columns("eval", ["maze", "leaper"]) == ("eval_maze", "eval_leaper")


def test_a_summary_normalizes_each_game_by_its_own_range():
    actual = summarize({"leaper": 6.5, "maze": 10.0}, "eval", normalizer("easy"))
    expected = {
        "eval": 8.25,
        "eval_normalized": (0.5 + 1.0) / 2,
        "eval_leaper": 6.5,
        "eval_maze": 10.0,
    }
    assert actual == approx(expected)
    assert summarize({"maze": 7.0}, "eval", normalizer("hard")) == approx(
        {"eval": 7.0, "eval_normalized": 0.5}
    )
