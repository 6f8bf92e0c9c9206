/* Who serves the file system of a database: one metadata server at a time. Private to metadata/.
 */
#ifndef METADATA_LEASE_H
#define METADATA_LEASE_H

#include "metadata/client.h"

struct lease;

/* Becomes the one that serves. Embedded (the database is in this process): at once, whoever did
 * before. Shared: unless another does, which may take ten seconds to find out; afterwards every
 * program of fs->lease's clients has a guard that it still is this one. ERR_IN_USE with who it is.
 */
MUST_USE enum err lease_acquire(struct fs_client *client, const struct fs_config *config,
                                struct diag *diag);
/* Ends the renewals. */
void lease_stop(struct fs *fs);
/* Gives it back, durably after the next flush: another server may start at once. No object can be
 * changed any more, even if it fails. After lease_stop, before lease_destroy. */
MUST_USE enum err lease_release(struct fs_client *client);
void lease_destroy(struct fs *fs);
/* Whether the process of this machine, and of this namespace of process numbers, that was started
 * then (in clock ticks since the boot) is known to have ended. False when that cannot be learnt. */
bool lease_process_is_gone(long process, unsigned long long started);

/* ---- of a shared one (fs->lease is not NULL) ---- */

/* Appends the guard to the open section of a program, as its last step; `partition` is the number
 * of the section's partition. */
void lease_guard(struct fs_client *client, struct program *program, struct operand partition);
/* ERR_EIO: another server took over, or the database lost changes that were acknowledged; nothing
 * can be done any more. ERR_TIMEOUT: it cannot be reached, which was tried for the whole of
 * the time limit. */
MUST_USE enum err lease_check(struct fs *fs);
/* The outcome of a guarded program: notes that the guard failed. */
enum err lease_outcome(struct fs *fs, enum err err);
/* Waits until it is known that no other can have taken over yet, so that objects may be changed:
 * what is on disk has no guard. ERR_EIO when that cannot be learnt in time. Not on a worker. */
MUST_USE enum err lease_wait(struct fs *fs);

#endif
