/* Loading a checkpoint: every byte is checked (checkpoint_format.c) before a row is made of it. Any
 * thread that owns the partition; reads are sequential, in pieces of a megabyte, so the kernel
 * reads ahead while we decode. */
#include <inttypes.h>
#include <lz4.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "db/ldm/checkpoint_format.h"

struct load {
    struct store_window window;
    struct partition *partition;
    struct diag *diag;
    uint64_t offset; /* of the next block */
    uint64_t chain;
    uint64_t block_count;
    uint64_t row_count;
    struct buf raw;
    uint32_t tables[SCHEMA_TABLES_MAX]; /* that got rows */
    uint32_t table_count;
    char path[STORE_PATH_SIZE];
};

static enum err header_load(struct load *load, const uint8_t *id, uint64_t ts)
{
    const uint8_t *bytes;
    size_t size;
    enum err err =
        store_window_get(&load->window, 0, CHECKPOINT_HEADER_SIZE, &bytes, &size, load->diag);
    if (err) return err;
    struct reader in = reader_of(bytes, size);
    const uint8_t *body;
    size_t body_size;
    err = store_frame_get(&in, STORE_CHECKPOINT, id, load->path, 0, &body, &body_size, load->diag);
    if (err) return err;
    if (body_size != CHECKPOINT_HEADER_SIZE - STORE_FRAME_SIZE)
        return store_damaged(load->diag, load->path, STORE_FRAME_SIZE, "the header is malformed");
    in = reader_of(body, body_size);
    uint64_t file_ts = reader_u64(&in);
    reader_u64(&in); /* the catalog's version: for people who look into the file */
    uint16_t partition = reader_u16(&in);
    if (file_ts != ts || partition != partition_number(load->partition))
        return store_damaged(load->diag, load->path, STORE_FRAME_SIZE,
                             "the file is checkpoint %u.%" PRIu64 " under another name",
                             (unsigned)partition, file_ts);
    load->chain = store_frame_checksum(bytes);
    load->offset = CHECKPOINT_HEADER_SIZE;
    return ERR_NONE;
}

/* The next block's head and stored bytes, which are borrowed; moves on behind it. */
static enum err block_get(struct load *load, struct block_head *ret_head,
                          const uint8_t **ret_stored)
{
    const uint8_t *bytes;
    size_t size;
    enum err err =
        store_window_get(&load->window, load->offset, BLOCK_HEAD_SIZE, &bytes, &size, load->diag);
    if (err) return err;
    if (size < BLOCK_HEAD_SIZE)
        return store_damaged(load->diag, load->path, load->offset + size,
                             "the file ends before its end block");
    uint64_t chain = hash_checksum(bytes, 32, load->chain + load->offset);
    struct reader in = reader_of(bytes, BLOCK_HEAD_SIZE);
    struct block_head head = {.kind = reader_u8(&in)};
    head.codec = reader_u8(&in);
    uint16_t zero = reader_u16(&in);
    head.table_id = reader_u32(&in);
    head.table_version = reader_u32(&in);
    head.row_count = reader_u32(&in);
    head.raw_size = reader_u32(&in);
    head.stored_size = reader_u32(&in);
    uint64_t body_sum = reader_u64(&in);
    if (reader_u64(&in) != chain)
        return store_damaged(load->diag, load->path, load->offset,
                             "the checksum of a block's head does not match");
    if (zero || (head.kind != BLOCK_ROWS && head.kind != BLOCK_END) ||
        (head.codec != BLOCK_PLAIN && head.codec != BLOCK_LZ4) ||
        head.raw_size > BLOCK_RAW_SIZE_MAX || head.stored_size > BLOCK_RAW_SIZE_MAX)
        return store_damaged(load->diag, load->path, load->offset, "a block's head is malformed");
    size_t padded = ((size_t)head.stored_size + BLOCK_ALIGN - 1) & ~(size_t)(BLOCK_ALIGN - 1);
    if (padded > load->window.file_size - load->offset - BLOCK_HEAD_SIZE)
        return store_damaged(load->diag, load->path, load->offset, "the file ends within a block");
    err = store_window_get(&load->window, load->offset, BLOCK_HEAD_SIZE + padded, &bytes, &size,
                           load->diag);
    if (err) return err;
    if (size < BLOCK_HEAD_SIZE + padded)
        return store_damaged(load->diag, load->path, load->offset, "the file ends within a block");
    if (hash_checksum(bytes + BLOCK_HEAD_SIZE, padded, 0) != body_sum)
        return store_damaged(load->diag, load->path, load->offset + BLOCK_HEAD_SIZE,
                             "the checksum of a block's %u bytes does not match", head.stored_size);
    *ret_stored = bytes + BLOCK_HEAD_SIZE;
    *ret_head = head;
    load->chain = chain;
    load->offset += BLOCK_HEAD_SIZE + padded;
    return ERR_NONE;
}

static enum err table_note(struct load *load, uint32_t table_id, uint64_t at)
{
    for (uint32_t i = 0; i < load->table_count; i++)
        if (load->tables[i] == table_id) return ERR_NONE;
    if (load->table_count == SCHEMA_TABLES_MAX)
        return store_damaged(load->diag, load->path, at, "too many tables");
    load->tables[load->table_count++] = table_id;
    return ERR_NONE;
}

static enum err block_decompress(struct load *load, const struct block_head *head,
                                 const uint8_t *stored, uint64_t at, struct reader *ret_reader)
{
    if (head->codec == BLOCK_PLAIN) {
        if (head->stored_size != head->raw_size)
            return store_damaged(load->diag, load->path, at, "a plain block's sizes differ");
        *ret_reader = reader_of(stored, head->raw_size);
        return ERR_NONE;
    }
    buf_clear(&load->raw);
    uint8_t *raw = buf_add(&load->raw, head->raw_size);
    if (!raw) return store_failed(load->diag, ERR_NO_MEMORY, load->path);
    int size = LZ4_decompress_safe((const char *)stored, (char *)raw, (int)head->stored_size,
                                   (int)head->raw_size);
    if (size < 0 || (uint32_t)size != head->raw_size)
        return store_damaged(load->diag, load->path, at, "a block does not decompress");
    *ret_reader = reader_of(raw, head->raw_size);
    return ERR_NONE;
}

static enum err rows_load(struct load *load, const struct block_head *head, const uint8_t *stored,
                          uint64_t at)
{
    load->block_count++;
    load->row_count += head->row_count;
    struct fragment *fragment = partition_fragment(load->partition, head->table_id);
    if (!fragment) return ERR_NONE; /* dropped since */
    struct reader reader;
    enum err err = block_decompress(load, head, stored, at, &reader);
    if (!err) err = table_note(load, head->table_id, at);
    if (err) return err;
    while (reader_left(&reader)) {
        size_t left = reader_left(&reader);
        err = fragment_page_load(fragment, &reader);
        if (!err && reader_left(&reader) == left) err = ERR_CORRUPT;
        if (err == ERR_CORRUPT)
            return store_damaged(load->diag, load->path, at,
                                 "the rows of table %" PRIu32 " are malformed", head->table_id);
        if (err) return store_failed(load->diag, err, load->path);
    }
    return ERR_NONE;
}

static enum err end_load(struct load *load, const struct block_head *head, const uint8_t *stored,
                         uint64_t at)
{
    bool sane = head->codec == BLOCK_PLAIN && head->stored_size == BLOCK_END_SIZE;
    struct reader in = reader_of(stored, head->stored_size);
    sane = sane && reader_u64(&in) == load->block_count;
    sane = sane && reader_u64(&in) == load->row_count;
    sane = sane && reader_u64(&in) == load->offset;
    if (!sane) return store_damaged(load->diag, load->path, at, "the end block's counts differ");
    if (load->offset != load->window.file_size)
        return store_damaged(load->diag, load->path, load->offset, "bytes follow the end block");
    return ERR_NONE;
}

static enum err blocks_load(struct load *load, void (*progress)(void *context, uint64_t size),
                            void *context)
{
    for (;;) {
        uint64_t at = load->offset;
        struct block_head head = {0};
        const uint8_t *stored = NULL;
        enum err err = block_get(load, &head, &stored);
        if (err) return err;
        if (head.kind == BLOCK_END) return end_load(load, &head, stored, at);
        err = rows_load(load, &head, stored, at);
        if (err) return err;
        if (progress) progress(context, load->offset - at);
    }
}

enum err checkpoint_load(struct env *env, const uint8_t id[STORE_ID_SIZE],
                         struct partition *partition, uint64_t ts,
                         void (*progress)(void *context, uint64_t size), void *context,
                         struct diag *diag)
{
    struct load *load = calloc(1, sizeof(*load));
    if (!load) return diag_set(diag, ERR_NO_MEMORY, "no memory to load checkpoints");
    load->partition = partition;
    load->diag = diag;
    store_checkpoint_path(partition_number(partition), ts, false, load->path);
    enum err err = store_window_open(&load->window, env, load->path, diag);
    if (err == ERR_NOT_FOUND) err = store_failed(diag, err, load->path);
    if (err) goto free_load;
    err = header_load(load, id, ts);
    if (!err) err = blocks_load(load, progress, context);
    for (uint32_t i = 0; !err && i < load->table_count; i++) {
        err = fragment_load_end(partition_fragment(partition, load->tables[i]));
        if (err == ERR_CORRUPT)
            err =
                store_damaged(diag, load->path, CHECKPOINT_HEADER_SIZE,
                              "table %" PRIu32 " has two rows with the same key", load->tables[i]);
        else if (err)
            err = store_failed(diag, err, load->path);
    }
    store_window_close(&load->window);
    buf_fini(&load->raw);

free_load:
    free(load);
    return err;
}
