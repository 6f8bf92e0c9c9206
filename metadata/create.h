/* Making inodes with a name. Private to metadata/. */
#ifndef METADATA_CREATE_H
#define METADATA_CREATE_H

#include "metadata/client.h"

/* A new inode that is no directory. */
struct new_inode {
    const struct fs_caller *caller;
    uint64_t parent;
    struct name name;
    uint32_t mode; /* with the type */
    uint32_t rdev;
    const char *target; /* of a symbolic link */
    uint32_t target_size;
    uint64_t drops; /* out: open_drops before the inode could be known */
};
/* In one program, with its lookup counted. */
MUST_USE enum err create_inode(struct fs_client *client, struct new_inode *new_inode,
                               struct fs_attr *ret_attr);
/* The step that inserts the row of *attr. */
void insert_inode(struct fs_client *client, const struct fs_attr *attr);

#endif
