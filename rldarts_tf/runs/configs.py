"""Configurations in gin's syntax as data, read without making anything."""

from __future__ import annotations

import pprint
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rldarts_tf.errors import GenotypeError, RunError, one_line
from rldarts_tf.genotype import read_space
from rldarts_tf.runs.reading import read_bytes
from rldarts_tf.search_space import KINDS
from rldarts_tf.space import Space

ALGORITHM_NAME = "Algorithm.name"
"""The setting that says which algorithm a configuration is for."""

_MAX_BYTES = 1 << 22


def canonical_settings(text: str, source: str) -> dict[str, str]:
    """Reads gin text into {setting: canonical value}, in the order of the text.

    Args:
      text: a configuration.
      source: name of the text in errors.

    Raises:
      RunError: it is no configuration.
    """
    return {name: canonical(value) for name, value in _parse(text, source).items()}


def canonical(value: Any) -> str:
    """The text by which values of settings are compared."""
    # pformat sorts dictionaries, and it tells 1 from 1.0 and from True.
    return pprint.pformat(value, width=10**9)


def read_config(path: Path) -> str:
    """Reads the text of a configuration.

    Raises:
      RunError: it cannot be read, is too large or no text.
    """
    try:
        return read_bytes(path, _MAX_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise RunError(f"{str(path)!r} is not UTF-8 text") from None


def read_settings(path: Path, scope: str) -> dict[str, dict[str, Any]]:
    """Reads the settings in a scope: those of the scope before those without one.

    Args:
      path: a config.gin.
      scope: a stage.

    Returns:
      {name of the class, such as "EncoderSettings": {field: value}}.

    Raises:
      RunError: the file cannot be read or is no configuration.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {"": {}, scope: {}}
    for setting, value in _parse(read_config(path), repr(str(path))).items():
        scoped, _, field = setting.rpartition(".")
        where, _, selector = scoped.rpartition("/")
        if where in found:
            found[where].setdefault(selector.rpartition(".")[2], {})[field] = value
    plain, own = found[""], found[scope]
    return {name: {**plain.get(name, {}), **own.get(name, {})} for name in {**plain, **own}}


def read_search_space(path: Path) -> Space | str | None:
    """Reads the search space of a run: one that its config.gin defines, or the name of another.

    Raises:
      RunError: the file cannot be read or is no configuration, or its definition is not valid.
    """
    settings = read_settings(path, "search")
    name = settings.get("EncoderSettings", {}).get("search_space")
    defined = [settings.get(kind.__name__, {}) for kind in KINDS]
    fields = next((fields for fields in defined if fields and fields.get("name") == name), None)
    if fields is None:
        return name
    lists = {key: list(v) if isinstance(v, tuple) else v for key, v in fields.items()}
    try:
        return read_space(lists)
    except GenotypeError as error:
        raise RunError(f"{str(path)!r}: {error}") from None


def statements(text: str, source: str) -> Iterator[Any]:
    """Yields the statements of gin text, as gin's parser gives them; executes nothing.

    Raises:
      RunError: the text from there on is no configuration.
    """
    # Only launchers and commands read configurations, and they have gin.
    import gin.config_parser as config_parser

    class _Delegate(config_parser.ParserDelegate):
        def configurable_reference(
            self, scoped_configurable_name: str, evaluate: bool
        ) -> _Verbatim:
            return _Verbatim("@" + scoped_configurable_name + ("()" if evaluate else ""))

        def macro(self, macro_name: str) -> _Verbatim:
            return _Verbatim("%" + macro_name)

    try:
        yield from config_parser.ConfigParser(text, _Delegate())
    # gin's parser raises any of these for text that is no configuration.
    except (
        SyntaxError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
        RecursionError,
        tokenize.TokenError,
    ) as error:
        line = one_line(error)
        raise RunError(f"{source} is not a gin configuration: {line}") from None


def references(value: Any) -> Iterator[str]:
    """Yields the references to functions in a statement's value, such as "@make()"."""
    if isinstance(value, _Verbatim) and repr(value).startswith("@"):
        yield repr(value)
    elif isinstance(value, dict):
        for pair in value.items():
            yield from references(pair)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for element in value:
            yield from references(element)


def _parse(text: str, source: str) -> dict[str, Any]:
    """Reads gin text into {setting: value}, in the order of the text.

    A macro is a setting of its own where none uses it; the others have its value in its place.
    """
    settings: dict[str, Any] = {}
    macros: dict[str, str] = {}  # settings by how others name them
    for statement in statements(text, source):
        if hasattr(statement, "selector") and hasattr(statement, "value"):
            scope = statement.scope + "/" if statement.scope else ""
            argument = "." + statement.arg_name if statement.arg_name else ""
            name = scope + statement.selector + argument
            settings[name] = statement.value
            if statement.selector in ("macro", "gin.macro"):
                macros["%" + statement.scope] = name
            elif not argument:
                macros["%" + name] = name
        elif hasattr(statement, "filename"):
            settings[f"include {statement.filename!r}"] = _Verbatim("included")
    used: set[str] = set()

    def resolved(value: Any, within: frozenset[str] = frozenset()) -> Any:
        if isinstance(value, _Verbatim):
            name = macros.get(repr(value))
            if name is None or name in within:
                return value
            used.add(name)
            return resolved(settings[name], within | {name})
        if isinstance(value, dict):
            return {resolved(k, within): resolved(v, within) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(resolved(element, within) for element in value)
        return value

    found = {name: resolved(value) for name, value in settings.items()}
    return {name: value for name, value in found.items() if name not in used}


class _Verbatim:
    """A gin reference or macro: compared by its spelling, not by its value."""

    def __init__(self, spelling: str) -> None:
        self._spelling = spelling

    def __repr__(self) -> str:
        return self._spelling

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Verbatim) and self._spelling == other._spelling

    def __hash__(self) -> int:
        return hash(self._spelling)

    def __lt__(self, other: object) -> bool:
        return self._spelling < repr(other)
