/* A statement: tokenised, parsed, bound and planned, or refused with one line and a place in it. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "sql/prepare.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size > 4096) return 0;
    struct arena arena;
    arena_init(&arena, 0);
    /* The NUL that follows a statement's text is part of the contract; nothing behind it is. */
    uint8_t *copy = malloc(size + 1);
    ASSERT(copy);
    if (size) memcpy(copy, bytes, size);
    copy[size] = 0;
    struct sql_statement statement = {0};
    struct diag diag = {.position = UINT32_MAX};
    enum err err = prepare_at(fuzz_catalog(), 8, "fs", (const char *)copy, (uint32_t)size,
                              INT64_C(1700000000000000), &arena, &statement, &diag);
    if (err) {
        ASSERT(diag.text[0] && !memchr(diag.text, '\n', strlen(diag.text)));
        ASSERT(diag.position == UINT32_MAX || diag.position <= size);
    }
    free(copy);
    arena_fini(&arena);
    return 0;
}
