# `trellis bench transport` over every back end, beside perftest's round trips on the same device.
# programs: cli/trellis
# ib_send_lat's "typical" one-way time, which is its median, doubled, in microseconds.
perftest() {
    for size in 64 512 4096 65536; do
        count=1000
        [ $size -eq 65536 ] && count=100
        taskset 2 ib_send_lat -d rxe0 -s $size -n $count -F >/tmp/server 2>&1 &
        server=$!
        sleep 0.5
        taskset 1 ib_send_lat -d rxe0 -s $size -n $count -F "$RIG_ADDRESS" >/tmp/client 2>&1
        wait $server
        awk -v size=$size '$1 == size && NF >= 8 { printf "%d %.2f\n", size, $5 * 2 }' /tmp/client >>/tmp/perftest
    done
}
perftest
perftest
perftest
# The middle one of the three.
against=$(sort -k1n -k2n /tmp/perftest | awk '++seen[$1] == 2 { printf " --against ib_send_lat:%d=%s", $1, $2 }')
[ -n "$against" ] || { cat /tmp/server /tmp/client; exit 1; }
eval "trellis bench transport --address $RIG_ADDRESS --json /share/bench.json --plot /share/bench.svg $against $BENCH_OPTIONS"
