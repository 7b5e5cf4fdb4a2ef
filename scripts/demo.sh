#!/usr/bin/env bash
# A search on a game of MinAtar, then the found cell beside IMPALA-CNN and three random cells.
#
#   scripts/demo.sh PYTHON ROOT [FLAG ...]
#
# Each has a run directory in ROOT; ROOT/report.html shows them side by side, and is opened where there
# is a desktop. Flags are those of the
# launcher. The same command again resumes what was stopped.
set -euo pipefail

python=$1 root=$2
shift 2
runs=(found impala_cnn random-0 random-1 random-2)

train() { # NAME FLAG ...
    local name=$1 stage
    shift
    case $name in
    found) stage=(--stage=all) ;;
    impala_cnn) stage=(--stage=baseline) ;;
    random-*) stage=(--stage=evaluate --genotype="$root/cells/genotype-${name#random-}.json") ;;
    esac
    # One thread each: on small frames two processes are faster than one with two threads.
    "$python" -m rldarts_tf train ppo_gymnasium --gin_file=demo.gin --root_dir="$root/$name" \
        --intra_op_threads=1 --inter_op_threads=1 "${stage[@]}" "$@" 2>&1 |
        (trap '' INT && exec sed -u "s/^/$name | /") # shows the last words after Ctrl-C, too
}
export python root
export -f train

"$python" -m rldarts_tf random micro --count=3 --seed=0 --output="$root/cells" >/dev/null
printf '%s\n' "${runs[@]}" |
    xargs -P 2 -I NAME bash -o errexit -o pipefail -c 'train NAME "$@"' demo "$@"

report=$root/report.html
"$python" -m rldarts_tf report "${runs[@]/#/$root/}" --output="$report" >/dev/null
printf '\nThe found cell beside IMPALA-CNN and random cells: %s\n' "$(realpath "$report")"
bash "$(dirname "$0")/open_page.sh" "$python" "$report"
