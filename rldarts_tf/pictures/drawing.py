"""Genotype -> pictures of its cells, SVG and PNG, drawn with matplotlib."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_bytes
from rldarts_tf.pictures import figures
from rldarts_tf.pictures.layout import CORNER, NODE_HEIGHT, Box, Line, Point, lay_out
from rldarts_tf.pictures.topology import DrawableGenotype, Nodes, live_nodes

_CELL_NAME = re.compile(r"\w[\w.-]*\Z")

_DPI = 150
_FONT_PT = 9.0
_MARGIN = 0.2  # inches
_TITLE_HEIGHT = 0.3

_PALE = "#b5b5b5"
_OUTPUT_EDGE = "#7a7a7a"
_INPUT_FILL, _NODE_FILL, _OUTPUT_FILL = "#dfe8f2", "#f6f6f6", "#dff0e0"


def draw_genotype(
    genotype: DrawableGenotype, directory: PathLike, formats: Sequence[str] = figures.FORMATS
) -> list[Path]:
    """Draws every cell of a genotype to `<directory>/<cell type>.<format>`.

    Cells run from left to right. An op has the same colour in all cells of the genotype. With
    output mode `last`, nodes that the output does not depend on are grey.

    Args:
      genotype: the cells to draw.
      directory: where the files go; made if it is missing. Each file is replaced in one step.
      formats: any of "svg" and "png".

    Returns:
      The files, by cell type, then format.

    Raises:
      RunError: an unknown format, a file that cannot be written, or matplotlib is missing.
    """
    for name in formats:
        if name not in figures.FORMATS:
            known = ", ".join(figures.FORMATS)
            raise RunError(f"formats: unknown format {name!r}; one of {known}")
    for cell_type in genotype.cells:
        if not _CELL_NAME.match(cell_type):
            raise RunError(f"cells: type {cell_type!r} cannot name a file")
    pictures = {name: cell_pictures(genotype, name) for name in formats}
    paths = []
    for cell_type in genotype.cells:
        for name in formats:
            path = Path(directory) / f"{cell_type}.{name}"
            write_bytes(path, pictures[name][cell_type])
            paths.append(path)
    return paths


def cell_pictures(genotype: DrawableGenotype, file_format: str) -> dict[str, bytes]:
    """Draws every cell of a genotype; see `draw_genotype`.

    Args:
      genotype: the cells to draw.
      file_format: "svg" or "png".

    Returns:
      The content of a file per cell type.

    Raises:
      RunError: matplotlib is missing.
    """
    colours = figures.op_colours(_ops_by_cell(genotype))
    with figures.style(font_size=_FONT_PT):
        return {
            cell_type: figures.encode(
                _cell_figure(
                    f"{cell_type} cell of search space {genotype.search_space}",
                    nodes,
                    genotype.output_mode,
                    colours,
                ),
                file_format,
            )
            for cell_type, nodes in genotype.cells.items()
        }


def _ops_by_cell(genotype: DrawableGenotype) -> dict[str, list[str]]:
    """Returns the ops that each cell could have; those that it has, if its space is unknown."""
    space = getattr(genotype, "space", None)
    if space is not None:
        return {cell: list(space.ops(cell)) for cell in space.cell_types}
    return {
        cell: [op for node in nodes for _, op in node] for cell, nodes in genotype.cells.items()
    }


def _cell_figure(title: str, nodes: Nodes, output_mode: str, colours: Mapping[str, str]) -> Any:
    layout = lay_out(nodes, output_mode, _text_width)
    output = len(nodes) + 1
    live = live_nodes(nodes, output_mode) | {output}
    left, right = -_MARGIN, max(layout.boxes[-1].right, _text_width(title)) + _MARGIN
    low, high = layout.bottom - _MARGIN, layout.top + _TITLE_HEIGHT + _MARGIN

    picture = figures.new_figure(right - left, high - low, _DPI)
    axes = picture.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    axes.set_xlim(left, right)
    axes.set_ylim(low, high)
    axes.text(0.0, layout.top + _TITLE_HEIGHT, title, va="center", color=figures.INK, weight="bold")
    for order, line in enumerate(layout.lines):
        colour = colours.get(line.label, figures.INK) if line.label else _OUTPUT_EDGE
        _draw_line(axes, line, colour if line.target in live else _PALE, order * 1e-3)
    for j, box in enumerate(layout.boxes):
        fill = _INPUT_FILL if j == 0 else _OUTPUT_FILL if j == output else _NODE_FILL
        _draw_box(axes, box, fill, figures.INK if j in live else _PALE)
    return picture


def _text_width(text: str) -> float:
    """Returns the width of a text in inches; call it inside `figures.style`."""
    from matplotlib import textpath

    return float(textpath.TextPath((0, 0), text, size=_FONT_PT).get_extents().width) / 72


def _draw_line(axes: Any, line: Line, colour: str, order: float) -> None:
    """Draws an edge and its label; of two lines that cross, the later `order` passes over."""
    from matplotlib import patches, path

    curve = path.Path(*_rounded(line.points))
    if line.label:
        # A white rim shows which line passes over which.
        axes.add_patch(
            patches.PathPatch(curve, fill=False, edgecolor="white", linewidth=4.5, zorder=1 + order)
        )
        axes.text(
            *line.label_at,
            line.label,
            ha="center",
            va="center",
            color=colour,
            zorder=3,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
        )
    axes.add_patch(
        patches.FancyArrowPatch(
            path=curve,
            arrowstyle="-|>,head_length=5,head_width=2.5",
            mutation_scale=1.0,
            color=colour,
            linewidth=1.6 if line.label else 1.2,
            capstyle="butt",
            zorder=(1 if line.label else 0) + order,
        )
    )


def _draw_box(axes: Any, box: Box, fill: str, ink: str) -> None:
    from matplotlib import patches

    axes.add_patch(
        patches.FancyBboxPatch(
            (box.left, -NODE_HEIGHT / 2),
            box.width,
            NODE_HEIGHT,
            boxstyle="round,pad=0,rounding_size=0.12",
            facecolor=fill,
            edgecolor=ink,
            linewidth=1.2,
            zorder=2,
        )
    )
    axes.text(box.x, 0.0, box.text, ha="center", va="center", color=ink, zorder=3)


def _rounded(points: Sequence[Point]) -> tuple[list[Point], list[int]]:
    """Returns vertices and codes of a matplotlib path along `points` with rounded corners."""
    from matplotlib.path import Path as Curve

    vertices, codes = [points[0]], [int(Curve.MOVETO)]
    for before, corner, after in zip(points, points[1:], points[2:]):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [int(Curve.LINETO), int(Curve.CURVE3), int(Curve.CURVE3)]
    return [*vertices, points[-1]], [*codes, int(Curve.LINETO)]


def _towards(corner: Point, other: Point) -> Point:
    """Returns the point `CORNER` away from `corner`, at most half way to `other`."""
    across, up = other[0] - corner[0], other[1] - corner[1]
    length = abs(across) + abs(up)  # the pieces are horizontal or vertical
    share = min(CORNER, length / 2) / length
    return corner[0] + across * share, corner[1] + up * share
