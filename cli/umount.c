/* `trellis umount`: unmounts, then waits until the serving process has written everything and freed
 * the store. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/serving.h"
#include "fuse/mount.h"

enum { END_WAIT_MS_MAX = 60000 };

int cli_umount(int argc, char **argv)
{
    static const struct option options[] = {{"lazy", no_argument, NULL, 'l'}, {0}};
    bool lazy = false;
    for (int option; (option = getopt_long(argc, argv, ":l", options, NULL)) != -1;) {
        if (option != 'l') return cli_usage("umount", "unknown option %s", argv[optind - 1]);
        lazy = true;
    }
    if (argc - optind != 1) return cli_usage("umount", "give one mountpoint");
    /* Known before, because the mount table forgets it. */
    pid_t pid = 0;
    int process = -1;
    if (serving_pid(argv[optind], &pid)) process = (int)syscall(SYS_pidfd_open, pid, 0);
    struct diag diag;
    enum err err = mount_detach_path(argv[optind], lazy, &diag);
    if (err) {
        if (process >= 0) (void)close(process);
        return cli_fail(err, "%s", diag.text);
    }
    if (process >= 0 && !lazy) {
        struct pollfd ended = {.fd = process, .events = POLLIN};
        if (poll(&ended, 1, END_WAIT_MS_MAX) == 0)
            (void)fprintf(stderr, "trellis: unmounted; process %d is still writing\n", (int)pid);
    }
    if (process >= 0) (void)close(process);
    return EXIT_OK;
}
