"""Which ops of a graph would have no kernel on a GPU, by TensorFlow's registry of kernels.

TensorFlow's builds for Linux register GPU kernels whether or not there is a GPU. The placer puts an
op without one on the CPU by itself, and copies there and back: large inputs must be there.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import kernels


@functools.cache
def _registered() -> dict[str, list[Any]]:
    found = collections.defaultdict(list)
    for kernel in kernels.get_all_registered_kernels().kernel:
        found[kernel.op].append(kernel)
    return found


def _fits(kernel: Any, node: Any) -> bool:
    """Whether a kernel takes the types of a node."""
    for constraint in kernel.constraint:
        value = node.attr[constraint.name]
        types = [value.type] if value.WhichOneof("value") == "type" else value.list.type
        if not set(types) <= set(constraint.allowed_values.list.type):
            return False
    return True


def _is_on_cpu(node: Any) -> bool:
    text = node.op == "Const" and node.attr["dtype"].type == tf.string.as_datatype_enum
    return text or "CPU:0" in node.device.upper()


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def without_gpu_kernel(function: Any) -> list[str]:
    """The ops of a concrete function that have no GPU kernel and are not placed on the CPU.

    Calls of functions have no kernels of their own; what is called is looked at.
    """
    return sorted(
        f"{node.op}({', '.join(sorted(_types(node)))}) {node.name}"
        for node in _nodes(function.graph.as_graph_def())
        if node.op in _registered()
        and not _is_on_cpu(node)
        and not any(
            kernel.device_type in ("GPU", "DEFAULT") and _fits(kernel, node)
            for kernel in _registered()[node.op]
        )
    )


def _types(node: Any) -> Iterator[str]:
    for name, value in node.attr.items():
        if value.WhichOneof("value") == "type":
            yield f"{name}={tf.dtypes.as_dtype(value.type).name}"
