# Does KVM really work here? A /dev/kvm may exist and hang every guest, so one is booted to find out.
# shellcheck shell=bash

# find_accel IMAGE: prints kvm or tcg. The answer is remembered for this host kernel and qemu.
find_accel() {
    local image=$1 qemu known answer=tcg
    [[ -r /dev/kvm && -w /dev/kvm ]] || { echo tcg && return; }
    qemu=$(qemu-system-x86_64 --version | head -n 1)
    known=$CACHE/accel-$(printf '%s\n' "$(uname -rv)" "$qemu" | sha)
    if [[ ! -s $known ]]; then
        say "trying whether KVM works here (up to 20 s, once)"
        kvm_boots "$image" && answer=kvm
        say "KVM $([[ $answer == kvm ]] && echo works || echo "does not work here, using TCG")"
        echo "$answer" >"$known.$$" && mv "$known.$$" "$known"
    fi
    cat "$known"
}

# Without a root file system a kernel that runs panics within seconds and says so.
kvm_boots() {
    timeout --kill-after=1 20 qemu-system-x86_64 -accel kvm -cpu host -m 512 -nodefaults -display none -no-reboot \
        -kernel "$1" -append "console=ttyS0 panic=-1 lsm=" -serial stdio </dev/null 2>/dev/null |
        grep -q "Kernel panic - not syncing: VFS"
}
