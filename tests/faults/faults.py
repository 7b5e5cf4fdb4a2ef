"""Does to a run what machines do, and looks at what is left.

    python tests/faults/faults.py --kills=100 --output=faults.json

Every fault is tried on the real launcher, as a process of its own, on a tiny search. The table at
the end has how often each was tried and how often the run came through: nothing lost but the work
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
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

from processes import ROOT, Ended, Launcher, checkpoint_step, complete_rows, finish

PPO = Launcher("launchers/ppo_procgen.py", "rldarts_tf.agents.ppo_training")
UPDATE = 4 * 8
SETTINGS = (
    "PPOSettings.num_envs = 4",
    "PPOSettings.steps_per_update = 8",
    *(f"{scope}PPOSettings.minibatch_size = 16" for scope in ("", "search/", "evaluate/")),
    *(f"{stage}/EncoderSettings.depths = [2]" for stage in ("search", "evaluate", "baseline")),
    "EncoderSettings.features = 16",
    "TrainingSettings.checkpoint_minutes = 0",
    "TrainingSettings.evaluation_interval = 0",
    "TrainingSettings.final_evaluation_episodes = 1",
    "TrainingSettings.pictures = 1",
)


class FaultError(AssertionError):
    """A run did not come through."""


def check(condition: Any, message: str) -> None:
    """Raises a FaultError unless the condition holds."""
    if not condition:
        raise FaultError(message)


def flags(root: Path, updates: int, stage: str = "search", *more: str) -> list[str]:
    """A tiny run on one thread."""
    return [
        "--gin_file=classic.gin",
        "--gin_file=hardware/cpu.gin",
        "--gin_file=spaces/micro.gin",
        f"--root_dir={root}",
        "--env_name=bossfight",
        f"--num_env_steps={updates * UPDATE}",
        f"--stage={stage}",
        "--intra_op_threads=1",
        "--inter_op_threads=1",
        *(f"--gin_bindings={setting}" for setting in SETTINGS),
        *more,
    ]


def weights(root: Path, stage: str = "search") -> dict[str, bytes]:
    """The content of the newest checkpoint but for times, by name."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(root / stage / "checkpoints")))
    # Not what counts the saves, and not the arrays of the program, which hold the seconds it took.
    other = ("_CHECKPOINTABLE", "program", "save_counter")
    return {
        name: bytes(reader.get_tensor(name))
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(other)
    }


def assert_sound(root: Path, stage: str = "search") -> None:
    """No row is missing or there twice, and the logs end with the checkpoint or after it."""
    steps = [int(row[0]) for row in complete_rows(root / stage / "metrics.csv")]
    expected = list(range(UPDATE, UPDATE * (len(steps) + 1), UPDATE))
    check(steps == expected, f"rows of metrics.csv: {steps}")


# --- the faults ---------------------------------------------------------------------------------


def undisturbed(folder: Path, updates: int) -> Path:
    """A search that nobody disturbs; the others are compared with it."""
    root = folder / "undisturbed"
    ended = PPO.launch(flags(root, updates))
    check(ended.code == 0, ended.err)
    return root


def kill_at_random_moments(
    folder: Path, times: int, reference: Path, updates: int, rng: random.Random
) -> Iterator[None]:
    """kill -9, again and again, until the search ends; yields after each."""
    root = folder / "killed"
    metrics = root / "search" / "metrics.csv"
    saved = 0
    for _ in range(times):
        process = PPO.start(flags(root, updates))
        known = len(complete_rows(metrics))
        # At any moment: of the start, or of one of the updates that follow.
        if rng.random() < 0.3:
            time.sleep(rng.uniform(0, 12))
        else:
            deadline = time.monotonic() + 300
            target = known + rng.randint(0, 2)
            while len(complete_rows(metrics)) <= target and process.poll() is None:
                check(time.monotonic() < deadline, "no update in time")
                time.sleep(0.005)
            time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        ended = finish(process)
        check(ended.code in (-signal.SIGKILL, 0), f"exit code {ended.code}: {ended.err}")
        if (root / "search" / "checkpoints" / "checkpoint").exists():
            step = checkpoint_step(root / "search")
            check(step >= saved, f"the checkpoint went back from {saved} to {step}")
            saved = step
        yield
    ended = PPO.launch(flags(root, updates))
    check(ended.code == 0, ended.err)
    assert_sound(root)
    check(weights(root) == weights(reference), "the weights are not those of an undisturbed search")
    alphas = [(path / "search" / "alphas.npz").read_bytes() for path in (root, reference)]
    check(alphas[0] == alphas[1], "alphas.npz is not that of an undisturbed search")


def terminate(folder: Path, updates: int, reference: Path) -> None:
    """SIGTERM saves and ends with exit code 0; the same command continues."""
    root = folder / "terminated"
    stopped = PPO.stop(root, flags(root, updates), signal.SIGTERM)
    check(stopped.ended.code == 0, stopped.ended.err)
    check(stopped.checkpoint == int(stopped.metrics[-1][0]), "the last update was not saved")
    ended = PPO.launch(flags(root, updates))
    check(ended.code == 0, ended.err)
    assert_sound(root)
    check(weights(root) == weights(reference), "the weights are not those of an undisturbed search")


def damage(
    folder: Path, reference: Path, updates: int, pattern: str, how: Callable[[Path], None]
) -> Ended:
    """Damages a file of a copy of a run that is not at its end, and goes on with it."""
    root = folder / "damaged"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(reference, root)
    # One update more: there is something left to do.
    (root / "config.gin").unlink()
    (root / "summary.json").unlink(missing_ok=True)
    target = sorted((root / "search").glob(pattern))[-1]
    how(target)
    return PPO.launch(flags(root, updates + 1))


def cut_off(path: Path) -> None:
    """Half of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path: Path) -> None:
    """One bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def damaged_checkpoint(folder: Path, reference: Path, updates: int, how: Callable) -> None:
    """The damaged one is set aside, the one before it used, and the end is the same."""
    for pattern in (
        "checkpoints/ckpt-*.index",
        "checkpoints/ckpt-*.data*",
        "checkpoints/ckpt-*.json",
    ):
        ended = damage(folder, reference, updates, pattern, how)
        check(ended.code == 0, ended.err)
        told = [line for line in ended.err.splitlines() if "is set aside" in line]
        check(len(told) == 1, f"{pattern}: {ended.err}")
        check(f"going on from step {(updates - 1) * UPDATE:,}" in told[0], told[0])
        assert_sound(folder / "damaged")


def damaged_alphas(folder: Path, reference: Path, updates: int, how: Callable) -> None:
    """The run ends with one line that names the file, and changes nothing."""
    ended = damage(folder, reference, updates, "alphas.npz", how)
    check(ended.code == 2 and "alphas.npz" in ended.err, f"{ended.code}: {ended.err}")
    check(ended.err.count("\n") == 1, ended.err)


def damaged_genotype(folder: Path, how: Callable) -> None:
    """The same for a genotype to be evaluated."""
    from rldarts_tf.genotype import random_genotype
    from rldarts_tf.search_space import MICRO

    path = folder / "genotype.json"
    random_genotype(MICRO, random.Random(0)).save(path)
    how(path)
    ended = PPO.launch(flags(folder / "unused", 1, "evaluate", f"--genotype={path}"))
    check(ended.code == 2 and "genotype" in ended.err, f"{ended.code}: {ended.err}")
    check(ended.err.count("\n") == 1, ended.err)


def full_disk(folder: Path, reference: Path, updates: int) -> None:
    """No file can grow beyond some size: one line of error, and the last checkpoint is intact."""
    root = folder / "full"
    shutil.copytree(reference, root)
    (root / "config.gin").unlink()
    (root / "summary.json").unlink()
    limit = max(path.stat().st_size for path in (root / "search" / "checkpoints").iterdir()) // 2

    def no_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    ended = finish(PPO.start(flags(root, updates + 2), preexec_fn=no_room))
    check(ended.code == 2, f"{ended.code}: {ended.err}")
    check("cannot be written" in ended.err.splitlines()[-1], ended.err)
    again = PPO.launch(flags(root, updates + 2))
    check(again.code == 0, again.err)
    assert_sound(root)


def unwritable() -> None:
    """A directory in which nothing can be written is refused with one line."""
    ended = PPO.launch(flags(Path("/proc/rldarts"), 1))
    check(ended.code == 2 and "root_dir" in ended.err, f"{ended.code}: {ended.err}")
    check(ended.err.count("\n") == 1, ended.err)


def diverging(folder: Path, skip: bool) -> None:
    """A loss that is not finite ends the run with one line.

    Where such steps are skipped, that is so too if nothing else is left.
    """
    more = (
        "--gin_bindings=baseline/PPOSettings.learning_rate = 1e30",
        f"--gin_bindings=baseline/PPOSettings.skip_nonfinite_updates = {skip}",
    )
    ended = PPO.launch(flags(folder / f"diverging-{skip}", 4, "baseline", *more))
    check(ended.code == 2, f"{ended.code}: {ended.err}")
    check("diverged" in ended.err.splitlines()[-1], ended.err)


def two_processes(folder: Path) -> None:
    """The second on one directory is refused; the first goes on."""
    root = folder / "shared"
    first = PPO.start(flags(root, 1000, "baseline"))
    deadline = time.monotonic() + 300
    while not (root / "config.gin").exists():
        check(time.monotonic() < deadline and first.poll() is None, "the first did not start")
        time.sleep(0.05)
    second = PPO.launch(flags(root, 1000, "baseline"))
    check(first.poll() is None, "the first has ended")
    first.send_signal(signal.SIGTERM)
    check(finish(first).code == 0, "the first did not end well")
    check(second.code == 2 and f"in use by process {first.pid}" in second.err, second.err)


def clock_jumps(folder: Path, updates: int, reference: Path) -> None:
    """The time of day jumps by up to a year in both directions; the search is the same."""
    root, site = folder / "jumping", folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import random, time\n"
        "rng, now = random.Random(0), time.time\n"
        "time.time = lambda: now() + rng.uniform(-3e7, 3e7)\n"
    )
    environment = {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
    stopped = PPO.stop(root, flags(root, updates), signal.SIGTERM, env=environment)
    check(stopped.ended.code == 0, stopped.ended.err)
    ended = finish(PPO.start(flags(root, updates), env=environment))
    check(ended.code == 0, ended.err)
    assert_sound(root)
    check(weights(root) == weights(reference), "the weights are not those of an undisturbed search")


# --- the table ----------------------------------------------------------------------------------


def run_all(
    folder: Path, kills: int, seed: int, updates: int, only: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Tries everything, or only some of it, by the names of the table.

    Returns:
      Per fault how often it was "tried" and "survived", and what went wrong ("failures").
    """
    table: dict[str, dict[str, Any]] = {}

    def attempt(name: str, act: Callable[[], Any], count: bool = False) -> Any:
        if only is not None and name not in only:
            return None
        row = table.setdefault(name, {"tried": 0, "survived": 0, "failures": []})
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            if count:
                for _ in act():
                    row["tried"] += 1
                    row["survived"] += 1
                return None
            row["tried"] += 1
            result = act()
            row["survived"] += 1
            return result
        except FaultError as error:
            row["failures"].append(" ".join(str(error).split())[-500:])
            row["survived"] -= count
            return None

    reference = undisturbed(folder, updates)
    rng = random.Random(seed)
    attempt(
        "kill -9 at a random moment",
        lambda: kill_at_random_moments(folder, kills, reference, updates, rng),
        count=True,
    )
    attempt("SIGTERM", lambda: terminate(folder, updates, reference))
    for how in (cut_off, flip_a_bit):
        name = how.__name__.replace("_", " ")
        for what, act in (("checkpoint", damaged_checkpoint), ("alphas.npz", damaged_alphas)):
            attempt(f"{what}: {name}", functools.partial(act, folder, reference, updates, how))
        attempt(f"genotype: {name}", functools.partial(damaged_genotype, folder, how))
    attempt("full disk", lambda: full_disk(folder, reference, updates))
    attempt("directory that cannot be written", unwritable)
    for skip in (False, True):
        name = "loss that is never finite" + (", skipped" if skip else "")
        attempt(name, functools.partial(diverging, folder, skip))
    attempt("two processes on one directory", lambda: two_processes(folder))
    attempt("clock jumps", lambda: clock_jumps(folder, updates, reference))
    return table


def main() -> int:
    """Runs everything; exit code 1 if something did not come through."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="kill -9 so often (%(default)s)")
    parser.add_argument("--updates", type=int, default=40, help="of the search (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--folder", help="where the runs go (a temporary one)")
    parser.add_argument("--output", help="file for the table, as JSON")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        table = run_all(Path(folder), arguments.kills, arguments.seed, arguments.updates)
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
