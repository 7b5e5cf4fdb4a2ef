#!/usr/bin/env bash
# Makes the project's virtual environment, or leaves it alone when it is up to date.
#
#   scripts/make_env.sh [DIRECTORY]     make or check the environment (default .venv)
#   scripts/make_env.sh --find-python   print the interpreter that would be used
#
# PYTHON=/path/to/python chooses the interpreter; it must be Python 3.9 to 3.11.
#
# A set-up can be killed at any moment. Therefore an environment of ours always holds one of two
# files: `.rldarts-building` while it is being changed, and `.rldarts-ready`, which says what it was
# made from. Whoever finds the first starts over: any file beside it may be half written.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

UV_VERSION=0.13.8
LOCK=requirements.lock

die() {
    printf 'error: %s\n' "$1" >&2
    exit 1
}

is_supported() { # that a command exists proves nothing: version managers install placeholders
    "$1" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' >/dev/null 2>&1
}

can_make_venv() { # Debian ships ensurepip separately
    "$1" -c 'import ensurepip, venv' >/dev/null 2>&1
}

identity() { # the same for an interpreter and for environments made with it
    "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3], sys.base_prefix)' 2>/dev/null
}

find_python() {
    if [[ -n "${PYTHON:-}" ]]; then
        command -v "$PYTHON" >/dev/null || die "PYTHON=$PYTHON does not exist"
        is_supported "$PYTHON" || die "PYTHON=$PYTHON is not a working Python 3.9 to 3.11"
        can_make_venv "$PYTHON" || die "PYTHON=$PYTHON cannot make environments: it lacks ensurepip (Debian: apt install python3-venv)"
        command -v "$PYTHON"
        return
    fi
    local name path without_venv=""
    for name in python3.11 python3.10 python3.9 python3; do
        while IFS= read -r path; do
            is_supported "$path" || continue
            if can_make_venv "$path"; then
                printf '%s\n' "$path"
                return
            fi
            without_venv=${without_venv:-$path}
        done < <(type -aP "$name" || true)
    done
    [[ -z "$without_venv" ]] || die "$without_venv lacks ensurepip (Debian: apt install python3-venv), or set PYTHON=/path/to/python"
    die "no Python 3.9 to 3.11 found: install one, or set PYTHON=/path/to/python"
}

if [[ "${1:-}" == --find-python ]]; then
    find_python
    exit
fi

venv=${1:-.venv}
venv_python=$venv/bin/python
ready=$venv/.rldarts-ready
building=$venv/.rldarts-building

# What is behind a link belongs to another checkout.
[[ ! -L "$venv" ]] || die "$venv is a link: remove it, or choose another place with VENV=..."

# Two `make` at once must not build into the same directory. Locking this file leaves none behind.
if command -v flock >/dev/null; then
    exec 9<"scripts/make_env.sh"
    flock --nonblock 9 || { echo "Waiting for another set-up to end ..." && flock 9; }
fi

content=$(cat "$LOCK" setup.py rldarts_tf/_version.py scripts/make_env.sh | cksum)
wanted=""
if [[ -n "${PYTHON:-}" ]]; then
    python=$(find_python)
    wanted=$(identity "$python")
fi

action=build
if [[ -f "$ready" && ! -e "$building" ]]; then
    # An environment is tied to its place and its interpreter; only packages can be exchanged.
    if actual=$(identity "$venv_python") && [[ "${wanted:-$actual}" == "$actual" ]]; then
        if [[ "$(<"$ready")" == "$PWD|$actual|$content" ]]; then
            exit 0
        fi
        [[ "$(<"$ready")" != "$PWD|$actual|"* ]] || action=update
    fi
elif [[ -e "$venv" && ! -e "$building" && -n "$(ls -A "$venv")" ]]; then
    die "$venv exists and was not made by this project: remove it, or choose another place with VENV=..."
fi

trap 'echo "error: the environment in $venv is not complete; run the same command again" >&2' ERR

if [[ $action == update ]]; then
    echo "Updating $venv ..."
    mv "$ready" "$building"
else
    python=$(find_python)
    echo "Making $venv with $("$python" --version): about 1.5 GB to download the first time ..."
    mkdir -p "$venv"
    : >"$building"
    find "$venv" -mindepth 1 -maxdepth 1 ! -path "$building" -exec rm -rf {} +
    "$python" -m venv "$venv"
fi

# uv never has to look for, or fetch, an interpreter: it is told which one.
uv() { UV_PYTHON_DOWNLOADS=never "$venv_python" -m uv "$@"; }

"$venv_python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
# A few packages exist as source only; build them with the locked setuptools, not with the newest.
uv pip sync --python "$venv_python" --build-constraints "$LOCK" "$LOCK"
uv pip install --quiet --python "$venv_python" --no-deps --no-build-isolation --editable .

printf '%s\n' "$PWD|$(identity "$venv_python")|$content" >"$building"
mv "$building" "$ready"
echo "$venv is ready."
