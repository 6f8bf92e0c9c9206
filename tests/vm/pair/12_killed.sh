# The process at the other end of the wire, reached by its name, is killed and started again, three times.
# limit_s: 150
# programs: tests/vm/vm_probe
if [ "$RIG_HOST" = a ]; then
    for round in 1 2 3; do
        vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
        server=$!
        rig_wait /tmp/server serving || exit 1
        [ $round -eq 1 ] && rig_ask meet serving
        rig_ask meet up$round
        sleep 1
        kill -9 $server
        sleep 0.5
    done
    vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
    rig_ask meet end
else
    rig_ask meet serving
    vm_probe hold verbs:guest-a:7000 6 100 0 24 >/tmp/hold 2>&1 &
    hold=$!
    for round in 1 2 3; do
        rig_wait /tmp/hold "all up, $((round * 6)) "
        rig_ask meet up$round
    done
    wait $hold
    status=$?
    rig_ask meet end
    cat /tmp/hold
    [ $status -eq 0 ] && awk '$1 == "hold:" { ups = $6; downs = $8 } END { exit !(downs >= 18 && ups == downs + 6) }' /tmp/hold
fi
