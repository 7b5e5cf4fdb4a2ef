"""Settings: their fields are checked, kept, documented, and bound by gin."""

from __future__ import annotations

import dataclasses
import inspect
import math

import numpy as np
import pytest

from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, setting


def even(name, value):
    if value % 2:
        raise ConfigError(f"{name} must be even, got {value}")
    return int(value)


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    """An example."""

    count: int = setting(3, "how many", least=1, most=9)
    rate: float = setting(0.5, "how fast, 1/s", positive=True)
    share: float = setting(0.0, "how much of it", least=0, most=1)
    offset: float = setting(-1.0, "where it begins")
    limit: int | None = setting(None, "the most, or None", least=0)
    flag: bool = setting(False, "whether it is " + "very " * 30 + "long")
    pair: tuple[int, ...] = setting((1, 2), "anything")
    double: int | None = setting(4, "an even number", check=even)


GOOD = {"count": [1, 9], "rate": [1e-9, 3], "share": [0, 1.0], "limit": [None, 0], "flag": [True]}
BAD = {
    "no integer": ({"count": 1.0}, "count must be an integer from 1 to 9, got 1.0"),
    "too few": ({"count": 0}, "count must be an integer from 1 to 9, got 0"),
    "None": ({"count": None}, "count must be an integer from 1 to 9, got None"),
    "less than none": ({"limit": -1}, "limit must be an integer of at least 0, got -1"),
    "zero": ({"rate": 0.0}, "rate must be positive"),
    "negative": ({"rate": -1}, "rate must be a finite number >= 0, got -1"),
    "too large": ({"share": 1.5}, "share must be at most 1"),
    "text": ({"share": "1"}, "share must be a finite number >= 0, got '1'"),
    "NaN": ({"offset": math.nan}, "offset must be a finite number, got nan"),
    "infinite": ({"rate": math.inf}, "rate must be a finite number >= 0, got inf"),
    "a number for a truth value": ({"flag": 1}, "flag must be True or False, got 1"),
    "odd": ({"double": 3}, "double must be even, got 3"),
}


def test_defaults_and_the_limits_themselves_pass():
    assert dataclasses.asdict(Example()) == {
        **{"count": 3, "rate": 0.5, "share": 0.0, "offset": -1.0, "limit": None, "flag": False},
        **{"pair": (1, 2), "double": 4},
    }
    for name, values in GOOD.items():
        for value in values:
            assert getattr(Example(**{name: value}), name) == value
    assert Example(double=None).double is None


@pytest.mark.parametrize("case", BAD)
def test_a_value_that_does_not_fit_is_refused_in_one_line(case):
    arguments, message = BAD[case]
    with pytest.raises(ConfigError) as raised:
        Example(**arguments)
    assert str(raised.value) == f"Example.{message}"
    with pytest.raises(ConfigError):
        dataclasses.replace(Example(), **arguments)


def test_integers_of_numpy_are_kept_as_ints_and_checked_values_are_kept():
    example = Example(count=np.int64(2), limit=np.uint8(0), double=np.int32(6))
    assert [type(value) for value in (example.count, example.limit, example.double)] == [int] * 3


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().count = 2


def test_the_docstring_has_every_field_with_its_bounds():
    text = inspect.getdoc(Example)
    lines = text.splitlines()
    assert lines[:4] == [
        "An example.",
        "",
        "Attributes:",
        "  count: how many (at least 1, at most 9).",
    ]
    assert "  rate: how fast, 1/s (positive)." in lines and "  pair: anything." in lines
    assert len(lines) == 4 + 7 + 1  # one is too long for a line
    assert max(map(len, lines)) <= 96 and lines[9].startswith("    ")


def test_gin_binds_fields_and_writes_their_defaults():
    gin = pytest.importorskip("gin")
    configured = gin.configurable(module="tests.settings_fields")(
        dataclasses.make_dataclass(
            "Configured",
            [
                ("count", "int", setting(3, "how many", least=1)),
                ("size", "float", setting(4, "big")),
            ],
            bases=(Settings,),
            frozen=True,
        )
    )
    gin.bind_parameter("tests.settings_fields.Configured.count", 5)
    made = configured()
    assert (made.count, made.size) == (5, 4)
    text = gin.operative_config_str()
    gin.clear_config()
    assert "Configured.count = 5" in text and "Configured.size = 4" in text
