"""Imports gym without its deprecation notice."""

from __future__ import annotations


def import_gym_quietly() -> None:
    """Imports gym, if it is installed, and keeps it from writing its notice to stderr.

    TF-Agents and Procgen both import gym, and neither needs the user to act on the notice. Gym
    looks it up in the table of the package gym_notices; while that is empty there is nothing to
    print.
    """
    try:
        from gym_notices import notices
    except ImportError:  # A gym from before the notices, or none.
        return
    table = dict(notices.notices)
    notices.notices.clear()
    try:
        import gym  # noqa: F401
    except ImportError:
        pass
    finally:
        notices.notices.update(table)
