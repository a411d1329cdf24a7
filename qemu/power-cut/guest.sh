#!/usr/bin/env bash
# The guest's side of qemu/power-cut/test.
# usage: guest.sh LOG storm|none: what was said before the power was cut, and whether to go on
set -e

if [[ -s $1 ]]; then
    provfs-guest-tests --after-power-cut "$1" /mnt/ext4 /mnt/xfs
    for fs in ext4 xfs; do
        device=$(findmnt --noheadings --output SOURCE /mnt/$fs)
        umount /mnt/$fs
        case $fs in
            ext4) e2fsck -fn "$device" ;;
            xfs) xfs_repair -n "$device" ;;
        esac >/run/fsck.log 2>&1 || { echo "$fs is damaged:" && cat /run/fsck.log && exit 1; }
        mount -t $fs "$device" /mnt/$fs
    done
fi
[[ $2 == none ]] || exec provfs-guest-tests --storm /mnt/ext4 /mnt/xfs
