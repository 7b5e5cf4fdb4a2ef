"""The three steps of RL-DARTS (Algorithm 1) as stages of a run directory, and the baseline.

search (train the supernet) -> discretize (δ(α*) -> genotype.json) -> evaluate (train the discrete
network from scratch). How an encoder is trained is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from rldarts_tf import drawing
from rldarts_tf.discretize import discretize
from rldarts_tf.encoders import Encoder, as_search_space
from rldarts_tf.errors import ConfigError, RunError
from rldarts_tf.genotype import Genotype
from rldarts_tf.runs import summary
from rldarts_tf.runs.directory import RunDirectory, StageDirectory
from rldarts_tf.runs.search_log import read_alphas
from rldarts_tf.settings import EncoderSettings

TRAINED_STAGES = {"search": "supernet", "evaluate": "discrete", "baseline": "impala_cnn"}
"""Each stage that trains, and the kind of encoder that it trains."""

STAGES = {
    "all": ("search", "discretize", "evaluate"),
    "search": ("search",),
    "discretize": ("discretize",),
    "evaluate": ("evaluate",),
    "baseline": ("baseline",),
}
"""What `--stage` may be, and the stages that it runs."""

Train = Callable[[str, StageDirectory, Encoder], Mapping[str, Any]]
"""(stage, its directory, encoder) -> the stage's entry in summary.json."""


class Pipeline:
    """Runs stages in a run directory; those that are finished there are not run again.

    Args:
      run: the run directory.
      train: trains an encoder.
      encoders: the encoder settings of each stage in `TRAINED_STAGES`.
      genotype: the cell to evaluate; None for that of the run.
    """

    def __init__(
        self,
        run: RunDirectory,
        train: Train,
        encoders: Mapping[str, EncoderSettings],
        genotype: Genotype | None = None,
    ) -> None:
        self._run = run
        self._train = train
        self._encoders = encoders
        if genotype is not None:
            self._adopt(genotype)

    def run(self, stage: str) -> bool:
        """Runs a key of `STAGES`; False if the training was interrupted on the way.

        Raises:
          RunError: something that the stage needs is missing, or the directory holds a different
            cell.
        """
        for name in STAGES[stage]:
            if name == "discretize":
                self._discretize()
            elif not self._run_training(name):
                return False
        return True

    def _run_training(self, name: str) -> bool:
        entry = self._entry(name)
        if entry.get("exit_state") != "finished":
            genotype = self._genotype() if name == "evaluate" else None
            encoder = self._encoders[name].make(TRAINED_STAGES[name], genotype)
            entry = dict(self._train(name, self._run.stage(name), encoder))
            if genotype is not None:
                entry["genotype"] = genotype.to_dict()
            summary.write_summary(self._run.summary_path, name, entry)
        summary.print_table(f"{name}: {entry['exit_state']}", _rows(entry))
        return entry["exit_state"] == "finished"

    def _discretize(self) -> None:
        """Discretizes the last recorded op weights, which are those of the last checkpoint."""
        settings = self._encoders["search"]
        space = as_search_space(settings.search_space)
        stage_dir = self._run.stage("search")
        if not stage_dir.alphas_path.exists():
            raise RunError(
                f"root_dir {str(self._run.root)!r} holds no search to discretize "
                f"({stage_dir.alphas_path.name} is missing): run --stage=search first"
            )
        arrays = read_alphas(stage_dir.alphas_path)
        for cell_type in space.cell_types:
            if tuple(arrays.get(f"{cell_type}_ops", ())) != space.ops(cell_type):
                raise RunError(
                    f"{str(stage_dir.alphas_path)!r} is of other ops than search space "
                    f"{space.name!r}"
                )
        op_weights = {
            cell_type: [
                arrays[f"{cell_type}_node_{j}"][-1] for j in range(1, space.num_nodes + 1)
            ]
            for cell_type in space.cell_types
        }
        genotype = discretize(op_weights, space, output_mode=settings.output_mode)
        self._adopt(genotype)
        entry = {
            "exit_state": "finished",
            "search_steps": int(arrays["step"][-1]),
            "genotype": genotype.to_dict(),
        }
        summary.write_summary(self._run.summary_path, "discretize", entry)
        print(f"discretize: the cell at step {entry['search_steps']:,}")
        print(drawing.genotype_text(genotype))
        print(f"drawings: {self._run.cells_dir}")

    def _adopt(self, genotype: Genotype) -> None:
        """Makes a genotype the run's, with drawings; refuses to replace one that was evaluated."""
        path = self._run.genotype_path
        if path.exists():
            if Genotype.load(path) == genotype:
                return
            if self._run.stage("evaluate").path.exists():
                raise RunError(
                    f"root_dir {str(self._run.root)!r} holds an evaluation of another cell: "
                    "use another root_dir"
                )
        genotype.save(path)
        drawing.draw_genotype(genotype, self._run.cells_dir)

    def _genotype(self) -> Genotype:
        if not self._run.genotype_path.exists():
            raise ConfigError(
                f"genotype: root_dir {str(self._run.root)!r} holds none yet: run --stage=search and "
                "--stage=discretize first, or give --genotype=FILE"
            )
        return Genotype.load(self._run.genotype_path)

    def _entry(self, name: str) -> dict[str, Any]:
        path = self._run.summary_path
        return summary.read_summary(path)["stages"].get(name, {}) if path.exists() else {}


def _rows(entry: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The lines of a stage's table."""

    def number(key: str, form: str = ",.2f") -> str:
        value = entry.get(key)
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return "-" if missing else format(value, form)

    rows = [
        ("encoder", f"{entry['encoder']}, {number('parameters', ',d')} parameters, "
         f"{number('multiply_adds', ',d')} multiply-adds"),
        ("game", f"{entry['game']} ({entry['distribution_mode']}), seed {entry['seed']}"),
        ("environment steps", f"{number('env_steps', ',d')} in {number('wall_time_s', ',.0f')} s "
         f"({number('env_steps_per_second', ',.0f')} per second)"),
        ("training return", f"{number('return_mean')} (normalized "
         f"{number('return_mean_normalized')}; last 100 of {number('episodes', ',d')} episodes)"),
    ]
    for name, shown in (("train", "training levels"), ("test", "unseen levels")):
        key = f"eval_{name}_return"
        if f"{key}_mean" in entry:
            rows.append(
                (f"return, {shown}", f"{number(key + '_mean')} ± {number(key + '_std')} "
                 f"(normalized {number(key + '_mean_normalized')})")
            )
    return rows
