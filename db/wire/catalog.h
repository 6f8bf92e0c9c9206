/* Private to db/wire: what schema.c, catalog.c and value.c share. */
#ifndef DB_WIRE_CATALOG_H
#define DB_WIRE_CATALOG_H

#include <stdbool.h>
#include <stdint.h>

/* Without regard to ASCII case. */
bool schema_name_equal(const char *a, const char *b);
/* The number of code points; false for malformed UTF-8. */
bool value_utf8_count(const uint8_t *bytes, uint32_t size, uint32_t *ret_count);

#endif
