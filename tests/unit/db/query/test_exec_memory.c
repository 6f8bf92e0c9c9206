/* The k-th allocation of a whole query fails, for every k: the query ends with ERR_NO_MEMORY and
 * everything is given back (the executor and the coordinator assert that, the leak checker sees the
 * rest). */
#include "tests/unit/db/query/harness.h"

#include <sys/mman.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);

static bool armed;
static uint64_t countdown; /* 0: none fails */
static bool fired;

static void arm(bool on)
{
    armed = on;
}

static bool fails(void)
{
    if (!armed || !countdown || --countdown) return false;
    fired = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *at, size_t size)
{
    return fails() ? NULL : __real_realloc(at, size);
}

static void fill(struct cluster *cluster)
{
    for (uint64_t i = 1; i <= 300; i++) {
        char name[24];
        snprintf(name, sizeof(name), "name %u", (unsigned)i);
        struct value inode[8] = {value_u64(ino_of((uint16_t)(i % 16), i)),
                                 value_u64(i % 3),
                                 value_u64(i % 50),
                                 value_u64(i),
                                 value_null(),
                                 value_f64(0.5),
                                 value_null(),
                                 value_text(name)};
        cluster_insert(cluster, TABLE_INODE, inode);
        struct value dentry[4] = {value_u64(ino_of((uint16_t)(i % 7), 1)), value_text(name),
                                  value_u64(ino_of((uint16_t)(i % 16), i)), value_null()};
        cluster_insert(cluster, TABLE_DENTRY, dentry);
    }
}

/* Runs it with the k-th allocation failing, for k = 1, 2, … until none fails any more. */
static void sweep(struct cluster *cluster, const struct query_tree *tree)
{
    uint64_t failures = 0;
    for (uint64_t k = 1;; k++) {
        struct result result;
        countdown = k;
        fired = false;
        cluster->random = 5; /* the same turns each time */
        cluster_run(cluster, tree, NULL, &result);
        countdown = 0;
        if (!fired) {
            cr_assert_eq(result.err, ERR_NONE, "%s", result.diag.text);
            cr_assert_gt(result.row_count, 0);
            result_fini(&result);
            break;
        }
        /* A row or a message that could not be made may also have been one that nobody needed. */
        cr_assert(result.err == ERR_NO_MEMORY || result.err == ERR_NONE, "allocation %lu: %s",
                  (unsigned long)k, err_text(result.err));
        failures += result.err == ERR_NO_MEMORY;
        result_fini(&result);
    }
    cr_assert_gt(failures, 50);
}

Test(exec_memory, any_allocation_of_a_query_may_fail)
{
    struct cluster cluster;
    cluster_init(&cluster, 2, 5);
    fill(&cluster);
    cluster.arm = arm;
    struct builder b;
    /* A join across workers, grouped by text, with a set of distinct values. */
    build_begin(&b);
    build_scan(&b, TABLE_DENTRY);
    build_join(&b, TABLE_INODE, 0, false, build_column(&b, KIND_U64, 0, DENTRY_INO));
    build_group(&b, build_column(&b, KIND_STR, 0, DENTRY_NAME), COLLATION_CASE_INSENSITIVE);
    build_aggregate(&b, AGG_MAX, KIND_STR, KIND_STR, 0, build_column(&b, KIND_STR, 1, INODE_NOTE));
    build_aggregate(&b, AGG_COUNT_DISTINCT, KIND_U64, KIND_I64, 0,
                    build_column(&b, KIND_U64, 1, INODE_UID));
    build_output_column(&b, KIND_STR, EXPR_SOURCE_AGG, 0);
    build_output_column(&b, KIND_I64, EXPR_SOURCE_AGG, 1);
    sweep(&cluster, &b.tree);
    build_end(&b);
    /* Rows, distinct and ordered. */
    build_begin(&b);
    build_scan(&b, TABLE_INODE);
    struct expr_builder e;
    struct expr upper;
    expr_begin(&e, &b.arena);
    expr_op1(&e, EXPR_UPPER, KIND_STR, expr_column(&e, KIND_STR, 0, INODE_NOTE));
    cr_assert_eq(expr_finish(&e, &upper), ERR_NONE);
    build_output(&b, KIND_STR, 0, upper);
    b.tree.distinct = true;
    build_order(&b, 0, false);
    build_limit(&b, 40, 0);
    sweep(&cluster, &b.tree);
    build_end(&b);
    cluster_fini(&cluster);
}
