/* What the fuzz targets share. A target is LLVMFuzzerTestOneInput: it feeds the bytes to one
 * decoder of what comes from outside, and to what runs right behind it. Crashes, sanitizer reports,
 * failed assertions, leaks and endless loops are what they look for. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

#include "db/wire/schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Tables of every type, key and index kind, made by DDL once; valid for ever. */
const struct catalog *fuzz_catalog(void);

/* A copy on the heap of exactly that size, so that reading one byte further is seen. Freed by the
 * caller. */
uint8_t *fuzz_copy(const uint8_t *bytes, size_t size);

#endif
