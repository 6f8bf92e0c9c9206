/* Rows between workers: collecting those that another worker's partitions continue with, sending
 * them, and taking in what other workers send. A row takes along the columns that the join with the
 * next source or anything after it reads.
 *
 * Credits: of the batches for one source to one worker at most QUERY_MOVE_WINDOW are not yet
 * acknowledged; see exec.c for why that cannot lock up. */
#include "db/query/pipeline.h"

#include <stdlib.h>

#include "base/check.h"

static enum err init_stage(struct query_exec *exec, uint16_t s)
{
    struct stage *stage = &exec->stages[s];
    const struct exec_source *source = &exec->sources[s];
    void *at;
    enum err err = exec_alloc(exec, sizeof(uint16_t), exec->column_count, &at);
    if (err) return err;
    stage->carried = at;
    for (uint16_t c = 0; c < exec->column_count; c++)
        if (exec->columns[c].source < s && exec->columns[c].last_use >= source->key_step)
            stage->carried[stage->carried_count++] = c;
    err = exec_alloc(exec, sizeof(struct outgoing), exec->host.worker_count, &at);
    if (err) return err;
    stage->outgoing = at;
    for (uint16_t w = 0; w < exec->host.worker_count; w++) {
        err = collector_init(&stage->outgoing[w].rows, &exec->memory, &exec->pool, &exec->arena,
                             stage->carried_count);
        if (err) return err;
    }
    return ERR_NONE;
}

enum err move_init(struct query_exec *exec)
{
    if (exec->host.worker_count < 2) return ERR_NONE;
    void *at;
    enum err err = exec_alloc(exec, sizeof(uint64_t), exec->host.worker_count, &at);
    if (err) return err;
    exec->moves_sent = at;
    for (uint16_t s = 1; !err && s < exec->tree->source_count; s++)
        if (!exec->sources[s].query->local) err = init_stage(exec, s);
    return err;
}

void move_fini(struct query_exec *exec)
{
    for (uint16_t s = 1; exec->stages && s < exec->tree->source_count; s++)
        for (uint16_t w = 0; exec->stages[s].outgoing && w < exec->host.worker_count; w++)
            collector_fini(&exec->stages[s].outgoing[w].rows);
}

/* ---- out ---- */

static enum step_result send(struct query_exec *exec, uint16_t s, uint16_t worker)
{
    struct outgoing *outgoing = &exec->stages[s].outgoing[worker];
    if (outgoing->in_flight == QUERY_MOVE_WINDOW) return STEP_NOTHING;
    struct query_move move = {.source = (uint8_t)s, .row_count = outgoing->rows.row_count};
    buf_clear(&exec->buf);
    query_move_encode(&move, &exec->buf);
    collector_encode(&outgoing->rows, &exec->buf);
    enum err err = exec->buf.failed ? ERR_NO_MEMORY
                                    : exec->host.send_move(exec->host.context, worker, &exec->buf);
    if (err) return exec_fail(exec, err, "%s: moving rows for a join", err_text(err));
    outgoing->in_flight++;
    exec->moves_sent[worker]++;
    collector_clear(&outgoing->rows);
    return STEP_DONE;
}

enum step_result move_rows(struct query_exec *exec, struct batch *batch, uint16_t s,
                           uint16_t worker, const uint16_t *picks, uint32_t count,
                           uint32_t *ret_taken)
{
    struct stage *stage = &exec->stages[s];
    ASSERT(worker < exec->host.worker_count && worker != exec->host.worker && stage->outgoing);
    struct outgoing *outgoing = &stage->outgoing[worker];
    if (collector_is_full(&outgoing->rows)) {
        enum step_result result = send(exec, s, worker);
        if (result != STEP_DONE) return result;
    }
    const struct vector *columns[QUERY_SOURCES_MAX * SCHEMA_COLUMNS_MAX];
    enum err err = ERR_NONE;
    for (uint16_t c = 0; !err && c < stage->carried_count; c++)
        err = batch_column(exec, batch, stage->carried[c], &columns[c]);
    if (!err) err = collector_add(&outgoing->rows, columns, picks, 0, count, ret_taken);
    if (err) return exec_fail(exec, err, "%s", err_text(err));
    return STEP_DONE;
}

enum step_result move_flush(struct query_exec *exec, bool *ret_waiting)
{
    *ret_waiting = false;
    for (uint16_t s = 1; s < exec->tree->source_count; s++) {
        struct stage *stage = &exec->stages[s];
        for (uint16_t w = 0; stage->outgoing && w < exec->host.worker_count; w++) {
            if (!stage->outgoing[w].rows.row_count) continue;
            enum step_result result = send(exec, s, w);
            if (result != STEP_NOTHING) return result;
            *ret_waiting = true;
        }
    }
    return STEP_NOTHING;
}

void query_exec_moved(struct query_exec *exec, uint16_t from, const uint8_t *body, size_t size)
{
    if (size != 1 || !body[0] || body[0] >= exec->tree->source_count ||
        from >= exec->host.worker_count || !exec->stages[body[0]].outgoing ||
        !exec->stages[body[0]].outgoing[from].in_flight) {
        exec_fail(exec, ERR_BAD_SIGNAL, "malformed acknowledgement of moved rows");
        return;
    }
    exec->stages[body[0]].outgoing[from].in_flight--;
}

/* ---- in ---- */

/* The block holds the message, which strings are borrowed from. */
static enum err decode_moved(struct query_exec *exec, struct reader *reader, struct moved *moved)
{
    const struct stage *stage = &exec->stages[moved->source];
    void *at;
    enum err err = query_arena_alloc(&exec->memory, &moved->arena,
                                     exec->column_count * sizeof(struct vector), &at);
    if (err) return err;
    moved->vectors = at;
    memset(at, 0, exec->column_count * sizeof(struct vector));
    for (uint16_t c = 0; c < stage->carried_count; c++) {
        uint16_t column = stage->carried[c];
        struct query_type type = exec->columns[column].type;
        err = vector_decode(reader, &exec->memory, &moved->arena, type.kind, type.scale,
                            moved->row_count, &moved->vectors[column]);
        if (err) return err;
    }
    return reader->failed || reader_left(reader) ? ERR_BAD_SIGNAL : ERR_NONE;
}

void query_exec_move(struct query_exec *exec, uint16_t from, const uint8_t *body, size_t size)
{
    struct reader reader = reader_of(body, size);
    struct query_move move;
    enum err err = query_move_decode(&reader, &move);
    if (!err && (move.source >= exec->tree->source_count || from >= exec->host.worker_count ||
                 !exec->stages[move.source].outgoing))
        err = ERR_BAD_SIGNAL;
    void *at = NULL;
    size_t block = sizeof(struct moved) + size;
    if (!err) err = query_alloc(&exec->memory, block, &at);
    if (err) {
        exec_fail(exec, err, "%s in rows moved by another worker", err_text(err));
        return;
    }
    struct moved *moved = at;
    *moved = (struct moved){
        .refs = 1, .from = from, .source = move.source, .row_count = move.row_count, .size = block};
    arena_init(&moved->arena, 0);
    memcpy(moved + 1, body, size);
    reader = reader_of(moved + 1, size);
    err = query_move_decode(&reader, &move);
    if (!err) err = decode_moved(exec, &reader, moved);
    if (err) {
        query_arena_fini(&exec->memory, &moved->arena);
        query_free(&exec->memory, moved, block);
        exec_fail(exec, err, "%s in rows moved by another worker", err_text(err));
        return;
    }
    if (exec->sink.full) { /* nobody wants more rows */
        moved_release(exec, moved);
        exec->idle_told = false;
        return;
    }
    struct stage *stage = &exec->stages[move.source];
    *stage->inbox_end = moved;
    stage->inbox_end = &moved->next;
}
