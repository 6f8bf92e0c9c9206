-- Usage by file-name extension, the 30 with most bytes. A file with several names counts under each.
SELECT EXTENSION(d.name) AS extension, COUNT(*) AS files, SUM(i.size) AS bytes, AVG(i.size) AS average
FROM dentry d JOIN inode i ON i.ino = d.ino
WHERE d.type = 1
GROUP BY EXTENSION(d.name)
ORDER BY bytes DESC, extension
LIMIT 30;
