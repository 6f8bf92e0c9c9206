/* Loops: threads of a process that uses a database in another process, in place of an embedded
 * one's workers. A loop calls back watches and posted functions, and has a channel that the clients
 * on it share. Private to db/api. */
#ifndef DB_API_LOOP_H
#define DB_API_LOOP_H

#include <stdbool.h>

#include "db/api/channel.h"

struct db_client;
struct loop;

MUST_USE enum err loop_create(struct remote *remote, uint16_t index, struct loop **ret_loop,
                              struct diag *diag);
/* Ends the thread. Its clients were destroyed before. NULL is allowed. */
void loop_destroy(struct loop *loop);

/* Any thread. ERR_NO_MEMORY, ERR_IO. */
MUST_USE enum err loop_post(struct loop *loop, void (*fn)(void *context), void *context);
MUST_USE enum err loop_watch(struct loop *loop, struct db_watch *watch);

/* On its thread: */
bool loop_is_own_thread(const struct loop *loop);
struct channel *loop_channel(struct loop *loop);
void loop_join(struct loop *loop, struct db_client *client);
void loop_leave(struct loop *loop, struct db_client *client);

#endif
