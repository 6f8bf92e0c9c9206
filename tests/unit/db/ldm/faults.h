/* Allocations that fail on demand: for tests linked with --wrap for each of these functions. One
 * translation unit a program includes this. */
#ifndef TESTS_FAULTS_H
#define TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *bytes, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void *__real_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *bytes, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset);

static uint64_t fault_countdown; /* allocations until one fails; 0: none does */
static bool fault_fired;

/* The count'th allocation from now fails. */
static inline void fault_arm(uint64_t count)
{
    fault_countdown = count;
    fault_fired = false;
}

/* Whether it did. */
static inline bool fault_disarm(void)
{
    fault_countdown = 0;
    return fault_fired;
}

static inline bool fault_now(void)
{
    if (!fault_countdown || --fault_countdown) return false;
    fault_fired = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fault_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fault_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *bytes, size_t size)
{
    return fault_now() ? NULL : __real_realloc(bytes, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fault_now() ? NULL : __real_aligned_alloc(alignment, size);
}

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return fault_now() ? MAP_FAILED : __real_mmap(at, size, protection, flags, fd, offset);
}

#endif
