# The patch series: kernel-patch/NNNN-*.patch, and the folders that go into a kernel tree as they are.
# shellcheck shell=bash

PATCHES=$PROVFS_ROOT/kernel-patch

# The last patch wires provfs into the build. So these folders belong just before it: every step builds.
COPIED=("security-provfs:security/provfs")
# Of Documentation/, what has a place in the kernel's (man pages and our own notes have not).
KERNEL_DOCS=(admin-guide security rust ABI userspace-api filesystems)

FORMAT_PATCH=(format-patch --zero-commit --no-signature --no-numbered --no-base --full-index --no-renames
    --diff-algorithm=myers --quiet)

# series_patches TREE: the patches for that tree, one path a line. A patch in kernel-patch/7.2/ replaces the one with
# its number where the tree is a 7.2.
series_patches() {
    local patch number version delta
    version=$(makefile_version "$1")
    for patch in "$PATCHES"/[0-9][0-9][0-9][0-9]-*.patch; do
        number=${patch##*/}
        delta=("$PATCHES/$(cut -d. -f1,2 <<<"$version")/${number%%-*}-"*.patch)
        echo "${delta[0]:-$patch}"
    done
}

# patched_files PATCH...: what they touch.
patched_files() {
    (($#)) || return 0
    sed -n 's,^diff --git a/\(.*\) b/\1$,\1,p' "$@" | sort -u
}

# Lines "OURS<tab>THEIRS" for every file that is copied. Only files that git would take: no droppings of an editor.
copied_files() {
    local pair from to folder
    for pair in "${COPIED[@]}"; do
        from=${pair%:*} to=${pair#*:}
        list_files "$from" | while IFS= read -r file; do printf '%s\t%s\n' "$from/$file" "$to/$file"; done
    done
    for folder in "${KERNEL_DOCS[@]}"; do
        list_files "Documentation/$folder" | grep -v '\.md$' |
            while IFS= read -r file; do printf 'Documentation/%s\tDocumentation/%s\n' "$folder/$file" "$folder/$file"; done || true
    done
}

list_files() {
    [[ -d $PROVFS_ROOT/$1 ]] || return 0
    (cd "$PROVFS_ROOT/$1" && find . -type f ! -name '*.orig' ! -name '*.rej' ! -name '*~' ! -name '.*.sw?' ! -path '*/target/*' |
        sed 's,^\./,,' | sort)
}

# One word for the series and the copied code, whatever it is applied to.
series_id() {
    {
        series_patches "$1" | xargs -r -d '\n' cat
        copied_files | grep '^security-provfs' | cut -f1 | (cd "$PROVFS_ROOT" && xargs -r -d '\n' sha256sum)
    } | sha
}

# stage TREE OUT: puts into OUT the files of TREE that the series touches, as they are with the series applied. TREE is
# only read. Fuzz is not allowed (a patch that needs guessing is a conflict), other line numbers are.
stage() {
    local tree=$1 out=$2 patch file ours theirs patches
    mkdir -p "$out"
    mapfile -t patches < <(series_patches "$tree")
    copy_touched "$tree" "$out" "${patches[@]}"
    for patch in "${patches[@]}"; do
        apply_one "$patch" "$out" --forward || return 1
    done
    for file in $(patched_files "${patches[@]}"); do
        [[ ! -e $tree/$file || -e $out/$file ]] || { say "error: the series deletes $file, which apply cannot do" && return 1; }
    done
    while IFS=$'\t' read -r ours theirs; do
        if [[ -e $tree/$theirs ]] && ! cmp -s "$PROVFS_ROOT/$ours" "$tree/$theirs"; then
            say "error: $theirs is in the tree already, and differs from ours" && return 1
        fi
        mkdir -p "$out/$(dirname "$theirs")"
        cp "$PROVFS_ROOT/$ours" "$out/$theirs"
    done < <(copied_files)
}

# unstage TREE OUT: the touched files of TREE as they were before the series; fails when it is not applied.
unstage() {
    local tree=$1 out=$2 patch patches
    mkdir -p "$out"
    mapfile -t patches < <(series_patches "$tree" | tac)
    copy_touched "$tree" "$out" "${patches[@]}"
    cp "$tree/Makefile" "$tree/.gitattributes" "$out/"
    for patch in "${patches[@]}"; do
        apply_one "$patch" "$out" --reverse 2>/dev/null || return 1
    done
}

copy_touched() {
    local tree=$1 out=$2 file
    shift 2
    while IFS= read -r file; do
        [[ -e $tree/$file ]] || continue
        mkdir -p "$out/$(dirname "$file")"
        cp -p "$tree/$file" "$out/$file"
    done < <(patched_files "$@")
}

apply_one() {
    local said
    said=$(patch -p1 -d "$2" --batch "$3" --fuzz=0 --no-backup-if-mismatch --reject-file=- <"$1" 2>&1) && return
    say "error: ${1#"$PROVFS_ROOT"/} does not apply"
    # patch(1) names a file first and what is wrong with it after that.
    awk '/^(patching|checking) file / { file = $3 }
         /^The next patch would create/ { print "    conflict: the file is in the tree already: " $0 }
         /FAILED at|can.t find file/ { print "    conflict in " (file == "" ? "a file that is not there" : file) ": " $0 }' <<<"$said" | head -n 12 >&2
    grep -E '^(\|?(---|\+\+\+) |.*(malformed|Reversed))' <<<"$said" | head -n 4 | sed 's/^/    /' >&2 || true
    return 1
}

# ------------------------------------------------------------------------------------------ git

# git without anybody's settings: the same series must come out on every machine.
plain_git() {
    env -u GIT_DIR -u GIT_WORK_TREE -u GIT_INDEX_FILE GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 \
        GIT_COMMITTER_NAME=provfs GIT_COMMITTER_EMAIL=provfs@localhost TZ=UTC git "$@"
}

# scratch_repository TREE REPO: a git repository of only what the series touches, as it is in TREE.
scratch_repository() {
    local tree=$1 repo=$2 patches theirs
    mapfile -t patches < <(series_patches "$tree")
    plain_git init -q -b base "$repo"
    # The kernel's attributes decide what git writes after a hunk's line numbers.
    mkdir -p "$repo/.git/info"
    cp "$tree/.gitattributes" "$repo/.git/info/attributes"
    copy_touched "$tree" "$repo" "${patches[@]}"
    while IFS=$'\t' read -r _ theirs; do
        if [[ -e $tree/$theirs ]]; then
            mkdir -p "$repo/$(dirname "$theirs")"
            cp -p "$tree/$theirs" "$repo/$theirs"
        fi
    done < <(copied_files)
    commit_all "$repo" "provfs <provfs@localhost>" "2000-01-01T00:00:00Z" "Linux $(makefile_version "$tree")"
}

commit_all() {
    plain_git -C "$1" add -A -f
    GIT_COMMITTER_DATE=$3 plain_git -C "$1" commit -q --allow-empty --no-verify --author="$2" --date="$3" -m "$4"
}

# apply_with_am REPO PATCH...
apply_with_am() {
    local repo=$1 patch
    shift
    for patch; do
        plain_git -C "$repo" am -q --keep-cr --whitespace=nowarn "$patch" >/dev/null 2>"$repo/.git/said" || {
            head -n 10 "$repo/.git/said" >&2
            die "git am refuses ${patch#"$PROVFS_ROOT"/}"
        }
    done
}

# export_series OUT: kernel-patch/ with the copied folders as patches of their own before the last one.
export_series() {
    local out=$1 base work patches last author date
    base=$(fetch_source)
    mapfile -t patches < <(series_patches "$base")
    ((${#patches[@]})) || die "there are no patches in $PATCHES"
    work=$(mktemp -d "$CACHE/export.XXXXXXXX")
    # shellcheck disable=SC2064 # this very folder
    trap "rm -rf '$work'" EXIT
    scratch_repository "$base" "$work/repo"
    last=${patches[-1]}
    unset 'patches[-1]'
    apply_with_am "$work/repo" "${patches[@]}"
    # In the name, and at the time, of the patch that they belong to.
    plain_git mailinfo /dev/null /dev/null <"$last" >"$work/info"
    author="$(sed -n 's/^Author: //p' "$work/info") <$(sed -n 's/^Email: //p' "$work/info")>"
    date=$(sed -n 's/^Date: //p' "$work/info")
    add_copied "$work/repo" '^security/provfs/pure' "$author" "$date" "$(message_pure)"
    add_copied "$work/repo" '^security/provfs' "$author" "$date" "$(message_lsm)"
    add_copied "$work/repo" '^Documentation' "$author" "$date" "$(message_documentation)"
    apply_with_am "$work/repo" "$last"
    mkdir -p "$out"
    rm -f "$out"/[0-9][0-9][0-9][0-9]-*.patch
    out=$(cd "$out" && pwd -P)
    plain_git -C "$work/repo" "${FORMAT_PATCH[@]}" -o "$out" "$(plain_git -C "$work/repo" rev-list --max-parents=0 HEAD)"
    say "$(find "$out" -name '*.patch' | wc -l) patches for Linux $(makefile_version "$base") in $out"
}

# add_copied REPO PATTERN AUTHOR DATE MESSAGE: one commit of the copied files that match and are not in yet.
add_copied() {
    local repo=$1 pattern=$2 ours theirs
    while IFS=$'\t' read -r ours theirs; do
        grep -q "$pattern" <<<"$theirs" || continue
        mkdir -p "$repo/$(dirname "$theirs")"
        cp "$PROVFS_ROOT/$ours" "$repo/$theirs"
    done < <(copied_files)
    [[ -n $(plain_git -C "$repo" status --porcelain) ]] || return 0
    commit_all "$repo" "$3" "$4" "$5"
}

message_pure() {
    cat <<'END'
provfs: add the formats and decisions that userspace shares

What provfs writes into extended attributes, how it names a writer and
which files it leaves alone, as core-only Rust: no allocation beyond the
caller's, no kernel API. The userspace tools compile the same files, so
the two sides cannot disagree about a format.
END
}

message_lsm() {
    cat <<'END'
provfs: add a security module that records who wrote a file

Stamp a file, in the writer's context and before its data, with who is
writing: the session, tool, turn and intent that the process declared in
its environment, or what the kernel knows of it by itself. The record is
kept in the file's own extended attributes, so it needs no daemon and no
log, and follows the file.

Nothing is denied and no operation fails because of it.
END
}

message_documentation() {
    cat <<'END'
Documentation: describe provfs and the LSM abstractions in Rust

Add the admin guide, the design for kernel developers and the guide to
the Rust abstractions that it is built on.
END
}

# refresh_series [TREE] [--base REV]: kernel-patch/ from the commits of a git tree.
refresh_series() {
    local tree="" base="" work commit version number=1
    while (($#)); do
        case $1 in
            --base) base=${2:?} && shift 2 ;;
            -*) usage_error "unknown option: $1" ;;
            *) tree=$1 && shift ;;
        esac
    done
    [[ -n $tree ]] || tree=$CACHE/tree/$(basename "$(current_source || die "no kernel source here yet")")
    [[ -d $tree/.git || -f $tree/.git ]] || die "$tree is no git tree" "refresh needs the series as commits"
    version=$(makefile_version "$tree") || die "$tree has no Makefile that says which kernel it is"
    if [[ -z $base ]]; then
        base=$(plain_git -C "$tree" rev-list --max-parents=0 HEAD)
        [[ $base != *$'\n'* ]] || die "$tree has several root commits" "say what the series sits on: --base REV"
    fi
    work=$(mktemp -d "$CACHE/refresh.XXXXXXXX")
    # shellcheck disable=SC2064 # this very folder
    trap "rm -rf '$work'" EXIT
    mkdir "$work/patches"
    : >"$work/copied"
    for commit in $(plain_git -C "$tree" rev-list --reverse "$base..HEAD"); do
        plain_git -C "$tree" diff-tree -r --no-commit-id --name-only --no-renames "$commit" >"$work/names"
        if ! grep -qvE "$(copied_pattern "$tree" "$base")" "$work/names"; then
            cat "$work/names" >>"$work/copied"
            continue
        elif grep -qE '^security/provfs/' "$work/names"; then
            die "commit $(plain_git -C "$tree" log -1 --format='%h (%s)' "$commit") mixes security/provfs with other files" \
                "split it: security/provfs and new documentation are copied, the rest are patches"
        fi
        plain_git -C "$tree" "${FORMAT_PATCH[@]}" --start-number="$number" -o "$work/patches" -1 "$commit"
        number=$((number + 1))
    done
    ((number > 1)) || die "no commits between $base and HEAD in $tree"
    if [[ $version != "${SERIES_VERSIONS[0]}"* ]]; then
        refresh_deltas "$work/patches" "$(cut -d. -f1,2 <<<"$version")"
        return
    fi
    copy_back "$tree" "$work/copied"
    mkdir -p "$PATCHES"
    rm -f "$PATCHES"/[0-9][0-9][0-9][0-9]-*.patch
    cp "$work/patches/"*.patch "$PATCHES/"
    say "$((number - 1)) patches in kernel-patch/"
}

# refresh_deltas FOLDER VERSION: of the series made from a tree of another version, keeps the patches that differ.
refresh_deltas() {
    local patch name count=0
    rm -rf "${PATCHES:?}/$2"
    for patch in "$1"/*.patch; do
        name=${patch##*/}
        [[ -f $PATCHES/$name ]] || die "kernel-patch/ has no $name" "both series must have the same commits"
        cmp -s <(without_places "$patch") <(without_places "$PATCHES/$name") && continue
        mkdir -p "$PATCHES/$2"
        cp "$patch" "$PATCHES/$2/"
        count=$((count + 1))
    done
    say "$count patches in kernel-patch/$2/ for what differs in Linux $2"
}

# What a patch says, without where.
without_places() { sed -E 's/^(@@) .*/\1/; /^index [0-9a-f]+\.\./d' "$1"; }

# Files of security/provfs, and documentation that the base does not have: an index that the series extends is a patch.
copied_pattern() {
    local theirs pattern='^security/provfs/'
    while IFS=$'\t' read -r _ theirs; do
        [[ $theirs == Documentation/* ]] && pattern+="|^${theirs//./\\.}\$"
    done < <(copied_files)
    echo "$pattern"
}

# The tree's HEAD is right about every file that its commits changed.
copy_back() {
    local tree=$1 file ours
    sort -u "$2" | while IFS= read -r file; do
        ours=$PROVFS_ROOT/${file/#security\/provfs/security-provfs}
        if plain_git -C "$tree" cat-file -e "HEAD:$file" 2>/dev/null; then
            mkdir -p "$(dirname "$ours")"
            plain_git -C "$tree" show "HEAD:$file" | cmp -s - "$ours" ||
                { plain_git -C "$tree" show "HEAD:$file" >"$ours" && say "copied back: $file"; }
        else
            rm -f "$ours"
        fi
    done
}

# ------------------------------------------------------------------------------------------ checks

# roundtrip_series: git am of kernel-patch/ and format-patch again must give the same bytes.
roundtrip_series() {
    local base work patches bad=0 patch
    base=$(fetch_source)
    mapfile -t patches < <(series_patches "$base")
    ((${#patches[@]})) || die "there are no patches in $PATCHES"
    work=$(mktemp -d "$CACHE/series.XXXXXXXX")
    # shellcheck disable=SC2064 # this very folder
    trap "rm -rf '$work'" EXIT
    scratch_repository "$base" "$work/repo"
    apply_with_am "$work/repo" "${patches[@]}"
    plain_git -C "$work/repo" "${FORMAT_PATCH[@]}" -o "$work/again" "$(plain_git -C "$work/repo" rev-list --max-parents=0 HEAD)"
    for patch in "${patches[@]}"; do
        cmp "$patch" "$work/again/${patch##*/}" || bad=1
    done
    (($(find "$work/again" -name '*.patch' | wc -l) == ${#patches[@]})) || bad=1
    ((bad == 0)) || die "kernel-patch/ is not what git format-patch prints" "scripts/kernel refresh makes it anew from a git tree"
    # patch(1) in a plain tree, and git am of the exported series, must both give what apply gives.
    stage "$base" "$work/staged" || return 1
    export_series "$work/export"
    scratch_repository "$base" "$work/exported"
    apply_with_am "$work/exported" "$work/export/"*.patch
    rm -rf "$work/exported/.git"
    diff -r "$work/staged" "$work/exported" || die "apply and the exported series give different trees"
    say "${#patches[@]} patches: round trip, export and apply agree"
}
