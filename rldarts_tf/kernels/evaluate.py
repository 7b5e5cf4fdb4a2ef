"""A cell evaluated: x -> nodes x_0 = x, x_1, ..., x_I -> output.

A node is the sum of what leaves the nodes before it for it. There are two ways to compute the
nodes: `by_source` fan-out by fan-out, `by_target` with the terms of a node taken together. They
are the same function; `by_selection` leaves out ops that a sample left out. `recomputed` is forward
by target, and backward by source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

# No public name says whether a trace is one for XLA.
from tensorflow.python.ops import control_flow_util

from rldarts_tf.kernels.banks import Bank
from rldarts_tf.kernels.mixing import IDENTITY, in_forward_mode, mix
from rldarts_tf.kernels.plan import FanOut
from rldarts_tf.kernels.terms import Term, add, total
from rldarts_tf.search_space import edge_row


@dataclasses.dataclass(frozen=True)
class Parts:
    """The parts that a cell is evaluated with.

    Attributes:
      num_nodes: I.
      plan: the fan-outs.
      banks: one per fan-out.
      op_columns: the ops in the order of the columns of p; empty where no p is passed.
      output_mode: see `rldarts_tf.cells.Cell`.
      stride: of the edges that leave node 0.
      output_conv: the Conv1x1 of output mode "concat".
      output_weights: [I], those of "weighted_sum".
      partial: ops see the first 1 / partial of the channels of a node; see `_completed`.
    """

    num_nodes: int
    plan: Sequence[FanOut]
    banks: Sequence[Bank]
    op_columns: Sequence[str]
    output_mode: str
    stride: int = 1
    output_conv: tf.keras.layers.Layer | None = None
    output_weights: tf.Variable | None = None
    partial: int = 1


def by_source(
    x: tf.Tensor, parts: Parts, p: tf.Tensor | None = None, training: bool | None = None
) -> list[tf.Tensor]:
    """x_0, ..., x_I: once a node is known, all that leaves it is computed.

    Args:
      x: [B, H, W, filters].
      parts: of the cell.
      p: op weights, float [E, |O|], or None for all ones.
      training: passed to normalizations.
    """
    nodes = [x]
    passing: list[tf.Tensor] = []
    incoming: list[list[tf.Tensor]] = [[] for _ in range(parts.num_nodes + 1)]
    for source in range(parts.num_nodes):
        seen, rest = _parted(nodes[source], parts, source)
        for target, y in _leaving(source, seen, parts, p, training):
            incoming[target].append(y)
        passing += rest
        nodes.append(_completed(add(incoming[source + 1]), passing, parts, p))
    return nodes


def _parted(x: tf.Tensor, parts: Parts, source: int) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The channels of node x_source that ops see, and what passes them by, if anything does.

    The latter is max-pooled where the stride is 2. One split: gradients of slices are whole maps.
    """
    if parts.partial == 1:
        return x, []
    seen = x.shape[-1] // parts.partial
    mixed, rest = tf.split(x, [seen, x.shape[-1] - seen], axis=-1)
    strided = source == 0 and parts.stride == 2
    return mixed, [tf.nn.max_pool2d(rest, 2, 2, "SAME") if strided else rest]


def _completed(
    mixed: tf.Tensor, passing: Sequence[tf.Tensor], parts: Parts, p: tf.Tensor | None
) -> tf.Tensor:
    """Node j of what its ops gave and, of partial channels, of what passed them by.

    The other channels of each input are added with the sum of the edge's op weights. Then channels
    are shuffled, so that other ones are mixed next (Xu et al. 2020, "PC-DARTS", arXiv:1907.05737,
    section 3.2).

    Args:
      mixed: [B, H, W, filters / partial].
      passing: what passes the ops of x_0, ..., x_{j - 1} by; nothing where no channel does.
      parts: of the cell.
      p: op weights, [E, |O|].
    """
    if not passing:
        return mixed
    count = len(passing)
    first = edge_row(0, count)
    weights = tf.ones([count]) if p is None else tf.reduce_sum(p[first : first + count], axis=1)
    [beside] = mix(passing, ((IDENTITY,),) * count, weights[:, None])
    y = tf.concat([mixed, beside], axis=-1)
    groups = parts.partial
    shape, size = tf.shape(y), y.shape[-1] // groups
    shuffled = tf.reshape(y, tf.concat([shape[:3], [groups, size]], axis=0))
    return tf.ensure_shape(tf.reshape(tf.linalg.matrix_transpose(shuffled), shape), y.shape)


def by_selection(
    x: tf.Tensor, parts: Parts, p: tf.Tensor, active: tf.Tensor, training: bool | None = None
) -> list[tf.Tensor]:
    """x_0, ..., x_I of active ops alone: convolutions that are not active are not computed.

    Args:
      x: [B, H, W, filters].
      parts: of the cell.
      p: op weights, float [E, |O|].
      active: bool [k, E, |O|]: k layers of at most one op per edge; p of all others is 0.
      training: passed to normalizations.
    """
    nodes = [x]
    passing: list[tf.Tensor] = []
    maps: list[list[tf.Tensor]] = [[] for _ in range(parts.num_nodes + 1)]
    pieces: list[list[tf.Tensor]] = [[] for _ in range(parts.num_nodes + 1)]
    for source in range(parts.num_nodes):
        seen, rest = _parted(nodes[source], parts, source)
        for fan_out, bank in _fan_outs_of(source, parts):
            places = fan_out.places(parts.op_columns)
            of_bank = tf.stack([tf.gather_nd(layer, places) for layer in tf.unstack(active)])
            found = bank.selected(seen, tf.gather_nd(p, places), of_bank, training)
            for incoming, of_targets in zip((maps, pieces), found):
                for target, y in zip(fan_out.targets, of_targets):
                    incoming[target].append(y)
        of_node = pieces[source + 1]
        if of_node:
            side_by_side = tf.concat(of_node, axis=-1)
            filters = x.shape[-1] // parts.partial
            shape = tf.concat([tf.shape(side_by_side)[:3], [-1, filters]], axis=0)
            y = tf.reduce_sum(tf.reshape(side_by_side, shape), axis=3)
            maps[source + 1].append(tf.ensure_shape(y, [*of_node[0].shape[:3], filters]))
        passing += rest
        nodes.append(_completed(add(maps[source + 1]), passing, parts, p))
    return nodes


def in_xla() -> bool:
    """Whether this is traced for XLA, which must know the shape of everything."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def by_target(x: tf.Tensor, parts: Parts, p: tf.Tensor | None = None) -> list[tf.Tensor]:
    """x_0, ..., x_I: terms of a node that are cheaper so are computed together, from all sources.

    Linear convolutions with one target are one convolution of the concatenated sources, and ops
    without weights are evaluated while they are summed.
    """
    nodes = [x]
    incoming: list[list[Term]] = [[] for _ in range(parts.num_nodes + 1)]
    for source in range(parts.num_nodes):
        for fan_out, bank in _fan_outs_of(source, parts):
            terms = bank.terms(nodes[source], _op_weights_of(fan_out, parts, p))
            for target, of_target in zip(fan_out.targets, terms):
                incoming[target] += of_target
        nodes.append(total(incoming[source + 1]))
    return nodes


def output(nodes: Sequence[tf.Tensor], parts: Parts) -> tf.Tensor:
    """A cell's output of x_0, ..., x_I."""
    inner = nodes[1:]
    if parts.output_mode == "last":
        return inner[-1]
    if parts.output_conv is not None:
        return parts.output_conv(tf.concat(inner, axis=-1))
    if parts.output_mode == "weighted_sum":
        weights = tf.unstack(tf.cast(parts.output_weights, inner[0].dtype))
        return tf.add_n([w * node for w, node in zip(weights, inner)])
    y = tf.add_n(inner)
    return y if parts.output_mode == "sum" else y / len(inner)


def contributions(x: tf.Tensor, parts: Parts, p: tf.Tensor) -> tf.Tensor:
    """RMS(p_o · o(x_i)) / RMS(x_j) of every op and edge (i, j), float32 [E, |O|].

    A bank is asked for each of its ops alone, with the op weights of the others at zero.
    """
    nodes = by_source(x, parts, p)
    sizes = [_rms(node) for node in nodes]
    seen = [_parted(node, parts, source)[0] for source, node in enumerate(nodes[:-1])]
    places, values = [], []
    for fan_out, bank in zip(parts.plan, parts.banks):
        of_ops = fan_out.places(parts.op_columns)
        weights = tf.gather_nd(p, of_ops)
        for op, of_op in enumerate(of_ops):
            alone = tf.one_hot(op, len(fan_out.ops), dtype=weights.dtype)[:, None] * weights
            places += of_op
            values += [
                tf.math.divide_no_nan(_rms(y), sizes[target])
                for target, y in zip(fan_out.targets, bank(seen[fan_out.source], alone))
            ]
    return tf.scatter_nd(places, tf.stack(values), p.shape)


def _rms(y: tf.Tensor) -> tf.Tensor:
    return tf.sqrt(tf.reduce_mean(tf.square(tf.cast(y, tf.float32))))


def recomputed(x: tf.Tensor, parts: Parts, p: tf.Tensor | None = None) -> tf.Tensor:
    """A cell's output; of the forward pass its gradient holds the nodes alone.

    What the gradient needs of an op's own result is computed again. For linear convolutions that is
    nothing: TensorFlow prunes their second evaluation from the graph.
    """

    @tf.custom_gradient
    def run(*inputs: tf.Tensor) -> Any:
        nodes = by_target(inputs[0], parts, *inputs[1:])

        def gradient(dy: tf.Tensor, variables: Sequence[tf.Variable] | None = None) -> Any:
            found = _gradients(dy, nodes, parts, inputs[1:], variables or ())
            of_inputs, of_variables = found[: len(inputs)], found[len(inputs) :]
            return of_inputs if variables is None else (of_inputs, of_variables)

        return output(nodes, parts), gradient

    if in_forward_mode(x):
        return output(by_target(x, parts, p), parts)
    return run(x) if p is None else run(x, p)


def _gradients(
    dy: tf.Tensor,
    nodes: Sequence[tf.Tensor],
    parts: Parts,
    p: Sequence[tf.Tensor],
    variables: Sequence[tf.Variable],
) -> list[tf.Tensor | None]:
    """The gradients of x, of p, which is one tensor or none, and of the variables.

    Once the gradients of all later nodes are known, everything that leaves a node is differentiated
    at once: convolutions in wide kernels.
    """
    shared = [*p, *variables]
    # What the gradient of each is the sum of.
    of_nodes: list[list[tf.Tensor]] = [[] for _ in nodes]
    of_shared: list[list[tf.Tensor]] = [[] for _ in shared]

    inner = _after(dy, nodes[1:])
    with tf.GradientTape() as tape:
        tape.watch([inner, p])
        y = output([nodes[0], *inner], parts)
    found = tape.gradient(y, [*inner, *shared], output_gradients=dy)
    _append(found, [*of_nodes[1:], *of_shared])

    known: dict[int, tf.Tensor] = {}  # by node
    for source in reversed(range(parts.num_nodes)):
        if of_nodes[source + 1]:
            known[source + 1] = add(of_nodes[source + 1])
        [x] = _after(known[min(known)], [nodes[source]])
        with tf.GradientTape() as tape:
            tape.watch([x, p])
            leaving = list(_leaving(source, x, parts, *p))
        found = tape.gradient(
            [y for target, y in leaving if target in known],
            [x, *shared],
            output_gradients=[known[target] for target, _ in leaving if target in known],
        )
        _append(found, [of_nodes[source], *of_shared])
    return [add(terms) if terms else None for terms in (of_nodes[0], *of_shared)]


def _append(found: Iterable[Any], sums: Iterable[list[tf.Tensor]]) -> None:
    """Appends to each list of terms the gradient that was found for it, if there is one."""
    for gradient, terms in zip(found, sums):
        if gradient is not None:
            terms.append(tf.convert_to_tensor(gradient))


def _leaving(
    source: int,
    x: tf.Tensor,
    parts: Parts,
    p: tf.Tensor | None = None,
    training: bool | None = None,
) -> Iterator[tuple[int, tf.Tensor]]:
    """(j, map for node j) of all that leaves a node whose value is x."""
    for fan_out, bank in _fan_outs_of(source, parts):
        maps = bank(x, _op_weights_of(fan_out, parts, p), training=training)
        yield from zip(fan_out.targets, maps)


def _fan_outs_of(source: int, parts: Parts) -> list[tuple[FanOut, Bank]]:
    return [pair for pair in zip(parts.plan, parts.banks) if pair[0].source == source]


def _op_weights_of(fan_out: FanOut, parts: Parts, p: tf.Tensor | None) -> tf.Tensor | None:
    """The op weights of a fan-out, [ops, targets], of those of the cell."""
    return None if p is None else tf.gather_nd(p, fan_out.places(parts.op_columns))


def _after(gradient: tf.Tensor, nodes: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The nodes, but not before a gradient is there.

    TensorFlow runs what it can: without this it would compute everything again in the forward pass
    already, and hold it. XLA does not look at control dependencies and merges equal computations:
    there each node has a zero added that depends on the gradient in a way it cannot see through.
    (XLA's optimization barrier would say the same; on CPUs it is removed too early.)
    """
    if in_xla():
        value = tf.reduce_sum(gradient[:1, :1, :1, :1])  # one of its elements, if it has any
        zero = tf.where(tf.math.is_nan(value), value, tf.zeros_like(value))
        return [node + tf.cast(zero, node.dtype) for node in nodes]
    with tf.control_dependencies([gradient]):
        return [tf.identity(node) for node in nodes]
