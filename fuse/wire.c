/* Answers in the kernel's own layout: directory entries, and the replies to LOOKUP and GETATTR.
 *
 * libfuse's way is one structure of its own, a copy of it in the kernel's layout, and for a reply a
 * list of buffers. That is little for one request, but a listing has thousands of entries, and a
 * walk through a tree is LOOKUP and GETATTR and nothing else. Layouts are those of linux/fuse.h
 * since protocol 7.9; direct.c makes sure that the kernel speaks it. linux/fuse.h cannot be
 * included together with libfuse's headers everywhere, so only this file and protocol.c do. */
#include "fuse/wire.h"

#include <linux/fuse.h>
#include <string.h>

enum { BLOCK_SIZE = 4096 };

_Static_assert(sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out) <=
                   WIRE_REPLY_SIZE_MAX,
               "replies fit");
_Static_assert(FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + 1) == WIRE_DIRENTPLUS_SIZE_MIN,
               "the name is a byte at least");
_Static_assert(sizeof(struct fuse_out_header) + sizeof(struct fuse_attr_out) <= WIRE_REPLY_SIZE_MAX,
               "replies fit");

struct wire_timeout wire_timeout(double seconds)
{
    if (!(seconds > 0)) return (struct wire_timeout){0, 0};
    /* The kernel keeps the end of it in a signed number of ticks. */
    if (seconds > 1e9) seconds = 1e9;
    uint64_t whole = (uint64_t)seconds;
    double rest = (seconds - (double)whole) * 1e9;
    return (struct wire_timeout){whole, rest >= 999999999.0 ? 999999999u : (uint32_t)rest};
}

uint32_t wire_type_mode(uint8_t type)
{
    static const uint32_t modes[] = {
        [FS_FILE] = S_IFREG,    [FS_DIR] = S_IFDIR,  [FS_SYMLINK] = S_IFLNK, [FS_FIFO] = S_IFIFO,
        [FS_SOCKET] = S_IFSOCK, [FS_CHAR] = S_IFCHR, [FS_BLOCK] = S_IFBLK};
    return type < sizeof(modes) / sizeof(modes[0]) ? modes[type] : 0;
}

/* Nanoseconds since 1970, also before it, as seconds and a positive rest. */
static void put_time(int64_t ns, uint64_t *seconds, uint32_t *rest)
{
    int64_t whole = ns / 1000000000;
    int64_t part = ns % 1000000000;
    if (part < 0) {
        whole--;
        part += 1000000000;
    }
    *seconds = (uint64_t)whole;
    *rest = (uint32_t)part;
}

static void put_attr(const struct fs_attr *attr, struct fuse_attr *to)
{
    to->ino = attr->ino;
    to->size = attr->size;
    to->blocks = attr->blocks;
    put_time(attr->atime_ns, &to->atime, &to->atimensec);
    put_time(attr->mtime_ns, &to->mtime, &to->mtimensec);
    put_time(attr->ctime_ns, &to->ctime, &to->ctimensec);
    to->mode = attr->mode;
    to->nlink = attr->nlink;
    to->uid = attr->uid;
    to->gid = attr->gid;
    to->rdev = attr->rdev;
    to->blksize = BLOCK_SIZE;
    to->flags = 0;
}

static void put_entry(const struct fs_attr *attr, const struct wire_timeouts *timeouts,
                      struct fuse_entry_out *to)
{
    to->nodeid = attr->ino;
    to->generation = attr->generation;
    to->entry_valid = timeouts->entry.s;
    to->attr_valid = timeouts->attr.s;
    to->entry_valid_nsec = timeouts->entry.ns;
    to->attr_valid_nsec = timeouts->attr.ns;
    put_attr(attr, &to->attr);
}

/* ---- directory entries ---- */

static void put_name(uint8_t *at, size_t head, size_t size, const struct fs_dirent *entry,
                     struct fuse_dirent *dirent)
{
    *dirent = (struct fuse_dirent){
        .ino = entry->ino,
        .off = entry->cookie,
        .namelen = entry->name_size,
        .type = wire_type_mode(entry->type) >> 12,
    };
    memcpy(at + head - FUSE_NAME_OFFSET, dirent, FUSE_NAME_OFFSET);
    memcpy(at + head, entry->name, entry->name_size);
    memset(at + head + entry->name_size, 0, size - head - entry->name_size);
}

size_t wire_put_dirent(uint8_t *at, size_t left, const struct fs_dirent *entry)
{
    size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + (size_t)entry->name_size);
    if (size > left) return 0;
    struct fuse_dirent dirent;
    put_name(at, FUSE_NAME_OFFSET, size, entry, &dirent);
    return size;
}

size_t wire_put_direntplus(uint8_t *at, size_t left, const struct fs_dirent *entry,
                           const struct wire_timeouts *timeouts, bool *ret_counts)
{
    size_t size = FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET_DIRENTPLUS + (size_t)entry->name_size);
    if (size > left) return 0;
    const char *name = entry->name;
    bool is_dot = name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
    *ret_counts = entry->has_attr && !is_dot;
    struct fuse_entry_out out;
    if (*ret_counts) {
        put_entry(&entry->attr, timeouts, &out);
    } else {
        /* Node 0 says: this is no lookup, only the name, number and type are shown. */
        memset(&out, 0, sizeof(out));
        out.attr.ino = entry->ino;
        out.attr.mode = wire_type_mode(entry->type);
    }
    memcpy(at, &out, sizeof(out));
    struct fuse_dirent dirent;
    put_name(at, FUSE_NAME_OFFSET_DIRENTPLUS, size, entry, &dirent);
    return size;
}

/* ---- requests ---- */

bool wire_request_parse(const uint8_t *bytes, size_t size, struct wire_request *ret_request)
{
    struct fuse_in_header header;
    if (size < sizeof(header)) return false;
    memcpy(&header, bytes, sizeof(header));
    if (header.len != size) return false;
    *ret_request = (struct wire_request){
        .unique = header.unique,
        .node = header.nodeid,
        .opcode = header.opcode,
        .body_size = (uint32_t)(size - sizeof(header)),
        .body = bytes + sizeof(header),
    };
    return true;
}

const char *wire_request_name(const struct wire_request *request)
{
    if (!request->body_size || request->body[request->body_size - 1]) return NULL;
    return (const char *)request->body;
}

bool wire_is_lookup(uint32_t opcode)
{
    return opcode == FUSE_LOOKUP;
}

bool wire_is_getattr(uint32_t opcode)
{
    return opcode == FUSE_GETATTR;
}

/* ---- replies ---- */

static void put_header(uint8_t *reply, uint64_t unique, int error, size_t size)
{
    struct fuse_out_header header = {.len = (uint32_t)size, .error = -error, .unique = unique};
    memcpy(reply, &header, sizeof(header));
}

size_t wire_put_error(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique, int error)
{
    put_header(reply, unique, error, sizeof(struct fuse_out_header));
    return sizeof(struct fuse_out_header);
}

static size_t finish(uint8_t *reply, uint64_t unique, const void *body, size_t body_size)
{
    size_t size = sizeof(struct fuse_out_header) + body_size;
    put_header(reply, unique, 0, size);
    memcpy(reply + sizeof(struct fuse_out_header), body, body_size);
    return size;
}

size_t wire_put_entry(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                      const struct fs_attr *attr, const struct wire_timeouts *timeouts)
{
    struct fuse_entry_out out;
    put_entry(attr, timeouts, &out);
    return finish(reply, unique, &out, sizeof(out));
}

size_t wire_put_no_entry(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                         const struct wire_timeouts *timeouts)
{
    const struct fuse_entry_out out = {.entry_valid = timeouts->negative.s,
                                       .entry_valid_nsec = timeouts->negative.ns};
    return finish(reply, unique, &out, sizeof(out));
}

size_t wire_put_attr(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                     const struct fs_attr *attr, const struct wire_timeouts *timeouts)
{
    struct fuse_attr_out out = {.attr_valid = timeouts->attr.s,
                                .attr_valid_nsec = timeouts->attr.ns};
    put_attr(attr, &out.attr);
    return finish(reply, unique, &out, sizeof(out));
}
