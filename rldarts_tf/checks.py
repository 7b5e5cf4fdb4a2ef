"""Checks of integers and numbers, the same for arguments, settings and files.

numpy's scalars pass as Python's do (numpy itself is not needed here); truth values are neither
integers nor numbers. A message begins with the field as the caller spells it, "features" or
"top_k:", and shows the value.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Collection
from typing import Any

from rldarts_tf.errors import ConfigError, RLDartsError

INT32_MAX = 2**31 - 1


def as_integer(value: Any) -> int | None:
    """The value as an int, if it is an integer, and None otherwise."""
    # numpy's truth values are no bools, but may be an index.
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "name", "") == "bool":
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def check_integer(
    field: str,
    value: Any,
    least: int,
    most: int | None = None,
    error: type[RLDartsError] = ConfigError,
) -> int:
    """Returns the value as an int.

    Raises:
      RLDartsError: of class `error`; the value is no integer in least..most.
    """
    number = as_integer(value)
    if number is None or number < least or (most is not None and number > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise error(f"{field} must be an integer {limits}, got {shown(value)}")
    return number


def check_integers(settings: Any, *names: str, least: int) -> None:
    """Checks fields of a frozen dataclass, which then hold ints.

    Raises:
      ConfigError: one of them is no integer of at least `least`; the message names "Class.field".
    """
    for name in names:
        field = f"{type(settings).__name__}.{name}"
        value = check_integer(field, getattr(settings, name), least)
        object.__setattr__(settings, name, value)


def is_number(value: Any) -> bool:
    """Whether a value is a real number; NaN and the infinities are."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(field: str, value: Any, wanted: str, holds: Callable[[Any], bool]) -> None:
    """Checks that a value is a number of some kind.

    Args:
      field: how the message begins.
      value: what should be a number.
      wanted: what is asked for in words, such as "a number >= 0".
      holds: whether a number is that.

    Raises:
      ConfigError: the value is not what is wanted.
    """
    if not is_number(value) or not holds(value):
        raise ConfigError(f"{field} must be {wanted}, got {shown(value)}")


def check_seconds(field: str, value: Any) -> float:
    """Returns a number of seconds: above 0, and not so many that a clock overflows.

    Raises:
      ConfigError: it is none.
    """
    check_number(field, value, "a number of seconds above 0", lambda seconds: 0 < seconds < 1e9)
    return float(value)


def check_flag(field: str, value: Any) -> bool:
    """Returns the value, which must be True or False.

    Raises:
      ConfigError: it is neither.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{field} must be True or False, got {shown(value)}")
    return value


def check_choice(field: str, value: Any, choices: Collection[Any]) -> Any:
    """Returns the value, which must be one of the choices.

    Raises:
      ConfigError: it is none of them; the message lists them.
    """
    if value not in choices:
        listed = ", ".join(map(str, choices))
        raise ConfigError(f"{field} must be one of {listed}, got {shown(value)}")
    return value


def shown(value: Any) -> str:
    """repr that keeps an error message to one readable line whatever a file holds."""
    try:
        text = repr(value)
    except RecursionError:  # parsed at the very limit of nesting
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
