-- Usage by owner: files, bytes and space on disk of every user.
SELECT uid AS owner, COUNT(*) AS inodes, SUM(size) AS bytes, SUM(blocks) * 512 AS on_disk, MAX(size) AS largest
FROM inode
GROUP BY uid
ORDER BY bytes DESC, owner;
