/* Running the steps of a decoded program on one worker's partitions. No signals, no clock, no log:
 * what a transaction means on rows, and nothing else. Single-threaded, as everything it touches. */
#ifndef DB_TXN_EXECUTE_H
#define DB_TXN_EXECUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "db/ldm/partition.h"
#include "db/wire/program.h"

struct executor {
    struct partition *const *partitions; /* by number; NULL where another worker owns it */
    uint16_t partition_count;            /* a power of two */
    struct arena *arena;                 /* reset by the caller between programs */
    /* Rows that are only read, or set to what they were, are locked as well: for prepared
     * transactions, whose guards must still hold when the commit comes. Rows seen by a SCAN are
     * not. */
    bool lock_reads;
};

/* Runs all sections in order within `changes` and appends the outputs (program.h: reply) to
 * `reply`. On failure what was done stays in `changes`, for the caller to roll back, and the reply
 * has a part of the outputs, to be cut off. *ret_failed_step is then the step's number. Errors:
 * those of the steps, ERR_CONFLICT, ERR_WRONG_PARTITION, ERR_OUT_OF_RANGE, ERR_NULL_VALUE,
 * ERR_INVALID, ERR_TOO_BIG (outputs), ERR_NO_SPACE, ERR_NO_MEMORY. */
MUST_USE enum err execute_program(const struct executor *executor,
                                  const struct program_decoded *program, struct change_set *changes,
                                  struct buf *reply, uint8_t *ret_failed_step);
/* The same into a cleared reply, whose rows need no parsing: program_reply_finish does the rest. */
MUST_USE enum err execute_program_directly(const struct executor *executor,
                                           const struct program_decoded *program,
                                           struct change_set *changes, struct program_reply *reply,
                                           uint8_t *ret_failed_step);

#endif
