"""docs/metrics.md names every column and every entry that the code writes, and no others."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("tf_agents")
pytest.importorskip("acme")

import numpy as np

from rldarts_tf.agents.off_policy import learner
from rldarts_tf.agents.ppo import PPOProgram, PPOSettings
from rldarts_tf.agents.ppo import program as ppo_program
from rldarts_tf.agents.rainbow import RainbowProgram, RainbowSettings
from rldarts_tf.agents.sac import SACProgram, SACSettings
from rldarts_tf.baselines import ImpalaCNN
from rldarts_tf.cost import Cost
from rldarts_tf.encoders import Supernet
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.catch.suite import CatchSuite
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.dm_control.suite import DMControlSuite
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.envs.procgen.suite import ProcgenSuite
from rldarts_tf.launch.stages import TRAINED_STAGES, Pipeline
from rldarts_tf.runs import metrics, summary
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.search_log import AlphaLog
from rldarts_tf.search import CostSettings, SearchSettings
from rldarts_tf.search.signals.stopping import Stop
from rldarts_tf.search_space import CLASSIC, num_edges
from rldarts_tf.teaching import distillation
from rldarts_tf.teaching.distillation import Distillation
from rldarts_tf.teaching.settings import DistillationSettings
from rldarts_tf.teaching.teacher import Teacher
from rldarts_tf.training import loop
from rldarts_tf.training.early_stopping import EigenvalueStopping, ParameterFreeStopping
from rldarts_tf.training.evaluation import Evaluator
from rldarts_tf.training.loop import Training
from rldarts_tf.training.recorder import make_recorder
from rldarts_tf.training.returns import ReturnTracker
from rldarts_tf.training.settings import EncoderSettings
from rldarts_tf.training.stopwatch import Stopwatch

PAGE = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
GAMES = ("bigfish", "starpilot")
SUITE = ProcgenSuite(ProcgenSettings(game=GAMES, num_levels=7))


def documented(heading):
    """The names in the first cells of the table below a heading of the page."""
    sections = re.split(r"^#+ (.*)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    bodies = [body for title, body in zip(sections[1::2], sections[2::2]) if title == heading]
    assert len(bodies) == 1, f"{PAGE.name} has {len(bodies)} sections {heading!r}"
    cells = re.findall(r"^\| (`[^|]*) \|", bodies[0], flags=re.MULTILINE)
    names = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
    assert len(names) == len(set(names)), f"{heading}: a name stands twice"
    return set(names)


def general(names):
    """Names as the page writes them: placeholders for games, cell types and ops."""
    found = set()
    for name in names:
        for game in GAMES:
            name = re.sub(f"_{game}$", "_<game>", name)
        for cell_type in CLASSIC.cell_types:
            name = name.replace(f"alpha_entropy_{cell_type}", "alpha_entropy_<cell type>")
            for op in CLASSIC.ops(cell_type):
                if name == f"op_weight_{cell_type}_{op}":
                    name = "op_weight_<cell type>_<op>"
        found.add(name)
    return found


@pytest.fixture(scope="module")
def supernet():
    # All the columns that there may be.
    return Supernet(CLASSIC, [2], search=SearchSettings(cost=CostSettings(weight=1)))


@pytest.fixture(scope="module")
def training(supernet, tmp_path_factory):
    """All that `Training` needs to say what it writes; nothing is trained."""
    folder = tmp_path_factory.mktemp("stage")
    return SimpleNamespace(
        _returns=ReturnTracker(GAMES, SUITE.normalized),
        _program=SimpleNamespace(
            gradient_steps=7,
            columns=("of the algorithm",),
            stopwatch=Stopwatch(
                *dict.fromkeys((*ppo_program.PARTS, *learner.PARTS, distillation.PART))
            ),
        ),
        _settings=SimpleNamespace(suite=SUITE, training=SimpleNamespace(seed=3)),
        _encoder=supernet,
        _evaluator=Evaluator(SUITE, 2, seed=3),
        _recorder=make_recorder(supernet, StagePaths(folder), None),
        _early=SimpleNamespace(
            columns=(*EigenvalueStopping.columns, *ParameterFreeStopping.columns),
            stop=Stop(5, "a reason"),
        ),
        _stopwatch=Stopwatch(*loop.PARTS),
        _distillation=Distillation(
            Teacher(Path("run/baseline/checkpoints/ckpt-5"), "0", lambda *batch: {}, {}),
            DistillationSettings(),
        ),
        _step=0,
        _seconds=0.0,
    )


@pytest.fixture(scope="module")
def groups(training):
    return Training._columns(training)


CATCH = CatchSuite(CatchSettings())
PENDULUM = DMControlSuite(DMControlSettings("pendulum", "swingup", image_size=32))
PROGRAMS = {
    "PPO": (
        PPOProgram,
        CATCH,
        PPOSettings(
            num_envs=2,
            steps_per_update=2,
            minibatch_size=2,
            final_learning_rate=0.0,
            augmentation="shift",
        ),
    ),
    "Rainbow": (RainbowProgram, CATCH, RainbowSettings(num_envs=2).for_games(CATCH.games)),
    "SAC": (SACProgram, PENDULUM, SACSettings(hidden_sizes=(4,))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_columns_of_each_algorithm(name, tmp_path):
    kind, suite, settings = PROGRAMS[name]
    # The loss is scaled then: these are all the columns that there may be.
    encoder = ImpalaCNN([2], features=4, dtype="mixed_float16")
    with kind(encoder, suite, settings, 0, StagePaths(tmp_path)) as program:
        assert documented(f"{name} (`learning`)") == set(program.columns)


def test_the_columns_that_all_algorithms_share(groups):
    assert documented("First columns") == set(metrics._FIRST_COLUMNS)
    assert documented("Training returns (`returns`)") == general(groups["returns"])
    assert documented("Speed (`speed`)") == general(groups["speed"])
    assert documented("Evaluations (`evaluation`)") == general(groups["evaluation"])


def test_the_columns_of_a_teacher():
    assert documented("With a teacher (`learning`)") == set(distillation.COLUMNS)


def test_the_columns_of_a_search(groups):
    of_search = {name: set(columns) for name, columns in groups.items() if "op_w" in name}
    assert set(of_search) == {f"op_weights_{cell_type}" for cell_type in CLASSIC.cell_types}
    expected = general(set.union(*of_search.values()) | set(groups["search"]))
    assert documented("A search (`op_weights_<cell type>` and `search`)") == expected
    assert documented("Early stopping (`stopping`)") == set(groups["stopping"])


def test_values_are_told_of_columns_that_there_are():
    algorithms = [documented(f"{name} (`learning`)") for name in ("PPO", "Rainbow", "SAC")]
    assert documented("Values that were seen") <= set.union(*algorithms)


def test_every_group_has_a_section(groups):
    titles = re.findall(r"^### .*\(`(\w+)`\)$", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    shared = {name for name in groups if not name.startswith("op_weights_")} - {"search"}
    assert set(titles) == shared


def test_the_entries_of_a_summary(training, tmp_path):
    evaluated = {name: 1.0 for name in Training._columns(training)["evaluation"]}
    suites = {"baseline": DMControlSuite(DMControlSettings())}

    def train(stage, stage_dir, encoder):
        stage_dir.path.mkdir(exist_ok=True)
        if stage == "search":
            ops = {cell_type: CLASSIC.ops(cell_type) for cell_type in CLASSIC.cell_types}
            log = AlphaLog(stage_dir.alphas_path, ops, len(CLASSIC.edges))
            rng = np.random.default_rng(0)
            edges = num_edges(CLASSIC.num_nodes)
            log.record(5, {t: rng.normal(size=(edges, len(ops[t]))) for t in ops})
            log.flush()
        settings = SimpleNamespace(suite=suites.get(stage, SUITE), training=SimpleNamespace(seed=3))
        fake = SimpleNamespace(**{**vars(training), "_settings": settings})
        return Training._summary(fake, evaluated, Cost(1, 2, 3), interrupted=False)

    encoders = {stage: EncoderSettings(depths=[2]) for stage in TRAINED_STAGES}
    with RunDirectory(tmp_path / "run") as run:
        pipeline = Pipeline(run, train, encoders, dict.fromkeys(TRAINED_STAGES, 1))
        for stage in ("all", "baseline"):
            assert pipeline.run(stage)
        stages = summary.read_summary(run.summary_path)["stages"]
    trained = set.union(*(set(stages[stage]) for stage in TRAINED_STAGES))
    assert documented("Entries of search, evaluate and baseline") == general(trained)
    assert documented("Entries of discretize") == set(stages["discretize"])


def test_a_column_that_the_page_lacks_or_the_code_lacks_is_found(training, monkeypatch):
    page = PAGE.read_text("utf-8")
    fake = SimpleNamespace(read_text=lambda _: page.replace("`return_std`", "`gone`"), name="page")
    monkeypatch.setitem(globals(), "PAGE", fake)
    names = documented("Training returns (`returns`)")
    assert names ^ general(training._returns.columns) == {"gone", "return_std"}
