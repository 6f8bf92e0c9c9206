/* The body of a RUN: what a worker is told about a query, and the tree. An accepted tree must
 * encode to something accepted, and the coordinator's end of it can be made. */
#include <stdlib.h>

#include "base/check.h"
#include "db/query/finish.h"
#include "db/query/message.h"
#include "tests/fuzz/fuzz.h"

static void use(const struct query_tree *tree, const struct catalog *catalog, struct arena *arena)
{
    struct buf buf;
    buf_init(&buf);
    query_encode(tree, &buf);
    ASSERT(!buf.failed);
    struct reader reader = reader_of(buf.bytes, buf.size);
    struct query_tree again;
    ASSERT(query_decode(&reader, catalog, arena, &again) == ERR_NONE);
    struct query_finish *finish = NULL;
    struct diag diag;
    if (query_finish_create(&again, catalog, 1 << 20, &finish, &diag) == ERR_NONE)
        query_finish_destroy(finish);
    buf_fini(&buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct catalog *catalog = fuzz_catalog();
    uint8_t *copy = fuzz_copy(bytes, size);
    struct arena arena;
    arena_init(&arena, 0);
    struct reader reader = reader_of(copy, size);
    struct query_run run;
    struct query_tree tree;
    enum err err = query_run_decode(&reader, &run);
    if (!err) err = query_decode(&reader, catalog, &arena, &tree);
    if (!err) use(&tree, catalog, &arena);
    arena_fini(&arena);
    free(copy);
    return 0;
}
