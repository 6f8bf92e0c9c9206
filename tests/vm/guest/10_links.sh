# The transporter's own tests, over verbs: the same that run over tcp, shm and sim on the host.
# limit_s: 240
# programs: tests/unit/rdma-test_link
rdma-test_link -j1 --filter='verbs/*' || status=$?
exit ${status:-0}
