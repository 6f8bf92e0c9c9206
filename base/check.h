/* Assertions for our own bugs, kept in release builds. What comes from a disk, a network, a user or
 * a peer is never asserted: it gets an error. ASSERT_SLOW is for costly checks, in debug builds
 * only. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stddef.h>

__attribute__((noreturn, cold)) void check_failed(const char *file, int line, const char *what);

#define ASSERT(condition)                                                                          \
    (__builtin_expect(!(condition), 0) ? check_failed(__FILE__, __LINE__, #condition) : (void)0)
#ifdef NDEBUG
#define ASSERT_SLOW(condition) ((void)0)
#else
#define ASSERT_SLOW(condition) ASSERT(condition)
#endif

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define CONTAINER_OF(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
