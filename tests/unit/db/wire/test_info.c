/* Greetings and INFO_REPLY: what is encoded is decoded, and nothing else is. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "db/wire/info.h"

static struct greeting_node node_greeting(void)
{
    return (struct greeting_node){
        .worker = 2, .worker_count = 4, .life = 99, .store_id = {1, 2, 3, 255}};
}

Test(info, greetings_survive_the_wire)
{
    uint8_t bytes[GREETING_NODE_SIZE];
    struct greeting_client client = {.worker = 63, .client = CLIENT_REMOTE_BIT | 12345}, client2;
    greeting_client_encode(&client, bytes);
    cr_assert_eq(greeting_client_decode(bytes, GREETING_CLIENT_SIZE, &client2), ERR_NONE);
    cr_assert_eq(client2.worker, 63);
    cr_assert_eq(client2.client, client.client);
    struct greeting_node node = node_greeting(), node2;
    greeting_node_encode(&node, bytes);
    cr_assert_eq(greeting_node_decode(bytes, GREETING_NODE_SIZE, &node2), ERR_NONE);
    cr_assert_eq(node2.worker, 2);
    cr_assert_eq(node2.worker_count, 4);
    cr_assert_eq(node2.life, 99);
    cr_assert_eq(memcmp(node2.store_id, node.store_id, 16), 0);
}

Test(info, bad_greetings_are_refused_and_other_versions_told_apart)
{
    uint8_t bytes[GREETING_NODE_SIZE + 1] = {0};
    struct greeting_client client = {.worker = 1, .client = CLIENT_REMOTE_BIT | 5}, none;
    struct greeting_node node = node_greeting(), no_node;
    for (size_t size = 0; size <= GREETING_NODE_SIZE; size++) {
        greeting_client_encode(&client, bytes);
        if (size != GREETING_CLIENT_SIZE)
            cr_assert_eq(greeting_client_decode(bytes, size, &none), ERR_BAD_SIGNAL);
    }
    greeting_client_encode(&client, bytes);
    bytes[4]++;
    cr_assert_eq(greeting_client_decode(bytes, GREETING_CLIENT_SIZE, &none), ERR_VERSION);
    client.client = 5;
    greeting_client_encode(&client, bytes);
    cr_assert_eq(greeting_client_decode(bytes, GREETING_CLIENT_SIZE, &none), ERR_BAD_SIGNAL,
                 "an id of a local client");
    client = (struct greeting_client){.worker = INFO_WORKERS_MAX, .client = CLIENT_REMOTE_BIT};
    greeting_client_encode(&client, bytes);
    cr_assert_eq(greeting_client_decode(bytes, GREETING_CLIENT_SIZE, &none), ERR_BAD_SIGNAL);
    cr_assert_eq(greeting_node_decode(bytes, GREETING_CLIENT_SIZE, &no_node), ERR_BAD_SIGNAL,
                 "a client's");
    for (size_t size = 0; size <= GREETING_NODE_SIZE + 1; size++) {
        greeting_node_encode(&node, bytes);
        if (size != GREETING_NODE_SIZE)
            cr_assert_eq(greeting_node_decode(bytes, size, &no_node), ERR_BAD_SIGNAL);
    }
    node.worker_count = 2;
    greeting_node_encode(&node, bytes);
    cr_assert_eq(greeting_node_decode(bytes, GREETING_NODE_SIZE, &no_node), ERR_BAD_SIGNAL,
                 "worker 2 of 2");
    node = node_greeting();
    node.life = 0;
    greeting_node_encode(&node, bytes);
    cr_assert_eq(greeting_node_decode(bytes, GREETING_NODE_SIZE, &no_node), ERR_BAD_SIGNAL);
}

static struct catalog *catalog_make(void)
{
    static struct column_def columns[1] = {{.type = TYPE_BIGINT_UNSIGNED, .name = "id"}};
    static struct table_def table = {
        .database = "d",
        .name = "t",
        .id = 1,
        .version = 1,
        .column_count = 1,
        .columns = columns,
        .index_count = 1,
        .next_index_id = 1,
        .partition_by = PARTITION_BY_HOME,
        .partition_column_count = 1,
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_HASH,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 1}},
    };
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    catalog->version = 7;
    catalog->next_table_id = 2;
    catalog->table_count = 1;
    catalog->tables[0] = table_def_copy(&table);
    return catalog;
}

static void info_make(struct node_info *info)
{
    *info = (struct node_info){
        .worker_count = 3,
        .partition_count = 8,
        .key = {9, 8, 7},
        .query_memory_max = 1 << 20,
        .replayed_count = 5,
        .dropped_count = 6,
        .start_count = 3,
        .starts = {{.life = 77, .cut = 0}, {.life = 1, .cut = 55}, {.life = 4711, .cut = 1234567}},
        .health = ERR_NO_SPACE,
        .health_text = "the disk is full",
        .listener_count = 2,
        .listeners = {{.kind = 0, .tls = true, .ports = {100, 101, 102}},
                      {.kind = 2, .ports = {200, 201, 202}}},
        .catalog_version = 7,
    };
}

Test(info, a_reply_survives_the_wire_with_and_without_a_catalog)
{
    struct node_info info, got;
    info_make(&info);
    struct catalog *catalog = catalog_make();
    for (int with = 0; with < 2; with++) {
        struct buf buf;
        buf_init(&buf);
        node_info_encode(&info, with ? catalog : NULL, &buf);
        struct catalog *back;
        cr_assert_eq(node_info_decode(buf.bytes, buf.size, &got, &back), ERR_NONE);
        cr_assert_eq(got.worker_count, 3);
        cr_assert_eq(got.partition_count, 8);
        cr_assert_eq(memcmp(got.key, info.key, 16), 0);
        cr_assert_eq(got.start_count, 3);
        cr_assert_eq(memcmp(got.starts, info.starts, sizeof(got.starts)), 0);
        cr_assert_eq(node_info_life(&got), 4711);
        cr_assert_eq(got.query_memory_max, 1 << 20);
        cr_assert_eq(got.replayed_count, 5);
        cr_assert_eq(got.dropped_count, 6);
        cr_assert_eq(got.health, ERR_NO_SPACE);
        cr_assert_str_eq(got.health_text, "the disk is full");
        cr_assert_eq(got.listener_count, 2);
        cr_assert(got.listeners[0].tls);
        cr_assert_eq(got.listeners[1].kind, 2);
        cr_assert_eq(got.listeners[1].ports[2], 202);
        cr_assert_eq(got.catalog_version, 7);
        cr_assert_eq(back != NULL, with);
        if (back) cr_assert_not_null(catalog_find(back, "d", "t"));
        catalog_destroy(back);
        buf_fini(&buf);
    }
    catalog_destroy(catalog);
}

Test(info, a_cut_or_damaged_reply_is_refused_or_harmless)
{
    struct node_info info, got;
    info_make(&info);
    struct catalog *catalog = catalog_make();
    struct buf buf;
    buf_init(&buf);
    node_info_encode(&info, catalog, &buf);
    struct catalog *back;
    for (size_t size = 0; size < buf.size; size++) {
        /* In a block that just fits, so that a sanitizer sees any overrun. */
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, buf.bytes, size);
        cr_assert_neq(node_info_decode(copy, size, &got, &back), ERR_NONE, "cut at %zu", size);
        free(copy);
    }
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t random = hash_u64(i + 1);
        size_t at = (size_t)(random % buf.size);
        uint8_t was = buf.bytes[at];
        buf.bytes[at] = (uint8_t)(random >> 32);
        if (!node_info_decode(buf.bytes, buf.size, &got, &back)) {
            cr_assert_leq(got.worker_count, INFO_WORKERS_MAX);
            cr_assert_leq(got.listener_count, INFO_LISTENERS_MAX);
            cr_assert(got.start_count && got.start_count <= INFO_STARTS_MAX);
            catalog_destroy(back);
        }
        buf.bytes[at] = was;
    }
    buf_fini(&buf);
    catalog_destroy(catalog);
}

static enum err starts_decode(uint8_t count, uint64_t second_life, uint64_t second_cut)
{
    struct node_info info, got;
    info_make(&info);
    info.start_count = 3;
    info.starts[1] = (struct info_start){.life = second_life, .cut = second_cut};
    struct buf buf;
    buf_init(&buf);
    node_info_encode(&info, NULL, &buf);
    /* Behind the version, two counts, the key and three numbers. */
    enum { COUNT_AT = 2 + 2 + 2 + 16 + 3 * 8 };
    cr_assert_eq(buf.bytes[COUNT_AT], 3);
    if (count != 3) {
        struct buf rest = buf;
        buf_init(&buf);
        buf_put(&buf, rest.bytes, COUNT_AT);
        buf_put_u8(&buf, count);
        for (uint8_t i = 0; i < count; i++) {
            buf_put_u64(&buf, i + 1u);
            buf_put_u64(&buf, i);
        }
        buf_put(&buf, rest.bytes + COUNT_AT + 1 + 3 * 16, rest.size - COUNT_AT - 1 - 3 * 16);
        buf_fini(&rest);
    }
    struct catalog *catalog;
    enum err err = node_info_decode(buf.bytes, buf.size, &got, &catalog);
    if (!err) cr_assert_eq(got.start_count, count);
    buf_fini(&buf);
    return err;
}

Test(info, starts_are_bounded_and_cuts_do_not_fall)
{
    cr_assert_eq(starts_decode(3, 1, 55), ERR_NONE);
    cr_assert_eq(starts_decode(3, 0, 55), ERR_BAD_SIGNAL);
    cr_assert_eq(starts_decode(3, 1, 1234568), ERR_BAD_SIGNAL);
    cr_assert_eq(starts_decode(0, 1, 55), ERR_BAD_SIGNAL);
    cr_assert_eq(starts_decode(1, 1, 55), ERR_NONE);
    cr_assert_eq(starts_decode(INFO_STARTS_MAX, 1, 55), ERR_NONE);
    cr_assert_eq(starts_decode(INFO_STARTS_MAX + 1, 1, 55), ERR_BAD_SIGNAL);
}

Test(info, a_change_is_lost_when_the_start_after_its_life_did_not_keep_it)
{
    struct node_info info;
    info_make(&info);
    cr_assert_not(node_info_has_lost(&info, 77, 55));
    cr_assert(node_info_has_lost(&info, 77, 56), "later starts keep more, of later lives");
    cr_assert_not(node_info_has_lost(&info, 1, 1234567));
    cr_assert(node_info_has_lost(&info, 1, 1234568));
    cr_assert_not(node_info_has_lost(&info, 4711, UINT64_MAX), "that life has not ended");
    cr_assert(node_info_has_lost(&info, 5, 1), "the list does not reach back so far");
}
