"""Reports: one HTML file, complete, and nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
import html.parser
import json
import random
import re
import shutil
import subprocess
import xml.etree.ElementTree

import numpy as np
import pytest

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

from rldarts_tf import commands
from rldarts_tf.errors import RunError
from rldarts_tf.genotype import random_genotype
from rldarts_tf.pictures import report
from rldarts_tf.pictures.report import data
from rldarts_tf.runs.search_log import AlphaLog, ContributionLog, GenotypeLog
from rldarts_tf.search_space import CLASSIC

STEPS = tuple(range(0, 11_000, 1000))


def make_run(root, seed=0, num_cells=4, lr="0.001", finished=True, name="<b>maze</b>"):
    """A run directory as a search and an evaluation leave it."""
    rng = np.random.default_rng(seed)
    (root / "search").mkdir(parents=True)
    (root / "config.gin").write_text(
        f"search/TrainingSettings.seed = {seed}\nPPOSettings.learning_rate = {lr}\n"
    )
    log = AlphaLog(root / "search/alphas.npz", {c: CLASSIC.ops(c) for c in CLASSIC.cell_types}, 10)
    genotypes = GenotypeLog(root / "search/genotypes.jsonl")
    for i, step in enumerate(STEPS):
        log.record(
            step, {c: rng.normal(size=(10, len(CLASSIC.ops(c)))) for c in CLASSIC.cell_types}
        )
        genotype = random_genotype(CLASSIC, random.Random(min(i, num_cells - 1)))
        genotypes.record(step, genotype.to_dict())
    log.flush()
    for stage in ("search", "evaluate", "baseline") if finished else ("search",):
        (root / stage).mkdir(exist_ok=True)
        rows = [
            f"{s},{s / 10},{rng.normal() + s / 1000},{'' if s % 2000 else 1}" for s in STEPS[1:]
        ]
        header = "step,wall_time,return_mean,eval_test_return_mean"
        (root / stage / "metrics.csv").write_text("\n".join([header, *rows]) + "\n")
    if finished:
        entry = {"exit_state": "finished", "game": name, "seed": seed, "env_steps": 10_000}
        entry |= {"encoder": "Supernet", "return_mean": 1.25, "parameters": 123_456}
        entry |= {"eval_test_return_mean": 2.5, "eval_test_return_std": 0.5, "wall_time_s": 7200.0}
        stages = dict.fromkeys(("search", "evaluate", "baseline"), entry)
        (root / "summary.json").write_text(
            json.dumps({"stages": stages, "versions": {"python": "3"}})
        )
        genotype.save(root / "genotype.json")
    return root


def drop_stages(run, *stages):
    """Makes a run one that has not had these stages."""
    summary = json.loads((run / "summary.json").read_text())
    for stage in stages:
        shutil.rmtree(run / stage)
        del summary["stages"][stage]
    (run / "summary.json").write_text(json.dumps(summary))


class Page(html.parser.HTMLParser):
    """What a page consists of."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.text, self.open = [], [], "", []
        self.feed(text)
        self.close()
        assert self.open == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text


def test_a_report_is_complete_and_needs_nothing_else(tmp_path):
    run = make_run(tmp_path / "run")
    report.write_report([run], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "b"} & set(page.tags)
    assert "<th>game</th>" not in text, "the title says it"
    # Nothing is loaded: every picture is in the file, and is an SVG picture.
    assert len(page.sources) == 2 + 1 + 4 * 2 + 2
    for source in page.sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        svg = base64.b64decode(content)
        assert xml.etree.ElementTree.fromstring(svg).tag.endswith("svg")
        assert not re.search(rb"(href|src)=\"(?!#)", svg)
    for shown in (
        *("<b>maze</b>", "123,456", "2.50 ± 0.50", "2 h 00 min", "Cells on the way: 4"),
        *("PPOSettings.learning_rate", "from step 3,000", "normal cell (classic)"),
    ):
        assert shown in page.text, shown


def test_contributions_are_shown_where_they_were_recorded(tmp_path):
    run = make_run(tmp_path / "run")
    assert "what the op contributes" not in " ".join(Page(report.make_page([run])).text.split())
    ops = {c: CLASSIC.ops(c) for c in CLASSIC.cell_types}
    log = ContributionLog(run / "search/contributions.npz", ops, 10)
    log.record(1000, {c: np.ones((10, len(names))) for c, names in ops.items()})
    log.flush()
    text = report.make_page([run])
    assert "what the op contributes" in " ".join(Page(text).text.split())
    svgs = [base64.b64decode(s.partition(",")[2]) for s in Page(text).sources]
    # A row of panels more than that of p, which every run has.
    assert any(b'viewBox="0 0 864 1008"' in svg for svg in svgs)
    (run / "search/contributions.npz").write_bytes(b"PK")
    page = Page(report.make_page([run]))
    assert "contributions.npz" in page.text and "softmax weight" in page.text.lower()


def test_runs_that_differ_in_their_seed_alone_share_a_line(tmp_path):
    seeds = [make_run(tmp_path / f"s{i}", seed=i) for i in range(3)]
    other = make_run(tmp_path / "other", lr="0.1")
    runs = [data.read_run(root) for root in (*seeds, other)]
    assert [[run.name for run in members] for members in data.group(runs)] == [
        ["s0", "s1", "s2"], ["other"]
    ]  # fmt: skip
    page = Page(report.make_page([*seeds, other]))
    assert "What differs" in page.text
    assert data.differing_settings(data.group(runs)) == {
        "PPOSettings.learning_rate": ["0.001", "0.1"]
    }
    svg = base64.b64decode(page.sources[0].partition(",")[2]).decode()
    assert "s0 and 2 more: supernet (3 seeds)" in svg and "other: baseline" in svg


def test_different_given_cells_are_different_lines_and_named_after_their_runs(tmp_path):
    searched, baseline, *given = [make_run(tmp_path / name) for name in ("a", "b", "c", "d", "e")]
    for run, stages in ((searched, ("baseline",)), (baseline, ("search", "evaluate"))):
        drop_stages(run, *stages)
    (baseline / "genotype.json").unlink()
    for seed, run in enumerate(given):
        drop_stages(run, "search", "baseline")
        random_genotype(CLASSIC, random.Random(max(seed, 1))).save(run / "genotype.json")
    runs = [searched, baseline, *given]
    groups = data.group([data.read_run(root) for root in runs])
    assert [[run.name for run in members] for members in groups] == [["a", "b"], ["c", "d"], ["e"]]
    page = Page(report.make_page(runs))
    svg = base64.b64decode(page.sources[0].partition(",")[2]).decode()
    for label in ("a: supernet", "a: cell", "b: baseline", "c and 1 more: cell", "e: cell"):
        assert f">{label}" in svg or f"<!-- {label}" in svg, label


def test_stages_on_other_games_than_the_search_say_so(tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((run / "summary.json").read_text())
    content["stages"]["search"] = {**content["stages"]["search"], "game": "a, b, c, d"}
    (run / "summary.json").write_text(json.dumps(content))
    assert data.read_run(run).game == "4 games"
    text = report.make_page([run])
    page = Page(text)
    assert "<th>game</th>" in text and "4 games" in page.text and "<b>maze</b>" in page.text
    svg = base64.b64decode(page.sources[0].partition(",")[2]).decode()
    assert "supernet (4 games)" in svg and "maze" in svg


def test_of_many_cells_some_are_shown_and_the_others_counted(tmp_path):
    run = make_run(tmp_path / "run", num_cells=11)
    page = Page(report.make_page([run]))
    assert "Cells on the way: 11" in page.text
    assert data.chosen(range(100), 5) == [0, 25, 50, 74, 99]
    assert data.chosen(range(3), 5) == [0, 1, 2]


def test_a_run_that_has_not_ended_has_a_report_too(tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    page = Page(report.make_page([run]))
    assert "running or stopped" in page.text and "10,000" in page.text


@pytest.mark.parametrize(
    ("settings", "game"),
    [
        ("CatchSettings.rows = 10", "catch"),
        ("search/GymnasiumSettings.env = 'MinAtar/Breakout-v1'", "MinAtar/Breakout-v1"),
        (
            "DMControlSettings.domain_name = 'cheetah'\nDMControlSettings.task_name = 'run'",
            "cheetah/run",
        ),
        ("ProcgenSettings.game = ['maze', 'miner']\nProcgenSettings.retired = 3", "maze, miner"),
        ("ProcgenSettings.game = 'all'\nsearch/ProcgenSettings.game = 'miner'", "miner"),
        ("ProcgenSettings.game = 'nonsense'", "?"),
        ("PPOSettings.num_envs = 3", "?"),
    ],
)
def test_until_a_stage_has_ended_its_game_is_that_of_the_settings(settings, game, tmp_path):
    run = make_run(tmp_path / "run", finished=False)
    (run / "config.gin").write_text(settings)
    assert data.read_run(run).game == game
    page = Page(report.make_page([run]))
    assert page.text.count(game) >= (1 if game == "?" else 3)
    assert ("nonsense" in settings) == any(
        "ProcgenSettings" in p for p in data.read_run(run).problems
    )


def test_what_is_damaged_is_told_and_the_rest_is_shown(tmp_path):
    run = make_run(tmp_path / "run")
    for name in ("summary.json", "search/alphas.npz", "search/genotypes.jsonl", "genotype.json"):
        path = run / name
        content = path.read_bytes()
        path.write_bytes(b"{\n" + content[: 2 * len(content) // 3])
        page = Page(report.make_page([run]))
        assert path.name in page.text and "Returns of training episodes" in page.text


@pytest.mark.parametrize("case", ["missing", "empty", "twice"])
def test_what_is_no_run_is_refused(case, tmp_path):
    (tmp_path / "empty").mkdir()
    run = make_run(tmp_path / "run")
    runs = {"missing": [tmp_path / "no"], "empty": [tmp_path / "empty"], "twice": [run, run]}
    with pytest.raises(RunError):
        report.make_page(runs[case])


def test_the_command_writes_it_into_the_run(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    assert commands.main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    Page((run / "report.html").read_text("utf-8"))


BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.skipif(BROWSER is None, reason="no headless browser")
def test_a_browser_shows_it_without_asking_for_anything(tmp_path):
    run = make_run(tmp_path / "run")
    report.write_report([run], tmp_path / "report.html")
    screenshot = tmp_path / "page.png"
    ended = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            "--hide-scrollbars", "--window-size=1200,4000", f"--screenshot={screenshot}",
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0
    # Errors of the page itself, such as pictures that its policy forbids.
    assert "CONSOLE" not in ended.stderr, ended.stderr
    from matplotlib import image

    pixels = image.imread(screenshot)
    assert pixels.shape[:2] == (4000, 1200)
    # Pictures are painted: there are the colours of curves and of cells.
    assert len(np.unique((pixels[::4, ::4, :3] * 31).astype(int).reshape(-1, 3), axis=0)) > 100
