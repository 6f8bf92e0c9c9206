/* What a worker remembers of clients over links, so that each of their changes is done once,
 * however often a request arrives: which are under way, and the answers of the latest. Private to
 * db/node.
 *
 * A session begins when a client id is first seen and outlives the links of its client. It has the
 * answer of every change that was answered, up to limits; beyond them the oldest go, and
 * `forgotten` remembers up to which request number an unknown one may have been done. */
#ifndef DB_NODE_SESSION_H
#define DB_NODE_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "db/node/mailbox.h"

struct link;
struct endpoint;
struct answer;

enum {
    SESSION_BUCKETS = 256,
    SESSION_ANSWERS_MAX = 4096,
    SESSION_ANSWER_BYTES_MAX = 4 << 20,
    SESSION_UNDER_WAY_MAX = 16384,
    SESSIONS_GONE_MAX = 1024,
    SESSIONS_GONE_BYTES_MAX = 64 << 20,
};
#define SESSION_GONE_NS_MAX (UINT64_C(600) * 1000000000u)

struct session {
    struct session *next; /* of its bucket */
    uint64_t client;
    /* links.c: */
    struct link *link;         /* NULL: gone */
    struct endpoint *endpoint; /* NULL: closed */
    bool introduced;           /* the link's first signal was here */
    bool ended;                /* the client said that it ends */
    bool fresh;                /* no SESSION_OPEN was seen yet: forgotten is still to be learnt */

    uint32_t under_way;
    uint32_t answer_count; /* answered ones */
    uint64_t answer_bytes;
    uint64_t forgotten;      /* requests up to this one that are not known may have been done */
    struct answer **buckets; /* by request; NULL: none yet */
    uint32_t bucket_count;
    uint32_t entry_count;
    struct answer *oldest; /* answered, in the order of their answers */
    struct answer *newest;

    uint64_t gone_ns; /* of a gone one: since when */
    struct session *gone_newer;
    struct session *gone_older;
};

/* Of one worker; on its thread. */
struct sessions {
    struct session *buckets[SESSION_BUCKETS];
    uint32_t count;
    uint32_t gone_count;
    uint64_t gone_bytes;
    struct session *gone_oldest;
    struct session *gone_newest;
};

void sessions_init(struct sessions *sessions);
void sessions_fini(struct sessions *sessions);
/* The client's session, which is made when there is none (fresh is set then); no longer gone.
 * ERR_NO_MEMORY. */
MUST_USE enum err session_acquire(struct sessions *sessions, uint64_t client,
                                  struct session **ret_session);
/* The client has no link any more: its session may be dropped from now on, when it is old, when
 * there are too many, or at once when the client has ended; but not while something is under way.
 */
void session_gone(struct sessions *sessions, struct session *session, uint64_t now_ns);
/* Drops what is due. Monotonic time of the next; UINT64_MAX: none is. */
uint64_t sessions_expire(struct sessions *sessions, uint64_t now_ns);

enum session_verdict {
    SESSION_RUN,     /* it is under way now: session_answered or session_refused ends that */
    SESSION_WAIT,    /* it is under way already: its answer will come */
    SESSION_ANSWER,  /* it was done: here is its answer */
    SESSION_UNKNOWN, /* it may have been done, and what came of it is forgotten */
    SESSION_FULL,    /* too many are under way, or no memory: not taken */
};
/* A change has arrived; `again`: under the number of one that was sent before. *ret_answer is
 * borrowed until the next call, of SESSION_ANSWER only. */
enum session_verdict session_request(struct session *session, uint64_t request, bool again,
                                     const struct signal_header **ret_answer);
/* The answer of a request: header and body in one piece, header.size bytes. False: none is under
 * way under its number. `keep`: something was or may have been changed. */
bool session_answered(struct session *session, const struct signal_header *answer, bool keep);

#endif
