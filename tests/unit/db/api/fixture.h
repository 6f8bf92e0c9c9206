/* A store in a temporary directory with a table of accounts, for tests of the client library.
 *
 * With TRELLIS_TEST_LINKS=tcp or shm in the environment the store is served to this same process
 * over such links: `db` is then the connected database, with as many loops as the store has
 * workers, so that the same tests say the same of both.
 *
 *     account(slot, id, balance, note)   primary key (slot, id), ordered and hashed; partition by
 * slot inode(ino, mode, nlink, size)      primary key (ino), hashed; partition by home */
#ifndef TESTS_UNIT_DB_API_FIXTURE_H
#define TESTS_UNIT_DB_API_FIXTURE_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "db/api/db.h"

enum { ACCOUNT_SLOT, ACCOUNT_ID, ACCOUNT_BALANCE, ACCOUNT_NOTE };
enum { INODE_INO, INODE_MODE, INODE_NLINK, INODE_SIZE };

struct fixture {
    char dir[64];
    struct db *db;
    struct db *served; /* the embedded one behind it; NULL: db itself is embedded */
    struct db_client *client;
    const struct catalog *catalog;
    const struct table_def *account;
    const struct table_def *inode;
    struct program program;
    struct program_reply reply;
};

static inline int fixture_unlink(const char *path, const struct stat *status, int kind,
                                 struct FTW *walk)
{
    (void)status, (void)kind, (void)walk;
    return remove(path);
}

static inline struct column_def fixture_column(const char *name, enum column_type type,
                                               bool nullable)
{
    struct column_def column = {.type = (uint8_t)type, .nullable = nullable};
    if (type == TYPE_VARCHAR) column.size_max = 400;
    strcpy(column.name, name);
    return column;
}

static inline void fixture_tables(struct table_def *account, struct column_def account_columns[4],
                                  struct table_def *inode, struct column_def inode_columns[4])
{
    account_columns[0] = fixture_column("slot", TYPE_SMALLINT_UNSIGNED, false);
    account_columns[1] = fixture_column("id", TYPE_INT_UNSIGNED, false);
    account_columns[2] = fixture_column("balance", TYPE_BIGINT, false);
    account_columns[3] = fixture_column("note", TYPE_VARCHAR, true);
    *account = (struct table_def){
        .database = "bank",
        .name = "account",
        .column_count = 4,
        .columns = account_columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .partition_columns = {0},
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_ORDERED,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 2,
                     .columns = {0, 1}}},
    };
    inode_columns[0] = fixture_column("ino", TYPE_BIGINT_UNSIGNED, false);
    inode_columns[1] = fixture_column("mode", TYPE_INT_UNSIGNED, false);
    inode_columns[2] = fixture_column("nlink", TYPE_INT_UNSIGNED, false);
    inode_columns[3] = fixture_column("size", TYPE_BIGINT_UNSIGNED, false);
    *inode = (struct table_def){
        .database = "bank",
        .name = "inode",
        .column_count = 4,
        .columns = inode_columns,
        .index_count = 1,
        .partition_by = PARTITION_BY_HOME,
        .partition_column_count = 1,
        .partition_columns = {0},
        .indexes = {{.name = "PRIMARY",
                     .kind = INDEX_HASH,
                     .has_hash = true,
                     .unique = true,
                     .column_count = 1,
                     .columns = {0}}},
    };
}

static inline void fixture_catalog(struct fixture *fixture)
{
    if (fixture->catalog) db_catalog_release(fixture->db, fixture->catalog);
    fixture->catalog = db_catalog_acquire(fixture->db);
    fixture->account = catalog_find(fixture->catalog, "bank", "account");
    fixture->inode = catalog_find(fixture->catalog, "bank", "inode");
}

/* Lets `db` be reached over links, and puts a connected database in its place. */
static inline void fixture_serve(struct fixture *fixture, enum link_kind kind, uint16_t loops)
{
    struct diag diag = {0};
    struct port_address bound;
    struct port_address *address = calloc(1, sizeof(*address));
    address->kind = kind;
    strcpy(address->host, "127.0.0.1");
    snprintf(address->path, sizeof(address->path), "%s/link", fixture->dir);
    struct db_connect_config config = {
        .addresses = &bound, .address_count = 1, .loop_count = loops ? loops : 1};
    memset(config.secret, 42, sizeof(config.secret));
    fixture->served = fixture->db;
    enum err err = db_listen(fixture->served, address, config.secret, &bound, &diag);
    cr_assert_eq(err, ERR_NONE, "listen: %s", diag.text);
    err = db_connect(&config, &fixture->db, &diag);
    cr_assert_eq(err, ERR_NONE, "connect: %s", diag.text);
    free(address);
}

static inline void fixture_open(struct fixture *fixture, struct db_config config)
{
    struct diag diag = {0};
    config.dir = fixture->dir;
    config.create = true;
    enum err err = db_open_embedded(&config, &fixture->db, &diag);
    cr_assert_eq(err, ERR_NONE, "open: %s", diag.text);
    const char *links = getenv("TRELLIS_TEST_LINKS");
    if (links)
        fixture_serve(fixture, strcmp(links, "shm") == 0 ? LINK_SHM : LINK_TCP,
                      config.worker_count);
    cr_assert_eq(db_client_create(fixture->db, &fixture->client), ERR_NONE);
    fixture->catalog = NULL;
    fixture_catalog(fixture);
}

static inline void fixture_close(struct fixture *fixture)
{
    struct diag diag = {0};
    db_catalog_release(fixture->db, fixture->catalog);
    fixture->catalog = NULL;
    db_client_destroy(fixture->client);
    cr_assert_eq(db_close(fixture->db, &diag), ERR_NONE, "close: %s", diag.text);
    fixture->db = NULL;
    if (fixture->served)
        cr_assert_eq(db_close(fixture->served, &diag), ERR_NONE, "close: %s", diag.text);
    fixture->served = NULL;
}

static inline void fixture_init(struct fixture *fixture, struct db_config config)
{
    memset(fixture, 0, sizeof(*fixture));
    strcpy(fixture->dir, "/tmp/trellis-test-XXXXXX");
    cr_assert_not_null(mkdtemp(fixture->dir));
    program_init(&fixture->program);
    program_reply_init(&fixture->reply);
    fixture_open(fixture, config);
    struct diag diag = {0};
    struct table_def account, inode;
    struct column_def account_columns[4], inode_columns[4];
    fixture_tables(&account, account_columns, &inode, inode_columns);
    cr_assert_eq(db_create_table(fixture->client, &account, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_eq(db_create_table(fixture->client, &inode, &diag), ERR_NONE, "%s", diag.text);
    fixture_catalog(fixture);
    cr_assert_not_null(fixture->account);
    cr_assert_not_null(fixture->inode);
}

static inline void fixture_fini(struct fixture *fixture)
{
    if (fixture->db) fixture_close(fixture);
    program_fini(&fixture->program);
    program_reply_fini(&fixture->reply);
    nftw(fixture->dir, fixture_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- accounts ---- */

static inline void account_insert(struct program *program, const struct table_def *account,
                                  uint16_t slot, uint32_t id, int64_t balance)
{
    struct operand values[4] = {
        operand_value(value_u64(slot)),
        operand_value(value_u64(id)),
        operand_value(value_i64(balance)),
        operand_value(value_null()),
    };
    program_insert(program, account, values, ERR_EXISTS);
}

static inline enum err account_create(struct fixture *fixture, uint16_t slot, uint32_t id,
                                      int64_t balance)
{
    program_begin(&fixture->program);
    program_section(&fixture->program, slot);
    account_insert(&fixture->program, fixture->account, slot, id, balance);
    return db_run(fixture->client, &fixture->program, &fixture->reply);
}

/* The open section gets: balance += amount, never below 0. Expression memory from the arena. */
static inline uint8_t account_add(struct program *program, const struct table_def *account,
                                  struct arena *arena, uint16_t slot, uint32_t id, int64_t amount)
{
    struct operand key[2] = {operand_value(value_u64(slot)), operand_value(value_u64(id))};
    uint8_t step = program_update(program, account, key, ERR_NOT_FOUND);
    struct expr_builder builder;
    struct expr sum, guard;
    expr_begin(&builder, arena);
    uint16_t balance = expr_column(&builder, KIND_I64, step, ACCOUNT_BALANCE);
    uint16_t more = expr_const(&builder, value_i64(amount));
    expr_op2(&builder, EXPR_ADD, KIND_I64, balance, more);
    enum err err = expr_finish(&builder, &sum);
    ASSERT(!err);
    expr_begin(&builder, arena);
    balance = expr_column(&builder, KIND_I64, step, ACCOUNT_BALANCE);
    more = expr_const(&builder, value_i64(amount));
    uint16_t after = expr_op2(&builder, EXPR_ADD, KIND_I64, balance, more);
    uint16_t zero = expr_const(&builder, value_i64(0));
    expr_op2(&builder, EXPR_GE, KIND_I64, after, zero);
    err = expr_finish(&builder, &guard);
    ASSERT(!err);
    program_guard(program, guard, ERR_EDQUOT);
    program_set(program, ACCOUNT_BALANCE, operand_expr(sum));
    return step;
}

static inline enum err account_balance(struct fixture *fixture, uint16_t slot, uint32_t id,
                                       int64_t *ret_balance)
{
    struct operand key[2] = {operand_value(value_u64(slot)), operand_value(value_u64(id))};
    uint16_t column = ACCOUNT_BALANCE;
    program_begin(&fixture->program);
    program_section(&fixture->program, slot);
    uint8_t step = program_read(&fixture->program, fixture->account, key, ERR_NOT_FOUND);
    program_output(&fixture->program, &column, 1);
    enum err err = db_run(fixture->client, &fixture->program, &fixture->reply);
    if (!err) *ret_balance = program_row(&fixture->reply, step, 0)->i;
    return err;
}

#endif
