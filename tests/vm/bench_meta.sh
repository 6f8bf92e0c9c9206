# `trellis bench meta` over every back end, RDMA among them.
# programs: cli/trellis
eval "trellis bench meta --address $RIG_ADDRESS --json /share/bench.json $BENCH_OPTIONS"
