"""Settings from gin files and bindings: loading, checks, and settings objects for each stage."""

from __future__ import annotations

import contextlib
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gin

from rldarts_tf.agents.registry import ALGORITHMS, Algorithm
from rldarts_tf.checks import check_choice
from rldarts_tf.envs.suite import import_settings, suite_names
from rldarts_tf.errors import ConfigError, RLDartsError, one_line
from rldarts_tf.launch import gin_text
from rldarts_tf.runs.configs import ALGORITHM_NAME, canonical
from rldarts_tf.runs.paths import TRAINED_STAGES
from rldarts_tf.search.cost_settings import CostSettings
from rldarts_tf.search.costs import read_latencies
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.search_space import KINDS, get_search_space, register_search_space
from rldarts_tf.settings_fields import defaults
from rldarts_tf.teaching.settings import DistillationSettings, TeacherSettings
from rldarts_tf.training.settings import (
    EncoderSettings,
    TrainingSettings,
    make_cost_settings,
    make_search_settings,
    make_search_space,
)


@gin.configurable("Algorithm", module="rldarts_tf")
def _algorithm(name: str | None = None) -> str | None:
    """The name in `Algorithm.name = 'ppo'`."""
    return name


def load(
    files: Sequence[str],
    bindings: Sequence[str] = (),
    overrides: Sequence[tuple[str, Any]] = (),
    algorithm: Algorithm | None = None,
) -> None:
    """Reads gin files and bindings; later ones override earlier ones.

    Args:
      files: paths, or names in gin/.
      bindings: such as "PPOSettings.num_envs = 32"; after all files.
      overrides: (setting, value); None is skipped. They hold for every stage.
      algorithm: of the launcher. Files of the hardware may hold settings of others, which are not
        used; a configuration for another algorithm is refused.

    Raises:
      ConfigError: a file is missing, or something in it is unknown or wrong.
    """
    import_settings()
    gin.clear_config()
    # One by one, because gin does not always say where an error is; code is refused everywhere
    # before anything is bound.
    texts = [piece for file in files for piece in gin_text.pieces(file)]
    texts += [gin_text.binding(text) for text in bindings]
    for source, text in texts:
        with _gin_errors(source):
            gin.parse_config(text)
    if algorithm is not None:
        _check_bindings(bindings, algorithm)
        _check_algorithm(files, algorithm)
        gin.bind_parameter(ALGORITHM_NAME, algorithm.name)
    with _gin_errors("gin"):
        for setting, value in overrides:
            if value is not None:
                for scope in ("", *(f"{stage}/" for stage in TRAINED_STAGES)):
                    gin.bind_parameter(scope + setting, value)
        gin.finalize()


def resolve(*settings: Callable[[], Any]) -> dict[str, tuple[Any, ...]]:
    """Makes settings objects for each stage, under its gin scope.

    Returns:
      Per stage of `TRAINED_STAGES` the objects in the order of the arguments. After this
      `gin.operative_config_str()` is the complete configuration, and the search space that it
      defines, if it does, is registered.

    Raises:
      ConfigError: a setting is not valid.
    """
    _check_known()
    _check_scopes({make.__name__ for make in settings})
    _algorithm()
    space = _defined_space()
    resolved = _by_stage(*settings)
    for made in resolved["search"]:
        if isinstance(made, EncoderSettings) and space and space != made.search_space:
            kind = type(get_search_space(space)).__name__
            raise ConfigError(
                f"{kind}.name: {space!r} is defined, but search/EncoderSettings.search_space "
                f"is {made.search_space!r}"
            )
    return resolved


def _by_stage(*settings: Callable[[], Any]) -> dict[str, tuple[Any, ...]]:
    resolved = {}
    for stage in TRAINED_STAGES:
        with gin.config_scope(stage):
            resolved[stage] = tuple(_made(make, stage) for make in settings)
    return resolved


def _made(make: Callable[[], Any], stage: str) -> Any:
    """A settings object of the present gin scope."""
    try:
        return make()
    except RLDartsError as error:
        # gin appends where the call was configured: of no use here.
        raise ConfigError(f"{str(error).splitlines()[0]} (stage {stage!r})") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"gin: {_gin_message(error)}") from None


def _bound() -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(scope, name of a class or function, the values bound to its arguments)."""
    for (scope, selector), values in gin.config._CONFIG.items():  # gin shows them in no other way
        yield scope, selector.rpartition(".")[2], values


def search_settings() -> SearchSettings:
    """The search method that gin defines; that of the paper, which no file has to name.

    A configuration without one is then that of an earlier version, whose runs can be resumed.

    Raises:
      ConfigError: a setting is not valid, or stands in the scope of another stage.
    """
    method = _fields_in_search(SearchSettings, make_search_settings)
    cost = CostSettings(**_fields_in_search(CostSettings, make_cost_settings))
    if cost.latency_table is not None:
        read_latencies(cost.latency_table)
    # Of the class itself, whatever gin makes of it.
    return SearchSettings(**{**method, "cost": cost})


def _fields_in_search(kind: type, make: Callable[[], Any]) -> dict[str, Any]:
    """The fields of settings of the search method; none where no file has any."""
    if not _bound_in_search(kind.__name__, "a search method"):
        return {}
    with gin.config_scope("search"):
        return vars(_made(make, "search"))


def teaching_settings() -> dict[str, tuple[TeacherSettings, DistillationSettings]]:
    """Who teaches each stage, and what; empty where gin does not say.

    A configuration that says nothing is then that of an earlier version, as in `search_settings`.

    Raises:
      ConfigError: a setting is not valid.
    """
    kinds = (TeacherSettings, DistillationSettings)
    names = {kind.__name__ for kind in kinds}
    if names.isdisjoint(name for _, name, _ in _bound()):
        return {}
    _check_scopes(names)
    return _by_stage(*kinds)


def optional_defaults() -> dict[str, str]:
    """Canonical values, by field, of what a configuration lacks where nobody asks for it."""
    kinds = (SearchSettings, CostSettings, TeacherSettings, DistillationSettings)
    return {
        f"{kind.__name__}.{field}": canonical(default)
        for kind in kinds
        for field, default in defaults(kind).items()
    }


def _bound_in_search(kind: str, what: str) -> set[str]:
    """The fields that are bound of what the search alone has."""
    bound: set[str] = set()
    for scope, name, values in _bound():
        if name == kind:
            if scope not in ("", "search"):
                raise ConfigError(f"gin: {scope}/{kind}: only the search has {what}")
            bound.update(values)
    return bound


def _defined_space() -> str | None:
    """Registers the search space that gin defines; its name, or None if there is none."""
    defined = {kind: _bound_in_search(kind.__name__, "a search space") for kind in KINDS}
    defined = {kind: bound for kind, bound in defined.items() if bound}
    if len(defined) > 1:
        both = " and ".join(kind.__name__ for kind in defined)
        raise ConfigError(f"gin: {both} are both defined; a search has one search space")
    for kind, bound in defined.items():
        for name in kind.required():
            if name not in bound:
                missing = f"{kind.__name__}.{name} is missing"
                raise ConfigError(f"{missing}, where {', '.join(bound)} is set")
        with gin.config_scope("search"):
            made = _made(make_search_space[kind], "search")
        # Of the class itself, whatever gin makes of it.
        return register_search_space(kind.from_config(made.to_config())).name
    return None


def _check_bindings(bindings: Sequence[str], own: Algorithm) -> None:
    """Refuses settings of another algorithm, which gin would silently ignore."""
    others = {algorithm.settings.__name__ for algorithm in ALGORITHMS.values()}
    for binding in bindings:
        name = binding.partition("=")[0].strip().rpartition(".")[0].rpartition("/")[2]
        if name.rpartition(".")[2] in others - {own.settings.__name__}:
            raise ConfigError(
                f"gin_bindings {binding!r}: this launcher has {own.settings.__name__} only"
            )


def _check_algorithm(files: Sequence[str], own: Algorithm) -> None:
    """Refuses a configuration for another algorithm."""
    named = [values["name"] for _, name, values in _bound() if name == "Algorithm"]
    for name in named or _complete():
        # A list also looks for what cannot be hashed.
        check_choice(ALGORITHM_NAME, name, [*ALGORITHMS])
        if name != own.name:
            raise ConfigError(
                f"gin_file {', '.join(map(repr, files))}: is for {name!r}, with "
                f"{ALGORITHMS[name].settings.__name__}; this launcher is for {own.name!r}, with "
                f"{own.settings.__name__}"
            )


def _complete() -> list[str]:
    """The algorithms that have settings in every stage.

    A config.gin from before `Algorithm.name` has those of one, and no file of gin/ has any.
    """
    bound = {(scope, name) for scope, name, _ in _bound()}
    return [
        algorithm.name
        for algorithm in ALGORITHMS.values()
        if all((stage, algorithm.settings.__name__) in bound for stage in TRAINED_STAGES)
    ]


def _check_known() -> None:
    """Refuses what is no setting of this project.

    gin would apply it, to a function of TF-Agents for one, and no config.gin would tell: a run that
    resumes without it would train something else.
    """
    known = {
        "Algorithm",
        *(kind.__name__ for kind in KINDS),
        SearchSettings.__name__,
        CostSettings.__name__,
        TeacherSettings.__name__,
        DistillationSettings.__name__,
        EncoderSettings.__name__,
        TrainingSettings.__name__,
        *(algorithm.settings.__name__ for algorithm in ALGORITHMS.values()),
        *suite_names(),
        "macro",
    }
    for _, name, values in _bound():
        if name not in known:
            bound = ", ".join(f"{name}.{field}" for field in values)
            settings = ", ".join(sorted(known - {"macro"}))
            raise ConfigError(f"gin: {bound}: {name} has no settings of a run; {settings} have")


def _check_scopes(names: set[str]) -> None:
    """Refuses settings of a stage that does not exist: gin would never use them."""
    for scope, name, _ in _bound():
        if name in names and scope not in ("", *TRAINED_STAGES):
            raise ConfigError(
                f"gin: {scope}/{name}: there is no stage {scope!r} that trains; "
                f"one of {', '.join(TRAINED_STAGES)}"
            )


@contextlib.contextmanager
def _gin_errors(source: str) -> Iterator[None]:
    """Turns what gin raises into a ConfigError that names the source."""
    try:
        yield
    except (
        AttributeError,
        ImportError,
        KeyError,
        OSError,
        SyntaxError,
        TypeError,
        ValueError,
        tokenize.TokenError,
    ) as error:
        raise ConfigError(f"{source}: {_gin_message(error)}") from None


def _gin_message(error: BaseException) -> str:
    if isinstance(error, tokenize.TokenError):
        return f"{error.args[0]}: a bracket or a quotation mark is not closed"
    # gin may append the whole configuration.
    return one_line(error, None).partition(" in config string:")[0]
