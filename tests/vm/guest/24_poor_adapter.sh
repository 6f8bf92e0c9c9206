# An adapter that takes no inline data, and whose completion queues keep the size that they had at first.
# limit_s: 180
# programs: tests/unit/rdma-test_link tests/vm/vm_probe tests/vm/poor_adapter.so
fail() { echo "$*"; tail -n 5 /tmp/server /tmp/hold /tmp/more; exit 1; }
poor="env LD_PRELOAD=/bin/poor_adapter.so"
TRELLIS_TEST_SCALE=8 timeout -s KILL 60 $poor rdma-test_link -j1 --filter='verbs/messages*' || exit 1
$poor vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
rig_wait /tmp/server serving || exit 1
for size in 8 64 4096 1000000; do
    $poor vm_probe flood "verbs:$RIG_ADDRESS:7000" $size 200 || fail "the flood of $size bytes failed"
done
# Those that have a place keep it when others find none; these are told, and leave nothing behind.
$poor vm_probe hold "verbs:$RIG_ADDRESS:7000" 60 25 >/tmp/hold 2>&1 &
rig_wait /tmp/hold "up after" || exit 1
timeout 12 vm_probe hold "verbs:$RIG_ADDRESS:7000" 200 10 >/tmp/more 2>&1 && fail "there is room for all"
grep -qE 'rejected|cannot be enlarged' /tmp/more || fail "nobody was refused"
wait $! || fail "the first links failed"
tail -n 1 /tmp/hold
grep -q ' 60 ups, 0 downs' /tmp/hold || fail "not all of the first links stayed up"
vm_probe flood "verbs:$RIG_ADDRESS:7000" 64 2000 || fail "the last flood failed"
