/* What the tests of query execution share: a file-system-like pair of tables spread over the
 * partitions of several simulated workers, queries built by hand, and a network of queues between
 * executors, all in one thread and driven by one seed. */
#ifndef TESTS_QUERY_HARNESS_H
#define TESTS_QUERY_HARNESS_H

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/partition.h"
#include "db/query/exec.h"
#include "db/query/finish.h"
#include "db/wire/expr.h"
#include "db/wire/query.h"
#include "tests/unit/db/query/build.h"

enum { CLUSTER_WORKERS_MAX = 4, CLUSTER_PARTITIONS = 8, RESULT_COLUMNS_MAX = 16 };

/* inode(ino PK, type, uid, size, ratio, price, note) by home(ino); dentry(parent, name PK, ino,
 * mark) by home(parent); owner(uid PK, name) by key(uid); blob(id PK, body) by slot(id). */
enum {
    INODE_INO,
    INODE_TYPE,
    INODE_UID,
    INODE_SIZE,
    INODE_DELTA,
    INODE_RATIO,
    INODE_PRICE,
    INODE_NOTE
};
enum { DENTRY_PARENT, DENTRY_NAME, DENTRY_INO, DENTRY_MARK };
enum { OWNER_UID, OWNER_NAME };
enum { BLOB_ID, BLOB_BODY };
enum { TABLE_INODE = 1, TABLE_DENTRY = 2, TABLE_OWNER = 3, TABLE_BLOB = 4 };

enum harness_kind { MESSAGE_ROWS, MESSAGE_MOVE, MESSAGE_MOVED };

struct harness_message {
    struct harness_message *next;
    enum harness_kind kind;
    uint16_t from;
    uint16_t to;
    size_t size;
    uint8_t bytes[];
};

struct cluster;

struct cluster_worker {
    struct cluster *cluster;
    uint16_t number;
    struct ldm *ldm;
    struct query_exec *exec;
    uint64_t pin;
};

struct cluster {
    uint16_t worker_count;
    struct catalog *catalog;
    struct cluster_worker workers[CLUSTER_WORKERS_MAX];
    struct partition *partitions[CLUSTER_PARTITIONS];
    struct change_set *changes[CLUSTER_WORKERS_MAX];
    uint64_t ts;
    uint64_t random;
    uint64_t clock;
    uint64_t tick_ns; /* of the executors' clock: large makes slices short */
    struct harness_message *messages;
    struct harness_message **messages_end;
    uint32_t moves; /* MOVE messages of the last query */
    uint32_t idle_reports;
    bool armed;
    void (*arm)(bool on); /* NULL, or told when code under test runs: its allocations may fail */
};

static inline bool harness_arm(struct cluster *cluster, bool on)
{
    bool was = cluster->armed;
    cluster->armed = on;
    if (cluster->arm) cluster->arm(on);
    return was;
}

static inline uint64_t cluster_random(struct cluster *cluster)
{
    cluster->random += UINT64_C(0x9e3779b97f4a7c15);
    return hash_u64(cluster->random);
}

static inline uint16_t harness_column(struct table_def *table, const char *name, uint8_t type,
                                      uint32_t size_max, bool nullable)
{
    struct column_def *column = &table->columns[table->column_count];
    strcpy(column->name, name);
    column->type = type;
    column->size_max = size_max;
    column->nullable = nullable;
    return table->column_count++;
}

static inline struct index_def *harness_index(struct table_def *table, const char *name,
                                              uint8_t kind, uint8_t count, uint16_t first,
                                              uint16_t second)
{
    struct index_def *index = &table->indexes[table->index_count++];
    *index = (struct index_def){.kind = kind, .column_count = count};
    strcpy(index->name, name);
    index->columns[0] = first;
    index->columns[1] = second;
    if (table->index_count > 1)
        index->id = table->next_index_id++;
    else
        index->unique = true;
    return index;
}

static inline struct table_def *harness_table(struct catalog *catalog, const char *name,
                                              uint8_t partition_by)
{
    struct table_def *table = calloc(1, sizeof(*table));
    cr_assert(table);
    table->columns = calloc(SCHEMA_COLUMNS_MAX, sizeof(*table->columns));
    cr_assert(table->columns);
    strcpy(table->database, "test");
    strcpy(table->name, name);
    table->id = ++catalog->next_table_id;
    table->version = 1;
    table->next_index_id = 1;
    table->partition_by = partition_by;
    table->partition_column_count = 1;
    catalog->tables[catalog->table_count++] = table;
    return table;
}

static inline struct catalog *harness_catalog(void)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    cr_assert(catalog);
    struct table_def *inode = harness_table(catalog, "inode", PARTITION_BY_HOME);
    harness_column(inode, "ino", TYPE_BIGINT_UNSIGNED, 0, false);
    harness_column(inode, "type", TYPE_TINYINT_UNSIGNED, 0, false);
    harness_column(inode, "uid", TYPE_INT_UNSIGNED, 0, true);
    harness_column(inode, "size", TYPE_BIGINT_UNSIGNED, 0, false);
    harness_column(inode, "delta", TYPE_BIGINT, 0, true);
    harness_column(inode, "ratio", TYPE_DOUBLE, 0, true);
    harness_column(inode, "price", TYPE_DECIMAL, 0, true);
    harness_column(inode, "note", TYPE_VARCHAR, 400, true);
    inode->columns[INODE_PRICE].precision = 12;
    inode->columns[INODE_PRICE].scale = 2;
    harness_index(inode, "PRIMARY", INDEX_HASH, 1, INODE_INO, 0);
    harness_index(inode, "by_uid", INDEX_ORDERED, 1, INODE_UID, 0);
    struct table_def *dentry = harness_table(catalog, "dentry", PARTITION_BY_HOME);
    harness_column(dentry, "parent", TYPE_BIGINT_UNSIGNED, 0, false);
    harness_column(dentry, "name", TYPE_VARCHAR, 200 * 4, false);
    harness_column(dentry, "ino", TYPE_BIGINT_UNSIGNED, 0, false);
    harness_column(dentry, "mark", TYPE_INT, 0, true);
    harness_index(dentry, "PRIMARY", INDEX_ORDERED, 2, DENTRY_PARENT, DENTRY_NAME);
    harness_index(dentry, "by_ino", INDEX_ORDERED, 1, DENTRY_INO, 0);
    struct table_def *owner = harness_table(catalog, "owner", PARTITION_BY_KEY);
    harness_column(owner, "uid", TYPE_INT_UNSIGNED, 0, false);
    harness_column(owner, "name", TYPE_VARCHAR, 80, false);
    owner->columns[OWNER_NAME].collation = COLLATION_CASE_INSENSITIVE;
    harness_index(owner, "PRIMARY", INDEX_ORDERED, 1, OWNER_UID, 0)->has_hash = true;
    struct table_def *blob = harness_table(catalog, "blob", PARTITION_BY_SLOT);
    harness_column(blob, "id", TYPE_BIGINT_UNSIGNED, 0, false);
    harness_column(blob, "body", TYPE_TEXT, 65535, true);
    harness_index(blob, "PRIMARY", INDEX_HASH, 1, BLOB_ID, 0);
    catalog->next_table_id++;
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        struct diag diag = {0};
        cr_assert_eq(table_def_check(catalog->tables[i], &diag), ERR_NONE, "%s", diag.text);
    }
    return catalog;
}

static inline void cluster_init(struct cluster *cluster, uint16_t worker_count, uint64_t seed)
{
    *cluster =
        (struct cluster){.worker_count = worker_count, .ts = 100, .random = seed, .tick_ns = 1000};
    cluster->messages_end = &cluster->messages;
    cluster->catalog = harness_catalog();
    for (uint16_t w = 0; w < worker_count; w++) {
        cluster->workers[w] = (struct cluster_worker){.cluster = cluster, .number = w};
        cr_assert_eq(ldm_create(0, &cluster->workers[w].ldm), ERR_NONE);
        cr_assert_eq(change_set_create(cluster->workers[w].ldm, &cluster->changes[w]), ERR_NONE);
    }
    for (uint16_t p = 0; p < CLUSTER_PARTITIONS; p++) {
        cr_assert_eq(
            partition_create(cluster->workers[p % worker_count].ldm, p, &cluster->partitions[p]),
            ERR_NONE);
        cr_assert_eq(partition_set_catalog(cluster->partitions[p], cluster->catalog), ERR_NONE);
    }
}

static inline void cluster_fini(struct cluster *cluster)
{
    for (uint16_t w = 0; w < cluster->worker_count; w++) {
        change_set_destroy(cluster->changes[w]);
        ldm_destroy(cluster->workers[w].ldm);
    }
    catalog_destroy(cluster->catalog);
}

/* ---- rows ---- */

static inline uint16_t cluster_partition_of(struct cluster *cluster, uint32_t table_id,
                                            const struct value *values)
{
    const struct table_def *table = catalog_find_id(cluster->catalog, table_id);
    uint16_t slot;
    cr_assert_eq(table_slot(table, &values[table->partition_columns[0]], &slot), ERR_NONE);
    return slot & (CLUSTER_PARTITIONS - 1);
}

static inline struct fragment *cluster_fragment(struct cluster *cluster, uint32_t table_id,
                                                uint16_t partition)
{
    return partition_fragment(cluster->partitions[partition], table_id);
}

/* Inserts and commits at the next timestamp. */
static inline uint32_t cluster_insert(struct cluster *cluster, uint32_t table_id,
                                      const struct value *values)
{
    uint16_t p = cluster_partition_of(cluster, table_id, values);
    struct change_set *changes = cluster->changes[p % cluster->worker_count];
    uint32_t row;
    cr_assert_eq(fragment_insert(cluster_fragment(cluster, table_id, p), changes, values, &row),
                 ERR_NONE);
    change_set_commit(changes, ++cluster->ts);
    return row;
}

/* ---- the network ---- */

static inline enum err harness_send(struct cluster_worker *worker, enum harness_kind kind,
                                    uint16_t to, const struct buf *body)
{
    struct cluster *cluster = worker->cluster;
    struct harness_message *message = malloc(sizeof(*message) + body->size);
    if (!message) return ERR_NO_MEMORY;
    *message = (struct harness_message){
        .kind = kind, .from = worker->number, .to = to, .size = body->size};
    if (body->size) memcpy(message->bytes, body->bytes, body->size);
    *cluster->messages_end = message;
    cluster->messages_end = &message->next;
    if (kind == MESSAGE_MOVE) cluster->moves++;
    return ERR_NONE;
}

static inline enum err harness_send_rows(void *context, const struct buf *body)
{
    return harness_send(context, MESSAGE_ROWS, UINT16_MAX, body);
}

static inline enum err harness_send_move(void *context, uint16_t to, const struct buf *body)
{
    return harness_send(context, MESSAGE_MOVE, to, body);
}

static inline enum err harness_send_moved(void *context, uint16_t to, const struct buf *body)
{
    return harness_send(context, MESSAGE_MOVED, to, body);
}

static inline struct partition *harness_partition(void *context, uint16_t number)
{
    struct cluster_worker *worker = context;
    if (number % worker->cluster->worker_count != worker->number) return NULL;
    return worker->cluster->partitions[number];
}

static inline uint16_t harness_owner(void *context, uint16_t number)
{
    struct cluster_worker *worker = context;
    return number % worker->cluster->worker_count;
}

static inline uint64_t harness_clock(void *context)
{
    struct cluster_worker *worker = context;
    return worker->cluster->clock += worker->cluster->tick_ns;
}

/* Takes one message out of the queue at random, but keeps the order between each pair. */
static inline struct harness_message *harness_pick(struct cluster *cluster)
{
    uint32_t count = 0;
    for (struct harness_message *m = cluster->messages; m; m = m->next)
        count++;
    if (!count) return NULL;
    uint32_t skip = (uint32_t)(cluster_random(cluster) % count);
    struct harness_message *wanted = cluster->messages;
    while (skip--)
        wanted = wanted->next;
    struct harness_message **link = &cluster->messages;
    while ((*link)->from != wanted->from || (*link)->to != wanted->to)
        link = &(*link)->next;
    struct harness_message *message = *link;
    *link = message->next;
    if (!*link && cluster->messages_end == &message->next) cluster->messages_end = link;
    message->next = NULL;
    return message;
}

/* ---- running a query ---- */

struct result {
    enum err err;
    struct diag diag;
    uint64_t row_count;
    uint64_t capacity;
    uint16_t column_count;
    char **rows; /* each row as text */
    uint64_t rows_scanned;
    uint64_t memory_peak;
};

struct run_options {
    uint64_t memory_max;
    uint16_t window;                                         /* 0: 4 */
    uint64_t ts;                                             /* 0: now */
    void (*between)(struct cluster *cluster, void *context); /* called now and then while it runs */
    void *context;
};

static inline void value_print(struct value value, char *text, size_t size)
{
    switch (value.kind) {
    case KIND_NULL:
        snprintf(text, size, "NULL");
        break;
    case KIND_I64:
        snprintf(text, size, "%" PRId64, value.i);
        break;
    case KIND_U64:
        snprintf(text, size, "%" PRIu64, value.u);
        break;
    case KIND_F64:
        snprintf(text, size, "%.15g", value.f == 0 ? 0 : value.f);
        break;
    case KIND_DEC:
        snprintf(text, size, "%" PRId64 "e-%u", value.i, value.scale);
        break;
    default:
        snprintf(text, size, "'%.*s'", value.size < 200 ? (int)value.size : 200,
                 (const char *)value.bytes);
        break;
    }
}

static inline void result_add(struct result *result, const struct value *row, uint16_t count)
{
    char text[4096] = "";
    size_t at = 0;
    for (uint16_t k = 0; k < count; k++) {
        if (k) at += (size_t)snprintf(text + at, sizeof(text) - at, "|");
        value_print(row[k], text + at, sizeof(text) - at);
        at += strlen(text + at);
    }
    if (result->row_count == result->capacity) {
        result->capacity = result->capacity ? 2 * result->capacity : 64;
        result->rows = realloc(result->rows, result->capacity * sizeof(char *));
        cr_assert(result->rows);
    }
    result->rows[result->row_count++] = strdup(text);
}

static inline void result_fini(struct result *result)
{
    for (uint64_t i = 0; i < result->row_count; i++)
        free(result->rows[i]);
    free(result->rows);
    *result = (struct result){0};
}

static inline int harness_compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static inline void result_sort(struct result *result)
{
    if (result->row_count)
        qsort(result->rows, result->row_count, sizeof(char *), harness_compare_text);
}

struct running {
    struct cluster *cluster;
    const struct query_tree *tree;
    struct query_finish *finish;
    struct result *result;
    bool moves;
    bool done[CLUSTER_WORKERS_MAX];
    bool idle[CLUSTER_WORKERS_MAX];
    uint64_t taken[CLUSTER_WORKERS_MAX];
    uint64_t sent[CLUSTER_WORKERS_MAX][CLUSTER_WORKERS_MAX];
    uint32_t sequence[CLUSTER_WORKERS_MAX];
    uint64_t scanned[CLUSTER_WORKERS_MAX];
    bool finish_told;
    bool satisfied;
};

static inline void harness_more(struct running *running, uint16_t worker, uint32_t credits,
                                bool finish)
{
    struct query_more more = {.credits = credits, .finish = finish};
    struct buf buf;
    buf_init(&buf);
    bool was = harness_arm(running->cluster, false);
    query_more_encode(&more, &buf);
    harness_arm(running->cluster, was);
    struct query_exec *exec = running->cluster->workers[worker].exec;
    if (exec) query_exec_more(exec, buf.bytes, buf.size);
    buf_fini(&buf);
}

static inline void harness_check_end(struct running *running)
{
    uint16_t n = running->cluster->worker_count;
    if (running->finish_told) return;
    for (uint16_t to = 0; to < n; to++) {
        uint64_t sent = 0;
        for (uint16_t from = 0; from < n; from++) {
            if (!running->idle[from]) return;
            sent += running->sent[from][to];
        }
        if (sent != running->taken[to]) return;
    }
    running->finish_told = true;
    for (uint16_t w = 0; w < n; w++)
        harness_more(running, w, 0, true);
}

/* Rows that can be had now. */
static inline void harness_take_rows(struct running *running)
{
    struct result *result = running->result;
    const struct value *row;
    while (!result->err && !running->satisfied) {
        enum err err = query_finish_next(running->finish, &row, &result->diag);
        if (err == ERR_BUSY) return;
        if (err == ERR_END)
            running->satisfied = true;
        else if (err)
            result->err = err;
        else {
            bool was = harness_arm(running->cluster, false);
            result_add(result, row, running->tree->visible_count);
            harness_arm(running->cluster, was);
        }
    }
}

static inline void harness_on_rows(struct running *running, struct harness_message *message)
{
    struct result *result = running->result;
    struct reader reader = reader_of(message->bytes, message->size);
    struct query_rows rows;
    uint16_t from = message->from;
    cr_assert_eq(query_rows_decode(&reader, &rows), ERR_NONE);
    cr_assert_eq(rows.sequence, running->sequence[from]);
    running->sequence[from]++;
    running->scanned[from] = rows.rows_scanned;
    if (rows.memory_peak > result->memory_peak) result->memory_peak = rows.memory_peak;
    switch (rows.kind) {
    case QUERY_ROWS_IDLE:
        running->cluster->idle_reports++;
        running->taken[from] = reader_u64(&reader);
        cr_assert_eq(reader_u16(&reader), running->cluster->worker_count);
        for (uint16_t w = 0; w < running->cluster->worker_count; w++)
            running->sent[from][w] = reader_u64(&reader);
        running->idle[from] = true;
        harness_check_end(running);
        break;
    case QUERY_ROWS_DONE:
        running->done[from] = true;
        break;
    default:
        result->err = query_finish_take(running->finish, (enum query_rows_kind)rows.kind, &reader,
                                        &result->diag);
        harness_take_rows(running);
        harness_more(running, from, 1, false);
        break;
    }
}

static inline void harness_deliver(struct running *running, struct harness_message *message)
{
    struct query_exec *exec =
        message->kind == MESSAGE_ROWS ? NULL : running->cluster->workers[message->to].exec;
    if (message->kind == MESSAGE_ROWS)
        harness_on_rows(running, message);
    else if (message->kind == MESSAGE_MOVE)
        query_exec_move(exec, message->from, message->bytes, message->size);
    else
        query_exec_moved(exec, message->from, message->bytes, message->size);
    free(message);
}

static inline bool harness_all_done(const struct running *running)
{
    for (uint16_t w = 0; w < running->cluster->worker_count; w++)
        if (!running->done[w]) return false;
    return true;
}

/* Runs the query, sent through its codec, over all workers. */
static inline void cluster_run(struct cluster *cluster, const struct query_tree *tree,
                               const struct run_options *options, struct result *ret_result)
{
    struct run_options defaults = {0};
    if (!options) options = &defaults;
    struct result result = {0};
    struct buf buf;
    struct arena arena;
    struct query_tree decoded;
    buf_init(&buf);
    arena_init(&arena, 0);
    query_encode(tree, &buf);
    cr_assert(!buf.failed);
    struct reader reader = reader_of(buf.bytes, buf.size);
    result.err = query_decode(&reader, cluster->catalog, &arena, &decoded);
    cr_assert_eq(result.err, ERR_NONE, "query_decode: %s", err_text(result.err));
    uint64_t ts = options->ts ? options->ts : ++cluster->ts;
    cluster->moves = 0;
    cluster->idle_reports = 0;

    struct running running = {.cluster = cluster,
                              .tree = &decoded,
                              .result = &result,
                              .moves = query_moves_rows(&decoded) && cluster->worker_count > 1};
    harness_arm(cluster, true);
    result.err = query_finish_create(&decoded, cluster->catalog, options->memory_max,
                                     &running.finish, &result.diag);
    for (uint16_t w = 0; w < cluster->worker_count; w++) {
        struct cluster_worker *worker = &cluster->workers[w];
        harness_arm(cluster, false);
        cr_assert_eq(ldm_pin(worker->ldm, ts), ERR_NONE);
        harness_arm(cluster, true);
        struct query_exec_config config = {
            .tree = &decoded,
            .catalog = cluster->catalog,
            .run = {.ts = ts,
                    .memory_max = options->memory_max,
                    .window = options->window ? options->window : 4,
                    .alone = !running.moves},
            .host = {.worker = w,
                     .worker_count = cluster->worker_count,
                     .partition_count = CLUSTER_PARTITIONS,
                     .partition = harness_partition,
                     .owner = harness_owner,
                     .monotonic_ns = harness_clock,
                     .send_rows = harness_send_rows,
                     .send_move = harness_send_move,
                     .send_moved = harness_send_moved,
                     .context = worker},
        };
        worker->exec = NULL;
        if (!result.err) result.err = query_exec_create(&config, &worker->exec, &result.diag);
    }
    harness_arm(cluster, false);
    uint64_t turns = 0;
    while (!result.err && !running.satisfied && !harness_all_done(&running)) {
        uint16_t w = (uint16_t)(cluster_random(cluster) % cluster->worker_count);
        if (!running.done[w]) {
            struct query_exec *exec = cluster->workers[w].exec;
            harness_arm(cluster, true);
            enum query_exec_state state = query_exec_run(exec, cluster->clock + 10000);
            harness_arm(cluster, false);
            if (state == QUERY_EXEC_FAILED) {
                result.diag = *query_exec_failure(exec);
                result.err = result.diag.err;
                cr_assert_neq(result.err, ERR_NONE);
            }
        }
        if (options->between && cluster_random(cluster) % 4 == 0)
            options->between(cluster, options->context);
        for (uint64_t n = cluster_random(cluster) % 4; n > 0 && !result.err; n--) {
            struct harness_message *message = harness_pick(cluster);
            harness_arm(cluster, true);
            if (message) harness_deliver(&running, message);
            harness_arm(cluster, false);
        }
        cr_assert_lt(++turns, 50000000u, "the query does not end");
    }
    if (!result.err && !running.satisfied) {
        harness_arm(cluster, true);
        result.err = query_finish_end(running.finish, &result.diag);
        harness_take_rows(&running);
        harness_arm(cluster, false);
    }
    for (uint16_t w = 0; w < cluster->worker_count; w++) {
        query_exec_destroy(cluster->workers[w].exec);
        cluster->workers[w].exec = NULL;
        ldm_unpin(cluster->workers[w].ldm, ts);
        result.rows_scanned += running.scanned[w];
        while (ldm_collect(cluster->workers[w].ldm, 1000, NULL, NULL))
            ;
    }
    while (cluster->messages) {
        struct harness_message *message = cluster->messages;
        cluster->messages = message->next;
        free(message);
    }
    cluster->messages_end = &cluster->messages;
    query_finish_destroy(running.finish);
    arena_fini(&arena);
    buf_fini(&buf);
    *ret_result = result;
}

/* A number of an inode in this home. */
static inline uint64_t ino_of(uint16_t home, uint64_t serial)
{
    return (uint64_t)home << HOME_SHIFT | serial;
}

#endif
