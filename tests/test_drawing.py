"""Drawings of cells: complete, readable, never by way of the network."""

from __future__ import annotations

import dataclasses
import html
import io
import os
import random
import re
import socket
import sys
from collections.abc import Mapping
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rldarts_tf.errors import RunError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.pictures import drawing, figures, layout, topology
from rldarts_tf.search_space import CLASSIC

MODES = ("concat", "last", "sum", "average", "weighted_sum")


@dataclasses.dataclass(frozen=True)
class AnyCells:
    """What a drawing asks of a genotype, with cells that no search would find."""

    cells: Mapping
    output_mode: str = "concat"
    search_space: str = "mine"


# Node 2 is used by nothing but the output, node 4 reads far inputs, node 1 -> 2 is doubled.
HAND_MADE = AnyCells(
    {
        "normal": (
            ((0, "conv_3x3"),),
            ((1, "tanh"), (1, "relu")),
            ((0, "conv_3x3"), (1, "skip_connect")),
            ((0, "relu"), (3, "tanh")),
        )
    },
    output_mode="last",
)


def random_cell(seed, num_nodes, top_k, ops=("conv_3x3_relu", "relu", "skip_connect")):
    rng = random.Random(seed)
    return tuple(
        tuple((i, rng.choice(ops)) for i in sorted(rng.sample(range(j), min(j, top_k))))
        for j in range(1, num_nodes + 1)
    )


def op_edges(nodes):
    return sorted((i, j, op) for j, node in enumerate(nodes, start=1) for i, op in node)


# --- which nodes count --------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(1, 6), st.integers(1, 3), st.sampled_from(MODES))
@settings(max_examples=100, deadline=None)
def test_live_nodes_are_those_with_a_path_to_the_output(seed, num_nodes, top_k, mode):
    nodes = random_cell(seed, num_nodes, top_k)
    # Paths counted by powers of the adjacency matrix; the output is the last index.
    adjacent = np.zeros((num_nodes + 2, num_nodes + 2), dtype=int)
    for i, j, _ in op_edges(nodes):
        adjacent[i, j] = 1
    adjacent[num_nodes if mode == "last" else slice(1, num_nodes + 1), num_nodes + 1] = 1
    paths = sum(np.linalg.matrix_power(adjacent, n) for n in range(1, num_nodes + 2))
    expected = {j for j in range(num_nodes + 1) if paths[j, num_nodes + 1]}
    assert topology.live_nodes(nodes, mode) == expected


# --- text ---------------------------------------------------------------------------------------


def test_the_text_has_one_line_per_node():
    assert topology.genotype_text(HAND_MADE) == (
        "normal cell (mine)\n"
        "  node 1 = conv_3x3(input)\n"
        "  node 2 = tanh(node 1) + relu(node 1)   [not used by the output]\n"
        "  node 3 = conv_3x3(input) + skip_connect(node 1)\n"
        "  node 4 = relu(input) + tanh(node 3)\n"
        "  output = last(node 4)"
    )


def test_the_text_of_a_genotype_names_every_edge_of_every_cell():
    genotype = random_genotype(CLASSIC, random.Random(0), output_mode="weighted_sum")
    text = topology.genotype_text(genotype)
    blocks = re.split(r"(?m)^(\w+) cell \(classic\)\n", text)[1:]
    assert blocks[::2] == list(genotype.cells)
    for cell_type, block in zip(blocks[::2], blocks[1::2]):
        found = []
        for line in block.splitlines():
            node = re.match(r"  node (\d+) = (.*)", line)
            if node:
                for op, source in re.findall(r"(\w+)\((input|node \d+)\)", node[2]):
                    i = 0 if source == "input" else int(source.split()[1])
                    found.append((i, int(node[1]), op))
        assert sorted(found) == op_edges(genotype.cells[cell_type])
        assert "output = weighted sum(node 1, node 2, node 3, node 4)" in block


# --- layout -------------------------------------------------------------------------------------


def overlap(a, b):
    (left, low, right, high), (left2, low2, right2, high2) = a, b
    return left < right2 and left2 < right and low < high2 and low2 < high


def label_box(line, width):
    x, y = line.label_at
    height = layout.LABEL_HEIGHT
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def pieces(line):
    for (x, y), (x2, y2) in zip(line.points, line.points[1:]):
        yield (min(x, x2), min(y, y2), max(x, x2), max(y, y2))


cells = st.one_of(
    st.builds(
        random_cell,
        st.integers(0, 10**6),
        st.integers(1, 6),
        st.integers(1, 6),
        st.just(("conv_3x3_relu", "tanh", "a_very_long_name_of_an_op")),
    ),
    # Parallel edges too: a supernet has one per op.
    st.integers(1, 4).flatmap(
        lambda num_nodes: st.tuples(
            *(
                st.lists(
                    st.tuples(st.integers(0, j - 1), st.sampled_from(["relu", "conv_3x3_relu"])),
                    min_size=1,
                    max_size=4,
                ).map(tuple)
                for j in range(1, num_nodes + 1)
            )
        )
    ),
)


@given(cells, st.sampled_from(MODES))
@settings(max_examples=200, deadline=None)
def test_no_label_is_covered_and_no_edge_runs_through_another_s_label(nodes, mode):
    def text_width(text):
        return 0.08 * len(text)

    placed = layout.lay_out(nodes, mode, text_width)
    half = layout.NODE_HEIGHT / 2
    boxes = [(box.left, -half, box.right, half) for box in placed.boxes]
    labels = {
        k: label_box(line, text_width(line.label))
        for k, line in enumerate(placed.lines)
        if line.label
    }
    rectangles = boxes + list(labels.values())
    for k, one in enumerate(rectangles):
        assert not any(overlap(one, other) for other in rectangles[k + 1 :])
    for k, line in enumerate(placed.lines):
        for piece in pieces(line):
            assert not any(overlap(piece, labels[m]) for m in labels if m != k)
            assert not any(overlap(piece, box) for box in boxes)
    # A label stands on its own line, away from the corners.
    for k, (left, low, right, high) in labels.items():
        line = placed.lines[k]
        y = (low + high) / 2
        assert any(
            a + layout.CORNER <= left and right <= b - layout.CORNER
            for a, low2, b, high2 in pieces(line)
            if low2 == high2 == y
        )


@given(cells, st.sampled_from(MODES))
@settings(max_examples=100, deadline=None)
def test_lines_connect_the_right_nodes_and_two_edges_never_coincide(nodes, mode):
    placed = layout.lay_out(nodes, mode, lambda text: 0.08 * len(text))
    half = layout.NODE_HEIGHT / 2
    drawn = [line for line in placed.lines if line.label]
    assert sorted((line.source, line.target, line.label) for line in drawn) == op_edges(nodes)
    outputs = [len(nodes)] if mode == "last" else list(range(1, len(nodes) + 1))
    to_output = [line for line in placed.lines if not line.label]
    assert [(line.source, line.target) for line in to_output] == [
        (j, len(nodes) + 1) for j in outputs
    ]
    for line in placed.lines:
        for end, node in ((line.points[0], line.source), (line.points[-1], line.target)):
            box = placed.boxes[node]
            on_side = end[1] == 0 and min(abs(end[0] - box.left), abs(end[0] - box.right)) < 1e-9
            on_top = abs(end[1]) == half and box.left < end[0] < box.right
            assert on_side or on_top
        assert all(placed.bottom <= y <= placed.top for _, y in line.points)
    # Vertical pieces keep a visible distance; horizontal ones are in lanes of their own.
    verticals = sorted(p[0] for line in drawn for p in pieces(line) if p[0] == p[2])
    assert all(b - a > 0.09 for a, b in zip(verticals, verticals[1:]))
    horizontals = [p for line in drawn for p in pieces(line) if p[1] == p[3]]
    for k, (left, y, right, _) in enumerate(horizontals):
        for left2, y2, right2, _ in horizontals[k + 1 :]:
            assert y != y2 or right <= left2 or right2 <= left


# --- files --------------------------------------------------------------------------------------


def svg_labels(path):
    """The texts of a matplotlib SVG: it draws glyphs and names each text in a comment."""
    ElementTree.parse(path)
    return [text.strip() for text in re.findall(r"<!-- (.*?) -->", path.read_text(), re.S)]


def test_every_cell_becomes_an_svg_and_a_png(tmp_path, monkeypatch):
    def no_network(*args, **kwargs):
        raise AssertionError("a drawing asked for the network")

    monkeypatch.setattr(socket, "socket", no_network)
    genotype = random_genotype(CLASSIC, random.Random(1))
    folder = tmp_path / "run" / "cells"
    paths = drawing.draw_genotype(genotype, folder)
    assert [path.name for path in paths] == [
        "reduction.svg",
        "reduction.png",
        "normal.svg",
        "normal.png",
    ]
    assert sorted(os.listdir(folder)) == sorted(path.name for path in paths)
    for cell_type, nodes in genotype.cells.items():
        labels = svg_labels(folder / f"{cell_type}.svg")
        for op in {op for _, _, op in op_edges(nodes)}:
            assert labels.count(op) == sum(op == o for _, _, o in op_edges(nodes))
        assert {"input", "1", "2", "3", "4"} <= set(labels)
        assert any("output" in label for label in labels)
        assert any("concat" in label for label in labels)


def test_a_png_shows_ops_in_colours_and_dead_ends_in_grey(tmp_path):
    from matplotlib import colors, image

    def shares(output_mode):
        genotype = dataclasses.replace(HAND_MADE, output_mode=output_mode)
        (path,) = drawing.draw_genotype(genotype, tmp_path, formats=["png"])
        pixels = image.imread(io.BytesIO(path.read_bytes()), format="png")[..., :3]
        assert pixels.shape[1] > 800  # wide enough to read
        return {
            name: int((np.abs(pixels - colors.to_rgb(colour)).max(axis=-1) < 0.01).sum())
            for name, colour in {
                **figures.op_colours(drawing._ops_by_cell(genotype)),
                "grey": drawing._PALE,
            }.items()
        }

    with_dead_end, all_live = shares("last"), shares("concat")
    assert set(with_dead_end) == {"conv_3x3", "tanh", "relu", "skip_connect", "grey"}
    assert min(with_dead_end.values()) > 200
    # Node 2 and its edges (tanh, relu) turn grey; the other ops keep their ink.
    assert with_dead_end["grey"] > 5 * all_live["grey"]
    assert with_dead_end["tanh"] < all_live["tanh"] and with_dead_end["relu"] < all_live["relu"]
    # Up to where a line falls between pixels, for the pictures are not equally high.
    assert with_dead_end["conv_3x3"] == pytest.approx(all_live["conv_3x3"], rel=0.35)


def test_equal_genotypes_make_equal_files(tmp_path):
    for folder in ("a", "b"):
        drawing.draw_genotype(HAND_MADE, tmp_path / folder)
    for name in ("normal.svg", "normal.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_matplotlibrc_of_the_user_changes_nothing(tmp_path):
    import matplotlib

    drawing.draw_genotype(HAND_MADE, tmp_path / "a")
    theirs = {"font.family": "monospace", "font.size": 20.0, "figure.dpi": 40, "savefig.dpi": 40}
    with matplotlib.rc_context({**theirs, "savefig.bbox": "tight", "text.usetex": True}):
        drawing.draw_genotype(HAND_MADE, tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 20.0
    for name in ("normal.svg", "normal.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_ops_have_any_name(tmp_path):
    odd = AnyCells({"normal": (((0, 'a "b"\\'), (0, r"$\nonsense{$"), (0, "<c>&")),)})
    (path,) = drawing.draw_genotype(odd, tmp_path, formats=["svg"])
    ElementTree.parse(path)
    texts = {html.unescape(text) for text in svg_labels(path)}
    assert {'a "b"\\', r"$\nonsense{$", "<c>&"} <= texts


def test_ops_have_distinct_colours_however_many_there_are():
    nodes = tuple(((0, f"op_{k}"),) for k in range(25))
    colours = figures.op_colours(drawing._ops_by_cell(AnyCells({"a": nodes[:13], "b": nodes[12:]})))
    assert len(set(colours.values())) == len(colours) == 25
    for colour in colours.values():
        red, green, blue = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.6  # dark on white


# --- bad input ----------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match=r"file/normal\.svg.*cannot be written") as error:
        drawing.draw_genotype(HAND_MADE, tmp_path / "file")
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_unknown_formats_and_odd_cell_names_are_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(RunError, match="'gif'"):
        drawing.draw_genotype(HAND_MADE, tmp_path, formats=["svg", "gif"])
    for name in ("../normal", "", "a/b", ".hidden"):
        with pytest.raises(RunError, match="cannot name a file"):
            drawing.draw_genotype(AnyCells({name: (((0, "relu"),),)}), tmp_path)
    assert os.listdir(tmp_path) == []


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"rldarts_tf\[report\]"):
        drawing.draw_genotype(HAND_MADE, tmp_path)


def test_the_protocol_is_what_the_genotype_class_offers():
    genotype: topology.DrawableGenotype = random_genotype(CLASSIC, random.Random(0))
    assert isinstance(genotype, Genotype)
    for name in ("search_space", "cells", "output_mode"):
        assert hasattr(genotype, name)
