# Runs in a guest whose kernel has the stand-in for agent namespaces; prints TAP.
# shellcheck shell=bash

cd /mnt/ext4 || exit 1
number=0
failed=0

# is NAME FILE SESSION: the file's record names this session.
is() {
    local found
    number=$((number + 1))
    found=$(getfattr --only-values -n user.prov.session "$2" 2>&1)
    # shellcheck disable=SC2053 # a pattern
    if [[ $found == $3 ]]; then
        echo "ok $number - $1"
    else
        echo "not ok $number - $1"
        echo "# $2 names $found, not $3"
        failed=1
    fi
}

id=0123456789abcdef0123456789abcdef
half='\x01\x23\x45\x67\x89\xab\xcd\xef'
enter() { printf '%b' "$half$half" >/proc/agent_ns; }

sh -c 'echo x >outside'
is "outside of any namespace, the session is what it always was" outside 'comm-chain:sh*'

(enter && PROV_SESSION=declared sh -c 'echo x >inside')
is "in a namespace, its ID goes before the environment" inside "$id"

(enter && echo x >unexecuted)
is "who enters one is named by it at once, without an exec" unexecuted "$id"

(enter && echo session=mine >/sys/kernel/security/provfs/self && sh -c 'echo x >own')
is "and before what the process says of itself" own "$id"

(echo session=fixed >/sys/kernel/security/provfs/self && echo lock >/sys/kernel/security/provfs/self &&
    enter && sh -c 'echo x >locked')
is "but not before a lock" locked fixed

(enter && unshare --ipc sh -c 'echo x >other')
is "other namespaces have nothing to do with it" other "$id"

PROV_SESSION=after sh -c 'echo x >after'
is "who did not enter it is not in it" after after

echo "1..$number"
exit "$failed"
