# The file system with its database in another process, reached over verbs: mount, copy a tree, compare it, run
# reports; the node ends and comes back; it is killed; the mount is killed; somebody does not know the secret.
# limit_s: 420
# programs: cli/trellis
w=/tmp/fs
to=verbs:$RIG_ADDRESS:7400
passed=0
failed=0

check() { # NAME STATUS
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1"
    else
        failed=$((failed + 1))
        echo "FAIL $1"
        tail -n 20 $w/out
    fi
}

node_start() {
    trellis node -f --store $w/store --listen "$to" --workers 2 "$@" >$w/node.log 2>&1 &
    node=$!
    i=0
    while [ $i -lt 100 ] && ! grep -q serving $w/node.log; do
        sleep 0.1
        i=$((i + 1))
    done
    [ $i -lt 100 ]
}

mount_it() {
    trellis mount --cluster "$to" --secret $w/store/secret --data $w/data --timeout 20 --workers 2 $w/mnt
}

rows() {
    trellis sql --cluster "$to" --secret $w/store/secret --output-format TEXT_NOHEADER -e "$1"
}

mkdir -p $w/mnt $w/tree/deep/er
cp /tests/* /etc/profile $w/tree/
dd if=/dev/urandom of=$w/tree/random bs=64k count=40 2>/dev/null
i=0
while [ $i -lt 300 ]; do
    echo "$i" >"$w/tree/deep/er/file$i"
    i=$((i + 1))
done
ln $w/tree/random $w/tree/deep/hard
ln -s ../random $w/tree/deep/symbolic

node_start && mount_it >$w/out 2>&1
check "mount over verbs" $?
grep -q "$w/mnt fuse.trellis" /proc/mounts
check "it is there" $?

(
    set -e
    cp -a $w/tree $w/mnt/
    diff -r $w/tree $w/mnt/tree
    [ "$(stat -c '%h %i' $w/mnt/tree/random)" = "$(stat -c '%h %i' $w/mnt/tree/deep/hard)" ]
    [ "$(readlink $w/mnt/tree/deep/symbolic)" = ../random ]
    [ "$(find $w/tree | wc -l)" = "$(find $w/mnt/tree | wc -l)" ]
) >$w/out 2>&1
check "copy a tree and compare it" $?

(
    set -e
    trellis report --mount $w/mnt usage-by-owner
    trellis report --mount $w/mnt usage-by-size | grep -q .
    [ "$(rows "SELECT COUNT(*) FROM dentry WHERE name LIKE 'file%'")" = 300 ]
    trellis report --cluster "$to" --secret $w/store/secret du /tree
) >$w/out 2>&1
check "reports" $?
cat $w/out

trellis status --cluster "$to" --secret $w/store/secret >$w/status 2>$w/out && grep -q 'verbs ' $w/status &&
    awk '$1 == "registered_bytes" && $2 > 0 { found = 1 } END { exit !found }' $w/status
check "links and registered memory in the status" $?
grep -A 6 '^ *port' $w/status | head -n 8

tr 0-9a-f 1-9a-f0 <$w/store/secret >$w/wrong
chmod 600 $w/wrong
trellis sql --cluster "$to" --secret $w/wrong -e 'SHOW TABLES' >$w/out 2>&1
[ $? -eq 1 ] && grep -q secret $w/out
check "a wrong secret" $?

# It ends cleanly and comes back while somebody works.
(
    n=0
    failures=0
    while [ ! -e $w/enough ]; do
        n=$((n + 1))
        echo "$n" >"$w/mnt/during$n" || failures=$((failures + 1))
    done
    echo $((n - failures)) >$w/made
    # At most the change that was on its way when it ended has an outcome that nobody knows.
    [ $failures -le 1 ]
) >$w/load 2>&1 &
load=$!
sleep 1
kill -TERM $node && wait $node
node_start >$w/out 2>&1
sleep 1
: >$w/enough
wait $load && [ "$(find $w/mnt -name 'during*' | wc -l)" -ge "$(cat $w/made)" ]
check "a node that ended and came back under load" $?
cat $w/load

trellis umount $w/mnt >$w/out 2>&1 && [ ! -s $w/data/trellis.log ] && kill -TERM $node && wait $node
check "unmount, and end the node" $?
cat $w/data/trellis.log

# Killed, when every change is on disk before it is answered: nothing may be missing.
node_start --flush always && mount_it >$w/out 2>&1
check "mount again" $?
diff -r $w/tree $w/mnt/tree >$w/out 2>&1
check "the tree is still the same" $?
: >$w/acknowledged
(
    n=0
    while [ ! -e $w/enough2 ]; do
        n=$((n + 1))
        mkdir "$w/mnt/kept$n" && echo "kept$n" >>$w/acknowledged
    done
) >$w/load 2>&1 &
load=$!
sleep 1
kill -9 $node
wait $node 2>/dev/null
node_start --flush always >$w/out 2>&1
sleep 2
: >$w/enough2
wait $load
missing=0
while read -r name; do
    [ -d "$w/mnt/$name" ] || missing=$((missing + 1))
done <$w/acknowledged
[ $missing -eq 0 ] && [ "$(wc -l <$w/acknowledged)" -gt 2 ] && [ "$(wc -l <$w/load)" -le 1 ]
check "a node killed under load, $(wc -l <$w/acknowledged) changes acknowledged" $?
cat $w/load

# The mount is killed; another one takes over at once.
server=$(rows 'SELECT holder FROM server WHERE slot = 0' | awk '{ print $2 }')
echo synced >$w/mnt/synced && sync $w/mnt/synced
kill -9 "$server"
sleep 0.5
mount_it >$w/out 2>&1 && [ "$(cat $w/mnt/synced)" = synced ]
check "a mount killed and made again" $?
trellis fsck --mount $w/mnt >$w/out 2>&1
check "fsck" $?
trellis umount $w/mnt >$w/out 2>&1
check "unmount" $?
kill -TERM $node && wait $node
cat $w/node.log $w/data/trellis.log
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
