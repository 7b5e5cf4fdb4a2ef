"""Search spaces of layers: a chain, each layer with an α of its own (A2D, arXiv:2012.13091).

What is public of A2D says 14 layers of 9 ops on a backbone like a ResNet. The nine ops are those of
the supervised searches of the same group as far as we recall them; normalization, stem and how
layers are dealt to stages are ours (docs/a2d.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from typing_extensions import override

from rldarts_tf.checks import check_integers
from rldarts_tf.errors import ConfigError, GenotypeError
from rldarts_tf.space import CELL, CONV, NONE, SKIP_CONNECT, Numbers, Place, Space

CHAIN = "chain"
"""The one cell type of a layer space: all of its layers, as one topology."""


@dataclasses.dataclass(frozen=True)
class LayerSpace(Space):
    """A chain of L layers, each of which has one of the ops O.

    As a topology it is a cell whose node j has one edge, (j - 1, j): α is [L, |O|], I = L, K = 1,
    and there is no `none`. A network is a Conv3x3 and then D = `len(depths)` stages of layers, as
    many in each as can be, the earlier ones with one more; a stage begins with stride 2, but the
    first. A layer is a cell of one node: where the channels change a Conv1x1 comes before its op,
    and `skip_connect` of stride 2 is an average pool 3x3.

    Attributes:
      name: the name by which genotypes refer to it.
      layer_ops: O.
      num_layers: L.
      stem_stride: of the Conv3x3, 1 or 2.

    Raises:
      ConfigError: a field is not valid.
    """

    layer_ops: tuple[str, ...]
    num_layers: int = 14
    stem_stride: int = 1

    def __post_init__(self) -> None:
        self._keep_tuple("layer_ops")
        super().__post_init__()
        check_integers(self, "num_layers", "stem_stride", least=1)
        if self.stem_stride > 2:
            raise ConfigError(f"LayerSpace.stem_stride must be 1 or 2, got {self.stem_stride}")
        self._check_ops("layer_ops", {NONE: "every layer has an op"})

    @property
    @override
    def cell_types(self) -> tuple[str, ...]:
        return (CHAIN,)

    @property
    @override
    def num_nodes(self) -> int:
        return self.num_layers

    @property
    @override
    def top_k(self) -> int:
        return 1

    @property
    @override
    def num_normal(self) -> int:
        return 1

    @property
    @override
    def num_reduction(self) -> int:
        return 0

    @override
    def ops(self, cell_type: str) -> tuple[str, ...]:
        if cell_type != CHAIN:
            raise ConfigError(f"search space {self.name!r} has no {cell_type!r} cells")
        return self.layer_ops

    @override
    def sources(self, node: int) -> range:
        return range(node - 1, node)

    @property
    @override
    def output_modes(self) -> tuple[str, ...]:
        return ("last",)

    @override
    def output_mode(self, asked: str) -> str:
        return "last"

    @override
    def cell_types_of(self, numbers: Numbers) -> tuple[str, ...]:
        for name in ("top_k", "num_normal", "num_reduction"):
            expected, got = getattr(self, name), getattr(numbers, name)
            if got != expected:
                raise GenotypeError(f"{name}: must be {expected} in a layer space, got {got}")
        return self.cell_types

    @override
    def places(self, depths: Sequence[int], numbers: Numbers) -> tuple[Place, ...]:
        layers, stages = numbers.num_nodes, len(depths)
        if layers < stages:
            raise ConfigError(
                f"depths must be of at most {layers} stages, the layers of {self.name!r}; "
                f"got {stages}"
            )
        found, node = [Place(CONV, "stem", depths[0], self.stem_stride)], 0
        for d, (filters, count) in enumerate(zip(depths, dealt(layers, stages))):
            for c in range(count):
                node += 1
                stride = 2 if d and not c else 1
                name = f"block_{d}_layer_{c}"
                found.append(Place(CELL, name, filters, stride, cell_type=CHAIN, node=node))
        return tuple(found)

    @override
    def size(self, cell_type: str | None = None) -> int:
        """Counts the discrete networks: |O|^L."""
        return len(self.ops(cell_type or CHAIN)) ** self.num_layers

    @override
    def resized(self, num_nodes: int | None = None, top_k: int | None = None) -> LayerSpace:
        if top_k not in (None, 1):
            raise ConfigError(f"top_k must be 1 in a layer space such as {self.name!r}")
        layers = self.num_layers if num_nodes is None else num_nodes
        return dataclasses.replace(self, num_layers=layers)

    @override
    def structure(self, numbers: Numbers) -> list[tuple[str, str]]:
        return [("layers", str(numbers.num_nodes))]


def dealt(number: int, stages: int) -> list[int]:
    """How many layers or blocks each stage has: as even as can be, the earlier ones with more."""
    return [number // stages + (stage < number % stages) for stage in range(stages)]


A2D = LayerSpace(
    name="a2d",
    layer_ops=(
        "conv_3x3_norm_relu",
        "conv_5x5_norm_relu",
        *(f"inv_res_{k}x{k}_e{e}" for k in (3, 5) for e in (1, 3, 5)),
        SKIP_CONNECT,
    ),
    num_layers=14,
    stem_stride=2,
)
"""A2D's 9^14 networks, for three stages such as depths 16, 32, 64. The stem's stride is ours, for
Atari's frames of 84x84."""

A2D_MINATAR = dataclasses.replace(A2D, name="a2d_minatar", num_layers=6, stem_stride=1)
"""The ops of `A2D` in six layers, for frames of 10x10; such as depths 16, 32."""

A2D_SMALL = LayerSpace(
    name="a2d_small",
    layer_ops=("conv_3x3_norm_relu", "inv_res_3x3_e1", "inv_res_3x3_e3", SKIP_CONNECT),
    num_layers=4,
)
"""The cheap half of A2D's ops in four layers, for frames of 10x10; such as depths 4, 8. A supernet
that computes every op is affordable in it."""
