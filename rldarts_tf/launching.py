"""What all launchers share: flags, gin files, and how they end.

Exit codes: 0 done (or stopped by SIGTERM or Ctrl-C after a checkpoint), 2 bad input, with one line
that says what is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import gin
from absl import app, flags, logging

from rldarts_tf.errors import ConfigError, RLDartsError
from rldarts_tf.stages import STAGES, TRAINED_STAGES

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
flags.DEFINE_integer("seed", None, "Random seed. (TrainingSettings.seed; default 0)")
flags.DEFINE_integer(
    "num_env_steps",
    None,
    "Environment steps of each stage that trains. (TrainingSettings.num_env_steps)",
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
    return os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gin")


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
        # TF-Agents 0.19 compares with `is ()`, in code that AutoGraph compiles anew in every run.
        warnings.filterwarnings("ignore", category=SyntaxWarning)
        try:
            main()
        except RLDartsError as error:
            _die(error)

    app.run(guarded, flags_parser=parse)
    raise AssertionError("app.run does not return")


def load_gin(default_file: str, overrides: Sequence[tuple[str, Any]] = ()) -> None:
    """Reads the gin files and bindings of the flags.

    Args:
      default_file: read where the user names none.
      overrides: (setting, value) from other flags; None is skipped. They hold for every stage.

    Raises:
      ConfigError: a file is missing, or something in it is unknown or wrong.
    """
    gin.clear_config()
    gin.add_config_file_search_path(gin_folder())
    files = FLAGS.gin_file or [default_file]
    for file in files:
        if not (os.path.exists(file) or os.path.exists(os.path.join(gin_folder(), file))):
            raise ConfigError(f"gin_file: {file!r} is neither a path nor in {gin_folder()}")
    # gin logs an error for each place where it looks for a file before it finds it.
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.FATAL)
    try:
        gin.parse_config_files_and_bindings(files, FLAGS.gin_bindings, finalize_config=False)
        for setting, value in overrides:
            if value is not None:
                for scope in ("", *(f"{stage}/" for stage in TRAINED_STAGES)):
                    gin.bind_parameter(scope + setting, value)
        gin.finalize()
    except (ValueError, SyntaxError, OSError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"gin: {_one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)


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
      `gin.operative_config_str()` is the complete configuration.

    Raises:
      ConfigError: a setting is not valid.
    """
    resolved = {}
    for stage in TRAINED_STAGES:
        with gin.config_scope(stage):
            try:
                resolved[stage] = tuple(make() for make in settings)
            except RLDartsError as error:
                # gin appends where the call was configured: of no use here.
                raise ConfigError(f"{_first_line(error)} (stage {stage!r})") from None
            except (TypeError, ValueError) as error:
                raise ConfigError(f"gin: {_one_line(error)}") from None
    return resolved


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


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _die(error: Any) -> NoReturn:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    sys.exit(2)


