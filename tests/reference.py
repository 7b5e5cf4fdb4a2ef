"""The oracle: cells and supernets as plain formulas, one convolution or pool per op and edge.

Written from the definitions alone (docs of `rldarts_tf.cells`, RL-DARTS section 3.1) and shares no
code with the package: no op is computed together with another one, and dilated convolutions use
TensorFlow's own dilation. Slow and readable; everything is differentiable.
"""

from __future__ import annotations

import decimal
import fractions
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

EPSILON = 1e-3
"""Of both normalizations."""

CONVOLUTIONS = {
    # name: (kernel size, dilation, activation)
    "conv_1x1": (1, 1, None),
    "conv_3x3": (3, 1, None),
    "conv_5x5": (5, 1, None),
    "conv_1x1_relu": (1, 1, "relu"),
    "conv_3x3_relu": (3, 1, "relu"),
    "conv_5x5_relu": (5, 1, "relu"),
    "dil_conv_3x3": (3, 2, None),
    "dil_conv_5x5": (5, 2, None),
    "dil_conv_3x3_relu": (3, 2, "relu"),
    "dil_conv_5x5_relu": (5, 2, "relu"),
}
NORMALIZED_CONVOLUTIONS = {"conv_3x3_norm_relu": "conv_3x3_relu"}
"""Those with layer normalization if nothing else is said, by what they are without."""
INVERTED_RESIDUALS = {"inv_res_3x3_e1": 1, "inv_res_3x3_e3": 3}
"""Their expansions."""
SEPARABLE_CONVOLUTIONS = {
    # name: (kernel size, activation)
    "sep_conv_3x3": (3, None),
    "sep_conv_5x5": (5, None),
    "sep_conv_3x3_relu": (3, "relu"),
    "sep_conv_5x5_relu": (5, "relu"),
}
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _elu(x: tf.Tensor) -> tf.Tensor:
    # minimum: the branch that is not taken must not overflow, its gradient would be NaN.
    return tf.where(x > 0, x, tf.exp(tf.minimum(x, 0.0)) - 1)


FUNCTIONS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "skip_connect": lambda x: x,
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "sigmoid": lambda x: 1 / (1 + tf.exp(-x)),
    "swish": lambda x: x / (1 + tf.exp(-x)),
    "elu": _elu,
    "selu": lambda x: (
        SELU_SCALE * tf.where(x > 0, x, SELU_ALPHA * (tf.exp(tf.minimum(x, 0.0)) - 1))
    ),
    "gelu": lambda x: x * 0.5 * (1 + tf.math.erf(x / np.sqrt(2.0))),
}
POOLS = {"max_pool_3x3": "MAX", "avg_pool_3x3": "AVG"}

UserOp = Callable[[tf.Tensor, Sequence[tf.Tensor], int, bool], tf.Tensor]
"""(x, variables, stride, training) -> y, of an op that a test registers."""


def softmax(logits: tf.Tensor) -> tf.Tensor:
    """exp(l_o) / Σ exp(l), by row."""
    exponentials = tf.exp(logits - tf.reduce_max(logits, axis=-1, keepdims=True))
    return exponentials / tf.reduce_sum(exponentials, axis=-1, keepdims=True)


def normalize(
    y: tf.Tensor, normalization: str | None, statistics: Sequence[tf.Tensor], training: bool
) -> tf.Tensor:
    """(y - mean) / sqrt(variance + ε) of one edge's maps [B, H, W, C].

    "layer": over the channels. "batch": per channel, over the batch if training and the running
    `statistics` (mean, variance) if not.
    """
    if normalization is None:
        return y
    if normalization == "layer":
        mean = tf.reduce_mean(y, axis=-1, keepdims=True)
        variance = tf.reduce_mean((y - mean) ** 2, axis=-1, keepdims=True)
    elif training:
        mean = tf.reduce_mean(y, axis=[0, 1, 2])
        variance = tf.reduce_mean((y - mean) ** 2, axis=[0, 1, 2])
    else:
        mean, variance = statistics
    return (y - mean) / tf.sqrt(variance + EPSILON)


def reference_op(
    name: str,
    x: tf.Tensor,
    variables: Sequence[tf.Tensor],
    stride: int = 1,
    normalization: str | None = None,
    training: bool = False,
    user_ops: Mapping[str, UserOp] | None = None,
) -> tf.Tensor:
    """One op on one edge.

    Args:
      name: the op.
      x: [B, H, W, C].
      variables: of a convolution kernel [k, k, C, C'], bias [C'] and, with a normalization, scale
        [C'] and for "batch" running mean and variance [C']; of a separable one first the depthwise
        kernel [k, k, C, 1]. Of an inverted residual see `inverted_residual`.
      stride: 1 or 2.
      normalization: between a convolution and its bias.
      training: for "batch" and for the ops of a test.
      user_ops: the ops that a test registered.
    """
    if user_ops and name in user_ops:
        return user_ops[name](x, variables, stride, training)
    if name in INVERTED_RESIDUALS:
        layers = 2 if INVERTED_RESIDUALS[name] == 1 else 3
        return inverted_residual(x, variables, layers, stride, normalization or "layer", training)
    if name in NORMALIZED_CONVOLUTIONS:
        name, normalization = NORMALIZED_CONVOLUTIONS[name], normalization or "layer"
    if name in CONVOLUTIONS or name in SEPARABLE_CONVOLUTIONS:
        if name in CONVOLUTIONS:
            _, dilation, activation = CONVOLUTIONS[name]
        else:
            (_, activation), dilation = SEPARABLE_CONVOLUTIONS[name], 1
            depthwise, *variables = variables
            strides = [1, stride, stride, 1]
            x = tf.nn.depthwise_conv2d(x, depthwise, strides, padding="SAME")
            stride = 1
        kernel, bias, *rest = variables
        if dilation == 1:
            y = tf.nn.convolution(x, kernel, strides=stride, padding="SAME")
        else:
            y = tf.nn.convolution(x, kernel, padding="SAME", dilations=dilation)
            y = y[:, ::stride, ::stride]
        if normalization is not None:
            scale, *statistics = rest
            y = normalize(y, normalization, statistics, training) * scale
        y = tf.nn.bias_add(y, bias)
        return FUNCTIONS[activation](y) if activation else y
    if name in POOLS:
        return tf.nn.pool(x, [3, 3], POOLS[name], strides=[stride, stride], padding="SAME")
    if stride > 1:
        x = tf.nn.pool(x, [3, 3], "AVG", strides=[stride, stride], padding="SAME")
    return FUNCTIONS[name](x)


def inverted_residual(
    x: tf.Tensor,
    variables: Sequence[tf.Tensor],
    layers: int,
    stride: int,
    normalization: str,
    training: bool,
) -> tf.Tensor:
    """MobileNetV2's block (Sandler et al. 2018, table 1), with another normalization.

    Args:
      x: [B, H, W, C].
      variables: the kernels of all layers, then γ and β of each, then for "batch" the running mean
        and variance of each.
      layers: depthwise and projection, or expansion, depthwise and projection.
      stride: of the depthwise convolution.
      normalization: after each.
      training: for "batch".
    """
    kernels, affine, statistics = np.split(
        np.arange(len(variables)), [layers, 3 * layers]
    )  # places of variables
    y = x
    for layer, place in enumerate(kernels):
        if layer == layers - 2:
            strides = [1, stride, stride, 1]
            y = tf.nn.depthwise_conv2d(y, variables[place], strides, padding="SAME")
        else:
            y = tf.nn.convolution(y, variables[place], padding="SAME")
        gamma, beta = (variables[k] for k in affine[2 * layer : 2 * layer + 2])
        of_layer = [variables[k] for k in statistics[2 * layer : 2 * layer + 2]]
        y = normalize(y, normalization, of_layer, training) * gamma + beta
        if layer < layers - 1:
            y = tf.minimum(tf.maximum(y, 0), 6)
    return x + y if stride == 1 else y


def reference_cell(
    x: tf.Tensor,
    edge_variables: Mapping[tuple[int, int, str], Sequence[tf.Tensor]],
    op_weights: tf.Tensor,
    ops: Sequence[str],
    num_nodes: int,
    stride: int = 1,
    output_mode: str = "concat",
    adapter: Sequence[tf.Tensor] | None = None,
    output_variables: Sequence[tf.Tensor] = (),
    normalization: str | None = None,
    training: bool = False,
    user_ops: Mapping[str, UserOp] | None = None,
    unit_ops: bool = False,
) -> tf.Tensor:
    """A supernet cell.

    Args:
      x: [B, H, W, C].
      edge_variables: (i, j, op) -> the variables of the op on that edge.
      op_weights: p, [E, |O|]: the edges into node 1, those into node 2 by ascending input, ...
      ops: O, in the order of the columns; "none" contributes zero.
      num_nodes: I.
      stride: of the edges that leave node 0.
      output_mode: as in the package.
      adapter: kernel and bias of the Conv1x1 on the input, if there is one.
      output_variables: kernel and bias of the Conv1x1 ("concat"), or the weights [I].
      normalization: of the convolutions.
      training: see `reference_op`.
      user_ops: see `reference_op`.
      unit_ops: divide each op's output by its root mean square in each image.
    """
    if adapter is not None:
        x = tf.nn.bias_add(tf.nn.convolution(x, adapter[0]), adapter[1])
    nodes = [x]
    edge = 0
    for j in range(1, num_nodes + 1):
        node = 0.0
        for i in range(j):
            for column, op in enumerate(ops):
                if op != "none":
                    y = reference_op(
                        op,
                        nodes[i],
                        edge_variables[i, j, op],
                        stride if i == 0 else 1,
                        normalization,
                        training,
                        user_ops,
                    )
                    if unit_ops:
                        y = y / tf.sqrt(tf.reduce_mean(y**2, axis=[1, 2, 3], keepdims=True) + 1e-6)
                    node = node + op_weights[edge, column] * y
            edge += 1
        nodes.append(node)
    nodes = nodes[1:]
    if output_mode == "concat":
        kernel, bias = output_variables
        return tf.nn.bias_add(tf.nn.convolution(tf.concat(nodes, axis=-1), kernel), bias)
    if output_mode == "last":
        return nodes[-1]
    if output_mode == "weighted_sum":
        return sum(output_variables[0][k] * node for k, node in enumerate(nodes))
    total = sum(nodes)
    return total / num_nodes if output_mode == "average" else total


def reference_discretize(
    logits: Mapping[str, Sequence[Any]], ops: Mapping[str, Sequence[str]], top_k: int
) -> dict[str, tuple[tuple[tuple[int, str], ...], ...]]:
    """Algorithm 4 with loops and comparisons, on exact odds: cell type -> edges of each node.

    Args:
      logits: per cell type z, [E, |O|]: a row into node 1, two into node 2, ...
      ops: per cell type the ops.
      top_k: K.
    """
    cells = {}
    for cell_type, z in logits.items():
        cell: list[tuple[tuple[int, str], ...]] = []
        rows = list(z)
        while rows:
            node = [rows.pop(0) for _ in range(len(cell) + 1)]
            candidates = [(i, *exact_odds(row, ops[cell_type])) for i, row in enumerate(node)]
            kept: list[tuple[int, str]] = []
            while candidates and len(kept) < top_k:
                best = candidates[0]
                for candidate in candidates[1:]:
                    if candidate[2] > best[2]:
                        best = candidate
                candidates.remove(best)
                kept.append((best[0], best[1]))
            cell.append(tuple(sorted(kept)))
        cells[cell_type] = tuple(cell)
    return cells


def exact_odds(row: Sequence[Any], ops: Sequence[str]) -> tuple[str, decimal.Decimal]:
    """The best op of an edge other than `none`, and its p / (1 - p) to 80 digits.

    Args:
      row: z, [|O|], taken exactly.
      ops: their names.
    """
    best = None
    for column, op in enumerate(ops):
        if op != "none" and (best is None or row[column] > row[best]):
            best = column
    # From fractions or floats of any width; numpy's float32 is no number to `Fraction`.
    z = [v if isinstance(v, fractions.Fraction) else fractions.Fraction(float(v)) for v in row]
    lead = [value - z[best] for value in z]
    context = decimal.Context(prec=80, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN)
    with decimal.localcontext(context):
        # In the order of their size: equal terms, equal sums.
        others = sum(
            (decimal.Decimal(x.numerator) / x.denominator).exp()
            for x in sorted(lead[:best] + lead[best + 1 :])
        )
        return ops[best], 1 / others


def randomize(variables: Sequence[tf.Variable], seed: int) -> None:
    """Random values for every variable: no zero biases, and variances that are positive."""
    rng = np.random.default_rng(seed)
    for variable in variables:
        value = rng.normal(size=variable.shape) * (0.7 if len(variable.shape) < 4 else 0.3)
        if "variance" in variable.name:
            value = 0.5 + value**2
        variable.assign(value.astype(variable.dtype.as_numpy_dtype))


def enumerate_cells(
    ops: Sequence[str], num_nodes: int, top_k: int
) -> list[tuple[tuple[tuple[int, str], ...], ...]]:
    """Every discrete cell of a small space, by trying everything."""
    cells: list[tuple] = [()]
    for j in range(1, num_nodes + 1):
        nodes = [()]
        for i in range(j):
            nodes += [(*node, (i, op)) for node in nodes for op in ops if op != "none"]
        nodes = [node for node in nodes if len(node) == min(j, top_k)]
        cells = [(*cell, node) for cell in cells for node in nodes]
    return cells
