/* Directories read by readdir(3), getdents64(2), telldir(3), seekdir(3): every entry once, also
 * while the directory changes, and positions that stay valid. */
#include "tests/posix/suite.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/syscall.h>

static DIR *open_dir(const char *path)
{
    DIR *dir = opendir(path);
    REQUIRE(dir != NULL);
    return dir;
}

/* Makes files PREFIX0 … in a directory. */
static void make_files(const char *dir, const char *prefix, int count)
{
    char path[64];
    int dir_fd = open_file(dir, O_RDONLY | O_DIRECTORY, 0);
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "%s%d", prefix, i);
        REQUIRE_OK(mknodat(dir_fd, path, S_IFREG | 0644, 0));
    }
    REQUIRE_OK(close(dir_fd));
}

/* How often each PREFIX0 … PREFIX(count - 1) is among the names read. */
struct tally {
    const char *prefix;
    int count;
    unsigned char *seen;
};

static struct tally tally_new(const char *prefix, int count)
{
    struct tally tally = {prefix, count, calloc((size_t)count, 1)};
    REQUIRE(tally.seen != NULL);
    return tally;
}

static void tally_add(struct tally *tally, const char *name)
{
    size_t size = strlen(tally->prefix);
    if (strncmp(name, tally->prefix, size) != 0) return;
    long number = strtol(name + size, NULL, 10);
    if (number >= 0 && number < tally->count && tally->seen[number] < 255) tally->seen[number]++;
}

static void tally_expect(struct place place, struct tally *tally, int from, int to, int times)
{
    int wrong = 0;
    for (int i = from; i < to; i++) {
        if (tally->seen[i] == times) continue;
        if (wrong++ < 3)
            fail_at(place, "%s%d was read %d times, not %d", tally->prefix, i, tally->seen[i],
                    times);
    }
    expect_at(place, wrong == 0, "each entry is read as often as it should be");
}
#define EXPECT_TALLY(tally, from, to, times) tally_expect(HERE, tally, from, to, times)

CASE(readdir, shows_names_types_and_inodes)
{
    static const struct {
        const char *name;
        mode_t type;
        unsigned char d_type;
    } nodes[] = {{"regular", S_IFREG, DT_REG},  {"directory", S_IFDIR, DT_DIR},
                 {"symlink", S_IFLNK, DT_LNK},  {"fifo", S_IFIFO, DT_FIFO},
                 {"socket", S_IFSOCK, DT_SOCK}, {"char", S_IFCHR, DT_CHR},
                 {"block", S_IFBLK, DT_BLK}};
    unsigned count = geteuid() == 0 ? 7 : 5;
    make_dir("d", 0755);
    REQUIRE_OK(chdir("d"));
    for (unsigned i = 0; i < count; i++)
        make_node(nodes[i].name, nodes[i].type);
    DIR *dir = open_dir(".");
    unsigned seen = 0;
    bool dot = false, dots = false;
    for (struct dirent *entry; (entry = readdir(dir));) {
        struct stat attr = STAT(entry->d_name);
        EXPECT_EQ(entry->d_ino, attr.st_ino);
        if (strcmp(entry->d_name, ".") == 0) {
            EXPECT_EQ(entry->d_type, DT_DIR);
            dot = true;
        } else if (strcmp(entry->d_name, "..") == 0) {
            EXPECT_EQ(entry->d_type, DT_DIR);
            dots = true;
        }
        for (unsigned i = 0; i < count; i++)
            if (strcmp(entry->d_name, nodes[i].name) == 0) {
                EXPECT_EQ(entry->d_type, nodes[i].d_type);
                seen |= 1u << i;
            }
    }
    EXPECT_EQ(errno, 0);
    EXPECT(dot && dots);
    EXPECT_EQ(seen, (1u << count) - 1);
    (void)closedir(dir);
}

CASE(readdir, empty_directory)
{
    make_dir("d", 0755);
    DIR *dir = open_dir("d");
    int count = 0;
    while (readdir(dir))
        count++;
    EXPECT_EQ(count, 2);
    EXPECT(readdir(dir) == NULL); /* and stays at the end */
    (void)closedir(dir);
}

CASE(readdir, dots_of_a_nested_directory)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    make_dir("f", 0755);
    for (int round = 0; round < 2; round++) {
        const char *path = round ? "f/e" : "d/e";
        DIR *dir = open_dir(path);
        for (struct dirent *entry; (entry = readdir(dir));) {
            if (strcmp(entry->d_name, "..") == 0)
                EXPECT_EQ(entry->d_ino, STAT(round ? "f" : "d").st_ino);
            else
                EXPECT_EQ(entry->d_ino, STAT(path).st_ino);
        }
        (void)closedir(dir);
        if (round == 0) REQUIRE_OK(rename("d/e", "f/e"));
    }
}

CASE(readdir, ten_thousand_entries, .seconds = 60, .slow = true)
{
    enum { COUNT = 10000 };
    make_dir("d", 0755);
    make_files("d", "file-with-a-name-of-some-length-", COUNT);
    for (int round = 0; round < 2; round++) {
        struct tally tally = tally_new("file-with-a-name-of-some-length-", COUNT);
        DIR *dir = open_dir("d");
        int count = 0;
        for (struct dirent *entry; (entry = readdir(dir)); count++)
            tally_add(&tally, entry->d_name);
        EXPECT_EQ(count, COUNT + 2);
        EXPECT_TALLY(&tally, 0, COUNT, 1);
        (void)closedir(dir);
        free(tally.seen);
    }
}

CASE(readdir, streams_while_entries_come_and_go, .seconds = 60)
{
    enum { COUNT = 3000 };
    make_dir("d", 0755);
    make_files("d", "stays", COUNT);
    make_files("d", "goes", COUNT);
    struct tally stays = tally_new("stays", COUNT);
    struct tally goes = tally_new("goes", COUNT);
    struct tally comes = tally_new("comes", COUNT);
    DIR *dir = open_dir("d");
    int step = 0;
    for (struct dirent *entry; (entry = readdir(dir)); step++) {
        tally_add(&stays, entry->d_name);
        tally_add(&goes, entry->d_name);
        tally_add(&comes, entry->d_name);
        char path[32];
        if (step < COUNT) {
            snprintf(path, sizeof(path), "d/goes%d", step);
            REQUIRE_OK(unlink(path));
            snprintf(path, sizeof(path), "d/comes%d", step);
            REQUIRE_OK(mknod(path, S_IFREG | 0644, 0));
        }
        if (step > 4 * COUNT) {
            FAIL("the directory does not end");
            break;
        }
    }
    EXPECT_TALLY(&stays, 0, COUNT, 1);
    for (int i = 0; i < COUNT; i++)
        if (goes.seen[i] > 1 || comes.seen[i] > 1) {
            FAIL("an entry was read twice");
            break;
        }
    (void)closedir(dir);
    EXPECT_EQ(count_entries("d"), 2 * COUNT);
}

CASE(readdir, every_entry_removed_as_it_is_read, .seconds = 60)
{
    enum { COUNT = 3000 };
    make_dir("d", 0755);
    make_files("d", "f", COUNT);
    DIR *dir = open_dir("d");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        REQUIRE_OK(unlinkat(dirfd(dir), entry->d_name, 0));
        count++;
    }
    EXPECT_EQ(count, COUNT);
    rewinddir(dir);
    count = 0;
    while (readdir(dir))
        count++;
    EXPECT_EQ(count, 2);
    (void)closedir(dir);
    EXPECT_OK(rmdir("d"));
}

CASE(readdir, every_entry_renamed_as_it_is_read, .seconds = 60)
{
    /* New names may or may not be met; the names that are not touched are met once. */
    enum { COUNT = 1500 };
    make_dir("d", 0755);
    make_files("d", "stays", COUNT);
    make_files("d", "moves", COUNT);
    struct tally stays = tally_new("stays", COUNT);
    DIR *dir = open_dir("d");
    int steps = 0;
    for (struct dirent *entry; (entry = readdir(dir)) && steps < 10 * COUNT; steps++) {
        tally_add(&stays, entry->d_name);
        if (strncmp(entry->d_name, "moves", 5) == 0) {
            char to[300];
            snprintf(to, sizeof(to), "moved%s", entry->d_name + 5);
            REQUIRE_OK(renameat(dirfd(dir), entry->d_name, dirfd(dir), to));
        }
    }
    EXPECT_TALLY(&stays, 0, COUNT, 1);
    (void)closedir(dir);
}

CASE(readdir, rewound_shows_what_is_new)
{
    make_dir("d", 0755);
    DIR *dir = open_dir("d");
    for (int i = 1; i <= 20; i++) {
        char path[16];
        snprintf(path, sizeof(path), "d/f%d", i);
        make_file(path, 0644, NULL);
        rewinddir(dir);
        int count = 0;
        while (readdir(dir))
            count++;
        EXPECT_EQ(count, i + 2);
    }
    for (int i = 20; i >= 1; i--) {
        char path[16];
        snprintf(path, sizeof(path), "d/f%d", i);
        REQUIRE_OK(unlink(path));
        rewinddir(dir);
        int count = 0;
        while (readdir(dir))
            count++;
        EXPECT_EQ(count, i + 1);
    }
    (void)closedir(dir);
}

CASE(readdir, opened_anew_shows_every_change_at_once)
{
    make_dir("d", 0755);
    for (int i = 0; i < 100; i++) {
        make_file("d/f", 0644, NULL);
        EXPECT_EQ(count_entries("d"), 1);
        REQUIRE_OK(rename("d/f", "d/g"));
        DIR *dir = open_dir("d");
        bool found = false;
        for (struct dirent *entry; (entry = readdir(dir));) {
            EXPECT(strcmp(entry->d_name, "f") != 0);
            found |= strcmp(entry->d_name, "g") == 0;
        }
        EXPECT(found);
        (void)closedir(dir);
        REQUIRE_OK(unlink("d/g"));
        EXPECT_EQ(count_entries("d"), 0);
    }
}

CASE(readdir, seekdir_returns_to_every_position)
{
    enum { COUNT = 500 };
    make_dir("d", 0755);
    make_files("d", "f", COUNT);
    DIR *dir = open_dir("d");
    long positions[COUNT + 3];
    char names[COUNT + 3][16];
    int count = 0;
    for (;;) {
        positions[count] = telldir(dir);
        struct dirent *entry = readdir(dir);
        if (!entry || count == COUNT + 2) break;
        snprintf(names[count++], sizeof(names[0]), "%.15s", entry->d_name);
    }
    EXPECT_EQ(count, COUNT + 2);
    uint64_t random = case_seed();
    for (int i = 0; i < 300; i++) {
        int to = (int)(random_next(&random) % (uint64_t)count);
        seekdir(dir, positions[to]);
        struct dirent *entry = readdir(dir);
        REQUIRE(entry != NULL);
        EXPECT_STR(entry->d_name, names[to]);
        EXPECT_EQ(telldir(dir), positions[to + 1]);
    }
    seekdir(dir, positions[count]);
    EXPECT(readdir(dir) == NULL);
    (void)closedir(dir);
    /* The positions hold for another stream of the directory, too. */
    dir = open_dir("d");
    for (int to = count - 1; to >= 0; to -= 37) {
        seekdir(dir, positions[to]);
        struct dirent *entry = readdir(dir);
        REQUIRE(entry != NULL);
        EXPECT_STR(entry->d_name, names[to]);
    }
    (void)closedir(dir);
}

CASE(readdir, positions_survive_removals_and_additions)
{
    enum { COUNT = 1000 };
    make_dir("d", 0755);
    make_files("d", "f", COUNT);
    DIR *dir = open_dir("d");
    struct tally before = tally_new("f", COUNT);
    for (int i = 0; i < COUNT / 2; i++) {
        struct dirent *entry = readdir(dir);
        REQUIRE(entry != NULL);
        tally_add(&before, entry->d_name);
    }
    long middle = telldir(dir);
    (void)closedir(dir);
    /* Remove what was read, and add as much: behind the position remains what was there. */
    for (int i = 0; i < COUNT; i++) {
        char path[16];
        snprintf(path, sizeof(path), "d/f%d", i);
        if (before.seen[i]) REQUIRE_OK(unlink(path));
    }
    make_files("d", "new", COUNT / 2);
    dir = open_dir("d");
    seekdir(dir, middle);
    struct tally after = tally_new("f", COUNT);
    for (struct dirent *entry; (entry = readdir(dir));)
        tally_add(&after, entry->d_name);
    (void)closedir(dir);
    int wrong = 0;
    for (int i = 0; i < COUNT; i++)
        wrong += before.seen[i] + after.seen[i] != 1;
    EXPECT_EQ(wrong, 0);
}

CASE(readdir, position_of_a_removed_entry_leads_to_the_next)
{
    enum { COUNT = 100 };
    make_dir("d", 0755);
    make_files("d", "f", COUNT);
    DIR *dir = open_dir("d");
    char names[3][300];
    for (int i = 0; i < 10; i++)
        REQUIRE(readdir(dir) != NULL);
    long position = telldir(dir);
    for (int i = 0; i < 3; i++) {
        struct dirent *entry = readdir(dir);
        REQUIRE(entry != NULL);
        snprintf(names[i], sizeof(names[i]), "%s", entry->d_name);
    }
    if (names[0][0] == '.') case_skip("the dots are not at the start"); /* they cannot be removed */
    REQUIRE_OK(unlinkat(dirfd(dir), names[0], 0));
    seekdir(dir, position);
    struct dirent *entry = readdir(dir);
    REQUIRE(entry != NULL);
    EXPECT_STR(entry->d_name, names[1]);
    (void)closedir(dir);
}

struct linux_dirent64 {
    uint64_t d_ino;
    int64_t d_off;
    unsigned short d_reclen;
    unsigned char d_type;
    char d_name[];
};

CASE(getdents, with_buffers_of_any_size)
{
    enum { COUNT = 300 };
    make_dir("d", 0755);
    make_files("d", "a-rather-long-file-name-", COUNT);
    static const size_t sizes[] = {64, 100, 280, 512, 1000, 4096, 32768, 200000};
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        char *buffer = malloc(sizes[s]);
        REQUIRE(buffer != NULL);
        struct tally tally = tally_new("a-rather-long-file-name-", COUNT);
        int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
        int count = 0;
        for (;;) {
            long size = EXPECT_OK(syscall(SYS_getdents64, fd, buffer, sizes[s]));
            if (size <= 0) break;
            for (long at = 0; at < size;) {
                struct linux_dirent64 *entry = (struct linux_dirent64 *)(void *)(buffer + at);
                tally_add(&tally, entry->d_name);
                count++;
                at += entry->d_reclen;
            }
        }
        EXPECT_EQ(count, COUNT + 2);
        EXPECT_TALLY(&tally, 0, COUNT, 1);
        REQUIRE_OK(close(fd));
        free(buffer);
        free(tally.seen);
    }
}

CASE(getdents, invalid_arguments)
{
    make_dir("d", 0755);
    make_file("d/a-file", 0644, NULL);
    make_file("f", 0644, NULL);
    char buffer[1000];
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    int file = open_file("f", O_RDONLY, 0);
    EXPECT_ERR(syscall(SYS_getdents64, dir, buffer, 10), EINVAL); /* too small for an entry */
    EXPECT_ERR(syscall(SYS_getdents64, file, buffer, sizeof(buffer)), ENOTDIR);
    EXPECT_ERR(syscall(SYS_getdents64, 99, buffer, sizeof(buffer)), EBADF);
    EXPECT_OK(syscall(SYS_getdents64, dir, buffer, sizeof(buffer)));
    EXPECT_EQ(lseek(dir, 0, SEEK_SET), 0);
    EXPECT_OK(syscall(SYS_getdents64, dir, buffer, sizeof(buffer)));
}

CASE(getdents, of_a_removed_directory)
{
    make_dir("d", 0755);
    int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    REQUIRE_OK(rmdir("d"));
    char buffer[1000];
    long size = syscall(SYS_getdents64, fd, buffer, sizeof(buffer));
    if (size == -1) EXPECT_EQ(errno, ENOENT);
}

CASE(readdir, descriptor_and_stream_are_one)
{
    make_dir("d", 0755);
    make_files("d", "f", 10);
    int fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    DIR *dir = fdopendir(fd);
    REQUIRE(dir != NULL);
    EXPECT_EQ(dirfd(dir), fd);
    EXPECT(readdir(dir) != NULL);
    EXPECT_EQ(fstatat(fd, "f3", &(struct stat){0}, 0), 0);
    EXPECT_OK(fchdir(fd));
    EXPECT_OK(closedir(dir));
    EXPECT_ERR(fstat(fd, &(struct stat){0}), EBADF);
    make_file("plain", 0644, NULL);
    EXPECT(fdopendir(open_file("plain", O_RDONLY, 0)) == NULL && errno == ENOTDIR);
}

CASE(readdir, two_streams_are_independent)
{
    enum { COUNT = 400 };
    make_dir("d", 0755);
    make_files("d", "f", COUNT);
    DIR *one = open_dir("d");
    DIR *two = open_dir("d");
    for (int i = 0; i < COUNT + 2; i++) {
        struct dirent *entry = readdir(one);
        REQUIRE(entry != NULL);
        char name[300];
        snprintf(name, sizeof(name), "%s", entry->d_name);
        entry = readdir(two);
        REQUIRE(entry != NULL);
        EXPECT_STR(entry->d_name, name); /* the same order */
        if (i % 50 == 0) {
            rewinddir(two);
            for (int j = 0; j <= i; j++)
                REQUIRE(readdir(two) != NULL);
        }
    }
    EXPECT(readdir(one) == NULL && readdir(two) == NULL);
    (void)closedir(one);
    (void)closedir(two);
}

CASE(readdir, names_of_any_bytes)
{
    make_dir("d", 0755);
    int dir_fd = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    bool seen[256] = {false};
    int expected = 0;
    for (int byte = 1; byte < 256; byte++) {
        if (byte == '/' || byte == '.') continue;
        char name[2] = {(char)byte, 0};
        REQUIRE_OK(mknodat(dir_fd, name, S_IFREG | 0644, 0));
        expected++;
    }
    DIR *dir = open_dir("d");
    int count = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        EXPECT_EQ(strlen(entry->d_name), 1);
        seen[(unsigned char)entry->d_name[0]] = true;
        count++;
    }
    EXPECT_EQ(count, expected);
    for (int byte = 1; byte < 256; byte++)
        if (byte != '/' && byte != '.' && !seen[byte]) FAIL("the name of byte %d is missing", byte);
    (void)closedir(dir);
}

CASE(readdir, permissions)
{
    need_root();
    make_dir("listed", 0744);
    make_dir("searched", 0711);
    make_file("listed/f", 0644, "x");
    make_file("searched/f", 0644, "x");
    AS(user_a)
    {
        EXPECT_EQ(count_entries("listed"), 1); /* names, but nothing behind them */
        EXPECT_ERR(access("listed/f", F_OK), EACCES);
        EXPECT(opendir("searched") == NULL && errno == EACCES);
        EXPECT_OK(access("searched/f", R_OK));
    }
}

CASE(readdir, inode_numbers_are_unique)
{
    enum { COUNT = 500 };
    ino_t inos[COUNT * 2];
    char name[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "f%d", i);
        make_file(name, 0644, NULL);
        inos[2 * i] = STAT(name).st_ino;
        snprintf(name, sizeof(name), "d%d", i);
        make_dir(name, 0755);
        inos[2 * i + 1] = STAT(name).st_ino;
    }
    int twice = 0;
    for (int i = 0; i < 2 * COUNT; i++)
        for (int j = 0; j < i; j++)
            twice += inos[i] == inos[j];
    EXPECT_EQ(twice, 0);
}
