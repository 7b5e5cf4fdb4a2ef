"""The command line of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from absl import flags

from rldarts_tf.launch.stages import STAGES
from rldarts_tf.user_modules import IMPORT_HELP

if TYPE_CHECKING:
    from rldarts_tf.launch.experiment import Experiment

# absl then counts them as the launcher's own, which --help shows.
flags.disclaim_key_flags()


def define(experiment: Experiment, values: flags.FlagValues = flags.FLAGS) -> flags.FlagValues:
    """Defines the flags of an experiment; returns their values, which may be read once parsed.

    Args:
      experiment: its suite adds flags of its own.
      values: where they are defined.
    """
    flags.DEFINE_string(
        "root_dir",
        None,
        "Run directory; made if missing. A run that is started again on the same directory "
        "continues from its last checkpoint. By default runs/<launcher>-<game or task>-<seed>.",
        values,
    )
    flags.DEFINE_multi_string(
        "gin_file",
        [],
        "Settings file, looked up in gin/ or by path. May be repeated; later files override.",
        values,
    )
    flags.DEFINE_multi_string(
        "gin_bindings",
        [],
        "One setting, such as 'PPOSettings.num_envs = 32' or "
        "'search/EncoderSettings.depths = [8, 8, 8]'. May be repeated; overrides files.",
        values,
    )
    flags.DEFINE_multi_string("import", [], IMPORT_HELP, values)
    flags.DEFINE_integer(
        "seed", None, "Random seed. (TrainingSettings.seed; default 0)", flag_values=values
    )
    flags.DEFINE_integer(
        "num_env_steps",
        None,
        "Environment steps of each stage that trains. (TrainingSettings.num_env_steps)",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "intra_op_threads",
        0,
        "Threads that one TensorFlow op may use; 0: one per core.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_integer(
        "inter_op_threads",
        0,
        "TensorFlow ops that may run at once; 0: one per core.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_string(
        "genotype",
        None,
        "Genotype file: the cell to evaluate, instead of the one that is searched.",
        values,
    )
    flags.DEFINE_enum(
        "stage",
        "all",
        list(STAGES),
        "What to run. all: search, discretize, evaluate; before them the baseline where it is the "
        "teacher (TeacherSettings.run = 'own_baseline'). baseline: IMPALA-CNN.",
        values,
    )
    for name, (_, text) in experiment.suite.flags.items():
        flags.DEFINE_string(name, None, text, values)
    if experiment.suite.import_flag is not None:
        flags.DEFINE_alias(experiment.suite.import_flag, "import", values)
    return values


def overrides(experiment: Experiment, values: flags.FlagValues) -> list[tuple[str, Any]]:
    """The settings that flags set: (setting, value), None where the flag is not given."""
    suite = experiment.suite
    return [
        ("TrainingSettings.seed", values.seed),
        ("TrainingSettings.num_env_steps", values.num_env_steps),
        *(
            (f"{suite.settings_class.__name__}.{field}", values[name].value)
            for name, (field, _) in suite.flags.items()
        ),
    ]
