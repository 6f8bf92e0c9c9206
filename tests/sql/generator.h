/* What the files of the generator share: a query under construction, and expressions by class. */
#ifndef TESTS_SQL_GENERATOR_H
#define TESTS_SQL_GENERATOR_H

#include <stdio.h>
#include <string.h>

#include "tests/sql/generate.h"

enum { FROM_MAX = 4, CONDITIONS_MAX = 8, DEPTH_MAX = 3 };

struct generator {
    struct random random;
    struct buf ours;
    struct buf lite;
    int table_count;
    struct {
        const struct test_table *table;
        char alias[8];
    } from[FROM_MAX];
    int condition_count;
    char conditions[CONDITIONS_MAX][80];
    struct query query;
};

bool chance(struct generator *g, uint32_t percent);
uint32_t pick(struct generator *g, uint32_t limit);
/* The same text to both queries. */
void both(struct generator *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
void each(struct generator *g, const char *ours, const char *lite);
/* Writes a random column of one of the classes (bits); false when FROM has none. */
bool column_name(struct generator *g, unsigned classes, char name[40],
                 const struct test_column **ret_column);

/* generate_expr.c: write an expression of the class. */
void int_leaf(struct generator *g);
void int_constant(struct generator *g);
void int_expr(struct generator *g, int depth);
void double_expr(struct generator *g, int depth);
void text_constant(struct generator *g);
void text_expr(struct generator *g, int depth);
void date_constant(struct generator *g, bool time);
/* False, with nothing written, when FROM has no date. */
bool date_expr(struct generator *g, int depth);

/* generate_test.c: write a condition. */
const char *comparison(struct generator *g);
void bool_expr(struct generator *g, int depth);

#endif
