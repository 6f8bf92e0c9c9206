/* The kernel counts the runnable threads of the machine in /proc/loadavg. Reading it takes some
 * microseconds, so it is done every 100 ms at most; and as many threads run for moments only, it
 * takes two counts, 10 ms apart, to be believed.
 *
 * Counts alone would see a crowd where there is none: one thread more than there are cores, at work
 * for a moment at each of the two times (the kernel's own, that of a flush), takes nothing worth
 * mentioning from two that look. So this thread must have felt it too: the time that it waited for
 * a core between the counts, which the kernel adds up in its schedstat, was an eighth at least. Who
 * looks and is never kept waiting keeps nobody waiting either, as the scheduler lets all take
 * turns. A thread that sleeps instead is let in at once, and feels nothing: once there is a crowd,
 * it is there until the counts say otherwise. */
#include "base/crowd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    INTERVAL_NS = 100 * 1000 * 1000,
    AGAIN_NS = 10 * 1000 * 1000,
    DELAY_SHARE = 8, /* 1/8 of the time */
};

void crowd_init(struct crowd *crowd)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *crowd = (struct crowd){.fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC),
                            .delay_fd = -1,
                            .cores = cores > 0 ? (uint32_t)cores : 1};
}

void crowd_fini(struct crowd *crowd)
{
    if (crowd->fd >= 0) {
        close(crowd->fd);
        if (crowd->delay_fd >= 0) close(crowd->delay_fd);
    }
    *crowd = (struct crowd){.fd = -1, .delay_fd = -1};
}

/* The `number`-th field of a file of /proc, which begins with digits; 0: there is none. */
static uint64_t read_field(int fd, unsigned number)
{
    char text[128];
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    if (size <= 0) return 0;
    text[size] = '\0';
    const char *at = text;
    for (unsigned i = 1; i < number && at; i++) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    return at ? strtoull(at, NULL, 10) : 0;
}

/* RUNNABLE/ALL, this thread included. */
static bool has_many(const struct crowd *crowd)
{
    return read_field(crowd->fd, 4) > crowd->cores;
}

/* Whether this thread was kept waiting since it was last asked; without the kernel's word it was.
 */
static bool was_delayed(struct crowd *crowd, uint64_t now_ns)
{
    if (crowd->delay_fd < 0)
        crowd->delay_fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (crowd->delay_fd < 0) return true;
    uint64_t delay_ns = read_field(crowd->delay_fd, 2);
    uint64_t more = delay_ns - crowd->delay_ns;
    crowd->delay_ns = delay_ns;
    return !delay_ns || more >= (now_ns - crowd->read_ns) / DELAY_SHARE;
}

bool crowd_is_there(struct crowd *crowd, uint64_t now_ns)
{
    if (crowd->fd < 0 || now_ns < crowd->at_ns) return crowd->crowded;
    bool now = has_many(crowd);
    bool again = now && !crowd->was;
    bool delayed = now && was_delayed(crowd, now_ns);
    crowd->crowded = now && crowd->was && (crowd->crowded || delayed);
    crowd->was = now;
    crowd->read_ns = now_ns;
    crowd->at_ns = now_ns + (again ? AGAIN_NS : INTERVAL_NS);
    return crowd->crowded;
}
