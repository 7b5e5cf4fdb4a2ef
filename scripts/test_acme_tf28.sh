#!/usr/bin/env bash
# Tests `rldarts_tf.torso` beside dm-acme 0.4.0, which runs on TensorFlow 2.8 only.
#
#   scripts/test_acme_tf28.sh [PYTEST ARGUMENTS]   make or check .venv-acme-tf28, then run the tests
#   scripts/test_acme_tf28.sh --lock               renew acme_tf28.txt from acme_tf28.in
#
# Needs Python 3.9 or 3.10 (dm-launchpad 0.5.0 has wheels for no later one) on 64-bit x86 Linux.
# PYTHON_TF28=/path/to/python chooses the interpreter, VENV_TF28=DIRECTORY the environment's place.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

UV_VERSION=0.13.8
LOCK=scripts/acme_tf28.txt
venv=${VENV_TF28:-.venv-acme-tf28}
venv_python=$venv/bin/python
ready=$venv/.rldarts-ready
building=$venv/.rldarts-building # as in make_env.sh: whoever finds it starts over

die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

is_usable() { # version managers install placeholders; Debian ships ensurepip separately
    "$1" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info[:2] not in ((3, 9), (3, 10)))' \
        >/dev/null 2>&1
}

find_python() {
    local name path
    if [[ -n "${PYTHON_TF28:-}" ]]; then
        is_usable "$PYTHON_TF28" ||
            die "PYTHON_TF28=$PYTHON_TF28 is not a working Python 3.9 or 3.10 that has ensurepip"
        command -v "$PYTHON_TF28"
        return
    fi
    for name in python3.10 python3.9 python3; do
        while IFS= read -r path; do
            if is_usable "$path"; then
                printf '%s\n' "$path"
                return
            fi
        done < <(type -aP "$name" || true)
    done
    die "no Python 3.9 or 3.10 (with ensurepip) found: install one, or set PYTHON_TF28=/path/to/python"
}

# uv never has to look for, or fetch, an interpreter: it is told which one.
uv() { UV_PYTHON_DOWNLOADS=never "$venv_python" -m uv "$@"; }

content=$(cat "$LOCK" scripts/test_acme_tf28.sh | cksum)
if [[ ! -f "$ready" || -e "$building" || "$(<"$ready")" != "$PWD|$content" ]]; then
    if [[ -e "$venv" && ! -e "$ready" && ! -e "$building" ]]; then
        die "$venv exists and was not made by this script: remove it, or set VENV_TF28=DIRECTORY"
    fi
    python=$(find_python)
    echo "Making $venv with $("$python" --version): about 0.7 GB to download the first time ..."
    trap 'echo "error: the environment in $venv is not complete; run the same command again" >&2' ERR
    mkdir -p "$venv"
    : >"$building"
    find "$venv" -mindepth 1 -maxdepth 1 ! -path "$building" -exec rm -rf {} +
    "$python" -m venv "$venv"
    "$venv_python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
    uv pip sync --quiet --python "$venv_python" --build-constraints "$LOCK" "$LOCK"
    printf '%s\n' "$PWD|$content" >"$building"
    mv "$building" "$ready"
    trap - ERR
fi

if [[ "${1:-}" == --lock ]]; then
    # What Python 3.9 can have, 3.10 can too.
    uv pip compile --quiet --python "$venv_python" --python-version 3.9 "${@:2}" \
        --custom-compile-command "scripts/test_acme_tf28.sh --lock" \
        scripts/acme_tf28.in --output-file "$LOCK"
    exit
fi

export TF_CPP_MIN_LOG_LEVEL=${TF_CPP_MIN_LOG_LEVEL:-3}
# Launchpad and Reverb are linked with libpython, which an interpreter may not be itself.
LD_LIBRARY_PATH=$("$venv_python" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
"$venv_python" -c 'import tensorflow, launchpad, reverb' 2>/dev/null ||
    die "launchpad or reverb does not load in $venv: is there a libpython for it (Debian: apt install libpython3.10)?"
"$venv_python" -c 'from importlib.metadata import version as v; print("dm-acme", v("dm-acme"), "with TensorFlow", v("tensorflow"))'
PYTHONPATH=. exec "$venv_python" -m pytest -q tests/test_torso.py "$@"
