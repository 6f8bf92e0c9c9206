/* Normalized keys order as the values do; slots. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "db/wire/schema.h"

static struct table_def table_of(struct column_def *columns, uint16_t count)
{
    return (struct table_def){.column_count = count, .columns = columns};
}

/* Every pair of the values, which stand in ascending order. */
static void check_order(struct column_def *column, const struct value *values, uint32_t count)
{
    struct table_def table = table_of(column, 1);
    uint16_t number = 0;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < count; j++) {
            uint8_t a[SCHEMA_KEY_SIZE_MAX];
            uint8_t b[SCHEMA_KEY_SIZE_MAX];
            uint32_t a_size;
            uint32_t b_size;
            cr_assert_eq(key_normalize(&table, &number, 1, &values[i], a, &a_size), ERR_NONE);
            cr_assert_eq(key_normalize(&table, &number, 1, &values[j], b, &b_size), ERR_NONE);
            uint32_t size = a_size < b_size ? a_size : b_size;
            int order = memcmp(a, b, size);
            if (i == j) cr_assert(order == 0 && a_size == b_size);
            if (i != j) cr_assert(i < j ? order < 0 : order > 0, "%u and %u", i, j);
        }
    }
}

Test(key, numbers_of_every_type_keep_their_order)
{
    struct column_def column = {.type = TYPE_TINYINT, .nullable = true};
    struct value small[] = {value_null(), value_i64(-128), value_i64(-1),
                            value_i64(0), value_i64(1),    value_i64(127)};
    for (uint8_t type = TYPE_TINYINT; type <= TYPE_BIGINT; type++) {
        column.type = type;
        check_order(&column, small, 6);
    }
    column.type = TYPE_DATE;
    check_order(&column, small, 6);
    column.type = TYPE_DATETIME;
    check_order(&column, small, 6);
    struct value wide[] = {value_i64(INT64_MIN), value_i64(-2), value_i64(INT64_MAX)};
    column.type = TYPE_BIGINT;
    check_order(&column, wide, 3);
    struct value positive[] = {value_null(), value_u64(0), value_u64(1), value_u64(255)};
    for (uint8_t type = TYPE_TINYINT_UNSIGNED; type <= TYPE_BIGINT_UNSIGNED; type++) {
        column.type = type;
        check_order(&column, positive, 4);
    }
    struct value floats[] = {value_null(), value_f64(-1e30), value_f64(-1.5), value_f64(-1e-30),
                             value_f64(0), value_f64(1e-30), value_f64(1),    value_f64(1e30)};
    column.type = TYPE_FLOAT;
    check_order(&column, floats, 8);
    column.type = TYPE_DOUBLE;
    check_order(&column, floats, 8);
    column = (struct column_def){.type = TYPE_DECIMAL, .precision = 18, .scale = 3};
    struct value decimals[] = {value_i64(-2), value_dec(-19, 1), value_i64(0), value_dec(1, 3)};
    check_order(&column, decimals, 4);
}

Test(key, strings_keep_their_order_with_zero_bytes_and_prefixes)
{
    struct column_def column = {.type = TYPE_VARBINARY, .size_max = 10, .nullable = true};
    struct value strings[] = {value_null(),         value_str("", 0),     value_str("\0", 1),
                              value_str("\0\0", 2), value_str("\0\1", 2), value_str("\1", 1),
                              value_str("a", 1),    value_str("a\0", 2),  value_str("a\0b", 3),
                              value_str("ab", 2),   value_str("\xff", 1)};
    check_order(&column, strings, 11);
    column.type = TYPE_BINARY;
    struct value padded[] = {value_null(), value_str("", 0), value_str("\0\1", 2),
                             value_str("a", 1)};
    check_order(&column, padded, 4);
}

Test(key, case_insensitive_text_folds)
{
    struct column_def column = {
        .type = TYPE_VARCHAR, .size_max = 40, .collation = COLLATION_CASE_INSENSITIVE};
    struct table_def table = table_of(&column, 1);
    uint16_t number = 0;
    uint8_t a[SCHEMA_KEY_SIZE_MAX];
    uint8_t b[SCHEMA_KEY_SIZE_MAX];
    uint32_t a_size;
    uint32_t b_size;
    struct value x = value_text("HeLLo[");
    struct value y = value_text("hEllO[");
    cr_assert_eq(key_normalize(&table, &number, 1, &x, a, &a_size), ERR_NONE);
    cr_assert_eq(key_normalize(&table, &number, 1, &y, b, &b_size), ERR_NONE);
    cr_assert_eq(a_size, b_size);
    cr_assert_arr_eq(a, b, a_size);
    cr_assert_arr_eq(a, "hello[\0\0", 8);
}

Test(key, a_prefix_of_the_columns_is_a_prefix_of_the_bytes)
{
    struct column_def columns[3] = {{.type = TYPE_VARCHAR, .size_max = 40},
                                    {.type = TYPE_INT, .nullable = true},
                                    {.type = TYPE_VARBINARY, .size_max = 10}};
    struct table_def table = table_of(columns, 3);
    uint16_t numbers[3] = {2, 0, 1};
    struct value values[3] = {value_str("\0z", 2), value_text("n"), value_null()};
    uint8_t whole[SCHEMA_KEY_SIZE_MAX];
    uint32_t whole_size;
    cr_assert_eq(key_normalize(&table, numbers, 3, values, whole, &whole_size), ERR_NONE);
    static const uint8_t want[] = {0, 0xff, 'z', 0, 0, 'n', 0, 0, 0};
    cr_assert_eq(whole_size, sizeof(want));
    cr_assert_arr_eq(whole, want, sizeof(want));
    for (uint32_t count = 0; count < 3; count++) {
        uint8_t part[SCHEMA_KEY_SIZE_MAX];
        uint32_t part_size;
        cr_assert_eq(key_normalize(&table, numbers, count, values, part, &part_size), ERR_NONE);
        cr_assert_lt(part_size, whole_size);
        cr_assert(part_size == 0 || memcmp(part, whole, part_size) == 0);
    }
}

Test(key, refuses_null_wrong_kinds_and_too_long)
{
    struct column_def columns[2] = {{.type = TYPE_VARBINARY, .size_max = 1000}, {.type = TYPE_INT}};
    struct table_def table = table_of(columns, 2);
    uint16_t numbers[2] = {0, 1};
    static const uint8_t zeros[1000];
    struct value values[2] = {value_str(zeros, 511), value_i64(1)};
    uint8_t bytes[SCHEMA_KEY_SIZE_MAX];
    uint32_t size;
    cr_assert_eq(key_normalize(&table, numbers, 1, values, bytes, &size), ERR_NONE);
    cr_assert_eq(size, SCHEMA_KEY_SIZE_MAX);
    cr_assert_eq(key_normalize(&table, numbers, 2, values, bytes, &size), ERR_TOO_BIG);
    values[0].size = 512;
    cr_assert_eq(key_normalize(&table, numbers, 1, values, bytes, &size), ERR_TOO_BIG);
    values[0] = value_null();
    cr_assert_eq(key_normalize(&table, numbers, 1, values, bytes, &size), ERR_NULL_VALUE);
    values[0] = value_i64(1);
    cr_assert_eq(key_normalize(&table, numbers, 1, values, bytes, &size), ERR_INVALID);
}

Test(key, slots_follow_the_partitioning)
{
    struct column_def columns[2] = {{.type = TYPE_BIGINT_UNSIGNED}, {.type = TYPE_INT}};
    struct table_def table = table_of(columns, 2);
    table.partition_column_count = 1;
    table.partition_by = PARTITION_BY_HOME;
    uint16_t slot;
    struct value value = value_u64(UINT64_C(0xabcd) << HOME_SHIFT | 12345);
    cr_assert_eq(table_slot(&table, &value, &slot), ERR_NONE);
    cr_assert_eq(slot, 0xabcd);
    table.partition_by = PARTITION_BY_SLOT;
    value = value_i64(0x1234);
    cr_assert_eq(table_slot(&table, &value, &slot), ERR_NONE);
    cr_assert_eq(slot, 0x1234);
    value = value_i64(-1);
    cr_assert_eq(table_slot(&table, &value, &slot), ERR_OUT_OF_RANGE);
    table.partition_by = PARTITION_BY_KEY;
    table.partition_column_count = 2;
    table.partition_columns[1] = 1;
    struct value both[2] = {value_u64(1), value_i64(-1)};
    cr_assert_eq(table_slot(&table, both, &slot), ERR_NONE);
    /* Stores depend on it: these bytes, this hash, for ever. */
    static const uint8_t bytes[12] = {0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff};
    cr_assert_eq(slot, hash_bytes(bytes, 12) & 0xffff);
    both[1] = value_null();
    cr_assert_eq(table_slot(&table, both, &slot), ERR_NULL_VALUE);
}
