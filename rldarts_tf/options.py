"""The options of an encoder: default, check and meaning of each, said once.

Every way to make an encoder takes them (`make_encoder`, `EncodingNetwork`, `Torso`, gin's
`EncoderSettings`), and a class of encoders has those that its constructor names. A new option is
a field here and an argument of the classes that have it.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rldarts_tf.checks import check_choice, check_flag, check_integer, check_number
from rldarts_tf.errors import ConfigError
from rldarts_tf.search_space import OUTPUT_MODES, SearchSpace

NORMALIZATIONS = (None, "layer", "batch")
HEADS = ("relu", "layer_norm")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

Check = Callable[[str, Any], Any]
"""(name, value) -> the value to keep; raises a ConfigError."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _depths(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ConfigError(f"{name} must be a list of integers, got {value!r}")
    if not value:
        raise ConfigError(f"{name} is empty: at least one block is needed")
    return tuple(check_integer(f"{name}[{d}]", depth, least=1) for d, depth in enumerate(value))


def _inverse_temperature(name: str, value: Any) -> Any:
    check_number(name, value, "a positive number", lambda beta: 0 < beta < math.inf)
    return value


def _choice(*choices: Any) -> Check:
    return functools.partial(check_choice, choices=choices)


def _option(default: Any, check: Check) -> Any:
    return dataclasses.field(default=default, metadata={"check": check})


@dataclasses.dataclass(frozen=True)
class EncoderOptions:
    """Options of an encoder of any kind, which are checked when an object is made.

    All are checked whatever the kind; a kind that does not have an option does not use it.

    Raises:
      ConfigError: an option is not valid; the message begins with its name.
    """

    search_space: SearchSpace | str = "classic"
    """Search space of a supernet, or the name of a registered one."""

    depths: Sequence[int] = _option((16, 16, 16), _depths)
    """Channels of each block, for "pisac_cnn" of each convolution; not of "nature_cnn"."""

    output_mode: str = _option("concat", _choice(*OUTPUT_MODES))
    """How the output of a supernet's cell follows from its nodes; a genotype has its own."""

    inverse_temperature: float = _option(5.0, _inverse_temperature)
    """β of a supernet, which multiplies α in the softmax."""

    normalization: str | None = _option(None, _choice(*NORMALIZATIONS))
    """Normalization of the convolutions in cells: None, "layer" or "batch"."""

    features: int = _option(256, functools.partial(check_integer, least=1))
    """Size of the output."""

    train_alpha: bool = _option(True, check_flag)
    """Whether α of a supernet is trained."""

    recompute: bool = _option(False, check_flag)
    """Least memory for the activations of cells, for more time; see `rldarts_tf.cells.Cell`."""

    precision: str | None = _option(None, _choice(None, *PRECISIONS))
    """"float32", or "mixed_bfloat16" or "mixed_float16" where the hardware has it; the global
    Keras policy if None. α, the dense layer and the features stay float32."""

    head: str = _option("relu", _choice(*HEADS))
    """How the features follow from the maps: "relu" or "layer_norm"; see `rldarts_tf.Encoder`."""

    kernel_size: int = _option(3, functools.partial(check_integer, least=1))
    """Size of all convolutions of "impala_cnn"."""

    def __post_init__(self) -> None:
        for name in _CHECKS:
            object.__setattr__(self, name, check_option(name, getattr(self, name)))


_CHECKS: dict[str, Check] = {
    field.name: field.metadata["check"]
    for field in dataclasses.fields(EncoderOptions)
    if "check" in field.metadata
}


def check_option(name: str, value: Any) -> Any:
    """Returns the value to keep for an option, such as a tuple of depths for a list of them.

    Raises:
      ConfigError: the value is not valid; the message begins with the name.
    """
    return _CHECKS[name](name, value)


def forwards_to(target: Callable[..., Any]) -> Callable[[_Function], _Function]:
    """Decorator that shows the arguments of `target` in place of `**kwargs`, which go to it.

    So `help` and editors list them, and gin refuses a name that is none of them.
    """

    def decorate(function: _Function) -> _Function:
        signature = inspect.signature(function)
        own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        forwarded = [
            parameter.replace(kind=parameter.KEYWORD_ONLY)
            for name, parameter in inspect.signature(target).parameters.items()
            if name not in signature.parameters
        ]
        vars(function)["__signature__"] = signature.replace(parameters=[*own, *forwarded])
        return function

    return decorate
