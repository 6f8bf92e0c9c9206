/* Answers in the kernel's layout, read back with the kernel's structures. */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

#include "fuse/wire.h"

static const struct wire_timeouts timeouts = {
    .entry = {60, 5}, .attr = {2, 500000000}, .negative = {7, 1}};

static const struct fs_attr attr = {
    .ino = 0x1234567890,
    .size = 4097,
    .blocks = 16,
    .atime_ns = 1500000000123456789,
    .mtime_ns = -1,
    .ctime_ns = -2000000000,
    .mode = S_IFREG | 04755,
    .uid = 1000,
    .gid = 100,
    .nlink = 3,
    .rdev = 0x0801,
    .generation = 9,
};

static struct fuse_out_header header_of(const uint8_t *reply, size_t size)
{
    struct fuse_out_header header;
    memcpy(&header, reply, sizeof(header));
    cr_assert_eq(header.len, size);
    cr_assert_eq(header.unique, 77);
    return header;
}

static void check_attr(const struct fuse_attr *got)
{
    cr_assert_eq(got->ino, attr.ino);
    cr_assert_eq(got->size, 4097);
    cr_assert_eq(got->blocks, 16);
    cr_assert_eq(got->atime, 1500000000);
    cr_assert_eq(got->atimensec, 123456789);
    cr_assert_eq((int64_t)got->mtime, -1);
    cr_assert_eq(got->mtimensec, 999999999);
    cr_assert_eq((int64_t)got->ctime, -2);
    cr_assert_eq(got->ctimensec, 0);
    cr_assert_eq(got->mode, (S_IFREG | 04755));
    cr_assert_eq(got->nlink, 3);
    cr_assert_eq(got->uid, 1000);
    cr_assert_eq(got->gid, 100);
    cr_assert_eq(got->rdev, 0x0801);
    cr_assert_eq(got->blksize, 4096);
    cr_assert_eq(got->flags, 0);
}

static void check_entry(const struct fuse_entry_out *got)
{
    cr_assert_eq(got->nodeid, attr.ino);
    cr_assert_eq(got->generation, 9);
    cr_assert_eq(got->entry_valid, 60);
    cr_assert_eq(got->entry_valid_nsec, 5);
    cr_assert_eq(got->attr_valid, 2);
    cr_assert_eq(got->attr_valid_nsec, 500000000);
    check_attr(&got->attr);
}

Test(wire, entries_and_attributes_are_the_kernels)
{
    uint8_t reply[WIRE_REPLY_SIZE_MAX];
    size_t size = wire_put_entry(reply, 77, &attr, &timeouts);
    cr_assert_eq(header_of(reply, size).error, 0);
    struct fuse_entry_out entry;
    cr_assert_eq(size, sizeof(struct fuse_out_header) + sizeof(entry));
    memcpy(&entry, reply + sizeof(struct fuse_out_header), sizeof(entry));
    check_entry(&entry);

    size = wire_put_attr(reply, 77, &attr, &timeouts);
    cr_assert_eq(header_of(reply, size).error, 0);
    struct fuse_attr_out out;
    cr_assert_eq(size, sizeof(struct fuse_out_header) + sizeof(out));
    memcpy(&out, reply + sizeof(struct fuse_out_header), sizeof(out));
    cr_assert_eq(out.attr_valid, 2);
    cr_assert_eq(out.attr_valid_nsec, 500000000);
    cr_assert_eq(out.dummy, 0);
    check_attr(&out.attr);
}

Test(wire, absence_and_errors_are_said)
{
    uint8_t reply[WIRE_REPLY_SIZE_MAX];
    size_t size = wire_put_no_entry(reply, 77, &timeouts);
    cr_assert_eq(header_of(reply, size).error, 0);
    struct fuse_entry_out entry;
    memcpy(&entry, reply + sizeof(struct fuse_out_header), sizeof(entry));
    cr_assert_eq(entry.nodeid, 0);
    cr_assert_eq(entry.entry_valid, 7);
    cr_assert_eq(entry.entry_valid_nsec, 1);
    cr_assert_eq(entry.attr_valid, 0);

    size = wire_put_error(reply, 77, ENOTDIR);
    cr_assert_eq(size, sizeof(struct fuse_out_header));
    cr_assert_eq(header_of(reply, size).error, -ENOTDIR);
}

Test(wire, timeouts_are_seconds_and_nanoseconds)
{
    cr_assert_eq(wire_timeout(1.5).s, 1);
    cr_assert_eq(wire_timeout(1.5).ns, 500000000);
    cr_assert_eq(wire_timeout(0).s + wire_timeout(0).ns, 0);
    cr_assert_eq(wire_timeout(-3).s + wire_timeout(-3).ns, 0);
    cr_assert_eq(wire_timeout(1e300).s, 1000000000);
    cr_assert_leq(wire_timeout(1e300).ns, 999999999);
}

static struct fs_dirent dirent(const char *name, uint8_t type, bool has_attr)
{
    return (struct fs_dirent){.ino = attr.ino,
                              .cookie = 42,
                              .name = name,
                              .name_size = (uint32_t)strlen(name),
                              .type = type,
                              .has_attr = has_attr,
                              .attr = attr};
}

Test(wire, directory_entries_take_what_room_there_is)
{
    char longest[FS_NAME_SIZE_MAX + 1];
    memset(longest, 'n', FS_NAME_SIZE_MAX);
    for (size_t length = 1; length <= FS_NAME_SIZE_MAX; length++) {
        longest[length] = 0;
        struct fs_dirent entry = dirent(longest, FS_FILE, true);
        uint8_t bytes[1024];
        memset(bytes, 0xee, sizeof(bytes));
        bool counts = false;
        size_t size = wire_put_direntplus(bytes, sizeof(bytes), &entry, &timeouts, &counts);
        cr_assert(counts);
        cr_assert_geq(size, WIRE_DIRENTPLUS_SIZE_MIN);
        cr_assert_eq(bytes[size], 0xee);
        cr_assert_eq(wire_put_direntplus(bytes, size - 1, &entry, &timeouts, &counts), 0);
        struct fuse_direntplus plus;
        memcpy(&plus, bytes, sizeof(plus));
        cr_assert_eq(size, FUSE_DIRENTPLUS_SIZE(&plus));
        check_entry(&plus.entry_out);
        cr_assert_eq(plus.dirent.ino, attr.ino);
        cr_assert_eq(plus.dirent.off, 42);
        cr_assert_eq(plus.dirent.namelen, length);
        cr_assert_eq(plus.dirent.type, S_IFREG >> 12);
        cr_assert_arr_eq(bytes + FUSE_NAME_OFFSET_DIRENTPLUS, longest, length);
        for (size_t at = FUSE_NAME_OFFSET_DIRENTPLUS + length; at < size; at++)
            cr_assert_eq(bytes[at], 0);

        memset(bytes, 0xee, sizeof(bytes));
        size = wire_put_dirent(bytes, sizeof(bytes), &entry);
        cr_assert_eq(bytes[size], 0xee);
        cr_assert_eq(wire_put_dirent(bytes, size - 1, &entry), 0);
        struct fuse_dirent plain;
        memcpy(&plain, bytes, FUSE_NAME_OFFSET);
        cr_assert_eq(size, FUSE_DIRENT_SIZE(&plain));
        cr_assert_eq(plain.off, 42);
        cr_assert_arr_eq(bytes + FUSE_NAME_OFFSET, longest, length);
        longest[length] = 'n';
    }
}

Test(wire, what_has_no_attributes_and_dots_are_no_lookups)
{
    struct fs_dirent entries[] = {dirent(".", FS_DIR, true), dirent("..", FS_DIR, true),
                                  dirent("gone", FS_SYMLINK, false)};
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[512];
        bool counts = true;
        cr_assert_gt(wire_put_direntplus(bytes, sizeof(bytes), &entries[i], &timeouts, &counts), 0);
        cr_assert_not(counts);
        struct fuse_direntplus plus;
        memcpy(&plus, bytes, sizeof(plus));
        cr_assert_eq(plus.entry_out.nodeid, 0);
        cr_assert_eq(plus.dirent.ino, attr.ino);
        cr_assert_eq(plus.dirent.type, (i < 2 ? S_IFDIR : S_IFLNK) >> 12);
    }
    struct fs_dirent hidden[] = {dirent(".x", FS_FILE, true), dirent("...", FS_FILE, true)};
    for (size_t i = 0; i < 2; i++) {
        uint8_t bytes[512];
        bool counts = false;
        (void)wire_put_direntplus(bytes, sizeof(bytes), &hidden[i], &timeouts, &counts);
        cr_assert(counts);
    }
}

Test(wire, requests_are_checked)
{
    uint8_t bytes[sizeof(struct fuse_in_header) + 4];
    struct fuse_in_header header = {
        .len = sizeof(bytes), .opcode = FUSE_LOOKUP, .unique = 77, .nodeid = 5};
    memcpy(bytes, &header, sizeof(header));
    memcpy(bytes + sizeof(header), "abc", 4);
    struct wire_request request;
    cr_assert(wire_request_parse(bytes, sizeof(bytes), &request));
    cr_assert(wire_is_lookup(request.opcode) && !wire_is_getattr(request.opcode));
    cr_assert_eq(request.unique, 77);
    cr_assert_eq(request.node, 5);
    cr_assert_str_eq(wire_request_name(&request), "abc");
    for (size_t size = 0; size < sizeof(bytes); size++)
        cr_assert_not(wire_request_parse(bytes, size, &request));
    bytes[sizeof(bytes) - 1] = 'd';
    cr_assert(wire_request_parse(bytes, sizeof(bytes), &request));
    cr_assert_null(wire_request_name(&request));
    header.len = sizeof(header);
    memcpy(bytes, &header, sizeof(header));
    cr_assert(wire_request_parse(bytes, sizeof(header), &request));
    cr_assert_null(wire_request_name(&request));
}
