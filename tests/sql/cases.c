/* Hand-written queries: what people write, and the corners that random ones seldom meet. */
#include "tests/sql/cases.h"

#include <stddef.h>

const struct written_case written_cases[] = {
    {"SELECT * FROM t1 ORDER BY id", NULL, "nnnnnrefee", 1},
    {"SELECT * FROM t2 WHERE a = 5", NULL, "nnen", 0},
    {"SELECT COUNT(*) FROM t1", NULL, "n", 0},
    {"SELECT COUNT(*), SUM(v), MIN(v), MAX(s), AVG(v) FROM t1 WHERE id > 100000", NULL, "nnner", 0},
    {"SELECT COUNT(*), SUM(v) FROM t1 WHERE 1 = 0", NULL, "nn", 0},
    {"SELECT k, COUNT(*) FROM t1 WHERE 1 = 0 GROUP BY k", NULL, "nn", 0},
    {"SELECT COUNT(*) FROM t1 HAVING COUNT(*) > 100000", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE v IS NULL AND u IS NULL", NULL, "n", 0},
    {"SELECT id, v FROM t1 WHERE v <=> NULL", "SELECT id, v FROM t1 WHERE v IS NULL", "nn", 0},
    {"SELECT id FROM t1 WHERE v NOT IN (1, 2, NULL)", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE NOT (v = 1) OR v IS NULL ORDER BY id DESC LIMIT 10", NULL, "n", 1},
    {"SELECT id FROM t1 WHERE k BETWEEN 5 AND 4", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE k = 3 AND v BETWEEN -10 AND 10", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE k = 3 AND v < 10", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE k = 3 AND v >= -5 AND v < 20 AND v <> 0", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE k IN (1, 2, 3) AND v IN (4, 5, 6, 7)", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE k < 5 AND k < 3 AND k > -50 AND k > -90", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE v < 5", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE d < 10.005", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE d = 10 OR d = 20.00 OR d = 30.005", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE d BETWEEN -3.5 AND 3", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE s = 'ab'", NULL, "n", 0},
    {"SELECT id, s FROM t1 WHERE s LIKE 'ab%'", NULL, "ne", 0},
    {"SELECT id, s FROM t1 WHERE s LIKE 'c\\%%'",
     "SELECT id, s FROM t1 WHERE s LIKE 'c\\%%' ESCAPE '\\'", "ne", 0},
    {"SELECT id FROM t1 WHERE s >= 'b' AND s < 'c'", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE s > 'k''' AND s <= 'x.TAR.gz'", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE ci = 'FILE.TXT'", NULL, "n", 0},
    {"SELECT ci, COUNT(*) FROM t1 GROUP BY ci", NULL, "fn", 0},
    {"SELECT DISTINCT ci FROM t1", NULL, "f", 0},
    {"SELECT MIN(ci), MAX(ci) FROM t1", NULL, "ff", 0},
    {"SELECT s, ci FROM t1 ORDER BY ci, s, id", NULL, "ef", 1},
    {"SELECT s FROM t1 ORDER BY s DESC, id LIMIT 30 OFFSET 1000", NULL, "e", 1},
    {"SELECT v, f FROM t1 ORDER BY v, f DESC, id", NULL, "nn", 1},
    {"SELECT k FROM t1 ORDER BY k + v, id LIMIT 50", NULL, "n", 1},
    {"SELECT k, SUM(v) AS total FROM t1 GROUP BY k ORDER BY total DESC, k LIMIT 7", NULL, "nn", 1},
    {"SELECT k, SUM(v) FROM t1 GROUP BY k ORDER BY SUM(v) - COUNT(*), 1", NULL, "nn", 1},
    {"SELECT k % 7 AS m, COUNT(*) FROM t1 GROUP BY m HAVING m > 2 AND COUNT(*) > 1", NULL, "nn", 0},
    {"SELECT k % 7, k % 7 + 1 FROM t1 GROUP BY k % 7", NULL, "nn", 0},
    {"SELECT v IS NULL, COUNT(*) FROM t1 GROUP BY v IS NULL", NULL, "nn", 0},
    {"SELECT v, u, COUNT(*) FROM t1 GROUP BY v, u", NULL, "nnn", 0},
    {"SELECT f, d, dd, dt, COUNT(*) FROM t1 GROUP BY f, d, dd, dt", NULL, "nreen", 0},
    {"SELECT SUM(v > 0), SUM(v IS NULL), COUNT(v), COUNT(DISTINCT v), COUNT(DISTINCT k + v) FROM "
     "t1",
     NULL, "nnnnn", 0},
    {"SELECT k, SUM(d), AVG(d), MIN(d), MAX(d) FROM t1 GROUP BY k", NULL, "nrrrr", 0},
    {"SELECT MIN(dd), MAX(dt), MIN(f), SUM(f), AVG(f) FROM t1", NULL, "eennr", 0},
    {"SELECT CASE WHEN v > 20 THEN 'big' WHEN v > 0 THEN 'small' ELSE 'none' END c, COUNT(*) FROM "
     "t1 "
     "GROUP BY c",
     NULL, "en", 0},
    {"SELECT x.id, y.id FROM t1 x JOIN t1 y ON x.v = y.id", NULL, "nn", 0},
    {"SELECT x.id, y.id, z.w FROM t1 x JOIN t1 y ON x.v = y.id JOIN t2 z ON z.a = y.k AND z.b = "
     "y.v",
     NULL, "nne", 0},
    {"SELECT x.id, y.id FROM t1 x, t1 y WHERE x.id = y.id AND x.k = y.k AND y.id = 17", NULL, "nn",
     0},
    {"SELECT p.uid, COUNT(*), SUM(c.size) FROM t3 p JOIN t4 e ON e.parent = p.ino JOIN t3 c ON "
     "c.ino = "
     "e.ino GROUP BY p.uid",
     NULL, "nnn", 0},
    {"SELECT e.name, i.size FROM t4 e, t3 i WHERE i.ino = e.ino AND e.parent = 5", NULL, "en", 0},
    {"SELECT e.name FROM t4 e JOIN t4 f ON f.parent = e.parent AND f.h = e.h AND f.name <> e.name",
     NULL, "e", 0},
    {"SELECT COUNT(*) FROM t3 i JOIN t4 e ON e.ino = i.ino WHERE i.size > 50000 AND e.h < 10", NULL,
     "n", 0},
    {"SELECT COUNT(*) FROM t4 e JOIN t3 i ON i.ino = e.parent WHERE e.parent IN (1, 2, 3, 4, 5, 6, "
     "7)",
     NULL, "n", 0},
    {"SELECT x.s, y.s FROM t1 x JOIN t1 y ON y.s = x.s WHERE x.k = 4 AND y.k = 5", NULL, "ee", 0},
    {"SELECT x.k FROM t1 x JOIN t2 y ON y.a = x.k AND y.b > x.v AND y.w LIKE '%b%'", NULL, "n", 0},
    {"SELECT DISTINCT x.k FROM t1 x JOIN t2 y ON y.a = x.k ORDER BY 1 LIMIT 5", NULL, "n", 1},
    {"SELECT ino, uid, size, COUNT(*) FROM t3 GROUP BY ino", NULL, "nnnn", 0},
    {"SELECT HOME(ino), COUNT(*) FROM t3 WHERE HOME(ino) = 0 GROUP BY HOME(ino)",
     "SELECT ino >> 37, COUNT(*) FROM t3 GROUP BY 1", "nn", 0},
    {"SELECT SIZE_CLASS(size), COUNT(*) FROM t3 WHERE size > 0 GROUP BY 1",
     "SELECT CASE WHEN size < 2 THEN 0 WHEN size < 4 THEN 1 WHEN size < 8 THEN 2 WHEN size < 16 "
     "THEN 3 "
     "WHEN size < 32 THEN 4 WHEN size < 64 THEN 5 WHEN size < 128 THEN 6 WHEN size < 256 THEN 7 "
     "WHEN "
     "size < 512 THEN 8 WHEN size < 1024 THEN 9 WHEN size < 2048 THEN 10 WHEN size < 4096 THEN 11 "
     "WHEN "
     "size < 8192 THEN 12 WHEN size < 16384 THEN 13 WHEN size < 32768 THEN 14 WHEN size < 65536 "
     "THEN 15 "
     "ELSE 16 END, COUNT(*) FROM t3 WHERE size > 0 GROUP BY 1",
     "nn", 0},
    {"SELECT UNIX_TIMESTAMP(dt), YEAR(dd) * 100 + MONTH(dd) FROM t1",
     "SELECT CAST(strftime('%s', dt) AS INTEGER), CAST(strftime('%Y%m', dd) AS INTEGER) FROM t1",
     "nn", 0},
    {"SELECT dt - INTERVAL 90 MINUTE, DATE(dt) + INTERVAL 1 WEEK FROM t1",
     "SELECT datetime(dt, '-90 minutes'), date(dt, '+7 days') FROM t1", "ee", 0},
    {"SELECT id FROM t1 WHERE dt >= TIMESTAMP '2023-12-10 00:00:00' AND dt < DATE '2023-12-20'",
     "SELECT id FROM t1 WHERE dt >= '2023-12-10 00:00:00' AND dt < '2023-12-20 00:00:00'", "n", 0},
    {"SELECT id FROM t1 LIMIT 0", NULL, "n", 0},
    {"SELECT COUNT(*) FROM t1 LIMIT 1 OFFSET 1", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE id IN (5, 5, 6, 6, 7)", NULL, "n", 0},
    {"SELECT id FROM t1 WHERE id = 5 OR id IN (6, 7) OR id = 5", NULL, "n", 0},
    {"SELECT slot, c, fl FROM t5 WHERE fl = 2.5", NULL, "nen", 0},
    {"SELECT slot, c, fl FROM t5 WHERE fl > 0.1 AND fl < 10.3", NULL, "nen", 0},
    {"SELECT slot FROM t5 WHERE tn > -1000 AND tn < 1000", NULL, "n", 0},
    {"SELECT slot FROM t5 WHERE tn >= 100 AND tn < 128", NULL, "n", 0},
    {"SELECT slot FROM t5 WHERE tn IN (-300, -50, 3, 300)", NULL, "n", 0},
    {"SELECT slot FROM t5 WHERE tn = 5 AND tu > -5", NULL, "n", 0},
    {"SELECT slot, c FROM t5 WHERE c = 'ab' AND slot IN (1, 2, 3, 70000)", NULL, "ne", 0},
    {"SELECT slot, c FROM t5 WHERE slot = 3 AND c >= 'a' AND c < 'b'", NULL, "ne", 0},
    {"SELECT m, COUNT(*) FROM t5 WHERE m IN ('AB', 'file.TXT') GROUP BY m", NULL, "fn", 0},
    {"SELECT SUM(fl), MIN(fl), MAX(fl * 2) FROM t5 GROUP BY tu", NULL, "nnn", 0},
    {"SELECT 7, NULL, 'x', id FROM t1 WHERE id < 10", NULL, "nnen", 0},
    {"SELECT id FROM t1 WHERE -id < -500 AND ABS(k) % 3 = 1 AND NOT v", NULL, "n", 0},
};
const int written_case_count = sizeof(written_cases) / sizeof(written_cases[0]);
