"""α in a checkpoint, whatever program wrote it: found by the object graph that TensorFlow keeps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.runs import atomic


def read_logits(path: atomic.PathLike) -> dict[str, list[np.ndarray]]:
    """Reads z = β α from a TensorFlow checkpoint.

    Args:
      path: the checkpoint, such as `checkpoints/ckpt-1000`, or one of its files.

    Returns:
      Per cell type one float64 array [j, |O|] per node j = 1..I.

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
    # What TensorFlow raises for a damaged file is of many types.
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


def find_checkpoint(folder: Path, step: int | None = None) -> Path:
    """The newest checkpoint in a folder, or that of a step.

    Raises:
      RunError: there is none; the message lists those there are.
    """
    steps = sorted(
        int(found[1])
        for found in (re.fullmatch(r"ckpt-(\d+)\.index", p.name) for p in folder.glob("ckpt-*"))
        if found
    )
    if not steps:
        raise RunError(f"{str(folder)!r} holds no checkpoint")
    if step is not None and step not in steps:
        known = ", ".join(map(str, steps))
        raise RunError(f"{str(folder)!r} holds no checkpoint of step {step}; it has {known}")
    return folder / f"ckpt-{steps[-1] if step is None else step}"


def _alphas(graph: Any) -> list[Any]:
    """The nodes that are `rldarts_tf.Alpha` layers, without those of target networks."""
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


def _logits(graph: Any, alpha: Any, reader: Any) -> dict[str, list[np.ndarray]]:
    """β α of one such node, which float64 holds exactly."""

    def value(node_id: int) -> np.ndarray:
        (attribute,) = graph.nodes[node_id].attributes
        return np.asarray(reader.get_tensor(attribute.checkpoint_key), np.float64)

    beta = value(alpha["inverse_temperature"])
    logits = {}
    for cell_type in graph.nodes[alpha["logits"]].children:
        nodes = graph.nodes[cell_type.node_id].children
        ordered = sorted(nodes, key=lambda child: int(child.local_name))
        logits[cell_type.local_name] = [beta * value(n.node_id) for n in ordered]
    return logits


def _equal(one: dict[str, list[np.ndarray]], other: dict[str, list[np.ndarray]]) -> bool:
    return one.keys() == other.keys() and all(
        len(one[cell]) == len(other[cell])
        and all(np.array_equal(a, b) for a, b in zip(one[cell], other[cell]))
        for cell in one
    )
