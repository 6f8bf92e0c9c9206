/* The control socket of a serving process: where its database is, and what only the process itself
 * can do. */
#ifndef CLI_CONTROL_H
#define CLI_CONTROL_H

#include "base/diag.h"
#include "metadata/fs.h"

struct control;

struct control_config {
    const char *dir;        /* the socket is DIR/trellis.sock (0600) */
    const char *where;      /* the answer to "where"; copied */
    const char *mountpoint; /* the answer to "mount"; NULL: there is none. Copied */
    struct db *db;
    struct fs *fs; /* NULL: there is no mount */
};

/* Answers root and the owner of this process only:
 *   where   how to reach the database: JSON {"addresses": […], "secret": the file's path}
 *   mount   the absolute path of the mount
 *   report  sizes and times of open files become rows, so that a query sees what was written */
MUST_USE enum err control_create(const struct control_config *config, struct control **ret_control,
                                 struct diag *diag);
void control_destroy(struct control *control); /* ends its threads; NULL is allowed */

#endif
