#!/usr/bin/env bash
# One day of work, in the guest, as root, with /mnt/ext4 fresh: a repository is made, cloned, built, edited by two sessions,
# packed, unpacked, copied; then questions are asked. What it prints on stdout is the part of the README between its "day"
# marks (scripts/day). The guest's clock is set to each hour, so that the answers tell a day and not a second.
# status: 0 when every command did what it should.

set -eu
cd /mnt/ext4
export HOME=/root TZ=UTC GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null

hour() { date -s "2026-11-20 $1" >/dev/null; }

# session ID TOOL TURN INTENT COMMAND...
session() { env "PROV_SESSION=$1" "PROV_TOOL=$2" "PROV_TURN=$3" "PROV_INTENT=$4" "${@:5}"; }

# ask QUESTION STATUS COMMAND: as one would type it, with its output, indented as code.
ask() {
    local status=0 output
    printf '%s\n\n    $ %s\n' "$1" "$3"
    output=$(sh -c "$3" 2>&1) || status=$?
    if ((status != $2)); then
        printf '%s: status %s, not %s:\n%s\n' "$3" "$status" "$2" "$output" >&2
        exit 1
    fi
    printf '%s\n\n' "$output" | sed '/./s/^/    /'
}

git_as() { git -c user.name=someone -c user.email=someone@example.org "$@"; }

{
    hour 08:50
    # Somebody has a small program.
    mkdir upstream
    printf '#include <stdio.h>\n\nvoid greet(void);\n\nint main(void)\n{\n\tgreet();\n\treturn 0;\n}\n' >upstream/main.c
    printf '#include <stdio.h>\n\nvoid greet(void)\n{\n\tputs("hullo, world");\n}\n' >upstream/greet.c
    # shellcheck disable=SC2016 # make expands it
    printf 'hello: main.o greet.o\n\t$(CC) -o $@ $^\n' >upstream/Makefile
    git -C upstream -c init.defaultBranch=main init -q
    git_as -C upstream add .
    git_as -C upstream commit -qm "a program that greets"

    hour 09:00
    git clone -q upstream work

    # The first agent builds it and changes the name.
    hour 10:00
    session S-2026-A Bash 1 "see whether it builds" make -s -C work
    hour 10:20
    session S-2026-A Edit 3 "greet the user" sed -i 's/world/you/' work/greet.c

    # The second one mends the spelling and builds again.
    hour 14:00
    session S-2026-B Edit 2 "mend the spelling" vim -Nu NONE -i NONE -es -c '%s/hullo/hello/' -c wq work/greet.c
    hour 14:05
    session S-2026-B Bash 3 "build again" make -s -C work
    [[ $(work/hello) == "hello, you" ]]

    # Copies of all kinds, by nobody in particular.
    hour 16:00
    tar -C work --exclude=.git -cf release.tar .
    mkdir unpacked
    tar -C unpacked -xf release.tar
    hour 16:30
    cp -a work copy
    hour 17:00
    rsync -a --exclude=.git work/ mirror/
    rsync -aX --exclude=.git work/ mirror-with-xattrs/
    hour 18:00
} >&2

ask "Who wrote this file, through what, and when?" 0 "provfs-show work/greet.c"
ask "What did one session write?" 0 "provfs-show -rl --session S-2026-B work"
ask "What did the other one write, even if somebody wrote it again since?" 0 \
    "provfs-show -rl --session S-2026-A --history work"
ask "And what did anybody write after lunch, in the sources?" 0 \
    "provfs-show -rl --since '2026-11-20 13:00' -g '*.c' -g Makefile work"
ask "What came of one intention?" 0 "provfs-show -r --intent build --format '{path} ({session}, turn {turn})' work"
ask "Who wrote how much today?" 0 "provfs-show -r --group-by session ."
ask "What did a program write that belongs to no session?" 0 "provfs-show -rl --comm git work"
ask "Which copies are what they say? A copy that kept its time carries an earlier one than its record, and a record that
came along with a copy is older than the file." 0 \
    "provfs-show -r --verify=backdated,copied --format '{verdict}: {path}, {session}' -g greet.c ."
ask "What has no record, because a rule says so (\`.git\`), or because nobody wrote it since there are records?" 0 \
    "provfs-show -r --hidden --unstamped --format '{path}' -g config ."
ask "And as a picture:" 0 "provfs-show --tree work"
