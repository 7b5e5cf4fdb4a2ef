"""Plots: the numbers that are drawn, the files that come out, and the command line."""

from __future__ import annotations

import json
import math
import statistics
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rldarts_tf import commands
from rldarts_tf.errors import RunError
from rldarts_tf.pictures import figures as figures_module
from rldarts_tf.pictures import plotting
from rldarts_tf.pictures.curves import read_band
from rldarts_tf.runs.search_log import AlphaLog, ContributionLog
from rldarts_tf.search_space import CLASSIC, edges, num_edges

PNG = b"\x89PNG\r\n\x1a\n"


def write_table(path, rows, columns=("return_mean",)):
    """Writes rows (step, value, ...) as metrics.csv; None leaves a field empty."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(("step", "wall_time", *columns))]
    for step, *values in rows:
        fields = ["" if value is None else repr(value) for value in values]
        lines.append(",".join([str(step), f"{step / 100:.3f}", *fields]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_alphas(path, ops, num_nodes, num_records, seed=0):
    """Writes a log of random α; returns softmax weights, [cell][record][node]: array [j, |O|]."""
    rng = np.random.default_rng(seed)
    log = AlphaLog(path, ops, num_edges(num_nodes))
    records = {cell: [] for cell in ops}
    for t in range(num_records):
        for cell, names in ops.items():
            records[cell].append(
                [rng.dirichlet(np.ones(len(names)), j) for j in range(1, num_nodes + 1)]
            )
        # The logarithm of weights is one of the logits that they come from.
        log.record(1000 * t, {cell: np.log(np.concatenate(records[cell][t])) for cell in ops})
    log.flush()
    return records


@pytest.fixture
def figures(monkeypatch):
    """The matplotlib figures, in the order in which they were drawn."""
    drawn = []
    encode = figures_module.encode

    def recording(picture, *arguments):
        drawn.append(picture)
        return encode(picture, *arguments)

    monkeypatch.setattr(figures_module, "encode", recording)
    return drawn


def drawn_line(axes, label):
    (line,) = [line for line in axes.get_lines() if line.get_label() == label]
    return line


def png_size(data):
    assert data.startswith(PNG)
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


# --- returns ------------------------------------------------------------------------------------


def test_seeds_are_averaged_on_their_common_steps(tmp_path, figures):
    first = write_table(tmp_path / "a/metrics.csv", [(0, 0.0), (100, 10.0), (200, 30.0)])
    second = write_table(tmp_path / "b/metrics.csv", [(50, 1.0), (150, 5.0), (350, 9.0)])
    plotting.plot_returns({"supernet": [first, second]}, tmp_path / "returns.png")
    (axes,) = figures[0].axes
    line = drawn_line(axes, "supernet (2 seeds)")
    # first: 5, 10, 20, 30 and second: 1, 3, 5, 6 at these steps.
    assert line.get_xdata().tolist() == [50, 100, 150, 200]
    np.testing.assert_allclose(line.get_ydata(), [3.0, 6.5, 12.5, 18.0])

    (band,) = axes.collections
    corners = {tuple(corner) for corner in np.round(band.get_paths()[0].vertices, 9)}
    for step, pair in zip((50, 100, 150, 200), ((5, 1), (10, 3), (20, 5), (30, 6))):
        mean, deviation = statistics.mean(pair), statistics.stdev(pair)
        assert (step, round(mean - deviation, 9)) in corners
        assert (step, round(mean + deviation, 9)) in corners
    # The second seed goes on to 350, which the reader must be told.
    assert "all seeds" in figures[0].legends[0].get_title().get_text()


def test_one_seed_has_a_line_without_a_band(tmp_path, figures):
    table = write_table(tmp_path / "metrics.csv", [(10, 1.5), (20, 2.5)])
    plotting.plot_returns({"baseline": [table]}, tmp_path / "returns.png")
    (axes,) = figures[0].axes
    assert drawn_line(axes, "baseline").get_ydata().tolist() == [1.5, 2.5]
    assert not axes.collections
    assert figures[0].legends[0].get_title().get_text() == ""


def test_seeds_of_equal_length_are_not_said_to_be_cut(tmp_path, figures):
    tables = [write_table(tmp_path / f"{k}/metrics.csv", [(10, 1.0 * k)]) for k in range(3)]
    plotting.plot_returns({"x": tables}, tmp_path / "returns.png")
    title = figures[0].legends[0].get_title().get_text()
    assert "standard deviation" in title
    assert "all seeds" not in title


def test_rows_without_a_finite_value_are_skipped(tmp_path, figures):
    rows = [(10, None), (20, 2.0), (30, math.nan), (40, math.inf), (50, 5.0), (60, None)]
    table = write_table(tmp_path / "metrics.csv", rows)
    plotting.plot_returns({"x": [table]}, tmp_path / "returns.png")
    line = drawn_line(figures[0].axes[0], "x")
    assert line.get_xdata().tolist() == [20, 50]
    assert line.get_ydata().tolist() == [2.0, 5.0]


def test_of_rows_with_equal_steps_the_last_one_counts(tmp_path, figures):
    rows = [(10, 1.0), (20, 2.0), (20, 7.0), (20, 4.0), (30, 3.0), (30, None)]
    table = write_table(tmp_path / "metrics.csv", rows)
    plotting.plot_returns({"x": [table]}, tmp_path / "returns.png")
    line = drawn_line(figures[0].axes[0], "x")
    assert line.get_xdata().tolist() == [10, 20, 30]
    assert line.get_ydata().tolist() == [1.0, 4.0, 3.0]


def test_another_column_is_drawn_with_its_own_axis_label(tmp_path, figures):
    rows = [(10, 1.0, None), (20, 2.0, 7.0)]
    table = write_table(tmp_path / "metrics.csv", rows, ("return_mean", "eval_test_return_mean"))
    picture = tmp_path / "returns.png"
    plotting.plot_returns({"x": [table]}, picture, column="eval_test_return_mean")
    plotting.plot_returns({"x": [table]}, picture, title="A title", ylabel="my label")
    (evaluation,), (training,) = (figure.axes for figure in figures)
    assert drawn_line(evaluation, "x").get_ydata().tolist() == [7.0]
    # A line of one point would be invisible.
    assert drawn_line(evaluation, "x").get_marker() == "o"
    assert evaluation.get_ylabel() == "mean return, evaluation"
    assert training.get_ylabel() == "my label"
    assert training.get_title(loc="left") == "A title"


def test_reference_values_are_dashed_horizontal_lines(tmp_path, figures):
    table = write_table(tmp_path / "metrics.csv", [(k, 1.0 * k) for k in range(100)])
    plotting.plot_returns(
        {"x": [table]}, tmp_path / "returns.png", reference={"random policy": 1.5, "paper": 40.0}
    )
    (axes,) = figures[0].axes
    for label, value in (("random policy: 1.5", 1.5), ("paper: 40", 40.0)):
        line = drawn_line(axes, label)
        assert set(line.get_ydata()) == {value}
        assert line.is_dashed()
        low, high = axes.get_ylim()
        assert low < value < high
    assert not drawn_line(axes, "x").is_dashed()
    shown = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert shown == ["x", "random policy: 1.5", "paper: 40"]


def test_many_labels_can_be_told_apart(tmp_path, figures):
    table = write_table(tmp_path / "metrics.csv", [(1, 1.0), (2, 2.0)])
    plotting.plot_returns({f"run {k}": [table] for k in range(20)}, tmp_path / "returns.png")
    lines = figures[0].axes[0].get_lines()
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 20


@pytest.mark.parametrize(
    "steps, text",
    [
        (0, "0"),
        (500, "500"),
        (1_000, "1K"),
        (100_000, "100K"),
        (2_500_000, "2.5M"),
        (25_000_000, "25M"),
        (1_000_000_000, "1B"),
    ],
)
def test_steps_are_written_in_short_units(steps, text):
    assert plotting.format_steps(steps) == text


def test_step_axis_begins_at_zero_and_uses_short_units(tmp_path, figures):
    table = write_table(tmp_path / "metrics.csv", [(5_000_000, 1.0), (25_000_000, 2.0)])
    plotting.plot_returns({"x": [table]}, tmp_path / "returns.png")
    (axes,) = figures[0].axes
    assert axes.get_xlim()[0] == 0
    shown = [text.get_text() for text in axes.get_xticklabels()]
    assert {"0", "5M", "25M"} <= set(shown)


@given(
    st.lists(
        st.dictionaries(
            st.integers(0, 50), st.floats(-1e3, 1e3, allow_nan=False), min_size=1, max_size=8
        ),
        min_size=1,
        max_size=4,
    )
)
def test_band_equals_interpolation_point_by_point(tmp_path_factory, seeds):
    folder = tmp_path_factory.mktemp("band")
    files = [
        write_table(folder / f"{k}/metrics.csv", sorted(seed.items()))
        for k, seed in enumerate(seeds)
    ]
    first, last = max(min(seed) for seed in seeds), min(max(seed) for seed in seeds)
    if first > last:
        with pytest.raises(RunError, match="no range of steps in common"):
            read_band("x", files, "return_mean")
        return

    def at(seed, step):
        left = max(known for known in seed if known <= step)
        right = min(known for known in seed if known >= step)
        if left == right:
            return seed[left]
        share = (step - left) / (right - left)
        return (1 - share) * seed[left] + share * seed[right]

    band = read_band("x", files, "return_mean")
    steps = sorted({step for seed in seeds for step in seed if first <= step <= last})
    assert band.steps.tolist() == steps
    for k, step in enumerate(steps):
        values = [at(seed, step) for seed in seeds]
        assert band.mean[k] == pytest.approx(statistics.mean(values), abs=1e-8)
        if len(seeds) > 1:
            assert band.deviation[k] == pytest.approx(statistics.stdev(values), abs=1e-6)
    assert (band.deviation is None) == (len(seeds) == 1)
    assert band.cut == any(max(seed) > last for seed in seeds)


# --- op weights ---------------------------------------------------------------------------------


def test_op_weights_are_means_over_all_edges(tmp_path, figures):
    ops = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}
    records = write_alphas(tmp_path / "alphas.npz", ops, num_nodes=3, num_records=5)
    plotting.plot_op_weights(tmp_path / "alphas.npz", tmp_path / "ops.png")
    (figure,) = figures
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["reduction cell", "normal cell"]
    for axes, (cell, names) in zip(figure.axes, ops.items()):
        assert [text.get_text() for text in axes.get_legend().get_texts()] == list(names)
        for k, op in enumerate(names):
            line = drawn_line(axes, op)
            assert line.get_xdata().tolist() == [0, 1000, 2000, 3000, 4000]
            expected = [
                sum(nodes[j][i][k] for j in range(3) for i in range(j + 1)) / 6
                for nodes in records[cell]
            ]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
            assert line.is_dashed() == (op == "none")
        assert axes.get_ylim()[0] == 0


def test_ops_have_the_colours_of_a_drawn_cell_in_all_panels(tmp_path, figures):
    ops = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}
    write_alphas(tmp_path / "alphas.npz", ops, num_nodes=1, num_records=2)
    plotting.plot_op_weights(tmp_path / "alphas.npz", tmp_path / "ops.png")
    colours = {}
    for axes in figures[0].axes:
        for line in axes.get_lines():
            colours.setdefault(line.get_label(), set()).add(line.get_color())
    assert all(len(of_one_op) == 1 for of_one_op in colours.values())
    grey = colours.pop("none")
    assert not grey & set(figures_module.PALETTE)
    # Classic has as many ops as the palette has colours.
    assert {colour for (colour,) in colours.values()} == set(figures_module.PALETTE)


def test_one_cell_type_makes_one_panel(tmp_path, figures):
    write_alphas(tmp_path / "alphas.npz", {"normal": ("relu", "none")}, 2, num_records=1)
    plotting.plot_op_weights(tmp_path / "alphas.npz", tmp_path / "ops.svg")
    (axes,) = figures[0].axes
    assert drawn_line(axes, "relu").get_marker() == "o"
    ElementTree.parse(tmp_path / "ops.svg")


def test_contributions_are_drawn_below_the_op_weights_of_a_run(tmp_path, figures):
    ops = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}
    (tmp_path / "search").mkdir()
    write_alphas(tmp_path / "search/alphas.npz", ops, num_nodes=2, num_records=3)
    log = ContributionLog(tmp_path / "search/contributions.npz", ops, num_edges(2))
    rng = np.random.default_rng(1)
    records = [{c: rng.uniform(0, 2, (3, len(ops[c]))) for c in ops} for _ in range(2)]
    for step, record in zip((1000, 2000), records):
        log.record(step, record)
    log.flush()
    output = str(tmp_path / "ops.png")
    assert commands.main(["plot", str(tmp_path), "--op_weights", f"--output={output}"]) == 0
    above, below = np.reshape(figures[0].axes, (2, 2))
    assert [axes.get_title(loc="left") for axes in below] == ["reduction cell", "normal cell"]
    assert "softmax weight" in above[0].get_ylabel() and "contribution" in below[0].get_ylabel()
    for cell, axes in zip(ops, below):
        for k, op in enumerate(ops[cell]):
            line = drawn_line(axes, op)
            assert line.get_xdata().tolist() == [1000, 2000]
            expected = [record[cell][:, k].mean() for record in records]
            np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-6)
    assert png_size((tmp_path / "ops.png").read_bytes()) == (1200, 1400)
    assert commands.main(["plot", str(tmp_path), str(tmp_path), "--op_weights", "--output=x.png"])
    (tmp_path / "search/contributions.npz").unlink()
    assert commands.main(["plot", str(tmp_path), "--op_weights", f"--output={output}"]) == 0
    assert len(figures[1].axes) == 2


def test_the_picture_of_edges_names_each_row_and_parts_the_nodes(figures):
    ops = {cell: CLASSIC.ops(cell) for cell in CLASSIC.cell_types}
    rng = np.random.default_rng(0)
    p = {cell: rng.dirichlet(np.ones(len(names)), 6) for cell, names in ops.items()}
    assert png_size(plotting.edge_weights_picture(p, ops, edges(3)))
    for axes, (cell, names) in zip(figures[0].axes, ops.items()):
        assert axes.get_title(loc="left") == f"{cell} cell"
        rows = [label.get_text() for label in axes.get_yticklabels()]
        inputs = ["input → 1", "input → 2", "1 → 2", "input → 3", "1 → 3", "2 → 3"]
        assert rows == inputs
        assert [label.get_text() for label in axes.get_xticklabels()] == list(names)
        np.testing.assert_array_equal(axes.get_images()[0].get_array(), p[cell])
        assert [text.get_text() for text in axes.texts] == [f"{w:.2f}" for w in p[cell].ravel()]
        assert [line.get_ydata()[0] for line in axes.get_lines()] == [0.5, 2.5]


def test_log_without_records_is_refused(tmp_path):
    np.savez(
        tmp_path / "alphas.npz",
        step=np.zeros(0, np.int64),
        format=np.array(2),
        normal_ops=np.array(["relu", "none"]),
        normal_logits=np.zeros((0, 1, 2)),
    )
    with pytest.raises(RunError, match="no records"):
        plotting.plot_op_weights(tmp_path / "alphas.npz", tmp_path / "ops.png")


@pytest.mark.parametrize(
    "arrays",
    [
        {"normal_ops": np.array(["relu", "none"])},
        {"normal_ops": np.array(["relu", "none"]), "normal_node_2": np.zeros((1, 2, 2))},
        {"normal_ops": np.array(["relu", "none"]), "normal_node_1": np.zeros((1, 1, 3))},
        {"normal_ops": np.array(["relu", "none"]), "normal_node_1": np.zeros((1, 2, 2))},
    ],
    ids=["no nodes", "a node is missing", "other ops", "other edges"],
)
def test_incomplete_log_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "alphas.npz", step=np.array([7]), **arrays)
    with pytest.raises(RunError, match=r"alphas\.npz.*'normal' cell are incomplete"):
        plotting.plot_op_weights(tmp_path / "alphas.npz", tmp_path / "ops.png")
    assert not (tmp_path / "ops.png").exists()


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_missing_or_damaged_log_is_refused(tmp_path, content):
    path = tmp_path / "alphas.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"alphas\.npz"):
        plotting.plot_op_weights(path, tmp_path / "ops.png")


# --- files --------------------------------------------------------------------------------------


def test_suffix_chooses_the_format(tmp_path):
    table = write_table(tmp_path / "metrics.csv", [(10, 1.0), (20, 2.0)])
    for name in ("a.png", "b.PNG"):
        plotting.plot_returns({"x": [table]}, tmp_path / name)
        assert png_size((tmp_path / name).read_bytes()) == (1200, 700)
    plotting.plot_returns({"x": [table]}, tmp_path / "new/folder/c.svg")
    root = ElementTree.parse(tmp_path / "new/folder/c.svg").getroot()
    assert root.tag.endswith("svg")
    with pytest.raises(RunError, match=r"'.*d\.pdf'.*\.svg or \.png"):
        plotting.plot_returns({"x": [table]}, tmp_path / "d.pdf")


def test_equal_data_make_equal_svg_files(tmp_path):
    table = write_table(tmp_path / "metrics.csv", [(10, 1.0), (20, 2.0)])
    for name in ("a.svg", "b.svg"):
        plotting.plot_returns({"x": [table]}, tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_dollar_signs_in_names_are_no_formulas(tmp_path):
    table = write_table(tmp_path / "metrics.csv", [(10, 1.0)])
    # As mathematics this would be a syntax error.
    plotting.plot_returns({r"$\nonsense{$": [table]}, tmp_path / "a.png", title=r"$\frac$")
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_failure_leaves_the_old_picture(tmp_path):
    picture = tmp_path / "returns.png"
    picture.write_bytes(b"old")
    with pytest.raises(RunError, match=r"gone\.csv"):
        plotting.plot_returns({"x": [tmp_path / "gone.csv"]}, picture)
    damaged = tmp_path / "metrics.csv"
    damaged.write_text("step,wall_time,return_mean\n1,1.0,what\n2,2.0,3.0\n")
    with pytest.raises(RunError, match="damaged in line 2"):
        plotting.plot_returns({"x": [damaged]}, picture)
    assert picture.read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.csv", "returns.png"]


def test_nothing_to_draw_is_refused(tmp_path):
    picture = tmp_path / "returns.png"
    empty = write_table(tmp_path / "empty.csv", [(10, None)])
    for curves, column, message in (
        ({}, "return_mean", "nothing to draw"),
        ({"x": []}, "return_mean", "'x' has no files"),
        ({"x": [empty]}, "return_mean", "no value in column 'return_mean'"),
        ({"x": [empty]}, "reward", "no column 'reward'; it has step, wall_time, return_mean"),
    ):
        with pytest.raises(RunError, match=message):
            plotting.plot_returns(curves, picture, column=column)
    assert not picture.exists()


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    table = write_table(tmp_path / "metrics.csv", [(10, 1.0)])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(RunError, match=r"rldarts_tf\[report\]"):
        plotting.plot_returns({"x": [table]}, tmp_path / "a.png")


def test_drawing_leaves_the_callers_matplotlib_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    table = write_table(tmp_path / "metrics.csv", [(10, 1.0)])
    plotting.plot_returns({"x": [table]}, tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before


# --- command line -------------------------------------------------------------------------------


def write_run(root, offset=0.0, stages=("evaluate", "baseline", "search"), game=None):
    for k, stage in enumerate(stages):
        write_table(root / stage / "metrics.csv", [(10, k + offset), (20, k + 1 + offset)])
    if game is not None:
        stages = {"search": {"game": game, "exit_state": "finished"}}
        (root / "summary.json").write_text(json.dumps({"stages": stages, "versions": {}}))
    return str(root)


def test_command_draws_the_stages_of_several_runs(tmp_path, figures, capsys):
    runs = [write_run(tmp_path / f"seed{k}", offset=2.0 * k, game="coinrun") for k in range(2)]
    output = str(tmp_path / "returns.png")
    assert commands.main(["plot", *runs, "--output", output]) == 0
    (axes,) = figures[0].axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["search (2 seeds)", "evaluate (2 seeds)", "baseline (2 seeds)"]
    # In write_run `search` is the third: 2 and 3, and 2 more for the second seed.
    assert drawn_line(axes, "search (2 seeds)").get_ydata().tolist() == [3.0, 4.0]
    assert axes.get_title(loc="left") == "coinrun"
    assert png_size((tmp_path / "returns.png").read_bytes()) == (1200, 700)
    assert capsys.readouterr().out == f"{output}\n"


def test_a_cell_that_was_evaluated_on_another_game_is_drawn_with_the_games(tmp_path, figures):
    run = write_run(tmp_path / "run")
    games = {"search": ", ".join(f"game{k}" for k in range(16)), "evaluate": "bigfish"}
    stages = {stage: {"game": game} for stage, game in games.items()}
    (tmp_path / "run/summary.json").write_text(json.dumps({"stages": stages, "versions": {}}))
    assert commands.main(["plot", run, "--output", str(tmp_path / "returns.png")]) == 0
    (axes,) = figures[0].axes
    labels = [line.get_label() for line in axes.get_lines()]
    assert labels == ["search (16 games)", "evaluate (bigfish)", "baseline"]
    assert axes.get_title(loc="left") == "run"


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_name_that_the_font_lacks_is_drawn_without_a_warning(tmp_path, recwarn, suffix):
    run = write_run(tmp_path / "走行")
    plotting.plot_run([run], tmp_path / f"returns.{suffix}")
    assert [str(warning.message) for warning in recwarn] == []


def test_an_evaluation_is_called_what_its_suite_calls_it(tmp_path, figures):
    run = write_run(tmp_path / "run", stages=("search",))
    columns = ("return_mean", "eval_test_return_mean")
    write_table(tmp_path / "run/search/metrics.csv", [(10, 1.0, 5.0)], columns)
    stages = {"search": {"game": "walker/walk", "evaluations": {"test": "fresh episodes"}}}
    (tmp_path / "run/summary.json").write_text(json.dumps({"stages": stages, "versions": {}}))
    plotting.plot_run([run], tmp_path / "returns.png", "eval_test_return_mean")
    assert figures[0].axes[0].get_ylabel() == "mean return, evaluation on fresh episodes"


def test_command_leaves_out_stages_without_values_and_says_so(tmp_path, figures, capsys):
    run = write_run(tmp_path / "run", stages=("search",))
    write_table(tmp_path / "run/evaluate/metrics.csv", [])
    assert commands.main(["plot", run, "--output", str(tmp_path / "a.svg")]) == 0
    (axes,) = figures[0].axes
    assert [line.get_label() for line in axes.get_lines()] == ["search"]
    assert axes.get_title(loc="left") == "run"
    error = capsys.readouterr().err
    assert error.startswith("left out: ") and "evaluate" in error and error.count("\n") == 1


def test_command_refuses_bad_input_in_one_line(tmp_path, capsys):
    run = write_run(tmp_path / "run", game="coinrun")
    other = write_run(tmp_path / "other", game="maze")
    damaged = write_run(tmp_path / "damaged")
    (tmp_path / "damaged/search/metrics.csv").write_text("not,a,table\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    output = tmp_path / "returns.png"
    for arguments, message in (
        ([str(tmp_path / "gone")], "gone' does not exist"),
        ([str(tmp_path / "empty")], "empty' has no stage"),
        ([run, f"{run}/../run"], "is given twice"),
        ([run, other], "different games: coinrun"),
        ([damaged], "not a table of metrics"),
        ([run, "--column", "reward"], "no column 'reward'"),
        ([run, "--output", str(tmp_path / "returns.gif")], "returns.gif"),
        ([run, "--output", str(tmp_path / "file/returns.png")], "cannot be written"),
    ):
        assert commands.main(["plot", "--output", str(output), *arguments]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        assert message in error
    assert not output.exists()
