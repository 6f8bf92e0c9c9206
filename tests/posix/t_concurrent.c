/* Several processes at the same files and directories at once: what each was told must have been
 * true, and what is left must be consistent. Who wins a race is t_race.c's; each case is bounded by
 * its number of operations. */
#include "tests/posix/suite.h"

#include <dirent.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PROCESSES = 4 };

static void run_crew(unsigned count, void (*work)(unsigned index, void *argument), void *argument)
{
    struct crew crew;
    crew_start(&crew, count, work, argument);
    crew_wait(&crew);
}

/* ---- storms ---- */

static bool error_is_one_of(const int *errors, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        if (errno == errors[i]) return true;
    return false;
}

enum { STORM_NAMES = 24, STORM_STEPS = 500 };

/* Directories a, b, c; names 0 … in each; every kind of operation on random names. */
static void storm(unsigned index, void *argument)
{
    static const int fine[] = {EEXIST, ENOENT, ENOTEMPTY, EISDIR, ENOTDIR, EINVAL, EPERM, ELOOP};
    uint64_t random = *(uint64_t *)argument + index;
    char from[32], to[32];
    for (unsigned step = 0; step < STORM_STEPS; step++) {
        uint64_t r = random_next(&random);
        snprintf(from, sizeof(from), "%c/%u", 'a' + (int)(r % 3), (unsigned)(r >> 8) % STORM_NAMES);
        snprintf(to, sizeof(to), "%c/%u", 'a' + (int)((r >> 4) % 3),
                 (unsigned)(r >> 20) % STORM_NAMES);
        long result;
        switch ((r >> 32) % 10) {
        case 0:
            result = open(from, O_CREAT | O_RDWR, 0644);
            break;
        case 1:
            result = mkdir(from, 0755);
            break;
        case 2:
            result = unlink(from);
            break;
        case 3:
            result = rmdir(from);
            break;
        case 4:
            result = link(from, to);
            break;
        case 5:
            result = symlink("target", from);
            break;
        case 6:
            result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE);
            break;
        case 7:
            result = renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE);
            break;
        default:
            result = rename(from, to);
            break;
        }
        /* open(2) of a symbolic link makes its target, a name of the same directory. */
        if (result == -1 && !error_is_one_of(fine, sizeof(fine) / sizeof(fine[0])))
            FAIL("%s -> %s: %s", from, to, strerror(errno));
        else if (result > 2)
            (void)close((int)result);
    }
}

/* What readdir shows can be looked up, types agree, and directories count their subdirectories.
 * Returns the number of entries. */
static unsigned expect_consistent(const char *path)
{
    DIR *dir = opendir(path);
    REQUIRE(dir != NULL);
    unsigned count = 0;
    nlink_t subdirectories = 0;
    struct dirent *entry;
    while ((entry = readdir(dir))) {
        char name[600];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);
        struct stat attr = STAT(name);
        EXPECT_EQ(attr.st_ino, entry->d_ino);
        EXPECT_EQ((attr.st_mode & S_IFMT) >> 12, entry->d_type);
        EXPECT(attr.st_nlink >= 1);
        subdirectories += S_ISDIR(attr.st_mode);
        count++;
        if (S_ISDIR(attr.st_mode)) {
            snprintf(name + strlen(name), sizeof(name) - strlen(name), "/..");
            EXPECT_EQ(STAT(name).st_ino, STAT(path).st_ino);
            name[strlen(name) - 3] = 0;
            count += expect_consistent(name);
        }
    }
    EXPECT_EQ(NLINK(path), 2 + subdirectories);
    (void)closedir(dir);
    return count;
}

/* Every regular file has as many names as links; over the directories a, b, c. */
static void expect_link_counts(void)
{
    static struct {
        ino_t ino;
        nlink_t links, names;
    } files[4 * STORM_NAMES];
    unsigned count = 0;
    char path[32];
    for (int dir = 0; dir < 3; dir++) {
        for (int i = -1; i < STORM_NAMES; i++) {
            if (i < 0)
                snprintf(path, sizeof(path), "%c/target", 'a' + dir);
            else
                snprintf(path, sizeof(path), "%c/%d", 'a' + dir, i);
            struct stat attr;
            if (lstat(path, &attr) == -1 || S_ISDIR(attr.st_mode)) continue;
            unsigned at = 0;
            while (at < count && files[at].ino != attr.st_ino)
                at++;
            if (at == count) {
                files[count].ino = attr.st_ino;
                files[count].links = attr.st_nlink;
                files[count++].names = 0;
            }
            files[at].names++;
        }
    }
    for (unsigned i = 0; i < count; i++)
        EXPECT_EQ(files[i].links, files[i].names);
}

CASE(concurrent, storm_of_operations_leaves_a_consistent_tree, .seconds = 60)
{
    uint64_t seed = case_seed();
    for (int round = 0; round < 2; round++, seed = mix64(seed)) {
        make_dir("a", 0755);
        make_dir("b", 0755);
        make_dir("c", 0755);
        run_crew(PROCESSES, storm, &seed);
        (void)expect_consistent(".");
        expect_link_counts();
        /* Emptied, nothing is left. */
        for (unsigned pass = 0; pass < 40; pass++) {
            char path[32];
            for (unsigned i = 0; i < 3 * (STORM_NAMES + 1); i++) {
                if (i % (STORM_NAMES + 1) == STORM_NAMES)
                    snprintf(path, sizeof(path), "%c/target", 'a' + (int)(i / (STORM_NAMES + 1)));
                else
                    snprintf(path, sizeof(path), "%c/%u", 'a' + (int)(i / (STORM_NAMES + 1)),
                             i % (STORM_NAMES + 1));
                (void)remove(path);
            }
            if (rmdir("a") != -1) break;
        }
        (void)rmdir("b");
        (void)rmdir("c");
        EXPECT_EQ(count_entries("."), 0);
    }
}

enum { MOVED_DIRS = 10 };

/* Moves directories into each other, at any depth, by their descriptors. */
static void move_directories(unsigned index, void *argument)
{
    static const int fine[] = {EINVAL, ENOTEMPTY, ENOENT, EEXIST, ELOOP};
    const int *fds = argument;
    uint64_t random = case_seed() + index;
    char name[16];
    for (unsigned step = 0; step < 300; step++) {
        uint64_t r = random_next(&random);
        unsigned moved = (unsigned)r % MOVED_DIRS;
        unsigned from = (unsigned)(r >> 16) % (MOVED_DIRS + 1);
        unsigned to = (unsigned)(r >> 32) % (MOVED_DIRS + 1);
        snprintf(name, sizeof(name), "m%u", moved);
        if (renameat(fds[from], name, fds[to], name) == -1 && !error_is_one_of(fine, 5))
            FAIL("%s from %u to %u: %s", name, from, to, strerror(errno));
    }
}

CASE(concurrent, moves_of_directories_make_no_loop, .seconds = 60)
{
    int fds[MOVED_DIRS + 1];
    char name[16];
    for (unsigned i = 0; i < MOVED_DIRS; i++) {
        snprintf(name, sizeof(name), "m%u", i);
        make_dir(name, 0755);
        fds[i] = open_file(name, O_RDONLY | O_DIRECTORY, 0);
    }
    fds[MOVED_DIRS] = open_file(".", O_RDONLY | O_DIRECTORY, 0);
    run_crew(PROCESSES, move_directories, fds);
    EXPECT_EQ(expect_consistent("."), MOVED_DIRS); /* all are there, each once, below the top */
    struct stat top;
    REQUIRE_OK(fstat(fds[MOVED_DIRS], &top));
    for (unsigned i = 0; i < MOVED_DIRS; i++) { /* and every one leads up to it */
        int fd = dup(fds[i]);
        struct stat attr = {0};
        for (unsigned depth = 0; depth <= MOVED_DIRS && attr.st_ino != top.st_ino; depth++) {
            int up = openat(fd, "..", O_RDONLY | O_DIRECTORY);
            REQUIRE(up != -1);
            (void)close(fd);
            fd = up;
            REQUIRE_OK(fstat(fd, &attr));
        }
        EXPECT_EQ(attr.st_ino, top.st_ino);
        (void)close(fd);
    }
}

static void link_and_unlink(unsigned index, void *argument)
{
    (void)argument;
    char name[32];
    for (unsigned i = 0; i < 150; i++) {
        snprintf(name, sizeof(name), "l%u-%u", index, i);
        EXPECT_OK(link("f", name));
        if (i % 3) EXPECT_OK(unlink(name));
    }
}

CASE(concurrent, link_counts_add_up)
{
    make_file("f", 0644, "content");
    run_crew(PROCESSES, link_and_unlink, NULL);
    EXPECT_EQ(NLINK("f"), 1 + PROCESSES * 50);
    EXPECT_EQ(count_entries("."), 1 + PROCESSES * 50);
}

static void make_and_remove_directories(unsigned index, void *argument)
{
    (void)argument;
    char name[32];
    for (unsigned i = 0; i < 150; i++) {
        snprintf(name, sizeof(name), "d/%u-%u", index, i);
        EXPECT_OK(mkdir(name, 0755));
        if (i % 3) EXPECT_OK(rmdir(name));
    }
}

CASE(concurrent, directory_links_add_up)
{
    make_dir("d", 0755);
    run_crew(PROCESSES, make_and_remove_directories, NULL);
    EXPECT_EQ(NLINK("d"), 2 + PROCESSES * 50);
    (void)expect_consistent("d");
}

/* ---- readers while something is replaced ---- */

static void replace_or_read(unsigned index, void *argument)
{
    _Atomic unsigned *stop = argument;
    char text[4096];
    if (index == 0) {
        for (unsigned i = 0; i < 300; i++) {
            memset(text, 'a' + (int)(i % 26), sizeof(text));
            int fd = open_file("new", O_CREAT | O_TRUNC | O_WRONLY, 0644);
            write_all(fd, text, sizeof(text));
            REQUIRE_OK(close(fd));
            EXPECT_OK(rename("new", "current"));
        }
        *stop = 1;
        return;
    }
    while (!*stop) {
        int fd = open("current", O_RDONLY);
        if (fd == -1) {
            FAIL("the name was missing: %s", strerror(errno));
            return;
        }
        ssize_t size = pread(fd, text, sizeof(text), 0);
        if (size != sizeof(text)) FAIL("a version of %zd bytes", size);
        for (ssize_t i = 1; i < size; i++)
            if (text[i] != text[0]) {
                FAIL("two versions mixed");
                break;
            }
        (void)close(fd);
    }
}

CASE(concurrent, replacing_by_rename_is_never_seen_half_done, .seconds = 60)
{
    char text[4096];
    memset(text, 'z', sizeof(text));
    int fd = open_file("current", O_CREAT | O_WRONLY, 0644);
    write_all(fd, text, sizeof(text));
    REQUIRE_OK(close(fd));
    run_crew(3, replace_or_read, shared_memory(sizeof(unsigned)));
}

static void exchange_or_look(unsigned index, void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < 200; i++) {
        if (index < 2) {
            EXPECT_OK(renameat2(AT_FDCWD, "a", AT_FDCWD, "d/b", RENAME_EXCHANGE));
        } else {
            struct stat attr;
            EXPECT_OK(stat("a", &attr));
            EXPECT_OK(stat("d/b", &attr));
        }
    }
}

CASE(concurrent, exchange_leaves_no_gap)
{
    make_dir("d", 0755);
    make_file("a", 0644, "A");
    make_file("d/b", 0644, "B");
    ino_t a = STAT("a").st_ino;
    run_crew(PROCESSES, exchange_or_look, NULL);
    EXPECT_EQ(STAT("a").st_ino, a); /* 400 exchanges: an even number */
    EXPECT_CONTENT("a", "A");
    EXPECT_CONTENT("d/b", "B");
}

/* ---- a directory that is filled and removed ---- */

static void fill_or_remove(unsigned index, void *argument)
{
    _Atomic unsigned *inside = argument;
    for (unsigned i = 0; i < 300; i++) {
        if (index == 0) {
            (void)mkdir("d", 0755);
            if (rmdir("d") == -1 && errno != ENOTEMPTY && errno != ENOENT)
                FAIL("rmdir: %s", strerror(errno));
        } else {
            char name[32];
            snprintf(name, sizeof(name), "d/f%u", index);
            int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0644);
            if (fd == -1) {
                if (errno != ENOENT) FAIL("open: %s", strerror(errno));
                continue;
            }
            (void)close(fd);
            (void)atomic_fetch_add(inside, 1);
            EXPECT_OK(unlink(name)); /* nobody could remove the directory with it inside */
        }
    }
}

CASE(concurrent, directory_is_not_removed_from_under_its_entries)
{
    run_crew(PROCESSES, fill_or_remove, shared_memory(sizeof(unsigned)));
    (void)rmdir("d");
    EXPECT_EQ(count_entries("."), 0);
}

/* ---- data ---- */

enum { REGION = 64 * 1024 };

static void write_region(unsigned index, void *argument)
{
    (void)argument;
    char *bytes = malloc(REGION);
    REQUIRE(bytes != NULL);
    int fd = open_file("f", O_RDWR, 0);
    for (unsigned round = 0; round < 10; round++) {
        pattern_fill(bytes, REGION, round, index);
        for (size_t at = 0; at < REGION;) { /* regions border each other within pages */
            size_t size = 1 + (at * 7 + index) % 5000;
            if (size > REGION - at) size = REGION - at;
            pwrite_all(fd, bytes + at, size, (off_t)(100 + index * REGION + at));
            at += size;
        }
        EXPECT_BYTES(fd, bytes, REGION, 100 + index * REGION);
    }
    free(bytes);
}

CASE(concurrent, writes_side_by_side_do_not_disturb_each_other)
{
    make_file("f", 0644, NULL);
    run_crew(PROCESSES, write_region, NULL);
    char *bytes = malloc(REGION);
    REQUIRE(bytes != NULL);
    int fd = open_file("f", O_RDONLY, 0);
    cache_drop(fd);
    for (unsigned i = 0; i < PROCESSES; i++) {
        pattern_fill(bytes, REGION, 9, i);
        EXPECT_BYTES(fd, bytes, REGION, 100 + i * REGION);
    }
    EXPECT_EQ(FSTAT(fd).st_size, 100 + PROCESSES * REGION);
    free(bytes);
}

static void count_in_a_mapping(unsigned index, void *argument)
{
    (void)index;
    (void)argument;
    int fd = open_file("f", O_RDWR, 0);
    _Atomic unsigned *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(map != MAP_FAILED);
    for (unsigned i = 0; i < 20000; i++) {
        (void)atomic_fetch_add(&map[i % 1024], 1);
        if (i % 5000 == 0) (void)msync((void *)map, 4096, MS_ASYNC);
    }
    REQUIRE_OK(munmap((void *)map, 4096));
}

CASE(concurrent, mappings_are_one_memory)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 4096));
    run_crew(PROCESSES, count_in_a_mapping, NULL);
    unsigned counts[1024];
    cache_drop(fd);
    EXPECT_EQ(pread(fd, counts, sizeof(counts), 0), sizeof(counts));
    unsigned long sum = 0;
    for (unsigned i = 0; i < 1024; i++)
        sum += counts[i];
    EXPECT_EQ(sum, PROCESSES * 20000);
}

static void truncate_or_write(unsigned index, void *argument)
{
    (void)argument;
    int fd = open_file("f", O_RDWR, 0);
    char block[4096];
    memset(block, 'A' + (int)index, sizeof(block));
    for (unsigned i = 0; i < 200; i++) {
        if (index == 0) {
            EXPECT_OK(ftruncate(fd, (off_t)(i * 977) % 40000));
        } else {
            EXPECT_EQ(pwrite(fd, block, sizeof(block), (off_t)((i * index) % 10) * 4096), 4096);
        }
    }
}

CASE(concurrent, truncation_and_writes_leave_only_what_was_written)
{
    make_file("f", 0644, NULL);
    run_crew(PROCESSES, truncate_or_write, NULL);
    int fd = open_file("f", O_RDONLY, 0);
    off_t size = FSTAT(fd).st_size;
    EXPECT(size <= 40960);
    char block[4096];
    for (int round = 0; round < 2; round++) {
        for (off_t at = 0; at < size; at += 4096) {
            ssize_t got = pread(fd, block, 4096, at);
            EXPECT(got > 0);
            for (ssize_t i = 0; i < got; i++)
                if (block[i] != 0 && (block[i] < 'B' || block[i] > 'D')) {
                    FAIL("byte %lld is 0x%02x", (long long)at + i, (unsigned char)block[i]);
                    break;
                }
        }
        cache_drop(fd);
    }
}

static void touch_tree(unsigned index, void *argument)
{
    (void)index;
    (void)argument;
    char path[64];
    for (unsigned i = 0; i < 100; i++) { /* as mkdir -p does it */
        snprintf(path, sizeof(path), "t%u", i % 10);
        if (mkdir(path, 0755) == -1) EXPECT_EQ(errno, EEXIST);
        snprintf(path, sizeof(path), "t%u/s%u", i % 10, i % 7);
        if (mkdir(path, 0755) == -1) EXPECT_EQ(errno, EEXIST);
        snprintf(path, sizeof(path), "t%u/s%u/f", i % 10, i % 7);
        int fd = open(path, O_CREAT | O_RDWR, 0644);
        EXPECT(fd != -1);
        if (fd != -1) (void)close(fd);
    }
}

CASE(concurrent, same_tree_made_by_all)
{
    run_crew(PROCESSES, touch_tree, NULL);
    EXPECT_EQ(NLINK("."), 12);
    EXPECT_EQ(expect_consistent("."), 10 + 70 + 70);
}

static void list_or_change(unsigned index, void *argument)
{
    (void)argument;
    char path[32];
    for (unsigned i = 0; i < (index == 0 ? 10 : 400); i++) {
        if (index > 0) {
            snprintf(path, sizeof(path), "d/c%u-%u", index, i % 20);
            int fd = open(path, O_CREAT | O_WRONLY, 0644);
            if (fd != -1) (void)close(fd);
            if (i % 2) EXPECT_OK(unlink(path));
            continue;
        }
        DIR *dir = opendir("d");
        REQUIRE(dir != NULL);
        unsigned stays = 0;
        for (struct dirent *entry; (entry = readdir(dir));)
            stays += entry->d_name[0] == 's';
        EXPECT_EQ(stays, 300); /* what is not touched is there each time, once */
        (void)closedir(dir);
    }
}

CASE(concurrent, listing_shows_what_is_not_touched)
{
    char path[32];
    make_dir("d", 0755);
    for (unsigned i = 0; i < 300; i++) {
        snprintf(path, sizeof(path), "d/s%u", i);
        make_file(path, 0644, NULL);
    }
    run_crew(PROCESSES, list_or_change, NULL);
}

static void write_and_unlink(unsigned index, void *argument)
{
    (void)argument;
    char name[16];
    char text[32];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "n%u", (index + i) % 3); /* names are fought for */
        snprintf(text, sizeof(text), "process %u file %u", index, i);
        int fd = open(name, O_CREAT | O_EXCL | O_RDWR, 0644);
        if (fd == -1) {
            EXPECT_EQ(errno, EEXIST);
            (void)unlink(name);
            continue;
        }
        write_all(fd, text, strlen(text));
        (void)unlink(name);
        EXPECT_BYTES(fd, text, strlen(text), 0); /* what one has open is one's own */
        EXPECT_EQ(FSTAT(fd).st_size, strlen(text));
        (void)close(fd);
    }
}

CASE(concurrent, unlinked_files_keep_apart)
{
    run_crew(PROCESSES, write_and_unlink, NULL);
}
