# Debian packages that are unpacked into the cache folder and not installed.
# shellcheck shell=bash

# have_unpacked DIR PACKAGE...
have_unpacked() { [[ $(cat "$1.list" 2>/dev/null) == "${*:2}" ]]; }

# unpack_packages DIR PACKAGE...: with what they depend on and this machine lacks. Needs no root: apt only downloads, into
# our folder.
unpack_packages() {
    local dir=$1 package
    shift
    rm -rf "$dir" "$dir.debs" "$dir.list"
    mkdir -p "$dir" "$dir.debs/partial"
    apt-get -q -y -o Debug::NoLocking=1 -o "Dir::Cache::archives=$dir.debs/" -o APT::Sandbox::User= \
        --download-only --reinstall install --no-install-recommends "$@" || return
    for package in "$dir.debs"/*.deb; do
        dpkg -x "$package" "$dir" || return
    done
    rm -r "$dir.debs"
    echo "$*" >"$dir.list"
}
