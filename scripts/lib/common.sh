# Shared by every script here: where things are, how they speak, how long steps show that they live.
# Source it as the first thing: . "$(dirname "$0")/lib/common.sh"
# shellcheck shell=bash

set -euo pipefail
shopt -s nullglob

PROVFS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/provfs
LOGS=$CACHE/log
# Everything that takes part in a build is found by us, not by the caller's settings.
unset MAKEFLAGS MFLAGS KBUILD_OUTPUT KCONFIG_CONFIG CDPATH GREP_OPTIONS
export LC_ALL=C.UTF-8
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
mkdir -p "$CACHE" "$LOGS"

PROGRAM=${0##*/}

say() { printf '%s: %s\n' "$PROGRAM" "$*" >&2; }

# die WHAT-FAILED [WHAT-TO-DO...]
die() {
    say "error: $1"
    shift
    local line
    for line in "$@"; do printf '    %s\n' "$line" >&2; done
    exit 1
}

# usage_error TEXT: a wrong command line is status 2, as everywhere.
usage_error() {
    say "$1"
    say "try '$0 --help'"
    exit 2
}

# help_from FILE: the comment block at the top of a script is its --help.
help_from() { awk 'NR > 1 { if (!/^#/) exit; sub(/^# ?/, ""); print }' "$1"; }

elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# with_lock NAME COMMAND...: one at a time; says so when it has to wait. The lock dies with its holder.
with_lock() {
    local lock=$CACHE/$1.lock
    shift
    (
        exec 9>"$lock"
        if ! flock -n 9; then
            say "waiting for another run that holds ${lock##*/}"
            flock 9
        fi
        "$@"
    )
}

# step LABEL LOG HOW-FAR COMMAND...
# Runs COMMAND with its output in LOG and shows what, how far, elapsed and where the log is: one line that is
# rewritten on a terminal, a new line every 30 s elsewhere. HOW-FAR is a function that prints a few words ("" = none).
step() {
    local label=$1 log=$2 how_far=$3 start=$SECONDS pid status=0 every=30 next waited
    shift 3
    mkdir -p "${log%/*}"
    [[ -t 2 ]] && every=2
    # A process group of its own, so that an interrupt here can end all of it and leave nothing running.
    set -m
    (set -e && "$@") >"$log" 2>&1 9>&- </dev/null &
    pid=$!
    set +m
    trap 'kill -- -"$pid" 2>/dev/null; exit 130' INT TERM HUP
    next=$every waited=0
    [[ -t 2 ]] || say "$label ... (log: $log)"
    while kill -0 "$pid" 2>/dev/null; do
        # A short first sleep keeps quick steps quick.
        if ((waited < 5)); then sleep 0.2; else sleep 1; fi
        waited=$((waited + 1))
        ((SECONDS - start < next)) && continue
        next=$((SECONDS - start + every))
        show_progress "$label" "$how_far" $((SECONDS - start)) "$log"
    done
    wait "$pid" || status=$?
    trap - INT TERM HUP
    [[ -t 2 ]] && printf '\r\033[K' >&2
    if ((status == 0)); then
        say "$label: done in $(elapsed $((SECONDS - start)))"
    else
        say "$label: FAILED with status $status after $(elapsed $((SECONDS - start))) (log: $log)"
    fi
    return "$status"
}

show_progress() {
    local far=""
    [[ -n $2 ]] && far=$("$2" "$4" 2>/dev/null || true)
    if [[ -t 2 ]]; then
        printf '\r\033[K%s: %s: %s%s, log %s' "$PROGRAM" "$1" "${far:+$far, }" "$(elapsed "$3")" "$4" >&2
    else
        say "$1: ${far:+$far, }$(elapsed "$3"), log $4"
    fi
}

# at_least HAVE WANT: compares dotted versions.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

version_of() { "$@" 2>/dev/null | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1 || true; }

sha() { sha256sum | cut -c1-16; }

. "$PROVFS_ROOT/scripts/lib/tools.sh"
