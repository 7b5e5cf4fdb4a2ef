#!/usr/bin/env bash
# Shows a page in a browser where somebody sits at a desktop; elsewhere, and in CI, it does nothing.
#
#   scripts/open_page.sh PYTHON FILE
#
# Never fails, and does not wait for the browser.
set -uo pipefail

python=$1 file=$2
desktop=${DISPLAY:-}${WAYLAND_DISPLAY:-}
if [ "$(uname)" = Darwin ]; then desktop=aqua; fi
if [ -n "$desktop" ] && [ -z "${CI:-}" ]; then
    url=$("$python" -c 'import pathlib, sys; print(pathlib.Path(sys.argv[1]).resolve().as_uri())' "$file")
    "$python" -m webbrowser "$url" </dev/null >/dev/null 2>&1 &
fi
exit 0
