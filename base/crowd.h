/* Whether more threads want to run than there are cores: then who looks for work instead of
 * sleeping keeps the core from the one whose work it waits for. */
#ifndef BASE_CROWD_H
#define BASE_CROWD_H

#include <stdbool.h>
#include <stdint.h>

/* One thread's. All zero is not valid: crowd_init. */
struct crowd {
    int fd;         /* of /proc/loadavg, or -1: nothing is known */
    uint64_t at_ns; /* when it is to be read again */
    bool was;       /* when it was last read */
    bool crowded;
    uint32_t cores;
};

/* Without the kernel's count (no /proc) it is never crowded. */
void crowd_init(struct crowd *crowd);
/* Closes its descriptor; it is not crowded any more. Any number of times. */
void crowd_fini(struct crowd *crowd);
/* As of now_ns of the monotonic clock, or a tenth of a second ago at most. */
bool crowd_is_there(struct crowd *crowd, uint64_t now_ns);

#endif
