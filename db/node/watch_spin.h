/* Whether to look at a watched descriptor a little longer before sleeping. Private to db/node. */
#ifndef DB_NODE_WATCH_SPIN_H
#define DB_NODE_WATCH_SPIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/crowd.h"

struct watch_spin {
    uint64_t begin_ns; /* of the spin that is under way; 0: none is */
    uint64_t until_ns; /* there is none before */
    uint64_t pause_ns; /* how long there will be none when credit is used up again */
    int32_t credit;
    bool armed; /* something was found since the last spin */
    struct crowd crowd;
};

/* Takes the machine for never crowded until crowd_init(&spin->crowd), which the thread that spins
 * calls, and crowd_fini. */
void watch_spin_init(struct watch_spin *spin);
/* Something was found by a look (or by a wake-up) at now_ns. */
void watch_spin_found(struct watch_spin *spin, uint64_t now_ns);
/* There is nothing at now_ns: look again at once (true), or sleep? */
bool watch_spin_again(struct watch_spin *spin, uint64_t now_ns);

#endif
