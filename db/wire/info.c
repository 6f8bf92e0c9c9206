/* Codecs of greetings and of INFO_REPLY (layouts: info.h).
 *
 * A greeting is checked for its magic first and for its version next, so that a peer of another
 * version is told so rather than that it sent nonsense. Numbers that index something are checked
 * against the limits here; whether they fit this node or client is their user's to say. */
#include "db/wire/info.h"

#include <string.h>

enum { INFO_VERSION = 2 };
static const uint32_t magic_client = 0x434c5254; /* "TRLC" */
static const uint32_t magic_node = 0x4e4c5254;   /* "TRLN" */

void greeting_client_encode(const struct greeting_client *greeting,
                            uint8_t bytes[GREETING_CLIENT_SIZE])
{
    uint16_t version = GREETING_VERSION;
    memcpy(bytes, &magic_client, 4);
    memcpy(bytes + 4, &version, 2);
    memcpy(bytes + 6, &greeting->worker, 2);
    memcpy(bytes + 8, &greeting->client, 8);
}

/* The next 6 bytes: magic and version. */
static enum err check_head(struct reader *reader, uint32_t magic)
{
    uint32_t got = reader_u32(reader);
    uint16_t version = reader_u16(reader);
    if (reader->failed || got != magic) return ERR_BAD_SIGNAL;
    return version == GREETING_VERSION ? ERR_NONE : ERR_VERSION;
}

enum err greeting_client_decode(const void *bytes, size_t size,
                                struct greeting_client *ret_greeting)
{
    struct reader reader = reader_of(bytes, size);
    enum err err = check_head(&reader, magic_client);
    if (err) return err;
    struct greeting_client greeting = {.worker = reader_u16(&reader)};
    greeting.client = reader_u64(&reader);
    if (reader.failed || reader_left(&reader) || greeting.worker >= INFO_WORKERS_MAX ||
        !(greeting.client & CLIENT_REMOTE_BIT))
        return ERR_BAD_SIGNAL;
    *ret_greeting = greeting;
    return ERR_NONE;
}

void greeting_node_encode(const struct greeting_node *greeting, uint8_t bytes[GREETING_NODE_SIZE])
{
    uint16_t version = GREETING_VERSION;
    memset(bytes, 0, GREETING_NODE_SIZE);
    memcpy(bytes, &magic_node, 4);
    memcpy(bytes + 4, &version, 2);
    memcpy(bytes + 6, &greeting->worker, 2);
    memcpy(bytes + 8, &greeting->worker_count, 2);
    memcpy(bytes + 16, &greeting->life, 8);
    memcpy(bytes + 24, greeting->store_id, 16);
}

enum err greeting_node_decode(const void *bytes, size_t size, struct greeting_node *ret_greeting)
{
    struct reader reader = reader_of(bytes, size);
    enum err err = check_head(&reader, magic_node);
    if (err) return err;
    struct greeting_node greeting = {.worker = reader_u16(&reader)};
    greeting.worker_count = reader_u16(&reader);
    uint16_t zero = reader_u16(&reader);
    uint32_t zeros = reader_u32(&reader);
    greeting.life = reader_u64(&reader);
    const uint8_t *id = reader_take(&reader, sizeof(greeting.store_id));
    if (!id || reader_left(&reader) || zero || zeros || !greeting.life || !greeting.worker_count ||
        greeting.worker_count > INFO_WORKERS_MAX || greeting.worker >= greeting.worker_count)
        return ERR_BAD_SIGNAL;
    memcpy(greeting.store_id, id, sizeof(greeting.store_id));
    *ret_greeting = greeting;
    return ERR_NONE;
}

bool node_info_has_lost(const struct node_info *info, uint64_t life, uint64_t commit_ts)
{
    /* The cut after that life is the least of all that concern it. */
    for (unsigned i = 0; i < info->start_count; i++)
        if (info->starts[i].life == life)
            return i + 1u < info->start_count && commit_ts > info->starts[i + 1].cut;
    return true;
}

void node_info_encode(const struct node_info *info, const struct catalog *catalog, struct buf *buf)
{
    buf_put_u16(buf, INFO_VERSION);
    buf_put_u16(buf, info->worker_count);
    buf_put_u16(buf, info->partition_count);
    buf_put(buf, info->key, sizeof(info->key));
    buf_put_u64(buf, info->query_memory_max);
    buf_put_u64(buf, info->replayed_count);
    buf_put_u64(buf, info->dropped_count);
    buf_put_u8(buf, info->start_count);
    for (uint8_t i = 0; i < info->start_count; i++) {
        buf_put_u64(buf, info->starts[i].life);
        buf_put_u64(buf, info->starts[i].cut);
    }
    buf_put_u16(buf, (uint16_t)info->health);
    buf_put_bytes(buf, info->health_text, strnlen(info->health_text, DIAG_TEXT_SIZE_MAX - 1));
    buf_put_u8(buf, info->listener_count);
    for (uint8_t i = 0; i < info->listener_count; i++) {
        const struct info_listener *listener = &info->listeners[i];
        buf_put_u8(buf, listener->kind);
        buf_put_u8(buf, listener->tls);
        for (uint16_t w = 0; w < info->worker_count; w++)
            buf_put_u16(buf, listener->ports[w]);
    }
    buf_put_u64(buf, info->catalog_version);
    buf_put_u8(buf, catalog != NULL);
    if (catalog) catalog_encode(catalog, buf);
}

static bool is_power_of_two(uint32_t number)
{
    return number && !(number & (number - 1));
}

/* Cuts rise, as each recovery keeps what an earlier one has kept. */
static enum err decode_starts(struct reader *reader, struct node_info *info)
{
    info->start_count = reader_u8(reader);
    if (!info->start_count || info->start_count > INFO_STARTS_MAX) return ERR_BAD_SIGNAL;
    uint64_t cut = 0;
    for (uint8_t i = 0; i < info->start_count; i++) {
        struct info_start *start = &info->starts[i];
        start->life = reader_u64(reader);
        start->cut = reader_u64(reader);
        if (!start->life || start->cut < cut) return ERR_BAD_SIGNAL;
        cut = start->cut;
    }
    return reader->failed ? ERR_BAD_SIGNAL : ERR_NONE;
}

static enum err decode_health(struct reader *reader, struct node_info *info)
{
    uint16_t number = reader_u16(reader);
    size_t size = 0;
    const uint8_t *text = reader_bytes(reader, DIAG_TEXT_SIZE_MAX - 1, &size);
    if (!text || !err_is_known(number)) return ERR_BAD_SIGNAL;
    info->health = (enum err)number;
    memcpy(info->health_text, text, size);
    info->health_text[size] = 0;
    return ERR_NONE;
}

static enum err decode_listeners(struct reader *reader, struct node_info *info)
{
    info->listener_count = reader_u8(reader);
    if (info->listener_count > INFO_LISTENERS_MAX) return ERR_BAD_SIGNAL;
    for (uint8_t i = 0; i < info->listener_count; i++) {
        struct info_listener *listener = &info->listeners[i];
        listener->kind = reader_u8(reader);
        uint8_t tls = reader_u8(reader);
        if (tls > 1) return ERR_BAD_SIGNAL;
        listener->tls = tls;
        for (uint16_t w = 0; w < info->worker_count; w++)
            listener->ports[w] = reader_u16(reader);
    }
    return reader->failed ? ERR_BAD_SIGNAL : ERR_NONE;
}

static enum err decode_catalog(struct reader *reader, uint64_t version,
                               struct catalog **ret_catalog)
{
    uint8_t follows = reader_u8(reader);
    if (reader->failed || follows > 1) return ERR_BAD_SIGNAL;
    *ret_catalog = NULL;
    if (!follows) return reader_left(reader) ? ERR_BAD_SIGNAL : ERR_NONE;
    struct catalog *catalog;
    enum err err = catalog_decode(reader, &catalog);
    if (err) return err == ERR_CORRUPT ? ERR_BAD_SIGNAL : err;
    if (reader_left(reader) || catalog->version != version) {
        catalog_destroy(catalog);
        return ERR_BAD_SIGNAL;
    }
    *ret_catalog = catalog;
    return ERR_NONE;
}

enum err node_info_decode(const void *bytes, size_t size, struct node_info *ret_info,
                          struct catalog **ret_catalog)
{
    struct reader reader = reader_of(bytes, size);
    struct node_info info = {0};
    uint16_t version = reader_u16(&reader);
    if (!reader.failed && version != INFO_VERSION) return ERR_VERSION;
    info.worker_count = reader_u16(&reader);
    info.partition_count = reader_u16(&reader);
    const uint8_t *key = reader_take(&reader, sizeof(info.key));
    info.query_memory_max = reader_u64(&reader);
    info.replayed_count = reader_u64(&reader);
    info.dropped_count = reader_u64(&reader);
    if (reader.failed || !info.worker_count || info.worker_count > INFO_WORKERS_MAX ||
        !is_power_of_two(info.partition_count) || info.partition_count > PARTITIONS_MAX)
        return ERR_BAD_SIGNAL;
    memcpy(info.key, key, sizeof(info.key));
    enum err err = decode_starts(&reader, &info);
    if (!err) err = decode_health(&reader, &info);
    if (!err) err = decode_listeners(&reader, &info);
    if (err) return err;
    info.catalog_version = reader_u64(&reader);
    struct catalog *catalog;
    err = decode_catalog(&reader, info.catalog_version, &catalog);
    if (err) return err;
    *ret_info = info;
    *ret_catalog = catalog;
    return ERR_NONE;
}
