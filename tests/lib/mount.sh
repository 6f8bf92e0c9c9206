# For suites that work in a mount: sourced by tests/*/run. Gives each suite a work directory, a mounted store, and a count.
#
#   mount_begin           makes $work, $store, $mnt and mounts; everything is undone at exit, also after a failure
#   mount_again           unmounts and mounts
#   check NAME COMMAND…   runs it with a time limit and counts it
#   finish                prints the count, and exits
#
# With TRELLIS_TEST_CLUSTER (an address to listen at, such as tcp:127.0.0.1:7400, or just shm) the database is in another
# process, and the mount reaches it over that kind of link.
set -u
trellis=${TRELLIS:-$PWD/build/cli/trellis}
work=$(mktemp -d "${TMPDIR:-/tmp}/trellis-suite-XXXXXX") || exit 1
store=$work/store
mnt=$work/mnt
passed=0
failed=0
mkdir -p "$mnt"

mount_end() {
    cd /
    timeout 240 "$trellis" umount "$mnt" 2>/dev/null || umount -l "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" 2>/dev/null
    # What a failed case left mounted below.
    awk -v dir="$work/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r point; do
        umount -l "$point" 2>/dev/null || fusermount3 -uz "$point" 2>/dev/null
    done
    [ -n "${node_pid:-}" ] && kill -TERM "$node_pid" 2>/dev/null
    rm -rf --one-file-system "$work"
}
trap mount_end EXIT
trap 'exit 130' INT TERM

# The node serves until the end; a suite may mount several times.
node_begin() {
    [ -n "${node_pid:-}" ] && return
    local listen=()
    case $TRELLIS_TEST_CLUSTER in
    shm) cluster_address=shm:$store/link ;;
    *)
        cluster_address=$TRELLIS_TEST_CLUSTER
        listen=(--listen "$cluster_address")
        ;;
    esac
    timeout 60 "$trellis" node --store "$store" --workers 2 "${listen[@]}" &&
        node_pid=$("$trellis" status --store "$store" | awk '$1 == "pid" { print $2 }')
}

mount_begin() {
    local where=(--store "$store")
    if [ -n "${TRELLIS_TEST_CLUSTER:-}" ]; then
        node_begin
        where=(--cluster "$cluster_address" --secret "$store/secret" --data "$work/objects")
    fi
    timeout 240 "$trellis" mount "${where[@]}" ${mount_options:-} "$mnt" || {
        echo "cannot mount"
        echo "0 passed, 1 failed"
        exit 1
    }
}

mount_again() {
    timeout 240 "$trellis" umount "$mnt" && mount_begin
}

check() {
    local name=$1 status limit=${check_seconds:-300}
    shift
    # Functions of the suite run in a subshell of their own, so that a `cd` or `set -e` stays there.
    if [ "$(type -t "$1")" = function ]; then
        ( "$@" ) >"$work/log" 2>&1 &
        local pid=$! waited=0
        while kill -0 $pid 2>/dev/null && [ $waited -lt $((limit * 10)) ]; do
            sleep 0.1
            waited=$((waited + 1))
        done
        kill -9 $pid 2>/dev/null
        wait $pid 2>/dev/null
        status=$?
    else
        timeout -k 5 "$limit" "$@" >"$work/log" 2>&1
        status=$?
    fi
    if [ $status -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $name"
    else
        failed=$((failed + 1))
        echo "FAIL $name (status $status)"
        tail -n 30 "$work/log" | sed 's/^/     /'
    fi
}

finish() {
    echo "$passed passed, $failed failed"
    [ $failed -eq 0 ]
    exit
}
