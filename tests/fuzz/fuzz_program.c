/* A program as a peer sends it: its outline, which a coordinator reads, and its decoding against
 * the catalog. A part made of an accepted program must be accepted as well. */
#include <stdlib.h>

#include "base/check.h"
#include "db/wire/program.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct catalog *catalog = fuzz_catalog();
    uint8_t *copy = fuzz_copy(bytes, size);
    struct arena arena;
    arena_init(&arena, 0);
    struct program_outline outline;
    enum err outline_err = program_outline_decode(copy, size, &outline);
    struct reader reader = reader_of(copy, size);
    struct program_decoded decoded;
    enum err err = program_decode(&reader, catalog, &arena, &decoded);
    if (!err && !outline_err) {
        struct buf part;
        buf_init(&part);
        program_outline_encode(&outline, 1, &part);
        ASSERT(!part.failed);
        struct reader again = reader_of(part.bytes, part.size);
        ASSERT(program_decode(&again, catalog, &arena, &decoded) == ERR_NONE);
        buf_fini(&part);
    }
    ASSERT(err || !outline_err);
    arena_fini(&arena);
    free(copy);
    return 0;
}
