"""Stages that are trained for an update in this process, as a launcher would leave them."""

from __future__ import annotations

import contextlib
import dataclasses
import random

import gin

from rldarts_tf.agents.registry import ALGORITHMS
from rldarts_tf.genotype import random_genotype
from rldarts_tf.runs.directory import RunDirectory
from rldarts_tf.search import SearchSettings
from rldarts_tf.search_space import get_search_space
from rldarts_tf.training.loop import Training
from rldarts_tf.training.program import StageSettings
from rldarts_tf.training.settings import TrainingSettings


def config_of(stage, *settings):
    """config.gin as a launcher writes it."""
    lines = ["import rldarts_tf.training.settings"]
    for value in settings:
        for name, field in dataclasses.asdict(value).items():
            if isinstance(field, dict):
                continue  # Settings of their own, here at their defaults.
            lines.append(f"{stage}/{type(value).__name__}.{name} = {field!r}")
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def trained_stage(root, stage, settings, encoders, suite, num_env_steps=32, search=None):
    """Trains a stage in a new run directory, without evaluations; gives its program.

    `search`: settings of a search method that are not the default ones, by name.
    """
    (algorithm,) = (a for a in ALGORITHMS.values() if isinstance(settings, a.settings))
    training = TrainingSettings(num_env_steps=num_env_steps, pictures=0, evaluation_interval=0)
    genotype = random_genotype(get_search_space(encoders.search_space), random.Random(1))
    with RunDirectory(root) as run:
        method = "".join(
            f"{stage}/SearchSettings.{name} = {v!r}\n" for name, v in (search or {}).items()
        )
        run.bind_config(config_of(stage, settings, encoders, suite.settings, training) + method)
        genotype.save(run.genotype_path)
        kind = encoders.kind(stage)
        cell = genotype if kind == "discrete" else None
        encoder = encoders.make(kind, cell, search and SearchSettings(**search))
        stage_settings = StageSettings(suite.fit(settings), suite, training)
        session = Training(run.stage(stage), stage, encoder, algorithm.program, stage_settings)
        session._evaluate = lambda number: {}
        try:
            session.run()
            yield session.program
        finally:
            session.close()
            gin.clear_config()
