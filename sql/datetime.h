/* Dates and times as numbers: days and microseconds since 1970-01-01, proleptic Gregorian calendar,
 * no zones. Private to sql/. */
#ifndef SQL_DATETIME_H
#define SQL_DATETIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DATETIME_US_PER_SECOND INT64_C(1000000)
#define DATETIME_US_PER_DAY (INT64_C(86400) * DATETIME_US_PER_SECOND)

enum { DATETIME_TEXT_SIZE_MAX = 48 };

/* 'YYYY-MM-DD', years 0001 to 9999; surrounding spaces are not allowed. */
bool date_parse(const char *text, size_t size, int64_t *ret_days);
/* 'YYYY-MM-DD[ hh:mm:ss[.f…]]', with a 'T' allowed for the space and at most 6 digits of a second;
 * *ret_digits says how many there were. */
bool datetime_parse(const char *text, size_t size, int64_t *ret_us, uint8_t *ret_digits);
/* Writes at most DATETIME_TEXT_SIZE_MAX bytes with the NUL and returns how many without it. digits:
 * 0..6. */
size_t date_format(int64_t days, char *text);
size_t datetime_format(int64_t us, unsigned digits, char *text);
/* The microseconds `months` calendar months later; the day is cut to the month's last. False when
 * the year leaves 0001..9999. */
bool datetime_add_months(int64_t us, int64_t months, int64_t *ret_us);

#endif
