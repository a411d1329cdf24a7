# What a kernel says when it has caught a mistake. One list, for every reader of a console.
# shellcheck shell=bash

REPORTS=(
    'BUG: '
    'WARNING: '
    'Oops'
    'general protection fault'
    'Kernel panic'
    'kernel BUG at'
    'Internal error: '
    'KASAN: '
    'KFENCE: '
    'UBSAN: '
    'possible recursive locking'
    'possible circular locking'
    'possible irq lock inversion'
    'inconsistent lock state'
    'INFO: trying to register non-static key'
    'suspicious RCU usage'
    'bad unlock balance'
    'held lock freed'
    'lock held when returning to user space'
    'sleeping function called from invalid context'
    'scheduling while atomic'
    'INFO: task .* blocked for more than'
    'detected stalls'
    'self-detected stall'
    'soft lockup'
    'refcount_t: '
    'list_(add|del) corruption'
    'kmemleak: [0-9]+ new suspected'
    'Busy inodes after unmount'
    'still in use'
    'rust_kernel: panicked'
    'EXT4-fs error'
    'XFS .*(Internal error|[Cc]orruption)'
    'BTRFS (error|critical)'
)

# find_reports CONSOLE: prints each report with the lines after it (numbered as in the log), nothing when it is clean.
# KTAP lines are left to the test parser: a failed expectation may quote anything. The guest's init has warnings of its own.
find_reports() {
    local pattern
    pattern=$(IFS='|' && echo "${REPORTS[*]}")
    tr -d '\r' <"$1" | sed -E 's/virtme(-ng)?-init: .*//' | grep -aEn -A 30 "^(\[[^]]*\] ?)?(\[[^]]*\] ?)?[^#]*($pattern)" | head -n 150 || true
}
