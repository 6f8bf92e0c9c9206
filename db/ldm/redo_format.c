/* The bytes of a log segment, redo/W.N.
 *
 *     0    header: a frame (store_format.h) with the body
 *              u16 worker, u16 worker count, u32 zero, u64 number, u64 life,
 *              u64 previous size, u64 previous ts, u64 previous horizon
 *          zeros up to 256
 *     256  end slot: zeros, or twice, at 256 and at 384, a frame with the body
 *              u64 size, u64 greatest ts, u64 number, u64 worker, u64 kind
 *          and zeros up to 384 and 512
 *     512  records, each at a multiple of 8:
 *              0   u32 body size
 *              4   u32 kind << 24 | flush number
 *              8   u64 timestamp (commit timestamp, or the horizon)
 *              16  u64 checksum of the body with its padding
 *              24  u64 checksum of the 24 bytes before
 *              32  body, zeros up to a multiple of 8
 *
 * Record checksums are seeded with store id, worker, segment number and offset, so that neither
 * stale bytes of an earlier file in the same blocks nor a record in the wrong place is ever taken
 * for a record.
 *
 * A flush appends its records and a horizon record with one write, then syncs. The next flush of
 * the log starts after that, and so does the next segment. Flushes of a segment are numbered from
 * 1, and every record carries the number of its own.
 *
 * Torn tail or damage? After a crash all bytes are as they were written but for those of the one
 * flush that was in flight: of these any part may be missing or old. So let the first invalid
 * record be at offset b, within flush f (its predecessors tell: the first record is of flush 1, the
 * one after a horizon record is of the next). If anywhere after b stands a valid head of a record
 * of a flush later than f, or the end slot says that the segment goes on beyond b, or a later
 * segment of the log has a valid header, then flush f had been synced: b was durable and is now
 * damaged. Otherwise flush f is the last one that left a trace, and it may have been the one in
 * flight: the log ends with the horizon record of flush f - 1. The head of a record has a checksum
 * of its own and records are aligned, so the search for later flushes looks at each multiple of 8
 * once, whatever the bodies hold.
 *
 * A file that is missing, or that never became a segment (no valid header, no valid record), is the
 * torn creation of one, unless something says that it was in use:
 *   - The end slot of the segment before says that the log goes on. It is written, and synced,
 *     after the new segment's header and name were, and before its first record.
 *   - The file redo/life.W.N says that the W logs that begin with segments N were in use. It is
 *     empty; every log makes sure that its name is durable before its own first flush. All logs of
 *     a life are created before any of them is flushed, so with it none of them may be missing.
 *
 * What this cannot see: damage within the very last flush of a log that was not closed, when the
 * crash came before the next flush left a trace, and a file that was cut off at the end of a flush.
 * No format can, without a second place that says how far the log was synced, written with a second
 * sync at every flush. It costs those flushes, as if the crash had come earlier: what is left is
 * consistent over all logs. Recovery still notices it when a published checkpoint shows that the
 * log reached further (recovery_logs.c). A closed log is fully protected: the end slot names its
 * exact size, twice. */
#include "db/ldm/redo_format.h"

#include <assert.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum {
    HEADER_BODY_SIZE = 48,
    END_BODY_SIZE = 40,
    END_COPY_SIZE = 128,
    RECORD_BODY_SUM_AT = 16,
    RECORD_HEAD_SUM_AT = 24,
    KIND_SHIFT = 24,
};
static_assert(STORE_FRAME_SIZE + HEADER_BODY_SIZE <= SEGMENT_END_AT, "disk format");
static_assert(STORE_FRAME_SIZE + END_BODY_SIZE <= END_COPY_SIZE, "disk format");
static_assert(SEGMENT_END_AT + 2 * END_COPY_SIZE == SEGMENT_HEADER_SIZE, "disk format");
static_assert(RECORD_HEAD_SUM_AT + sizeof(uint64_t) == REDO_RECORD_SIZE, "disk format");
static_assert(SEGMENT_HEADER_SIZE % REDO_ALIGN == 0, "disk format");

/* ---- writing ---- */

uint64_t segment_seed(const uint8_t id[STORE_ID_SIZE], uint16_t worker, uint64_t number)
{
    /* Segment numbers stay far below 2^48; if they did not, seeds would merely repeat. */
    return hash_checksum(id, STORE_ID_SIZE, number ^ (uint64_t)worker << 48);
}

static void zeros_put(struct buf *buf, size_t size)
{
    uint8_t *at = buf_add(buf, size);
    if (at) memset(at, 0, size);
}

void segment_header_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                        const struct segment_header *header)
{
    struct buf body;
    buf_init(&body);
    buf_put_u16(&body, header->worker);
    buf_put_u16(&body, header->worker_count);
    buf_put_u32(&body, 0);
    buf_put_u64(&body, header->number);
    buf_put_u64(&body, header->life);
    buf_put_u64(&body, header->previous_size);
    buf_put_u64(&body, header->previous_ts);
    buf_put_u64(&body, header->previous_horizon);
    if (body.failed)
        buf->failed = true;
    else
        store_frame_put(buf, STORE_SEGMENT, id, body.bytes, body.size);
    zeros_put(buf, SEGMENT_HEADER_SIZE - STORE_FRAME_SIZE - HEADER_BODY_SIZE);
    buf_fini(&body);
}

void segment_end_put(struct buf *buf, const uint8_t id[STORE_ID_SIZE],
                     const struct segment_header *header, const struct segment_end *end)
{
    const uint64_t body[5] = {end->size, end->ts_max, header->number, header->worker, end->kind};
    static_assert(sizeof(body) == END_BODY_SIZE, "disk format");
    for (int i = 0; i < 2; i++) {
        store_frame_put(buf, STORE_SEGMENT_END, id, body, sizeof(body));
        zeros_put(buf, END_COPY_SIZE - STORE_FRAME_SIZE - END_BODY_SIZE);
    }
}

void redo_record_put(struct buf *buf, enum redo_kind kind, uint64_t ts, const void *body,
                     uint32_t body_size)
{
    size_t size = redo_record_size(body_size);
    uint8_t *at = buf_add(buf, size);
    if (!at) return;
    memset(at + size - REDO_ALIGN, 0, REDO_ALIGN); /* the padding, if there is any */
    uint32_t kind_flush = (uint32_t)kind << KIND_SHIFT;
    memcpy(at, &body_size, sizeof(body_size));
    memcpy(at + 4, &kind_flush, sizeof(kind_flush));
    memcpy(at + 8, &ts, sizeof(ts));
    if (body_size) memcpy(at + REDO_RECORD_SIZE, body, body_size);
}

uint64_t redo_records_seal(uint8_t *bytes, size_t size, uint64_t seed, uint64_t offset,
                           uint32_t flush)
{
    uint64_t ts_max = 0;
    for (size_t at = 0; at < size;) {
        uint8_t *record = bytes + at;
        uint32_t body_size, kind_flush;
        uint64_t ts;
        memcpy(&body_size, record, sizeof(body_size));
        memcpy(&kind_flush, record + 4, sizeof(kind_flush));
        memcpy(&ts, record + 8, sizeof(ts));
        /* A retried flush may give a record another number than the failed one did. */
        kind_flush = (kind_flush & ~(uint32_t)REDO_FLUSH_MAX) | flush;
        memcpy(record + 4, &kind_flush, sizeof(kind_flush));
        size_t record_size = redo_record_size(body_size);
        uint64_t place = seed + offset + at;
        uint64_t sum =
            hash_checksum(record + REDO_RECORD_SIZE, record_size - REDO_RECORD_SIZE, place);
        memcpy(record + RECORD_BODY_SUM_AT, &sum, sizeof(sum));
        sum = hash_checksum(record, RECORD_HEAD_SUM_AT, place);
        memcpy(record + RECORD_HEAD_SUM_AT, &sum, sizeof(sum));
        if (kind_flush >> KIND_SHIFT == REDO_TRANSACTION && ts > ts_max) ts_max = ts;
        at += record_size;
    }
    return ts_max;
}

/* ---- reading ---- */

enum err segment_reader_open(struct segment_reader *reader, struct env *env,
                             const uint8_t id[STORE_ID_SIZE], uint16_t worker, uint64_t number,
                             struct diag *diag)
{
    *reader = (struct segment_reader){
        .seed = segment_seed(id, worker, number),
        .offset = SEGMENT_HEADER_SIZE,
        .flush = 1,
        .header = {.worker = worker, .number = number},
    };
    memcpy(reader->id, id, STORE_ID_SIZE);
    store_segment_path(worker, number, reader->path);
    enum err err = store_window_open(&reader->window, env, reader->path, diag);
    if (err) return err;
    reader->limit = reader->window.file_size;
    return ERR_NONE;
}

void segment_reader_close(struct segment_reader *reader)
{
    store_window_close(&reader->window);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i]) return false;
    return true;
}

static enum err header_decode(struct segment_reader *reader, const uint8_t *bytes,
                              struct diag *diag)
{
    struct reader in = reader_of(bytes, SEGMENT_END_AT);
    const uint8_t *body;
    size_t size;
    enum err err =
        store_frame_get(&in, STORE_SEGMENT, reader->id, reader->path, 0, &body, &size, diag);
    if (err) return err;
    size_t rest = reader_left(&in);
    if (size != HEADER_BODY_SIZE || !is_zero(reader_take(&in, rest), rest))
        return store_damaged(diag, reader->path, STORE_FRAME_SIZE, "the header is malformed");
    in = reader_of(body, size);
    struct segment_header header = {.worker = reader_u16(&in)};
    header.worker_count = reader_u16(&in);
    uint32_t zero = reader_u32(&in);
    header.number = reader_u64(&in);
    header.life = reader_u64(&in);
    header.previous_size = reader_u64(&in);
    header.previous_ts = reader_u64(&in);
    header.previous_horizon = reader_u64(&in);
    if (header.worker != reader->header.worker || header.number != reader->header.number)
        return store_damaged(diag, reader->path, STORE_FRAME_SIZE,
                             "the file is segment %llu of log %u under another name",
                             (unsigned long long)header.number, (unsigned)header.worker);
    bool is_first = header.number == header.life;
    bool sane = !zero && header.life && header.number >= header.life &&
                (!header.worker_count || header.worker < header.worker_count) &&
                is_first == (header.previous_size == 0) &&
                (!is_first || (!header.previous_ts && !header.previous_horizon)) &&
                (is_first || header.previous_size >= SEGMENT_HEADER_SIZE);
    if (!sane)
        return store_damaged(diag, reader->path, STORE_FRAME_SIZE, "the header makes no sense");
    reader->header = header;
    return ERR_NONE;
}

/* One copy of the end slot; size 0 when it is empty, torn by a crash during the close, or damaged.
 */
static struct segment_end end_decode(const struct segment_reader *reader, const uint8_t *bytes)
{
    struct reader in = reader_of(bytes, END_COPY_SIZE);
    struct segment_end end = {0};
    const uint8_t *body;
    size_t size;
    enum err err = store_frame_get(&in, STORE_SEGMENT_END, reader->id, reader->path, SEGMENT_END_AT,
                                   &body, &size, NULL);
    if (err || size != END_BODY_SIZE) return end;
    in = reader_of(body, size);
    uint64_t end_size = reader_u64(&in);
    uint64_t ts_max = reader_u64(&in);
    uint64_t number = reader_u64(&in);
    uint64_t worker = reader_u64(&in);
    uint64_t kind = reader_u64(&in);
    bool sane = number == reader->header.number && worker == reader->header.worker &&
                end_size >= SEGMENT_HEADER_SIZE &&
                (kind == SEGMENT_CLOSED || kind == SEGMENT_CONTINUED);
    if (sane)
        end = (struct segment_end){
            .kind = (enum segment_end_kind)kind, .size = end_size, .ts_max = ts_max};
    return end;
}

enum err segment_reader_header(struct segment_reader *reader, struct diag *diag)
{
    const uint8_t *bytes;
    size_t size;
    enum err err = store_window_get(&reader->window, 0, SEGMENT_HEADER_SIZE, &bytes, &size, diag);
    if (err) return err;
    if (size < SEGMENT_HEADER_SIZE)
        return store_damaged(diag, reader->path, size, "the file ends within its header");
    err = header_decode(reader, bytes, diag);
    if (err) return err;
    reader->end = end_decode(reader, bytes + SEGMENT_END_AT);
    if (!reader->end.size) reader->end = end_decode(reader, bytes + SEGMENT_END_AT + END_COPY_SIZE);
    return ERR_NONE;
}

struct record_head {
    uint32_t body_size;
    uint32_t kind;
    uint32_t flush;
    uint64_t ts;
    uint64_t body_sum;
};

/* False: its checksum does not match. */
static bool record_head_get(const uint8_t *bytes, uint64_t place, struct record_head *ret_head)
{
    uint64_t sum;
    memcpy(&sum, bytes + RECORD_HEAD_SUM_AT, sizeof(sum));
    if (hash_checksum(bytes, RECORD_HEAD_SUM_AT, place) != sum) return false;
    struct reader in = reader_of(bytes, REDO_RECORD_SIZE);
    ret_head->body_size = reader_u32(&in);
    uint32_t kind_flush = reader_u32(&in);
    ret_head->kind = kind_flush >> KIND_SHIFT;
    ret_head->flush = kind_flush & REDO_FLUSH_MAX;
    ret_head->ts = reader_u64(&in);
    ret_head->body_sum = reader_u64(&in);
    return true;
}

static enum err record_invalid(struct segment_reader *reader, const char *reason)
{
    reader->reason = reason;
    return ERR_CORRUPT;
}

enum err segment_reader_next(struct segment_reader *reader, struct redo_record *ret_record,
                             struct diag *diag)
{
    if (reader->offset == reader->limit) return ERR_END;
    if (reader->offset > reader->limit)
        return record_invalid(reader, "the file is shorter than its records");
    uint64_t left = reader->limit - reader->offset;
    const uint8_t *bytes;
    size_t size;
    enum err err =
        store_window_get(&reader->window, reader->offset, REDO_RECORD_SIZE, &bytes, &size, diag);
    if (err) return err;
    if (size < REDO_RECORD_SIZE || left < REDO_RECORD_SIZE)
        return record_invalid(reader, "the file ends within a record");
    uint64_t place = reader->seed + reader->offset;
    struct record_head head;
    if (!record_head_get(bytes, place, &head))
        return record_invalid(reader, "the checksum of a record's head does not match");
    if (head.kind != REDO_TRANSACTION && head.kind != REDO_HORIZON)
        return record_invalid(reader, "a record is of an unknown kind");
    if (head.flush != reader->flush)
        return record_invalid(reader, "a record is of another flush than its place tells");
    if (head.body_size > REDO_BODY_SIZE_MAX || redo_record_size(head.body_size) > left)
        return record_invalid(reader, "the file ends within a record's body");
    size_t record_size = redo_record_size(head.body_size);
    err = store_window_get(&reader->window, reader->offset, record_size, &bytes, &size, diag);
    if (err) return err;
    if (size < record_size) return record_invalid(reader, "the file ends within a record's body");
    if (hash_checksum(bytes + REDO_RECORD_SIZE, record_size - REDO_RECORD_SIZE, place) !=
        head.body_sum)
        return record_invalid(reader, "the checksum of a record's body does not match");
    *ret_record = (struct redo_record){
        .kind = (enum redo_kind)head.kind,
        .ts = head.ts,
        .offset = reader->offset,
        .offset_end = reader->offset + record_size,
        .body_size = head.body_size,
        .flush = head.flush,
        .body = bytes + REDO_RECORD_SIZE,
    };
    reader->offset += record_size;
    if (head.kind == REDO_HORIZON) reader->flush++;
    return ERR_NONE;
}

enum err segment_reader_find_later(struct segment_reader *reader, uint64_t offset, uint32_t flush,
                                   uint64_t *ret_offset, struct diag *diag)
{
    offset = (offset + REDO_ALIGN) & ~(uint64_t)(REDO_ALIGN - 1);
    for (; offset < reader->window.file_size; offset += REDO_ALIGN) {
        const uint8_t *bytes;
        size_t size;
        enum err err =
            store_window_get(&reader->window, offset, REDO_RECORD_SIZE, &bytes, &size, diag);
        if (err) return err;
        if (size < REDO_RECORD_SIZE) break;
        struct record_head head;
        if (record_head_get(bytes, reader->seed + offset, &head) && head.flush > flush) {
            *ret_offset = offset;
            return ERR_NONE;
        }
    }
    return ERR_NOT_FOUND;
}
