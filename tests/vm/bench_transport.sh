# `trellis bench transport` over every back end of the guest; then RDMA beside perftest on the same device.
# programs: cli/trellis
#
# The second part goes in turns, because the machine below is shared: in each of five, perftest's round trips (the
# "typical" one-way time of ib_send_lat, its median, doubled) and right after them ours, spinning at depth 1; with them
# RDMA and TCP sleeping, 64 bytes at depth 1. What is reported is the turn whose ratio is the middle one.
turns=5
case " $BENCH_OPTIONS " in *" --quick "*) turns=3 ;; esac
eval "trellis bench transport --address $RIG_ADDRESS --json /share/bench.json --plot /share/bench.svg $BENCH_OPTIONS" ||
    exit 1

perftest() { # prints SIZE MICROSECONDS
    for size in 64 512 4096 65536; do
        count=1000
        [ $size -eq 65536 ] && count=100
        taskset 2 ib_send_lat -d rxe0 -s $size -n $count -F >/tmp/server 2>&1 &
        server=$!
        sleep 0.5
        taskset 1 ib_send_lat -d rxe0 -s $size -n $count -F "$RIG_ADDRESS" >/tmp/client 2>&1
        wait $server
        awk -v size=$size '$1 == size && NF >= 8 { printf "%d %.2f\n", size, $5 * 2 }' /tmp/client
    done
}
ours() { # prints SIZE MICROSECONDS; sleeping: MICROSECONDS of TCP, of RDMA, to /tmp/sleeping.turns
    taskset 1 trellis bench transport --quick --runs 1 --peer "verbs:$RIG_ADDRESS:7100" --peer tcp:127.0.0.1:7101 \
        --json /tmp/ours.json >/dev/null || return 1
    sed -n 's/.*"case":"\(verbs\|tcp\) sleeping 64 B depth 1: round trip p50","value":\([0-9.]*\).*/\1 \2/p' /tmp/ours.json |
        awk '{ at[$1] = $2 } END { print at["tcp"] / at["verbs"], at["tcp"], at["verbs"] }' >>/tmp/sleeping.turns
    sed -n 's/.*"verbs spinning \([0-9]*\) \(K*i*B\) depth 1: round trip p50","value":\([0-9.]*\).*/\1 \2 \3/p' /tmp/ours.json |
        awk '{ print $2 == "KiB" ? $1 * 1024 : $1, $3 }'
}
taskset 2 trellis bench transport --serve "verbs:$RIG_ADDRESS:7100" >/tmp/serve 2>&1 &
taskset 2 trellis bench transport --serve tcp:127.0.0.1:7101 >/tmp/serve.tcp 2>&1 &
sleep 1
turn=0
while [ $turn -lt $turns ]; do
    perftest >/tmp/theirs.turn
    ours >/tmp/ours.turn || exit 1
    awk 'NR == FNR { theirs[$1] = $2; next } $1 in theirs { print $1, $2 / theirs[$1], $2, theirs[$1] }' \
        /tmp/theirs.turn /tmp/ours.turn >>/tmp/turns
    turn=$((turn + 1))
done
[ -s /tmp/turns ] || { cat /tmp/server /tmp/client /tmp/serve; exit 1; }
echo
echo "verbs spinning beside perftest's ib_send_lat in turns; round trips at depth 1, us; target: 1.5 times at most"
sort -k1n -k2n /tmp/turns | awk -v middle=$(((turns + 1) / 2)) -v turns=$turns '++seen[$1] == middle {
    printf "%8d B %12.1f %12.1f  ratio %.2f\n", $1, $3, $4, $2
    printf "{\"bench\":\"transport\",\"case\":\"verbs spinning %d B depth 1, in turns: round trip p50\",\"value\":%s," \
        "\"unit\":\"us\",\"runs\":%d,\"note\":\"lower is better; target 1.5\",\"against\":\"ib_send_lat\"," \
        "\"against_value\":%s,\"ratio\":%.3f}\n", $1, $3, turns, $4, $2 >>"/share/bench.json"
}'
echo
echo "tcp sleeping beside verbs sleeping in turns; round trips of 64 B at depth 1, us; higher is better, target: 1"
sort -n /tmp/sleeping.turns | awk -v middle=$(((turns + 1) / 2)) -v turns=$turns 'NR == middle {
    printf "%10s %12.1f %12.1f  ratio %.2f\n", "", $2, $3, $1
    printf "{\"bench\":\"transport\",\"case\":\"tcp sleeping 64 B depth 1, in turns: round trip p50\",\"value\":%s," \
        "\"unit\":\"us\",\"runs\":%d,\"note\":\"higher is better; target 1\",\"against\":\"verbs sleeping\"," \
        "\"against_value\":%s,\"ratio\":%.3f}\n", $2, turns, $3, $1 >>"/share/bench.json"
}'
