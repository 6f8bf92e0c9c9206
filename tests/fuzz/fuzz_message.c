/* Every other message: the first byte chooses which. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/query/message.h"
#include "db/wire/ddl.h"
#include "db/wire/info.h"
#include "db/wire/program.h"
#include "db/wire/signal.h"
#include "tests/fuzz/fuzz.h"

static void take_signal(const uint8_t *bytes, size_t size)
{
    struct signal_header header;
    if (size < sizeof(header)) return;
    memcpy(&header, bytes, sizeof(header));
    if (signal_check(&header, size) == ERR_NONE) {
        ASSERT(header.size == size && header.type <= SIGNAL_TYPE_MAX);
        ASSERT(err_is_known(header.err));
    }
}

static void take_reply(const uint8_t *bytes, size_t size)
{
    struct program_reply reply;
    program_reply_init(&reply);
    buf_put(&reply.bytes, bytes, size);
    if (program_reply_decode(&reply) == ERR_NONE && !reply.err)
        for (uint8_t step = 0; step < PROGRAM_STEPS_MAX; step++) {
            const struct value *row = program_row(&reply, step, 0);
            ASSERT(!row || reply.steps[step].row_count > 0);
        }
    program_reply_fini(&reply);
}

static void take_ddl(struct reader *reader)
{
    struct ddl_request request;
    struct diag diag;
    if (ddl_request_decode(reader, &request, &diag)) return;
    struct catalog *changed = NULL;
    if (ddl_apply(fuzz_catalog(), &request, &changed, &diag) == ERR_NONE) catalog_destroy(changed);
    ddl_request_fini(&request);
}

static void take_catalog(struct reader *reader)
{
    struct catalog *catalog = NULL;
    if (catalog_decode(reader, &catalog)) return;
    struct buf buf;
    buf_init(&buf);
    catalog_encode(catalog, &buf);
    struct reader again = reader_of(buf.bytes, buf.size);
    struct catalog *copy = NULL;
    ASSERT(catalog_decode(&again, &copy) == ERR_NONE);
    (void)ddl_may_follow(catalog, copy);
    catalog_destroy(copy);
    catalog_destroy(catalog);
    buf_fini(&buf);
}

static void take_rows(struct reader *reader)
{
    struct query_rows rows;
    if (query_rows_decode(reader, &rows) == ERR_NONE) ASSERT(rows.kind >= QUERY_ROWS_BATCH);
}

static void take_credit(struct reader *reader)
{
    struct query_more more;
    if (query_more_decode(reader, &more) == ERR_NONE) ASSERT(!reader->failed);
}

static void take_move(struct reader *reader)
{
    struct query_move move;
    if (query_move_decode(reader, &move) == ERR_NONE) ASSERT(!reader->failed);
}

/* What the two sides of a link say of themselves, and of the node. */
static void take_info(const uint8_t *bytes, size_t size)
{
    struct greeting_client client;
    struct greeting_node node;
    if (greeting_client_decode(bytes, size, &client) == ERR_NONE) ASSERT(client.client);
    if (greeting_node_decode(bytes, size, &node) == ERR_NONE) ASSERT(node.worker_count);
    struct node_info info;
    struct catalog *catalog = NULL;
    if (node_info_decode(bytes, size, &info, &catalog)) return;
    ASSERT(!node_info_has_lost(&info, node_info_life(&info), 0));
    catalog_destroy(catalog);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (!size) return 0;
    uint8_t *copy = fuzz_copy(bytes + 1, size - 1);
    struct reader reader = reader_of(copy, size - 1);
    switch (bytes[0] % 8) {
    case 0:
        take_signal(copy, size - 1);
        break;
    case 1:
        take_reply(copy, size - 1);
        break;
    case 2:
        take_ddl(&reader);
        break;
    case 3:
        take_catalog(&reader);
        break;
    case 4:
        take_rows(&reader);
        break;
    case 5:
        take_credit(&reader);
        break;
    case 6:
        take_move(&reader);
        break;
    default:
        take_info(copy, size - 1);
        break;
    }
    free(copy);
    return 0;
}
