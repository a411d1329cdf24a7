#!/usr/bin/env bash
# The guest's side of qemu/stress/test.
# usage: guest.sh PART SECONDS OPERATIONS FSX TRINITY: which part, how long it lasts, how much fsx does, where they are
# It is to be the first process of a PID namespace: whoever outlives its parent is waited for here. The guest's own init
# does not do that, and a zombie keeps its credentials, with the description of a writer.
set -u
part=$1 seconds=$2 operations=$3 fsx=$4 trinity=$5
file_systems=(ext4 xfs btrfs tmpfs overlay)
failed=0

# What these provoke is not about files: memory that is to run out, or tables of the kernel that any user can read.
no=binderfs,handle,procfs
processes=(clone daemon exec fork forkheavy kill nice personality prctl ptrace pthread session sigchld spawn switch vfork wait zombie)

# result NAME STATUS [OUTPUT]
result() {
    if (($2 == 0)); then echo "ok - $1"; else
        echo "not ok - $1"
        sed 's/^/    /' "${3:-/run/output}" | tail -n 20
        failed=1
    fi
}

identities() { sed -n 's/^identities //p' /sys/kernel/security/provfs/status; }

# Lists of rules, of formats and of times, good and bad. It waits by reading from what nobody writes to: a process made
# for each wait would be a good part of what the debug kernel has time for.
change_settings() {
    local rules=(/proc /sys /dev '*.o' '*~' '!*.c' 'fs:tmpfs' 'fs:fuse*' 'comm:stress-ng*' 'uid:65534' '!/mnt/ext4' 'a//b' '' '/mnt/*/x' 'uid:x')
    local value n silence
    exec {silence}<> <(:)
    until read -r -t 0.5 -u "$silence"; do
        value=
        for ((n = RANDOM % 12; n > 0; n--)); do value+=,${rules[RANDOM % ${#rules[@]}]}; done
        echo "${value#,}" >/proc/sys/provfs/skip
        echo $((RANDOM % 3 * 500)) >/proc/sys/provfs/ts_granularity_ms
        echo $((RANDOM % 33)) >/proc/sys/provfs/history
        ((RANDOM % 2)) && echo packed >/proc/sys/provfs/format || echo keys >/proc/sys/provfs/format
        ((RANDOM % 20)) && echo 1 >/proc/sys/provfs/enabled || echo 0 >/proc/sys/provfs/enabled
    done 2>/dev/null
}

with_class() {
    local stressors
    stressors=$(stress-ng --class 'filesystem?' 2>&1 | sed 's/.*: //' | wc -w)
    # Each of them for a time of its own; which of them can run here is for stress-ng to say.
    stress-ng --class filesystem --sequential 2 --exclude $no --temp-path "/mnt/$1" --oom-avoid --no-rand-seed \
        --timeout "$((seconds / 2 / ${#file_systems[@]} / stressors + 1))s" >/run/output 2>&1
}

with_processes() {
    local stressor known
    known=$(stress-ng --stressors)
    for stressor in "${processes[@]}"; do
        [[ " $known " != *" $stressor "* ]] ||
            stress-ng "--$stressor" 2 --temp-path /mnt/ext4 --oom-avoid --timeout "$((seconds / 2 / ${#processes[@]} + 1))s" || return
    done >/run/output 2>&1
}

run_stress_ng() {
    local fs status
    for fs in "${file_systems[@]}"; do
        # A stressor that says 1 found a call that it does not know; what is asked for here is that the kernel stays whole.
        with_class "$fs"
        status=$?
        result "stress-ng: the file-system class on $fs" $((status >= 128))
    done
    with_processes
    status=$?
    result "stress-ng: processes" $((status >= 128))
}

# Ten times a tenth of it, each with a seed of its own, so that one sees how far it is.
fsx_on() {
    local fs=$1 seed tenth=$(((operations + 9) / 10))
    mkdir "/run/$fs"
    for ((seed = 1; seed <= 10; seed++)); do
        "$fsx" -q -q -f "${0%/*}/fsx.toml" -S $seed -N $tenth -P "/run/$fs" "/mnt/$fs/fsx" >"/run/$fs/output" 2>&1 || return
        echo "# fsx: $((seed * tenth)) operations on $fs after $SECONDS s"
    done
}

# All at once: much of the time of each goes into waiting for its disk.
run_fsx() {
    local fs pids=()
    for fs in "${file_systems[@]}"; do
        fsx_on "$fs" &
        pids+=($!)
    done
    for fs in "${file_systems[@]}"; do
        wait "${pids[0]}"
        result "fsx: $operations operations on $fs" $? "/run/$fs/output"
        pids=("${pids[@]:1}")
    done
}

# Sockets are left out: they are no files, and trinity often crashes while it makes them. If it crashes itself, it is
# started again, but not for ever.
run_trinity() {
    local status=1 early=0 end=$((SECONDS + seconds / 2))
    mkdir -m 777 /mnt/ext4/trinity && cp /etc/services /mnt/ext4/trinity
    while ((SECONDS < end && early < 10)); do
        (cd /mnt/ext4/trinity && timeout $((end - SECONDS)) setpriv --reuid=65534 --regid=65534 --clear-groups \
            "$trinity/usr/bin/trinity" -q -l off -g vfs --disable-fds=sockets -C 4 -V /mnt/ext4/trinity) >/run/output 2>&1
        status=$?
        # It is stopped when its time is over, and never the first to go.
        pkill -KILL trinity
        ((status == 124)) || ((early++))
    done
    echo "# trinity ended early $early times"
    result "trinity: calls with files" $((status != 124))
}

before=$(identities)
change_settings &
changer=$!
case $part in
    stress-ng) run_stress_ng ;;
    fsx) run_fsx ;;
    trinity) run_trinity ;;
esac
kill $changer
wait $changer 2>/dev/null

# Whatever is still going away gets its time.
for ((n = 0; n < 60; n++)); do
    sync
    after=$(identities)
    ((after <= before + 1)) && break
    sleep 1
done
echo "$before descriptions of writers before, $after after" | tee /run/output
result "$part: nobody is remembered who is gone" $((after > before + 1))
exit $failed
