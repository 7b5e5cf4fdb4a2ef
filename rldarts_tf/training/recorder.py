"""Logs op weights, genotypes and pictures during a search."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
from typing_extensions import override

from rldarts_tf.encoders import Encoder, Supernet
from rldarts_tf.errors import RLDartsError
from rldarts_tf.pictures import drawing, plotting
from rldarts_tf.runs.paths import StagePaths
from rldarts_tf.runs.search_log import AlphaLog, ContributionLog, GenotypeLog
from rldarts_tf.search.contribution import contributions


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


def make_recorder(
    encoder: Encoder,
    stage_dir: StagePaths,
    resume_step: int | None,
    observe: Callable[[], np.ndarray] | None = None,
) -> Recorder:
    """The recorder of an encoder; see `SearchRecorder`."""
    if isinstance(encoder, Supernet):
        return SearchRecorder(stage_dir, encoder, resume_step, observe)
    return Recorder()


class SearchRecorder(Recorder):
    """Logs α over time, the genotypes it stands for, and contributions where they are recorded.

    Args:
      stage_dir: where the logs go.
      supernet: whose α is recorded.
      resume_step: the step of the restored checkpoint, or None.
      observe: gives states [B, H, W, C], which the contributions of ops are measured on, where the
        search method has them recorded.
    """

    def __init__(
        self,
        stage_dir: StagePaths,
        supernet: Supernet,
        resume_step: int | None,
        observe: Callable[[], np.ndarray] | None = None,
    ) -> None:
        self._supernet = supernet
        self._observe = observe if supernet.alpha.search.record_contributions else None
        # Traced once: states have one shape.
        self._contributions = tf.function(lambda x: contributions(supernet, x), autograph=False)
        self._told = False
        space = supernet.space
        ops = {cell_type: space.ops(cell_type) for cell_type in space.cell_types}
        self._alphas = AlphaLog(stage_dir.alphas_path, ops, len(space.edges), resume_step)
        self._shares: ContributionLog | None = None
        if self._observe is not None:
            path = stage_dir.contributions_path
            self._shares = ContributionLog(path, ops, len(space.edges), resume_step)
        self._genotypes = GenotypeLog(stage_dir.genotypes_path, resume_step)

    @property
    @override
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        space = self._supernet.space
        cost = ("cost", "found_cost", "cost_weight")
        return {
            **{
                f"op_weights_{t}": tuple(f"op_weight_{t}_{op}" for op in space.ops(t))
                for t in space.cell_types
            },
            **({} if self._observe is None else self._contribution_columns()),
            "search": (
                *(f"alpha_entropy_{t}" for t in space.cell_types),
                "distinct_genotypes",
                "last_genotype_step",
                *(cost if self._supernet.alpha.search.cost.is_on else ()),
            ),
        }

    def _contribution_columns(self) -> dict[str, tuple[str, ...]]:
        space = self._supernet.space
        return {
            f"contributions_{t}": tuple(f"contribution_{t}_{op}" for op in space.ops(t))
            for t in space.cell_types
        }

    def _measured(self) -> dict[str, np.ndarray]:
        """Contributions by cell type; none where they are not recorded, or θ does not exist yet."""
        if self._observe is None or not self._supernet.built:
            return {}
        found = self._contributions(tf.constant(self._observe()))
        return {cell_type: c.numpy() for cell_type, c in found.items()}

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
            for cell_type, p in self._supernet.alpha.lasting_op_weights().items()
            for op, mean in zip(self._supernet.space.ops(cell_type), p.numpy().mean(axis=0))
        }
        measured = self._measured()
        if measured and self._shares is not None:
            self._shares.record(step, measured)
        return {
            **means,
            **{
                f"contribution_{cell_type}_{op}": float(mean)
                for cell_type, c in measured.items()
                for op, mean in zip(self._supernet.space.ops(cell_type), c.mean(axis=0))
            },
            **entropy,
            "distinct_genotypes": len(self._genotypes),
            "last_genotype_step": self._genotypes.last_step or 0,
            **self._cost(),
        }

    def _cost(self) -> dict[str, float]:
        """The expected cost and its weight, where the loss has them."""
        if not self._supernet.alpha.search.cost.is_on:
            return {}
        supernet = self._supernet
        return {
            "cost": supernet.expected_cost(),
            "found_cost": supernet.found_cost(),
            "cost_weight": float(supernet.cost_weight),
        }

    @override
    def pictures(self) -> dict[str, bytes]:
        """The weight of each op on each edge, and the cell they stand for: PNG files by name.

        Empty, after a line on standard error, where nothing can be drawn.
        """
        space = self._supernet.space
        ops = {cell_type: space.ops(cell_type) for cell_type in space.cell_types}
        try:
            lasting = self._supernet.alpha.lasting_op_weights()
            p = {cell_type: weights.numpy() for cell_type, weights in lasting.items()}
            weights = plotting.edge_weights_picture(p, ops, space.edges)
            measured = self._measured()
            beside = {}
            if measured:
                shares = plotting.edge_weights_picture(measured, ops, space.edges, "contribution")
                beside = {"contributions": shares}
            cells = drawing.cell_pictures(self._supernet.discretize(), "png")
        except RLDartsError as error:
            if not self._told:
                print(f"no pictures in TensorBoard: {error}", file=sys.stderr, flush=True)
            self._told = True
            return {}
        of_cells = {f"cell/{name}": data for name, data in cells.items()}
        return {"op_weights": weights, **beside, **of_cells}

    @override
    def flush(self) -> None:
        self._alphas.flush()
        if self._shares is not None:
            self._shares.flush()
