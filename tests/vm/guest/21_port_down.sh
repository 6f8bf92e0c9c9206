# The network card below the adapter goes down while links are up: they go down, for a reason that says so. When it is
# up again the links do not come back at once: messages of the connection manager that found no route have put the
# software adapter's own queue pair for them into error for good. A new adapter helps.
# limit_s: 60
# programs: tests/vm/vm_probe
fail() { echo "$*"; cat /tmp/server /tmp/hold; exit 1; }
vm_probe serve verbs:0.0.0.0:7000 >/tmp/server 2>&1 &
rig_wait /tmp/server serving || exit 1
vm_probe hold "verbs:$RIG_ADDRESS:7000" 4 10 >/tmp/hold 2>&1 &
hold=$!
rig_wait /tmp/hold "up after" || exit 1
ip link set "$RIG_DEVICE" down
sleep 1
cat /tmp/server /tmp/hold >/tmp/both
grep -q -E 'has lost its connection|local QP operation error' /tmp/both || fail "not told"
rdma link del rxe0
ip link set "$RIG_DEVICE" up
rdma link add rxe0 type rxe netdev "$RIG_DEVICE"
wait $hold || fail "the client failed"
cat /tmp/hold
grep -q 'hold: 4 links, .* 8 ups, 4 downs' /tmp/hold || fail "not all links went down and came back"
vm_probe ping "verbs:$RIG_ADDRESS:7000" 64 10 || fail "no new client"
