"""Logs op weights, genotypes and pictures during a search."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from typing_extensions import override

from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.errors import RLDartsError
from rldarts_tf.pictures import drawing, plotting
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.search_log import AlphaLog, GenotypeLog


class Recorder:
    """Records nothing: that of a training that is no search."""

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """The metrics that `record` returns, by the group they are shown in."""
        return {}

    def record(self, step: int) -> dict[str, float]:
        """Logs the state at a step; returns metrics."""
        del step
        return {}

    def pictures(self) -> dict[str, bytes]:
        """PNG files of the present state, by name."""
        return {}

    def flush(self) -> None:
        """Writes what is held in memory; to be called before a checkpoint."""


def make_recorder(encoder: Encoder, stage_dir: StagePaths, resume_step: int | None) -> Recorder:
    """The recorder of an encoder; see `SearchRecorder`."""
    if isinstance(encoder, Supernet):
        return SearchRecorder(stage_dir, encoder, resume_step)
    return Recorder()


class SearchRecorder(Recorder):
    """Logs α over time and the genotypes it stands for.

    Args:
      stage_dir: where the logs go.
      supernet: whose α is recorded.
      resume_step: the step of the restored checkpoint, or None.
    """

    def __init__(self, stage_dir: StagePaths, supernet: Supernet, resume_step: int | None) -> None:
        self._supernet = supernet
        self._told = False
        space = supernet.space
        self._alphas = AlphaLog(
            stage_dir.alphas_path,
            {cell_type: space.ops(cell_type) for cell_type in space.cell_types},
            space.num_nodes,
            resume_step,
        )
        self._genotypes = GenotypeLog(stage_dir.genotypes_path, resume_step)

    @property
    @override
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        space = self._supernet.space
        return {
            **{
                f"op_weights_{t}": tuple(f"op_weight_{t}_{op}" for op in space.ops(t))
                for t in space.cell_types
            },
            "search": (
                *(f"alpha_entropy_{t}" for t in space.cell_types),
                "distinct_genotypes",
                "last_genotype_step",
            ),
        }

    @override
    def record(self, step: int) -> dict[str, float]:
        """Logs α and the cell of this step; returns metrics.

        The weight of an op is the mean over all edges of its cell type, as in figure 3.
        """
        self._alphas.record(step, self._supernet.alpha.numpy_logits())
        self._genotypes.record(step, self._supernet.discretize().to_dict())
        entropy = {
            f"alpha_entropy_{cell_type}": float(value)
            for cell_type, value in self._supernet.alpha.entropy().items()
        }
        means = {
            f"op_weight_{cell_type}_{op}": float(mean)
            for cell_type, p in self._supernet.alpha.numpy_op_weights().items()
            for op, mean in zip(self._supernet.space.ops(cell_type), p.mean(axis=0))
        }
        return {
            **means,
            **entropy,
            "distinct_genotypes": len(self._genotypes),
            "last_genotype_step": self._genotypes.last_step or 0,
        }

    @override
    def pictures(self) -> dict[str, bytes]:
        """The weight of each op on each edge, and the cell they stand for: PNG files by name.

        Empty, after a line on standard error, where nothing can be drawn.
        """
        space = self._supernet.space
        ops = {cell_type: space.ops(cell_type) for cell_type in space.cell_types}
        try:
            weights = plotting.edge_weights_picture(self._supernet.alpha.numpy_op_weights(), ops)
            cells = drawing.cell_pictures(self._supernet.discretize(), "png")
        except RLDartsError as error:
            if not self._told:
                print(f"no pictures in TensorBoard: {error}", file=sys.stderr, flush=True)
            self._told = True
            return {}
        return {"op_weights": weights, **{f"cell/{name}": data for name, data in cells.items()}}

    @override
    def flush(self) -> None:
        self._alphas.flush()
