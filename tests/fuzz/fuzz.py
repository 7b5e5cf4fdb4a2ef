"""Coverage-guided fuzzing of what reads files that anybody may have written.

    make fuzz FUZZ_FLAGS="--seconds=600 --output=fuzz.json"

Each reader gets a process of its own, in which libFuzzer (through Atheris) changes sound files so
that ever more of the reader's code is reached. What is read must be read, or refused with one line
of the package's own; nothing may be executed, memory stays below a bound, and no input takes long.
An input that breaks this is kept in the output folder, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

MEMORY_MB = 1024
INPUT_SECONDS = 10
MAX_BYTES = 1 << 16


def fuzz_one(name: str, folder: Path, options: list[str]) -> None:
    """Runs in the process of one reader; does not return."""
    import atheris

    # What is imported here is instrumented: the package, and what parses for it.
    with atheris.instrument_imports(
        include=["rldarts_tf", "json", "zipfile", "csv", "ast", "gin", "numpy.lib.format"]
    ):
        import hostile

    def one_input(content: bytes) -> None:
        hostile.read(name, folder, content)

    hostile.read(name, folder, hostile.READERS[name][1](folder))
    atheris.Setup([sys.argv[0], *options], one_input)
    atheris.Fuzz()


def run(name: str, seconds: int, folder: Path, findings: Path) -> dict[str, Any]:
    """Fuzzes one reader; returns counts, and the last lines if something was found."""
    import hostile

    corpus, work = folder / "corpus", folder / "work"
    corpus.mkdir(parents=True)
    work.mkdir()
    (corpus / "sound").write_bytes(hostile.READERS[name][1](work))
    words = folder / "words"
    words.write_text(
        "".join(
            '"' + "".join(f"\\x{byte:02x}" for byte in piece) + '"\n'
            for piece in hostile.PIECES
            if 0 < len(piece) <= 64
        )
    )
    findings.mkdir(parents=True, exist_ok=True)
    options = [
        str(corpus),
        f"-dict={words}",
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={INPUT_SECONDS}",
        f"-max_len={MAX_BYTES}",
        f"-artifact_prefix={findings}/{name}-",
        "-print_final_stats=1",
        "-seed=1",
    ]
    ended = subprocess.run(
        [sys.executable, str(HERE), f"--reader={name}", f"--folder={work}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    counts = dict(re.findall(r"stat::(\w+): +(\d+)", ended.stdout))
    reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", ended.stdout)
    if not counts or not reached:
        sys.exit(f"error: the fuzzer of {name} did not run:\n{ended.stdout[-2000:]}")
    branches, _, inputs = map(int, reached[-1])
    first = int(reached[0][0])
    return {
        "inputs_tried": int(counts["number_of_executed_units"]),
        "inputs_kept": inputs,
        "branches_at_first": first,
        "branches": branches,
        "peak_memory_mb": int(counts["peak_rss_mb"]),
        "slowest_input_seconds": int(counts["slowest_unit_time_sec"]),
        "failure": "" if ended.returncode == 0 else ended.stdout[-2000:],
    }


def main() -> int:
    """Fuzzes every reader; exit code 1 if something was found."""
    if len(sys.argv) > 2 and sys.argv[1].startswith("--reader="):
        name, folder = (argument.partition("=")[2] for argument in sys.argv[1:3])
        fuzz_one(name, Path(folder), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each reader (%(default)s)")
    parser.add_argument("--readers", help="file names, separated by commas (all)")
    parser.add_argument(
        "--findings", default="fuzz-findings", help="folder for bad inputs (%(default)s)"
    )
    parser.add_argument("--output", help="file for the table, as JSON")
    arguments = parser.parse_args()
    try:
        import atheris  # noqa: F401
    except ImportError:
        parser.error("Atheris is missing: run it as `make fuzz`, which installs it")
    import hostile

    names = arguments.readers.split(",") if arguments.readers else list(hostile.READERS)
    if unknown := set(names) - set(hostile.READERS):
        parser.error(f"--readers: unknown {', '.join(sorted(unknown))}")
    table = {}
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            row = run(name, arguments.seconds, Path(folder), Path(arguments.findings))
        table[name] = row
        print(
            f"{name:16} {row['inputs_tried']:>10,} inputs tried, {row['branches']:>6,} branches "
            f"(a sound file: {row['branches_at_first']:,}), {row['peak_memory_mb']} MB at most: "
            + ("FAILED" if row["failure"] else "nothing found"),
            flush=True,
        )
        if row["failure"]:
            print(row["failure"])
    if arguments.output:
        document = {"seconds": arguments.seconds, "readers": table}
        Path(arguments.output).write_text(json.dumps(document, indent=2) + "\n")
    return int(any(row["failure"] for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
