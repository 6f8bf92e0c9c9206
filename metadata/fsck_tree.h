/* Private to metadata/: whether the directories form one tree. */
#ifndef METADATA_FSCK_TREE_H
#define METADATA_FSCK_TREE_H

#include <stdint.h>

#include "base/diag.h"
#include "db/api/db.h"

/* Counts the directories whose parents, followed upwards, do not lead to the root: cycles and what
 * hangs on them. On one snapshot. */
MUST_USE enum err fsck_tree(struct db_client *client, uint64_t *ret_lost, struct diag *diag);

#endif
