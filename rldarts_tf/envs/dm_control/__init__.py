"""The DM Control Suite from pixels: one task, a crash-safe batch, and a suite."""

from rldarts_tf.envs.lazy import lazy

_MODULES = {
    "DMControl": "environment",
    "DMControlBatch": "batch",
    "DMControlSettings": "settings",
    "DMControlSuite": "suite",
}
__all__ = list(_MODULES)
__getattr__ = lazy(__name__, _MODULES)
