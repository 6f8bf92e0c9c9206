/* The kernel counts the runnable threads of the machine in /proc/loadavg. Reading it takes some
 * microseconds, so it is done every 100 ms at most; and as many threads run for moments only, it
 * takes two counts, 10 ms apart, to be believed. */
#include "base/crowd.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INTERVAL_NS = 100 * 1000 * 1000, AGAIN_NS = 10 * 1000 * 1000 };

void crowd_init(struct crowd *crowd)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    *crowd = (struct crowd){.fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC),
                            .cores = cores > 0 ? (uint32_t)cores : 1};
}

void crowd_fini(struct crowd *crowd)
{
    if (crowd->fd >= 0) close(crowd->fd);
    *crowd = (struct crowd){.fd = -1};
}

/* The fourth field is RUNNABLE/ALL, this thread included. */
static bool is_crowded(const struct crowd *crowd)
{
    char text[128];
    ssize_t size = pread(crowd->fd, text, sizeof(text) - 1, 0);
    if (size <= 0) return false;
    text[size] = '\0';
    const char *at = text;
    for (unsigned i = 0; i < 3 && at; i++) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    return at && strtoul(at, NULL, 10) > crowd->cores;
}

bool crowd_is_there(struct crowd *crowd, uint64_t now_ns)
{
    if (crowd->fd < 0 || now_ns < crowd->at_ns) return crowd->crowded;
    bool now = is_crowded(crowd);
    bool again = now && !crowd->was;
    crowd->crowded = now && crowd->was;
    crowd->was = now;
    crowd->at_ns = now_ns + (again ? AGAIN_NS : INTERVAL_NS);
    return crowd->crowded;
}
