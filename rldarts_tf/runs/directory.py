"""The run directory of the process that writes: its lock, and the settings it is bound to."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path

from typing_extensions import override

from rldarts_tf.closing import Closing
from rldarts_tf.errors import RunError
from rldarts_tf.files import TEMPORARY_SUFFIX, PathLike, reason, write_text
from rldarts_tf.runs import changes
from rldarts_tf.runs.configs import canonical_settings, read_config
from rldarts_tf.runs.paths import TRAINED_STAGES, RunPaths

# Errors of file systems that know no locks (some network mounts).
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class RunDirectory(RunPaths, Closing):
    """A directory that this process alone writes to, until `close` or its end.

    The lock is the kernel's (`flock` on `lock_path`), so it vanishes with the process however
    that ends. Nothing else is created before something is written.
    """

    def __init__(self, root_dir: PathLike) -> None:
        """Creates the root if it is missing, tries to write there, and locks it.

        Args:
          root_dir: a local directory; `~` is expanded.

        Raises:
          RunError: the directory cannot be made or written, or another process uses it.
        """
        text = os.fspath(root_dir)
        if not text:
            raise RunError("root_dir is empty: name a directory for the run")
        if "://" in text:
            raise RunError(f"root_dir {text!r} is not a local directory")
        super().__init__(Path(os.path.abspath(os.path.expanduser(text))))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise RunError(f"root_dir {text!r} is a file, not a directory") from error
        except OSError as error:
            raise RunError(f"root_dir {text!r} cannot be created: {reason(error)}") from error
        try:
            # Permission bits do not tell (root, read-only mounts, quotas): only a real file does.
            probe = self.root / f".{os.getpid()}{TEMPORARY_SUFFIX}"
            probe.write_bytes(b"?")
            probe.unlink()
            locked = self._lock(text)
        except OSError as error:
            raise RunError(f"root_dir {text!r} is not writable: {reason(error)}") from error
        if locked:
            self._remove_leftovers()

    def bind_config(self, text: str, defaults: Mapping[str, str] | None = None) -> None:
        """Binds the directory to a configuration, so that a run resumes only with its own settings.

        The first call writes `text` to config.gin. Later calls, also of later processes, compare:
        settings are equal when gin reads equal values, so comments, blank lines, line breaks, the
        order of settings and `5e-4` for `0.0005` do not matter. Imports are not compared: they
        only make names known. An `Algorithm.name` that config.gin lacks, as those of earlier
        versions do, is no difference.

        What leaves everything done so far as it was is accepted: settings of a stage that has not
        begun, and those of `runs.changes`. changes.jsonl records it with the steps from which on it
        holds, and config.gin becomes the new configuration.

        Args:
          text: a configuration in gin's syntax, as `gin.config_str()` writes it.
          defaults: see `changes.differences`.

        Raises:
          RunError: a setting differs (the first one is named, old -> new), or a text is not gin.
              Nothing has been changed then.
        """
        new = canonical_settings(text, "the configuration")
        if not self.config_path.exists():
            write_text(self.config_path, text)
            return
        old_text = read_config(self.config_path)
        old = canonical_settings(old_text, repr(str(self.config_path)))
        found = changes.differences(old, new, defaults)
        steps = {stage: self.stage(stage).newest_step() for stage in TRAINED_STAGES}
        begun = {stage: step for stage, step in steps.items() if step is not None}
        refused = [change for change in found if not changes.is_harmless(change, begun)]
        if refused:
            change = changes.as_given(refused[0], found)
            # A configuration is complete: what only one of the two has, the other's version does
            # not know.
            kind = "version" if changes.NOT_SET in (change.old, change.new) else "setting"
            before, after = _shorten(change.old, change.new)
            raise RunError(
                f"root_dir {str(self.root)!r} holds a run with other settings: "
                f"{change.name}: {before} -> {after}; use another root_dir or the old {kind}"
            )
        if found:
            changes.record(self.changes_path, found, begun)
            write_text(self.config_path, text)

    @override
    def close(self) -> None:
        """Releases the lock; a second call does nothing."""
        self._finalizer()

    def _lock(self, text: str) -> bool:
        """Takes the lock; False where the file system has none."""
        descriptor = os.open(self.lock_path, os.O_RDWR | os.O_CREAT, 0o666)
        # Set before anything can fail, so that no path leaks the descriptor.
        self._finalizer = weakref.finalize(self, _close_descriptor, descriptor, os.getpid())
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _NO_LOCKS:
                warnings.warn(
                    f"root_dir {text!r}: this file system has no locks; "
                    "do not start a second run here",
                    RuntimeWarning,
                    stacklevel=3,
                )
                return False
            elif isinstance(error, BlockingIOError):
                owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                self._finalizer()
                by = f"process {owner}" if owner.isdigit() else "another process"
                raise RunError(f"root_dir {text!r} is in use by {by}") from None
            else:
                self._finalizer()
                raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        _OPEN_DESCRIPTORS.add(descriptor)
        return True

    def _remove_leftovers(self) -> None:
        # Safe: while the lock is held, nobody else is in the middle of writing here.
        for folder in [self.root, *(p for p in self.root.iterdir() if p.is_dir())]:
            for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
                with contextlib.suppress(OSError):
                    leftover.unlink()


_OPEN_DESCRIPTORS: set[int] = set()


def _close_descriptor(descriptor: int, owner: int) -> None:
    # After a fork the child has closed its copy already; the number may be another file's by then.
    if os.getpid() == owner:
        _OPEN_DESCRIPTORS.discard(descriptor)
        os.close(descriptor)


def _forget_locks_after_fork() -> None:
    # A forked worker shares the lock; if it outlived a killed run, the directory would stay locked.
    while _OPEN_DESCRIPTORS:
        os.close(_OPEN_DESCRIPTORS.pop())


os.register_at_fork(after_in_child=_forget_locks_after_fork)


def _shorten(before: str, after: str, limit: int = 70) -> tuple[str, str]:
    """Cuts two differing texts to about `limit` characters around their first difference."""
    common = next(
        (k for k, (a, b) in enumerate(zip(before, after)) if a != b), min(len(before), len(after))
    )
    start = 0 if common < limit // 2 else common - limit // 4

    def cut(value: str) -> str:
        piece = value[start : start + limit]
        return ("..." if start else "") + piece + ("..." if start + limit < len(value) else "")

    return cut(before), cut(after)
