"""Genotype -> pictures (SVG, PNG) and plain text.

Graphviz draws where its program `dot` is installed, matplotlib otherwise; nothing is ever sent over
the network. Both are imported only when something is drawn.
"""

from __future__ import annotations

import colorsys
import dataclasses
import io
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rldarts_tf.errors import RunError
from rldarts_tf.files import PathLike, write_bytes
from rldarts_tf.search_space import NONE

_Nodes = Sequence[Sequence[tuple[int, str]]]

_FORMATS = ("svg", "png")
_DPI = 150
_CELL_NAME = re.compile(r"\w[\w.-]*\Z")

_INK = "#222222"
_PALE = "#b5b5b5"
_OUTPUT_EDGE = "#7a7a7a"
_FILLS = {"input": "#dfe8f2", "node": "#f6f6f6", "output": "#dff0e0"}
# Dark enough for small text on white; neighbours in the list are far apart, for they share a cell.
_PALETTE = (
    "#0b62a8",
    "#d1490a",
    "#15803d",
    "#a21caf",
    "#3f3f46",
    "#9a6b00",
    "#0e8a9c",
    "#7f1d1d",
)


class DrawableGenotype(Protocol):
    """Part of `rldarts_tf.genotype.Genotype` that drawings read; ops need not be registered.

    Where there is `space` too, the colours are those of all ops that it has.
    """

    @property
    def search_space(self) -> str:
        """Name of the search space."""

    @property
    def cells(self) -> Mapping[str, tuple[tuple[tuple[int, str], ...], ...]]:
        """Per cell type, per node j = 1..I, its edges (input i < j, op)."""

    @property
    def output_mode(self) -> str:
        """Output mode of the cells; `last`: the last node alone is the output."""


def draw_genotype(
    genotype: DrawableGenotype,
    directory: PathLike,
    formats: Sequence[str] = _FORMATS,
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
      RunError: an unknown format, a file that cannot be written, or no program to draw with.
    """
    for name in formats:
        if name not in _FORMATS:
            raise RunError(f"formats: unknown format {name!r}; one of {', '.join(_FORMATS)}")
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
      RunError: no program to draw with.
    """
    colours = op_colours(_ops_by_cell(genotype))
    pictures = {}
    for cell_type, nodes in genotype.cells.items():
        title = f"{cell_type} cell of search space {genotype.search_space}"
        what = (title, nodes, genotype.output_mode, colours, file_format)
        data = _draw_with_graphviz(*what) if shutil.which("dot") else None
        pictures[cell_type] = data or _draw_with_matplotlib(*what)
    return pictures


def genotype_text(genotype: DrawableGenotype) -> str:
    """Returns the cells as text, one line per node, without a line break at the end."""
    lines = []
    for cell_type, nodes in genotype.cells.items():
        live = _live_nodes(nodes, genotype.output_mode)
        lines.append(f"{cell_type} cell ({genotype.search_space})")
        for j, edges in enumerate(nodes, start=1):
            inputs = " + ".join(f"{op}({_node_name(i)})" for i, op in edges)
            unused = "" if j in live else "   [not used by the output]"
            lines.append(f"  node {j} = {inputs}{unused}")
        names = ", ".join(_node_name(j) for j in _output_inputs(nodes, genotype.output_mode))
        lines.append(f"  output = {_mode_name(genotype.output_mode)}({names})")
    return "\n".join(lines)


def _node_name(j: int) -> str:
    return "input" if j == 0 else f"node {j}"


def _mode_name(output_mode: str) -> str:
    return output_mode.replace("_", " ")


def _output_inputs(nodes: _Nodes, output_mode: str) -> list[int]:
    """Returns the nodes that the cell's output is made of."""
    return [len(nodes)] if output_mode == "last" else list(range(1, len(nodes) + 1))


def _live_nodes(nodes: _Nodes, output_mode: str) -> set[int]:
    """Returns the nodes (0 is the input) from which a path leads to the output."""
    live = set(_output_inputs(nodes, output_mode))
    for j in range(len(nodes), 0, -1):
        if j in live:
            live.update(i for i, _ in nodes[j - 1])
    return live


def op_colours(ops_by_cell: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """A colour per op, the same in every picture of a search space.

    Args:
      ops_by_cell: the ops of each cell type. Those of one cell get neighbouring colours.
    """
    ops: list[str] = []
    for names in ops_by_cell.values():
        ops += sorted(set(names).difference([*ops, NONE]))
    colours = list(_PALETTE)
    extra = len(ops) - len(colours)
    for k in range(extra):
        red, green, blue = colorsys.hls_to_rgb(k / extra, 0.3, 0.8)
        colours.append(f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
    return dict(zip(ops, colours))


def _ops_by_cell(genotype: DrawableGenotype) -> dict[str, list[str]]:
    """The ops that each cell could have; those that it has, if nobody knows its space."""
    space = getattr(genotype, "space", None)
    if space is not None:
        return {cell: list(space.ops(cell)) for cell in space.cell_types}
    return {
        cell: [op for node in nodes for _, op in node] for cell, nodes in genotype.cells.items()
    }


def _draw_with_graphviz(
    title: str, nodes: _Nodes, output_mode: str, colours: Mapping[str, str], file_format: str
) -> bytes | None:
    """Returns the picture, or None where pydot is missing or dot cannot make this format."""
    try:
        import pydot
    except ImportError:
        return None

    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'

    font: dict[str, Any] = {"fontname": quoted("Helvetica"), "fontsize": "11"}
    graph = pydot.Dot(
        "cell",
        graph_type="digraph",
        rankdir="LR",
        label=quoted(title),
        labelloc="t",
        labeljust="l",
        nodesep="0.25",
        ranksep="0.5",
        dpi=str(_DPI) if file_format == "png" else "72",
        **font,
    )
    live = _live_nodes(nodes, output_mode)
    for j in range(len(nodes) + 2):
        kind, text = _node_kind(j, len(nodes), output_mode)
        ink = _INK if j in live or kind == "output" else _PALE
        graph.add_node(
            pydot.Node(
                f"n{j}",
                label=quoted(text),
                shape="box",
                style=quoted("rounded,filled"),
                fillcolor=quoted(_FILLS[kind]),
                color=quoted(ink),
                fontcolor=quoted(ink),
                **font,
            )
        )
    for j, edges in enumerate(nodes, start=1):
        for i, op in edges:
            colour = quoted(colours[op] if j in live else _PALE)
            # The blanks keep the text off its line.
            graph.add_edge(
                pydot.Edge(
                    f"n{i}",
                    f"n{j}",
                    label=quoted(f" {op} "),
                    color=colour,
                    fontcolor=colour,
                    penwidth="1.6",
                    arrowsize="0.7",
                    **font,
                )
            )
    for j in _output_inputs(nodes, output_mode):
        graph.add_edge(
            pydot.Edge(f"n{j}", f"n{len(nodes) + 1}", color=quoted(_OUTPUT_EDGE), arrowsize="0.7")
        )
    try:
        data: Any = graph.create(prog="dot", format=file_format)
    except (OSError, AssertionError):  # pydot asserts that dot succeeded
        return None
    return bytes(data) or None


def _node_kind(j: int, num_nodes: int, output_mode: str) -> tuple[str, str]:
    if j == 0:
        return "input", "input"
    if j <= num_nodes:
        return "node", str(j)
    return "output", f"output\n({_mode_name(output_mode)})"


# --- matplotlib ---------------------------------------------------------------------------------
#
# All nodes stand in one row. An edge between neighbours is straight; any other rises to a lane of
# its own above the row. Rising and falling parts stay within the width of their node, and labels
# stand in the gaps between nodes, so no line can run through another line's label.
# Lengths are in inches.

_FONT_PT = 9.0
_NODE_HEIGHT = 0.5
_PORT_STEP = 0.13
_CORNER = 0.2
_MARGIN = 0.2
_LANE_STEP = 0.34
_LABEL_HEIGHT = 0.2
_LABEL_PAD = 0.06
_OUTPUT_GAP = 0.7

_Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Box:
    """A node: centre x, on the row y = 0."""

    x: float
    width: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


@dataclasses.dataclass(frozen=True)
class _Line:
    """An edge: a chain of horizontal and vertical pieces from `source` to `target`."""

    source: int
    target: int
    points: tuple[_Point, ...]
    label: str = ""
    label_at: _Point = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class _Layout:
    boxes: tuple[_Box, ...]
    lines: tuple[_Line, ...]
    top: float
    bottom: float


def _lay_out(nodes: _Nodes, output_mode: str, text_width: Callable[[str], float]) -> _Layout:
    """Places nodes (0 = input .. I + 1 = output), op edges and output edges.

    Args:
      nodes: per node its edges.
      output_mode: the cell's.
      text_width: width of a text in inches.
    """
    num_nodes = len(nodes)
    edges = [(i, j, op) for j, node in enumerate(nodes, start=1) for i, op in node]

    # Lane 0 is the row itself, for one edge between each pair of neighbours.
    lanes: list[int] = [0] * len(edges)
    occupied: dict[int, list[tuple[int, int]]] = {}
    for k in sorted(range(len(edges)), key=lambda k: edges[k][1] - edges[k][0]):
        i, j, _ = edges[k]
        lane = 0 if j == i + 1 else 1
        while any(i < b and a < j for a, b in occupied.get(lane, ())):
            lane += 1
        occupied.setdefault(lane, []).append((i, j))
        lanes[k] = lane

    # On a node's upper side, from left to right: edges that arrive, low lanes first, then edges
    # that leave, high lanes first. In this order edges of one node do not cross each other.
    ports: list[list[tuple[int, str]]] = []
    for node in range(num_nodes + 2):
        arriving = [k for k, (_, j, _) in enumerate(edges) if j == node and lanes[k]]
        leaving = [k for k, (i, _, _) in enumerate(edges) if i == node and lanes[k]]
        arriving.sort(key=lambda k: lanes[k])
        leaving.sort(key=lambda k: -lanes[k])
        ports.append([(k, "in") for k in arriving] + [(k, "out") for k in leaving])

    widest = max((text_width(op) for _, _, op in edges), default=0.0)
    gap = max(0.8, widest + 2 * (_CORNER + 2 * _LABEL_PAD))
    boxes: list[_Box] = []
    x = 0.0
    for node in range(num_nodes + 2):
        _, text = _node_kind(node, num_nodes, output_mode)
        text_size = max(text_width(line) for line in text.split("\n"))
        width = max(_NODE_HEIGHT, text_size + 0.24, (len(ports[node]) + 1) * _PORT_STEP)
        boxes.append(_Box(x + width / 2, width))
        x += width + (gap if node < num_nodes else _OUTPUT_GAP)

    def port_x(node: int, edge: int, direction: str) -> float:
        place = ports[node].index((edge, direction))
        return boxes[node].x + (place - (len(ports[node]) - 1) / 2) * _PORT_STEP

    half = _NODE_HEIGHT / 2
    lines: list[_Line] = []
    for k, (i, j, op) in enumerate(edges):
        # The middle gap that the edge passes.
        before = (i + j - 1) // 2
        label_x = (boxes[before].right + boxes[before + 1].left) / 2
        if lanes[k] == 0:
            y = 0.0
            points: tuple[_Point, ...] = ((boxes[i].right, y), (boxes[j].left, y))
        else:
            y = half + 0.1 + lanes[k] * _LANE_STEP
            start, end = port_x(i, k, "out"), port_x(j, k, "in")
            points = ((start, half), (start, y), (end, y), (end, half))
        lines.append(_Line(i, j, points, op, (label_x, y)))

    # Edges to the output share one rail below the row.
    rail = -half - 0.35
    output = num_nodes + 1
    bottom = -half
    for j in _output_inputs(nodes, output_mode):
        if j == num_nodes:
            points = ((boxes[j].right, 0.0), (boxes[output].left, 0.0))
        else:
            bottom = rail
            points = (
                (boxes[j].x, -half),
                (boxes[j].x, rail),
                (boxes[output].x, rail),
                (boxes[output].x, -half),
            )
        lines.append(_Line(j, output, points))
    top = half + 0.1 + max(lanes, default=0) * _LANE_STEP + _LABEL_HEIGHT / 2
    return _Layout(tuple(boxes), tuple(lines), top, bottom)


def _draw_with_matplotlib(
    title: str, nodes: _Nodes, output_mode: str, colours: Mapping[str, str], file_format: str
) -> bytes:
    try:
        import matplotlib
        from matplotlib import figure, patches, path, textpath
    except ImportError as error:
        raise RunError(
            "cells cannot be drawn: install matplotlib (pip install rldarts_tf[report])"
        ) from error

    def text_width(text: str) -> float:
        return float(textpath.TextPath((0, 0), text, size=_FONT_PT).get_extents().width) / 72

    layout = _lay_out(nodes, output_mode, text_width)
    live = _live_nodes(nodes, output_mode) | {len(nodes) + 1}
    title_height = 0.3
    left, right = -_MARGIN, layout.boxes[-1].right + _MARGIN
    low, high = layout.bottom - _MARGIN, layout.top + title_height + _MARGIN

    # Not pyplot: no window system, no global state, safe in any thread. The fixed salt and the
    # missing date make equal genotypes equal files.
    with matplotlib.rc_context({"svg.hashsalt": "rldarts_tf", "font.size": _FONT_PT}):
        picture = figure.Figure(figsize=(right - left, high - low), dpi=_DPI, facecolor="white")
        axes = picture.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_xlim(left, right)
        axes.set_ylim(low, high)
        axes.text(0.0, layout.top + title_height, title, va="center", color=_INK, weight="bold")

        for order, line in enumerate(layout.lines):
            to_output = not line.label
            colour = _OUTPUT_EDGE if to_output else colours.get(line.label, _INK)
            if line.target not in live:
                colour = _PALE
            curve = path.Path(*_rounded(line.points))
            if not to_output:
                # A white rim shows which line passes over which.
                axes.add_patch(
                    patches.PathPatch(
                        curve, fill=False, edgecolor="white", linewidth=4.5, zorder=1 + order * 1e-3
                    )
                )
            axes.add_patch(
                patches.FancyArrowPatch(
                    path=curve,
                    arrowstyle="-|>,head_length=5,head_width=2.5",
                    mutation_scale=1.0,
                    color=colour,
                    linewidth=1.2 if to_output else 1.6,
                    linestyle="-",
                    capstyle="butt",
                    zorder=(0 if to_output else 1) + order * 1e-3,
                )
            )
            if line.label:
                axes.text(
                    *line.label_at,
                    line.label,
                    ha="center",
                    va="center",
                    color=colour,
                    zorder=3,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5},
                )

        for j, box in enumerate(layout.boxes):
            kind, text = _node_kind(j, len(nodes), output_mode)
            ink = _INK if j in live else _PALE
            axes.add_patch(
                patches.FancyBboxPatch(
                    (box.left, -_NODE_HEIGHT / 2),
                    box.width,
                    _NODE_HEIGHT,
                    boxstyle="round,pad=0,rounding_size=0.12",
                    facecolor=_FILLS[kind],
                    edgecolor=ink,
                    linewidth=1.2,
                    zorder=2,
                )
            )
            axes.text(box.x, 0.0, text, ha="center", va="center", color=ink, zorder=3)

        buffer = io.BytesIO()
        metadata: dict[str, Any] = {"Date": None} if file_format == "svg" else {}
        picture.savefig(buffer, format=file_format, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def _rounded(points: Sequence[_Point]) -> tuple[list[_Point], list[int]]:
    """Returns vertices and codes of a matplotlib path along `points` with rounded corners."""
    from matplotlib.path import Path as Curve

    vertices, codes = [points[0]], [int(Curve.MOVETO)]
    for before, corner, after in zip(points, points[1:], points[2:]):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [int(Curve.LINETO), int(Curve.CURVE3), int(Curve.CURVE3)]
    return [*vertices, points[-1]], [*codes, int(Curve.LINETO)]


def _towards(corner: _Point, other: _Point) -> _Point:
    """Returns the point `_CORNER` away from `corner`, at most half way to `other`."""
    across, up = other[0] - corner[0], other[1] - corner[1]
    length = abs(across) + abs(up)  # the pieces are horizontal or vertical
    share = min(_CORNER, length / 2) / length
    return corner[0] + across * share, corner[1] + up * share
