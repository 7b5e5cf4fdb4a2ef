"""Reads α from a TensorFlow checkpoint of any program, found by the checkpoint's object graph."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.files import PathLike
from rldarts_tf.space import LEFT_OUT


def read_logits(path: PathLike) -> dict[str, np.ndarray]:
    """Reads z = β α from a TensorFlow checkpoint.

    Args:
      path: the checkpoint, such as `checkpoints/ckpt-1000`, or one of its files.

    Returns:
      Per cell type float64 [E, |O|], a row per edge in the order of `Space.edges`; `LEFT_OUT` where
      a progressive search has left out an op.

    Raises:
      RunError: it cannot be read, or it holds no supernet, or several with different α (target
        networks do not count).
    """
    import tensorflow as tf
    from google.protobuf import message
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    prefix = re.sub(r"\.(index|json|data-\d+-of-\d+)\Z", "", str(path))
    try:
        reader = tf.train.load_checkpoint(prefix)
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        graph.ParseFromString(reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        found = [_logits(graph, alpha, reader) for alpha in _alphas(graph)]
    except message.DecodeError:
        raise RunError(f"checkpoint {prefix!r} is damaged: its object graph") from None
    # TensorFlow raises errors of many types for a damaged file.
    except (ValueError, RuntimeError, LookupError, tf.errors.OpError) as error:
        line = one_line(error)
        raise RunError(f"checkpoint {prefix!r} cannot be read: {line}") from error
    if not found:
        raise RunError(f"checkpoint {prefix!r} holds no supernet: there is no α in it")
    first, *others = found
    for other in others:
        if not _equal(first, other):
            raise RunError(f"checkpoint {prefix!r} holds several supernets with different α")
    return first


def _alphas(graph: Any) -> list[Any]:
    """Returns the nodes of `rldarts_tf.Alpha` layers, without those of target networks."""
    seen, queue, found = {0}, [0], []
    while queue:
        node = graph.nodes[queue.pop(0)]
        children = {child.local_name: child.node_id for child in node.children}
        if {"logits", "inverse_temperature"} <= set(children):
            found.append(children)
        for name, child in children.items():
            if child not in seen and not name.startswith("target"):
                seen.add(child)
                queue.append(child)
    return found


def _logits(graph: Any, alpha: Any, reader: Any) -> dict[str, np.ndarray]:
    """Returns β α of one such node, which float64 holds exactly."""

    def value(node_id: int) -> np.ndarray:
        (attribute,) = graph.nodes[node_id].attributes
        return np.asarray(reader.get_tensor(attribute.checkpoint_key), np.float64)

    beta = value(alpha["inverse_temperature"])
    # Not in checkpoints of earlier versions, and empty where a search leaves out nothing.
    of_kept = graph.nodes[alpha["kept"]].children if "kept" in alpha else ()
    kept = {child.local_name: value(child.node_id) for child in of_kept}
    logits = {}
    for cell_type in graph.nodes[alpha["logits"]].children:
        nodes = graph.nodes[cell_type.node_id].children
        ordered = sorted(nodes, key=lambda child: int(child.local_name))
        z = beta * np.concatenate([value(n.node_id) for n in ordered])
        name = cell_type.local_name
        logits[name] = np.where(kept[name], z, LEFT_OUT) if kept else z
    return logits


def _equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(one[cell], other[cell]) for cell in one
    )
