/* File data against a copy in memory: writes, truncations, holes, copies, syncing. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>

#include "tests/unit/metadata/checker.h"
#include "metadata/open.h"

static struct store s;

static void setup(void)
{
    store_new(&s, 2);
}

static void teardown(void)
{
    background_drain(s.fs);
    check_tree(&s, false);
    store_end(&s);
}

static struct fs_file *create(const char *name, int flags, struct fs_attr *ret_attr)
{
    struct fs_file *file;
    OK(fs_create_file(s.c, &root, 1, name, 0600, O_RDWR | flags, ret_attr, &file));
    return file;
}

static struct fs_file *reopen(uint64_t ino)
{
    struct fs_file *file;
    OK(fs_open_file(s.c, ino, O_RDWR, &file));
    return file;
}

static void resize(uint64_t ino, uint64_t size)
{
    struct fs_attr attr = {.size = size};
    struct fs_attr result;
    OK(fs_setattr(s.c, &root, ino, FS_SET_SIZE, &attr, &result));
    cr_assert_eq(result.size, size);
}

static enum err allocate(struct fs_file *file, int mode, uint64_t offset, uint64_t size)
{
    struct waited_io w = {.io = {.file = file, .mode = mode, .offset = offset, .size = size}};
    return io_wait(&s, &w, fs_fallocate, NULL);
}

static enum err seek(struct fs_file *file, int mode, uint64_t offset, uint64_t *ret)
{
    struct waited_io w = {.io = {.file = file, .mode = mode, .offset = offset}};
    return io_wait(&s, &w, fs_seek, ret);
}

static enum err sync_file(struct fs_file *file)
{
    struct waited_io w = {.io = {.file = file}};
    return io_wait(&s, &w, fs_fsync, NULL);
}

static enum err copy(struct fs_file *from, uint64_t offset, struct fs_file *to, uint64_t to_offset,
                     uint64_t size, uint64_t *ret)
{
    struct waited_io w = {
        .io = {.file = from, .offset = offset, .to = to, .to_offset = to_offset, .size = size}};
    return io_wait(&s, &w, fs_copy, ret);
}

CASE(data, truncating_down_and_up_reads_zeros)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    char bytes[256];
    char filled[256];
    memset(filled, 'x', sizeof(filled));
    write_at(&s, file, 0, filled, 200);
    resize(attr.ino, 50);
    resize(attr.ino, 150);
    cr_assert_eq(read_at(&s, file, 0, bytes, 256), 150);
    for (int i = 0; i < 150; i++)
        cr_assert_eq(bytes[i], i < 50 ? 'x' : 0, "byte %d", i);
    background_drain(s.fs);
    cr_assert_eq(read_at(&s, file, 0, bytes, 256), 150);
    for (int i = 0; i < 150; i++)
        cr_assert_eq(bytes[i], i < 50 ? 'x' : 0, "byte %d after the cut", i);
    OK(fs_release_file(s.c, file));
    /* The same of a file that nobody has open. */
    resize(attr.ino, 10);
    resize(attr.ino, 100);
    file = reopen(attr.ino);
    cr_assert_eq(read_at(&s, file, 0, bytes, 256), 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(bytes[i], i < 10 ? 'x' : 0, "byte %d of a closed file", i);
    resize(attr.ino, 0);
    write_at(&s, file, 5, "y", 1);
    cr_assert_eq(read_at(&s, file, 0, bytes, 256), 6);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(bytes[i], i < 5 ? 0 : 'y', "byte %d after a new write", i);
    OK(fs_release_file(s.c, file));
}

CASE(data, appends_go_to_the_end)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", O_APPEND, &attr);
    write_at(&s, file, 0, "one", 3);
    write_at(&s, file, 0, "two", 3);
    resize(attr.ino, 4);
    write_at(&s, file, 100, "three", 5);
    char bytes[16];
    cr_assert_eq(read_at(&s, file, 0, bytes, 16), 9);
    cr_assert_eq(memcmp(bytes, "onetthree", 9), 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, handles_do_what_they_were_opened_for)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, "data", 4);
    OK(fs_release_file(s.c, file));
    char bytes[4];
    OK(fs_open_file(s.c, attr.ino, O_RDONLY, &file));
    struct waited_io w = {.io = {.file = file, .size = 4, .bytes = bytes}};
    FAILS(io_wait(&s, &w, fs_write, NULL), ERR_EBADF);
    FAILS(allocate(file, 0, 0, 10), ERR_EBADF);
    OK(fs_release_file(s.c, file));
    OK(fs_open_file(s.c, attr.ino, O_WRONLY, &file));
    w.io.file = file;
    FAILS(io_wait(&s, &w, fs_read, NULL), ERR_EBADF);
    OK(fs_release_file(s.c, file));
    OK(fs_open_file(s.c, attr.ino, O_WRONLY | O_TRUNC, &file));
    cr_assert_eq(attr_of(&s, attr.ino).size, 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, offsets_have_limits)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    char byte = 'x';
    struct waited_io w = {
        .io = {.file = file, .offset = FS_FILE_SIZE_MAX, .size = 1, .bytes = &byte}};
    FAILS(io_wait(&s, &w, fs_write, NULL), ERR_EFBIG);
    FAILS(allocate(file, 0, 0, 0), ERR_EINVAL);
    FAILS(allocate(file, 0, FS_FILE_SIZE_MAX, 10), ERR_EFBIG);
    FAILS(allocate(file, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), ERR_EOPNOTSUPP);
    FAILS(allocate(file, FALLOC_FL_PUNCH_HOLE, 0, 4096), ERR_EOPNOTSUPP);
    /* A size beyond what the device can hold is only a number. */
    resize(attr.ino, FS_FILE_SIZE_MAX);
    cr_assert_eq(read_at(&s, file, FS_FILE_SIZE_MAX - 1, &byte, 1), 1);
    cr_assert_eq(byte, 0);
    resize(attr.ino, 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, fallocate_reserves_punches_and_zeroes)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    char bytes[16384];
    char filled[16384];
    memset(filled, 'x', sizeof(filled));
    OK(allocate(file, 0, 0, 8192));
    cr_assert_eq(attr_of(&s, attr.ino).size, 8192);
    cr_assert_gt(attr_of(&s, attr.ino).blocks, 0);
    write_at(&s, file, 0, filled, 16384);
    OK(allocate(file, FALLOC_FL_KEEP_SIZE, 16384, 8192));
    cr_assert_eq(attr_of(&s, attr.ino).size, 16384);
    OK(allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096));
    OK(allocate(file, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, 8192, 100));
    cr_assert_eq(read_at(&s, file, 0, bytes, 16384), 16384);
    for (int i = 0; i < 16384; i++)
        cr_assert_eq(bytes[i], i >= 4096 && i < 8292 ? 0 : 'x', "byte %d", i);
    OK(allocate(file, FALLOC_FL_ZERO_RANGE, 16000, 1000));
    cr_assert_eq(attr_of(&s, attr.ino).size, 17000);
    /* What was reserved behind the end is zero once it belongs to the file. */
    resize(attr.ino, 20000);
    cr_assert_eq(read_at(&s, file, 16000, bytes, 16384), 4000);
    for (int i = 0; i < 4000; i++)
        cr_assert_eq(bytes[i], 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, holes_are_found)
{
    struct fs_attr attr;
    uint64_t at;
    struct fs_file *file = create("f", 0, &attr);
    FAILS(seek(file, SEEK_DATA, 0, &at), ERR_ENXIO);
    resize(attr.ino, 100000);
    FAILS(seek(file, SEEK_DATA, 0, &at), ERR_ENXIO);
    OK(seek(file, SEEK_HOLE, 5, &at));
    cr_assert_eq(at, 5);
    FAILS(seek(file, SEEK_HOLE, 100000, &at), ERR_ENXIO);
    write_at(&s, file, 65536, "data", 4);
    OK(seek(file, SEEK_DATA, 0, &at));
    cr_assert_eq(at, 65536);
    OK(seek(file, SEEK_HOLE, 65536, &at));
    cr_assert(at > 65536 && at <= 69632);
    FAILS(seek(file, SEEK_DATA, 99000, &at), ERR_ENXIO);
    OK(seek(file, SEEK_HOLE, 0, &at));
    cr_assert_eq(at, 0);
    FAILS(seek(file, SEEK_SET, 0, &at), ERR_EINVAL);
    OK(fs_release_file(s.c, file));
}

CASE(data, ranges_are_copied_with_their_holes)
{
    struct fs_attr from_attr;
    struct fs_attr to_attr;
    uint64_t done;
    struct fs_file *from = create("from", 0, &from_attr);
    struct fs_file *to = create("to", 0, &to_attr);
    char bytes[400];
    char filled[400];
    memset(filled, 'y', sizeof(filled));
    OK(copy(from, 0, to, 0, 100, &done));
    cr_assert_eq(done, 0);
    write_at(&s, from, 0, "0123456789", 10);
    resize(from_attr.ino, 100);
    write_at(&s, to, 0, filled, 200);
    OK(copy(from, 5, to, 50, 1000, &done));
    cr_assert_eq(done, 95);
    cr_assert_eq(read_at(&s, to, 0, bytes, 400), 200);
    for (int i = 0; i < 200; i++) {
        char want = i < 50 || i >= 145 ? 'y' : i < 55 ? (char)('5' + i - 50) : 0;
        cr_assert_eq(bytes[i], want, "byte %d", i);
    }
    OK(copy(from, 0, to, 300, 100, &done));
    cr_assert_eq(attr_of(&s, to_attr.ino).size, 400);
    FAILS(copy(to, 0, to, 50, 100, &done), ERR_EINVAL);
    OK(copy(to, 300, to, 0, 10, &done));
    cr_assert_eq(read_at(&s, to, 0, bytes, 10), 10);
    cr_assert_eq(memcmp(bytes, "0123456789", 10), 0);
    OK(fs_release_file(s.c, from));
    OK(fs_release_file(s.c, to));
}

static unsigned random_state = 4711;

static uint64_t below(unsigned limit)
{
    random_state = random_state * 1103515245 + 12345;
    return random_state / 65536 % limit;
}

CASE(data, random_operations_agree_with_a_copy_in_memory)
{
    enum { SIZE = 60000, ROUNDS = 1500 };
    static uint8_t model[SIZE];
    static uint8_t bytes[SIZE];
    uint64_t size = 0;
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t offset = below(SIZE / 2);
        offset += below(SIZE / 4);
        uint64_t count = below(SIZE / 5) + 1;
        uint64_t end = offset + count;
        switch (below(9)) {
        case 0:
        case 1:
        case 2: {
            memset(bytes, round, count);
            write_at(&s, file, offset, bytes, count);
            memset(model + offset, round, count);
            if (end > size) size = end;
            break;
        }
        case 3:
            resize(attr.ino, offset);
            if (offset < size) memset(model + offset, 0, SIZE - offset);
            size = offset;
            break;
        case 4:
            OK(allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, count));
            memset(model + offset, 0, count);
            break;
        case 5:
            OK(allocate(file, 0, offset, count));
            if (end > size) size = end;
            break;
        case 6:
            OK(fs_release_file(s.c, file));
            file = reopen(attr.ino);
            break;
        case 7:
            if (below(20) == 0) OK(sync_file(file));
            if (below(20) == 0) {
                OK(fs_release_file(s.c, file));
                store_close(&s);
                store_open(&s);
                file = reopen(attr.ino);
            }
            break;
        default: {
            uint64_t want = offset >= size ? 0 : end > size ? size - offset : count;
            cr_assert_eq(read_at(&s, file, offset, bytes, count), want, "round %d", round);
            cr_assert_eq(memcmp(bytes, model + offset, want), 0, "round %d", round);
        }
        }
        cr_assert_eq(attr_of(&s, attr.ino).size, size, "round %d", round);
    }
    cr_assert_eq(read_at(&s, file, 0, bytes, SIZE), size);
    cr_assert_eq(memcmp(bytes, model, size), 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, sizes_become_rows_by_themselves)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, "data", 4);
    struct fs_attr row = {0};
    for (int i = 0; i < 50 && row.size == 0; i++) {
        usleep(100000);
        OK(inode_read(s.c, attr.ino, &row));
    }
    cr_assert_eq(row.size, 4);
    OK(fs_release_file(s.c, file));
}

CASE(data, reading_touches_atime_as_relatime_does)
{
    struct fs_attr attr;
    char byte;
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, "data", 4);
    int64_t written = attr_of(&s, attr.ino).atime_ns;
    cr_assert_eq(read_at(&s, file, 0, &byte, 1), 1);
    int64_t first = attr_of(&s, attr.ino).atime_ns;
    cr_assert_gt(first, written);
    cr_assert_eq(read_at(&s, file, 0, &byte, 1), 1);
    cr_assert_eq(attr_of(&s, attr.ino).atime_ns, first);
    OK(fs_release_file(s.c, file));
    cr_assert_eq(attr_of(&s, attr.ino).atime_ns, first);
}

CASE(data, more_files_are_open_than_descriptors)
{
    enum { FILES = 3000 };
    static struct fs_file *files[FILES];
    for (int i = 0; i < FILES; i++) {
        struct fs_attr attr;
        char name[16];
        snprintf(name, sizeof(name), "f%d", i);
        files[i] = create(name, 0, &attr);
        write_at(&s, files[i], 0, &i, sizeof(i));
    }
    for (int i = 0; i < FILES; i++) {
        int got = -1;
        cr_assert_eq(read_at(&s, files[i], 0, &got, sizeof(got)), sizeof(got));
        cr_assert_eq(got, i);
    }
    for (int i = 0; i < FILES; i++)
        OK(fs_release_file(s.c, files[i]));
}

CASE(data, objects_are_made_by_writing_only)
{
    struct fs_attr attr;
    char bytes[10];
    struct fs_file *file = create("f", 0, &attr);
    resize(attr.ino, 10);
    cr_assert_eq(read_at(&s, file, 0, bytes, 10), 10);
    cr_assert_eq(count_objects(&s), 0);
    write_at(&s, file, 0, "x", 1);
    cr_assert_eq(count_objects(&s), 1);
    OK(fs_release_file(s.c, file));
    OK(fs_unlink(s.c, &root, 1, "f"));
    fs_forget(s.c, attr.ino, 10);
    background_drain(s.fs);
    cr_assert_eq(count_objects(&s), 0);
}

CASE(data, another_stores_directory_is_refused)
{
    struct store other;
    store_new(&other, 1);
    struct diag diag = {0};
    struct fs *fs;
    struct fs_config config = {.db = other.db, .data_dir = s.data_dir};
    fs_client_destroy(other.c);
    db_client_destroy(other.db_client);
    OK(fs_close(other.fs, &diag));
    FAILS(fs_open(&config, &fs, &diag), ERR_INVALID);
    cr_assert(strstr(diag.text, "another store"));
    config.data_dir = other.dir;
    FAILS(fs_open(&config, &fs, &diag), ERR_INVALID);
    config.data_dir = "/nonexistent/data";
    FAILS(fs_open(&config, &fs, &diag), ERR_NOT_FOUND);
    OK(db_close(other.db, &diag));
    store_remove(&other);
}

static uint64_t blocks_of(uint64_t ino)
{
    struct open_inode *inode = open_find(s.fs, ino);
    cr_assert(inode);
    uint64_t blocks = inode->blocks;
    open_put(inode);
    return blocks;
}

CASE(data, a_refused_truncation_leaves_no_trace)
{
    struct fs_attr attr;
    char bytes[10000];
    memset(bytes, 'x', sizeof(bytes));
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, bytes, sizeof(bytes));
    OK(sync_file(file));
    OK(fs_flags_set(s.c, &root, attr.ino, FS_IMMUTABLE_FL));
    struct open_inode *inode = open_find(s.fs, attr.ino);
    uint64_t count = inode->truncate_count;
    uint64_t blocks = blocks_of(attr.ino);
    int64_t mtime = inode->mtime;
    int64_t ctime = inode->ctime;
    struct fs_attr size = {.size = 1};
    struct fs_attr result;
    FAILS(fs_setattr(s.c, &root, attr.ino, FS_SET_SIZE, &size, &result), ERR_EPERM);
    cr_assert_eq(inode->truncate_count, count);
    cr_assert_eq(blocks_of(attr.ino), blocks);
    cr_assert_eq(inode->mtime, mtime);
    cr_assert_eq(inode->ctime, ctime);
    open_put(inode);
    OK(fs_flags_set(s.c, &root, attr.ino, 0));
    OK(fs_release_file(s.c, file));
}

CASE(data, a_copy_to_a_synchronous_file_is_on_disk)
{
    struct fs_attr attr;
    struct fs_file *from = create("from", 0, &attr);
    struct fs_file *to = create("to", O_SYNC, &attr);
    write_at(&s, from, 0, "12345", 5);
    uint64_t before = fs_monotonic_ns();
    struct waited_io w = {.io = {.file = from, .to = to, .size = 5}};
    uint64_t done;
    OK(io_wait(&s, &w, fs_copy, &done));
    cr_assert_eq(done, 5);
    cr_assert_geq(atomic_load(&s.fs->flushed_ns), before);
    OK(fs_release_file(s.c, from));
    OK(fs_release_file(s.c, to));
}

CASE(data, a_cut_found_in_a_row_is_made_after_a_flush)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, "1234567890", 10);
    OK(sync_file(file));
    OK(fs_release_file(s.c, file));
    struct program *program = client_begin(s.c, ino_home(attr.ino));
    const struct operand values[ORPHAN_COLUMNS] = {
        [ORPHAN_INO] = operand_u64(attr.ino),
        [ORPHAN_SIZE] = operand_u64(5),
        [ORPHAN_SINCE] = operand_value(value_i64(fs_now())),
    };
    (void)program_insert(program, client_table(s.c, TABLE_ORPHAN), values, ERR_EEXIST);
    OK(client_run(s.c));
    uint64_t before = fs_monotonic_ns();
    file = reopen(attr.ino);
    write_at(&s, file, 0, "ab", 2);
    cr_assert_geq(atomic_load(&s.fs->flushed_ns), before);
    char bytes[10];
    cr_assert_eq(read_at(&s, file, 0, bytes, 10), 10);
    cr_assert_eq(memcmp(bytes, "ab345\0\0\0\0\0", 10), 0);
    OK(fs_release_file(s.c, file));
}

CASE(data, a_purge_that_fails_is_tried_again)
{
    struct fs_attr attr;
    struct fs_file *file = create("f", 0, &attr);
    write_at(&s, file, 0, "1234567890", 10);
    OK(sync_file(file));
    OK(fs_release_file(s.c, file));
    /* A directory in place of the object cannot be removed as a file. */
    char path[200];
    uint64_t sequence = attr.ino & ((UINT64_C(1) << HOME_SHIFT) - 1);
    snprintf(path, sizeof(path), "%s/%08x/%06x/%02x/%014llx", s.data_dir, attr.generation,
             (unsigned)(sequence >> 16), (unsigned)(sequence >> 8 & 0xff),
             (unsigned long long)attr.ino);
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    OK(fs_unlink(s.c, &root, FS_ROOT_INO, "f"));
    fs_forget(s.c, attr.ino, 1);
    usleep(300000);
    struct fs_attr row;
    OK(inode_read(s.c, attr.ino, &row));
    cr_assert_eq(rmdir(path), 0);
    enum err err = ERR_NONE;
    for (int i = 0; i < 50 && !err; i++) {
        usleep(100000);
        err = inode_read(s.c, attr.ino, &row);
    }
    FAILS(err, ERR_ESTALE);
}
