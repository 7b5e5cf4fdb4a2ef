"""The encoder of a genotype."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from typing_extensions import override

from rldarts_tf.cells import Cell
from rldarts_tf.encoders.cell_network import CellNetwork
from rldarts_tf.errors import GenotypeError
from rldarts_tf.genotype import Genotype
from rldarts_tf.ops import check_ops
from rldarts_tf.options import check_option
from rldarts_tf.space import Place


@tf.keras.utils.register_keras_serializable(package="rldarts_tf")
class DiscreteNetwork(CellNetwork):
    """The encoder that a genotype describes.

    Args:
      genotype: a `Genotype`, the path of a genotype file, or the content of one.
      depths: channels of each block, such as [64, 64, 64].
      normalization: of the convolutions in the cells: None, "layer" or "batch".
      recompute: least memory for activations, for more time; see `rldarts_tf.cells.Cell`.
      unit_ops: bring the outputs of the cells' ops to unit size, as a supernet may have done.
      **kwargs: arguments of `Encoder`.

    Raises:
      GenotypeError: the genotype is not valid.
      ConfigError: another argument is not valid, or an op of the genotype is not registered.
    """

    def __init__(
        self,
        genotype: Genotype | str | os.PathLike[str] | Mapping[str, Any],
        depths: Sequence[int],
        normalization: str | None = None,
        *,
        recompute: bool = False,
        unit_ops: bool = False,
        **kwargs: Any,
    ) -> None:
        discrete = _as_genotype(genotype)
        for cell in discrete.cells.values():
            ops = [op for node in cell for _, op in node]
            check_ops(ops, f"genotype of search space {discrete.search_space!r}")
        check_option("normalization", normalization)

        def make_cell(place: Place, dtype: Any) -> Cell:
            return Cell(
                discrete.topology(place),
                place.filters,
                stride=place.stride,
                output_mode=discrete.output_mode,
                normalization=normalization,
                recompute=recompute,
                unit_ops=unit_ops,
                name=place.name,
                dtype=dtype,
            )

        super().__init__(make_cell, depths, discrete.space, discrete, **kwargs)
        self._genotype_json = discrete.to_json()
        self.normalization = normalization
        self.recompute = recompute
        self.unit_ops = unit_ops

    @property
    def genotype(self) -> Genotype:
        """The architecture."""
        return Genotype.from_json(self._genotype_json)

    @override
    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "genotype": self.genotype.to_dict(),
            "depths": list(self.depths),
            "normalization": self.normalization,
            "recompute": self.recompute,
            **({"unit_ops": True} if self.unit_ops else {}),
        }


def _as_genotype(value: Genotype | str | os.PathLike[str] | Mapping[str, Any]) -> Genotype:
    """A genotype from itself, the path of its file, or the content of that."""
    if isinstance(value, Genotype):
        return value
    if isinstance(value, Mapping):
        return Genotype.from_dict(value)
    if not isinstance(value, (str, os.PathLike)):
        raise GenotypeError(f"genotype: must be a Genotype, a path or a mapping, got {value!r}")
    return Genotype.load(value)
