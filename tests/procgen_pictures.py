"""Procgen's pictures, loaded when this is imported: over a second for each forked process."""

from rldarts_tf.envs.procgen.batch import ProcgenEnvironment

ProcgenEnvironment("maze", 1, seed=0).close()
