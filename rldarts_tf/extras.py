"""The optional parts of the package: which extra brings a module that is missing."""

from __future__ import annotations

MODULES = {
    "absl": "tf-agents",
    "acme": "acme",
    "ale_py": "gymnasium,atari",
    "cv2": "gymnasium",
    "dm_control": "dm-control",
    "dm_env": "tf-agents",
    "gin": "report",
    "gym": "procgen",
    "gymnasium": "gymnasium",
    "imageio_ffmpeg": "video",
    "jax": "acme",
    "jinja2": "report",
    "matplotlib": "report",
    "minatar": "gymnasium,minatar",
    "mujoco": "dm-control",
    "PIL": "video",
    "procgen": "procgen",
    "ray": "ray",
    "reverb": "acme",
    "rich": "report",
    "sonnet": "acme",
    "tensorboard": "report",
    "tensorflow_probability": "tf-agents",
    "tf_agents": "tf-agents",
    "tree": "tf-agents",
    "trfl": "acme",
}
"""Modules by the extra that installs them, of `setup.py`; with another one if it needs that."""


def explanation(error: ModuleNotFoundError) -> str | None:
    """Says in one line which extra brings the module that is missing; None if none does."""
    return explanation_for((error.name or "").partition(".")[0])


def explanation_of(error: BaseException) -> str | None:
    """As `explanation`, also for an error that was raised from such a one; None for others."""
    for cause in (error, error.__cause__):
        if isinstance(cause, ModuleNotFoundError):
            return explanation(cause)
    return None


def explanation_for(module: str) -> str | None:
    """Says in one line which extra brings a module; None if none does."""
    extra = MODULES.get(module)
    if extra is None:
        return None
    package = f"rldarts_tf[{extra}]"
    quoted = f"'{package}'" if "," in extra else package
    return f"{module} is not installed, which this needs; run: pip install {quoted}"
