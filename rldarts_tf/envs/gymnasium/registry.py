"""Finds an id among those that are registered with Gymnasium."""

from __future__ import annotations

import importlib
import logging
import warnings
from importlib import metadata
from typing import Any

from rldarts_tf import extras
from rldarts_tf.errors import ConfigError, of_foreign_code, one_line

# Gymnasium before 1.0 called what packages name in this group; MinAtar registers its ids so.
_PLUGINS = "gymnasium.envs"

_NO_NAMESPACE = "__root__"

# Packages that register the ids of a namespace when they are imported.
_PACKAGES = {"ALE": "ale_py"}

# Modules of the namespaces that an extra brings.
_EXTRAS = {**_PACKAGES, "MinAtar": "minatar"}


def load_gymnasium() -> Any:
    """Imports Gymnasium.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import gymnasium
    except ImportError as error:
        raise ConfigError(
            f"env: Gymnasium cannot be loaded ({error}); run: pip install rldarts_tf[gymnasium]"
        ) from error
    return gymnasium


def find_spec(env_id: str) -> Any:
    """The `EnvSpec` of an id.

    An id that is not registered yet is looked for in the installed package that registers the
    namespace before its slash: the one whose entry point in the group "gymnasium.envs" has that
    name, or Atari's for "ALE". Without a slash, in all whose entry point there is "__root__".

    Raises:
      ConfigError: there is no such id; names one like it, or what may be missing.
    """
    gymnasium = load_gymnasium()
    namespace = env_id.partition("/")[0] if "/" in env_id else _NO_NAMESPACE
    if env_id not in gymnasium.registry:
        _register(namespace)
    try:
        return gymnasium.spec(env_id)
    except gymnasium.error.NamespaceNotFound as error:
        missing = extras.explanation_for(_EXTRAS.get(namespace, ""))
        raise ConfigError(f"env: {missing or _unknown(error)}") from None
    except gymnasium.error.Error as error:
        raise ConfigError(f"env: {_unknown(error)}") from None


def _unknown(error: Exception) -> str:
    return (
        f"{one_line(error)} (a module that registers ids of your own is named by --env_module of a "
        "launcher, or --import before a command of rldarts_tf)"
    )


def _register(namespace: str) -> None:
    # MinAtar says that it cannot draw, which is not asked of it, and Gymnasium that ids are
    # registered again.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _load(namespace)
    except (Exception, SystemExit) as error:  # of a package that nothing is known about
        missing = extras.explanation_of(error)
        if missing is not None:
            raise ConfigError(f"env: {missing}") from error
        what = f"env: the package that registers {namespace!r} cannot be loaded"
        raise of_foreign_code(ConfigError, what, error) from error
    finally:
        logging.disable(logging.NOTSET)


def _load(namespace: str) -> None:
    for distribution in metadata.distributions():
        for entry_point in distribution.entry_points:
            if entry_point.group == _PLUGINS and entry_point.name == namespace:
                entry_point.load()()
    if namespace in _PACKAGES:
        importlib.import_module(_PACKAGES[namespace])
