# What scripts/bench feeds to the guest: packages of the peers, and what whole programs work on.
# shellcheck shell=bash

. "$PROVFS_ROOT/scripts/lib/packages.sh"

BENCH=$CACHE/bench

# Debian packages to compare with. They are unpacked and not installed: auditd would otherwise start watching this machine.
BENCH_PACKAGES=(auditd fatrace inotify-tools postmark fio sqlite3)

have_bench_peers() { have_unpacked "$BENCH/peers" "${BENCH_PACKAGES[@]}"; }

unpack_bench_peers() { unpack_packages "$BENCH/peers" "${BENCH_PACKAGES[@]}"; }

# make_bench_inputs SOURCE: archives, C files and projects, all made from the kernel's source and our own. Everything that
# could differ from one time to the next (order, owners, dates) is fixed.
make_bench_inputs() {
    local source=$1 inputs=$BENCH/inputs key
    key=$({ echo "$source" && gcc --version && cat "$PROVFS_ROOT/scripts/lib/bench.sh" "$PROVFS_ROOT"/security-provfs/pure/*.rs; } | sha)
    [[ $(cat "$inputs/key" 2>/dev/null) == "$key" ]] && return
    rm -rf "$inputs" && mkdir -p "$inputs"
    (cd "$source" && find fs | LC_ALL=C sort | awk 'NR <= 775') >"$inputs/fs.list"
    (cd "$source" && find kernel lib mm net -type f -name '*.[ch]' | LC_ALL=C sort | awk 'NR <= 1300') >"$inputs/sources.list"
    archive fs && archive sources && make_repository && make_c_files "$source" && make_project || return
    echo "$key" >"$inputs/key"
}

archive() {
    tar -C "$source" --no-recursion --owner=0 --group=0 --mtime=@1700000000 --format=gnu -T "$inputs/$1.list" -cf "$inputs/$1.tar"
}

make_repository() {
    local work=$inputs/repository
    mkdir "$work" && tar -C "$work" -xf "$inputs/sources.tar" || return
    (
        cd "$work" || exit
        export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null GIT_{AUTHOR,COMMITTER}_{NAME,EMAIL}=bench
        export GIT_{AUTHOR,COMMITTER}_DATE="1700000000 +0000"
        git init -q -b main && git add -A && git commit -qm sources && git bundle create -q "$inputs/sources.bundle" HEAD main
    ) && rm -rf "$work"
}

# Preprocessed, so that no header has to be found in the guest.
make_c_files() {
    local file to count=0
    mkdir "$inputs/c"
    while IFS= read -r file; do
        to=$inputs/c/${file//\//_}
        gcc -E -P -w -I "$1/scripts/include" -I "$1/tools/include" "$1/$file" -o "${to%.c}.i" 2>/dev/null || {
            rm -f "${to%.c}.i"
            continue
        }
        count=$((count + 1))
        ((count < 20)) || return 0
    done < <(cd "$1" && find scripts -name '*.c' -size +4k | LC_ALL=C sort)
    say "only $count C files of the kernel's scripts/ can be preprocessed here, 20 are needed"
    return 1
}

# A library without dependencies and a program that uses it.
make_project() {
    mkdir -p "$inputs/project/src/pure"
    cp "$PROVFS_ROOT"/security-provfs/pure/*.rs "$inputs/project/src/pure/"
    printf '[package]\nname = "project"\nversion = "0.1.0"\nedition = "2024"\n' >"$inputs/project/Cargo.toml"
    echo 'pub mod pure;' >"$inputs/project/src/lib.rs"
    echo 'fn main() { println!("{:?}", project::pure::skip::max_rules(b"a,b")); }' >"$inputs/project/src/main.rs"
}
