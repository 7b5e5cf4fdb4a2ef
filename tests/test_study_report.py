"""Reports of studies: numbers of run directories in tables, figures and sentences."""

from __future__ import annotations

import base64
import csv
import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from study_roots import GAMES, STEPS, make_study, make_trials
from test_report import Page

from rldarts_tf import commands
from rldarts_tf.errors import RunError
from rldarts_tf.studies.report import tables, write_study_report
from rldarts_tf.studies.report.analysis import Analysis
from rldarts_tf.studies.report.scaling import short_names
from rldarts_tf.studies.report.verdicts import verdicts
from rldarts_tf.studies.results import read_joined, read_results
from rldarts_tf.studies.statistics.estimates import Estimate
from rldarts_tf.studies.trials import Study, StudyPaths

FIGURES = ("scores", "profiles", "curves", "cost", "supernet_and_cell")
TABLES = (
    *("variance", "arms", "differences", "by_game", "by_game_equal_cost", "percentiles"),
    *("equal_time", "overall", "supernets", "time"),
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished study: root, trials, score of each."""
    root, trials = tmp_path_factory.mktemp("study"), make_trials()
    return root, trials, make_study(root, trials)


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A study of two search methods of which one game has hardly begun: root, trials, scores."""
    root = tmp_path_factory.mktemp("half")
    trials = make_trials(methods=("darts", "a2d"))
    of_second = [trial.name for trial in trials if trial.environment == GAMES[1]][1:]
    first = [trial.name for trial in trials if trial.architecture == "random-03"][:1]
    scores = make_study(root, trials, unfinished=(*of_second, *first))
    paths = StudyPaths(root)
    failed = next(trial for trial in trials if trial.name == first[0])
    paths.failures_path.write_text(json.dumps({failed.name: "out of memory"}))
    paths.run(failed).summary_path.unlink(missing_ok=True)
    damaged = next(trial for trial in trials if trial.arm == "uniform")
    paths.run(damaged).summary_path.write_text("{")
    return root, trials, scores


def rows_of(root, name):
    with (root / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def mean_of(scores, trials, environment, **fields):
    """Mean over architectures of the means over their seeds."""
    of_architecture = {}
    for trial in trials:
        if trial.environment == environment and all(
            getattr(trial, name) == value for name, value in fields.items()
        ):
            of_architecture.setdefault(trial.architecture, []).append(scores[trial.name])
    return float(np.mean([*map(np.mean, of_architecture.values())]))


def test_results_are_those_of_summary_and_metrics(whole):
    root, trials, scores = whole
    results = read_results(root)
    assert not results.missing and len(results.finished) == len(trials)
    assert results.environments == GAMES
    assert results.arms() == ("found", "random", "impala_cnn")
    assert results.arms(supernets=True) == ("search", "uniform")
    for result in results.finished:
        assert result.final_return == scores[result.trial.name]
        assert result.training_return == scores[result.trial.name] - 1
        assert (result.steps, result.parts) == (STEPS, {"learn": 20.0})
    found = results.scores(GAMES[0], "found")
    assert (found.architectures, found.seeds) == (("search-0", "search-1"), (100, 101))
    names = {
        (t.architecture, t.seed): t.name
        for t in trials
        if t.arm == "found" and t.environment == GAMES[0]
    }
    for (row, column), value in np.ndenumerate(found.values):
        assert value == scores[names[found.architectures[row], found.seeds[column]]]


def test_what_has_no_result_is_missing_with_the_reason(half):
    root, trials, _ = half
    results = read_results(root)
    assert len(results.missing) + len(results.finished) == len(trials)
    reasons = {
        trial.name: results.missing[trial.name] for trial in trials if trial.name in results.missing
    }
    first, *_ = [name for name in reasons if "random-03" in name]
    assert reasons.pop(first) == "failed: out of memory"
    (damaged,) = [name for name, reason in reasons.items() if "is not JSON" in reason]
    assert "uniform" in damaged
    del reasons[damaged]
    assert set(reasons.values()) == {"interrupted"}
    # A cell of one seed has one number.
    values = results.scores(GAMES[0], "random").values
    assert np.isfinite(values).sum() == 11 and values.shape == (6, 2)


@pytest.fixture(scope="module")
def reported(whole):
    """The finished study with its report."""
    assert write_study_report(whole[0]) == whole[0] / "report.html"
    return whole


def test_a_report_has_tables_figures_and_the_number_of_seeds(reported):
    root, *_ = reported
    page = Page((root / "report.html").read_text("utf-8"))
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    pictures = [base64.b64decode(source.partition(",")[2]) for source in page.sources]
    files = [(root / f"{name}.png").read_bytes() for name in FIGURES]
    assert sorted(pictures) == sorted(files)
    # The variance between cells is the first table.
    text = page.text
    assert text.index("How much a game asks") < text.index("Beside random")
    assert text.count("random 6 × 2, found 2 × 2, impala_cnn 1 × 2") == 9 + len(FIGURES)
    markdown = (root / "report.md").read_text("utf-8")
    assert all(f"]({name}.png)" in markdown for name in FIGURES)
    assert sorted(path.stem for path in root.glob("*.csv")) == sorted(TABLES)
    assert "no result yet" not in text


def test_the_tables_have_the_numbers_of_the_trials(reported):
    root, trials, scores = reported
    for game, row in zip(("Asterix", "Breakout"), rows_of(root, "differences")[::2]):
        environment = f"MinAtar/{game}-v1"
        assert (row["environment"], row["arm"]) == (game, "found")
        of_arm = {arm: mean_of(scores, trials, environment, arm=arm) for arm in ("found", "random")}
        assert float(row["difference"]) == pytest.approx(of_arm["found"] - of_arm["random"])
    ranks = [row for row in rows_of(root, "percentiles") if row["architecture"] == "search-1"]
    for row in ranks:
        environment = f"MinAtar/{row['environment']}-v1"
        own = mean_of(scores, trials, environment, arm="found", architecture="search-1")
        random = [
            mean_of(scores, trials, environment, architecture=f"random-{k:02d}") for k in range(6)
        ]
        assert float(row["score"]) == pytest.approx(own)
        assert float(row["beaten"]) == sum(score < own for score in random)
        assert float(row["p_value"]) == pytest.approx((7 - float(row["beaten"])) / 7)
    # 250 s and 100 s are three and a half times 100 s.
    times = rows_of(root, "equal_time")
    assert {(row["search_seconds"], row["random_seconds"], row["cells"]) for row in times} == {
        ("250", "100", "3")
    }
    # 20 s of learning in 100 s, and in 250 s.
    assert {row["arm"]: float(row["seconds_learn"]) for row in rows_of(root, "time")} == {
        "random": 0.2, "found": 0.2, "impala_cnn": 0.2, "search": 0.08, "uniform": 0.08
    }  # fmt: skip
    baseline = rows_of(root, "arms")[2]
    assert baseline["arm"] == "impala_cnn" and baseline["steps"] == str(STEPS)


def test_each_question_is_answered_for_each_game(whole):
    found = {
        verdict.question: verdict.answers for verdict in verdicts(Analysis(read_results(whole[0])))
    }
    assert len(found) == 7
    asked, compared, sizes, time, *_ = found.values()
    for answers in (asked, compared, sizes, time):
        assert [answer.split(":")[0] for answer in answers] == ["Asterix", "Breakout"]
    pattern = (
        r"Asterix: the 2 found cells beat [\d.]+ of 6 random ones on average; difference of means "
        r"-?[\d.]+ \(95 % interval -?[\d.]+ to -?[\d.]+\): (better|worse|no difference is shown)\."
    )
    assert re.fullmatch(pattern, compared[0])
    assert re.search(r"found minus random ones of as many[^:]*: -?[\d.]+ \(95 %", sizes[0])
    assert "random search tries 3 cells" in time[0]


def test_a_half_finished_study_is_reported_as_far_as_it_is(half):
    root, *_ = half
    assert commands.main(["report", str(root), f"--output={root}/out/page.html"]) == 0
    text = Page((root / "out/page.html").read_text("utf-8")).text
    for shown in ("found:darts 2 × 2", "found:a2d 2 × 2", "random 6 × 1 to 2", "out of memory"):
        assert shown in text, shown
    assert {row["arm"] for row in rows_of(root / "out", "differences")} == {
        "found:darts", "found:a2d", "impala_cnn"
    }  # fmt: skip
    assert {row["environment"] for row in rows_of(root / "out", "arms")} == {"Asterix"}


def test_a_study_that_has_just_begun_has_a_report(tmp_path, capsys):
    trials = make_trials(searches=1, cells=1)
    make_study(tmp_path, trials, unfinished=[trial.name for trial in trials])
    assert commands.main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'report.html'}\n"
    text = Page((tmp_path / "report.html").read_text("utf-8")).text
    assert "No training from scratch is finished yet" in text and "interrupted" in text


def test_where_the_baseline_scores_nothing_it_is_no_unit(tmp_path):
    trials = make_trials()
    make_study(tmp_path, trials)
    for trial in trials:
        if (trial.environment, trial.arm) == (GAMES[1], "baseline"):
            path = StudyPaths(tmp_path).run(trial).summary_path
            summary = json.loads(path.read_text())
            summary["stages"]["baseline"]["eval_test_return_mean"] = 0.0
            path.write_text(json.dumps(summary))
    write_study_report(tmp_path)
    pairs = Analysis(read_results(tmp_path)).pairs["found"]
    assert {pair.game for pair in pairs} == {"Asterix"}


def test_where_all_trainings_score_the_same_no_architecture_is_asked_for(tmp_path):
    make_study(tmp_path, make_trials(GAMES[:1]), between=0.0, within=0.0, gain=0.0)
    asked, *_ = verdicts(Analysis(read_results(tmp_path)))
    assert asked.answers == ["Asterix: no. All trainings score the same (6 cells, 12 trainings)."]


def test_cells_that_lack_their_multiply_adds_take_no_part_in_what_size_says(tmp_path):
    trials = make_trials(GAMES[:1])
    make_study(tmp_path, trials)
    for trial in trials:
        if trial.architecture == "random-05":
            path = StudyPaths(tmp_path).run(trial).summary_path
            summary = json.loads(path.read_text())
            del summary["stages"]["evaluate"]["multiply_adds"]
            path.write_text(json.dumps(summary))
    results = read_results(tmp_path)
    without = [r for r in results.finished if r.trial.architecture != "random-05"]
    others = dataclasses.replace(results, finished=tuple(without))
    size, expected = (Analysis(found).games[0].size for found in (results, others))
    assert math.isfinite(size.low) and size == expected


def test_the_time_of_a_search_has_its_measurements_and_its_candidates(tmp_path):
    game, methods = GAMES[:1], ("ranked", "shared")
    trials = make_trials(game, methods, searches=1, cells=8)
    searches = {trial.arm: trial for trial in trials if trial.stage == "search"}
    ranked, shared = searches["search:ranked"], searches["search:shared"]
    # The first ranks cells in its own run directory, the second those of the same supernet.
    own = dataclasses.replace(
        ranked, commands=(("train",), ("discretize", "RUN", "--by=random", "--best=2"))
    )
    work = "--work_dir={root}/genotypes/shared"
    reading = dataclasses.replace(
        shared, run=ranked.name, commands=(("discretize", "RUN", "--by=evolution", work),)
    )
    changed = {ranked.name: own, shared.name: reading}
    trials = [changed.get(trial.name, trial) for trial in trials]
    make_study(tmp_path, [trial for trial in trials if trial.run is None])
    candidates = [
        dataclasses.replace(
            next(trial for trial in trials if trial.arm == "found:ranked"),
            name=f"candidate/{place}",
            arm="candidate:ranked",
            architecture=f"search-0-{place:02d}",
            seed=0,
        )
        for place in (1, 2)
    ]
    make_study(tmp_path, candidates)
    Study("search_pays", {}, (*trials, *candidates)).save(tmp_path)
    run = StudyPaths(tmp_path).run(ranked)
    for folder, steps, seconds in (
        (run.discretization_dir("random"), 640, 75.0),
        (run.discretization_dir("evolution"), 7, 1e6),  # Somebody else's.
        (tmp_path / "genotypes" / "shared", 320, 130.0),
    ):
        folder.mkdir(parents=True)
        content = {"environment_steps": steps, "seconds": seconds}
        (folder / "budget.json").write_text(json.dumps(content))
    results = read_results(tmp_path)
    assert not results.missing
    assert results.arms() == ("found:ranked", "found:shared", "random", "impala_cnn")
    write_study_report(tmp_path)
    times = {
        row["arm"]: [row[name] for name in ("search_seconds", "search_steps", "cells")]
        for row in rows_of(tmp_path, "equal_time")
    }
    # 250 s + 75 s + 2 · 100 s, and with its cell's 100 s as long as 6.25 random cells of 100 s;
    # 250 s + 130 s, and with 100 s as long as 4.8 of them. Of steps each training has 1,000.
    assert times == {"found:ranked": ["525", "3640", "6"], "found:shared": ["380", "1320", "4"]}


def test_a_single_search_with_a_single_seed_claims_nothing(tmp_path):
    make_study(tmp_path, make_trials(GAMES[:1], searches=1, seeds=1), gain=100.0)
    asked, compared, time, baseline, *_ = verdicts(Analysis(read_results(tmp_path)))
    assert "not known yet" in asked.answers[0]
    (answer,) = compared.answers
    assert "the found cell beats 6 of 6 random ones" in answer and "better" not in answer
    assert "a single training has no interval" in answer and "one search" in answer
    assert "too few have two finished trainings" in time.answers[0]
    assert "a single training has no interval" in baseline.answers[0]


def test_games_share_the_scale_of_the_suite_or_that_of_random_cells(tmp_path):
    trials = make_trials(searches=1, cells=2, seeds=1)
    for name, normalized in (("suite", lambda score: score / 50), ("random", None)):
        scores = make_study(tmp_path / name, trials, normalized=normalized)
        overall = Analysis(read_results(tmp_path / name)).overall
        for k, environment in enumerate(GAMES):
            random = mean_of(scores, trials, environment, arm="random")
            unit = 50 if name == "suite" else random
            assert overall.scores["random"][k].mean() == pytest.approx(random / unit)
        assert name in overall.scale
    # Scores below 0 are no multiples of anything.
    make_study(tmp_path / "below", trials, shift=-100.0)
    assert Analysis(read_results(tmp_path / "below")).overall is None


def test_cells_along_a_search_are_drawn_over_its_steps(tmp_path):
    search, found, *_ = make_trials(GAMES[:1], searches=1, cells=0)
    cells = [
        dataclasses.replace(
            found,
            name=f"along/step-{step}/seed-{seed}",
            arm="trajectory",
            architecture=f"search-0-step-{step}",
            seed=seed,
        )
        for step in (0, 300, 20, 1000)
        for seed in (100, 101)
    ]
    scores = make_study(tmp_path, [search, *cells])
    analysis = Analysis(read_results(tmp_path))
    (along,) = analysis.trajectories(analysis.games[0]).values()
    assert [cell.step for cell in along] == [0, 20, 300, 1000]
    assert set(along[1].scores) == {scores[trial.name] for trial in cells[4:6]}
    # Cells of one search are not independent of each other: they are no arm of searches.
    assert not analysis.games[0].arms[0].searched
    write_study_report(tmp_path)
    assert (tmp_path / "trajectory.png").exists()
    assert "rank correlation of step and return" in (tmp_path / "report.md").read_text("utf-8")


@pytest.fixture()
def by_game(whole, tmp_path):
    """The finished study as one of its own for each game: their roots."""
    roots = [tmp_path / game.rpartition("/")[2] for game in GAMES]
    for root, game in zip(roots, GAMES):
        shutil.copytree(whole[0], root)
        study = Study.load(root)
        trials = tuple(trial for trial in study.trials if trial.environment == game)
        settings = {**study.settings, "environments": [game]}
        Study(study.name, settings, trials).save(root)
    return [*map(str, roots)]


def test_a_study_for_each_game_is_reported_as_one_study_of_both(reported, by_game, tmp_path):
    page = tmp_path / "both" / "page.html"
    assert commands.main(["report", *by_game, f"--output={page}"]) == 0
    for name in TABLES:
        both, whole = (
            (folder / f"{name}.csv").read_text() for folder in (page.parent, reported[0])
        )
        assert both == whole, name
    assert "# search_pays: Asterix, Breakout" in page.with_suffix(".md").read_text("utf-8")


def test_settings_in_which_joined_studies_differ_are_shown_by_study(by_game):
    study = read_joined(by_game).study
    assert study.settings["environments"] == {root: [game] for root, game in zip(by_game, GAMES)}
    assert study.settings["random_cells"] == 6


def test_what_a_kind_of_study_asks_is_also_asked_of_studies_that_are_read_as_one(by_game):
    results = read_joined(by_game)
    asked = {}
    for kinds in (["search_pays"], ["search_pays", "model_size", "search_pays"]):
        study = dataclasses.replace(results.study, name=Study.joined_name(kinds))
        found = verdicts(Analysis(dataclasses.replace(results, study=study)))
        asked[study.name] = {verdict.question for verdict in found}
    alone, joined = asked["search_pays"], asked["search_pays + model_size"]
    assert joined - alone == {"Which architectures does no other beat at the same cost or less?"}


def test_a_row_for_each_arm_has_the_difference_in_each_game(reported):
    root, *_ = reported
    differences = {row["arm"]: row for row in rows_of(root, "by_game")}
    equal_costs = {row["arm"]: row for row in rows_of(root, "by_game_equal_cost")}
    assert list(differences) == ["found", "impala_cnn"]
    for row in rows_of(root, "differences"):
        game, arm = row["environment"], row["arm"]
        assert differences[arm][game] == row["difference"]
        assert differences[arm][f"{game}_low"] == row["difference_low"]
        assert equal_costs[arm][game] == row["equal_cost"]


def test_what_cannot_be_reported_together_is_named(whole, by_game, tmp_path, capsys):
    root, output = str(whole[0]), f"--output={tmp_path / 'page.html'}"
    assert commands.main(["report", *by_game]) == 2
    assert "output: name a file" in capsys.readouterr().err
    assert commands.main(["report", root, by_game[0], output]) == 2
    assert re.search(r"both have the trial '.*': only studies of other", capsys.readouterr().err)
    assert commands.main(["report", root, str(tmp_path), output]) == 2
    assert f"run_dirs: {str(tmp_path)!r} is not a study" in capsys.readouterr().err
    (tmp_path / "study.json").write_text("{}")
    assert commands.main(["report", str(tmp_path)]) == 2
    assert "is not a study" in capsys.readouterr().err
    with pytest.raises(RunError, match=r"study\.json"):
        read_results(tmp_path)


def test_a_table_shows_estimates_with_intervals_and_keeps_all_digits_in_csv():
    table = tables.Table(
        "name",
        "title",
        "caption",
        (
            tables.Column("arm", "arm"),
            tables.Column("icc", "ICC", tables.percent),
            tables.Column("cells", "cells", tables.whole),
        ),
        [("a|b", Estimate(1 / 3, -0.25, 1.0), 1234), ("c", Estimate(math.nan), None)],
    )
    assert table.texts() == [["a|b", "33 % (-25 to 100 %)", "1,234"], ["c", "–", "–"]]
    assert table.markdown().splitlines() == [
        "| arm | ICC | cells |",
        "| --- | ---: | ---: |",
        r"| a\|b | 33 % (-25 to 100 %) | 1,234 |",
        "| c | – | – |",
    ]
    assert table.csv().splitlines() == [
        "arm,icc,icc_low,icc_high,cells",
        "a|b,0.3333333333333333,-0.25,1,1234",
        "c,,,,",
    ]
    assert [tables.number(x) for x in (0.123, 9.99, 12.34, 99.96, 1234.5)] == [
        "0.12", "9.99", "12.3", "100", "1,234"
    ]  # fmt: skip


def test_short_names_stay_distinct():
    assert short_names(["MinAtar/Asterix-v1", "MinAtar/Breakout-v0"]) == {
        "MinAtar/Asterix-v1": "Asterix",
        "MinAtar/Breakout-v0": "Breakout",
    }
    both = ["MinAtar/Asterix-v0", "MinAtar/Asterix-v1"]
    assert [*short_names(both).values()] == both
    assert [*short_names(["cartpole/balance", "hopper/stand"]).values()] == [
        "cartpole/balance", "hopper/stand"
    ]  # fmt: skip
