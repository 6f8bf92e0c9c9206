# The transporter's own tests, over verbs: the same that run over tcp, shm and sim on the host.
# limit_s: 420
# programs: tests/unit/rdma-test_link*
export TRELLIS_TEST_SCALE=16
status=0
for program in /bin/rdma-test_link*; do
    echo "${program##*/}"
    timeout -s KILL 150 "$program" -j1 --filter='verbs/*' || status=1
done
exit $status
