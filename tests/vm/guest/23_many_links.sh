# Many links over one shared receive queue: its memory is bounded, nothing is lost, nobody starves.
# limit_s: 90
# programs: tests/vm/vm_probe
fail() { echo "$*"; tail -n 5 /tmp/server /tmp/hold; exit 1; }
vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
rig_wait /tmp/server serving || exit 1
vm_probe hold "verbs:$RIG_ADDRESS:7000" 200 10 >/tmp/hold 2>&1 || fail "the client failed"
tail -n 1 /tmp/hold
grep -q 'hold: 200 links, .* 200 ups, 0 downs' /tmp/hold || fail "not all links stayed up"
registered=$(sed -n 's/.* \([0-9]*\) KiB registered/\1/p' /tmp/hold)
[ "$registered" -le 16384 ] || fail "$registered KiB are registered"
# And with all of them there, one floods.
vm_probe hold "verbs:$RIG_ADDRESS:7000" 100 8 >/tmp/hold 2>&1 &
rig_wait /tmp/hold "up after" || exit 1
vm_probe flood "verbs:$RIG_ADDRESS:7000" 4096 2000 || fail "the flood failed"
vm_probe flood "verbs:$RIG_ADDRESS:7000" 64 20000 || fail "the flood failed"
wait $! || fail "the others failed"
tail -n 1 /tmp/hold
grep -q ' 100 ups, 0 downs' /tmp/hold || fail "not all links stayed up"
