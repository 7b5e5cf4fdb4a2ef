"""Selects a renderer for MuJoCo without a display, and lets any thread draw.

MuJoCo and dm_control read the environment variable MUJOCO_GL once, when they are imported, and fail
then or at the first frame if that renderer does not work. Here it is tried beforehand, in a process
of its own, so that the caller imports neither of them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from rldarts_tf.errors import ConfigError, one_line

RENDERERS = ("egl", "osmesa")
"""Renderers to try, in this order. EGL uses a GPU where there is one."""

# A context, and MuJoCo's resources in it: what a first frame needs.
_PROBE = """
import mujoco
window = mujoco.GLContext(8, 8)
window.make_current()
model = mujoco.MjModel.from_xml_string("<mujoco/>")
resources = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
resources.free()
window.free()
"""
_PROBE_SECONDS = 60
_NONE = "disabled"

# Found in this process: the renderer that works, or why there is none.
_working: str | None = None
_failure: str | None = None

# Whether one thread draws everything in this process.
_one_thread = False


def choose_renderer() -> str:
    """Sets MUJOCO_GL to a renderer that works, unless it is set to one, and returns it.

    PYOPENGL_PLATFORM is set along with it: dm_control refuses to load where the two differ.

    The first call takes about a second for each renderer that it tries; the answer is kept.

    Raises:
      ConfigError: if MUJOCO_GL is set and does not work, or is not set and nothing works.
    """
    global _failure
    chosen = os.environ.get("MUJOCO_GL")
    if chosen and chosen == _working:
        return chosen
    if _failure is not None and chosen in (None, "", _NONE):
        raise ConfigError(_failure)
    if chosen:
        complaint = probe(chosen)
        if complaint is not None:
            raise ConfigError(
                f"MUJOCO_GL: {chosen!r} does not work here ({complaint}); "
                "unset it, and egl or osmesa is chosen"
            )
        return _take(chosen)
    complaints = []
    for renderer in RENDERERS:
        complaint = probe(renderer)
        if complaint is None:
            return _take(renderer)
        complaints.append(f"{renderer}: {complaint}")
    _failure = (
        f"MUJOCO_GL: nothing to draw with ({'; '.join(complaints)}); "
        "run: apt-get install libegl1 libopengl0 libgl1-mesa-dri (EGL), or libosmesa6 (OSMesa)"
    )
    raise ConfigError(_failure)


def choose_renderer_if_any() -> str | None:
    """As `choose_renderer`, for programs that do not draw: None if there is no renderer.

    dm_control is then told to do without, for by itself it may fail on import.

    Raises:
      ConfigError: if MUJOCO_GL is set by the user and does not work.
    """
    if os.environ.get("MUJOCO_GL"):
        return os.environ["MUJOCO_GL"]
    try:
        return choose_renderer()
    except ConfigError:
        os.environ["MUJOCO_GL"] = _NONE
        return None


def trust_renderer() -> None:
    """Takes MUJOCO_GL as it is: the process that set it has tried it."""
    global _working
    _working = os.environ.get("MUJOCO_GL")


def keep_contexts() -> None:
    """Says that one thread alone draws in this process, so that `release` need do nothing."""
    global _one_thread
    _one_thread = True


def release(context: Any) -> None:
    """Lets go of an OpenGL context, in the thread that has drawn with it; any may take it up next.

    EGL allows a context to be current in one thread only. dm_control leaves it current in the first
    one that draws, and refuses all others (its issue 63). To take a context up again costs a drawn
    frame of 64 x 64 one or two percent, which `keep_contexts` saves. Nothing is to be done for the
    other renderers: dm_control draws with them in a thread of its own.

    Args:
      context: of dm_control, `physics.contexts.gl`.
    """
    from dm_control import _render

    if _one_thread or _render.BACKEND != "egl":
        return
    from dm_control._render import base
    from dm_control._render.pyopengl import egl_renderer as renderer

    # What dm_control keeps account of, so that it does not take the context to be current.
    thread = base._CURRENT_THREAD_FOR_CONTEXT.pop(id(context), None)
    base._CURRENT_CONTEXT_FOR_THREAD.pop(thread, None)
    egl = renderer.EGL
    nothing = (egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT)
    egl.eglMakeCurrent(renderer.EGL_DISPLAY, *nothing)


def probe(renderer: str) -> str | None:
    """Draws with a renderer in a process of its own.

    Args:
      renderer: a value of MUJOCO_GL.

    Returns:
      What went wrong, as one line, or None.
    """
    environment = {**os.environ, **_variables(renderer)}
    try:
        ended = subprocess.run(
            [sys.executable, "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_PROBE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {_PROBE_SECONDS} s"
    except OSError as error:
        return str(error)
    return None if ended.returncode == 0 else _complaint(ended)


def _take(renderer: str) -> str:
    """Remembers the renderer, here and for the processes that are started from here."""
    global _working
    os.environ.update(_variables(renderer))
    _working = renderer
    return renderer


def _variables(renderer: str) -> dict[str, str]:
    """The variables of the environment that choose a renderer."""
    if renderer in RENDERERS:
        return {"MUJOCO_GL": renderer, "PYOPENGL_PLATFORM": renderer}
    return {"MUJOCO_GL": renderer}


def _complaint(ended: subprocess.CompletedProcess[bytes]) -> str:
    """The first exception that a process reported, or how it ended."""
    for line in ended.stderr.decode("utf-8", "replace").splitlines():
        name, colon, _ = line.partition(":")
        if colon and name.endswith("Error") and not name.startswith(" "):
            return one_line(line, 120)
    return f"exit code {ended.returncode}"
