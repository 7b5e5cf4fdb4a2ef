"""Tables as data, in three forms: text for the page, Markdown, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

from rldarts_tf.studies.statistics.estimates import Estimate

NOTHING = "–"

Format = Callable[[float], str]


def number(value: float) -> str:
    """Three digits, or the whole number: 0.12, 12.3, 1,235."""
    size = abs(value)
    return format(value, ".2f" if size < 9.995 else ".1f" if size < 99.95 else ",.0f")


def whole(value: float) -> str:
    """A count: 1,235."""
    return format(value, ",.0f")


def percent(value: float) -> str:
    """A share in percent: 12 %."""
    return f"{100 * value:.0f} %"


def minutes(value: float) -> str:
    """Seconds as minutes: 2.5."""
    return number(value / 60)


def probability(value: float) -> str:
    """A p-value: 0.048."""
    return format(value, ".3f")


def shown(value: Any, form: Format = number) -> str:
    """A value as text; an estimate with its interval where it has one, "1.20 (0.30 to 2.10)"."""
    if value is None:
        return NOTHING
    if isinstance(value, str):
        return value
    if not isinstance(value, Estimate):
        return form(value) if math.isfinite(value) else NOTHING
    if math.isnan(value.low):
        return shown(value.value, form)
    ends = f"{form(value.low).removesuffix(' %')} to {form(value.high)}"
    return f"{shown(value.value, form)} ({ends})"


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
      key: its name in the CSV file; of an estimate two more columns follow, key_low and key_high.
      title: its name in the other forms.
      form: how numbers are shown; None for text.
    """

    key: str
    title: str
    form: Format | None = None


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      name: of its CSV file.
      title: the line above.
      caption: the text below, with the number of seeds.
      columns: its columns.
      rows: a value per column: text, number, `Estimate` or None.
    """

    name: str
    title: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Any]]

    def texts(self) -> list[list[str]]:
        """The rows as text."""
        return [
            [shown(value, column.form or str) for column, value in zip(self.columns, row)]
            for row in self.rows
        ]

    def markdown(self) -> str:
        """The table in Markdown, without title and caption."""
        ruler = ["---:" if column.form else "---" for column in self.columns]
        lines = [[column.title for column in self.columns], ruler, *self.texts()]
        escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
        return "".join(f"| {' | '.join(line)} |\n" for line in escaped)

    def csv(self) -> str:
        """All numbers in full, as CSV."""
        wide = [any(isinstance(row[i], Estimate) for row in self.rows) for i in range(self.width)]
        header: list[str] = []
        for column, is_estimate in zip(self.columns, wide):
            ends = (f"{column.key}_low", f"{column.key}_high") if is_estimate else ()
            header += [column.key, *ends]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            fields: list[str] = []
            for value, is_estimate in zip(row, wide):
                fields += _fields(value) if is_estimate else _fields(value)[:1]
            writer.writerow(fields)
        return buffer.getvalue()

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(self.columns)


def _fields(value: Any) -> list[str]:
    """Three fields of a CSV file: a value and its interval, as far as there are any."""
    if isinstance(value, Estimate):
        return [_fields(end)[0] for end in (value.value, value.low, value.high)]
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ["", "", ""]
    return [value if isinstance(value, str) else repr(float(value)).removesuffix(".0"), "", ""]
