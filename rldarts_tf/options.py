"""The options of an encoder: default, check and meaning of each, said once.

Every way to make an encoder takes them (`make_encoder`, `EncodingNetwork`, `Torso`, gin's
`EncoderSettings`), and a class of encoders has those that its constructor names. A new option is
a field here and an argument of the classes that have it.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from rldarts_tf.checks import check_integer
from rldarts_tf.errors import ConfigError
from rldarts_tf.search_space import OUTPUT_MODES
from rldarts_tf.settings_fields import Settings, checked, one_of, setting
from rldarts_tf.space import Space

NORMALIZATIONS = (None, "layer", "batch")
HEADS = ("relu", "layer_norm", "pool")
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _depths(name: str, value: Any) -> tuple[int, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise ConfigError(f"{name} must be a list of integers, got {value!r}")
    if not value:
        raise ConfigError(f"{name} is empty: at least one block is needed")
    return tuple(check_integer(f"{name}[{d}]", depth, least=1) for d, depth in enumerate(value))


@dataclasses.dataclass(frozen=True)
class EncoderOptions(Settings):
    """Options of an encoder of any kind.

    All are checked whatever the kind; a kind that does not have an option does not use it.
    """

    search_space: Space | str = setting(
        "classic", "search space of a supernet, or the name of a registered one"
    )
    depths: Sequence[int] = setting(
        (16, 16, 16),
        "channels of each block or stage, for pisac_cnn of each convolution; not of nature_cnn, "
        "minatar_cnn",
        check=_depths,
    )
    output_mode: str = setting(
        "concat",
        "how the output of a supernet's cell follows from its nodes; a genotype has its own, and a "
        "layer space no choice",
        check=one_of(*OUTPUT_MODES),
    )
    inverse_temperature: float = setting(
        5.0, "β of a supernet, which multiplies α in the softmax", positive=True
    )
    normalization: str | None = setting(
        None, "of the convolutions in cells: None, layer or batch", check=one_of(*NORMALIZATIONS)
    )
    features: int = setting(256, "size of the output", least=1)
    train_alpha: bool = setting(True, "whether α of a supernet is trained")
    recompute: bool = setting(
        False, "least memory for the activations of cells, for more time; see `rldarts_tf.Cell`"
    )
    precision: str | None = setting(
        None,
        "float32, or mixed_bfloat16 or mixed_float16 where the hardware has it; the global Keras "
        "policy if None. α, the dense layer and the features stay float32",
        check=one_of(*PRECISIONS),
    )
    head: str = setting(
        "relu",
        "how the features follow from the maps: relu, layer_norm or pool; see `rldarts_tf.Encoder`",
        check=one_of(*HEADS),
    )
    kernel_size: int = setting(3, "size of all convolutions of impala_cnn", least=1)


_FIELDS = {field.name: field for field in dataclasses.fields(EncoderOptions)}


def check_option(name: str, value: Any) -> Any:
    """Returns the value to keep for an option, such as a tuple of depths for a list of them.

    Raises:
      ConfigError: the value is not valid; the message begins with the name.
    """
    return checked(name, value, _FIELDS[name])


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
