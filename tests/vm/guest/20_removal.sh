# An adapter that is removed while links over it are up: `rdma link del` must not hang on what the processes still hold,
# the links go down, and come up again when the adapter is back.
# limit_s: 90
# programs: tests/vm/vm_probe
fail() { echo "$*"; cat /tmp/server /tmp/hold; exit 1; }
vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
rig_wait /tmp/server serving || exit 1
vm_probe hold "verbs:$RIG_ADDRESS:7000" 8 12 >/tmp/hold 2>&1 &
hold=$!
sleep 3
for round in 1 2; do
    timeout 10 rdma link del rxe0 || fail "the removal hangs in round $round"
    sleep 1
    [ -z "$(rdma link show)" ] || fail "it is still there"
    rdma link add rxe0 type rxe netdev "$RIG_DEVICE" || fail "cannot add it again"
    sleep 2
done
wait $hold || fail "the client failed"
grep -q 'was removed' /tmp/hold || fail "the client did not say that the adapter was removed"
# Eight links, up three times each.
grep -q 'hold: 8 links, .* 24 ups, 16 downs' /tmp/hold || fail "not all links came back"
tail -n 1 /tmp/hold

# Nobody uses it but a server that listens, and one whose client is gone: neither keeps it.
vm_probe ping "verbs:$RIG_ADDRESS:7000" 64 10 || fail "no new client"
timeout 10 rdma link del rxe0 || fail "the removal hangs while the adapter is idle"
vm_probe ping "verbs:$RIG_ADDRESS:7000" 64 1 >/tmp/none 2>&1 && fail "a ping without an adapter"
cat /tmp/none
grep -q 'no RDMA device here' /tmp/none || fail "no clear reason"
vm_probe serve "verbs:$RIG_ADDRESS:7001" >/tmp/none 2>&1 && fail "a server without an adapter"
cat /tmp/none
grep -q 'no RDMA device here' /tmp/none || fail "no clear reason"
rdma link add rxe0 type rxe netdev "$RIG_DEVICE" || fail "cannot add it again"
sleep 2
vm_probe ping "verbs:$RIG_ADDRESS:7000" 64 10 || fail "the server does not listen again"
