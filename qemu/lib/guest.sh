#!/usr/bin/env bash
# The guest's side of qemu/run: mounts what COMMAND needs, runs it, hands over its output and its status.
# usage: guest.sh JOB, a folder where qemu/run put: command (NUL-separated words), settings (shell), this file.

set -u
# shellcheck disable=SC1091,SC2153
. "$1/settings"
mapfile -d '' -t COMMAND <"$1/command"

# Whatever goes wrong in here belongs on the console.
exec </dev/null >/dev/console 2>&1

# By name in sysfs: the links in /dev/virtio-ports need udev.
port() {
    local name
    for name in /sys/class/virtio-ports/*/name; do
        [[ $(<"$name") == "provfs.$1" ]] && name=${name%/name} && echo "/dev/${name##*/}" && return
    done
    echo "provfs: no port $1" && return 1
}

disk() {
    local serial
    for serial in /sys/block/vd*/serial; do
        [[ $(<"$serial") == "provfs-$1" ]] && serial=${serial%/serial} && echo "/dev/${serial##*/}" && return
    done
    echo "provfs: no disk $1" && return 1
}

mounted() { mountpoint -q "$1"; }

# The processors that qemu/run has kept out of the boot.
start_processors() {
    local online
    for online in /sys/devices/system/cpu/cpu*/online; do
        [[ ! -e $online || $(<"$online") == 1 ]] || echo 1 >"$online" || return
    done
}

mount_kernel_filesystems() {
    mounted /sys/kernel/security || mount -t securityfs securityfs /sys/kernel/security
    mounted /sys/kernel/debug || mount -t debugfs debugfs /sys/kernel/debug
    mounted /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mounted /dev/shm || { mkdir -p /dev/shm && mount -t tmpfs -o mode=1777 tmpfs /dev/shm; }
    # Re-opening these must work for COMMAND too, whose output is a pipe.
    local n=0 name
    for name in stdin stdout stderr; do
        ln -sfn "/proc/self/fd/$n" "/dev/$name"
        n=$((n + 1))
    done
    [[ -e /dev/fd ]] || ln -s /proc/self/fd /dev/fd
}

mount_tests() {
    local fs top=/run/provfs-overlay
    for fs in "${FS[@]}"; do
        mkdir -p "/mnt/$fs"
        case $fs in
            tmpfs) mount -t tmpfs tmpfs "/mnt/$fs" ;;
            overlay)
                mkdir -p $top && mount -t ext4 "$(disk overlay)" $top && mkdir $top/lower $top/upper $top/work &&
                    mount -t overlay -o "lowerdir=$top/lower,upperdir=$top/upper,workdir=$top/work" overlay "/mnt/$fs"
                ;;
            *) mount -t "$fs" "$(disk "$fs")" "/mnt/$fs" ;;
        esac || return 1
        chmod 1777 "/mnt/$fs"
    done
}

# Unmounting is part of the test: leaked references show here.
unmount_tests() {
    local fs
    cd /
    for fs in "${FS[@]}"; do
        umount "/mnt/$fs" || umount -l "/mnt/$fs"
    done
    [[ ! -d /run/provfs-overlay ]] || umount /run/provfs-overlay || true
}

# COMMAND's output goes through pipes: a virtio port can be opened once only, a pipe as often as COMMAND likes.
run_command() {
    local readers=() status=0 home as_user=()
    home=$(getent passwd "$GUEST_USER" | cut -d: -f6)
    [[ $GUEST_USER == root ]] || as_user=(setpriv "--reuid=$GUEST_USER" "--regid=$(id -g "$GUEST_USER")" --init-groups --)
    mkfifo /run/provfs-stdout /run/provfs-stderr
    chown "$GUEST_USER" /run/provfs-stdout /run/provfs-stderr
    cat /run/provfs-stdout >"$STDOUT" &
    readers+=($!)
    cat /run/provfs-stderr >"$STDERR" &
    readers+=($!)
    cd "$FOLDER" 2>/dev/null || cd /
    env -i "PATH=$TOOLS:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "HOME=${home:-/}" \
        "USER=$GUEST_USER" LANG=C.UTF-8 TERM=dumb "PROVFS_TEST_LEVEL=$LEVEL" "${as_user[@]}" "${COMMAND[@]}" \
        >/run/provfs-stdout 2>/run/provfs-stderr
    status=$?
    # A child that COMMAND left behind may hold the pipes: it gets two seconds.
    (sleep 2 && kill "${readers[@]}") 2>/dev/null &
    wait "${readers[@]}"
    return $status
}

# Two looks, six seconds apart: only what nothing has pointed to for five seconds counts.
look_for_leaks() {
    local file=/sys/kernel/debug/kmemleak
    [[ -e $file ]] || return 0
    sleep 6
    echo scan >$file
    sleep 6
    echo scan >$file
    cat $file
}

STDOUT=$(port stdout) && STDERR=$(port stderr) && STATUS=$(port status) || exit
if start_processors && mount_kernel_filesystems && mount_tests; then
    run_command
    status=$?
    unmount_tests
    [[ $LEAKS == true ]] && look_for_leaks
else
    echo "qemu/run: the guest could not start its processors, or mount: ${FS[*]}" >"$STDERR"
    status=253
fi
sync
echo $status >"$STATUS"

# The quickest way out; what is written is on its way, and virtme's init does it when this kernel has no sysrq.
echo o >/proc/sysrq-trigger && sleep 10
