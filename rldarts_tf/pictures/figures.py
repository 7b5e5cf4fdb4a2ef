"""Style, colours and files of all pictures: the same data give the same file on every machine.

Figures are made without pyplot: no window system, no global state, safe in any thread. matplotlib
is imported only when something is drawn.
"""

from __future__ import annotations

import colorsys
import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike
from rldarts_tf.space import NONE

FORMATS = ("svg", "png")

INK = "#222222"
GREY = "#8c8c8c"
GRID = "#e4e4e4"
# Dark enough for small text on white; neighbours in the list are far apart, for they share a cell.
PALETTE = ("#0b62a8", "#d1490a", "#15803d", "#a21caf", "#3f3f46", "#9a6b00", "#0e8a9c", "#7f1d1d")

_STYLE: dict[str, Any] = {
    "svg.hashsalt": "rldarts_tf",  # identifiers would be random without
    "text.parse_math": False,  # a $ in the name of a run is a dollar
}


@contextlib.contextmanager
def style(**settings: Any) -> Iterator[None]:
    """Context manager: matplotlib's defaults instead of the user's matplotlibrc, and `settings`.

    Args:
      **settings: rcParams, with `_` in place of the dot.

    Raises:
      RunError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise RunError(
            "nothing can be drawn: install matplotlib (pip install rldarts_tf[report])"
        ) from error
    with matplotlib.rc_context(), warnings.catch_warnings():
        # What the name of a run has beyond DejaVu Sans is drawn as boxes: no system has all fonts,
        # and a picture is the same on all.
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        matplotlib.rcdefaults()
        named = {name.replace("_", ".", 1): value for name, value in settings.items()}
        matplotlib.rcParams.update({**_STYLE, **named})
        yield


def new_figure(width: float, height: float, dpi: int, **options: Any) -> Any:
    """Returns a white matplotlib figure, width and height in inches; call it inside `style`."""
    from matplotlib import figure

    return figure.Figure(figsize=(width, height), dpi=dpi, facecolor="white", **options)


def encode(picture: Any, file_format: str) -> bytes:
    """Returns the content of an "svg" or "png" file; call it inside `style`."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if file_format == "svg" else {}
    picture.savefig(buffer, format=file_format, metadata=metadata)
    return buffer.getvalue()


def format_of(path: PathLike) -> str:
    """Returns the format that the suffix of a path names.

    Raises:
      RunError: it names none of `FORMATS`.
    """
    name = Path(path).suffix.lower()[1:]
    if name not in FORMATS:
        suffixes = " or ".join(f".{known}" for known in FORMATS)
        raise RunError(f"picture {str(path)!r}: its name must end in {suffixes}")
    return name


def op_colours(ops_by_cell: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Returns a colour per op, the same in every picture of a search space.

    Args:
      ops_by_cell: the ops of each cell type. Those of one cell get neighbouring colours.
    """
    ops: list[str] = []
    for names in ops_by_cell.values():
        ops += sorted(set(names).difference([*ops, NONE]))
    colours = list(PALETTE)
    extra = len(ops) - len(colours)
    for k in range(extra):
        red, green, blue = colorsys.hls_to_rgb(k / extra, 0.3, 0.8)
        colours.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return dict(zip(ops, colours))
