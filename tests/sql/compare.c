/* Running a query in every engine and comparing. RonSQL's results are taken through sql_run as
 * tab-separated text, so that formats are tested on the way. */
#include "tests/sql/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sql/sql.h"

struct result {
    struct buf text; /* cells, each ended by a NUL; NULL is "\1" */
    char ***rows;
    size_t row_count;
    size_t row_capacity;
};

static const char null_cell[] = "\1";

static void result_free(struct result *result)
{
    for (size_t i = 0; i < result->row_count; i++)
        free(result->rows[i]);
    free(result->rows);
    buf_fini(&result->text);
}

/* Makes rows of the cells gathered. */
static void result_cut(struct result *result, int column_count)
{
    size_t cells = 0;
    for (size_t i = 0; i < result->text.size; i++)
        cells += result->text.bytes[i] == 0;
    result->row_count = column_count ? cells / (size_t)column_count : 0;
    result->rows = calloc(result->row_count + 1, sizeof(*result->rows));
    char *at = (char *)result->text.bytes;
    for (size_t i = 0; i < result->row_count; i++) {
        result->rows[i] = calloc((size_t)column_count, sizeof(char *));
        for (int j = 0; j < column_count; j++) {
            result->rows[i][j] = at;
            at += strlen(at) + 1;
        }
    }
}

/* ---- running ---- */

struct gathering {
    struct sql_sink sink;
    struct buf text;
};

static enum err gather(struct sql_sink *sink, const char *bytes, size_t size)
{
    struct gathering *gathering = (struct gathering *)sink;
    buf_put(&gathering->text, bytes, size);
    return ERR_NONE;
}

/* Tabs and newlines become NULs, escapes what they stand for. */
static void unescape(struct gathering *gathering, struct result *result)
{
    const uint8_t *bytes = gathering->text.bytes;
    size_t start = 0;
    for (size_t i = 0; i < gathering->text.size; i++) {
        if (bytes[i] == '\\') {
            i++;
            buf_put_u8(&result->text, bytes[i] == 't' ? '\t' : bytes[i] == 'n' ? '\n' : bytes[i]);
        } else if (bytes[i] == '\t' || bytes[i] == '\n') {
            if (i - start == 4 && memcmp(bytes + start, "NULL", 4) == 0) {
                result->text.size -= 4;
                buf_put(&result->text, null_cell, 1);
            }
            buf_put_u8(&result->text, 0);
            start = i + 1;
        } else {
            buf_put_u8(&result->text, bytes[i]);
        }
    }
}

static enum err run_ours(struct data *data, int store, const struct query *query,
                         struct result *result, struct diag *diag)
{
    struct gathering gathering = {.sink = {gather}};
    struct sql_options options = {.database = "test", .format = SQL_FORMAT_TEXT_NOHEADER};
    *result = (struct result){0};
    buf_init(&gathering.text);
    buf_init(&result->text);
    enum err err = sql_run(data->clients[store], query->ours, strlen(query->ours), &options,
                           &gathering.sink, diag, NULL);
    if (!err) {
        unescape(&gathering, result);
        result_cut(result, query->column_count);
    }
    buf_fini(&gathering.text);
    return err;
}

static void run_lite(struct data *data, const struct query *query, struct result *result)
{
    sqlite3_stmt *statement;
    *result = (struct result){0};
    buf_init(&result->text);
    if (sqlite3_prepare_v2(data->lite, query->lite, -1, &statement, NULL) != SQLITE_OK)
        fail("SQLite: %s\n%s", sqlite3_errmsg(data->lite), query->lite);
    if (sqlite3_column_count(statement) != query->column_count)
        fail("%d columns in %s", sqlite3_column_count(statement), query->lite);
    int step;
    while ((step = sqlite3_step(statement)) == SQLITE_ROW) {
        for (int i = 0; i < query->column_count; i++) {
            char number[64];
            if (sqlite3_column_type(statement, i) == SQLITE_NULL) {
                buf_put(&result->text, null_cell, 2);
            } else if (sqlite3_column_type(statement, i) == SQLITE_FLOAT) {
                int size =
                    snprintf(number, sizeof(number), "%.17g", sqlite3_column_double(statement, i));
                buf_put(&result->text, number, (size_t)size + 1);
            } else {
                const char *text = (const char *)sqlite3_column_text(statement, i);
                buf_put(&result->text, text, strlen(text) + 1);
            }
        }
    }
    if (step != SQLITE_DONE) fail("SQLite: %s\n%s", sqlite3_errmsg(data->lite), query->lite);
    sqlite3_finalize(statement);
    result_cut(result, query->column_count);
}

/* ---- comparing ---- */

static int compare_cells(const char *a, const char *b, enum output_class class, bool exactly)
{
    if (a[0] == 1 || b[0] == 1) return (b[0] == 1) - (a[0] == 1);
    if (class == OUTPUT_EXACT) return strcmp(a, b);
    if (class == OUTPUT_FOLDED) return strcasecmp(a, b);
    double x = strtod(a, NULL), y = strtod(b, NULL);
    if (!exactly && class == OUTPUT_ROUND) {
        double slack = 1.1e-4 + 1e-10 * fmax(fabs(x), fabs(y));
        if (fabs(x - y) <= slack) return 0;
    }
    return (x > y) - (x < y);
}

static const struct query *sorted_query; /* for qsort, which passes no context */

/* Columns that compare exactly come first, so that rounded ones only order rows that are else the
 * same. */
static int compare_rows(const void *a, const void *b)
{
    const char *const *x = *(const char *const *const *)a;
    const char *const *y = *(const char *const *const *)b;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < sorted_query->column_count; i++) {
            enum output_class class = sorted_query->classes[i];
            if ((class == OUTPUT_ROUND) != (round == 1)) continue;
            int order = compare_cells(x[i], y[i], class, true);
            if (order) return order;
        }
    }
    return 0;
}

static void sort_rows(struct result *result, const struct query *query)
{
    sorted_query = query;
    qsort(result->rows, result->row_count, sizeof(*result->rows), compare_rows);
}

static bool results_same(const struct query *query, const struct result *a, const struct result *b)
{
    if (a->row_count != b->row_count) return false;
    for (size_t i = 0; i < a->row_count; i++)
        for (int j = 0; j < query->column_count; j++)
            if (compare_cells(a->rows[i][j], b->rows[i][j], query->classes[j], false)) return false;
    return true;
}

static void print_row(const struct query *query, char **row)
{
    for (int i = 0; i < query->column_count; i++)
        printf("%s%s", i ? " | " : "    ", row[i][0] == 1 ? "NULL" : row[i]);
    printf("\n");
}

/* The rows around the first that differs. */
static void print_result(const struct query *query, const struct result *result,
                         const struct result *other)
{
    size_t first = 0;
    while (first < result->row_count && first < other->row_count) {
        struct result a = {.rows = result->rows + first, .row_count = 1};
        struct result b = {.rows = other->rows + first, .row_count = 1};
        if (!results_same(query, &a, &b)) break;
        first++;
    }
    printf("  %zu rows, from row %zu:\n", result->row_count, first);
    for (size_t i = first; i < result->row_count && i < first + 10; i++)
        print_row(query, result->rows[i]);
}

static void print_query(const struct query *query)
{
    printf("RonSQL: %s\nSQLite: %s\n", query->ours, query->lite);
}

static bool check_store(struct data *data, int store, const struct query *query,
                        struct result *expected, bool *ret_skipped)
{
    struct diag diag = {0};
    struct result result;
    enum err err = run_ours(data, store, query, &result, &diag);
    bool same = false;
    if (err == ERR_OUT_OF_RANGE) {
        *ret_skipped = true;
        same = true;
    } else if (err) {
        print_query(query);
        printf("with %u workers: %s: %s\n", db_worker_count(data->stores[store]), err_name(err),
               diag.text);
    } else {
        if (!query->ordered) sort_rows(&result, query);
        same = results_same(query, &result, expected);
        if (!same) {
            print_query(query);
            printf("RonSQL with %u workers:\n", db_worker_count(data->stores[store]));
            print_result(query, &result, expected);
            printf("SQLite:\n");
            print_result(query, expected, &result);
        }
    }
    result_free(&result);
    return same;
}

bool query_check(struct data *data, const struct query *query, bool verbose, bool *ret_skipped)
{
    struct result expected;
    bool good = true;
    *ret_skipped = false;
    if (verbose) print_query(query);
    run_lite(data, query, &expected);
    if (verbose) printf("  %zu rows\n", expected.row_count);
    if (!query->ordered) sort_rows(&expected, query);
    for (int store = 0; store < STORES && good; store++)
        good = check_store(data, store, query, &expected, ret_skipped);
    result_free(&expected);
    return good;
}
