# An ordinary user who may not lock enough memory is told what to set; with enough of it RDMA works for him.
# limit_s: 30
# programs: tests/vm/vm_probe
fail() { echo "$*"; exit 1; }
as_nobody() { su nobody -s /bin/sh -c "ulimit -l $1; exec vm_probe $2" >/tmp/nobody 2>&1; }
vm_probe serve "verbs:$RIG_ADDRESS:7000" >/tmp/server 2>&1 &
rig_wait /tmp/server serving || exit 1
chmod 1777 /tmp
: >/tmp/nobody
chmod 666 /tmp/nobody
as_nobody 64 "ping verbs:$RIG_ADDRESS:7000 64 10" && fail "it works without locked memory"
cat /tmp/nobody
grep -q 'may lock 64 KiB; raise' /tmp/nobody || fail "no clear reason"
as_nobody 16384 "ping verbs:$RIG_ADDRESS:7000 64 10" || { cat /tmp/nobody; fail "it does not work with 16 MiB"; }
cat /tmp/nobody
