"""Fields of settings: default, meaning and bounds on one line, checked when settings are made.

For example `learning_rate: float = setting(5e-4, "step size", positive=True)` in a frozen dataclass
that extends `Settings`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import textwrap
from collections.abc import Callable
from typing import Any

from rldarts_tf.checks import check_choice, check_flag, check_integer, check_number
from rldarts_tf.errors import ConfigError

Check = Callable[[str, Any], Any]
"""("Class.field", value) -> the value to keep; raises a ConfigError."""


def setting(
    default: Any,
    doc: str,
    *,
    least: float | None = None,
    most: float | None = None,
    positive: bool = False,
    check: Check | None = None,
) -> Any:
    """A field of `Settings`, whose annotation says what it holds.

    Args:
      default: the value where none is given.
      doc: what it is, with its unit.
      least: of an int, which always has one, or a float; inclusive.
      most: of an int or a float, inclusive.
      positive: a float must be above 0.
      check: for all other types, or what `least` and `most` cannot say.
    """
    bounds = {"least": least, "most": most, "positive": positive, "check": check}
    return dataclasses.field(default=default, metadata={"doc": doc, **bounds})


def one_of(*choices: Any) -> Check:
    """Returns a check that a value is one of the choices."""
    return functools.partial(check_choice, choices=choices)


def defaults(kind: type[Settings]) -> dict[str, Any]:
    """The default of every field of a kind of settings."""
    return {field.name: field.default for field in dataclasses.fields(kind)}


@dataclasses.dataclass(frozen=True)
class Settings:
    """Base class of frozen dataclasses of `setting`s, which are checked when one is made.

    The annotations are strings, as `from __future__ import annotations` has them: "int", "float"
    and "bool" are checked as such, and "... | None" may be None. Integers of numpy are kept as
    ints. The fields are appended to the docstring of the class. A class that checks how fields go
    together extends `__post_init__`.

    Raises:
      ConfigError: a value does not fit; the message begins with "Class.field must be".
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        lines = [
            textwrap.fill(f"{name}: {_description(field)}.", 94, subsequent_indent="  ")
            for name, field in vars(cls).items()
            if isinstance(field, dataclasses.Field)
        ]
        if lines:
            attributes = textwrap.indent("\n".join(lines), "      ")
            cls.__doc__ = f"{(cls.__doc__ or '').rstrip()}\n\n    Attributes:\n{attributes}\n    "

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = f"{type(self).__name__}.{field.name}", getattr(self, field.name)
            object.__setattr__(self, field.name, checked(name, value, field))


def checked(name: str, value: Any, field: dataclasses.Field[Any]) -> Any:
    """Returns the value to keep of a field that `setting` made.

    Raises:
      ConfigError: the value does not fit; the message begins with `name`.
    """
    kind, bounds = str(field.type), field.metadata
    if value is None and kind.endswith(" | None"):
        return None
    if bounds["check"] is not None:
        return bounds["check"](name, value)
    kind = kind.removesuffix(" | None")
    if kind == "int":
        return check_integer(name, value, bounds["least"], bounds["most"])
    if kind == "float":
        _check_float(name, value, bounds["least"], bounds["most"], bounds["positive"])
    if kind == "bool":
        check_flag(name, value)
    return value


def _check_float(
    name: str, value: Any, least: float | None, most: float | None, positive: bool
) -> None:
    least = 0 if positive else least
    if least is None:
        check_number(name, value, "a finite number", math.isfinite)
    else:
        check_number(name, value, f"a finite number >= {least}", lambda x: least <= x < math.inf)
    if positive and value == 0:
        raise ConfigError(f"{name} must be positive")
    if most is not None and value > most:
        raise ConfigError(f"{name} must be at most {most}")


def _description(field: dataclasses.Field[Any]) -> str:
    """The text of a field with its bounds."""
    least, most, positive = (field.metadata[key] for key in ("least", "most", "positive"))
    bounds = ["positive"] if positive else [] if least is None else [f"at least {least}"]
    bounds += [] if most is None else [f"at most {most}"]
    return field.metadata["doc"] + (f" ({', '.join(bounds)})" if bounds else "")
