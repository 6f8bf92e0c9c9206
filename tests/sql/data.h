/* The tables of the oracle, and their rows in RonSQL stores and in SQLite. */
#ifndef TESTS_SQL_DATA_H
#define TESTS_SQL_DATA_H

#include <stdbool.h>
#include <stdint.h>

#include <sqlite3.h>

#include "db/api/db.h"

enum { STORES = 3 }; /* with 1, 2 and 4 workers */

/* What may be done with a column. */
enum column_class {
    CLASS_INT,  /* signed */
    CLASS_UINT, /* unsigned */
    CLASS_DOUBLE,
    CLASS_DECIMAL,
    CLASS_TEXT,
    CLASS_FOLDED, /* case-insensitive text */
    CLASS_DATE,
    CLASS_TIME,
};

struct test_column {
    const char *name;
    enum column_class class;
    bool nullable;
    int range; /* numbers lie in 0..range, or -range..range when signed */
};

struct test_table {
    const char *name;
    const char *ddl;   /* of RonSQL */
    const char *lite;  /* of SQLite */
    const char *index; /* of SQLite, to keep it quick; may be NULL */
    int column_count;
    int key_count; /* the first columns */
    int row_count;
    struct test_column columns[12];
};

enum { TABLES = 5 };
extern const struct test_table test_tables[TABLES];

struct random {
    uint64_t state;
};
uint32_t random_below(struct random *random, uint32_t limit);

struct data {
    struct db *stores[STORES];
    struct db_client *clients[STORES];
    sqlite3 *lite;
    sqlite3_stmt *inserts[TABLES];
    sqlite3_stmt *deletes[TABLES];
    struct random random;
    const char *dir;
};

/* Makes stores under dir and fills everything. Exits with a message on a failure. */
void data_open(struct data *data, const char *dir, uint64_t seed);
/* Deletes and inserts some rows of every table, everywhere alike. */
void data_change(struct data *data);
void data_close(struct data *data);
__attribute__((noreturn, format(printf, 1, 2))) void fail(const char *format, ...);

#endif
