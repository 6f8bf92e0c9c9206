/* The history of a store: how each of its earlier lives ended.
 *
 * A life is the time from one start to the next. Its logs are the segments redo/W.N whose numbers
 * are at least the life's first; recovery decides once where they end and which transactions count,
 * and writes it here by replacing this file. That rename is the one moment at which a recovery
 * takes effect: before it, the logs are read and judged again with the same result; after it, they
 * are read by what it says. Nothing else has to be changed on disk for a dropped tail to stay
 * dropped.
 *
 * A segment whose number is below next_segment and that is not listed was forgotten on purpose
 * (checkpoints have all of it, which `floor` remembers) and may be removed. A listed one that is
 * missing was either trimmed, and then checkpoints have it, or it is lost, which its ts_max tells.
 * Its content must be valid up to `size`, without exception.
 *
 * The latest starts are listed with their cuts, for clients that were away during several of them:
 * what the cut after a life dropped is lost, whatever the lives after that one did. A cut is never
 * below an earlier one, as it keeps all that an earlier one kept.
 *
 * Layout: a frame (store_format.h) with the body
 *     0    u64 next_segment, u64 clock, u64 cut, u64 floor, u32 count, u32 start count
 *     40   count times, in the order of replay:
 *              u64 life, u64 number, u64 size, u64 ts_max, u64 cut, u16 worker, u16 x 3 zero
 *          start count times, the last one's cut being that above: u64 id, u64 cut
 * Format version 1 had zero for the start count. */
#include "db/ldm/redo_history.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "db/ldm/redo_format.h"

enum { HISTORY_HEAD_SIZE = 40, HISTORY_ENTRY_SIZE = 48, HISTORY_START_SIZE = 16 };
static const char history_path[] = "redo/history";

void history_fini(struct history *history)
{
    free(history->segments);
    *history = (struct history){0};
}

static bool segment_precedes(const struct history_segment *a, const struct history_segment *b)
{
    if (a->life != b->life) return a->life < b->life;
    if (a->worker != b->worker) return a->worker < b->worker;
    return a->number < b->number;
}

enum err history_add(struct history *history, const struct history_segment *segment)
{
    if (history->segment_count == history->segment_capacity) {
        size_t capacity = history->segment_capacity ? history->segment_capacity * 2 : 16;
        void *segments = realloc(history->segments, capacity * sizeof(history->segments[0]));
        if (!segments) return ERR_NO_MEMORY;
        history->segments = segments;
        history->segment_capacity = capacity;
    }
    size_t at = history->segment_count++;
    for (; at > 0 && segment_precedes(segment, &history->segments[at - 1]); at--)
        history->segments[at] = history->segments[at - 1];
    history->segments[at] = *segment;
    return ERR_NONE;
}

void history_add_start(struct history *history, const struct store_start *start)
{
    if (history->start_count == STORE_STARTS_MAX) {
        history->start_count--;
        memmove(history->starts, history->starts + 1,
                history->start_count * sizeof(history->starts[0]));
    }
    history->starts[history->start_count++] = *start;
}

const struct history_segment *history_find(const struct history *history, uint16_t worker,
                                           uint64_t number)
{
    for (size_t i = 0; i < history->segment_count; i++) {
        const struct history_segment *segment = &history->segments[i];
        if (segment->worker == worker && segment->number == number) return segment;
    }
    return NULL;
}

/* What the checksum does not rule out: a history that some program wrote wrongly. */
static bool segment_is_sane(const struct history *history, const struct history_segment *segment)
{
    if (segment->life == 0 || segment->number < segment->life) return false;
    if (segment->number >= history->next_segment) return false;
    if (segment->size < SEGMENT_HEADER_SIZE) return false;
    return segment->ts_max <= segment->cut && segment->cut <= history->clock;
}

static bool starts_are_sane(const struct history *history)
{
    uint64_t cut = 0;
    for (uint16_t i = 0; i < history->start_count; i++) {
        const struct store_start *start = &history->starts[i];
        if (!start->id || start->cut < cut) return false;
        cut = start->cut;
    }
    return !history->start_count || cut == history->cut;
}

static enum err history_decode(struct reader *reader, struct history *history, struct diag *diag)
{
    history->next_segment = reader_u64(reader);
    history->clock = reader_u64(reader);
    history->cut = reader_u64(reader);
    history->floor = reader_u64(reader);
    uint32_t count = reader_u32(reader);
    uint32_t start_count = reader_u32(reader);
    if (reader->failed || history->next_segment == 0 || history->floor > history->clock ||
        history->cut > history->clock || start_count > STORE_STARTS_MAX ||
        reader_left(reader) !=
            (size_t)count * HISTORY_ENTRY_SIZE + (size_t)start_count * HISTORY_START_SIZE)
        return store_damaged(diag, history_path, STORE_FRAME_SIZE, "the counts do not fit");
    for (uint32_t i = 0; i < count; i++) {
        struct history_segment segment = {.life = reader_u64(reader)};
        segment.number = reader_u64(reader);
        segment.size = segment.unsynced = reader_u64(reader);
        segment.ts_max = reader_u64(reader);
        segment.cut = reader_u64(reader);
        segment.worker = reader_u16(reader);
        reader_take(reader, 6);
        bool in_order = i == 0 || segment_precedes(&history->segments[i - 1], &segment);
        if (!in_order || !segment_is_sane(history, &segment))
            return store_damaged(diag, history_path,
                                 STORE_FRAME_SIZE + HISTORY_HEAD_SIZE +
                                     (uint64_t)i * HISTORY_ENTRY_SIZE,
                                 "entry %u makes no sense", i);
        enum err err = history_add(history, &segment);
        if (err) return store_failed(diag, err, history_path);
    }
    for (; history->start_count < start_count; history->start_count++) {
        struct store_start *start = &history->starts[history->start_count];
        start->id = reader_u64(reader);
        start->cut = reader_u64(reader);
    }
    if (!starts_are_sane(history))
        return store_damaged(diag, history_path,
                             STORE_FRAME_SIZE + HISTORY_HEAD_SIZE +
                                 (uint64_t)count * HISTORY_ENTRY_SIZE,
                             "the starts make no sense");
    return ERR_NONE;
}

enum err history_read(struct env *env, const struct store_info *info, struct history *ret_history,
                      struct diag *diag)
{
    struct history history = {0};
    struct buf file;
    buf_init(&file);
    enum err err =
        store_file_read(env, history_path, STORE_FRAME_SIZE + STORE_BODY_SIZE_MAX, &file, diag);
    if (err == ERR_NOT_FOUND) err = store_damaged(diag, history_path, 0, "the file is missing");
    if (err) goto free_file;
    struct reader reader = reader_of(file.bytes, file.size);
    const uint8_t *body;
    size_t size;
    err = store_frame_get(&reader, STORE_HISTORY, info->id, history_path, 0, &body, &size, diag);
    if (err) goto free_file;
    if (reader_left(&reader)) {
        err = store_damaged(diag, history_path, STORE_FRAME_SIZE + size,
                            "bytes follow the end of the content");
        goto free_file;
    }
    reader = reader_of(body, size);
    err = history_decode(&reader, &history, diag);
    if (err)
        history_fini(&history);
    else
        *ret_history = history;

free_file:
    buf_fini(&file);
    return err;
}

enum err history_write(struct env *env, const struct store_info *info,
                       const struct history *history, struct diag *diag)
{
    ASSERT(starts_are_sane(history));
    size_t size = HISTORY_HEAD_SIZE + history->segment_count * HISTORY_ENTRY_SIZE +
                  history->start_count * (size_t)HISTORY_START_SIZE;
    if (size > STORE_BODY_SIZE_MAX) return store_failed(diag, ERR_TOO_BIG, history_path);
    struct buf body, file;
    buf_init(&body);
    buf_init(&file);
    buf_put_u64(&body, history->next_segment);
    buf_put_u64(&body, history->clock);
    buf_put_u64(&body, history->cut);
    buf_put_u64(&body, history->floor);
    buf_put_u32(&body, (uint32_t)history->segment_count);
    buf_put_u32(&body, history->start_count);
    for (size_t i = 0; i < history->segment_count; i++) {
        const struct history_segment *segment = &history->segments[i];
        ASSERT(segment_is_sane(history, segment));
        buf_put_u64(&body, segment->life);
        buf_put_u64(&body, segment->number);
        buf_put_u64(&body, segment->size);
        buf_put_u64(&body, segment->ts_max);
        buf_put_u64(&body, segment->cut);
        buf_put_u16(&body, segment->worker);
        buf_put(&body, (const uint8_t[6]){0}, 6);
    }
    for (uint16_t i = 0; i < history->start_count; i++) {
        buf_put_u64(&body, history->starts[i].id);
        buf_put_u64(&body, history->starts[i].cut);
    }
    if (!body.failed) store_frame_put(&file, STORE_HISTORY, info->id, body.bytes, body.size);
    file.failed |= body.failed;
    enum err err = store_file_replace(env, "redo", history_path, &file, NULL, diag);
    buf_fini(&body);
    buf_fini(&file);
    return err;
}
