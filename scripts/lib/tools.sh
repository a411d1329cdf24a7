# Finds the programs of a build: what the machine has, else what scripts/setup put in the cache.
# Each find_* prints a path, or fails without a word.
# shellcheck shell=bash

# The kernel's and our own minimum (scripts/min-tool-version.sh in the kernel tree; edition 2024).
MIN_RUSTC=1.85.0
MIN_BINDGEN=0.71.1
MIN_LLVM=17

# A folder with clang, ld.lld and the llvm tools under their plain names.
find_llvm() {
    local version dir
    for version in 19 20 21 22 23 18 17; do
        dir=/usr/lib/llvm-$version/bin
        if [[ -x $dir/clang && -x $dir/ld.lld && -x $dir/llvm-ar && -e $dir/../lib/libclang.so ]]; then
            echo "$dir"
            return
        fi
    done
    dir=$(command -v ld.lld) && dir=${dir%/*} || return 1
    [[ -x $dir/clang && -x $dir/llvm-ar ]] && at_least "$(version_of "$dir/clang" --version)" "$MIN_LLVM" && echo "$dir"
}

# The kernel compiles Rust's core library itself, so a rustc without its source (rustup's default) will not do.
find_kernel_rustc() {
    local rustc
    for rustc in ${PROVFS_RUSTC:-} /usr/bin/rustc $(type -ap rustc); do
        [[ -x $rustc && -e $("$rustc" --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library/core/src/lib.rs ]] || continue
        at_least "$(version_of "$rustc" --version)" "$MIN_RUSTC" || continue
        echo "$rustc"
        return
    done
    return 1
}

find_cargo() {
    local cargo
    for cargo in $(type -ap cargo) /usr/bin/cargo "$HOME/.cargo/bin/cargo"; do
        [[ -x $cargo ]] && at_least "$(version_of "$cargo" --version)" "$MIN_RUSTC" || continue
        echo "$cargo"
        return
    done
    return 1
}

find_bindgen() {
    local bindgen
    for bindgen in "$CACHE/tools/bin/bindgen" $(type -ap bindgen); do
        [[ -x $bindgen ]] && at_least "$(version_of "$bindgen" --version)" "$MIN_BINDGEN" || continue
        echo "$bindgen"
        return
    done
    return 1
}

find_virtme() {
    local virtme
    for virtme in "$CACHE/venv/bin/virtme-run" $(type -ap virtme-run); do
        [[ -x $virtme ]] || continue
        echo "$virtme"
        return
    done
    return 1
}

# Beside the rustc that compiles the kernel where there is one: formatting and lints differ between versions.
find_rustfmt() {
    local rustc rustfmt
    rustc=$(find_kernel_rustc) || rustc=/usr/bin/rustc
    for rustfmt in "${rustc%/*}/rustfmt" $(type -ap rustfmt); do
        "$rustfmt" --version >/dev/null 2>&1 || continue
        echo "$rustfmt"
        return
    done
    return 1
}

# kernel_make TREE BUILD ARG...: make as the kernel needs it, with one compiler for all of it.
kernel_make() {
    local tree=$1 build=$2 llvm rustc bindgen
    shift 2
    llvm=$(find_llvm) && rustc=$(find_kernel_rustc) && bindgen=$(find_bindgen) ||
        die "the compilers for the kernel are not all there" "run scripts/setup first"
    PATH=$llvm:$PATH LIBCLANG_PATH=${llvm%/bin}/lib \
        make -C "$tree" "O=$build" LLVM=1 "RUSTC=$rustc" "HOSTRUSTC=$rustc" "RUSTDOC=${rustc%/*}/rustdoc" \
        "CLIPPY_DRIVER=${rustc%/*}/clippy-driver" "BINDGEN=$bindgen" \
        "RUSTFMT=$(find_rustfmt || echo rustfmt)" "$@"
}

# One line that changes whenever a compiler does.
toolchain_id() {
    local llvm rustc bindgen
    llvm=$(find_llvm) && rustc=$(find_kernel_rustc) && bindgen=$(find_bindgen) || return 1
    echo "$rustc $("$rustc" --version) / $("$llvm/clang" --version | head -n 1) / $("$bindgen" --version)"
}

# Where cargo puts what it builds: outside the checkout, and seen by the guest.
export CARGO_TARGET_DIR=$CACHE/target

run_cargo() {
    local cargo
    cargo=$(find_cargo) || die "no cargo of version $MIN_RUSTC or newer" "run scripts/setup first"
    # cargo looks for its helpers (fmt, clippy, rustc) in PATH: take those of the same toolchain.
    PATH=${cargo%/*}:$PATH "$cargo" "$@"
}

# get_crate NAME@VERSION: a program of crates.io that is used here, in $CACHE/tools/bin.
get_crate() {
    grep -q "^\"${1%@*} ${1#*@} " "$CACHE/tools/.crates.toml" 2>/dev/null || install_crate "$1"
}

# install_crate NAME[@VERSION]
install_crate() {
    local name=${1%@*}
    local log=$LOGS/install-$name.log
    step "build $name with cargo" "$log" crates_built \
        run_cargo install "$1" --locked --root "$CACHE/tools" --target-dir "$CACHE/tools/target" ||
        die "cargo could not build $name" "see $log; a proxy or mirror of crates may be needed"
    rm -rf "$CACHE/tools/target"
}

# What exercises files, in guests and on the overlay.
# shellcheck disable=SC2034 # used by those who source this
FSX=fsx@0.3.2

# What people run. Other programs of the workspace are for building and testing.
# shellcheck disable=SC2034 # used by those who source this
TOOLS=(provfs-show provfs-config provfs-run provfs-overlay)

# The tools as the guest runs them, in $CARGO_TARGET_DIR/release.
build_userspace() {
    [[ -f $PROVFS_ROOT/userspace/Cargo.toml ]] || die "there is no userspace/ to build"
    step "build the tools" "$LOGS/userspace.log" crates_built cargo_release ||
        die "the tools do not build" "$(grep -m 3 -A 4 '^error' "$LOGS/userspace.log")" "the whole log: $LOGS/userspace.log"
}

cargo_release() { (cd "$PROVFS_ROOT/userspace" && cargo_release_here); }

# The guest tests start thousands of processes, and looking for shared libraries over 9p is most of what that takes: they
# are linked statically.
cargo_release_here() {
    local target=x86_64-unknown-linux-gnu
    run_cargo build --release --workspace --exclude provfs-guest-tests --bins --locked &&
        RUSTFLAGS="-C target-feature=+crt-static" run_cargo build --profile guest --target $target -p provfs-guest-tests --locked &&
        install -C "$CARGO_TARGET_DIR/$target/guest/provfs-guest-tests" "$CARGO_TARGET_DIR/release/"
}

crates_built() { echo "$(grep -c '^ *Compiling' "$1") crates"; }
