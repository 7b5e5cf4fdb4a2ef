"""The gin files and launchers that come with the package, in a checkout or installed."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def shipped_folder(name: str) -> Path:
    """The folder `gin` or `launchers`.

    Both stand beside the package in a checkout, and inside it where it is installed (setup.py).
    """
    installed = PACKAGE / name
    return installed if installed.is_dir() else PACKAGE.parent / name


def launcher_names() -> list[str]:
    """The names of the launchers that state one experiment: all but that of studies."""
    names = {path.stem for path in shipped_folder("launchers").glob("*.py")}
    return sorted(names - {"study"})
