/* Signals in memory, and the mailbox of an endpoint. Private to db/.
 *
 * A signal is one heap block with exactly one owner: its maker, then the mailbox, then the
 * receiving handler, which may answer in the same block. The mailbox takes signals from any thread
 * and gives them to one. */
#ifndef DB_NODE_MAILBOX_H
#define DB_NODE_MAILBOX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "db/wire/signal.h"

struct signal {
    struct signal *next; /* its owner's */
    uint32_t capacity;   /* bytes of body that the block has room for; at least SIGNAL_BODY_MIN */
    uint32_t reserved;
    struct signal_header header;
    uint8_t body[];
};

enum {
    SIGNAL_BODY_MIN = 56,
    SIGNAL_BODY_SIZE_MAX = SIGNAL_SIZE_MAX - sizeof(struct signal_header)
};

/* With room for body_size bytes (at most SIGNAL_BODY_SIZE_MAX); the header zeroed but for size and
 * version. NULL without memory or beyond the limit. */
struct signal *signal_create(uint32_t body_size);
void signal_destroy(struct signal *signal); /* NULL is allowed */
static inline uint32_t signal_body_size(const struct signal *signal)
{
    return signal->header.size - (uint32_t)sizeof(struct signal_header);
}

/* Many senders, one receiver, no locks: senders push on a stack by compare-and-swap, the receiver
 * takes the whole stack at once and reverses it, so the order of each sender is kept.
 *
 * Sleeping: the receiver announces it, looks once more, and only then sleeps; a sender that has
 * pushed looks at the announcement, and the first one to take it back writes to the descriptor.
 * With sequentially consistent accesses one of the two always sees the other, and a receiver that
 * is awake costs its senders no system call. */
struct mailbox {
    _Atomic(struct signal *) pushed; /* newest first */
    atomic_bool sleeping;
    atomic_uint count;    /* signals pushed and not yet handed out */
    int wake_fd;          /* eventfd; -1: nobody sleeps (simulator) */
    struct signal *taken; /* the receiver's: oldest first */
};

/* ERR_NO_MEMORY, ERR_BUSY (no descriptors left). */
MUST_USE enum err mailbox_init(struct mailbox *mailbox, bool with_fd);
/* Destroys what is in it. No sender may be left. */
void mailbox_fini(struct mailbox *mailbox);
/* Takes the signal. Any thread. */
void mailbox_push(struct mailbox *mailbox, struct signal *signal);
/* Wakes the receiver if it sleeps. Any thread. */
void mailbox_wake(struct mailbox *mailbox);
/* How many wait; a hint, for bounds. Any thread. */
unsigned mailbox_count(const struct mailbox *mailbox);

/* The receiver's: */
struct signal *mailbox_pop(struct mailbox *mailbox); /* NULL: empty */
bool mailbox_is_empty(const struct mailbox *mailbox);
/* After true the receiver may sleep on wake_fd; it then calls mailbox_awake. False: something has
 * arrived. */
bool mailbox_sleep(struct mailbox *mailbox);
/* Takes the announcement back. */
void mailbox_awake(struct mailbox *mailbox);
/* Empties the descriptor, when it was found readable. A sender that took the announcement back may
 * write later: then the next sleep is short. Not done at every awakening, because that would be a
 * system call per request. */
void mailbox_drain(struct mailbox *mailbox);

#endif
