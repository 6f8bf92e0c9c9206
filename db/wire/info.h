/* What a client over links and a node tell each other about themselves: the greetings of a link,
 * and the answer to SIGNAL_INFO.
 *
 * Greetings travel within the transporter's handshake, so they are authenticated before a byte of
 * them is looked at:
 *
 *   client's   u32 magic, u16 version, u16 worker that it wants, u64 client id
 *   node's     u32 magic, u16 version, u16 worker, u16 worker count, u16 0, u32 0, u64 life,
 *              16 bytes store id
 *
 * INFO_REPLY   u16 version, u16 worker count, u16 partition count, 16 bytes store key,
 *              u64 query memory limit, u64 replayed, u64 dropped, u8 start count and each: u64
 *              life, u64 cut; u16 health, its reason (varint size, bytes), u8 listener count and
 *              each: u8 kind, u8 tls, u16 port of every worker; u64 catalog version, u8 whether the
 *              encoded catalog follows */
#ifndef DB_WIRE_INFO_H
#define DB_WIRE_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "base/err.h"
#include "db/wire/schema.h"

enum {
    GREETING_VERSION = 2, /* of all that follows on the link, too */
    GREETING_CLIENT_SIZE = 16,
    GREETING_NODE_SIZE = 40,
    INFO_WORKERS_MAX = 64,
    INFO_LISTENERS_MAX = 8,
    INFO_STARTS_MAX = 128,
};

/* Client ids of clients over links have it set, those that a node gives to its own have not. */
#define CLIENT_REMOTE_BIT (UINT64_C(1) << 63)

struct greeting_client {
    uint16_t worker;
    uint64_t client;
};
void greeting_client_encode(const struct greeting_client *greeting,
                            uint8_t bytes[GREETING_CLIENT_SIZE]);
/* ERR_BAD_SIGNAL, ERR_VERSION. */
MUST_USE enum err greeting_client_decode(const void *bytes, size_t size,
                                         struct greeting_client *ret_greeting);

struct greeting_node {
    uint16_t worker;
    uint16_t worker_count;
    uint64_t life; /* random, of this start of the node; not 0 */
    uint8_t store_id[16];
};
void greeting_node_encode(const struct greeting_node *greeting, uint8_t bytes[GREETING_NODE_SIZE]);
MUST_USE enum err greeting_node_decode(const void *bytes, size_t size,
                                       struct greeting_node *ret_greeting);

struct info_listener {
    uint8_t kind; /* enum link_kind, of those that have ports */
    bool tls;
    uint16_t ports[INFO_WORKERS_MAX]; /* of each worker */
};

/* A start of the node: its recovery kept, of what lives before it had done, every transaction up to
 * the cut, and no other. */
struct info_start {
    uint64_t life;
    uint64_t cut;
};

struct node_info {
    uint16_t worker_count;
    uint16_t partition_count;
    uint8_t key[16];
    uint64_t query_memory_max;
    uint64_t replayed_count;
    uint64_t dropped_count;
    uint8_t start_count;                       /* at least 1 */
    struct info_start starts[INFO_STARTS_MAX]; /* the latest, in order; the last is this life */
    enum err health;
    char health_text[DIAG_TEXT_SIZE_MAX];
    uint8_t listener_count;
    struct info_listener listeners[INFO_LISTENERS_MAX];
    uint64_t catalog_version;
};

static inline uint64_t node_info_life(const struct node_info *info)
{
    return info->starts[info->start_count - 1].life;
}
/* Was a change that this life had acknowledged, with that commit timestamp, lost at the next start?
 * True, too, when the starts that are told of do not reach back so far. */
bool node_info_has_lost(const struct node_info *info, uint64_t life, uint64_t commit_ts);
/* With the catalog when that is not NULL. */
void node_info_encode(const struct node_info *info, const struct catalog *catalog, struct buf *buf);
/* *ret_catalog is NULL when the reply has none, else the caller's. ERR_BAD_SIGNAL, ERR_VERSION,
 * ERR_NO_MEMORY. */
MUST_USE enum err node_info_decode(const void *bytes, size_t size, struct node_info *ret_info,
                                   struct catalog **ret_catalog);

#endif
