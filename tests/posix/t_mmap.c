/* mmap(2) of files: shared mappings and reads and writes see each other, private ones do not. */
#include "tests/posix/suite.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static char *map_file(int fd, size_t size, int protection, int flags)
{
    char *map = mmap(NULL, size, protection, flags, fd, 0);
    REQUIRE(map != MAP_FAILED);
    return map;
}

#define READ_WRITE (PROT_READ | PROT_WRITE)

CASE(mmap, shared_shows_what_is_written)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 3 * PAGE));
    char *map = map_file(fd, 3 * PAGE, READ_WRITE, MAP_SHARED);
    EXPECT(map[0] == 0 && map[PAGE] == 0);
    for (int i = 0; i < 20; i++) {
        char text[8];
        snprintf(text, sizeof(text), "w%06d", i);
        EXPECT_EQ(pwrite(fd, text, 7, PAGE - 3), 7);
        EXPECT(memcmp(map + PAGE - 3, text, 7) == 0);
    }
    EXPECT_OK(munmap(map, 3 * PAGE));
}

CASE(mmap, shared_stores_are_read)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 3 * PAGE));
    char *map = map_file(fd, 3 * PAGE, READ_WRITE, MAP_SHARED);
    memcpy(map + 2 * PAGE - 2, "across", 6);
    EXPECT_BYTES(fd, "across", 6, 2 * PAGE - 2);
    int other = open_file("f", O_RDONLY, 0);
    EXPECT_BYTES(other, "across", 6, 2 * PAGE - 2);
    EXPECT_OK(msync(map, 3 * PAGE, MS_SYNC));
    EXPECT_OK(munmap(map, 3 * PAGE));
    EXPECT_OK(fsync(fd));
    cache_drop(fd);
    EXPECT_BYTES(fd, "across", 6, 2 * PAGE - 2);
    EXPECT_ZEROS(fd, 2 * PAGE - 2, 0);
}

CASE(mmap, stores_survive_without_msync)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    size_t size = 300000;
    REQUIRE_OK(ftruncate(fd, (off_t)size));
    char *bytes = malloc(size);
    REQUIRE(bytes != NULL);
    pattern_fill(bytes, size, 0, 1);
    char *map = map_file(fd, size, READ_WRITE, MAP_SHARED);
    REQUIRE_OK(close(fd)); /* the mapping holds the file */
    memcpy(map, bytes, size);
    EXPECT_OK(munmap(map, size));
    fd = open_file("f", O_RDONLY, 0);
    EXPECT_BYTES(fd, bytes, size, 0);
    cache_drop(fd);
    EXPECT_BYTES(fd, bytes, size, 0);
    EXPECT_EQ(FSTAT(fd).st_size, size);
    free(bytes);
}

CASE(mmap, private_stores_stay_private)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDONLY, 0);
    char *map = map_file(fd, PAGE, READ_WRITE, MAP_PRIVATE);
    EXPECT(memcmp(map, "content", 7) == 0);
    memcpy(map, "private", 7);
    EXPECT(memcmp(map, "private", 7) == 0);
    EXPECT_BYTES(fd, "content", 7, 0);
    EXPECT_OK(munmap(map, PAGE));
    EXPECT_CONTENT("f", "content");
}

CASE(mmap, rights_of_the_descriptor)
{
    make_file("f", 0644, "content");
    int reader = open_file("f", O_RDONLY, 0);
    int writer = open_file("f", O_WRONLY, 0);
    int append = open_file("f", O_RDWR | O_APPEND, 0);
    EXPECT_ERR(mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, reader, 0), EACCES);
    EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, writer, 0), EACCES);
    EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, writer, 0), EACCES);
    EXPECT_ERR(mmap(NULL, 0, PROT_READ, MAP_SHARED, reader, 0), EINVAL);
    EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, reader, 5), EINVAL);
    char *map = map_file(reader, PAGE, PROT_READ, MAP_SHARED);
    EXPECT_ERR(mprotect(map, PAGE, READ_WRITE), EACCES);
    map = map_file(append, PAGE, READ_WRITE, MAP_SHARED);
    map[0] = 'C'; /* O_APPEND does not restrict mappings */
    EXPECT_CONTENT("f", "Content");
}

CASE(mmap, directories_and_fifos_cannot_be_mapped)
{
    make_dir("d", 0755);
    REQUIRE_OK(mkfifo("fifo", 0644));
    int dir = open_file("d", O_RDONLY, 0);
    int fifo = open_file("fifo", O_RDWR, 0);
    EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, dir, 0), ENODEV);
    EXPECT_ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fifo, 0), ENODEV);
}

static sigjmp_buf fault_return;
static volatile sig_atomic_t fault_signal;

static void on_fault(int signal)
{
    fault_signal = signal;
    siglongjmp(fault_return, 1);
}

static int signal_of_reading(const volatile char *address)
{
    struct sigaction action = {.sa_handler = on_fault};
    (void)sigaction(SIGBUS, &action, NULL);
    (void)sigaction(SIGSEGV, &action, NULL);
    fault_signal = 0;
    if (sigsetjmp(fault_return, 1) == 0) (void)*address;
    return fault_signal;
}

CASE(mmap, page_beyond_the_end_is_a_bus_error)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    char *map = map_file(fd, 4 * PAGE, READ_WRITE, MAP_SHARED);
    EXPECT_EQ(signal_of_reading(map), 0);
    EXPECT_EQ(signal_of_reading(map + PAGE - 1), 0); /* the rest of the last page is zeros */
    EXPECT_EQ(map[PAGE - 1], 0);
    EXPECT_EQ(signal_of_reading(map + PAGE), SIGBUS);
    EXPECT_EQ(signal_of_reading(map + 3 * PAGE), SIGBUS);
    REQUIRE_OK(ftruncate(fd, 3 * PAGE)); /* a file that grows makes them usable */
    EXPECT_EQ(signal_of_reading(map + 2 * PAGE), 0);
    EXPECT_EQ(signal_of_reading(map + 3 * PAGE), SIGBUS);
    memcpy(map + 2 * PAGE, "late", 4);
    EXPECT_BYTES(fd, "late", 4, 2 * PAGE);
    REQUIRE_OK(ftruncate(fd, PAGE));
    EXPECT_EQ(signal_of_reading(map + 2 * PAGE), SIGBUS);
}

CASE(mmap, stores_behind_the_end_do_not_reach_the_file)
{
    make_file("f", 0644, "content");
    int fd = open_file("f", O_RDWR, 0);
    char *map = map_file(fd, PAGE, READ_WRITE, MAP_SHARED);
    memcpy(map + 7, "lost", 4);
    EXPECT_OK(msync(map, PAGE, MS_SYNC));
    EXPECT_EQ(FSTAT(fd).st_size, 7);
    EXPECT_OK(munmap(map, PAGE));
    EXPECT_OK(fsync(fd));
    cache_drop(fd);
    REQUIRE_OK(ftruncate(fd, 100));
    EXPECT_BYTES(fd, "content\0\0\0\0\0", 12, 0);
}

CASE(mmap, two_processes_share)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, PAGE));
    char *map = map_file(fd, PAGE, READ_WRITE, MAP_SHARED);
    IN_PROCESS
    {
        int own = open_file("f", O_RDWR, 0);
        char *mapped = map_file(own, PAGE, READ_WRITE, MAP_SHARED);
        memcpy(mapped + 10, "from a child", 12);
    }
    EXPECT(memcmp(map + 10, "from a child", 12) == 0);
    EXPECT_BYTES(fd, "from a child", 12, 10);
}

CASE(mmap, holes_are_zeros_and_can_be_filled)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 64 * PAGE));
    char *map = map_file(fd, 64 * PAGE, READ_WRITE, MAP_SHARED);
    for (int i = 0; i < 64; i++)
        EXPECT_EQ(map[i * PAGE + i], 0);
    for (int i = 0; i < 64; i += 7)
        map[i * PAGE + 5] = (char)(i + 1);
    EXPECT_OK(msync(map, 64 * PAGE, MS_SYNC));
    EXPECT_OK(munmap(map, 64 * PAGE));
    cache_drop(fd);
    for (int i = 0; i < 64; i++) {
        char byte = (char)(i % 7 ? 0 : i + 1);
        EXPECT_BYTES(fd, &byte, 1, i * PAGE + 5);
    }
}

CASE(mmap, large_offsets)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    off_t offset = (off_t)5 << 30;
    REQUIRE_OK(ftruncate(fd, offset + PAGE));
    char *map = mmap(NULL, PAGE, READ_WRITE, MAP_SHARED, fd, offset);
    REQUIRE(map != MAP_FAILED);
    memcpy(map + 100, "far away", 8);
    EXPECT_BYTES(fd, "far away", 8, offset + 100);
    EXPECT_OK(munmap(map, PAGE));
    cache_drop(fd);
    EXPECT_BYTES(fd, "far away", 8, offset + 100);
}

CASE(mmap, executable_mapping)
{
    make_file("f", 0755, "content");
    int fd = open_file("f", O_RDONLY, 0);
    void *map = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED && errno == EPERM) case_skip("mounted with noexec");
    EXPECT(map != MAP_FAILED);
}

CASE(mmap, file_modified_under_a_private_mapping)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 2 * PAGE));
    char *map = map_file(fd, 2 * PAGE, READ_WRITE, MAP_PRIVATE);
    map[0] = 'p';
    EXPECT_EQ(pwrite(fd, "shared", 6, 0), 6);
    EXPECT_EQ(pwrite(fd, "shared", 6, PAGE), 6);
    EXPECT_EQ(map[0], 'p'); /* the page that was stored to is a copy */
    EXPECT_BYTES(fd, "shared", 6, 0);
}

CASE(mmap, remapped_and_unmapped_in_parts)
{
    int fd = open_file("f", O_CREAT | O_RDWR, 0644);
    REQUIRE_OK(ftruncate(fd, 8 * PAGE));
    char *map = map_file(fd, 4 * PAGE, READ_WRITE, MAP_SHARED);
    map[PAGE] = 'a';
    EXPECT_OK(munmap(map, PAGE));
    char *moved = mremap(map + PAGE, 3 * PAGE, 7 * PAGE, MREMAP_MAYMOVE);
    REQUIRE(moved != MAP_FAILED);
    EXPECT_EQ(moved[0], 'a');
    moved[6 * PAGE] = 'z';
    EXPECT_BYTES(fd, "a", 1, PAGE);
    EXPECT_BYTES(fd, "z", 1, 7 * PAGE);
    EXPECT_OK(msync(moved, 7 * PAGE, MS_ASYNC));
    EXPECT_OK(madvise(moved, 7 * PAGE, MADV_DONTNEED));
    EXPECT_EQ(moved[0], 'a');
}
