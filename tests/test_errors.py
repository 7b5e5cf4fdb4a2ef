"""The one line that a user sees."""

from __future__ import annotations

import pytest

from rldarts_tf import errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("two\n  lines\tand a tab "), "two lines and a tab"),
        (MemoryError(), "MemoryError"),
        (KeyError("α"), "'α'"),
        ("a\ntext", "a text"),
        (ValueError("x" * 300), "x" * 200),
    ],
)
def test_one_line_of_an_error(error, line):
    assert errors.one_line(error) == line


def test_the_length_of_a_line_may_be_chosen():
    assert errors.one_line("x" * 300, 120) == "x" * 120
    assert errors.one_line("x" * 300, None) == "x" * 300


def test_a_reported_error_is_one_line_and_exit_code_2(capsys):
    assert errors.report_error(errors.ConfigError("field:\nbad")) == 2
    assert capsys.readouterr() == ("", "error: field: bad\n")
