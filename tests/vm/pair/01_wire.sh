# The rig itself: the wire between two guests carries packets, can be cut and mended.
# limit_s: 60
rig_ask meet begin || exit 1
ping -c 2 "$RIG_PEER" || exit 1
rig_ask meet pinged || exit 1
if [ "$RIG_HOST" = a ]; then
    rig_ask link off || exit 1
    ping -c 1 -W 1 "$RIG_PEER" && exit 1
    rig_ask link on || exit 1
    sleep 1
    ping -c 2 "$RIG_PEER" || exit 1
fi
rig_ask meet end
