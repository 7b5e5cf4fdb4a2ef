"""Settings of a study, configurable by gin."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from rldarts_tf.checks import INT32_MAX, check_integer, shown
from rldarts_tf.errors import ConfigError
from rldarts_tf.settings_fields import Settings, defaults, setting


def _texts(field: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str) for text in value):
        raise ConfigError(f"{field} must be a list of texts, got {shown(value)}")
    if len(set(value)) < len(value):
        raise ConfigError(f"{field} names something twice: {shown(value)}")
    return tuple(value)


def _seeds(field: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, (list, tuple)):
        raise ConfigError(f"{field} must be a list of seeds, got {shown(value)}")
    seeds = tuple(check_integer(field, seed, 0, INT32_MAX) for seed in value)
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"{field} has a seed twice: {shown(value)}")
    return seeds


def _variations(field: str, value: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{field} must be a dict of lists, got {shown(value)}")
    return {
        name: _texts(f"{field}[{name!r}]", changes)
        for name, changes in ((_name(field, key), item) for key, item in value.items())
    }


def _name(field: str, value: Any) -> str:
    """A name that becomes a part of names of trials."""
    if not isinstance(value, str) or not value.replace("_", "").isalnum() or not value.isascii():
        raise ConfigError(f"{field} must have names of letters, digits and _, got {shown(value)}")
    return value


@gin.configurable(module="rldarts_tf")
@dataclasses.dataclass(frozen=True)
class StudySettings(Settings):
    """The trials of a study, and what each of them is trained with.

    A variation is a list of texts: names of gin files, which end in ".gin"; settings, "A.b = 3";
    and flags of the command `discretize`, "--by=return", for how a cell is read off a search.
    """

    kind: str = setting("search_pays", "what is compared: a name of `rldarts_tf.studies.plans`")
    launcher: str = setting("ppo_procgen", "the launcher that trains, as `train` names it")
    gin_files: Sequence[str] = setting(
        ("classic.gin", "studies/trial.gin"), "settings of every trial", check=_texts
    )
    bindings: Sequence[str] = setting((), "single settings of every trial", check=_texts)
    imports: Sequence[str] = setting(
        (), "modules that every trial imports, as `--import` does", check=_texts
    )
    environments: Sequence[str] = setting(
        ("starpilot",), "the environments, each with all trials", check=_texts
    )
    environment_flags: Sequence[str] = setting(
        ("env_name",),
        "the launcher's flags that name an environment. With two of them an environment is "
        "'cartpole/swingup'; without any there is one, of any name",
        check=_texts,
    )
    search_seeds: Sequence[int] = setting((0, 1, 2), "a search for each", check=_seeds)
    evaluation_seeds: Sequence[int] = setting(
        (100, 101, 102),
        "every architecture is trained from scratch with each; none is a search seed",
        check=_seeds,
    )
    search_steps: int = setting(25_000_000, "environment steps of a search", least=1)
    evaluation_steps: int = setting(
        25_000_000, "environment steps of a training from scratch", least=1
    )
    random_cells: int = setting(100, "cells drawn uniformly from the search space", least=0)
    random_seed: int = setting(0, "of the random cells", least=0, most=INT32_MAX)
    random_costs: bool = setting(
        False,
        "random cells whose multiply-adds spread from the least to the most there are, and not "
        "uniform ones, whose multiply-adds are much alike in a space of many layers",
    )
    baselines: Sequence[str] = setting(
        ("impala_cnn",), "hand-designed encoders (EncoderSettings.baseline)", check=_texts
    )
    uniform_alpha: bool = setting(True, "also supernets whose α stays uniform")
    methods: Mapping[str, Sequence[str]] | None = setting(
        None,
        "search methods by name, each a variation of the searches; None: that of the gin files",
        check=_variations,
    )
    teacher: str | None = setting(
        None,
        "the hand-designed encoder, one of `baselines`, whose training with the first of "
        "`evaluation_seeds` teaches the searches: it is their TeacherSettings.run; None: nobody",
    )
    variants: Mapping[str, Sequence[str]] | None = setting(
        None,
        "of kernel_size and model_size: variations of the baselines by name; of teaching and "
        "pareto: of the last of them",
        check=_variations,
    )
    search_environment: str = setting(
        "all", "of transfer: where the cells are searched for that all environments train"
    )
    every: int = setting(
        1, "of trajectory: every so many-th distinct cell of a search is trained", least=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        both = sorted(set(self.search_seeds) & set(self.evaluation_seeds))
        if both:
            raise ConfigError(
                "StudySettings.evaluation_seeds must have no seed of StudySettings.search_seeds, "
                f"got {both[0]} in both"
            )
        if not self.environments or not self.evaluation_seeds:
            empty = "evaluation_seeds" if self.environments else "environments"
            raise ConfigError(f"StudySettings.{empty} must not be empty")
        if not self.environment_flags and len(self.environments) > 1:
            raise ConfigError(
                "StudySettings.environments must have one name where "
                "StudySettings.environment_flags is empty"
            )

        if self.teacher is not None and self.teacher not in self.baselines:
            raise ConfigError(
                "StudySettings.teacher must be one of StudySettings.baselines, "
                f"{', '.join(self.baselines)}, got {self.teacher!r}"
            )

    def plain(self) -> dict[str, Any]:
        """The settings as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


GROWING = (
    "environments",
    "search_seeds",
    "evaluation_seeds",
    "random_cells",
    "baselines",
    "uniform_alpha",
    "methods",
    "variants",
)
"""Settings that may grow while a study has trials: what there is stays as it is."""


def changed_setting(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first setting whose change would make trials other than they are, with both values.

    Args:
      old: settings of a study, as `StudySettings.plain` has them. One that is missing, because an
        earlier version did not know it, has its default.
      new: those it is started with.

    Returns:
      None if there is none: all are equal, or have grown (`GROWING`).
    """
    known = {**json.loads(json.dumps(defaults(StudySettings))), **old}
    for name, before in known.items():
        after = new.get(name)
        if before != after and not (name in GROWING and _grown(before, after)):
            return f"StudySettings.{name}: {before!r} -> {after!r}"
    return None


def _grown(before: Any, after: Any) -> bool:
    if isinstance(before, list) and isinstance(after, list):
        return all(value in after for value in before)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return all(after.get(name) == value for name, value in before.items())
    return isinstance(before, int) and isinstance(after, int) and after > before
