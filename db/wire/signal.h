/* Signals: everything that crosses workers, in one process or between machines (NDB's word). A
 * fixed header and a bounded body. The header is checked by signal_check before any handler sees
 * the signal; each body by its codec. */
#ifndef DB_WIRE_SIGNAL_H
#define DB_WIRE_SIGNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { SIGNAL_VERSION = 1, SIGNAL_SIZE_MAX = 8 << 20 };

enum signal_type {
    /* client -> worker */
    SIGNAL_PROGRAM = 1,       /* body: program.h. All sections on this worker, or it coordinates */
    SIGNAL_PROGRAM_REPLY = 2, /* body: program reply */
    SIGNAL_QUERY_OPEN =
        3, /* pin a snapshot: no body; answered by QUERY_OPENED with u64 pinned timestamp */
    SIGNAL_QUERY_OPENED = 4,
    SIGNAL_QUERY_RUN = 5,   /* u64 T, then the query tree */
    SIGNAL_QUERY_ROWS = 6,  /* partial results, sequence-numbered; the last one says so */
    SIGNAL_QUERY_MORE = 7,  /* credit: the receiver took a ROWS */
    SIGNAL_QUERY_CLOSE = 8, /* unpin, cancel */
    SIGNAL_QUERY_MOVE =
        9, /* worker -> worker: a batch of joined rows to the owner of the next table's keys */
    SIGNAL_QUERY_MOVED = 10,
    SIGNAL_DDL = 11, /* the encoded new catalog; worker applies it */
    SIGNAL_DDL_REPLY = 12,
    SIGNAL_FLUSH = 13, /* make everything up to now durable; answered when it is */
    SIGNAL_FLUSH_REPLY = 14,
    SIGNAL_STATUS = 15, /* counters as JSON text */
    SIGNAL_STATUS_REPLY = 16,
    SIGNAL_CHECKPOINT = 17, /* take one now; answered when it is published */
    SIGNAL_CHECKPOINT_REPLY = 18,
    /* client -> worker, over links: the same as PROGRAM and DDL, under the number of an earlier
     * one whose answer was lost with its link. Done once, answered with the first answer. */
    SIGNAL_PROGRAM_AGAIN = 19,
    SIGNAL_DDL_AGAIN = 20,
    SIGNAL_SESSION_OPEN = 21, /* first on every link: u64 greatest number of a request that may
                                 come again, 0: none. No answer */
    SIGNAL_CLIENT_END = 22,   /* the client ends: its queries and answers are forgotten */
    SIGNAL_INFO = 23,         /* u64 version of the catalog that is known; 0: none */
    SIGNAL_INFO_REPLY = 24,   /* body: info.h */
    /* worker -> worker: two-phase commit */
    SIGNAL_PREPARE = 32,  /* u64 transaction id, then the participant's sections as a program */
    SIGNAL_PREPARED = 33, /* u16 err, u8 failed step, u64 prepare timestamp, outputs */
    SIGNAL_COMMIT = 34,   /* u64 commit timestamp */
    SIGNAL_COMMITTED = 35,
    SIGNAL_ABORT = 36,
    SIGNAL_ABORTED = 37,
    SIGNAL_TYPE_MAX = 63,
};

/* Where a signal comes from or goes to: worker w is endpoint w; client endpoints start at
 * ENDPOINT_CLIENT_FIRST. */
enum { ENDPOINT_CLIENT_FIRST = 1024, ENDPOINTS_MAX = 16384 };

struct signal_header {
    uint32_t size;    /* of header and body, bytes */
    uint16_t type;    /* enum signal_type */
    uint16_t version; /* SIGNAL_VERSION */
    uint32_t source;  /* endpoint */
    uint32_t destination;
    uint64_t request; /* chosen by the requester, echoed in replies: its sequence number */
    uint64_t client;  /* client id: with request, identifies a program for ever */
    uint64_t term;    /* of the partition (programs, moves), else 0 */
    uint64_t clock;   /* the sender's HLC, which the receiver's advances to */
    uint16_t partition;
    uint16_t err;      /* of replies */
    uint32_t reserved; /* 0 */
};
_Static_assert(sizeof(struct signal_header) == 56, "wire format");

/* Checks size against the bytes there, type, version, endpoints, err and reserved. ERR_BAD_SIGNAL.
 */
MUST_USE enum err signal_check(const struct signal_header *header, uint64_t size);

#endif
