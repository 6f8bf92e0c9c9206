-- The 20 directories with most direct children.
SELECT parent AS directory, COUNT(*) AS children
FROM dentry
GROUP BY parent
ORDER BY children DESC, directory
LIMIT 20;
