# Where the kernel source comes from. Every source is kept pristine in $CACHE/base/NAME.
# shellcheck shell=bash

# The versions that the series is made for, best first.
SERIES_VERSIONS=(7.3 7.2)

# makefile_version TREE: the kernel's version as its Makefile says it, e.g. 7.3.4.
makefile_version() {
    awk -F' *= *' '
        /^VERSION *=/ { v = $2 } /^PATCHLEVEL *=/ { p = $2 } /^SUBLEVEL *=/ { s = $2; exit }
        END { if (v == "" || p == "") exit 1; print v "." p (s == "" ? "" : "." s) }' "$1/Makefile" 2>/dev/null
}

check_is_kernel() {
    local version
    version=$(makefile_version "$1") && [[ -d $1/rust/kernel && -d $1/security ]] ||
        die "$1 is not a kernel tree (no Makefile with a version, or no rust/kernel)"
    case $version in
        7.2 | 7.2.* | 7.3 | 7.3.*) ;;
        *) die "$1 is Linux $version; the series is made for 7.2 and 7.3" ;;
    esac
}

# Prints the folder in $CACHE/base, fetching it when it is not there.
fetch_source() {
    local base
    if [[ -n ${KERNEL_SRC:-} ]]; then
        with_lock fetch fetch_from_user
        return
    fi
    if ${NEWEST:-false} || ! base=$(current_source); then
        with_lock fetch fetch_from_debian
        base=$(current_source) || die "no kernel source was unpacked"
    fi
    echo "$base"
}

# What is here already: the user's, else the newest of the best version.
current_source() {
    local version found
    if [[ -n ${KERNEL_SRC:-} ]]; then
        found=$(user_source_folder) && [[ -d $found ]] && echo "$found"
        return
    fi
    for version in "${SERIES_VERSIONS[@]}"; do
        found=$(printf '%s\n' "$CACHE/base/$version"* | grep -v -e '-src-' | sort -V | tail -n 1)
        [[ -n $found && -d $found ]] && echo "$found" && return
    done
    return 1
}

# ------------------------------------------------------------------------------------------ KERNEL_SRC

user_source_folder() {
    local path
    path=$(realpath -e "$KERNEL_SRC" 2>/dev/null) || die "KERNEL_SRC=$KERNEL_SRC does not exist"
    # A tarball's version is known only after unpacking: the name carries the hash alone until then.
    if [[ -d $path ]]; then
        check_is_kernel "$path"
        echo "$CACHE/base/$(makefile_version "$path")-src-$(printf %s "$path" | sha256sum | cut -c1-8)"
    else
        local kept
        for kept in "$CACHE/base/"*"-src-$(tarball_id "$path")"; do echo "$kept" && return; done
        return 1
    fi
}

tarball_id() { printf '%s %s' "$1" "$(stat -c '%s %Y' "$1")" | sha256sum | cut -c1-8; }

# A copy, so that nothing here can touch the user's tree. Run again it copies only what changed.
fetch_from_user() {
    local path base
    path=$(realpath -e "$KERNEL_SRC" 2>/dev/null) || die "KERNEL_SRC=$KERNEL_SRC does not exist"
    mkdir -p "$CACHE/base"
    if [[ -f $path ]]; then
        user_source_folder || unpack_tarball "$path" "-src-$(tarball_id "$path")"
        return
    fi
    base=$(user_source_folder)
    if git -C "$path" rev-parse --is-inside-work-tree >/dev/null 2>&1 && [[ -e $path/.git ]]; then
        # What git knows, as it is in the folder now; objects and editors' files are not source.
        git -C "$path" ls-files -z >"$CACHE/base/.files"
        rsync -ai --files-from="$CACHE/base/.files" --from0 --ignore-missing-args "$path/" "$base/" >"$CACHE/base/.changes"
        (cd "$base" && find . -type f -o -type l) | sed 's,^\./,,' | sort >"$CACHE/base/.have"
        tr '\0' '\n' <"$CACHE/base/.files" | sort | comm -13 - "$CACHE/base/.have" |
            (cd "$base" && xargs -r -d '\n' rm -fv) >>"$CACHE/base/.changes"
        [[ -f $base/Makefile ]] || die "$path is a git tree that does not track a kernel's Makefile" \
            "commit or git add the source there, or give a plain tree or a tarball"
    else
        [[ ! -e $path/.config && ! -e $path/include/config ]] ||
            die "$path has been configured or built in place, and is no git tree" \
                "give a clean one: make mrproper there, or git, or a tarball"
        rsync -ai --delete --exclude=/.git "$path/" "$base/" >"$CACHE/base/.changes"
    fi
    # A build has to know that its source is another one now.
    if [[ -s $CACHE/base/.changes || ! -e $base.changed ]]; then date +%s.%N >"$base.changed"; fi
    rm -f "$CACHE/base/".{files,have,changes}
    echo "$base"
}

# unpack_tarball FILE SUFFIX [NAME]: into $CACHE/base under NAME, else under its version and SUFFIX; prints the folder.
unpack_tarball() {
    local file=$1 name=${3:-} new=$CACHE/base/.unpack
    rm -rf "$new"
    mkdir -p "$new"
    step "unpack ${file##*/}" "$LOGS/unpack.log" "" tar -xf "$file" -C "$new" --strip-components=1 ||
        die "cannot unpack $file" "$(tail -n 3 "$LOGS/unpack.log")"
    check_is_kernel "$new"
    [[ -n $name ]] || name=$(makefile_version "$new")$2
    [[ ! -d $CACHE/base/$name ]] || rm -rf "${CACHE:?}/base/$name"
    mv "$new" "$CACHE/base/$name"
    echo "$CACHE/base/$name"
}

# ------------------------------------------------------------------------------------------ Debian

# apt with sources, state and cache of its own: the machine's stay as they are. An index that a slow mirror has had for long
# is as good as a new one here (its signature is checked all the same).
private_apt() {
    local tool=$1
    shift
    "$tool" -q -o Dir::Etc::sourcelist=/dev/null -o "Dir::Etc::sourceparts=$CACHE/apt/sources.list.d" \
        -o "Dir::State=$CACHE/apt/state" -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$CACHE/apt/cache" \
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o APT::Sandbox::User=root -o "Dir::Log=$CACHE/apt" "$@"
}

# The newest version of the best series, as "package version".
newest_offered() {
    local version found
    for version in "${SERIES_VERSIONS[@]}"; do
        found=$(private_apt apt-cache madison "linux-source-$version" 2>/dev/null | awk '{ print $3 }' | sort -V | tail -n 1)
        [[ -n $found ]] && echo "linux-source-$version $found" && return
    done
    return 1
}

ask_debian() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-sid}")
    rm -rf "$CACHE/apt/sources.list.d"
    mkdir -p "$CACHE/apt/sources.list.d" "$CACHE/apt/state/lists/partial" "$CACHE/apt/cache/archives/partial"
    python3 "$PROVFS_ROOT/scripts/lib/aptsources.py" "$codename" "$@" >"$CACHE/apt/sources.list.d/debian.sources" ||
        die "this machine's apt sources name no Debian mirror to ask for linux-source" \
            "give a kernel tree instead: KERNEL_SRC=DIR"
    # One suite that a mirror lacks must not hide the others, so its failure is judged by what is offered afterwards.
    step "ask Debian for kernel sources ($*)" "$LOGS/apt-source.log" "" private_apt apt-get update || true
}

fetch_from_debian() {
    local offered package version name deb
    ask_debian trixie-backports sid
    offered=$(newest_offered) || { ask_debian trixie-backports sid forky forky-backports && offered=$(newest_offered); } || {
        if grep -q NO_PUBKEY "$LOGS/apt-source.log"; then
            die "this machine does not have the keys that newer Debian suites are signed with" \
                "install the newest debian-archive-keyring package, or give a kernel tree: KERNEL_SRC=DIR"
        fi
        die "Debian offers no linux-source-7.3 or -7.2 to this machine" "$(grep -m 3 '^[EW]:' "$LOGS/apt-source.log")" \
            "see $LOGS/apt-source.log, or give a kernel tree: KERNEL_SRC=DIR"
    }
    read -r package version <<<"$offered"
    name=$(printf %s "$version" | tr -c 'A-Za-z0-9.' '-')
    if [[ -d $CACHE/base/$name ]]; then
        say "the newest source is already here: $package $version"
        return
    fi
    mkdir -p "$CACHE/base" "$CACHE/apt/deb"
    deb=$CACHE/apt/deb/$package.deb
    (cd "$CACHE/apt/deb" && rm -f ./*.deb && step "download $package $version" "$LOGS/download.log" downloaded \
        private_apt apt-get download "$package=$version" && mv ./"${package}"_*.deb "$deb") ||
        die "cannot download $package $version" "$(grep -m 2 '^E:' "$LOGS/download.log")" "see $LOGS/download.log"
    step "take the source out of the package" "$LOGS/unpack.log" "" take_out "$deb" "$package" ||
        die "cannot unpack $deb" "is there room in $CACHE? see $LOGS/unpack.log"
    unpack_tarball "$CACHE/apt/deb/source.tar.xz" "" "$name" >/dev/null
    rm -rf "$CACHE/apt/deb"
}

downloaded() { du -sh "$CACHE/apt/deb" | cut -f1; }

take_out() {
    dpkg-deb --fsys-tarfile "$1" | tar -xO "./usr/src/$2.tar.xz" >"$CACHE/apt/deb/source.tar.xz"
}
