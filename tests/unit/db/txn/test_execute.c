/* Steps of programs on partitions, without a worker: what each kind does to rows, and that a
 * failure can be undone whole. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "db/txn/execute.h"

enum { INO, MODE, NLINK, NAME }; /* inode */
enum { PARENT, ENTRY, TARGET };  /* entry */
enum { PARTITIONS = 4 };

static struct column_def inode_columns[4] = {
    {.name = "ino", .type = TYPE_BIGINT_UNSIGNED},
    {.name = "mode", .type = TYPE_SMALLINT_UNSIGNED},
    {.name = "nlink", .type = TYPE_INT},
    {.name = "name", .type = TYPE_VARCHAR, .size_max = 400, .nullable = true},
};
static struct column_def entry_columns[3] = {
    {.name = "parent", .type = TYPE_BIGINT_UNSIGNED},
    {.name = "entry", .type = TYPE_VARBINARY, .size_max = 255},
    {.name = "target", .type = TYPE_BIGINT_UNSIGNED},
};
static struct table_def inode = {
    .database = "fs",
    .name = "inode",
    .id = 1,
    .version = 1,
    .column_count = 4,
    .index_count = 1,
    .next_index_id = 1,
    .partition_by = PARTITION_BY_HOME,
    .partition_column_count = 1,
    .columns = inode_columns,
    .indexes = {{.name = "PRIMARY",
                 .kind = INDEX_HASH,
                 .has_hash = true,
                 .unique = true,
                 .column_count = 1}},
};
static struct table_def entry = {
    .database = "fs",
    .name = "entry",
    .id = 2,
    .version = 1,
    .column_count = 3,
    .index_count = 1,
    .next_index_id = 1,
    .partition_by = PARTITION_BY_HOME,
    .partition_column_count = 1,
    .columns = entry_columns,
    .indexes = {{.name = "PRIMARY",
                 .kind = INDEX_ORDERED,
                 .unique = true,
                 .column_count = 2,
                 .columns = {0, 1}}},
};
static struct catalog catalog = {
    .version = 1, .next_table_id = 3, .table_count = 2, .tables = {&inode, &entry}};

struct fixture {
    struct ldm *ldm;
    struct partition *partitions[PARTITIONS];
    struct change_set *changes;
    struct executor executor;
    struct arena arena; /* the executor's */
    struct arena expr_arena;
    struct program program;
    struct program_reply reply;
    uint8_t failed_step;
    uint64_t ts;
};

static void setup(struct fixture *fx)
{
    memset(fx, 0, sizeof(*fx));
    cr_assert_eq(ldm_create(0, &fx->ldm), ERR_NONE);
    for (uint16_t p = 0; p < PARTITIONS; p++) {
        cr_assert_eq(partition_create(fx->ldm, p, &fx->partitions[p]), ERR_NONE);
        cr_assert_eq(partition_set_catalog(fx->partitions[p], &catalog), ERR_NONE);
    }
    cr_assert_eq(change_set_create(fx->ldm, &fx->changes), ERR_NONE);
    arena_init(&fx->arena, 0);
    arena_init(&fx->expr_arena, 0);
    fx->executor = (struct executor){
        .partitions = fx->partitions, .partition_count = PARTITIONS, .arena = &fx->arena};
    program_init(&fx->program);
    program_reply_init(&fx->reply);
    fx->ts = 100;
}

static void teardown(struct fixture *fx)
{
    struct diag diag = {0};
    for (uint16_t p = 0; p < PARTITIONS; p++)
        for (uint32_t t = 0; t < catalog.table_count; t++)
            cr_assert_eq(fragment_verify(
                             partition_fragment(fx->partitions[p], catalog.tables[t]->id), &diag),
                         ERR_NONE, "%s", diag.text);
    change_set_destroy(fx->changes);
    ldm_destroy(fx->ldm);
    program_fini(&fx->program);
    program_reply_fini(&fx->reply);
    arena_fini(&fx->arena);
    arena_fini(&fx->expr_arena);
}

/* Runs the program in fx->changes; leaves them open. */
static enum err execute(struct fixture *fx)
{
    struct program_decoded decoded;
    cr_assert_eq(program_finish(&fx->program), ERR_NONE);
    struct reader reader = reader_of(fx->program.buf.bytes, fx->program.buf.size);
    arena_reset(&fx->arena);
    cr_assert_eq(program_decode(&reader, &catalog, &fx->arena, &decoded), ERR_NONE);
    buf_clear(&fx->reply.bytes);
    program_reply_begin(&fx->reply.bytes);
    enum err err =
        execute_program(&fx->executor, &decoded, fx->changes, &fx->reply.bytes, &fx->failed_step);
    if (err) {
        fx->reply.bytes.size = PROGRAM_REPLY_HEADER_SIZE;
        return err;
    }
    cr_assert_eq(program_reply_decode(&fx->reply), ERR_NONE);
    return ERR_NONE;
}

/* The same with the rows given directly. */
static enum err execute_directly(struct fixture *fx, struct program_reply *reply)
{
    struct program_decoded decoded;
    cr_assert_eq(program_finish(&fx->program), ERR_NONE);
    struct reader reader = reader_of(fx->program.buf.bytes, fx->program.buf.size);
    arena_reset(&fx->arena);
    cr_assert_eq(program_decode(&reader, &catalog, &fx->arena, &decoded), ERR_NONE);
    program_reply_clear(reply);
    enum err err =
        execute_program_directly(&fx->executor, &decoded, fx->changes, reply, &fx->failed_step);
    return program_reply_finish(reply, err, fx->failed_step, 0);
}

/* Runs it and commits, or undoes it. */
static enum err run(struct fixture *fx)
{
    enum err err = execute(fx);
    if (err)
        change_set_rollback(fx->changes);
    else
        change_set_commit(fx->changes, ++fx->ts);
    return err;
}

static struct program *begin(struct fixture *fx, uint16_t slot)
{
    arena_reset(&fx->expr_arena);
    program_begin(&fx->program);
    program_section(&fx->program, slot);
    return &fx->program;
}

static struct operand number(uint64_t value)
{
    return operand_value(value_u64(value));
}

static void put_inode(struct program *program, uint64_t ino, uint64_t mode, int64_t nlink,
                      const char *name)
{
    struct operand values[4] = {number(ino), number(mode), operand_value(value_i64(nlink)),
                                operand_value(name ? value_text(name) : value_null())};
    program_insert(program, &inode, values, ERR_EEXIST);
}

static void make_inode(struct fixture *fx, uint64_t ino, uint64_t mode, int64_t nlink,
                       const char *name)
{
    put_inode(begin(fx, (uint16_t)(ino >> HOME_SHIFT)), ino, mode, nlink, name);
    cr_assert_eq(run(fx), ERR_NONE);
}

/* Reads an inode; its columns are then in the reply, of step 0. */
static enum err get(struct fixture *fx, uint64_t ino)
{
    struct operand key = number(ino);
    uint16_t all[] = {INO, MODE, NLINK, NAME};
    struct program *program = begin(fx, (uint16_t)(ino >> HOME_SHIFT));
    program_read(program, &inode, &key, ERR_ENOENT);
    program_output(program, all, 4);
    return run(fx);
}

static struct expr nlink_plus(struct fixture *fx, uint8_t step, int64_t more)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &fx->expr_arena);
    uint16_t a = expr_column(&builder, KIND_I64, step, NLINK);
    uint16_t b = expr_const(&builder, value_i64(more));
    expr_op2(&builder, EXPR_ADD, KIND_I64, a, b);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    return expr;
}

static struct expr nlink_compare(struct fixture *fx, uint8_t step, enum expr_op op, int64_t with)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &fx->expr_arena);
    uint16_t a = expr_column(&builder, KIND_I64, step, NLINK);
    uint16_t b = expr_const(&builder, value_i64(with));
    expr_op2(&builder, op, KIND_I64, a, b);
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    return expr;
}

static struct expr truth(struct fixture *fx, int64_t value)
{
    struct expr_builder builder;
    struct expr expr;
    expr_begin(&builder, &fx->expr_arena);
    expr_const(&builder, value_i64(value));
    cr_assert_eq(expr_finish(&builder, &expr), ERR_NONE);
    return expr;
}

Test(execute, reads_what_was_inserted)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 7, 0755, 2, "seven");
    cr_assert_eq(get(&fx, 7), ERR_NONE);
    const struct value *row = program_row(&fx.reply, 0, 0);
    cr_assert_eq(row[MODE].u, 0755);
    cr_assert_eq(row[NLINK].i, 2);
    cr_assert_eq(row[NAME].size, 5);
    cr_assert_eq(get(&fx, 8), ERR_ENOENT);
    cr_assert_eq(fx.failed_step, 0);
    teardown(&fx);
}

Test(execute, undoes_the_whole_program_when_its_last_step_fails)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 0, 1, "one");
    make_inode(&fx, 2, 0, 1, NULL);
    struct program *program = begin(&fx, 0);
    struct operand one = number(1), two = number(2);
    put_inode(program, 3, 0, 1, "three");
    uint8_t update = program_update(program, &inode, &one, ERR_ENOENT);
    program_set(program, NLINK, operand_expr(nlink_plus(&fx, update, 5)));
    program_set(program, NAME, operand_value(value_text("changed")));
    program_delete(program, &inode, &two, ERR_ENOENT);
    put_inode(program, 2, 9, 9, "again");
    put_inode(program, 1, 0, 1, NULL);
    cr_assert_eq(run(&fx), ERR_EEXIST);
    cr_assert_eq(fx.failed_step, 4);
    cr_assert_eq(get(&fx, 3), ERR_ENOENT);
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 1);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NAME].size, 3);
    cr_assert_eq(get(&fx, 2), ERR_NONE);
    cr_assert(value_is_null(program_row(&fx.reply, 0, 0)[NAME]));
    teardown(&fx);
}

Test(execute, guards_are_checked_in_order_before_the_change)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 0, 5, NULL);
    struct operand key = number(1);
    struct program *program = begin(&fx, 0);
    uint8_t step = program_update(program, &inode, &key, ERR_ENOENT);
    program_guard(program, nlink_compare(&fx, step, EXPR_EQ, 5), ERR_EPERM);
    program_guard(program, nlink_compare(&fx, step, EXPR_LT, 5), ERR_EMLINK);
    program_guard(program, nlink_compare(&fx, step, EXPR_LT, 4), ERR_EROFS);
    program_set(program, NLINK, operand_value(value_i64(6)));
    cr_assert_eq(run(&fx), ERR_EMLINK);
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 5);
    teardown(&fx);
}

Test(execute, assignments_see_the_row_as_it_was_and_later_steps_what_was_fetched)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 10, "first");
    make_inode(&fx, 2, 2, 20, "second");
    /* Exchange names and link counts in one program. */
    struct operand one = number(1), two = number(2);
    struct program *program = begin(&fx, 0);
    uint8_t a = program_read(program, &inode, &one, ERR_ENOENT);
    uint8_t b = program_read(program, &inode, &two, ERR_ENOENT);
    program_update(program, &inode, &one, ERR_ENOENT);
    program_set(program, NAME, operand_column(b, NAME));
    program_set(program, NLINK, operand_column(b, NLINK));
    program_update(program, &inode, &two, ERR_ENOENT);
    program_set(program, NAME, operand_column(a, NAME));
    program_set(program, NLINK, operand_column(a, NLINK));
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 20);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NAME].size, 6);
    cr_assert_eq(get(&fx, 2), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 10);
    cr_assert_eq(memcmp(program_row(&fx.reply, 0, 0)[NAME].bytes, "first", 5), 0);
    teardown(&fx);
}

Test(execute, outputs_are_after_the_step_and_before_a_delete)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 10, "name");
    struct operand one = number(1);
    uint16_t columns[] = {NLINK, NAME};
    struct program *program = begin(&fx, 0);
    uint8_t update = program_update(program, &inode, &one, ERR_ENOENT);
    program_set(program, NLINK, operand_expr(nlink_plus(&fx, update, 1)));
    program_output(program, columns, 2);
    uint8_t delete = program_delete(program, &inode, &one, ERR_ENOENT);
    program_output(program, columns, 2);
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, update, 0)[0].i, 11);
    cr_assert_eq(program_row(&fx.reply, delete, 0)[0].i, 11);
    cr_assert_eq(program_row(&fx.reply, delete, 0)[1].size, 4);
    cr_assert_eq(get(&fx, 1), ERR_ENOENT);
    teardown(&fx);
}

Test(execute, optional_steps_pass_over_missing_and_existing_rows)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 10, "name");
    struct operand nine = number(9);
    uint16_t column = NLINK;
    struct program *program = begin(&fx, 0);
    uint8_t read = program_read(program, &inode, &nine, ERR_ENOENT);
    program_flags(program, STEP_OPTIONAL);
    program_guard(program, nlink_compare(&fx, read, EXPR_EQ, 1), ERR_EIO);
    program_output(program, &column, 1);
    uint8_t update = program_update(program, &inode, &nine, ERR_ENOENT);
    program_flags(program, STEP_OPTIONAL);
    program_set(program, NLINK, operand_column(read, NLINK));
    program_delete(program, &inode, &nine, ERR_ENOENT);
    program_flags(program, STEP_OPTIONAL);
    put_inode(program, 1, 7, 77, NULL);
    program_flags(program, STEP_OPTIONAL);
    program_output(program, &column, 1);
    /* What a missing row's columns are. */
    struct operand values[4] = {number(2), number(0), operand_value(value_i64(3)),
                                operand_column(read, NAME)};
    program_insert(program, &inode, values, ERR_EEXIST);
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_null(program_row(&fx.reply, read, 0));
    cr_assert_null(program_row(&fx.reply, update, 0));
    cr_assert_eq(program_row(&fx.reply, 3, 0)[0].i, 10, "the row that was there");
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 10);
    cr_assert_eq(get(&fx, 2), ERR_NONE);
    cr_assert(value_is_null(program_row(&fx.reply, 0, 0)[NAME]));
    teardown(&fx);
}

Test(execute, when_decides_whether_a_step_runs)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 10, NULL);
    struct operand one = number(1), nine = number(9);
    struct program *program = begin(&fx, 0);
    uint8_t read = program_read(program, &inode, &one, ERR_ENOENT);
    program_update(program, &inode, &one, ERR_ENOENT);
    program_when(program, nlink_compare(&fx, read, EXPR_GT, 10));
    program_set(program, NLINK, operand_value(value_i64(1)));
    program_delete(program, &inode, &nine, ERR_ENOENT);
    program_when(program, nlink_compare(&fx, read, EXPR_LT, 10));
    program_update(program, &inode, &one, ERR_ENOENT);
    program_when(program, nlink_compare(&fx, read, EXPR_EQ, 10));
    program_set(program, MODE, number(5));
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[NLINK].i, 10);
    cr_assert_eq(program_row(&fx.reply, 0, 0)[MODE].u, 5);
    teardown(&fx);
}

Test(execute, upsert_inserts_and_then_updates)
{
    struct fixture fx;
    setup(&fx);
    for (int64_t round = 1; round <= 3; round++) {
        struct program *program = begin(&fx, 0);
        struct operand values[4] = {number(4), number(1), operand_value(value_i64(1)),
                                    operand_value(value_null())};
        uint16_t column = NLINK;
        uint8_t step = program_upsert(program, &inode, values);
        program_set(program, NLINK, operand_expr(nlink_plus(&fx, step, 1)));
        program_guard(program, nlink_compare(&fx, step, EXPR_LT, 3), ERR_EMLINK);
        program_output(program, &column, 1);
        cr_assert_eq(run(&fx), ERR_NONE);
        cr_assert_eq(program_row(&fx.reply, step, 0)[0].i, round);
    }
    struct program *program = begin(&fx, 0);
    struct operand values[4] = {number(4), number(1), operand_value(value_i64(1)),
                                operand_value(value_null())};
    uint8_t step = program_upsert(program, &inode, values);
    program_guard(program, nlink_compare(&fx, step, EXPR_LT, 3), ERR_EMLINK);
    cr_assert_eq(run(&fx), ERR_EMLINK);
    teardown(&fx);
}

Test(execute, checks_have_no_row)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 10, NULL);
    struct operand one = number(1);
    struct program *program = begin(&fx, 0);
    uint8_t read = program_read(program, &inode, &one, ERR_ENOENT);
    program_check(program);
    program_guard(program, nlink_compare(&fx, read, EXPR_EQ, 10), ERR_EIO);
    program_guard(program, nlink_compare(&fx, read, EXPR_EQ, 11), ERR_EXDEV);
    cr_assert_eq(run(&fx), ERR_EXDEV);
    cr_assert_eq(fx.failed_step, 1);
    teardown(&fx);
}

Test(execute, refuses_rows_of_other_partitions)
{
    struct fixture fx;
    setup(&fx);
    uint64_t far = (uint64_t)1 << HOME_SHIFT | 5; /* home 1 */
    put_inode(begin(&fx, 0), far, 0, 1, NULL);
    cr_assert_eq(run(&fx), ERR_WRONG_PARTITION);
    put_inode(begin(&fx, 1), far, 0, 1, NULL);
    cr_assert_eq(run(&fx), ERR_NONE);
    struct operand key = number(far);
    program_read(begin(&fx, 2), &inode, &key, ERR_ENOENT);
    cr_assert_eq(run(&fx), ERR_WRONG_PARTITION);
    /* Slots that share the partition do. */
    program_read(begin(&fx, 1 + PARTITIONS), &inode, &key, ERR_ENOENT);
    cr_assert_eq(run(&fx), ERR_NONE);
    struct partition *gone = fx.partitions[1];
    fx.partitions[1] = NULL;
    program_read(begin(&fx, 1), &inode, &key, ERR_ENOENT);
    cr_assert_eq(run(&fx), ERR_WRONG_PARTITION);
    fx.partitions[1] = gone;
    teardown(&fx);
}

Test(execute, refuses_values_that_do_not_fit)
{
    struct fixture fx;
    setup(&fx);
    struct program *program = begin(&fx, 0);
    struct operand values[4] = {operand_value(value_i64(-1)), number(1),
                                operand_value(value_i64(1)), operand_value(value_null())};
    program_insert(program, &inode, values, ERR_EEXIST);
    cr_assert_eq(run(&fx), ERR_OUT_OF_RANGE);
    put_inode(begin(&fx, 0), 1, 70000, 1, NULL);
    cr_assert_eq(run(&fx), ERR_OUT_OF_RANGE);
    program = begin(&fx, 0);
    values[0] = number(1);
    values[2] = operand_value(value_null());
    program_insert(program, &inode, values, ERR_EEXIST);
    cr_assert_eq(run(&fx), ERR_NULL_VALUE);
    program = begin(&fx, 0);
    struct operand text = operand_value(value_text("1"));
    program_read(program, &inode, &text, ERR_ENOENT);
    cr_assert_eq(run(&fx), ERR_INVALID);
    make_inode(&fx, 1, 1, INT32_MAX, NULL);
    program = begin(&fx, 0);
    struct operand one = number(1);
    uint8_t step = program_update(program, &inode, &one, ERR_ENOENT);
    program_set(program, NLINK, operand_expr(nlink_plus(&fx, step, 1)));
    cr_assert_eq(run(&fx), ERR_OUT_OF_RANGE);
    teardown(&fx);
}

static void make_entries(struct fixture *fx, uint64_t parent, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%05u", i);
        struct program *program = begin(fx, (uint16_t)(parent >> HOME_SHIFT));
        /* Every third file lives in another home. */
        uint64_t target = (uint64_t)(i % 3 == 2) << HOME_SHIFT | (1000 * parent + i);
        struct operand values[3] = {number(parent), operand_value(value_text(name)),
                                    number(target)};
        program_insert(program, &entry, values, ERR_EEXIST);
        cr_assert_eq(run(fx), ERR_NONE);
        if (i % 5 != 4) make_inode(fx, target, (uint16_t)i, 1, name);
    }
}

Test(execute, scans_a_range_with_the_rows_it_points_to)
{
    struct fixture fx;
    setup(&fx);
    make_entries(&fx, 1, 20);
    make_entries(&fx, 2, 3);
    struct operand parent = number(1);
    struct operand after = operand_value(value_text("f00004"));
    uint16_t outputs[] = {ENTRY, TARGET};
    uint16_t looked_up[] = {MODE, NAME};
    struct program *program = begin(&fx, 0);
    program_scan(program, &entry, 0, &parent, 1, &after, 1, false, 10);
    program_output(program, outputs, 2);
    program_scan_lookup(program, &inode, TARGET, looked_up, 2);
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_eq(fx.reply.steps[0].row_count, 10);
    cr_assert_eq(fx.reply.steps[0].column_count, 4);
    for (uint32_t i = 0; i < 10; i++) {
        const struct value *row = program_row(&fx.reply, 0, i);
        char name[16];
        snprintf(name, sizeof(name), "f%05u", i + 5);
        cr_assert_eq(memcmp(row[0].bytes, name, 6), 0);
        if ((i + 5) % 5 == 4)
            cr_assert(value_is_null(row[2]) && value_is_null(row[3]), "no such row");
        else
            cr_assert_eq(row[2].u, i + 5);
    }
    /* Another worker's rows are NULL. */
    struct partition *other = fx.partitions[1];
    fx.partitions[1] = NULL;
    program = begin(&fx, 0);
    program_scan(program, &entry, 0, &parent, 1, &after, 1, true, 10);
    program_output(program, outputs, 2);
    program_scan_lookup(program, &inode, TARGET, looked_up, 2);
    cr_assert_eq(run(&fx), ERR_NONE);
    fx.partitions[1] = other;
    cr_assert_eq(memcmp(program_row(&fx.reply, 0, 0)[0].bytes, "f00004", 6), 0, "inclusive");
    cr_assert(value_is_null(program_row(&fx.reply, 0, 1)[2]));
    cr_assert_eq(program_row(&fx.reply, 0, 2)[2].u, 6);
    teardown(&fx);
}

Test(execute, scan_guards_speak_about_every_row)
{
    struct fixture fx;
    setup(&fx);
    make_entries(&fx, 1, 1);
    struct operand one = number(1), nobody = number(3);
    struct program *program = begin(&fx, 0);
    program_scan(program, &entry, 0, &one, 1, NULL, 0, false, 1);
    program_guard(program, truth(&fx, 0), ERR_ENOTEMPTY);
    cr_assert_eq(run(&fx), ERR_ENOTEMPTY);
    program = begin(&fx, 0);
    program_scan(program, &entry, 0, &nobody, 1, NULL, 0, false, 1);
    program_guard(program, truth(&fx, 0), ERR_ENOTEMPTY);
    cr_assert_eq(run(&fx), ERR_NONE);
    teardown(&fx);
}

Test(execute, a_scan_stops_where_the_reply_is_full)
{
    struct fixture fx;
    setup(&fx);
    /* A column of 100 bytes, returned 100 times per row: the reply is full before the rows end. */
    char name[100];
    memset(name, 'x', sizeof(name));
    for (uint64_t i = 0; i < 600; i++) {
        struct program *program = begin(&fx, 0);
        struct operand values[4] = {number(i), number(0), operand_value(value_i64(1)),
                                    operand_value(value_str(name, sizeof(name)))};
        program_insert(program, &inode, values, ERR_EEXIST);
        char text[8];
        snprintf(text, sizeof(text), "%06u", (unsigned)i);
        struct operand entries[3] = {number(1), operand_value(value_text(text)), number(i)};
        program_insert(program, &entry, entries, ERR_EEXIST);
        cr_assert_eq(run(&fx), ERR_NONE);
    }
    uint16_t hundred[100];
    for (unsigned i = 0; i < 100; i++)
        hundred[i] = NAME;
    struct operand parent = number(1);
    struct program *program = begin(&fx, 0);
    program_scan(program, &entry, 0, &parent, 1, NULL, 0, false, 600);
    program_scan_lookup(program, &inode, TARGET, hundred, 100);
    cr_assert_eq(run(&fx), ERR_NONE);
    cr_assert_gt(fx.reply.steps[0].row_count, 100);
    cr_assert_lt(fx.reply.steps[0].row_count, 600);
    cr_assert_leq(fx.reply.bytes.size, PROGRAM_REPLY_SIZE_MAX);
    teardown(&fx);
}

Test(execute, locked_rows_are_conflicts_and_read_locks_hold)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 1, 1, NULL);
    make_inode(&fx, 2, 1, 1, NULL);
    struct change_set *prepared;
    cr_assert_eq(change_set_create(fx.ldm, &prepared), ERR_NONE);
    struct change_set *mine = fx.changes;
    struct operand one = number(1), two = number(2);
    struct program *program = begin(&fx, 0);
    program_read(program, &inode, &one, ERR_ENOENT);
    program_update(program, &inode, &two, ERR_ENOENT);
    program_set(program, MODE, number(1)); /* what it was: locked all the same */
    fx.executor.lock_reads = true;
    fx.changes = prepared;
    cr_assert_eq(execute(&fx), ERR_NONE);
    fx.executor.lock_reads = false;
    fx.changes = mine;
    for (uint64_t ino = 1; ino <= 2; ino++) {
        cr_assert_eq(get(&fx, ino), ERR_CONFLICT);
        struct operand key = number(ino);
        program = begin(&fx, 0);
        program_delete(program, &inode, &key, ERR_ENOENT);
        cr_assert_eq(run(&fx), ERR_CONFLICT);
    }
    change_set_rollback(prepared);
    cr_assert_eq(get(&fx, 1), ERR_NONE);
    cr_assert_eq(get(&fx, 2), ERR_NONE);
    change_set_destroy(prepared);
    teardown(&fx);
}

static void expect_equal_rows(const struct program_reply *a, const struct program_reply *b)
{
    cr_assert_eq(a->step_mask, b->step_mask);
    for (unsigned step = 0; step < PROGRAM_STEPS_MAX; step++) {
        if (!(a->step_mask >> step & 1)) continue;
        const struct step_rows *x = &a->steps[step], *y = &b->steps[step];
        cr_assert_eq(x->row_count, y->row_count);
        cr_assert_eq(x->column_count, y->column_count);
        for (uint32_t i = 0; i < x->row_count * x->column_count; i++) {
            cr_assert_eq(x->values[i].kind, y->values[i].kind);
            if (x->values[i].kind != KIND_STR) {
                cr_assert_eq(x->values[i].u, y->values[i].u);
                continue;
            }
            cr_assert_eq(x->values[i].size, y->values[i].size);
            cr_assert_eq(memcmp(x->values[i].bytes, y->values[i].bytes, x->values[i].size), 0);
        }
    }
}

/* Reads of present, missing and changed rows, their strings and NULLs, and a scan among them. */
static void put_everything(struct fixture *fx)
{
    struct program *program = begin(fx, 0);
    struct operand one = number(1), two = number(2), none = number(99);
    uint16_t all[] = {NAME, INO, MODE, NLINK, NAME};
    program_read(program, &inode, &one, ERR_ENOENT);
    program_output(program, all, 5);
    program_read(program, &inode, &none, ERR_ENOENT);
    program_flags(program, STEP_OPTIONAL);
    program_output(program, all, 5);
    program_read(program, &inode, &two, ERR_ENOENT);
    program_output(program, all, 4);
    struct operand zero = number(0);
    program_scan(program, &entry, 0, &zero, 1, NULL, 0, false, 100);
    uint16_t names[] = {0, 1};
    program_output(program, names, 2);
    uint8_t update = program_update(program, &inode, &one, ERR_ENOENT);
    program_set(program, NLINK, operand_expr(nlink_plus(fx, update, -7)));
    program_set(program, NAME, operand_value(value_text("a much longer name than before")));
    program_output(program, all, 5);
    program_delete(program, &inode, &two, ERR_ENOENT);
    program_output(program, all, 1);
}

Test(execute, rows_given_directly_are_those_that_bytes_give)
{
    struct fixture fx;
    setup(&fx);
    struct program_reply direct;
    program_reply_init(&direct);
    make_inode(&fx, 1, 0644, 1, "one");
    make_inode(&fx, 2, 0755, -2, NULL);
    put_everything(&fx);
    cr_assert_eq(execute(&fx), ERR_NONE);
    change_set_rollback(fx.changes);
    cr_assert_eq(execute_directly(&fx, &direct), ERR_NONE);
    expect_equal_rows(&fx.reply, &direct);
    /* The reply's strings are its own: the row has changed since, and goes now. */
    change_set_commit(fx.changes, ++fx.ts);
    while (ldm_collect(fx.ldm, 100, NULL, NULL))
        ;
    cr_assert_eq(memcmp(program_row(&direct, 0, 0)[0].bytes, "one", 3), 0);
    cr_assert(value_is_null(program_row(&direct, 5, 0)[0]));
    program_reply_fini(&direct);
    teardown(&fx);
}

Test(execute, a_failed_program_gives_no_rows_directly)
{
    struct fixture fx;
    setup(&fx);
    struct program_reply direct;
    program_reply_init(&direct);
    make_inode(&fx, 1, 0, 1, "one");
    struct program *program = begin(&fx, 0);
    struct operand one = number(1), none = number(99);
    uint16_t all[] = {INO, NAME};
    program_read(program, &inode, &one, ERR_ENOENT);
    program_output(program, all, 2);
    program_read(program, &inode, &none, ERR_ENOENT);
    cr_assert_eq(execute_directly(&fx, &direct), ERR_ENOENT);
    cr_assert_eq(direct.failed_step, 1);
    cr_assert_null(program_row(&direct, 0, 0));
    change_set_rollback(fx.changes);
    program_reply_fini(&direct);
    teardown(&fx);
}

Test(execute, parameters_stand_for_constants)
{
    struct fixture fx;
    setup(&fx);
    make_inode(&fx, 1, 0644, 10, "one");
    enum { P_INO, P_LEAST, P_MORE, P_NAME, PARAMS };
    const uint8_t kinds[PARAMS] = {KIND_U64, KIND_I64, KIND_I64, KIND_STR};
    struct program *program = &fx.program;
    program_begin(program);
    program_params(program, kinds, PARAMS);
    program_section(program, 0);
    struct operand key = operand_param(P_INO);
    uint8_t update = program_update(program, &inode, &key, ERR_ENOENT);
    struct expr_builder builder;
    struct expr guard, sum;
    expr_begin(&builder, &fx.expr_arena);
    uint16_t a = expr_column(&builder, KIND_I64, update, NLINK);
    uint16_t b = expr_column(&builder, KIND_I64, PROGRAM_SOURCE_PARAM, P_LEAST);
    expr_op2(&builder, EXPR_GE, KIND_I64, a, b);
    cr_assert_eq(expr_finish(&builder, &guard), ERR_NONE);
    program_guard(program, guard, ERR_EDQUOT);
    expr_begin(&builder, &fx.expr_arena);
    a = expr_column(&builder, KIND_I64, update, NLINK);
    b = expr_column(&builder, KIND_I64, PROGRAM_SOURCE_PARAM, P_MORE);
    expr_op2(&builder, EXPR_ADD, KIND_I64, a, b);
    cr_assert_eq(expr_finish(&builder, &sum), ERR_NONE);
    program_set(program, NLINK, operand_expr(sum));
    program_set(program, NAME, operand_param(P_NAME));
    uint16_t all[] = {NLINK, NAME};
    program_output(program, all, 2);
    struct program_prepared prepared;
    program_prepared_init(&prepared);
    cr_assert_eq(program_prepare(&prepared, program), ERR_NONE);

    static const struct {
        uint64_t ino;
        int64_t least, more;
        const char *name;
        enum err err;
        int64_t nlink;
    } runs[] = {
        {1, 10, 5, "first", ERR_NONE, 15},
        {1, 16, 5, "refused", ERR_EDQUOT, 0},
        {2, 0, 0, "missing", ERR_ENOENT, 0},
        {1, 15, -20, "second", ERR_NONE, -5},
        {1, -5, INT64_MIN, "over", ERR_OUT_OF_RANGE, 0},
        {1, -5, 1, NULL, ERR_NONE, -4},
    };
    struct program_reply direct;
    program_reply_init(&direct);
    for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
        const struct value params[PARAMS] = {
            value_u64(runs[i].ino), value_i64(runs[i].least), value_i64(runs[i].more),
            runs[i].name ? value_text(runs[i].name) : value_null()};
        const struct program_decoded *decoded;
        const uint16_t slot = 0;
        cr_assert_eq(program_bind_decoded(&prepared, &catalog, &slot, params, &decoded), ERR_NONE);
        arena_reset(&fx.arena);
        program_reply_clear(&direct);
        enum err err =
            execute_program_directly(&fx.executor, decoded, fx.changes, &direct, &fx.failed_step);
        cr_assert_eq(program_reply_finish(&direct, err, 0, 0), runs[i].err, "run %zu", i);
        if (err) {
            change_set_rollback(fx.changes);
            continue;
        }
        change_set_commit(fx.changes, ++fx.ts);
        const struct value *row = program_row(&direct, 0, 0);
        cr_assert_eq(row[0].i, runs[i].nlink);
        cr_assert_eq(row[1].kind, runs[i].name ? KIND_STR : KIND_NULL);
    }
    program_reply_fini(&direct);
    program_prepared_fini(&prepared);
    teardown(&fx);
}
