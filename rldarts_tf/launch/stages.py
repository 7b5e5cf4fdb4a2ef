"""The three steps of RL-DARTS (Algorithm 1) as stages of a run directory, and the baseline.

search (train the supernet) -> discretize (δ(α*) -> genotype.json) -> evaluate (train the discrete
network from scratch). How an encoder is trained is the caller's business.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

from rldarts_tf.caps import caps_of
from rldarts_tf.discretization import discretize, unmoved_warning
from rldarts_tf.encoders import Encoder, as_search_space
from rldarts_tf.errors import ConfigError, RLDartsError, RunError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.launch import table
from rldarts_tf.pictures import drawing, plotting
from rldarts_tf.pictures.topology import genotype_text
from rldarts_tf.runs import summary
from rldarts_tf.runs.adoption import check_replaceable
from rldarts_tf.runs.alpha_history import AlphaHistory, read_alphas
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.runs.paths import TRAINED_STAGES, StagePaths
from rldarts_tf.search.settings import SearchSettings
from rldarts_tf.teaching.settings import OWN_STAGE
from rldarts_tf.training.settings import EncoderSettings

STAGES = {
    "all": ("search", "discretize", "evaluate"),
    "search": ("search",),
    "discretize": ("discretize",),
    "evaluate": ("evaluate",),
    "baseline": ("baseline",),
}
"""Values of `--stage`, and the stages that each runs."""


def stages_of(stage: str, teacher_first: bool = False) -> tuple[str, ...]:
    """The stages that a value of `--stage` runs; 'all' may train the run's own teacher first."""
    return ((OWN_STAGE,) if teacher_first and stage == "all" else ()) + STAGES[stage]


Train = Callable[[str, StagePaths, Encoder], Mapping[str, Any]]
"""(stage, its directory, encoder) -> the stage's entry in summary.json."""


def check_encoders(
    encoders: Mapping[str, EncoderSettings],
    genotype: Genotype | None = None,
    search: SearchSettings | None = None,
) -> dict[str, Encoder]:
    """Makes each stage's encoder, without weights, so that a late stage cannot fail after hours.

    Args:
      encoders: as `Pipeline` takes them.
      genotype: the cell to evaluate; None for one that a search will find.
      search: the search method.

    Returns:
      The encoders by stage, which are to be looked at only.

    Raises:
      ConfigError: a setting is not valid.
    """
    made = {}
    for stage in TRAINED_STAGES:
        settings = encoders[stage]
        kind, cell = settings.kind(stage), None
        try:
            if kind == "discrete":
                # Any cell of the space tells as much about the settings as the one to be found.
                of_search = encoders["search"]
                space = as_search_space(of_search.search_space)
                cell = genotype or random_genotype(space, random.Random(0), of_search.output_mode)
            made[stage] = settings.make(kind, cell, search)
        except RLDartsError as error:
            raise ConfigError(f"EncoderSettings: {error} (stage {stage!r})") from None
    return made


class Pipeline:
    """Runs stages in a run directory; those that are finished there are not run again.

    Args:
      run: the run directory.
      train: trains an encoder.
      encoders: the encoder settings of each stage in `TRAINED_STAGES`.
      num_env_steps: by stage; one that has finished with fewer goes on.
      genotype: the cell to evaluate, which becomes the run's; None for that of the run.
      search: the search method.
      teacher_first: see `stages_of`.
    """

    def __init__(
        self,
        run: RunDirectory,
        train: Train,
        encoders: Mapping[str, EncoderSettings],
        num_env_steps: Mapping[str, int],
        genotype: Genotype | None = None,
        search: SearchSettings | None = None,
        teacher_first: bool = False,
    ) -> None:
        self._search = search
        self._teacher_first = teacher_first
        self._run = run
        self._train = train
        self._encoders = encoders
        self._num_env_steps = num_env_steps
        self._given = genotype

    def check(self, stage: str) -> None:
        """Raises what `run` would raise before it trains; changes nothing.

        Args:
          stage: a key of `STAGES`.

        Raises:
          ConfigError: a genotype is missing, or given to a stage that does not evaluate one.
          RunError: there is no search to discretize, or the directory holds a different cell.
        """
        if self._given is not None:
            if stage != "evaluate":
                raise ConfigError(
                    f"genotype: is for --stage=evaluate alone; --stage={stage} would not use it"
                )
            check_replaceable(self._run, self._given)
        elif stage == "evaluate":
            self._genotype()
        elif stage == "discretize":
            self._search_log()
        if (
            {"search", "discretize"} <= {*STAGES[stage]}
            and self._run.stage("evaluate").path.exists()
            and self._entry("search").get("exit_state") == "finished"
            and not self._is_finished("search")
        ):
            raise RunError(
                f"root_dir {str(self._run.root)!r} holds an evaluation of the cell that the search "
                "has found so far: extend the evaluation alone, or search in another root_dir"
            )

    def run(self, stage: str) -> bool:
        """Runs a key of `STAGES`; False if the training was interrupted on the way.

        Raises:
          ConfigError: see `check`.
          RunError: see `check`; or the search that has just ended found another cell than the one
            whose evaluation the directory holds.
        """
        self.check(stage)
        if self._given is not None:
            self._adopt(self._given)
        for name in stages_of(stage, self._teacher_first):
            if name == "discretize":
                self._discretize()
            elif not self._run_training(name):
                return False
        if "discretize" in STAGES[stage]:
            print(f"the cell found:\n{genotype_text(self._genotype())}")
            print(f"genotype: {self._run.genotype_path}\ndrawings: {self._run.cells_dir}")
        return True

    def _run_training(self, name: str) -> bool:
        entry = self._entry(name)
        if not self._is_finished(name):
            genotype = self._genotype() if name == "evaluate" else None
            settings = self._encoders[name]
            encoder = settings.make(settings.kind(name), genotype, self._search)
            entry = dict(self._train(name, self._run.stage(name), encoder))
            if genotype is not None:
                entry["genotype"] = genotype.to_dict()
            summary.write_summary(self._run.summary_path, name, entry)
            self._draw_curves()
        summary.print_table(f"{name}: {entry['exit_state']}", table.rows(entry))
        return entry["exit_state"] == "finished"

    def _discretize(self) -> None:
        """Discretizes the last recorded α, which is that of the last checkpoint."""
        settings = self._encoders["search"]
        space = as_search_space(settings.search_space)
        history = self._search_log()
        try:
            history.check(space)
        except RunError as error:
            raise RunError(f"{str(self._run.stage('search').alphas_path)!r}: {error}") from None
        # A search that was stopped early keeps the cell of before.
        step, logits = history.at(self._entry("search").get("kept_step"))
        method = self._search or SearchSettings()
        caps = caps_of(method, space)
        genotype = discretize(logits, space, output_mode=settings.output_mode, caps=caps)
        self._adopt(genotype)
        entry = {"exit_state": "finished", "search_steps": step}
        summary.write_summary(self._run.summary_path, "discretize", entry)
        print(f"discretize: the cell at step {entry['search_steps']:,}")
        steps = self._entry("search").get("gradient_steps")
        # Of other methods the logits are made to rank as they do, and have a lead from the start.
        warning = unmoved_warning(logits, steps) if method.reads_logits else None
        if warning is not None:
            print(warning, file=sys.stderr)

    def _draw_curves(self) -> None:
        """Draws the returns of all stages so far, and the op weights of the search."""
        search = self._run.stage("search")
        try:
            if search.alphas_path.exists():
                plotting.plot_op_weights(
                    search.alphas_path, search.op_weights_path, search.contributions_path
                )
            plotting.plot_run([str(self._run.root)], self._run.returns_path)
        except (ImportError, RLDartsError) as error:
            # A run without a finished episode has nothing to draw; its results stand all the same.
            print(f"no curves drawn: {error}")

    def _search_log(self) -> AlphaHistory:
        """The search's α over time, with at least one record."""
        path = self._run.stage("search").alphas_path
        history = read_alphas(path) if path.exists() else None
        # A search that was killed before its first checkpoint may leave a file without records.
        if not history:
            raise RunError(
                f"root_dir {str(self._run.root)!r} holds no search to discretize "
                f"({path.name} is missing or empty): run --stage=search first"
            )
        return history

    def _adopt(self, genotype: Genotype) -> None:
        """Makes a genotype the run's, with drawings; refuses to replace one that was evaluated."""
        if check_replaceable(self._run, genotype):
            # In this order, so that a genotype.json is never without its drawings.
            drawing.draw_genotype(genotype, self._run.cells_dir)
            genotype.save(self._run.genotype_path)

    def _genotype(self) -> Genotype:
        if not self._run.genotype_path.exists():
            raise ConfigError(
                f"genotype: root_dir {str(self._run.root)!r} holds none yet: run --stage=search "
                "and --stage=discretize first, or give --genotype=FILE"
            )
        return Genotype.load(self._run.genotype_path)

    def _is_finished(self, name: str) -> bool:
        """Whether a stage has been trained as long as it is to be."""
        entry = self._entry(name)
        # An entry of an early version has no number of steps.
        steps = entry.get("env_steps", self._num_env_steps[name])
        enough = steps >= self._num_env_steps[name] or "stopped_early" in entry
        return entry.get("exit_state") == "finished" and enough

    def _entry(self, name: str) -> dict[str, Any]:
        return summary.read_entries(self._run.summary_path).get(name, {})
