-- The 20 largest files, by name and directory. A file with several names counts under each.
SELECT d.name AS name, i.size AS bytes, i.blocks * 512 AS on_disk, i.uid AS owner, d.parent AS directory
FROM dentry d JOIN inode i ON i.ino = d.ino
WHERE i.type = 1
ORDER BY bytes DESC, name
LIMIT 20;
