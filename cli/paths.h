/* Paths of directories by their inode numbers, for reports. */
#ifndef CLI_PATHS_H
#define CLI_PATHS_H

#include "sql/sql.h"

enum {
    PATHS_DEPTH_MAX = 512,    /* levels followed; above them a path begins with "..." */
    PATHS_SIZE_MAX = 4096,    /* bytes of one path, likewise */
    PATHS_COUNT_MAX = 1 << 20 /* directories looked at in one go: ERR_TOO_BIG */
};

/* Labels for a column of directories' inode numbers: absolute paths within the file system. A
 * directory that is gone is "(removed directory INO)", also where it stands above another one. */
MUST_USE enum err paths_create(const char *column, struct sql_labels **ret_labels);
void paths_destroy(struct sql_labels *labels); /* NULL allowed */

#endif
