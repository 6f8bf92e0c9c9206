/* link(2). */
#include <linux/fs.h>

#include "metadata/change.h"
#include "metadata/open.h"

static enum err link_attempt(struct fs_client *client, uint64_t ino, uint64_t parent,
                             const struct name *name, struct fs_attr *ret_attr)
{
    struct fs_attr attr;
    enum err err = inode_read(client, ino, &attr);
    if (err) return err == ERR_ESTALE ? ERR_ENOENT : err;
    struct found found;
    err = find_entry(client, parent, name, &found);
    if (err) return err;
    if (found.present) return ERR_EEXIST;
    if (S_ISDIR(attr.mode)) return ERR_EPERM;
    if (attr.flags & (FS_IMMUTABLE_FL | FS_APPEND_FL)) return ERR_EPERM;
    if (attr.nlink == 0) return ERR_ENOENT;
    if (attr.nlink >= FS_LINK_MAX) return ERR_EMLINK;
    err = check_addition(&found.parent);
    if (err) return err;

    struct change change = {.now = fs_now()};
    struct change_dentry *dentry = change_dentry(&change, DENTRY_INSERT, parent, name);
    dentry->ino = ino;
    dentry->type = attr_type(&attr);
    dentry->on_exists = ERR_EEXIST;
    (void)change_parent(&change, parent);
    struct change_inode *inode = change_inode(&change, ino, false);
    inode->guard_nlink = true;
    inode->nlink = attr.nlink;
    inode->guard_flags = true;
    inode->flags = attr.flags;
    inode->nlink_delta = 1;
    if (attr.parent == 0) {
        inode->set_parent = true;
        inode->parent = parent;
        attr.parent = parent;
    }
    err = change_run(client, &change);
    if (err) return err;
    attr.nlink++;
    attr.ctime_ns = change.now;
    *ret_attr = attr;
    return ERR_NONE;
}

enum err fs_link(struct fs_client *client, uint64_t ino, uint64_t parent, const char *name,
                 struct fs_attr *ret_attr)
{
    struct name checked;
    enum err err = name_check_new(client->fs, name, ERR_EEXIST, &checked);
    if (err) return err;
    struct fs_attr attr;
    uint64_t epoch = open_epoch(client->fs);
    struct retry retry = {0};
    do
        err = link_attempt(client, ino, parent, &checked, &attr);
    while (client_again(client, &retry, &err));
    if (err) return err;
    if (!open_overlay(client->fs, epoch, &attr)) {
        err = fs_getattr(client, ino, &attr);
        if (err) return err;
    }
    nlookup_add(client->fs->nlookup, ino, 1);
    attr_publish(&attr);
    *ret_attr = attr;
    return ERR_NONE;
}
