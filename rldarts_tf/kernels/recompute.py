"""A gradient that holds only the nodes of a cell, not what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# No public name says whether a trace is one for XLA.
from tensorflow.python.ops import control_flow_util

from rldarts_tf.kernels.banks import add

Leaving = Callable[..., list[tuple[int, tf.Tensor]]]
"""(source, x_source, *arguments) -> the (target, map) of all edges that leave a node."""


def recomputing(
    forward: Callable[..., list[tf.Tensor]],
    leaving: Leaving,
    output: Callable[[Sequence[tf.Tensor]], tf.Tensor],
) -> Callable[..., tf.Tensor]:
    """output(x_1, ..., x_I), differentiated node by node, from the last to the first.

    Forward the cell may be evaluated in any order. Backward, once the gradients of all later nodes
    are known, everything that leaves a node is differentiated at once: convolutions in wide
    kernels. What a gradient needs of an op's own result is computed again. For linear convolutions
    that is nothing: TensorFlow prunes their second evaluation from the graph.

    Args:
      forward: (x, *arguments) -> the nodes x_0 = x, x_1, ..., x_I.
      leaving: the same cell, by source: x_j is the sum of all maps with target j.
      output: of x_1, ..., x_I.

    Returns:
      (x, *arguments) -> output, differentiable in these and in the variables that are used.
    """

    @tf.custom_gradient
    def run(x: tf.Tensor, *arguments: tf.Tensor) -> Any:
        nodes = forward(x, *arguments)

        def gradient(dy: tf.Tensor, variables: Sequence[tf.Variable] | None = None) -> Any:
            shared = [*arguments, *(variables or ())]
            terms: list[list[tf.Tensor]] = [[] for _ in [*nodes, *shared]]

            held = [nodes[0], *_after(dy, nodes[1:])]

            def differentiate(tape: tf.GradientTape, results: Any, of: Any, gradients: Any) -> None:
                found = tape.gradient(
                    results, [*(held[i] for i in of), *shared], output_gradients=gradients
                )
                places = [*of, *range(len(nodes), len(terms))]
                for place, term in zip(places, found):
                    if term is not None:
                        terms[place].append(tf.convert_to_tensor(term))

            with tf.GradientTape() as tape:
                tape.watch([held, arguments])
                y = output(held[1:])
            differentiate(tape, [y], range(1, len(nodes)), [dy])
            gradients: dict[int, tf.Tensor] = {}
            for source in reversed(range(len(nodes) - 1)):
                if terms[source + 1]:
                    gradients[source + 1] = add(terms[source + 1])
                [held[source]] = _after(gradients[min(gradients)], [nodes[source]])
                with tf.GradientTape() as tape:
                    tape.watch([held[source], arguments])
                    parts = leaving(source, held[source], *arguments)
                parts = [(part, gradients[j]) for j, part in parts if j in gradients]
                differentiate(tape, [p for p, _ in parts], [source], [g for _, g in parts])
            results = [add(found) if found else None for found in terms]
            of_inputs = (results[0], *results[len(nodes) : len(nodes) + len(arguments)])
            if variables is None:
                return of_inputs
            return of_inputs, results[len(nodes) + len(arguments) :]

        return output(nodes[1:]), gradient

    return run


def _after(gradient: tf.Tensor, nodes: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """The nodes, but not before a gradient is there.

    TensorFlow runs what it can: without this it would compute everything again in the forward pass
    already, and hold it. XLA does not look at control dependencies and merges equal computations:
    there each node has a zero added that depends on the gradient in a way it cannot see through.
    (XLA's optimization barrier would say the same; on CPUs it is removed too early.)
    """
    if control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        value = tf.reduce_sum(gradient[:1, :1, :1, :1])  # one of its elements, if it has any
        zero = tf.where(tf.math.is_nan(value), value, tf.zeros_like(value))
        return [node + tf.cast(zero, node.dtype) for node in nodes]
    with tf.control_dependencies([gradient]):
        return [tf.identity(node) for node in nodes]
