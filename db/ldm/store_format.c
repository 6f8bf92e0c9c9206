/* What the files of a store have in common.
 *
 * Every file begins with a frame (store_format.h). The small ones (superblock, catalog, history)
 * are one frame and nothing else, and are only ever replaced whole: written under a temporary name,
 * synced, renamed, the directory synced. So a small file that does not check is damage, never a
 * torn write.
 *
 * Checksums of the frame are seeded with its magic, so that one kind of file cannot pass for
 * another. */
#include "db/ldm/store_format.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum {
    FRAME_VERSION_AT = 8,
    FRAME_BODY_SIZE_AT = 12,
    FRAME_ID_AT = 16,
    FRAME_BODY_SUM_AT = 32,
    FRAME_HEAD_SUM_AT = 40,
    WINDOW_SIZE = 1 << 20,
};
static_assert(FRAME_HEAD_SUM_AT + sizeof(uint64_t) == STORE_FRAME_SIZE, "disk format");

static const char magics[][8] = {
    [STORE_SUPERBLOCK] = "trlstore",  [STORE_CATALOG] = "trlcatal",
    [STORE_HISTORY] = "trlhisto",     [STORE_SEGMENT] = "trlredo ",
    [STORE_SEGMENT_END] = "trlclose", [STORE_CHECKPOINT] = "trlcheck",
};

static uint64_t load_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint32_t load_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t magic_seed(enum store_kind kind)
{
    return load_u64((const uint8_t *)magics[kind]);
}

void store_frame_put(struct buf *buf, enum store_kind kind, const uint8_t id[STORE_ID_SIZE],
                     const void *body, size_t body_size)
{
    ASSERT(body_size <= STORE_BODY_SIZE_MAX);
    uint64_t seed = magic_seed(kind);
    uint8_t *head = buf_add(buf, STORE_FRAME_SIZE);
    if (!head) return;
    memcpy(head, magics[kind], sizeof(magics[kind]));
    uint32_t version = STORE_FORMAT_VERSION;
    memcpy(head + FRAME_VERSION_AT, &version, sizeof(version));
    uint32_t size = (uint32_t)body_size;
    memcpy(head + FRAME_BODY_SIZE_AT, &size, sizeof(size));
    memcpy(head + FRAME_ID_AT, id, STORE_ID_SIZE);
    uint64_t sum = hash_checksum(body, body_size, seed);
    memcpy(head + FRAME_BODY_SUM_AT, &sum, sizeof(sum));
    sum = hash_checksum(head, FRAME_HEAD_SUM_AT, seed);
    memcpy(head + FRAME_HEAD_SUM_AT, &sum, sizeof(sum));
    buf_put(buf, body, body_size);
}

enum err store_frame_get(struct reader *reader, enum store_kind kind, const uint8_t *id,
                         const char *path, uint64_t offset, const uint8_t **ret_body,
                         size_t *ret_size, struct diag *diag)
{
    uint64_t seed = magic_seed(kind);
    const uint8_t *head = reader_take(reader, STORE_FRAME_SIZE);
    if (!head) return store_damaged(diag, path, offset, "the file ends within its header");
    if (memcmp(head, magics[kind], sizeof(magics[kind])) != 0)
        return store_damaged(diag, path, offset, "the magic number is wrong");
    if (hash_checksum(head, FRAME_HEAD_SUM_AT, seed) != load_u64(head + FRAME_HEAD_SUM_AT))
        return store_damaged(diag, path, offset, "the header's checksum does not match");
    uint32_t version = load_u32(head + FRAME_VERSION_AT);
    if (version > STORE_FORMAT_VERSION)
        return diag_set(diag, ERR_VERSION,
                        "%s: format version %" PRIu32 " is newer than this program's %d", path,
                        version, STORE_FORMAT_VERSION);
    if (version == 0) return store_damaged(diag, path, offset, "format version 0");
    if (id && memcmp(head + FRAME_ID_AT, id, STORE_ID_SIZE) != 0)
        return store_damaged(diag, path, offset + FRAME_ID_AT, "the file is of another store");
    uint32_t size = load_u32(head + FRAME_BODY_SIZE_AT);
    const uint8_t *body = size <= STORE_BODY_SIZE_MAX ? reader_take(reader, size) : NULL;
    if (!body)
        return store_damaged(diag, path, offset + FRAME_BODY_SIZE_AT,
                             "the file ends before its %" PRIu32 " bytes of content", size);
    if (hash_checksum(body, size, seed) != load_u64(head + FRAME_BODY_SUM_AT))
        return store_damaged(diag, path, offset + STORE_FRAME_SIZE,
                             "the checksum of %" PRIu32 " bytes does not match", size);
    *ret_body = body;
    *ret_size = size;
    return ERR_NONE;
}

const uint8_t *store_frame_id(const uint8_t *frame)
{
    return frame + FRAME_ID_AT;
}

uint64_t store_frame_checksum(const uint8_t *frame)
{
    return load_u64(frame + FRAME_HEAD_SUM_AT);
}

enum err store_damaged(struct diag *diag, const char *path, uint64_t offset, const char *format,
                       ...)
{
    char reason[DIAG_TEXT_SIZE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    return diag_set(diag, ERR_CORRUPT, "%s: offset %" PRIu64 ": %s", path, offset, reason);
}

enum err store_failed(struct diag *diag, enum err err, const char *path)
{
    return diag_set(diag, err, "%s: %s", path, err_text(err));
}

enum err store_file_read(struct env *env, const char *path, uint64_t size_max, struct buf *buf,
                         struct diag *diag)
{
    struct env_file *file;
    enum err err = env->ops->file_open(env, path, ENV_OPEN_READ, &file);
    if (err == ERR_NOT_FOUND) return err;
    if (err) return store_failed(diag, err, path);
    uint64_t size;
    err = env->ops->file_size(file, &size);
    if (err) goto close_file;
    if (size > size_max) {
        err = ERR_TOO_BIG;
        goto close_file;
    }
    uint8_t *bytes = buf_add(buf, (size_t)size);
    if (!bytes && size) {
        err = ERR_NO_MEMORY;
        goto close_file;
    }
    size_t read = 0;
    err = env->ops->file_read(file, bytes, (size_t)size, 0, &read);
    /* Shorter than its size: the checks of the content will say where it ends. */
    if (!err) buf->size = read;

close_file:
    env->ops->file_close(file);
    return err ? store_failed(diag, err, path) : ERR_NONE;
}

enum err store_window_open(struct store_window *window, struct env *env, const char *path,
                           struct diag *diag)
{
    *window = (struct store_window){.env = env, .path = path};
    enum err err = env->ops->file_open(env, path, ENV_OPEN_READ, &window->file);
    if (err == ERR_NOT_FOUND) return err;
    if (err) return store_failed(diag, err, path);
    err = env->ops->file_size(window->file, &window->file_size);
    if (err) {
        env->ops->file_close(window->file);
        return store_failed(diag, err, path);
    }
    return ERR_NONE;
}

void store_window_close(struct store_window *window)
{
    window->env->ops->file_close(window->file);
    free(window->bytes);
}

static enum err window_fill(struct store_window *window, uint64_t offset, size_t size)
{
    uint64_t left = offset < window->file_size ? window->file_size - offset : 0;
    size_t wanted = left < WINDOW_SIZE ? (size_t)left : WINDOW_SIZE;
    if (wanted < size) wanted = size;
    window->size = 0;
    if (wanted > window->capacity) {
        free(window->bytes);
        window->capacity = 0;
        window->bytes = malloc(wanted);
        if (!window->bytes) return ERR_NO_MEMORY;
        window->capacity = wanted;
    }
    size_t read;
    enum err err =
        window->env->ops->file_read(window->file, window->bytes, window->capacity, offset, &read);
    if (err) return err;
    window->at = offset;
    window->size = read;
    return ERR_NONE;
}

enum err store_window_get(struct store_window *window, uint64_t offset, size_t size,
                          const uint8_t **ret_bytes, size_t *ret_size, struct diag *diag)
{
    bool inside = offset >= window->at && offset - window->at <= window->size &&
                  window->size - (size_t)(offset - window->at) >= size;
    if (!inside) {
        enum err err = window_fill(window, offset, size);
        if (err) return store_failed(diag, err, window->path);
    }
    size_t left = window->size - (size_t)(offset - window->at);
    *ret_bytes = window->bytes + (offset - window->at);
    *ret_size = left < size ? left : size;
    return ERR_NONE;
}

static enum err file_write_new(struct env *env, const char *path, const struct buf *bytes)
{
    struct env_file *file;
    enum err err =
        env->ops->file_open(env, path, ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_TRUNCATE, &file);
    if (err) return err;
    err = env->ops->file_write(file, bytes->bytes, bytes->size, 0);
    if (!err) err = env->ops->file_sync(file);
    env->ops->file_close(file);
    return err;
}

enum err store_file_replace(struct env *env, const char *dir, const char *path,
                            const struct buf *bytes, bool *ret_renamed, struct diag *diag)
{
    if (ret_renamed) *ret_renamed = false;
    if (bytes->failed) return store_failed(diag, ERR_NO_MEMORY, path);
    char temporary[STORE_PATH_SIZE];
    int size = snprintf(temporary, sizeof(temporary), "%s.tmp", path);
    ASSERT(size > 0 && (size_t)size < sizeof(temporary));
    enum err err = file_write_new(env, temporary, bytes);
    if (!err) err = env->ops->rename(env, temporary, path);
    if (err) {
        /* Whatever becomes of it: the next replacement starts the file over. */
        (void)!env->ops->remove(env, temporary);
        return store_failed(diag, err, path);
    }
    if (ret_renamed) *ret_renamed = true;
    err = env->ops->dir_sync(env, dir);
    return err ? store_failed(diag, err, path) : ERR_NONE;
}

void store_segment_path(uint16_t worker, uint64_t number, char path[STORE_PATH_SIZE])
{
    snprintf(path, STORE_PATH_SIZE, "redo/%u.%" PRIu64, (unsigned)worker, number);
}

void store_checkpoint_path(uint16_t partition, uint64_t ts, bool temporary,
                           char path[STORE_PATH_SIZE])
{
    snprintf(path, STORE_PATH_SIZE, "checkpoint/%u.%" PRIu64 "%s", (unsigned)partition, ts,
             temporary ? ".tmp" : "");
}

/* A number without sign or leading zeros, at most max. */
static bool number_parse(const char **text, uint64_t max, uint64_t *ret_number)
{
    const char *at = *text;
    uint64_t number = 0;
    if (*at < '0' || *at > '9') return false;
    if (at[0] == '0' && at[1] >= '0' && at[1] <= '9') return false;
    for (; *at >= '0' && *at <= '9'; at++) {
        uint64_t digit = (uint64_t)(*at - '0');
        if (number > (max - digit) / 10) return false;
        number = number * 10 + digit;
    }
    *text = at;
    *ret_number = number;
    return true;
}

bool store_name_parse(const char *name, uint16_t *ret_first, uint64_t *ret_second)
{
    uint64_t first, second;
    if (!number_parse(&name, UINT16_MAX, &first)) return false;
    if (*name++ != '.') return false;
    if (!number_parse(&name, UINT64_MAX, &second) || *name) return false;
    *ret_first = (uint16_t)first;
    *ret_second = second;
    return true;
}

bool store_name_is_temporary(const char *name)
{
    size_t size = strlen(name);
    return size > 4 && memcmp(name + size - 4, ".tmp", 4) == 0;
}

static const char life_prefix[] = "life.";

void store_life_path(uint16_t worker_count, uint64_t life, char path[STORE_PATH_SIZE])
{
    snprintf(path, STORE_PATH_SIZE, "redo/%s%u.%" PRIu64, life_prefix, (unsigned)worker_count,
             life);
}

bool store_life_parse(const char *name, uint16_t *ret_worker_count, uint64_t *ret_life)
{
    size_t size = sizeof(life_prefix) - 1;
    return !strncmp(name, life_prefix, size) &&
           store_name_parse(name + size, ret_worker_count, ret_life);
}

struct checkpoint_list {
    uint64_t *ts;
    uint16_t partition_count;
    struct diag *diag;
};

static enum err checkpoint_listed(void *context, const char *name)
{
    struct checkpoint_list *list = context;
    uint16_t partition;
    uint64_t ts;
    if (!store_name_parse(name, &partition, &ts)) return ERR_NONE;
    if (partition >= list->partition_count)
        return diag_set(list->diag, ERR_CORRUPT,
                        "checkpoint/%s: the store has only partitions 0 to %u", name,
                        list->partition_count - 1u);
    if (ts > list->ts[partition]) list->ts[partition] = ts;
    return ERR_NONE;
}

enum err store_list_checkpoints(struct env *env, uint16_t partition_count,
                                uint64_t ret_ts[PARTITIONS_MAX], struct diag *diag)
{
    uint64_t ts[PARTITIONS_MAX] = {0};
    struct checkpoint_list list = {.ts = ts, .partition_count = partition_count, .diag = diag};
    enum err err = env->ops->dir_list(env, "checkpoint", checkpoint_listed, &list);
    if (err == ERR_CORRUPT) return err;
    if (err) return store_failed(diag, err, "checkpoint");
    memcpy(ret_ts, ts, sizeof(ts));
    return ERR_NONE;
}

uint64_t store_checkpoints_min(const uint64_t *ts, uint16_t partition_count)
{
    uint64_t min = UINT64_MAX;
    for (unsigned i = 0; i < partition_count; i++)
        if (ts[i] < min) min = ts[i];
    return min;
}
