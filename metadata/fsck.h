/* Integrity checks of a file system, as RonSQL queries over its tables. They run on a store whether
 * it is mounted or not. */
#ifndef METADATA_FSCK_H
#define METADATA_FSCK_H

#include <stdint.h>

#include "base/diag.h"
#include "db/api/db.h"

/* Runs every check and calls finding with one line (borrowed, no newline) for each thing found.
 * *ret_findings counts them; 0: the file system is consistent. Checks that compare two queries are
 * repeated when they disagree, because a mounted file system may have changed in between. The
 * result is an error only when a check could not be run. */
MUST_USE enum err fsck_run(struct db_client *client,
                           void (*finding)(void *context, const char *line), void *context,
                           uint64_t *ret_findings, struct diag *diag);

#endif
