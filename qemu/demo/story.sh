#!/usr/bin/env bash
# The story that scripts/demo tells. Runs in the guest, as root, with /mnt/ext4 fresh: two sessions write files, and each
# answer is checked. Exit 0 only if all of them are right.

set -u
PROJECT=/mnt/ext4/project
SCRATCH=$PROJECT/scratch
WRONG=0

chapter() { printf '\n== %s\n' "$*"; }

# Shows a command as one would type it, and runs it.
run() {
    printf '$ %s\n' "$*"
    "$@" || { local status=$? && [[ $status == "${MAY_BE:-0}" ]] || wrong "status $status of: $*"; }
}

wrong() {
    printf '   WRONG: %s\n' "$*"
    WRONG=$((WRONG + 1))
}

# is FILE FIELD VALUE: what provfs-show --json and getfattr say about it, "" = nothing.
is() {
    local file=$1 field=$2 want=$3 shown raw
    shown=$(provfs-show --json "$file" 2>/dev/null | python3 "$(dirname "$0")/field.py" "$field")
    raw=$(getfattr --absolute-names --only-values -n "user.prov.$field" "$file" 2>/dev/null)
    [[ $shown == "$want" ]] || wrong "provfs-show --json $file: $field is '$shown', not '$want'"
    [[ $raw == "$want" ]] || wrong "getfattr -n user.prov.$field $file: '$raw', not '$want'"
}

ask() {
    run provfs-show "$@"
    run getfattr -d --absolute-names "$@"
}

as_session() { env "PROV_SESSION=$1" "PROV_TOOL=$2" "${@:3}"; }

chapter "A kernel with provfs"
run cat /sys/kernel/security/lsm
echo
grep -qw provfs /sys/kernel/security/lsm || wrong "provfs is not among the active LSMs"
mkdir -p "$SCRATCH"

chapter "What lies in $SCRATCH shall not be recorded"
printf '$ sysctl provfs.skip=...,%s\n' "$SCRATCH"
printf '%s' "$(cat /proc/sys/provfs/skip),$SCRATCH" >/proc/sys/provfs/skip || wrong "sysctl provfs.skip refuses the list"
run cat /proc/sys/provfs/skip
grep -q "$SCRATCH" /proc/sys/provfs/skip || wrong "sysctl provfs.skip does not hold what was written"

chapter "Session S-2026-A, tool Bash, writes through a shell pipeline"
PIPELINE="printf 'pear\napple\n' | sort | tee $PROJECT/fruit.txt >/dev/null"
printf '$ %s\n' "$PIPELINE"
as_session S-2026-A Bash PROV_TURN=7 "PROV_INTENT=list the fruit" sh -c "$PIPELINE" || wrong "the pipeline failed"
ask "$PROJECT/fruit.txt"
is "$PROJECT/fruit.txt" session S-2026-A
is "$PROJECT/fruit.txt" tool Bash
is "$PROJECT/fruit.txt" turn 7
is "$PROJECT/fruit.txt" intent "list the fruit"

chapter "Session S-2026-B, tool Edit, saves it as an editor does: a new file, renamed over the old one"
printf '$ %s\n' "sed -i s/apple/quince/ $PROJECT/fruit.txt"
as_session S-2026-B Edit sed -i s/apple/quince/ "$PROJECT/fruit.txt" || wrong "sed failed"
[[ $(cat "$PROJECT/fruit.txt") == $'quince\npear' ]] || wrong "fruit.txt was not edited"
ask "$PROJECT/fruit.txt"
is "$PROJECT/fruit.txt" session S-2026-B
is "$PROJECT/fruit.txt" tool Edit
is "$PROJECT/fruit.txt" turn ""
is "$PROJECT/fruit.txt" intent ""

chapter "The same session writes into $SCRATCH: skipped"
printf '$ %s\n' "cp $PROJECT/fruit.txt $SCRATCH/copy.txt"
as_session S-2026-B Bash cp "$PROJECT/fruit.txt" "$SCRATCH/copy.txt" || wrong "cp failed"
MAY_BE=1 run provfs-show "$SCRATCH/copy.txt"
run getfattr -d --absolute-names "$SCRATCH/copy.txt"
is "$SCRATCH/copy.txt" session ""
is "$SCRATCH/copy.txt" tool ""

chapter "Someone without a session: the kernel says what it knows"
printf '$ %s\n' "echo hello > $PROJECT/note.txt"
env -u PROV_SESSION sh -c "echo hello > $PROJECT/note.txt" || wrong "echo failed"
ask "$PROJECT/note.txt"
[[ $(getfattr --absolute-names --only-values -n user.prov.session "$PROJECT/note.txt" 2>/dev/null) == comm-chain:sh\>* ]] ||
    wrong "note.txt does not name sh and who started it"

printf '\n'
if ((WRONG)); then
    echo "$WRONG answers were wrong"
    exit 1
fi
echo "every answer was right"
