"""Layout of a drawn cell: boxes, lines and labels, in inches.

All nodes stand in one row. An edge between neighbours is straight; any other rises to a lane of
its own above the row. Rising and falling parts stay within the width of their node, and labels
stand in the gaps between nodes, so no line can run through another line's label.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from rldarts_tf.pictures.topology import Nodes, mode_name, output_inputs

NODE_HEIGHT = 0.5
CORNER = 0.15
"""Radius of a line's corners."""
LABEL_HEIGHT = 0.2
_PORT_STEP = 0.13
_LANE_STEP = 0.32
_LABEL_MARGIN = CORNER + 0.12
"""Between a label and the node next to it: a corner or an arrow head, and a piece of line."""
_MIN_GAP = 0.45
_OUTPUT_GAP = 0.6

Point = tuple[float, float]
_Edge = tuple[int, int, str]
_Widths = Callable[[str], float]


@dataclasses.dataclass(frozen=True)
class Box:
    """A node: its text, and its centre on the row y = 0."""

    text: str
    x: float
    width: float

    @property
    def left(self) -> float:
        """x of its left side."""
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        """x of its right side."""
        return self.x + self.width / 2


@dataclasses.dataclass(frozen=True)
class Line:
    """An edge: a chain of horizontal and vertical pieces; without a label, one to the output."""

    source: int
    target: int
    points: tuple[Point, ...]
    label: str = ""
    label_at: Point = (0.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A cell's boxes (0 = input .. I + 1 = output) and lines, between `bottom` and `top`."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    bottom: float
    top: float


def lay_out(nodes: Nodes, output_mode: str, text_width: _Widths) -> Layout:
    """Places the nodes, op edges and output edges of a cell.

    Args:
      nodes: per node its edges.
      output_mode: the cell's.
      text_width: width of a text in inches.
    """
    edges = [(i, j, op) for j, node in enumerate(nodes, start=1) for i, op in node]
    lanes = _lanes(edges)
    ports = _ports(edges, lanes, len(nodes) + 2)
    places, gaps = _label_places(edges, lanes, len(nodes), text_width)
    texts = ["input", *map(str, range(1, len(nodes) + 1)), f"output\n({mode_name(output_mode)})"]
    boxes = _boxes(texts, [len(on_node) for on_node in ports], gaps, text_width)

    def port_x(node: int, edge: int) -> float:
        return boxes[node].x + (ports[node].index(edge) - (len(ports[node]) - 1) / 2) * _PORT_STEP

    half = NODE_HEIGHT / 2
    lines = []
    for k, (i, j, op) in enumerate(edges):
        y = half + 0.1 + lanes[k] * _LANE_STEP if lanes[k] else 0.0
        points: tuple[Point, ...] = ((boxes[i].right, y), (boxes[j].left, y))
        if lanes[k]:
            start, end = port_x(i, k), port_x(j, k)
            points = ((start, half), (start, y), (end, y), (end, half))
        label_x = (boxes[places[k]].right + boxes[places[k] + 1].left) / 2
        lines.append(Line(i, j, points, op, (label_x, y)))
    to_output = _output_lines(boxes, output_inputs(nodes, output_mode))
    bottom = min(y for line in to_output for _, y in line.points)
    top = half + 0.1 + max(lanes, default=0) * _LANE_STEP + LABEL_HEIGHT / 2
    return Layout(tuple(boxes), (*lines, *to_output), min(bottom, -half), top)


def _lanes(edges: Sequence[_Edge]) -> list[int]:
    """Returns a lane per edge, low for short ones; 0, one between neighbours, is the row itself."""
    lanes = [0] * len(edges)
    occupied: dict[int, list[tuple[int, int]]] = {}
    for k in sorted(range(len(edges)), key=lambda k: edges[k][1] - edges[k][0]):
        i, j, _ = edges[k]
        lane = 0 if j == i + 1 else 1
        while any(i < b and a < j for a, b in occupied.get(lane, ())):
            lane += 1
        occupied.setdefault(lane, []).append((i, j))
        lanes[k] = lane
    return lanes


def _ports(edges: Sequence[_Edge], lanes: Sequence[int], num_boxes: int) -> list[list[int]]:
    """Returns per box the edges at its upper side, from left to right.

    Those that arrive, low lanes first, then those that leave, high lanes first: in this order
    edges of one node do not cross each other.
    """
    raised = sorted((k for k in range(len(edges)) if lanes[k]), key=lambda k: lanes[k])
    return [
        [k for k in raised if edges[k][1] == box] + [k for k in raised[::-1] if edges[k][0] == box]
        for box in range(num_boxes)
    ]


def _label_places(
    edges: Sequence[_Edge], lanes: Sequence[int], num_nodes: int, text_width: _Widths
) -> tuple[list[int], list[float]]:
    """Returns per edge the gap for its label (gap g is to the right of box g), and their widths.

    A label goes where it widens the picture least, and there as near to the edge's middle as can
    be. Straight edges come first: they have no choice.
    """
    places = [0] * len(edges)
    gaps = [_MIN_GAP] * num_nodes
    for k in sorted(range(len(edges)), key=lambda k: lanes[k]):
        i, j, op = edges[k]
        needed = text_width(op) + 2 * _LABEL_MARGIN
        middle = (i + j - 1) / 2
        places[k] = min(
            range(i, j), key=lambda gap: (max(needed - gaps[gap], 0.0), abs(gap - middle))
        )
        gaps[places[k]] = max(gaps[places[k]], needed)
    return places, [*gaps, _OUTPUT_GAP]


def _boxes(
    texts: Sequence[str], num_ports: Sequence[int], gaps: Sequence[float], text_width: _Widths
) -> list[Box]:
    boxes = []
    left = 0.0
    for text, ports, gap in zip(texts, num_ports, [*gaps, 0.0]):
        text_size = max(text_width(line) for line in text.split("\n"))
        width = max(NODE_HEIGHT, text_size + 0.24, (ports + 1) * _PORT_STEP)
        boxes.append(Box(text, left + width / 2, width))
        left += width + gap
    return boxes


def _output_lines(boxes: Sequence[Box], inputs: Sequence[int]) -> list[Line]:
    """Returns the edges to the output: from its neighbour, and on one rail below the row."""
    output, half = len(boxes) - 1, NODE_HEIGHT / 2
    rail = -half - 0.35
    lines = []
    for j in inputs:
        points: tuple[Point, ...] = ((boxes[j].right, 0.0), (boxes[output].left, 0.0))
        if j < output - 1:
            start, end = boxes[j].x, boxes[output].x
            points = ((start, -half), (start, rail), (end, rail), (end, -half))
        lines.append(Line(j, output, points))
    return lines
