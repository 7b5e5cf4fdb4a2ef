"""Fits the time of a train step to the size of the supernet: lines through sweeps.

    python benchmarks/scaling.py --output=scaling.json --figure=scaling.png

One number varies at a time: nodes I (against the edges of a cell, I(I+1)/2), normal cells N per
block, blocks D, batch, or base ops; the others keep those of `BASE`. Each block halves the maps, so
that later blocks cost less: time over D is no line, time over multiply-adds is. Every sweep is
therefore fitted twice, over its own number and over the multiply-adds of a forward pass of the
batch. Cells are normal ones with IMPALA's reduction.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import common
import numpy as np

import rldarts_tf
from rldarts_tf.files import write_bytes
from rldarts_tf.pictures import figures, plotting
from rldarts_tf.search_space import num_edges

OPS = ("conv_3x3_relu", "dil_conv_3x3_relu", "conv_3x3", "dil_conv_3x3")
"""Base ops of equal cost, so that their number measures; `skip_connect` and `none` are added."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a train step: I, N, D, images and base ops."""

    nodes: int = 4
    cells: int = 1
    blocks: int = 3
    batch: int = 64
    ops: int = 2


BASE = Size()
SWEEPS = {
    # field of Size: what the sweep is plotted over
    "nodes": "edges of a cell",
    "cells": "cells per block, N",
    "blocks": "blocks, D",
    "batch": "images in a step",
    "ops": "base ops",
}
DEFAULTS = {
    "nodes": "1,2,3,4,5,6",
    "cells": "1,2,3,4",
    "blocks": "1,2,3,4",
    "batch": "16,32,64,128,256",
    "ops": "1,2,3,4",
}


class Networks:
    """Train steps by size; networks that differ in the batch alone are one.

    Args:
      depth: channels of each block.
      image_side: height and width of the images.
    """

    def __init__(self, depth: int, image_side: int) -> None:
        self._depth = depth
        self._image_side = image_side
        self._steps: dict[Size, tuple[Any, int]] = {}

    def step(self, size: Size) -> tuple[common.Call, int]:
        """A train step, and the multiply-adds of the forward pass of its batch."""
        key = dataclasses.replace(size, batch=BASE.batch)
        if key not in self._steps:
            self._steps[key] = self._make(key)
        train, multiply_adds = self._steps[key]
        images = common.make_images(size.batch, self._image_side)
        # Traced for this batch; a call would warn of a trace per batch.
        step = train.get_concrete_function(images)
        return lambda: step(images).numpy(), multiply_adds * size.batch

    def _make(self, size: Size) -> tuple[Any, int]:
        space = rldarts_tf.SearchSpace(
            "scaling", OPS[: size.ops], num_normal=size.cells, num_nodes=size.nodes
        )
        network = rldarts_tf.Supernet(space, [self._depth] * size.blocks)
        cost = rldarts_tf.count_cost(network, (self._image_side, self._image_side, 3))
        train = common.train_step(
            lambda images: network(images, training=True), network.trainable_weights
        )
        return train, cost.multiply_adds


def axis_value(field: str, value: int) -> int:
    """Position of a sweep's value on its axis."""
    return num_edges(value) if field == "nodes" else value


def fit(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """The least-squares line y = slope x + intercept, and R²."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.sum((np.polyval([slope, intercept], x) - y) ** 2)
    total = np.sum((np.asarray(y) - np.mean(y)) ** 2)
    r_squared = 1.0 - residual / total if total else 1.0
    return {"slope": float(slope), "intercept": float(intercept), "r_squared": float(r_squared)}


def measure(field: str, values: Sequence[int], networks: Networks, repeats: int) -> dict[str, Any]:
    """One sweep: its points, in turn, and the two lines."""
    steps = {value: networks.step(dataclasses.replace(BASE, **{field: value})) for value in values}
    timings = common.interleaved({str(value): step for value, (step, _) in steps.items()}, repeats)
    points = [
        {
            field: value,
            "x": axis_value(field, value),
            "multiply_adds": multiply_adds,
            **timings[str(value)].to_dict("train"),
        }
        for value, (_, multiply_adds) in steps.items()
    ]
    seconds = [point["train_seconds"] for point in points]
    result = {
        "sweep": field,
        "axis": SWEEPS[field],
        "points": points,
        "fit": fit([point["x"] for point in points], seconds),
        "fit_multiply_adds": fit([point["multiply_adds"] for point in points], seconds),
    }
    if field == "blocks":
        result["per_block"] = per_block(points)
    return result


def per_block(points: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Cost of each further block: differences of neighbouring points."""
    return [
        {
            "blocks": after["blocks"],
            "multiply_adds": after["multiply_adds"] - before["multiply_adds"],
            "train_seconds": after["train_seconds"] - before["train_seconds"],
        }
        for before, after in zip(points, points[1:])
    ]


def draw(sweeps: Sequence[Mapping[str, Any]], path: str) -> None:
    """A panel per sweep with its line, and one of all points over multiply-adds."""
    with figures.style(**plotting.STYLE):
        picture = plotting.new_figure()
        columns = -(-(len(sweeps) + 1) // 2)
        panels = picture.subplots(2, columns, squeeze=False).ravel()
        for colour, axes, sweep in zip(figures.PALETTE, panels, sweeps):
            x = np.array([point["x"] for point in sweep["points"]])
            line = sweep["fit"]
            axes.plot(x, 1e3 * (line["slope"] * x + line["intercept"]), color=figures.GREY)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.set_title(f"R² = {line['r_squared']:.3f}", loc="right", fontsize=11)
            _draw_points(axes, sweep, "x", 1, colour)
            axes.set_xlabel(sweep["axis"])
        together = panels[len(sweeps)]
        for colour, sweep in zip(figures.PALETTE, sweeps):
            _draw_points(together, sweep, "multiply_adds", 1e9, colour)
        together.set_xlabel("10⁹ multiply-adds, forward")
        together.legend(frameon=False, fontsize=11)
        for axes in panels[: len(sweeps) + 1]:
            # From zero, where the intercepts are, with room for the last marker.
            axes.set_xlim(0, 1.06 * axes.dataLim.x1)
            axes.set_ylim(0, 1.1 * axes.dataLim.y1)
        for axes in panels[len(sweeps) + 1 :]:
            axes.set_visible(False)
        for axes in panels[::columns]:
            axes.set_ylabel("train step, ms")
        write_bytes(path, figures.encode(picture, "png"))


def _draw_points(axes: Any, sweep: Mapping[str, Any], key: str, unit: float, colour: str) -> None:
    x = [point[key] / unit for point in sweep["points"]]
    y = [1e3 * point["train_seconds"] for point in sweep["points"]]
    axes.plot(x, y, "o", color=colour, label=sweep["sweep"], zorder=3)
    plotting.plain_axes(axes)


def print_results(sweeps: Sequence[Mapping[str, Any]]) -> None:
    """The points, what each block adds, and the lines."""
    common.print_table(
        "Points",
        ("sweep", "value", "x", "10⁹ multiply-adds", "train ms", "min"),
        [
            (
                sweep["sweep"],
                point[sweep["sweep"]],
                point["x"],
                point["multiply_adds"] / 1e9,
                1e3 * point["train_seconds"],
                1e3 * point["train_seconds_min"],
            )
            for sweep in sweeps
            for point in sweep["points"]
        ],
    )
    blocks = [row for sweep in sweeps for row in sweep.get("per_block", [])]
    if blocks:
        common.print_table(
            "What a further block adds",
            ("up to block", "10⁹ multiply-adds", "train ms"),
            [
                (row["blocks"], row["multiply_adds"] / 1e9, 1e3 * row["train_seconds"])
                for row in blocks
            ],
        )
    common.print_table(
        "Lines: train ms over the axis, and over 10⁹ multiply-adds",
        ("sweep", "axis", "slope", "intercept", "R²", "slope", "intercept", "R²"),
        [
            (
                sweep["sweep"],
                sweep["axis"],
                1e3 * sweep["fit"]["slope"],
                1e3 * sweep["fit"]["intercept"],
                sweep["fit"]["r_squared"],
                1e12 * sweep["fit_multiply_adds"]["slope"],
                1e3 * sweep["fit_multiply_adds"]["intercept"],
                sweep["fit_multiply_adds"]["r_squared"],
            )
            for sweep in sweeps
        ],
    )


def sweep_values(text: str) -> list[int]:
    """The values of a sweep, ascending: at least two; none where there is no text."""
    if not text:
        return []
    values = sorted(set(common.integers(text)))
    if len(values) < 2:
        raise argparse.ArgumentTypeError(f"a line needs at least two values, got {text!r}")
    return values


def make_parser() -> common.Parser:
    """The command line."""
    parser = common.Parser(__doc__)
    for field, axis in SWEEPS.items():
        parser.add_argument(
            f"--{field}",
            type=sweep_values,
            default=DEFAULTS[field],
            help=f"values of the sweep over {axis}; empty for none (%(default)s)",
        )
    parser.add_count("--depth", 16, "channels of all blocks")
    parser.add_count("--image_side", 64, "height and width")
    parser.add_count("--repeats", 5, "rounds of measurements")
    parser.add_argument("--figure", type=common.output_path(".png"), help="draw here, as *.png")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Measures, prints, writes and draws."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.ops and args.ops[-1] > len(OPS):
        parser.error(f"argument --ops: at most {len(OPS)}, got {args.ops[-1]}")
    chosen = {field: getattr(args, field) for field in SWEEPS if getattr(args, field)}
    if not chosen:
        parser.error("all sweeps are empty")
    networks = Networks(args.depth, args.image_side)
    sweeps = []
    for field, values in chosen.items():
        common.progress(f"the sweep over {SWEEPS[field]}")
        sweeps.append(measure(field, values, networks, args.repeats))
    print_results(sweeps)
    common.write_results(args, {"base": dataclasses.asdict(BASE), "sweeps": sweeps})
    if args.figure is not None:
        draw(sweeps, args.figure)


if __name__ == "__main__":
    common.run(main)
