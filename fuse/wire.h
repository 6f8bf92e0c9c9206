/* Private to fuse/: answers in the kernel's own layout (linux/fuse.h), for the requests that come
 * in such numbers that the way through libfuse's structures is felt. */
#ifndef FUSE_WIRE_H
#define FUSE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metadata/fs.h"

/* How long the kernel may keep something. */
struct wire_timeout {
    uint64_t s;
    uint32_t ns;
};
struct wire_timeouts {
    struct wire_timeout entry;
    struct wire_timeout attr;
    struct wire_timeout negative;
};
struct wire_timeout wire_timeout(double seconds);

/* The type bits of st_mode. */
uint32_t wire_type_mode(uint8_t type);

enum { WIRE_DIRENTPLUS_SIZE_MIN = 160 };
/* Puts a directory entry, without or with attributes, where `left` bytes are free. Returns its
 * size; 0: it does not fit. With attributes an entry that has some, and is not "." or "..", is a
 * lookup: *ret_counts is true then. */
size_t wire_put_dirent(uint8_t *at, size_t left, const struct fs_dirent *entry);
size_t wire_put_direntplus(uint8_t *at, size_t left, const struct fs_dirent *entry,
                           const struct wire_timeouts *timeouts, bool *ret_counts);

/* A request whose header has been checked. */
struct wire_request {
    uint64_t unique;
    uint64_t node;
    uint32_t opcode;
    uint32_t body_size;
    const uint8_t *body; /* borrowed */
};
/* False: malformed. */
bool wire_request_parse(const uint8_t *bytes, size_t size, struct wire_request *ret_request);
/* The name of a LOOKUP. NULL: it is not NUL-terminated. */
const char *wire_request_name(const struct wire_request *request);

enum { WIRE_REPLY_SIZE_MAX = 160 };
/* Complete replies; each returns its size. */
size_t wire_put_error(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique, int error);
size_t wire_put_entry(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                      const struct fs_attr *attr, const struct wire_timeouts *timeouts);
/* There is no such name, and the kernel may remember that. */
size_t wire_put_no_entry(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                         const struct wire_timeouts *timeouts);
size_t wire_put_attr(uint8_t reply[WIRE_REPLY_SIZE_MAX], uint64_t unique,
                     const struct fs_attr *attr, const struct wire_timeouts *timeouts);

/* Opcodes that are answered here. */
bool wire_is_lookup(uint32_t opcode);
bool wire_is_getattr(uint32_t opcode);

#endif
