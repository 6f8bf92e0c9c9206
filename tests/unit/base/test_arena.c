/* The arena: alignment, limits, what a reset keeps. */
#include "base/arena.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <string.h>

Test(arena, init_allocates_nothing)
{
    struct arena arena;
    arena_init(&arena, 0);
    cr_assert_eq(arena.size, 0);
    cr_assert_null(arena.blocks);
    arena_fini(&arena);
}

Test(arena, allocations_are_aligned_and_do_not_overlap)
{
    struct arena arena;
    arena_init(&arena, 0);
    enum { COUNT = 3000 };
    static uint8_t *parts[COUNT];
    static size_t sizes[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = (i * 37) % 700;
        parts[i] = arena_alloc(&arena, sizes[i]);
        cr_assert_not_null(parts[i]);
        cr_assert_eq((uintptr_t)parts[i] % 16, 0);
        memset(parts[i], (int)(i & 0xff), sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t j = 0; j < sizes[i]; j++)
            cr_assert_eq(parts[i][j], (uint8_t)i);
    }
    arena_fini(&arena);
    cr_assert_eq(arena.size, 0);
}

Test(arena, allocations_of_no_bytes_are_distinct)
{
    struct arena arena;
    arena_init(&arena, 0);
    void *first = arena_alloc(&arena, 0);
    void *second = arena_alloc(&arena, 0);
    cr_assert_not_null(first);
    cr_assert_neq(first, second);
    arena_fini(&arena);
}

Test(arena, limit_refuses_and_leaves_the_arena_usable)
{
    struct arena arena;
    arena_init(&arena, 64 * 1024);
    cr_assert_null(arena_alloc(&arena, 64 * 1024));
    cr_assert_eq(arena.size, 0);
    size_t total = 0;
    while (arena_alloc(&arena, 1000))
        total += 1000;
    cr_assert_geq(total, 32u * 1024);
    cr_assert_leq(arena.size, 64u * 1024);
    arena_reset(&arena);
    cr_assert_not_null(arena_alloc(&arena, 1000));
    arena_fini(&arena);
}

Test(arena, limit_holds_across_a_large_request_and_reset)
{
    struct arena arena;
    arena_init(&arena, 1024 * 1024);
    cr_assert_not_null(arena_alloc(&arena, 900 * 1024));
    cr_assert_null(arena_alloc(&arena, 200 * 1024));
    arena_reset(&arena);
    cr_assert_eq(arena.size, 0, "a block above the usual size is not kept");
    cr_assert_eq(arena.size_max, 1024u * 1024);
    cr_assert_not_null(arena_alloc(&arena, 900 * 1024));
    arena_fini(&arena);
}

Test(arena, reset_keeps_one_block_and_reuses_it)
{
    struct arena arena;
    arena_init(&arena, 0);
    void *first = arena_alloc(&arena, 100);
    arena_reset(&arena);
    size_t size = arena.size;
    cr_assert_gt(size, 0);
    cr_assert_eq(arena_alloc(&arena, 100), first);
    cr_assert_eq(arena.size, size);
    arena_fini(&arena);
}

Test(arena, zalloc_zeroes_reused_memory)
{
    struct arena arena;
    arena_init(&arena, 0);
    memset(arena_alloc(&arena, 500), 0xff, 500);
    arena_reset(&arena);
    const uint8_t *bytes = arena_zalloc(&arena, 500);
    for (size_t i = 0; i < 500; i++)
        cr_assert_eq(bytes[i], 0);
    arena_fini(&arena);
}

Test(arena, array_refuses_a_size_that_overflows)
{
    struct arena arena;
    arena_init(&arena, 0);
    cr_assert_null(arena_array(&arena, 16, SIZE_MAX / 8));
    cr_assert_null(arena_alloc(&arena, SIZE_MAX));
    cr_assert_null(arena_copy(&arena, "", SIZE_MAX));
    uint64_t *numbers = arena_new(&arena, uint64_t, 10);
    cr_assert_not_null(numbers);
    cr_assert_eq(numbers[9], 0);
    arena_fini(&arena);
}

Test(arena, copy_and_printf_make_terminated_texts)
{
    struct arena arena;
    arena_init(&arena, 0);
    cr_assert_str_eq(arena_copy(&arena, "abcdef", 3), "abc");
    cr_assert_str_eq(arena_copy(&arena, NULL, 0), "");
    char *text = arena_printf(&arena, "%s-%d-%0*d", "x", 42, 5000, 7);
    cr_assert_eq(strlen(text), 5 + 5000);
    cr_assert_eq(text[5 + 4999], '7');
    arena_fini(&arena);
}
