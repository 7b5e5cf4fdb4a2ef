"""Readers of files that anybody may have written, sound files for them, and what to watch.

For the tests of hostile files (hypothesis) and the coverage-guided fuzzer (fuzz/fuzz.py).
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gin.config_parser  # noqa: F401  (imported late by a reader, it executes what it generates)
import numpy as np

from rldarts_tf.errors import RLDartsError
from rldarts_tf.genotype import Genotype, random_genotype
from rldarts_tf.runs import manifest
from rldarts_tf.runs.alpha_history import read_alphas
from rldarts_tf.runs.configs import read_search_space, read_settings
from rldarts_tf.runs.contribution_history import read_contributions
from rldarts_tf.runs.metrics import read_metrics
from rldarts_tf.runs.search_log import AlphaLog, ContributionLog, read_genotypes
from rldarts_tf.runs.summary import read_summary
from rldarts_tf.search_space import CLASSIC, MICRO, SearchSpace


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def alphas(folder: Path) -> bytes:
    log = AlphaLog(folder / "valid", {"normal": MICRO.ops("normal")}, 3)
    log.record(0, {"normal": np.full((3, 5), 0.2)})
    log.flush()
    return (folder / "valid").read_bytes()


def shares(folder: Path) -> bytes:
    log = ContributionLog(folder / "valid", {"normal": MICRO.ops("normal")}, 3)
    log.record(0, {"normal": np.full((3, 5), 0.2)})
    log.flush()
    return (folder / "valid").read_bytes()


GENOTYPE = random_genotype(CLASSIC, random.Random(0))
# Of a space that no program registers, so that its whole definition may change.
OWN_GENOTYPE = random_genotype(
    SearchSpace("hostile", ("gate", "relu"), ("pool",), num_reduction=1), random.Random(0)
)
VERSION_1 = {**GENOTYPE.to_dict(), "format_version": 1, "search_space": "classic"}
ENTRY = json.dumps({"step": 3, "genotype": GENOTYPE.to_dict()})
CONFIG = b"""search/EncoderSettings.depths = [1, 2]
EncoderSettings.features = %x
EncoderSettings.search_space = 'hostile'
SearchSpace.name = 'hostile'
SearchSpace.normal_ops = ('gate', 'relu')
search/SearchSpace.num_nodes = 3
"""
# What reads a file, and the content of a sound one.
READERS = {
    "genotype.json": (Genotype.load, lambda folder: GENOTYPE.to_json().encode()),
    "own_genotype.json": (Genotype.load, lambda folder: OWN_GENOTYPE.to_json().encode()),
    "old_genotype.json": (Genotype.load, lambda folder: json.dumps(VERSION_1).encode()),
    "alphas.npz": (read_alphas, alphas),
    "contributions.npz": (read_contributions, shares),
    "genotypes.jsonl": (read_genotypes, lambda folder: f"{ENTRY}\n{ENTRY}\n".encode()),
    "metrics.csv": (read_metrics, lambda folder: b"step,wall_time,loss\n1,0.5,2.5\n2,1,\n3,2,1\n"),
    "summary.json": (
        read_summary,
        lambda folder: b'{"stages": {"search": {"env_steps": 3}}, "versions": {}}',
    ),
    "ckpt-1.json": (manifest.read, lambda folder: b'{"sha256": {"ckpt-1.index": [3, "ab"]}}'),
    "config.gin": (
        lambda path: (read_settings(path, "search"), read_search_space(path)),
        lambda folder: CONFIG,
    ),
}
# Pieces that mean something to one reader or another.
PIECES = (
    b"", b"\x00", b"\xff\xfe", b"\n", b",", b'"', b"[" * 3000, b"{", b"1e999", b"NaN", b"-1",
    b"9" * 30, b"9" * 5000, b"null", b"true", b"@f()", b"import os\n", b"include '/etc/passwd'\n",
    b"PK\x05\x06", b"\x93NUMPY\x01\x00", b"(99999999999,)", b"|O", b"\x80\x04", b"a" * 140_000,
)  # fmt: skip


def read(name: str, folder: Path, content: bytes) -> Any:
    """Reads content as a file of this name; an error must be one line of the package's own.

    Raises:
      AssertionError: it is not, or something was executed.
    """
    path = folder / name
    path.write_bytes(content)
    try:
        with nothing_executed():
            return READERS[name][0](path)
    except RLDartsError as error:
        assert "\n" not in str(error) and len(str(error)) < 2000
        return error


class ExecutedError(AssertionError):
    """A reader did something that reading a file needs not."""


# What runs code, starts processes, talks to others or unpickles (Python's table of audit events).
_FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn",
    "subprocess.Popen", "socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "shutil.rmtree",
)  # fmt: skip
_LIBRARIES = (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "<frozen ")
_watching = False
_seen: list[str] = []


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event == "exec":
        # An installed module that is imported late, such as an encoding, is no harm.
        file = getattr(arguments[0], "co_filename", "")
        forbidden = not file.startswith(_LIBRARIES)
    else:
        forbidden = event in _FORBIDDEN
    if forbidden:
        _seen.append(f"{event}{arguments!r:.200}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def nothing_executed() -> Iterator[None]:
    """Raises an ExecutedError if what happens inside runs code or changes files."""
    global _watching
    _watching = True
    try:
        yield
    finally:
        _watching = False
    if _seen:
        events = "; ".join(_seen)
        _seen.clear()
        raise ExecutedError(events)
