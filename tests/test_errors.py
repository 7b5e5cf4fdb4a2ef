"""The one line that a user sees."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

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


@pytest.mark.parametrize(
    "error",
    [
        errors.RunError("damaged"),
        ModuleNotFoundError("no jinja2", name="jinja2"),
        OSError(28, "No space left on device", "a file"),
    ],
)
def test_what_a_user_can_mend_has_exit_code_2(error, capsys):
    assert errors.report_exception(error) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.count("\n") == 1 and "unexpected" not in err


def test_the_traceback_of_the_users_own_code_is_kept_in_a_file(capsys):
    try:
        raise KeyError("wheel")
    except KeyError as error:
        told = errors.of_foreign_code(errors.RunError, "the simulator failed", error)
    here = r"\(test_errors.py:\d+, in test_the_traceback_of_\w+\)"
    assert re.fullmatch(rf"the simulator failed: KeyError: 'wheel' {here}", str(told))
    assert errors.report_exception(told) == 2
    err = capsys.readouterr().err
    path = Path(re.fullmatch(r"error: (.*); the traceback is in (.*)\n", err)[2])
    text = path.read_text()
    path.unlink()
    assert text.startswith("Traceback") and text.endswith("KeyError: 'wheel'\n")


def test_an_error_without_a_place_is_told_without():
    told = errors.of_foreign_code(errors.ConfigError, "it failed", ValueError("odd"))
    assert str(told) == "it failed: ValueError: odd"


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        ("KeyboardInterrupt", "interrupted\n"),
        (
            "ModuleNotFoundError('no jinja2', name='jinja2.x')",
            "error: jinja2 is not installed, which this needs; "
            "run: pip install rldarts_tf[report]\n",
        ),
    ],
)
def test_what_is_raised_while_a_program_is_imported_is_one_line(raised, line):
    program = f"from rldarts_tf import errors; errors.shorten_tracebacks(); raise {raised}"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.stderr == line and ended.returncode != 0


def test_errors_of_the_users_code_name_it_and_the_packages_own_pass():
    line = r"^op 'x': ZeroDivisionError: division by zero$"
    with pytest.raises(errors.ConfigError, match=line), errors.naming("op 'x'"):
        _ = 1 / 0
    with pytest.raises(errors.RunError, match=r"^own$"), errors.naming("op 'x'"):
        raise errors.RunError("own")
