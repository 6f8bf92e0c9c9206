/* Dates of expressions: the proleptic Gregorian calendar, days counted from 1970-01-01.
 *
 * The conversion works in eras of 400 years (146,097 days), within which years are taken to begin
 * in March so that the leap day is the last one (Howard Hinnant, "chrono-Compatible Low-Level Date
 * Algorithms"). */
#include "db/ldm/expr_ops.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"

#define DAY_US INT64_C(86400000000)
#define DAYS_LIMIT (INT64_C(1) << 60)

enum {
    ERA_DAYS = 146097,
    ERA_START = 719468, /* days from 0000-03-01 to 1970-01-01 */
    DATE_TEXT_SIZE_MAX = 64,
};

static int64_t floor_divide(int64_t a, int64_t b)
{
    int64_t quotient = a / b;
    return quotient - (a % b < 0);
}

struct civil_date civil_from_days(int64_t days)
{
    ASSERT(days >= -DAYS_LIMIT && days <= DAYS_LIMIT);
    days += ERA_START;
    int64_t era = floor_divide(days, ERA_DAYS);
    int64_t day_of_era = days - era * ERA_DAYS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (ERA_DAYS - 1)) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* 0 is March */
    int64_t day = day_of_year - (153 * month + 2) / 5 + 1;
    month += month < 10 ? 3 : -9;
    return (struct civil_date){.year = year_of_era + era * 400 + (month <= 2),
                               .month = (uint32_t)month,
                               .day = (uint32_t)day};
}

static int print_date(int64_t days, char *text, size_t size)
{
    struct civil_date date = civil_from_days(days);
    uint64_t year = date.year < 0 ? 0 - (uint64_t)date.year : (uint64_t)date.year;
    return snprintf(text, size, "%s%04" PRIu64 "-%02u-%02u", date.year < 0 ? "-" : "", year,
                    date.month, date.day);
}

static enum err text_of_date(int64_t days, struct arena *arena, struct value *ret_value)
{
    char text[DATE_TEXT_SIZE_MAX];
    if (days < -DAYS_LIMIT || days > DAYS_LIMIT) return ERR_OUT_OF_RANGE;
    int size = print_date(days, text, sizeof text);
    const char *bytes = arena_copy(arena, text, (size_t)size);
    if (!bytes) return ERR_NO_MEMORY;
    *ret_value = value_str(bytes, (uint32_t)size);
    return ERR_NONE;
}

/* Digits of the second that are not shown are cut off. */
static enum err text_of_datetime(int64_t microseconds, uint32_t digits, struct arena *arena,
                                 struct value *ret_value)
{
    char text[DATE_TEXT_SIZE_MAX];
    int64_t days = floor_divide(microseconds, DAY_US);
    int64_t of_day = microseconds % DAY_US;
    if (of_day < 0) of_day += DAY_US;
    int64_t second = of_day / 1000000;
    int64_t fraction = of_day % 1000000;
    int size = print_date(days, text, sizeof text);
    size +=
        snprintf(text + size, sizeof text - (size_t)size, " %02" PRId64 ":%02" PRId64 ":%02" PRId64,
                 second / 3600, second / 60 % 60, second % 60);
    if (digits) {
        fraction /= power_of_ten(6 - digits);
        size +=
            snprintf(text + size, sizeof text - (size_t)size, ".%0*" PRId64, (int)digits, fraction);
    }
    const char *bytes = arena_copy(arena, text, (size_t)size);
    if (!bytes) return ERR_NO_MEMORY;
    *ret_value = value_str(bytes, (uint32_t)size);
    return ERR_NONE;
}

enum err date_apply(const struct expr_ins *ins, struct value a, struct arena *arena,
                    struct value *ret_value)
{
    ASSERT(a.kind == KIND_I64);
    switch ((enum expr_op)ins->op) {
    case EXPR_CAST_DATE_STR:
        return text_of_date(a.i, arena, ret_value);
    case EXPR_CAST_DATETIME_STR:
        return text_of_datetime(a.i, ins->x, arena, ret_value);
    default:
        break;
    }
    struct civil_date date = civil_from_days(floor_divide(a.i, DAY_US));
    switch ((enum expr_op)ins->op) {
    case EXPR_YEAR:
        *ret_value = value_i64(date.year);
        return ERR_NONE;
    case EXPR_MONTH:
        *ret_value = value_i64(date.month);
        return ERR_NONE;
    default:
        ASSERT(ins->op == EXPR_DAY);
        *ret_value = value_i64(date.day);
        return ERR_NONE;
    }
}
