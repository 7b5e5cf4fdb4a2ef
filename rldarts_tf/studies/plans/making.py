"""Trials of a study, made of its settings."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rldarts_tf.errors import ConfigError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs.paths import RunPaths, ranked_path
from rldarts_tf.runs.results import read_results
from rldarts_tf.space import Space
from rldarts_tf.studies.plans.costs import drawn_over_costs
from rldarts_tf.studies.settings import StudySettings
from rldarts_tf.studies.trials import CANDIDATE, ROOT, StudyPaths, Trial


@dataclasses.dataclass(frozen=True)
class Variation:
    """What distinguishes some trials from the others of a study.

    Attributes:
      gin_files: after those of the study.
      bindings: after those of the study.
      discretize: flags of the command that reads the cell off a search; empty for the launcher's
        own stage.
    """

    gin_files: tuple[str, ...] = ()
    bindings: tuple[str, ...] = ()
    discretize: tuple[str, ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> Variation:
        """Sorts texts as `StudySettings` has them."""
        parts: dict[str, list[str]] = {"gin_files": [], "bindings": [], "discretize": []}
        for text in texts:
            flag, file = text.startswith("--"), text.endswith(".gin")
            parts["discretize" if flag else "gin_files" if file else "bindings"].append(text)
        return cls(**{name: tuple(part) for name, part in parts.items()})


PLAIN = Variation()
_BY_STRENGTH = ("--by=p", "--by=contribution")
"""Ways of reading a cell that measure nothing which would be kept."""


class TrialMaker:
    """Makes the trials of a study; all names, seeds and commands are made here.

    Args:
      settings: of the study.
      root: of the study.
      known: the trials that it has already.
    """

    def __init__(self, settings: StudySettings, root: Path, known: Iterable[Trial] = ()) -> None:
        self.settings = settings
        self.paths = StudyPaths(root)
        self._trained = {trial.name for trial in known if trial.run is None}
        self._teachers: dict[str, Trial] = {}
        self._cells: list[Genotype] = []
        self._written: dict[int, str] = {}
        named = settings.methods or {"": ()}
        self._methods = {method: Variation.parse(texts) for method, texts in named.items()}
        self._of_cells: dict[str, Variation] = {}

    def searches(self, environment: str, cell: bool = True) -> Iterator[Trial]:
        """The searches of every method with every search seed; see `search` and `reading`.

        Methods that differ in how a cell is read off alone share their searches.
        """
        variations = self._methods
        owners = (
            self._owners(environment, variations) if cell else dict(zip(variations, variations))
        )
        for method, variation in variations.items():
            for seed in self.settings.search_seeds:
                owner = owners[method]
                search = self.search(environment, seed, owner, variations[owner], cell=cell)
                yield search if owner == method else self.reading(search, method, variation)

    def _owners(self, environment: str, variations: Mapping[str, Variation]) -> dict[str, str]:
        """By method, that whose searches it reads its cells off; itself where it trains them.

        Of those that are trained alike it is the one that has trained already. Where none has: one
        that reads its cell in the launcher's own way, which measures nothing, else the first.
        """

        def rank(method: str) -> tuple[bool, bool]:
            known = {
                _search_name(environment, "search", method, seed)
                for seed in self.settings.search_seeds
            }
            return not known & self._trained, bool(variations[method].discretize)

        best: dict[Variation, str] = {}
        for method in sorted(variations, key=rank):
            best.setdefault(dataclasses.replace(variations[method], discretize=()), method)
        return {
            method: best[dataclasses.replace(variation, discretize=())]
            for method, variation in variations.items()
        }

    def search(
        self,
        environment: str,
        seed: int,
        method: str = "",
        variation: Variation = PLAIN,
        arm: str = "search",
        cell: bool = True,
    ) -> Trial:
        """The training of a supernet.

        Args:
          environment: the environment.
          seed: of the search.
          method: name of the search method; empty for the only one.
          variation: the method.
          arm: of the supernet.
          cell: whether a cell is read off it.
        """
        folder = _search_name(environment, arm, method, seed)
        teacher = self._teacher(environment)
        if teacher is not None:
            self._teachers[teacher.name] = teacher
            run = f"TeacherSettings.run = {f'{ROOT}/trials/{teacher.name}'!r}"
            variation = dataclasses.replace(variation, bindings=(*variation.bindings, run))
        flags = self._flags(environment, variation, seed, self.settings.search_steps, folder)
        train = ("train", self.settings.launcher, *flags)
        commands = [(*train, "--stage=search")]
        made = RunPaths(Path("trials", folder)).genotype_path.as_posix()
        if cell and variation.discretize:
            run, output = f"{ROOT}/trials/{folder}", f"--output={ROOT}/{made}"
            commands.append(("discretize", run, *variation.discretize, output))
        elif cell:
            commands.append((*train, "--stage=discretize"))
        return Trial(
            name=folder,
            arm=_join(":", arm, method),
            environment=environment,
            architecture=f"{arm}-{seed}",
            seed=seed,
            search_seed=seed,
            stage="search",
            steps=self.settings.search_steps,
            makes=made if cell else None,
            needs=() if teacher is None else (teacher.name,),
            commands=tuple(commands),
        )

    def reading(self, search: Trial, method: str, variation: Variation) -> Trial:
        """Another cell, read off a search in the way of another method.

        Args:
          search: its trial.
          method: name of the method.
          variation: the method.
        """
        folder = _search_name(search.environment, "search", method, search.seed)
        made = f"genotypes/{folder}.json"
        flags = list(variation.discretize)
        if any(flag.startswith("--by=") and flag not in _BY_STRENGTH for flag in flags):
            flags.append(f"--work_dir={ROOT}/genotypes/{folder}")
        run = f"{ROOT}/trials/{search.name}"
        return dataclasses.replace(
            search,
            name=folder,
            arm=f"search:{method}",
            makes=made,
            needs=(search.name,),
            run=search.name,
            commands=(("discretize", run, *flags, f"--output={ROOT}/{made}"),),
        )

    @property
    def teachers(self) -> tuple[Trial, ...]:
        """The trainings that teach the searches which have been made."""
        return tuple(self._teachers.values())

    def _teacher(self, environment: str) -> Trial | None:
        """The baseline that teaches the searches in an environment, if one does."""
        kind = self.settings.teacher
        if kind is None:
            return None
        return self.baseline(environment, kind, self.settings.evaluation_seeds[0])

    def candidates(self, search: Trial) -> list[Trial]:
        """The trainings that decide which of the best cells of a ranking is the one found.

        Each is trained once where it was searched for, with the seed of the search: of the seeds
        that score the cell none has chosen it.

        Args:
          search: the trial that ranks cells.

        Returns:
          The best of the ranking first; none where there is one cell alone.
        """
        method, number = search.arm.partition(":")[2], search.num_candidates
        return [
            self.cell(
                search.environment,
                f"{_join('-', CANDIDATE, method)}-{search.seed}-{place:02d}",
                search.seed,
                ranked_path(Path(str(search.makes)), place).as_posix(),
                arm=_join(":", CANDIDATE, method),
                architecture=f"{search.architecture}-{place:02d}",
                search=search,
                variation=self._of_cell(method),
            )
            for place in (range(1, number + 1) if number > 1 else ())
        ]

    def found(self, search: Trial, seeds: Sequence[int], environment: str) -> Iterator[Trial]:
        """The trainings from scratch of the cell that a search finds.

        Of several candidates it is that with the best final evaluation, of equals the first; which
        one is known, and there are trials, when all are finished.

        Args:
          search: its trial.
          seeds: of the trainings.
          environment: of the trainings.

        Raises:
          RunError: a summary cannot be read.
        """
        genotype, candidates = search.makes, self.candidates(search)
        if candidates:
            if any(self.paths.state(trial) != "finished" for trial in candidates):
                return
            genotype = max(candidates, key=self._score).genotype
        method = search.arm.partition(":")[2]
        for seed in seeds:
            yield self.cell(
                environment,
                f"{_join('-', 'found', method)}-{search.seed}",
                seed,
                str(genotype),
                arm=_join(":", "found", method),
                architecture=search.architecture,
                search=search,
                variation=self._of_cell(method),
            )

    def _score(self, trial: Trial) -> float:
        """The mean return of a finished trial's final evaluation."""
        score = read_results(self.paths.run(trial).summary_path)[trial.stage].eval_test_return_mean
        return -math.inf if score is None else score

    def _of_cell(self, method: str) -> Variation:
        """What a search method asks of the cells that it finds."""
        if method not in self._of_cells:
            variation = self._methods.get(method, PLAIN)
            self._of_cells[method] = cell_variation(self.settings, variation)
        return self._of_cells[method]

    def random(self, environment: str, number: int, seed: int) -> Trial:
        """The training from scratch of a random cell."""
        name = f"random-{number:02d}"
        return self.cell(environment, name, seed, self.random_cell(number), arm="random")

    def cell(
        self,
        environment: str,
        name: str,
        seed: int,
        genotype: str,
        arm: str,
        architecture: str | None = None,
        search: Trial | None = None,
        variation: Variation = PLAIN,
    ) -> Trial:
        """The training from scratch of a cell.

        Args:
          environment: the environment.
          name: of the cell among all of the environment.
          seed: of the training.
          genotype: the cell's file, relative to the study's root.
          arm: what the cell stands for.
          architecture: its id in the arm; the name if None.
          search: the search that finds it.
          variation: of the training.
        """
        trial = self._from_scratch(
            environment, name, seed, "evaluate", f"--genotype={ROOT}/{genotype}", variation
        )
        return dataclasses.replace(
            trial,
            arm=arm,
            architecture=architecture or name,
            search_seed=None if search is None else search.seed,
            genotype=genotype,
            needs=() if search is None else (search.name,),
        )

    def baseline(
        self, environment: str, kind: str, seed: int, name: str = "", variation: Variation = PLAIN
    ) -> Trial:
        """The training of a hand-designed encoder.

        Args:
          environment: the environment.
          kind: of the encoder.
          seed: of the training.
          name: of the architecture; the kind if empty.
          variation: of the training.
        """
        encoder = f"--gin_bindings=EncoderSettings.baseline = {kind!r}"
        return self._from_scratch(environment, name or kind, seed, "baseline", encoder, variation)

    def random_cell(self, number: int) -> str:
        """The file of a random cell, written if it is missing, relative to the study's root.

        Cells are drawn one after the other, all different: a study that draws more has the first
        ones of one that draws fewer.

        Raises:
          ConfigError: there are no more cells, or the file holds another one.
        """
        if not self._cells:
            self._cells = self._draw()
        if number not in self._written:
            path = self.paths.genotypes_dir / f"random-{number:02d}.json"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                self._cells[number].save(path)
            elif Genotype.load(path) != self._cells[number]:
                raise ConfigError(
                    f"StudySettings.random_seed: {str(path)!r} holds another cell than it draws "
                    "from the search space"
                )
            self._written[number] = str(path.relative_to(self.paths.root))
        return self._written[number]

    def _draw(self) -> list[Genotype]:
        space, output_mode = search_space_of(self.settings)
        if self.settings.random_cells > space.size():
            raise ConfigError(
                f"StudySettings.random_cells must be at most {space.size()}, the cells of "
                f"{space.name!r}, got {self.settings.random_cells}"
            )
        rng = random.Random(self.settings.random_seed)
        if self.settings.random_costs:
            costs = costs_of(self.settings)
            draws = drawn_over_costs(space, costs, rng, output_mode)
            return [*itertools.islice(draws, self.settings.random_cells)]
        drawn: dict[Genotype, None] = {}
        while len(drawn) < self.settings.random_cells:
            drawn.setdefault(random_genotype(space, rng, output_mode))
        return [*drawn]

    def _from_scratch(
        self,
        environment: str,
        name: str,
        seed: int,
        stage: str,
        encoder: str,
        variation: Variation,
    ) -> Trial:
        """The training of an encoder that the flag `encoder` chooses; its arm is the stage."""
        folder = f"{_slug(environment)}/{name}/seed-{seed}"
        steps = self.settings.evaluation_steps
        flags = self._flags(environment, variation, seed, steps, folder)
        return Trial(
            name=folder,
            arm=stage,
            environment=environment,
            architecture=name,
            seed=seed,
            search_seed=None,
            stage=stage,
            steps=steps,
            commands=(("train", self.settings.launcher, *flags, f"--stage={stage}", encoder),),
        )

    def _flags(
        self, environment: str, variation: Variation, seed: int, steps: int, folder: str
    ) -> list[str]:
        settings = self.settings
        return [
            *(f"--import={module}" for module in settings.imports),
            *(f"--gin_file={file}" for file in (*settings.gin_files, *variation.gin_files)),
            *(f"--gin_bindings={text}" for text in (*settings.bindings, *variation.bindings)),
            *_environment_flags(settings.environment_flags, environment),
            f"--seed={seed}",
            f"--num_env_steps={steps}",
            f"--root_dir={ROOT}/trials/{folder}",
        ]


def search_space_of(settings: StudySettings) -> tuple[Space, str]:
    """The search space and the output mode of a study's trials.

    Raises:
      ConfigError: a gin file or setting of the trials is not valid.
    """
    # TensorFlow comes with them.
    from rldarts_tf.encoders import as_search_space
    from rldarts_tf.launch import gin_files
    from rldarts_tf.training.settings import EncoderSettings

    _load(settings, PLAIN)
    (encoders,) = gin_files.resolve(EncoderSettings)["search"]
    return as_search_space(encoders.search_space), encoders.output_mode


def costs_of(settings: StudySettings) -> dict[str, np.ndarray]:
    """The multiply-adds of every op of a study's cells, per cell type [E, |O|], relative ones.

    They are those at images of `_SIDE` × `_SIDE`: which of two ops is the more expensive, and how
    much, is the same at other sizes but for rounding.

    Raises:
      ConfigError: a gin file or setting of the trials is not valid.
    """
    import tensorflow as tf

    from rldarts_tf.launch import gin_files
    from rldarts_tf.search import costs
    from rldarts_tf.training.settings import EncoderSettings

    _load(settings, PLAIN)
    (options,) = gin_files.resolve(EncoderSettings)["search"]
    supernet = options.make("supernet")
    supernet(tf.zeros((1, _SIDE, _SIDE, 3)))
    op_cost = costs.counts(supernet.cells[0], "multiply_adds")
    return dict(costs.make_table(supernet.space, supernet.placed_cells, op_cost).ops)


_SIDE = 32


def cell_variation(settings: StudySettings, variation: Variation) -> Variation:
    """What a search method asks of the training of its cells: unit ops that are always there.

    Args:
      settings: of the study.
      variation: the method.

    Raises:
      ConfigError: a gin file or setting of the method is not valid.
    """
    if not (variation.gin_files or variation.bindings):
        return PLAIN  # Bindings of the study are those of every trial.
    from rldarts_tf.launch import gin_files

    _load(settings, variation)
    if gin_files.search_settings().unit_ops != "always":
        return PLAIN
    return Variation(bindings=("search/SearchSettings.unit_ops = 'always'",))


def _load(settings: StudySettings, variation: Variation) -> None:
    """Makes gin hold what the trials of a variation are given, but for flags."""
    from rldarts_tf.launch import gin_files
    from rldarts_tf.user_modules import import_modules

    import_modules(list(settings.imports))
    gin_files.load(
        (*settings.gin_files, *variation.gin_files), (*settings.bindings, *variation.bindings)
    )


def _environment_flags(flags: Sequence[str], environment: str) -> list[str]:
    parts = environment.split("/", len(flags) - 1) if len(flags) > 1 else [environment]
    if flags and len(parts) != len(flags):
        wanted = "/".join(flags)
        raise ConfigError(
            f"StudySettings.environments must be names such as {wanted!r}, got {environment!r}"
        )
    return [f"--{flag}={part}" for flag, part in zip(flags, parts)]


def _search_name(environment: str, arm: str, method: str, seed: int) -> str:
    return f"{_slug(environment)}/{_join('-', arm, method)}/seed-{seed}"


def _slug(environment: str) -> str:
    """An environment as a part of the name of a file."""
    return "".join(letter if letter.isalnum() else "-" for letter in environment)


def _join(separator: str, arm: str, method: str) -> str:
    return f"{arm}{separator}{method}" if method else arm
