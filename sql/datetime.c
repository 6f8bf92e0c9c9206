/* The calendar: conversions between civil dates and day numbers, after Howard Hinnant's
 * "chrono-Compatible Low-Level Date Algorithms": a year starts in March, so that the leap day is
 * its last, and 400 years are one era of 146,097 days.
 *
 * Used for literals, for constants compared with date columns, and for showing results. */
#include "sql/datetime.h"

#include <stdio.h>

enum { ERA_DAYS = 146097, ERA_YEARS = 400, EPOCH_SHIFT = 719468 /* 0000-03-01 to 1970-01-01 */ };

static int64_t days_of(int64_t year, int64_t month, int64_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - (ERA_YEARS - 1)) / ERA_YEARS;
    int64_t year_of_era = year - era * ERA_YEARS;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * ERA_DAYS + day_of_era - EPOCH_SHIFT;
}

static void civil_of(int64_t days, int64_t *ret_year, int *ret_month, int *ret_day)
{
    days += EPOCH_SHIFT;
    int64_t era = (days >= 0 ? days : days - (ERA_DAYS - 1)) / ERA_DAYS;
    int64_t day_of_era = days - era * ERA_DAYS;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / (ERA_DAYS - 1)) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    *ret_day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *ret_month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *ret_year = year_of_era + era * ERA_YEARS + (*ret_month <= 2);
}

static int month_days(int64_t year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Exactly `count` digits. */
static bool digits_take(const char **at, const char *end, int count, int *ret_number)
{
    int number = 0;
    if (end - *at < count) return false;
    for (int i = 0; i < count; i++) {
        char c = (*at)[i];
        if (c < '0' || c > '9') return false;
        number = number * 10 + (c - '0');
    }
    *at += count;
    *ret_number = number;
    return true;
}

static bool mark_take(const char **at, const char *end, char mark)
{
    if (*at == end || **at != mark) return false;
    (*at)++;
    return true;
}

static bool date_take(const char **at, const char *end, int64_t *ret_days)
{
    int year, month, day;
    if (!digits_take(at, end, 4, &year) || !mark_take(at, end, '-')) return false;
    if (!digits_take(at, end, 2, &month) || !mark_take(at, end, '-')) return false;
    if (!digits_take(at, end, 2, &day)) return false;
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > month_days(year, month))
        return false;
    *ret_days = days_of(year, month, day);
    return true;
}

bool date_parse(const char *text, size_t size, int64_t *ret_days)
{
    const char *at = text, *end = text + size;
    int64_t days;
    if (!date_take(&at, end, &days) || at != end) return false;
    *ret_days = days;
    return true;
}

bool datetime_parse(const char *text, size_t size, int64_t *ret_us, uint8_t *ret_digits)
{
    const char *at = text, *end = text + size;
    int64_t days;
    int hour = 0, minute = 0, second = 0, fraction = 0;
    uint8_t digits = 0;
    if (!date_take(&at, end, &days)) return false;
    if (at != end) {
        if (!mark_take(&at, end, ' ') && !mark_take(&at, end, 'T')) return false;
        if (!digits_take(&at, end, 2, &hour) || !mark_take(&at, end, ':')) return false;
        if (!digits_take(&at, end, 2, &minute) || !mark_take(&at, end, ':')) return false;
        if (!digits_take(&at, end, 2, &second)) return false;
        if (hour > 23 || minute > 59 || second > 59) return false;
        if (at != end) {
            if (!mark_take(&at, end, '.') || end - at < 1 || end - at > 6) return false;
            digits = (uint8_t)(end - at);
            if (!digits_take(&at, end, digits, &fraction)) return false;
            for (int i = digits; i < 6; i++)
                fraction *= 10;
        }
    }
    int64_t seconds = days * 86400 + hour * 3600 + minute * 60 + second;
    *ret_us = seconds * DATETIME_US_PER_SECOND + fraction;
    *ret_digits = digits;
    return true;
}

size_t date_format(int64_t days, char *text)
{
    /* Beyond any storable date: the calendar below would leave its range. */
    if (days < -INT64_C(1000000000) || days > INT64_C(1000000000))
        return (size_t)snprintf(text, DATETIME_TEXT_SIZE_MAX, "day %lld", (long long)days);
    int64_t year;
    int month, day;
    civil_of(days, &year, &month, &day);
    return (size_t)snprintf(text, DATETIME_TEXT_SIZE_MAX, "%04lld-%02d-%02d", (long long)year,
                            month, day);
}

size_t datetime_format(int64_t us, unsigned digits, char *text)
{
    int64_t days = us / DATETIME_US_PER_DAY;
    int64_t rest = us % DATETIME_US_PER_DAY;
    if (rest < 0) {
        rest += DATETIME_US_PER_DAY;
        days--;
    }
    size_t size = date_format(days, text);
    int seconds = (int)(rest / DATETIME_US_PER_SECOND);
    int fraction = (int)(rest % DATETIME_US_PER_SECOND);
    size += (size_t)snprintf(text + size, DATETIME_TEXT_SIZE_MAX - size, " %02d:%02d:%02d",
                             seconds / 3600, seconds / 60 % 60, seconds % 60);
    if (digits == 0) return size;
    for (unsigned i = digits; i < 6; i++)
        fraction /= 10;
    return size + (size_t)snprintf(text + size, DATETIME_TEXT_SIZE_MAX - size, ".%0*d", (int)digits,
                                   fraction);
}

bool datetime_add_months(int64_t us, int64_t months, int64_t *ret_us)
{
    int64_t days = us / DATETIME_US_PER_DAY;
    int64_t rest = us % DATETIME_US_PER_DAY;
    if (rest < 0) {
        rest += DATETIME_US_PER_DAY;
        days--;
    }
    int64_t year;
    int month, day;
    civil_of(days, &year, &month, &day);
    if (months < -120000 || months > 120000) return false;
    int64_t total = year * 12 + (month - 1) + months;
    if (total < 12 || total >= INT64_C(10000) * 12) return false;
    year = total / 12;
    month = (int)(total % 12) + 1;
    if (day > month_days(year, month)) day = month_days(year, month);
    *ret_us = days_of(year, month, day) * DATETIME_US_PER_DAY + rest;
    return true;
}
