"""The convolutions of a traced function, alone: the time that no layer around them can undercut."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import common
import tensorflow as tf

_TYPES = {
    op_type: getattr(tf.raw_ops, op_type)
    for op_type in (
        "Conv2D",
        "Conv2DBackpropInput",
        "Conv2DBackpropFilter",
        "DepthwiseConv2dNative",
        "DepthwiseConv2dNativeBackpropInput",
        "DepthwiseConv2dNativeBackpropFilter",
    )
}


def collect(function: tf.types.experimental.ConcreteFunction) -> list[tf.Operation]:
    """The convolutions that a traced function executes, those of the functions it calls included.

    Traced ops that no result depends on, such as the gradient of the images, are not executed and
    not returned. The body of a loop counts once.
    """
    return _collect(function.graph, function.graph.outputs)


def _collect(graph: Any, outputs: Sequence[tf.Tensor]) -> list[tf.Operation]:
    """The convolutions behind some outputs of a graph, and behind its side effects."""
    needed: dict[tf.Operation, set[int]] = {op: set() for op in graph.control_outputs}
    waiting = list(needed)
    waiting_tensors = list(outputs)
    while waiting or waiting_tensors:
        if waiting_tensors:
            tensor = waiting_tensors.pop()
            if tensor.op not in needed:
                waiting.append(tensor.op)
            needed.setdefault(tensor.op, set()).add(tensor.value_index)
        else:
            op = waiting.pop()
            waiting_tensors += op.inputs
            for control in op.control_inputs:
                if control not in needed:
                    needed[control] = set()
                    waiting.append(control)
    found = [op for op in needed if op.type in _TYPES]
    for op, indices in needed.items():
        for name in _called(op):
            body = graph._get_function(name).graph
            # The outputs of a call are those of its function; of a loop or a branch take them all.
            is_call = op.type in ("PartitionedCall", "StatefulPartitionedCall")
            chosen = [body.outputs[i] for i in sorted(indices)] if is_call else body.outputs
            found += _collect(body, chosen)
    return found


def _called(op: tf.Operation) -> list[str]:
    """The functions in the attributes of an op: of calls, branches and loops."""
    names = []
    for attribute in op.node_def.attr.values():
        names += [attribute.func.name] if attribute.func.name else []
        names += [function.name for function in attribute.list.func]
    return names


def multiply_adds(op: tf.Operation) -> int:
    """Multiply-adds of one convolution; a gradient has those of its forward convolution."""
    shapes = {arg.name: t.shape.as_list() for arg, t in zip(op.op_def.input_arg, op.inputs)}
    result = op.outputs[0].shape.as_list()
    maps = result if is_forward(op) else shapes["out_backprop"]
    height, width, channels, _ = result if op.type.endswith("Filter") else shapes["filter"]
    inputs = 1 if op.type.startswith("Depthwise") else channels
    return math.prod(maps) * height * width * inputs


def is_forward(op: tf.Operation) -> bool:
    """Whether it is no gradient."""
    return "Backprop" not in op.type


def runner(ops: Sequence[tf.Operation]) -> common.Call:
    """A call that runs exactly these convolutions, back to back, on random tensors."""
    # One tensor per shape: all of them together would need more memory than the network itself.
    tensors: dict[Any, tf.Tensor] = {}
    arguments = [(_TYPES[op.type], _arguments(op, tensors)) for op in ops]

    def call() -> None:
        for run, keywords in arguments:
            run(**keywords)

    return call


def has_static_shapes(op: tf.Operation) -> bool:
    """Whether the op can be run outside its graph."""
    tensors = [t for t in (*op.inputs, *op.outputs) if t.dtype.is_floating]
    return all(tensor.shape.is_fully_defined() for tensor in tensors)


def _arguments(op: tf.Operation, tensors: dict[Any, tf.Tensor]) -> dict[str, Any]:
    keywords: dict[str, Any] = {}
    for argument, tensor in zip(op.op_def.input_arg, op.inputs):
        if tensor.dtype.is_floating:
            key = (tuple(tensor.shape), tensor.dtype)
            if key not in tensors:
                tensors[key] = tf.cast(tf.random.normal(tensor.shape), tensor.dtype)
            keywords[argument.name] = tensors[key]
        else:  # input_sizes or filter_sizes: the shape of the gradient
            keywords[argument.name] = tf.constant(op.outputs[0].shape.as_list())
    types = {argument.type_attr for argument in op.op_def.input_arg}
    for attribute in op.op_def.attr:
        if attribute.name not in types:
            value = op.get_attr(attribute.name)
            keywords[attribute.name] = value.decode() if isinstance(value, bytes) else value
    return keywords
