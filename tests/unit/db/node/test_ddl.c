/* Changes of the catalog, when what they rest upon fails. */
#include <criterion/criterion.h>
#include <string.h>

#include "db/node/sim.h"
#include "db/node/sim_node.h"
#include "db/node/worker_private.h"
#include "db/wire/ddl.h"

struct fixture {
    struct sim *sim;
    struct sim_node *sim_node;
    struct node *node;
    struct endpoint *endpoint;
};

static bool answered;
static enum err answer;

static void on_answer(struct endpoint *endpoint, struct signal *signal)
{
    (void)endpoint;
    answered = true;
    answer = (enum err)signal->header.err;
    signal_destroy(signal);
}

static void setup(struct fixture *fx)
{
    struct sim_config config = {
        .seed = 7, .disk_latency_ns_min = 1000, .disk_latency_ns_max = 100000};
    struct sim_node_config node = {.worker_count = 2, .partition_count = 4};
    struct diag diag = {0};
    cr_assert_eq(sim_create(&config, &fx->sim), ERR_NONE);
    node.sim = fx->sim;
    cr_assert_eq(sim_node_create(&node, &fx->sim_node, &diag), ERR_NONE, "%s", diag.text);
    fx->node = sim_node_node(fx->sim_node);
    cr_assert_eq(node_endpoint_open(fx->node, fx->node->workers[0], &fx->endpoint), ERR_NONE);
    fx->endpoint->receive = on_answer;
    while (sim_node_step(fx->sim_node))
        continue;
}

static void teardown(struct fixture *fx)
{
    struct diag diag = {0};
    node_endpoint_close(fx->node, fx->endpoint);
    enum err err = sim_node_stop(fx->sim_node, &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    sim_destroy(fx->sim);
}

static enum err create_table(struct fixture *fx, const char *name)
{
    struct column_def column = {.type = TYPE_BIGINT_UNSIGNED, .name = "k"};
    struct table_def table = {
        .database = "d",
        .column_count = 1,
        .columns = &column,
        .index_count = 1,
        .partition_by = PARTITION_BY_HOME,
        .partition_column_count = 1,
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_HASH,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 1}},
    };
    strcpy(table.name, name);
    struct ddl_request request = {.op = DDL_CREATE_TABLE, .table = &table};
    struct buf buf;
    buf_init(&buf);
    buf_put_u8(&buf, 1);
    ddl_request_encode(&request, &buf);
    struct signal *signal = signal_create((uint32_t)buf.size);
    memcpy(signal->body, buf.bytes, buf.size);
    buf_fini(&buf);
    signal->header.type = SIGNAL_DDL;
    signal->header.source = fx->endpoint->number;
    signal->header.client = fx->endpoint->client;
    signal->header.request = 1;
    answered = false;
    node_deliver(fx->node, signal);
    for (int i = 0; i < 10000 && !answered; i++)
        sim_node_step(fx->sim_node);
    cr_assert(answered);
    return answer;
}

/* Of the catalog that a start would find now. */
static uint64_t file_version(struct fixture *fx, bool *ret_has)
{
    struct store_info info;
    struct catalog *catalog;
    struct diag diag = {0};
    cr_assert_eq(store_open(sim_env(fx->sim), &info, &catalog, &diag), ERR_NONE, "%s", diag.text);
    uint64_t version = catalog->version;
    *ret_has = catalog_find(catalog, "d", "one") != NULL;
    catalog_destroy(catalog);
    return version;
}

Test(ddl, a_change_that_may_have_been_made_is_not_called_refused)
{
    bool fired = true;
    unsigned unknown = 0;
    for (uint64_t k = 1; fired; k++) {
        struct fixture fx;
        setup(&fx);
        sim_fault_arm(fx.sim, k, ERR_IO);
        enum err err = create_table(&fx, "one");
        fired = sim_fault_fired(fx.sim);
        sim_fault_arm(fx.sim, 0, ERR_NONE);
        bool has;
        uint64_t version = file_version(&fx, &has);
        cr_assert_eq(err == ERR_NONE || err == ERR_OUTCOME_UNKNOWN, has, "call %u: %s", (unsigned)k,
                     err_name(err));
        unknown += err == ERR_OUTCOME_UNKNOWN;
        /* The next change is another version, whichever became of this one. */
        cr_assert_eq(create_table(&fx, "two"), ERR_NONE);
        uint64_t next = file_version(&fx, &has);
        cr_assert_gt(next, version);
        cr_assert_eq(has, err == ERR_NONE);
        teardown(&fx);
    }
    cr_assert_eq(unknown, 1);
}
