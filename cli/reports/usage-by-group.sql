-- Usage by group: files, bytes and space on disk of every group.
SELECT gid AS `group`, COUNT(*) AS inodes, SUM(size) AS bytes, SUM(blocks) * 512 AS on_disk, MAX(size) AS largest
FROM inode
GROUP BY gid
ORDER BY bytes DESC, `group`;
