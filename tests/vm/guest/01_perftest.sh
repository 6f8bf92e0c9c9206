# The rig itself: Soft-RoCE works, and perftest's own figures.
# limit_s: 60
rdma link show
cat /sys/devices/system/clocksource/clocksource0/current_clocksource
ib_send_lat -d rxe0 -s 64 -n 2000 -F >/tmp/server 2>&1 &
sleep 1
ib_send_lat -d rxe0 -s 64 -n 2000 -F "$RIG_ADDRESS" && wait $!
