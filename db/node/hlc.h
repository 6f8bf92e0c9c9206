/* The hybrid logical clock (Kulkarni et al., 2014), in one word: nanoseconds of real time, pushed
 * ahead where order demands it. Every timestamp given out is greater than all given out or observed
 * before, so what a message causes has a later timestamp than what caused it, whatever the
 * machines' clocks say. One per worker and client; not shared between threads. */
#ifndef DB_NODE_HLC_H
#define DB_NODE_HLC_H

#include <stdbool.h>
#include <stdint.h>

struct hlc {
    uint64_t last; /* the greatest given out or observed */
};

/* How far ahead of our own clock and of real time another's may be before its message is refused: a
 * damaged timestamp must not push the clock to where nothing is greater. */
#define HLC_AHEAD_NS_MAX (UINT64_C(3600) * 1000000000u)

static inline uint64_t hlc_next(struct hlc *clock, uint64_t realtime_ns)
{
    clock->last = realtime_ns > clock->last ? realtime_ns : clock->last + 1;
    return clock->last;
}

static inline void hlc_observe(struct hlc *clock, uint64_t ts)
{
    if (ts > clock->last) clock->last = ts;
}

static inline bool hlc_is_plausible(const struct hlc *clock, uint64_t ts, uint64_t realtime_ns)
{
    uint64_t now = realtime_ns > clock->last ? realtime_ns : clock->last;
    return ts <= now || ts - now <= HLC_AHEAD_NS_MAX;
}

#endif
