"""Roots of studies with made-up results, written as the runner and the launchers write them."""

from __future__ import annotations

import numpy as np

from rldarts_tf.runs.metrics import MetricsWriter
from rldarts_tf.runs.summary import write_summary
from rldarts_tf.studies.trials import Study, StudyPaths, Trial

GAMES = ("MinAtar/Asterix-v1", "MinAtar/Breakout-v1")
STEPS = 1000


def make_trials(games=GAMES, methods=("",), searches=2, cells=6, seeds=2):
    """The trials of a study that asks whether a search pays."""
    trials = []

    def add(environment, arm, architecture, seed, stage, **more):
        folder = environment.replace("/", "-")
        name = f"{folder}/{arm.replace(':', '-')}-{architecture}/seed-{seed}"
        more.setdefault("search_seed", None)
        trial = Trial(name, arm, environment, architecture, seed, stage=stage, steps=STEPS, **more)
        trials.append(trial)
        return trial

    evaluations = range(100, 100 + seeds)
    for game in games:
        for method in methods:
            suffix = f":{method}" if method else ""
            for i in range(searches):
                search = add(game, f"search{suffix}", f"search-{i}", i, "search", search_seed=i)
                more = {"search_seed": i, "needs": (search.name,)}
                for seed in evaluations:
                    add(game, f"found{suffix}", f"search-{i}", seed, "evaluate", **more)
        for k in range(cells):
            for seed in evaluations:
                add(game, "random", f"random-{k:02d}", seed, "evaluate")
        for seed in evaluations:
            add(game, "baseline", "impala_cnn", seed, "baseline")
        add(game, "uniform", "uniform-0", 0, "search", search_seed=0)
    return trials


def make_study(
    root, trials, between=2.0, within=1.0, gain=3.0, shift=0.0, unfinished=(), normalized=None
):
    """Writes a study whose scores are nested: cells vary, and seeds around them.

    Args:
      root: of the study.
      trials: its trials.
      between: standard deviation of cells.
      within: standard deviation of seeds.
      gain: by which found cells are better than random ones, on average.
      shift: of all scores, whose mean is 20 without.
      unfinished: names of trials that are not finished: they have a table and no result.
      normalized: a return of a game -> the normalized one; None: it is the same.

    Returns:
      The scores by trial.
    """
    Study("search_pays", {"random_cells": 6}, tuple(trials)).save(root)
    rng = np.random.default_rng(0)
    means, scores = {}, {}
    for trial in trials:
        centre = 20 + shift + (gain if trial.arm.startswith("found") else 0.0)
        key = trial.environment, trial.arm, trial.architecture
        mean = means.setdefault(key, centre + rng.normal(0, between))
        scores[trial.name] = score = float(mean + rng.normal(0, within))
        paths = StudyPaths(root).run(trial)
        stage = paths.stage(trial.stage)
        stage.path.mkdir(parents=True)
        columns = ("return_mean", "seconds_learn", "seconds_left")
        with MetricsWriter(stage, columns) as metrics:
            for i in range(1, 11):
                row = {"return_mean": score * i / 10, "seconds_learn": 2.0, "seconds_left": 7.0}
                metrics.write(STEPS * i // 10, row)
        if trial.name in unfinished:
            continue
        entry = {
            "exit_state": "finished",
            "encoder": "DiscreteNetwork",
            "env_steps": STEPS,
            "return_mean": score - 1,
            "eval_test_return_mean": score,
            "eval_test_return_mean_normalized": normalized(score) if normalized else score,
            "wall_time_s": 250.0 if trial.stage == "search" else 100.0,
            "parameters": 1000 + 100 * len(means),
            "multiply_adds": 1_000_000 + 50_000 * (sum(map(ord, trial.architecture)) % 40),
        }
        write_summary(paths.summary_path, trial.stage, entry)
    return scores
