"""Does to runs what machines do, and looks at what is left.

    make faults FAULTS_FLAGS="--kills=100 --output=faults.json"

Every fault is tried on a real launcher, as a process of its own, on a tiny search. The table at
the end has how often each was tried and how often the run survived: nothing lost but the work
since the last checkpoint, a clear message, and no wrong result. The searches run on one thread with
fixed seeds, so after all kills α and θ must equal those of a search that nobody disturbed, bit by
bit. `tests/test_faults.py` runs some of them, in small counts.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

import simulators
from processes import ROOT, checkpoint_step, complete_rows, finish
from programs import (
    PPO,
    RAINBOW,
    FaultError,
    Program,
    check,
    check_ended,
    check_equal,
    check_refused,
    check_rows,
    terminate,
)


def undisturbed(folder: Path, program: Program, updates: int) -> Path:
    """A search that nobody disturbs; the others are compared with it."""
    root = folder / f"undisturbed-{Path(program.launcher.path).stem}-{updates}"
    if not root.exists():
        check_ended(program.launch(root, updates))
    return root


def killed_at_random_moments(
    folder: Path, updates: int, times: int, rng: random.Random
) -> Iterator[None]:
    """kill -9, again and again; yields after each. Then the search runs to its end."""
    # More than there will be before the last kill.
    updates = max(updates, 2 * times)
    reference = undisturbed(folder, PPO, updates)
    root = folder / "killed"
    metrics = root / "search" / "metrics.csv"
    saved = 0
    for _ in range(times):
        process = PPO.launcher.start(PPO.command(root, updates))
        known = len(complete_rows(metrics))
        # At any moment: of the start, or of one of the updates that follow.
        if rng.random() < 0.3:
            # Not later than in its second update: where starts are quick, few seconds are a run.
            moment = time.monotonic() + rng.uniform(0, 12)
            while time.monotonic() < moment and len(complete_rows(metrics)) <= known:
                time.sleep(0.005)
        else:
            deadline = time.monotonic() + 300
            target = known + rng.randint(0, 2)
            while len(complete_rows(metrics)) <= target and process.poll() is None:
                check(time.monotonic() < deadline, "no update in time")
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        ended = finish(process)
        check(ended.code == -signal.SIGKILL, f"exit code {ended.code}: {ended.err}")
        if (root / "search" / "checkpoints" / "checkpoint").exists():
            step = checkpoint_step(root / "search")
            check(step >= saved, f"the checkpoint went back from {saved} to {step}")
            saved = step
        yield
    check_ended(PPO.launch(root, updates))
    check_rows(root, PPO.update)
    check_equal(root, reference)
    alphas = [(path / "search" / "alphas.npz").read_bytes() for path in (root, reference)]
    check(alphas[0] == alphas[1], "alphas.npz is not that of an undisturbed search")


def terminated(folder: Path, updates: int, reference: Path) -> None:
    """SIGTERM saves and ends with exit code 0; the same command continues."""
    root = folder / "terminated"
    check_ended(terminate(PPO.start_and_wait(root, updates, rows=3)))
    last = complete_rows(root / "search" / "metrics.csv")[-1]
    check(checkpoint_step(root / "search") == int(last[0]), "the last update was not saved")
    check_ended(PPO.launch(root, updates))
    check_rows(root, PPO.update)
    check_equal(root, reference)


def copy_unfinished(folder: Path, reference: Path) -> Path:
    """A copy of a run to which some updates can be added."""
    root = folder / "copy"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(reference, root)
    # It says how many updates there are to be.
    (root / "config.gin").unlink()
    (root / "summary.json").unlink(missing_ok=True)
    return root


def cut_off(path: Path) -> None:
    """Half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def damaged_checkpoint(
    folder: Path, program: Program, updates: int, patterns: Collection[str], how: Callable
) -> None:
    """The damaged one is quarantined, the one before it used, and the run resumes."""
    reference = undisturbed(folder, program, updates)
    for pattern in patterns:
        root = copy_unfinished(folder, reference)
        files = (root / "search").glob(pattern)
        how(max(files, key=lambda path: path.stat().st_mtime_ns))
        ended = program.launch(root, updates + 1)
        check_ended(ended)
        told = [line for line in ended.err.splitlines() if "is quarantined" in line]
        check(len(told) == 1, f"{pattern}: {ended.err}")
        check(f"resuming from step {(updates - 1) * program.update:,}" in told[0], told[0])
        check_rows(root, program.update)


def damaged_alphas(folder: Path, reference: Path, updates: int, how: Callable) -> None:
    """The run ends with one line that names the file."""
    root = copy_unfinished(folder, reference)
    how(root / "search" / "alphas.npz")
    check_refused(PPO.launch(root, updates + 1), "alphas.npz")


def damaged_genotype(folder: Path, how: Callable) -> None:
    """The same for a genotype to be evaluated."""
    from rldarts_tf.genotype import random_genotype
    from rldarts_tf.search_space import MICRO

    path = folder / "genotype.json"
    random_genotype(MICRO, random.Random(0)).save(path)
    how(path)
    flags = PPO.command(folder / "unused", 1, "evaluate", f"--genotype={path}")
    check_refused(PPO.launcher.launch(flags), "genotype")


def full_disk(folder: Path, reference: Path, updates: int) -> None:
    """No file can grow beyond some size: one line of error, and the last checkpoint is intact."""
    root = copy_unfinished(folder, reference)
    limit = max(path.stat().st_size for path in (root / "search" / "checkpoints").iterdir()) // 2

    check_ended(PPO.launch(root, updates + 2, file_size=limit), 2, "cannot be written")
    check_ended(PPO.launch(root, updates + 2))
    check_rows(root, PPO.update)


def unwritable() -> None:
    """A directory in which nothing can be written is refused with one line."""
    check_refused(PPO.launch(Path("/proc/rldarts"), 1), "root_dir")


def diverging(folder: Path, skip: bool) -> None:
    """A loss that is not finite ends the run with one line.

    Where such steps are skipped, that is so too if nothing else is left.
    """
    more = (
        "--gin_bindings=baseline/PPOSettings.learning_rate = 1e30",
        f"--gin_bindings=baseline/PPOSettings.skip_nonfinite_updates = {skip}",
    )
    flags = PPO.command(folder / f"diverging-{skip}", 4, "baseline", *more)
    check_ended(PPO.launcher.launch(flags), 2, "diverged")


def two_processes(folder: Path) -> None:
    """The second on one directory is refused; the first goes on."""
    root = folder / "shared"
    first = PPO.start_and_wait(root, 1000, rows=1)
    try:
        second = PPO.launch(root, 1000)
        check(first.poll() is None, "the first has ended")
        check_refused(second, f"in use by process {first.pid}")
        check_ended(terminate(first))
    finally:
        first.kill()


def clock_jumps(folder: Path, updates: int, reference: Path) -> None:
    """The time of day jumps by up to a year in both directions; the search is the same."""
    root = folder / "jumping"
    environment = simulators.environment_with(
        folder,
        "import random, time\n"
        "rng, now = random.Random(0), time.time\n"
        "time.time = lambda: now() + rng.uniform(-3e7, 3e7)\n",
    )
    check_ended(terminate(PPO.start_and_wait(root, updates, rows=3, env=environment)))
    check_ended(PPO.launch(root, updates, env=environment))
    check_rows(root, PPO.update)
    check_equal(root, reference)


# --- the table ----------------------------------------------------------------------------------

CHECKPOINT = ("checkpoints/ckpt-*.index", "checkpoints/ckpt-*.data*", "checkpoints/ckpt-*.json")
REPLAY = tuple(f"checkpoints/replay/*/{part}.tfrecord" for part in ("chunks", "items", "tables"))


def run_all(
    folder: Path, kills: int, seed: int, updates: int, only: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Tries everything, or only some of it, by the names of the table.

    Returns:
      Per fault how often it was "tried" and "survived", and what went wrong ("failures").
    """
    table: dict[str, dict[str, Any]] = {}

    def attempt(name: str, act: Callable[[], Any], counts: bool = False) -> None:
        """Tries something; `counts`: it yields, or returns, how often it did so."""
        if only is not None and name not in only:
            return
        row = table.setdefault(name, {"tried": 0, "survived": 0, "failures": []})
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            result = act()
            if counts and not isinstance(result, int):
                for _ in result:
                    row["tried"] += 1
            else:
                row["tried"] += result if counts else 1
            row["survived"] = row["tried"]
        except FaultError as error:
            row["tried"] = max(row["tried"], 1)
            row["failures"].append(" ".join(str(error).split())[-500:])

    reference = undisturbed(folder, PPO, updates)
    rng = random.Random(seed)
    attempt(
        "kill -9 at a random moment",
        lambda: killed_at_random_moments(folder, updates, kills, rng),
        counts=True,
    )
    attempt("SIGTERM", lambda: terminated(folder, updates, reference))
    for how in (cut_off, flip_a_bit):
        name = how.__name__.replace("_", " ")
        trials: dict[str, Callable[[], Any]] = {
            "checkpoint": functools.partial(
                damaged_checkpoint, folder, PPO, updates, CHECKPOINT, how
            ),
            "replay": functools.partial(damaged_checkpoint, folder, RAINBOW, updates, REPLAY, how),
            "alphas.npz": functools.partial(damaged_alphas, folder, reference, updates, how),
            "genotype": functools.partial(damaged_genotype, folder, how),
        }
        for what, trial in trials.items():
            attempt(f"{what}: {name}", trial)
    attempt("full disk", lambda: full_disk(folder, reference, updates))
    attempt("directory that cannot be written", unwritable)
    for skip in (False, True):
        name = "loss that is never finite" + (", skipped" if skip else "")
        attempt(name, functools.partial(diverging, folder, skip))
    attempt("two processes on one directory", lambda: two_processes(folder))
    attempt("clock jumps", lambda: clock_jumps(folder, updates, reference))
    for name, fault in (("raises", simulators.RAISES), ("hangs", simulators.HANGS)):
        attempt(
            f"Procgen {name}",
            functools.partial(simulators.procgen, folder, updates, reference, fault),
            counts=True,
        )
    for name, how in (("dies", signal.SIGKILL), ("hangs", signal.SIGSTOP)):
        attempt(
            f"a task of DM Control {name}",
            lambda how=how: (
                simulators.dm_control_dies(folder, updates, updates // 3, how, rng) or updates // 3
            ),
            counts=True,
        )
    attempt(
        "a task of DM Control raises",
        lambda: simulators.dm_control_raises(folder, updates),
        counts=True,
    )
    return table


def main() -> int:
    """Runs everything; exit code 1 if something did not survive."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="kill -9 so often (%(default)s)")
    parser.add_argument("--updates", type=int, default=40, help="of each search (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--only", action="append", help="a name of the table; may be repeated")
    parser.add_argument("--folder", help="where the runs go (a temporary one)")
    parser.add_argument("--output", help="file for the table, as JSON")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = run_all(
            Path(folder), arguments.kills, arguments.seed, arguments.updates, arguments.only
        )
    if not table:
        parser.error("--only: no such fault")
    width = max(map(len, table))
    for name, row in table.items():
        print(f"{name:<{width}}  {row['survived']:>4} of {row['tried']:>4}")
        for failure in row["failures"]:
            print(f"{'':<{width}}  {failure}")
    if arguments.output:
        Path(arguments.output).write_text(json.dumps(table, indent=2) + "\n")
    return int(any(row["failures"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
