/* Private to fuse/: what the callbacks share. */
#ifndef FUSE_SERVE_H
#define FUSE_SERVE_H

#define FUSE_USE_VERSION 312
#include <fuse3/fuse_lowlevel.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "fuse/wire.h"
#include "metadata/fs.h"

struct mount;

enum {
    SERVE_WRITE_SIZE_MAX = 1 << 20,
    SERVE_BUFFER_SIZE = SERVE_WRITE_SIZE_MAX + 65536,
    SERVE_DIRENTS_MAX = 512,
};

/* A worker's side of the mount; used on that worker's thread only. */
struct server {
    struct mount *mount;
    struct db_watch watch;
    struct db_client *db_client;
    struct fs_client *fs;
    uint8_t *buffer; /* the request being handled; a large write takes it along */
    uint8_t probe;   /* so many more times a read follows a request at once */
    uint32_t handled;
    bool
        kill_privileges; /* the request asks to clear setuid and setgid (FUSE_HANDLE_KILLPRIV_V2) */
    struct fs_dirent *entries;
    uint64_t *listed; /* inodes of the entries of a reply, as many as fit in one */
    uint8_t *reply;   /* directory replies */
    size_t reply_size;
    uint16_t worker;
};

struct mount {
    struct mount_settings {
        double entry_timeout_s;
        double attr_timeout_s;
        double negative_timeout_s;
    } settings;
    struct wire_timeouts timeouts; /* the same, as the kernel wants them */
    struct db *db;
    struct fs *fs;
    struct fuse_session *session;
    char *mountpoint;
    int ended_fd; /* eventfd */
    uint16_t server_count;
    struct server *servers;
    _Atomic uint32_t serving;  /* watches not yet ended */
    _Atomic uint64_t io_count; /* data requests under way */
    _Atomic bool stopping;
    uint64_t init_unique; /* of the INIT request, whose reply is amended */
    bool kill_privileges; /* agreed on */
    bool may_be_direct;   /* no option asks libfuse to look at who is asking */
    _Atomic bool direct;  /* and the kernel speaks the protocol of wire.c */
    struct sync_queue *syncs;
};

/* The server of the calling worker thread. */
extern _Thread_local struct server *serve_current;
/* The descriptor that the request being answered came from: a reply must leave by the same one. */
extern _Thread_local int serve_reply_fd;

void serve_ops_name(struct fuse_lowlevel_ops *ops);
void serve_ops_attr(struct fuse_lowlevel_ops *ops);
void serve_ops_dir(struct fuse_lowlevel_ops *ops);
void serve_ops_file(struct fuse_lowlevel_ops *ops);

static inline struct fs_client *serve_fs(void)
{
    return serve_current->fs;
}
struct fs_caller serve_caller(fuse_req_t req);
/* Answers the request if it is one of the most frequent; false: libfuse is to do it. Only when
 * mount->direct. direct.c */
bool serve_direct(const struct server *server, const uint8_t *bytes, size_t size);
/* One reply each. A failed entry or create reply takes back the kernel reference that it would have
 * been. */
void serve_reply_err(fuse_req_t req, enum err err);
void serve_reply_entry(fuse_req_t req, const struct fs_attr *attr);
void serve_reply_attr(fuse_req_t req, const struct fs_attr *attr);
/* The kernel's copy of the attributes is old: something changed them that it does not know to.
 * Before the reply. */
void serve_forget_attr(uint64_t ino);
void serve_attr_stat(const struct fs_attr *attr, struct stat *ret_stat);
void serve_entry_param(const struct mount *mount, const struct fs_attr *attr,
                       struct fuse_entry_param *ret_entry);

/* Work that waits for the disk without an open file (fsync of a directory): a thread of its own.
 * sync.c */
struct sync_queue;
MUST_USE enum err sync_queue_create(struct mount *mount, struct sync_queue **ret_queue);
void sync_queue_destroy(struct sync_queue *queue); /* answers what is queued; NULL is allowed */
void sync_queue_add(struct sync_queue *queue, fuse_req_t req, int reply_fd);

#endif
