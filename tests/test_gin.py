"""The settings files: each can be read, each combination is valid, the numbers are the paper's."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import os
from pathlib import Path

import gin
import numpy as np
import pytest
from gin import config_parser

from rldarts_tf import search_space
from rldarts_tf.agents.ppo import PPOSettings
from rldarts_tf.agents.rainbow import RainbowSettings
from rldarts_tf.agents.registry import ALGORITHMS
from rldarts_tf.agents.sac import SACSettings
from rldarts_tf.envs.catch.settings import CatchSettings
from rldarts_tf.envs.dm_control.settings import DMControlSettings
from rldarts_tf.envs.gymnasium.settings import GymnasiumSettings
from rldarts_tf.envs.planted import images as planted
from rldarts_tf.envs.planted.settings import PlantedSettings
from rldarts_tf.envs.procgen import games
from rldarts_tf.envs.procgen.settings import ProcgenSettings
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.launch import gin_files
from rldarts_tf.launch.stages import check_encoders
from rldarts_tf.launch.teaching import Teaching
from rldarts_tf.runs.configs import ALGORITHM_NAME, read_search_space
from rldarts_tf.runs.paths import TRAINED_STAGES
from rldarts_tf.search import CostSettings, SearchSettings
from rldarts_tf.search_space import SearchSpace, get_search_space
from rldarts_tf.shipped import launcher_names
from rldarts_tf.studies.settings import StudySettings  # noqa: F401 - gin knows it then
from rldarts_tf.teaching.settings import DistillationSettings, TeacherSettings
from rldarts_tf.training.settings import EncoderSettings, TrainingSettings

ROOT = Path(__file__).resolve().parents[1]
GIN = ROOT / "gin"
FILES = sorted(str(path.relative_to(GIN)) for path in GIN.rglob("*.gin"))
SETTINGS = (
    EncoderSettings,
    *(algorithm.settings for algorithm in ALGORITHMS.values()),
    ProcgenSettings,
    DMControlSettings,
    GymnasiumSettings,
    PlantedSettings,
    CatchSettings,
    TrainingSettings,
)


class PlainParser(config_parser.ParserDelegate):
    """References are left as text: nothing needs to be registered to read a file."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return f"@{scoped_configurable_name}" + ("()" if evaluate else "")

    def macro(self, macro_name):
        return f"%{macro_name}"


def statements(file: str):
    """(what it includes, [(setting with its scope, value)]) of one file, by itself."""
    includes, bindings = [], []
    for statement in config_parser.ConfigParser((GIN / file).read_text("utf-8"), PlainParser()):
        if isinstance(statement, config_parser.IncludeStatement):
            includes.append(statement.filename)
        elif isinstance(statement, config_parser.BindingStatement):
            scope = f"{statement.scope}/" if statement.scope else ""
            setting = f"{scope}{statement.selector}.{statement.arg_name}"
            bindings.append((setting, statement.value))
    return includes, bindings


def closure(file: str) -> list[str]:
    """The file and all that it includes, at any depth."""
    return [file, *itertools.chain.from_iterable(map(closure, statements(file)[0]))]


def kinds(files) -> set[str]:
    return {str(Path(file).parent) for file in files} & {"algorithms", "spaces", "hardware"}


COMPLETE = [file for file in FILES if len(kinds(closure(file))) == 3]
COMPOSITE = [file for file in FILES if len(kinds(statements(file)[0])) == 3]
BY_KIND = {
    kind: [file for file in FILES if file.startswith(f"{kind}/")]
    for kind in ("algorithms", "spaces", "hardware")
}


@pytest.fixture(autouse=True)
def clean_gin():
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture
def registry(monkeypatch):
    """The registered spaces, which are those from before again after a test."""
    monkeypatch.setattr(search_space, "_REGISTRY", dict(search_space._REGISTRY))
    return search_space._REGISTRY


def resolve(*files: str, bindings=(), kinds=SETTINGS):
    """Settings by stage and class, as a launcher gets them from --gin_file and --gin_bindings."""
    gin_files.load(files, bindings)
    resolved = gin_files.resolve(*kinds)
    return {stage: dict(zip(kinds, settings)) for stage, settings in resolved.items()}


def all_settings(*files: str, kinds=SETTINGS) -> dict:
    """Every number of a composition by its full name, such as search/PPOSettings.clip."""
    return {
        f"{stage}/{kind.__name__}.{field.name}": getattr(settings[kind], field.name)
        for stage, settings in resolve(*files, kinds=kinds).items()
        for kind in kinds
        for field in dataclasses.fields(kind)
    }


def test_the_shipped_files_are_found():
    assert "classic.gin" in COMPLETE and "classic.gin" in COMPOSITE
    assert "micro.gin" in COMPLETE and "micro.gin" in COMPOSITE
    assert {"algorithms/ppo.gin", "spaces/classic.gin", "hardware/v100.gin"} <= set(FILES)
    assert {"algorithms/rainbow.gin", "spaces/micro.gin", "joint.gin"} <= set(FILES)
    assert "hardware/cpu.gin" in FILES


@pytest.mark.parametrize("file", FILES)
def test_every_file_parses_alone(file):
    gin.add_config_file_search_path(str(GIN))
    gin.parse_config_file(file)
    own = statements(file)[1]
    assert own or statements(file)[0], "the file says nothing"
    for setting, value in own:
        assert gin.query_parameter(setting) == value


@pytest.mark.parametrize("file", COMPLETE)
def test_every_complete_composition_resolves_to_networks_that_can_be_made(file):
    resolved = resolve(file)
    assert list(resolved) == list(TRAINED_STAGES)
    check_encoders({stage: settings[EncoderSettings] for stage, settings in resolved.items()})


# Of many layers, whose networks take long to make.
LAYERED = ("spaces/a2d.gin", "spaces/a2d_minatar.gin")


@pytest.mark.parametrize(
    ("algorithm", "space", "hardware"),
    [
        (algorithm, space, hardware)
        for algorithm, space, hardware in itertools.product(
            BY_KIND["algorithms"], BY_KIND["spaces"], BY_KIND["hardware"]
        )
        if space not in LAYERED or hardware == "hardware/cpu.gin"
    ],
)
def test_space_algorithm_and_hardware_are_independent_choices(algorithm, space, hardware):
    resolved = resolve(algorithm, space, hardware)
    encoders = {stage: settings[EncoderSettings] for stage, settings in resolved.items()}
    check_encoders(encoders)
    assert encoders["search"].search_space == Path(space).stem
    assert get_search_space(Path(space).stem).name == Path(space).stem


# PI-SAC's README, "Training and Evaluation": initial_collect_steps.
MANY_RANDOM_STEPS = {"finger_spin", "cheetah_run", "walker_walk", "walker_stand", "hopper_stand"}
PLANTED = [file for file in FILES if file.startswith("tasks/planted_")]
TASKS = [file for file in FILES if file.startswith("tasks/") and file not in PLANTED]


@pytest.mark.parametrize("file", TASKS)
def test_a_file_of_a_task_has_its_names_and_the_numbers_of_pi_sac(file):
    name = Path(file).stem
    settings = resolve("sac.gin", file)["search"]
    task = settings[DMControlSettings]
    assert f"{task.domain_name}_{task.task_name}" == name
    random_steps = 10_000 if name in MANY_RANDOM_STEPS else 1000
    assert settings[SACSettings].min_replay_size == random_steps
    assert settings[TrainingSettings].num_env_steps == 1_000_000


def test_there_is_a_file_for_each_task_of_pi_sac():
    assert len(TASKS) >= 9 and {f"tasks/{name}.gin" for name in MANY_RANDOM_STEPS} <= set(TASKS)


@pytest.mark.parametrize("file", PLANTED)
def test_a_file_of_a_planted_task_has_its_ops(file):
    settings = resolve("planted.gin", file)["search"]
    task = planted.TASKS[settings[PlantedSettings].task]
    assert Path(file).stem == f"planted_{settings[PlantedSettings].task}"
    space = settings[EncoderSettings].make("supernet").space
    assert sorted(space.normal_ops) == sorted((task.planted, *task.decoys))


def test_there_is_a_file_for_each_planted_task_but_that_of_planted_gin():
    default = resolve("planted.gin")["search"][PlantedSettings].task
    assert {Path(file).stem for file in PLANTED} == {
        f"planted_{task}" for task in planted.TASKS if task != default
    }


@pytest.mark.parametrize("file", TASKS)
def test_on_a_small_cpu_no_task_is_all_random_steps(file):
    settings = resolve("sac.gin", file, "hardware/cpu_sac.gin")["search"]
    steps = settings[TrainingSettings].num_env_steps
    assert 5 * settings[SACSettings].min_replay_size < steps


@pytest.mark.parametrize(
    ("file", "space", "depths"),
    [("sac.gin", "micro_pisac", [32]), ("sac_blocks.gin", "micro_sac", [32, 32, 32])],
)
def test_sac_has_the_cells_of_the_release_or_blocks_by_name(file, space, depths):
    resolved = resolve(file)
    assert resolved["search"][EncoderSettings].search_space == space
    for stage in ("search", "evaluate"):
        assert list(resolved[stage][EncoderSettings].depths) == depths


@pytest.mark.parametrize("file", FILES)
def test_no_file_binds_a_setting_twice(file):
    names = [setting for setting, _ in statements(file)[1]]
    assert len(names) == len(set(names)), names


@pytest.mark.parametrize("file", COMPOSITE)
def test_composites_only_include_one_file_of_each_kind(file):
    includes, bindings = statements(file)
    assert bindings == []
    assert len(includes) == 4 and len({*map(os.path.dirname, includes)}) == 4


@pytest.mark.parametrize("file", COMPOSITE)
def test_the_parts_of_a_composite_do_not_override_each_other(file):
    # The parts may be included in any order then, and each number stands in one place.
    names = [s for part in statements(file)[0] for s, _ in statements(part)[1]]
    assert len(names) == len(set(names))


# DESIGN: the numbers of Cobbe et al. 2020 ...
COMMON = {
    "PPOSettings.num_envs": 64,
    "PPOSettings.steps_per_update": 256,
    "PPOSettings.adam_epsilon": 1e-5,
    "PPOSettings.discount": 0.999,
    "PPOSettings.gae_lambda": 0.95,
    "PPOSettings.clip": 0.2,
    "PPOSettings.value_clip": 0.2,
    "PPOSettings.entropy_coefficient": 0.01,
    "PPOSettings.value_coefficient": 0.5,
    "PPOSettings.max_gradient_norm": 0.5,
    "PPOSettings.reward_discount": 0.99,  # VecNormalize's own, not γ
    "PPOSettings.reward_clip": 10.0,
    "ProcgenSettings.distribution_mode": "easy",
    "ProcgenSettings.num_levels": 0,
    "ProcgenSettings.start_level": 0,
    "TrainingSettings.num_env_steps": 25_000_000,
}
# ... those that a 16 GB GPU forces on supernets and wide cells (appendix F.3) ...
ONE_V100 = {
    "PPOSettings.minibatch_size": 256,
    "PPOSettings.learning_rate": 1e-4,
    "PPOSettings.num_epochs": 1,
}
# ... and by stage.
RAINBOW = {
    "RainbowSettings.batch_size": 256,
    "RainbowSettings.samples_per_insert": 4.0,
    "RainbowSettings.min_replay_size": 10_000,
    "RainbowSettings.learning_rate": 5e-5,
    "RainbowSettings.discount": 0.99,
    "RainbowSettings.priority_exponent": 0.8,
    "RainbowSettings.importance_exponent": 0.2,
    "RainbowSettings.initial_priority": 4.0,
    "RainbowSettings.max_gradient_norm": None,
    "RainbowSettings.epsilon_base": 0.4,
    "RainbowSettings.epsilon_exponents": (1.0, 8.0),
    "RainbowSettings.epsilon_decay": 7.0,
    "RainbowSettings.epsilon_steps": 25_000_000,
    "RainbowSettings.evaluation_epsilon": 0.0,
    "RainbowSettings.num_atoms": 51,
    "RainbowSettings.v_min": 0.0,
    "RainbowSettings.v_max": 1.0,
    "RainbowSettings.hidden_size": 512,
    "RainbowSettings.target_update_period": 500,
    "ProcgenSettings.distribution_mode": "easy",
    "ProcgenSettings.num_levels": 0,
    "TrainingSettings.num_env_steps": 25_000_000,
    "EncoderSettings.features": 256,
}
MICRO = {
    "search": {
        **RAINBOW,
        "EncoderSettings.search_space": "micro",
        "EncoderSettings.depths": (16, 16, 16),
        "EncoderSettings.inverse_temperature": 10.0,
        "EncoderSettings.output_mode": "concat",
    },
    "evaluate": {**RAINBOW, "EncoderSettings.depths": (64, 64, 64)},
    "baseline": {**RAINBOW, "EncoderSettings.depths": (64, 64, 64)},
}
REACTIVE = {"bigfish", "bossfight", "chaser", "dodgeball", "miner", "plunder", "starpilot"}
CLASSIC = {
    "search": {
        **COMMON,
        **ONE_V100,
        "EncoderSettings.search_space": "classic",
        "EncoderSettings.depths": (16, 16, 16),
        "EncoderSettings.inverse_temperature": 5.0,
        "EncoderSettings.output_mode": "concat",
        "EncoderSettings.normalization": None,
        "EncoderSettings.features": 256,
        "EncoderSettings.train_alpha": True,
    },
    "evaluate": {
        **COMMON,
        **ONE_V100,
        "EncoderSettings.depths": (64, 64, 64),
        "EncoderSettings.features": 256,
    },
    "baseline": {
        **COMMON,
        "PPOSettings.minibatch_size": 64 * 256 // 8,
        "PPOSettings.learning_rate": 5e-4,
        "PPOSettings.num_epochs": 3,
        "EncoderSettings.depths": (64, 64, 64),
        "EncoderSettings.features": 256,
    },
}


@pytest.mark.parametrize("stage", TRAINED_STAGES)
@pytest.mark.parametrize(("file", "numbers"), [("classic.gin", CLASSIC), ("micro.gin", MICRO)])
def test_a_composite_has_the_numbers_of_the_paper(file, numbers, stage):
    settings = all_settings(file)
    expected = {f"{stage}/{name}": value for name, value in numbers[stage].items()}
    assert {name: settings[name] for name in expected} == expected


A2D = {
    "search": {
        "EncoderSettings.inverse_temperature": 1.0,
        "TeacherSettings.run": "own_baseline",
        "DistillationSettings.actor_weight": 1.0,
        "DistillationSettings.critic_weight": 1e-3,
        "DistillationSettings.schedule": "constant",
    },
    "evaluate": {
        "TeacherSettings.run": "own_baseline",
        "DistillationSettings.actor_weight": 1.0,
        "DistillationSettings.critic_weight": 1e-3,
        "DistillationSettings.schedule": "linear",
        "DistillationSettings.linear_fraction": 0.5,
    },
}


@pytest.mark.parametrize(
    ("file", "space", "depths"),
    [("a2d.gin", "a2d_minatar", (16, 32)), ("a2d_atari.gin", "a2d", (16, 32, 64))],
)
def test_a_program_of_a2d_searches_layers_by_gumbel_with_a_price_and_its_own_teacher(
    file, space, depths
):
    kinds = (*SETTINGS, TeacherSettings, DistillationSettings)
    settings = all_settings(file, kinds=kinds)
    for stage, numbers in A2D.items():
        expected = {f"{stage}/{name}": value for name, value in numbers.items()}
        assert {name: settings[name] for name in expected} == expected
        assert tuple(settings[f"{stage}/EncoderSettings.depths"]) == depths
    assert settings["search/EncoderSettings.search_space"] == space
    gin_files.load([file], algorithm=ALGORITHMS["ppo"])
    assert gin_files.search_settings() == SearchSettings(
        relaxation="gumbel",
        gumbel_temperature_start=5.0,
        gumbel_temperature_end=0.1,
        alpha_learning_rate=3e-3,
        alpha_weight_decay=1e-3,
        warm_up=0.25,
        cost=CostSettings(weight=0.1),
    )
    # The teacher is trained first.
    taught = Teaching(gin_files.teaching_settings(), ALGORITHMS["ppo"], {}, Path("run"))
    assert taught.order("all") == ("baseline", "search", "discretize", "evaluate")


def test_a_search_of_a2d_may_compute_every_op():
    gin_files.load(["a2d.gin", "searches/a2d_all_ops.gin"], algorithm=ALGORITHMS["ppo"])
    every = gin_files.search_settings()
    assert every.relaxation == "softmax"
    assert (every.alpha_learning_rate, every.warm_up, every.cost.weight) == (3e-3, 0.25, 0.1)


@pytest.mark.parametrize("game", [*games.GAMES, "all"])
def test_the_game_chooses_return_and_replay(game):
    binding = f"ProcgenSettings.game = {game!r}"
    settings = resolve("micro.gin", bindings=[binding])["search"]
    chosen = settings[RainbowSettings].for_games(settings[ProcgenSettings].games)
    expected = (2, 10_000) if game in REACTIVE else (7, 500_000)
    assert (chosen.n_step, chosen.replay_capacity) == expected


def test_a_number_that_is_bound_holds_for_every_game():
    bindings = ["RainbowSettings.n_step = 3", "RainbowSettings.replay_capacity = 20_000"]
    settings = resolve("micro.gin", bindings=bindings)["search"][RainbowSettings]
    for game in ("starpilot", "coinrun"):
        chosen = settings.for_games([game])
        assert (chosen.n_step, chosen.replay_capacity) == (3, 20_000)


def differing(*files, base):
    """The settings that an overlay gives another value."""
    kinds = (*SETTINGS, DistillationSettings)
    changed, before = all_settings(*files, kinds=kinds), all_settings(base, kinds=kinds)
    return {name: value for name, value in changed.items() if value != before[name]}


def test_the_joint_search_is_on_all_games_and_its_cell_is_evaluated_on_one_at_64_x_5():
    assert differing("joint.gin", base="micro.gin") == {
        "search/ProcgenSettings.game": "all",
        "evaluate/EncoderSettings.depths": (64,) * 5,
        "baseline/EncoderSettings.depths": (64,) * 5,
    }
    resolved = resolve("joint.gin")
    assert resolved["search"][ProcgenSettings].games == games.GAMES
    other = resolve("joint.gin", bindings=["evaluate/ProcgenSettings.game = 'bigfish'"])
    # What depends on the game follows that of the stage.
    assert [
        settings[RainbowSettings].for_games(settings[ProcgenSettings].games).n_step
        for settings in other.values()
    ] == [7, 2, 2]
    assert other["evaluate"][ProcgenSettings].games == ("bigfish",)


@pytest.mark.parametrize(
    ("file", "base", "expected"),
    [
        (
            "depths_64x5",
            "classic.gin",
            {f"{stage}/EncoderSettings.depths": (64,) * 5 for stage in ("evaluate", "baseline")},
        ),
        (
            "levels_200",
            "classic.gin",
            {f"{stage}/ProcgenSettings.num_levels": 200 for stage in TRAINED_STAGES},
        ),
        ("uniform_alpha", "micro.gin", {"search/EncoderSettings.train_alpha": False}),
        (
            "impala_5x5",
            "classic.gin",
            {
                "baseline/EncoderSettings.kernel_size": 5,
                "baseline/EncoderSettings.depths": (64,) * 5,
                "baseline/TrainingSettings.num_env_steps": 50_000_000,
            },
        ),
        (
            "small_encoders",
            "minatar.gin",
            {
                **{f"{stage}/EncoderSettings.depths": (8,) for stage in TRAINED_STAGES},
                **{f"{stage}/EncoderSettings.features": 64 for stage in TRAINED_STAGES},
            },
        ),
        (
            "trial",
            "classic.gin",
            {
                f"{stage}/TrainingSettings.{name}": 0
                for stage in TRAINED_STAGES
                for name in ("evaluation_interval", "pictures")
            },
        ),
        (
            "taught",
            "minatar.gin",
            {
                **{f"{stage}/DistillationSettings.actor_weight": 1.0 for stage in TRAINED_STAGES},
                **{f"{stage}/DistillationSettings.critic_weight": 1e-3 for stage in TRAINED_STAGES},
                "evaluate/DistillationSettings.schedule": "linear",
                "baseline/DistillationSettings.schedule": "linear",
                "evaluate/PPOSettings.final_learning_rate": 0.0,
                "baseline/PPOSettings.final_learning_rate": 0.0,
            },
        ),
    ],
)
def test_a_study_changes_what_it_says_and_no_more(file, base, expected):
    assert differing(base, f"studies/{file}.gin", base=base) == expected
    resolved = resolve(base, f"studies/{file}.gin")
    check_encoders({stage: settings[EncoderSettings] for stage, settings in resolved.items()})


def test_every_study_is_tried_above():
    overlays = [
        Path(file).stem
        for file in FILES
        if file.startswith("studies/") and "StudySettings" not in (GIN / file).read_text("utf-8")
    ]
    tried = {"depths_64x5", "levels_200", "uniform_alpha", "impala_5x5", "small_encoders"}
    tried |= {"trial", "taught"}
    spaces = {"smoke_space", "planted_space"}
    assert {*overlays} == tried | spaces, "what has StudySettings: tests/test_studies.py"


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith("augmentation/")])
@pytest.mark.parametrize("base", ["minatar.gin", "minatar_rainbow.gin", "sac.gin"])
def test_an_augmentation_is_the_one_of_its_file_and_nothing_else(file, base):
    assert differing(base, file, base=base) == {
        f"{stage}/{kind.__name__}.augmentation": Path(file).stem
        for stage in TRAINED_STAGES
        for kind in (PPOSettings, RainbowSettings)
    }


SMALL = [f"{stage}/EncoderSettings.depths = [4, 4]" for stage in TRAINED_STAGES]
IMAGES = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), np.uint8)


def test_the_space_of_six_nodes_is_that_of_appendix_c2():
    files = ["classic.gin", "spaces/classic_six_nodes.gin"]
    settings = resolve(*files, bindings=SMALL)
    supernet = settings["search"][EncoderSettings].make("supernet")
    assert supernet.space == dataclasses.replace(
        get_search_space("classic"),
        name="classic_six_nodes",
        reduction_ops=(),
        num_reduction=0,
        num_nodes=6,
    )
    assert supernet(IMAGES).shape == (1, 256)
    genotype = supernet.discretize()
    assert (genotype.num_nodes, genotype.output_mode) == (6, "last")
    cell = settings["evaluate"][EncoderSettings].make("discrete", genotype)
    assert cell(IMAGES).shape == (1, 256)


def test_uniform_alpha_is_not_trained():
    settings = resolve("micro.gin", "studies/uniform_alpha.gin", bindings=SMALL)
    supernet = settings["search"][EncoderSettings].make("supernet")
    supernet(IMAGES)
    assert not [w for w in supernet.trainable_weights if "alpha" in w.name]


def test_the_baseline_of_5_x_5_has_such_kernels():
    settings = resolve("classic.gin", "studies/impala_5x5.gin", bindings=SMALL)
    baseline = settings["baseline"][EncoderSettings].make("impala_cnn")
    baseline(IMAGES)
    kernels = [w.shape[:2] for w in baseline.weights if len(w.shape) == 4]
    assert kernels == [(5, 5)] * 10
    assert settings["search"][EncoderSettings].kernel_size == 3


# --- a space that gin defines -------------------------------------------------------------------

SPACE = ["SearchSpace.name = 'gin_space'", "SearchSpace.normal_ops = ('relu', 'conv_3x3')"]
USED = "search/EncoderSettings.search_space = 'gin_space'"


def test_every_field_of_a_space_is_a_setting(registry, tmp_path):
    fields = {field.name for field in dataclasses.fields(SearchSpace)}
    own = SearchSpace("gin_space", ("relu",), ("tanh", "elu"), 2, 1, 3, 1)
    bindings = [f"search/SearchSpace.{k} = {v!r}" for k, v in own.to_config().items()]
    resolve("classic.gin", bindings=[*bindings, USED])
    assert get_search_space("gin_space") == own
    # Recorded completely, so that the run can be repeated from its own configuration.
    text = gin.operative_config_str()
    assert all(f"search/SearchSpace.{name} = " in text for name in fields)
    (tmp_path / "config.gin").write_text(text)
    before = all_settings(str(tmp_path / "config.gin"))
    del registry["gin_space"]
    assert read_search_space(tmp_path / "config.gin") == own
    assert all_settings(str(tmp_path / "config.gin")) == before
    assert get_search_space("gin_space") == own
    assert gin.operative_config_str() == text


def test_a_space_without_a_scope_is_the_same_and_lacks_what_has_a_default(registry):
    resolve("classic.gin", bindings=[*SPACE, USED])
    assert get_search_space("gin_space") == SearchSpace("gin_space", ("relu", "conv_3x3"))


def test_a_configuration_that_defines_no_space_has_none(tmp_path):
    resolve("classic.gin")
    text = gin.operative_config_str()
    assert "SearchSpace" not in text
    (tmp_path / "config.gin").write_text(text)
    assert read_search_space(tmp_path / "config.gin") == "classic"


@pytest.mark.parametrize(
    ("bindings", "message"),
    [
        (SPACE, "SearchSpace.name: 'gin_space' is defined, but .*search_space is 'classic'"),
        ([SPACE[0], USED], "SearchSpace.normal_ops is missing"),
        ([SPACE[1]], "SearchSpace.name is missing"),
        ([*SPACE, USED, "SearchSpace.num_nodes = 0"], r"SearchSpace.num_nodes must be .* \(stage"),
        ([*SPACE, USED, "SearchSpace.normal_ops = 3"], "SearchSpace.normal_ops must be a list"),
        ([*SPACE, USED, "SearchSpace.colour = 3"], "colour"),
        ([*SPACE, USED, "evaluate/SearchSpace.num_nodes = 3"], "only the search"),
        ([SPACE[1], "SearchSpace.name = 'classic'"], "named 'classic' is registered already"),
        ([SPACE[0], USED, "SearchSpace.normal_ops = ['nop']"], "unknown op 'nop'"),
    ],
)
def test_a_space_that_is_wrong_or_not_used_is_refused_in_one_line(bindings, message, registry):
    with pytest.raises(ConfigError, match=message) as raised:
        resolved = resolve("classic.gin", bindings=bindings)
        check_encoders({stage: settings[EncoderSettings] for stage, settings in resolved.items()})
    assert "\n" not in str(raised.value)


def test_a_recorded_definition_that_is_wrong_is_refused_in_one_line(tmp_path):
    config = tmp_path / "config.gin"
    config.write_text("\n".join([*SPACE, USED, "SearchSpace.top_k = 'x'"]))
    with pytest.raises(RunError, match=r"config.gin.*search_space.top_k") as raised:
        read_search_space(config)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("file", "algorithm"), [("classic.gin", PPOSettings), ("micro.gin", RainbowSettings)]
)
def test_every_number_of_the_program_stands_in_a_file_and_not_in_a_default(file, algorithm):
    bound = {
        setting.rpartition("/")[2] for file in closure(file) for setting, _ in statements(file)[1]
    }
    for kind in (algorithm, ProcgenSettings, TrainingSettings):
        for field in dataclasses.fields(kind):
            assert f"{kind.__name__}.{field.name}" in bound


@pytest.mark.parametrize(
    ("file", "algorithm"),
    [("algorithms/ppo.gin", PPOSettings), ("algorithms/rainbow.gin", RainbowSettings)],
)
def test_the_defaults_in_python_are_those_of_the_file(file, algorithm):
    resolved = resolve(file)
    gin.clear_config()
    assert resolved["search"][algorithm] == algorithm()


def test_the_ablation_differs_from_classic_in_its_ops_alone():
    classic, ablation = (
        all_settings("algorithms/ppo.gin", space, "hardware/v100.gin")
        for space in ("spaces/classic.gin", "spaces/classic_no_relu.gin")
    )
    assert {name for name in classic if classic[name] != ablation[name]} == {
        "search/EncoderSettings.search_space"
    }


def test_the_cpu_overlay_reaches_every_stage():
    big, small = all_settings("classic.gin"), all_settings("classic.gin", "hardware/cpu.gin")
    for stage in TRAINED_STAGES:
        for name in ("PPOSettings.num_envs", "TrainingSettings.num_env_steps"):
            assert small[f"{stage}/{name}"] < big[f"{stage}/{name}"]
        assert small[f"{stage}/PPOSettings.minibatch_size"] <= 512
    # What the task is must not depend on the machine; nor do the losses.
    for name in COMMON:
        if name.split(".")[1] not in ("num_envs", "steps_per_update", "num_env_steps"):
            assert small[f"evaluate/{name}"] == big[f"evaluate/{name}"] == COMMON[name]


def test_later_files_and_then_bindings_override():
    binding = "search/PPOSettings.num_epochs = 7"
    assert resolve("classic.gin")["search"][PPOSettings].num_epochs == 1
    search = resolve("classic.gin", "hardware/cpu.gin", bindings=[binding])["search"]
    assert search[PPOSettings].num_epochs == 7
    assert (
        search[PPOSettings].num_envs
        == dict(statements("hardware/cpu.gin")[1])["PPOSettings.num_envs"]
    )


def test_flags_hold_for_every_stage_whatever_the_files_say():
    own = ["search/TrainingSettings.seed = 1", "TrainingSettings.seed = 2"]
    flags = [("TrainingSettings.seed", 5), ("TrainingSettings.num_env_steps", None)]
    gin_files.load(["classic.gin"], own, flags)
    resolved = gin_files.resolve(TrainingSettings)
    assert {stage: settings.seed for stage, (settings,) in resolved.items()} == {
        "search": 5,
        "evaluate": 5,
        "baseline": 5,
    }
    steps = {settings.num_env_steps for (settings,) in resolved.values()}
    assert steps == {25_000_000}, "a flag that is not given changes nothing"


@pytest.mark.parametrize("where", ["file", "included file", "binding", "before what is no gin"])
def test_a_configuration_cannot_import(where, tmp_path, monkeypatch):
    marker = tmp_path / "imported"
    (tmp_path / "evil_of_a_test.py").write_text(f"open({str(marker)!r}, 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "some.gin"
    file.write_text("import evil_of_a_test\n" + ("(((" if where.startswith("before") else ""))
    outer = tmp_path / "outer.gin"
    outer.write_text(f"include '{file}'\n")
    files = [str(outer if where == "included file" else file)]
    bindings = []
    if where == "binding":
        files, bindings = ["classic.gin"], ["import evil_of_a_test"]
    with pytest.raises(ConfigError, match="evil_of_a_test: imports are not allowed"):
        resolve(*files, bindings=bindings)
    assert not marker.exists()


def test_the_operative_configuration_resolves_to_the_same_settings(tmp_path):
    before = all_settings("classic.gin", "hardware/cpu.gin")
    (tmp_path / "config.gin").write_text(gin.operative_config_str(), "utf-8")
    assert all_settings(str(tmp_path / "config.gin")) == before
    # Complete: with defaults that no file names, such as EncoderSettings.features.
    text = (tmp_path / "config.gin").read_text("utf-8")
    assert all(name in text for name in before)


def test_files_are_found_from_any_working_directory(tmp_path, monkeypatch):
    expected = all_settings("classic.gin")
    monkeypatch.chdir(tmp_path)
    assert all_settings("classic.gin") == expected


def test_the_folder_of_settings_does_not_shadow_the_package_gin():
    # A Python file there would make it a package that hides gin-config from the launchers.
    assert [str(path) for path in GIN.rglob("*") if path.suffix.startswith(".py")] == []
    assert not Path(gin.__file__).is_relative_to(ROOT / "gin")


@pytest.mark.parametrize("name", launcher_names())
def test_the_default_file_of_a_launcher_exists(name):
    launcher = ROOT / "launchers" / f"{name}.py"
    calls = [
        node
        for node in ast.walk(ast.parse(launcher.read_text("utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "launch.Experiment"
    ]
    assert len(calls) == 1
    stated = {keyword.arg: ast.literal_eval(keyword.value) for keyword in calls[0].keywords[:2]}
    assert stated["name"] == launcher.stem
    assert stated["gin"] in FILES and "algorithms" in kinds(closure(stated["gin"]))


# --- which algorithm a configuration is for -----------------------------------------------------


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_file_of_an_algorithm_names_it_and_so_does_what_a_run_records(name):
    algorithm = ALGORITHMS[name]
    gin_files.load([f"algorithms/{name}.gin"], algorithm=algorithm)
    assert gin.query_parameter(ALGORITHM_NAME) == name
    gin_files.resolve(algorithm.settings)
    assert f"Algorithm.name = {name!r}\n" in gin.operative_config_str()
    # Also where no file names it.
    gin_files.load(["hardware/cpu.gin"], algorithm=algorithm)
    gin_files.resolve(algorithm.settings)
    assert f"Algorithm.name = {name!r}\n" in gin.operative_config_str()


OTHER = "is for 'rainbow', with RainbowSettings; this launcher is for 'ppo', with PPOSettings"


@pytest.mark.parametrize(
    ("files", "bindings", "message"),
    [
        (["micro.gin"], [], f"gin_file 'micro.gin': {OTHER}"),
        (["classic.gin", "algorithms/rainbow.gin"], [], OTHER),
        (["classic.gin"], ["Algorithm.name = 'rainbow'"], OTHER),
        (["classic.gin"], ["search/Algorithm.name = 'rainbow'"], OTHER),
        (["classic.gin"], ["Algorithm.name = 'a2c'"], "one of ppo, rainbow, sac, got 'a2c'"),
        (["classic.gin"], ["Algorithm.name = ['ppo']"], r"got \['ppo'\]"),
        (["classic.gin"], ["Algorithm.nam = 'ppo'"], "nam"),
        (["classic.gin"], ["RainbowSettings.n_step = 3"], "this launcher has PPOSettings only"),
    ],
)
def test_a_configuration_for_another_algorithm_is_refused(files, bindings, message):
    with pytest.raises(ConfigError, match=message) as raised:
        gin_files.load(files, bindings, algorithm=ALGORITHMS["ppo"])
    assert "\n" not in str(raised.value)


def test_the_last_file_of_an_algorithm_counts_and_overlays_name_none():
    gin_files.load(["micro.gin", "classic.gin", "hardware/cpu.gin"], algorithm=ALGORITHMS["ppo"])
    gin_files.load(["micro.gin", "hardware/v100.gin"], algorithm=ALGORITHMS["rainbow"])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_recorded_configuration_that_names_no_algorithm_is_for_that_of_its_settings(name):
    config = str(ROOT / "tests" / "golden" / name / "config.gin")
    assert "Algorithm" not in Path(config).read_text("utf-8")
    for other, algorithm in ALGORITHMS.items():
        if other == "rainbow":
            continue  # It has retired settings.
        if other == name:
            gin_files.load([config], algorithm=algorithm)
        else:
            with pytest.raises(ConfigError, match=f"is for {name!r}.* this launcher is for"):
                gin_files.load([config], algorithm=algorithm)


@pytest.mark.parametrize(
    "binding",
    [
        "rldarts_tf.ActorDistributionNetwork.logits_scale = 2.0",
        "rldarts_tf.EncodingNetwork.fc_layer_params = (7,)",
        "PPOClipAgent.policy_l2_reg = 0.1",
    ],
)
def test_what_no_config_gin_would_record_is_refused(binding):
    import rldarts_tf.agents.ppo.agent  # noqa: F401 - gin then knows all these names

    with pytest.raises(ConfigError, match=r"has no settings of a run; .*PPOSettings"):
        resolve("classic.gin", bindings=[binding])


@pytest.mark.parametrize(
    "binding",
    ["PPOSettings.learning_rate = @PPOSettings()", "ProcgenSettings.game = ['a', {'b': @f}]"],
)
def test_references_to_functions_are_refused(binding):
    with pytest.raises(ConfigError, match=r"@(PPOSettings\(\)|f): references are not allowed"):
        resolve("classic.gin", bindings=[binding])


def test_a_file_is_included_from_beside_the_one_that_includes_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "seed.gin").write_text("TrainingSettings.seed = 7\n")
    (tmp_path / "parts" / "all.gin").write_text("include 'seed.gin'\n")
    outer = tmp_path / "outer.gin"
    # Editors on Windows put a byte order mark before the text.
    outer.write_text("include 'classic.gin'\ninclude 'parts/all.gin'\n", "utf-8-sig")
    gin_files.load([str(outer)])
    assert gin_files.resolve(TrainingSettings)["search"][0].seed == 7


def test_an_included_file_that_is_missing_is_named_with_the_one_that_includes_it(tmp_path):
    (tmp_path / "outer.gin").write_text("include 'nowhere.gin'\n")
    with pytest.raises(ConfigError, match=r"outer\.gin': include 'nowhere\.gin': is neither"):
        gin_files.load([str(tmp_path / "outer.gin")])
