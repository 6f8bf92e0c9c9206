/* The coordinator's side of one two-phase commit, as a state machine without signals: it is told
 * the votes and acknowledgements and says what to do next.
 *
 *   PREPARING -- all votes yes --> COMMITTING -- all acknowledged --> done, commit_ts is the
 * greatest prepare timestamp
 *            \-- any vote no  --> ABORTING (those that voted yes) ----> done, err is the first no
 */
#ifndef DB_TXN_COORDINATOR_H
#define DB_TXN_COORDINATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "db/wire/program.h"

enum coordinator_phase { COORDINATOR_PREPARING, COORDINATOR_COMMITTING, COORDINATOR_ABORTING };

struct coordinator_part {
    uint16_t worker;
    uint32_t sections; /* mask of the program's */
    bool voted;
    bool voted_yes;
    bool acknowledged;
};

struct coordinator {
    uint64_t txn;
    enum coordinator_phase phase;
    bool only_reads;
    enum err err;
    uint8_t failed_step;
    uint64_t commit_ts;
    uint16_t part_count;
    uint16_t missing; /* votes or acknowledgements */
    struct coordinator_part parts[PROGRAM_SECTIONS_MAX];
    struct buf reply; /* header and the outputs of all parts */
};

/* What the caller does after telling it something. */
enum coordinator_next {
    COORDINATOR_WAIT,
    COORDINATOR_COMMIT, /* send COMMIT with commit_ts to every part */
    COORDINATOR_ABORT,  /* send ABORT to every part that voted yes */
    COORDINATOR_DONE,   /* coordinator_reply, then fini */
};

/* The parts of the program by owner: owners[i] is the worker of outline section i. */
void coordinator_init(struct coordinator *coordinator, uint64_t txn,
                      const struct program_outline *outline, const uint16_t *owners);
void coordinator_fini(struct coordinator *coordinator);
/* The part of this worker; NULL when it has none. */
struct coordinator_part *coordinator_part_of(struct coordinator *coordinator, uint16_t worker);
/* A vote: a program reply whose commit timestamp is the prepare timestamp. `err` not ERR_NONE: the
 * part could not even be asked. *ret_next is written unless the vote is refused: ERR_BAD_SIGNAL
 * (malformed, twice, or not awaited). */
MUST_USE enum err coordinator_vote(struct coordinator *coordinator, uint16_t worker, enum err err,
                                   const void *reply, uint32_t size,
                                   enum coordinator_next *ret_next);
/* COMMITTED or ABORTED came. ERR_BAD_SIGNAL as above. */
MUST_USE enum err coordinator_acknowledge(struct coordinator *coordinator, uint16_t worker,
                                          enum coordinator_next *ret_next);
/* The program's reply, complete; borrowed until fini. */
const struct buf *coordinator_reply(struct coordinator *coordinator);

#endif
