# A wire with delay and loss: nothing is lost, doubled or disordered, and the delay is what a round trip takes.
# limit_s: 120
# programs: tests/vm/vm_probe
fail() { echo "$*"; cat /tmp/out; rig_ask meet end; exit 1; }
ip link set "$RIG_DEVICE" mtu 4400
if [ "$RIG_HOST" = a ]; then
    vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
    rig_wait /tmp/server serving
    rig_ask meet serving
    rig_ask meet end
    cat /tmp/server
else
    rig_ask meet serving
    tc qdisc add dev "$RIG_DEVICE" root netem delay 30ms || fail "no netem"
    vm_probe ping "verbs:$RIG_PEER:7000" 64 20 >/tmp/out 2>&1 || fail "ping"
    cat /tmp/out
    awk '/p50/ { exit !($7 > 30000 && $7 < 3000000) }' /tmp/out || fail "the delay is not seen"
    vm_probe flood "verbs:$RIG_PEER:7000" 4096 500 >/tmp/out 2>&1 || fail "flood with delay"
    cat /tmp/out
    tc qdisc change dev "$RIG_DEVICE" root netem delay 1ms loss 1% || fail "no netem"
    vm_probe flood "verbs:$RIG_PEER:7000" 1000 1000 >/tmp/out 2>&1 || fail "flood with loss"
    cat /tmp/out
    tc qdisc del dev "$RIG_DEVICE" root
    rig_ask meet end
fi
