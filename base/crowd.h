/* Whether more threads want to run than there are cores: then who looks for work instead of
 * sleeping keeps the core from the one whose work it waits for. */
#ifndef BASE_CROWD_H
#define BASE_CROWD_H

#include <stdbool.h>
#include <stdint.h>

/* One thread's. All zero is not valid: crowd_init. */
struct crowd {
    int fd;            /* of /proc/loadavg, or -1: nothing is known */
    int delay_fd;      /* of the thread's schedstat, or -1: not needed yet */
    uint64_t at_ns;    /* when they are to be read again */
    uint64_t read_ns;  /* when they were last read */
    uint64_t delay_ns; /* how long the thread had waited for a core by then, in all its life */
    bool was;          /* too many wanted to run then */
    bool crowded;
    uint32_t cores;
};

/* Without the kernel's count (no /proc) it is never crowded. */
void crowd_init(struct crowd *crowd);
/* Closes its descriptor; it is not crowded any more. Any number of times. */
void crowd_fini(struct crowd *crowd);
/* As of now_ns of the monotonic clock, or a tenth of a second ago at most. Always called by the
 * same thread, the one that would look. */
bool crowd_is_there(struct crowd *crowd, uint64_t now_ns);

#endif
