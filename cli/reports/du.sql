-- Files, bytes and space on disk below a directory: trellis report du PATH
-- PATH is a path in a mount, or, with --store, from the root of the file system.
-- The first statement finds the subdirectories of :directories and is repeated level by level; the second adds up what lies
-- directly in them. A file with several names below PATH counts once per name.
SELECT d.ino AS ino FROM dentry d WHERE d.parent IN (:directories) AND d.type = 2;
SELECT COUNT(*) AS entries, SUM(i.size) AS bytes, SUM(i.blocks) * 512 AS on_disk
FROM dentry d JOIN inode i ON i.ino = d.ino
WHERE d.parent IN (:directories);
