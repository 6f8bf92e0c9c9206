-- Files by size class: class k holds sizes from 2^k to 2^(k+1)-1 bytes; -1 is the empty files.
SELECT SIZE_CLASS(size) AS class, COUNT(*) AS files, SUM(size) AS bytes, SUM(blocks) * 512 AS on_disk
FROM inode
WHERE type = 1
GROUP BY SIZE_CLASS(size)
ORDER BY class;
