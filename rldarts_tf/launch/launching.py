"""Command-line flags, gin loading and exit codes of the launchers.

Exit codes: 0 done (or stopped by SIGTERM or Ctrl-C after a checkpoint), 2 bad input, with one line
that says what is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import tokenize
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import gin
import tensorflow as tf
from absl import app, flags, logging

from rldarts_tf.agents.settings import ALGORITHMS
from rldarts_tf.errors import (
    ConfigError,
    GenotypeError,
    RLDartsError,
    RunError,
    one_line,
    report_error,
)
from rldarts_tf.genotype import Genotype
from rldarts_tf.launch.stages import STAGES
from rldarts_tf.runs.configs import read_config, statements
from rldarts_tf.runs.paths import TRAINED_STAGES
from rldarts_tf.runs.quiet import quiet_stderr
from rldarts_tf.search_space import SearchSpace, register_search_space
from rldarts_tf.training.settings import EncoderSettings, make_search_space
from rldarts_tf.user_modules import IMPORT_HELP, import_modules

# TF-Agents 0.19 compares with `is ()`: a warning when its source is compiled for the first time,
# which is why this stands before a launcher's import of it, and in what AutoGraph compiles.
warnings.filterwarnings("ignore", category=SyntaxWarning)

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "root_dir",
    None,
    "Run directory; made if missing. A run that is started again on the same directory continues "
    "from its last checkpoint. By default runs/<launcher>-<game or task>-<seed>.",
)
flags.DEFINE_multi_string(
    "gin_file",
    [],
    "Settings file, looked up in gin/ or by path. May be repeated; later files override.",
)
flags.DEFINE_multi_string(
    "gin_bindings",
    [],
    "One setting, such as 'PPOSettings.num_envs = 32' or "
    "'search/EncoderSettings.depths = [8, 8, 8]'. May be repeated; overrides files.",
)
flags.DEFINE_multi_string("import", [], IMPORT_HELP)
flags.DEFINE_integer("seed", None, "Random seed. (TrainingSettings.seed; default 0)")
flags.DEFINE_integer(
    "num_env_steps",
    None,
    "Environment steps of each stage that trains. (TrainingSettings.num_env_steps)",
)
flags.DEFINE_integer(
    "intra_op_threads",
    0,
    "Threads that one TensorFlow op may use; 0: one per core.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "inter_op_threads", 0, "TensorFlow ops that may run at once; 0: one per core.", lower_bound=0
)
flags.DEFINE_string(
    "genotype", None, "Genotype file: the cell to evaluate, instead of the one that is searched."
)
flags.DEFINE_enum(
    "stage",
    "all",
    list(STAGES),
    "What to run. all: search, discretize, evaluate. baseline: IMPALA-CNN.",
)


def gin_folder() -> str:
    """The folder gin/ of the checkout."""
    return str(Path(__file__).resolve().parents[2] / "gin")


def run(main: Callable[[], None]) -> NoReturn:
    """Parses the flags and calls `main`; bad input ends with one line and exit code 2."""

    def parse(argv: Sequence[str]) -> list[str]:
        try:
            rest = FLAGS(list(argv))
        except flags.Error as error:
            _die(error)
        if len(rest) > 1:
            _die(f"unknown argument {rest[1]!r}: settings are given as --flag=value")
        return rest

    def guarded(argv: Any) -> None:
        del argv
        logging.set_verbosity(logging.ERROR)
        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.intra_op_threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.inter_op_threads)
        try:
            import_modules(FLAGS["import"].value)
            main()
        except RLDartsError as error:
            _die(error)

    app.run(guarded, flags_parser=parse)
    raise AssertionError("app.run does not return")


def load_gin(
    default_file: str,
    overrides: Sequence[tuple[str, Any]] = (),
    algorithm: str | None = None,
) -> None:
    """Reads the gin files and bindings of the flags.

    Args:
      default_file: read where the user names none.
      overrides: (setting, value) from other flags; None is skipped. They hold for every stage.
      algorithm: name of the settings of this launcher's algorithm. Files of the hardware may hold
        settings of others, which are not used; a configuration of another algorithm is refused.

    Raises:
      ConfigError: a file is missing, or something in it is unknown or wrong.
    """
    gin.clear_config()
    gin.add_config_file_search_path(gin_folder())
    files = FLAGS.gin_file or [default_file]
    for file in files:
        if not (os.path.exists(file) or os.path.exists(os.path.join(gin_folder(), file))):
            raise ConfigError(f"gin_file: {file!r} is neither a path nor in {gin_folder()}")
        _refuse_imports(f"gin_file {file!r}", _gin_text(file))
    for binding in FLAGS.gin_bindings:
        _refuse_imports(f"gin_bindings {binding!r}", binding)
    # gin logs an error for each place where it looks for a file before it finds it.
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        # One by one, because gin does not always say where an error is.
        for file in files:
            with _gin_errors(f"gin_file {file!r}"):
                gin.parse_config_file(file)
        for binding in FLAGS.gin_bindings:
            with _gin_errors(f"gin_bindings {binding!r}"):
                gin.parse_config(binding)
        with _gin_errors("gin"):
            for setting, value in overrides:
                if value is not None:
                    for scope in ("", *(f"{stage}/" for stage in TRAINED_STAGES)):
                        gin.bind_parameter(scope + setting, value)
            gin.finalize()
    finally:
        logging.set_verbosity(verbosity)
    if algorithm is not None:
        _check_algorithm(algorithm)


def load_genotype() -> Genotype | None:
    """The genotype of --genotype; None without that flag.

    Raises:
      GenotypeError: the file cannot be read or is not valid.
    """
    if FLAGS.genotype is None:
        return None
    try:
        return Genotype.load(FLAGS.genotype)
    except GenotypeError as error:
        raise GenotypeError(f"genotype: {error}") from None


def common_overrides() -> list[tuple[str, Any]]:
    """The settings that the common flags set."""
    return [
        ("TrainingSettings.seed", FLAGS.seed),
        ("TrainingSettings.num_env_steps", FLAGS.num_env_steps),
    ]


def resolve(*settings: Callable[[], Any]) -> dict[str, tuple[Any, ...]]:
    """Makes settings objects for each stage, under its gin scope.

    Returns:
      Per stage of `TRAINED_STAGES` the objects in the order of the arguments. After this
      `gin.operative_config_str()` is the complete configuration, and the search space that it
      defines, if it does, is registered.

    Raises:
      ConfigError: a setting is not valid.
    """
    _check_scopes({make.__name__ for make in settings})
    space = _defined_space()
    resolved = {}
    for stage in TRAINED_STAGES:
        with gin.config_scope(stage):
            resolved[stage] = tuple(_made(make, stage) for make in settings)
    for made in resolved["search"]:
        if isinstance(made, EncoderSettings) and space not in (None, made.search_space):
            raise ConfigError(
                f"SearchSpace.name: {space!r} is defined, but search/EncoderSettings.search_space "
                f"is {made.search_space!r}"
            )
    return resolved


def _made(make: Callable[[], Any], stage: str) -> Any:
    """A settings object of the present gin scope."""
    try:
        return make()
    except RLDartsError as error:
        # gin appends where the call was configured: of no use here.
        raise ConfigError(f"{_first_line(error)} (stage {stage!r})") from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"gin: {_gin_message(error)}") from None


def _defined_space() -> str | None:
    """Registers the search space that gin defines; its name, or None if there is none."""
    bound: set[str] = set()
    for (scope, selector), bindings in gin.config._CONFIG.items():  # gin shows them in no other way
        if selector == "rldarts_tf.SearchSpace":
            if scope not in ("", "search"):
                raise ConfigError(f"gin: {scope}/SearchSpace: only the search has a search space")
            bound.update(bindings)
    if not bound:
        return None
    for name in ("name", "normal_ops"):
        if name not in bound:
            raise ConfigError(f"SearchSpace.{name} is missing, where {', '.join(bound)} is set")
    with gin.config_scope("search"):
        made = _made(make_search_space, "search")
    # Of the class itself, whatever gin makes of it.
    return register_search_space(SearchSpace.from_config(made.to_config())).name


def stop_on_signals() -> Callable[[], bool]:
    """SIGTERM and Ctrl-C ask for a stop at the next checkpoint; a second Ctrl-C is immediate.

    Returns:
      A function that tells whether a stop was asked for.
    """
    asked = []

    def ask(number: int, frame: Any) -> None:
        del frame
        if not asked:
            print("stopping after this update, with a checkpoint ...", file=sys.stderr, flush=True)
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    return lambda: bool(asked)


def compile_quietly() -> None:
    """Compiles something with XLA, which writes a notice to stderr when it does so first."""
    with quiet_stderr(), tf.device("CPU:0"):
        tf.function(tf.negative, jit_compile=True)(0.0)


def _gin_text(file: str) -> str:
    """The text of a file that gin finds where it is or in gin/; empty if it finds none."""
    for path in (file, os.path.join(gin_folder(), file)):
        if os.path.isfile(path):
            return read_config(Path(path))
    return ""


def _refuse_imports(source: str, text: str, included: frozenset[str] = frozenset()) -> None:
    """A settings file sets values; it must not run code, as `import` would."""
    # Where it is no configuration, gin says so better.
    with contextlib.suppress(RunError):
        for statement in statements(text, source):
            if hasattr(statement, "module"):
                raise ConfigError(f"{source}: import {statement.module}: imports are not allowed")
            file = getattr(statement, "filename", None)
            if isinstance(file, str) and file not in included:
                _refuse_imports(f"{source}: include {file!r}", _gin_text(file), included | {file})


def _check_algorithm(own: str) -> None:
    """Refuses settings of another algorithm, which gin would silently ignore."""
    others = {settings.__name__ for settings in ALGORITHMS} - {own}
    for binding in FLAGS.gin_bindings:
        name = binding.partition("=")[0].strip().rpartition(".")[0].rpartition("/")[2]
        if name.rpartition(".")[2] in others:
            raise ConfigError(f"gin_bindings {binding!r}: this launcher has {own} only")
    # Files of the hardware bind some numbers of every algorithm; that of an algorithm binds all.
    complete = {
        settings.__name__
        for settings in ALGORITHMS
        for (_, selector), bindings in gin.config._CONFIG.items()
        if selector.rpartition(".")[2] == settings.__name__
        if set(bindings) >= {field.name for field in dataclasses.fields(settings)}
    }
    if complete and own not in complete:
        raise ConfigError(
            f"gin_file {', '.join(map(repr, FLAGS.gin_file))}: "
            f"has {', '.join(sorted(complete))}; this launcher needs {own}"
        )


def _check_scopes(names: set[str]) -> None:
    """Refuses settings of a stage that does not exist: gin would never use them."""
    for scope, selector in gin.config._CONFIG:  # gin shows them in no other way
        name = selector.rpartition(".")[2]
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
    except RecursionError:
        raise ConfigError(f"{source}: includes itself") from None
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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _die(error: Any) -> NoReturn:
    sys.exit(report_error(error))
