/* Opening files. What a handle can do with its data is in data.c. */
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "metadata/create.h"
#include "metadata/open.h"

static enum err file_new(struct open_inode *inode, int flags, struct fs_file **ret_file)
{
    struct fs_file *file = malloc(sizeof(*file));
    if (!file) return ERR_NO_MEMORY;
    file->inode = inode;
    file->flags = flags;
    pthread_mutex_lock(&inode->mutex);
    atomic_init(&file->error_seen, inode->error_count);
    pthread_mutex_unlock(&inode->mutex);
    *ret_file = file;
    return ERR_NONE;
}

static enum err open_check(struct open_inode *inode, int flags)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
    if (!writes) return ERR_NONE;
    pthread_mutex_lock(&inode->mutex);
    uint32_t protect = inode->flags;
    pthread_mutex_unlock(&inode->mutex);
    if (protect & FS_IMMUTABLE_FL) return ERR_EPERM;
    bool appends = (flags & O_APPEND) && !(flags & O_TRUNC);
    if ((protect & FS_APPEND_FL) && !appends) return ERR_EPERM;
    return ERR_NONE;
}

enum err fs_open_file(struct fs_client *client, uint64_t ino, int flags, struct fs_file **ret_file)
{
    struct open_inode *inode;
    enum err err = open_acquire(client, ino, &inode);
    if (err) return err;
    err = open_check(inode, flags);
    if (!err && (flags & O_TRUNC)) {
        const struct fs_caller nobody = {0};
        const struct fs_attr attr = {.size = 0};
        struct fs_attr result;
        err = fs_setattr(client, &nobody, ino, FS_SET_SIZE, &attr, &result);
    }
    if (!err) err = file_new(inode, flags, ret_file);
    if (err) open_put(inode);
    return err;
}

/* O_CREAT of a name that exists. */
static enum err open_existing(struct fs_client *client, uint64_t parent, const char *name,
                              int flags, struct fs_attr *ret_attr, struct fs_file **ret_file)
{
    struct fs_attr attr;
    enum err err = fs_lookup(client, parent, name, &attr);
    if (err) return err;
    err = fs_open_file(client, attr.ino, flags, ret_file);
    if (err) {
        fs_forget(client, attr.ino, 1);
        return err;
    }
    if (flags & O_TRUNC) attr.size = 0;
    *ret_attr = attr;
    return ERR_NONE;
}

enum err fs_create_file(struct fs_client *client, const struct fs_caller *caller, uint64_t parent,
                        const char *name, uint32_t mode, int flags, struct fs_attr *ret_attr,
                        struct fs_file **ret_file)
{
    struct new_inode new_inode = {
        .caller = caller, .parent = parent, .mode = S_IFREG | (mode & 07777)};
    enum err err = name_check_new(client->fs, name, ERR_EISDIR, &new_inode.name);
    if (err) return err;
    struct fs_attr attr;
    err = create_inode(client, &new_inode, &attr);
    if (err == ERR_EEXIST && !(flags & O_EXCL))
        return open_existing(client, parent, name, flags, ret_attr, ret_file);
    if (err) return err;
    struct open_inode *inode;
    err = open_acquire_new(client, &attr, new_inode.drops, &inode);
    if (!err) {
        err = file_new(inode, flags, ret_file);
        if (err) open_put(inode);
    }
    if (err) {
        /* The file exists all the same; whoever asked may open it. */
        fs_forget(client, attr.ino, 1);
        return err;
    }
    *ret_attr = attr;
    return ERR_NONE;
}
