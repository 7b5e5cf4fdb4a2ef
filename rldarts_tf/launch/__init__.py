"""From a command line to the stages of a run.

    EXPERIMENT = launch.Experiment(
        name="ppo_procgen", gin="classic.gin", program=PPOProgram, suite=ProcgenSuite
    )

    if __name__ == "__main__":
        launch.main(EXPERIMENT)

Import it before TensorFlow, for `rldarts_tf.tensorflow_environment`.
"""

import rldarts_tf.tensorflow_environment  # noqa: F401 - for its effect
from rldarts_tf.errors import shorten_tracebacks

# Before the imports, which take seconds.
shorten_tracebacks()

from rldarts_tf.launch.experiment import Experiment, main  # noqa: E402 - see above

__all__ = ["Experiment", "main"]
