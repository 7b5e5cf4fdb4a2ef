"""A trained policy as one file that runs without this package: SavedModel, or TFLite.

What is exported is greedy: the most probable action, that of the largest value, or tanh(μ).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from rldarts_tf.errors import RunError, one_line
from rldarts_tf.export.policies import Policy
from rldarts_tf.files import TEMPORARY_SUFFIX, PathLike

FORMATS = ("saved_model", "tflite")


class Frozen(tf.Module):
    """A policy with its weights as constants: images [B, H, W, C] -> {name: [B, ...]}."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(name="policy")
        images = tf.TensorSpec([None, *policy.image_shape], policy.image_dtype, name="observation")
        concrete = tf.function(policy.outputs, autograph=False).get_concrete_function(images)
        # A graph without variables needs nothing of the classes that made it.
        frozen = convert_variables_to_constants_v2(concrete)
        names = sorted(concrete.structured_outputs)

        @tf.function(autograph=False, input_signature=[images])
        def act(observation: tf.Tensor) -> dict[str, tf.Tensor]:
            return dict(zip(names, frozen(observation)))

        self.act = act


def save(
    policy: Policy,
    output: PathLike,
    file_format: str = "saved_model",
    check: Callable[[Path], None] = lambda path: None,
) -> None:
    """Writes a policy: all of it, or nothing.

    Args:
      policy: see `policies.load_policy`.
      output: a directory that does not exist yet ("saved_model"), or a file ("tflite").
      file_format: one of `FORMATS`.
      check: called with the path of what is written before it takes its final name; an exception
        that it raises keeps it from that.

    Raises:
      RunError: it cannot be written, or not in this format.
    """
    path = Path(output)
    if not path.name or (path.exists() and (file_format == "saved_model" or path.is_dir())):
        raise RunError(f"output: {str(output)!r} exists already")
    folder = path.with_name(f".{path.name}{TEMPORARY_SUFFIX}")
    partial = folder / "policy"
    try:
        # TFLite's converter, given a function instead of a SavedModel, does not take the gradients
        # that a supernet's graph names.
        _save_model(Frozen(policy), partial)
        if file_format == "tflite":
            data = _tflite(partial)
            partial = folder / "policy.tflite"
            partial.write_bytes(data)
        check(partial)
        partial.replace(path)
    except (OSError, tf.errors.OpError) as error:
        line = one_line(error)
        raise RunError(f"output: {str(output)!r} cannot be written: {line}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load(path: PathLike, file_format: str = "saved_model") -> Any:
    """Reads a file as anybody would; returns images [B, H, W, C] -> {name: array}.

    Raises:
      RunError: it cannot be read.
    """
    try:
        if file_format == "tflite":
            interpreter = tf.lite.Interpreter(model_path=str(path))
            runner = interpreter.get_signature_runner()
            return lambda images: runner(observation=images)
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    except (OSError, ValueError, tf.errors.OpError) as error:
        line = one_line(error)
        raise RunError(f"{str(path)!r} cannot be read: {line}") from None

    def act(images: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in signature(tf.constant(images)).items()}

    return act


def largest_difference(policy: Policy, path: PathLike, file_format: str, images: Any) -> float:
    """The largest absolute difference between what a file and the policy itself say of images."""
    live = {name: value.numpy() for name, value in policy.outputs(tf.constant(images)).items()}
    saved = load(path, file_format)(images)
    return max(float(np.max(np.abs(live[name].astype(np.float64) - saved[name]))) for name in live)


def _save_model(frozen: Frozen, path: Path) -> None:
    # Gradients of ops of one's own would refer to what is not in the graph; none are needed.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(frozen, str(path), signatures=frozen.act, options=options)


def _tflite(saved_model: Path) -> bytes:
    """With TFLite's own ops alone, so that its plain runtime suffices."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model))
    try:
        return converter.convert()
    except Exception as error:
        # ConverterError is not public, and its text has the whole graph.
        line = one_line(error)
        raise RunError(f"format: this encoder has no TFLite form: {line}") from None
