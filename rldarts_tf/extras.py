"""The optional parts of the package: which extra brings a module that is missing."""

from __future__ import annotations

MODULES = {
    "absl": "tf-agents",
    "acme": "acme",
    "ale_py": "atari",
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
    "minatar": "minatar",
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
"""Modules by the extra that installs them, of `setup.py`."""


def explanation(error: ModuleNotFoundError) -> str | None:
    """Says in one line which extra brings the module that is missing; None if none does."""
    module = (error.name or "").partition(".")[0]
    extra = MODULES.get(module)
    if extra is None:
        return None
    return f"{module} is not installed, which this needs; run: pip install rldarts_tf[{extra}]"
