# The wire is cut while links are up, over verbs and tcp: keep-alive finds out, and they come back when it is mended.
# limit_s: 180
# programs: tests/vm/vm_probe
fail() { echo "$*"; cat /tmp/server /tmp/hold-*; rig_ask meet end; exit 1; }
if [ "$RIG_HOST" = a ]; then
    vm_probe serve "verbs:$RIG_ADDRESS:7000" adaptive 2000 >/tmp/server 2>&1 &
    vm_probe serve "tcp:$RIG_ADDRESS:7001" adaptive 2000 >/tmp/server-tcp 2>&1 &
    rig_wait /tmp/server serving && rig_wait /tmp/server-tcp serving
    rig_ask meet serving
    rig_ask meet up
    sleep 1
    rig_ask link off || fail "cannot cut"
    sleep 5
    rig_ask link on || fail "cannot mend"
    rig_ask meet end
    cat /tmp/server /tmp/server-tcp
else
    rig_ask meet serving
    : >/tmp/server
    vm_probe hold "verbs:$RIG_PEER:7000" 4 70 2000 8 >/tmp/hold-verbs 2>&1 &
    verbs=$!
    vm_probe hold "tcp:$RIG_PEER:7001" 4 70 2000 8 >/tmp/hold-tcp 2>&1 &
    tcp=$!
    rig_wait /tmp/hold-verbs "up after" && rig_wait /tmp/hold-tcp "up after" || fail "never up"
    rig_ask meet up
    wait $verbs || fail "the verbs client failed"
    wait $tcp || fail "the tcp client failed"
    cat /tmp/hold-verbs /tmp/hold-tcp
    for kind in verbs tcp; do
        # More than once each, where the machine below is too busy to let the guests answer in time.
        awk '$1 == "hold:" { ups = $6; downs = $8 } END { exit !(downs >= 4 && ups == downs + 4) }' /tmp/hold-$kind ||
            fail "not all $kind links went down and came back"
        grep -q -E 'nothing was heard|does not answer' /tmp/hold-$kind || fail "$kind gave no such reason"
    done
    rig_ask meet end
fi
