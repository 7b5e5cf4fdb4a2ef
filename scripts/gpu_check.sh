#!/usr/bin/env bash
# Trains a launcher of each algorithm on this machine's GPU for two minutes in float32, mixed_float16, with
# jit_compile, and on two GPUs if there are two; compares losses with the CPU's, and prints steps per
# second and memory.
#
#   scripts/gpu_check.sh [ARGUMENTS]   see scripts/gpu_check.py --help
#
# Exit codes: 0 all is well, 1 something is not, 2 no GPU. PYTHON=... chooses the interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec "${PYTHON:-.venv/bin/python}" scripts/gpu_check.py "$@"
