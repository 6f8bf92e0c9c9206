-- Files by time since their content last changed.
SELECT CASE
         WHEN mtime > (UNIX_TIMESTAMP() - 86400) * 1000000000 THEN '1 under a day'
         WHEN mtime > (UNIX_TIMESTAMP() - 7 * 86400) * 1000000000 THEN '2 under a week'
         WHEN mtime > (UNIX_TIMESTAMP() - 30 * 86400) * 1000000000 THEN '3 under a month'
         WHEN mtime > (UNIX_TIMESTAMP() - 365 * 86400) * 1000000000 THEN '4 under a year'
         WHEN mtime > (UNIX_TIMESTAMP() - 3 * 365 * 86400) * 1000000000 THEN '5 under three years'
         ELSE '6 older'
       END AS age, COUNT(*) AS files, SUM(size) AS bytes
FROM inode
WHERE type = 1
GROUP BY age
ORDER BY age;
