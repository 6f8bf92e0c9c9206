/* Joining a source: its rows are where the partition key says, so the rows so far go there first.
 *
 * Routing computes the join keys, the slot of each and so its partition, and sorts the batch's rows
 * by partition. A run of rows for a partition of this worker moves to the join box; one for another
 * worker's is collected for that worker. When the planner has proved that the rows are in the same
 * partition nothing is routed; when the keys do not tell the partition, the rows visit all.
 *
 * In the join box each row's key is looked up in the index, sixteen at a time prefetched, and every
 * match makes a row of the next box. A lookup that is under way when the next box is full goes on
 * later: its cursor finds its place again. A NULL in a key, or a value that the indexed column
 * cannot hold, matches nothing. */
#include "db/query/pipeline.h"

#include "base/check.h"

enum { PREFETCH_GROUP = 16 };

static enum err eval_keys(struct query_exec *exec, struct batch *batch, uint16_t s,
                          const struct vector **ret_keys)
{
    struct exec_source *source = &exec->sources[s];
    for (uint16_t k = 0; k < source->query->key_count; k++) {
        enum err err = batch_eval(exec, batch, &source->keys[k], &ret_keys[k]);
        if (err) {
            exec_fail(exec, err, "%s in the join key of table %s", err_text(err),
                      source->table->name);
            return err;
        }
    }
    return ERR_NONE;
}

/* Key k of row i as the indexed column would hold it; false when it cannot. */
static bool fit_key(const struct exec_source *source, const struct vector *const *keys, uint16_t k,
                    uint32_t i, struct value *ret_value)
{
    const struct index_def *index = &source->table->indexes[source->query->index];
    const struct column_def *column = &source->table->columns[index->columns[k]];
    struct value value = vector_value(keys[k], i);
    if (value_is_null(value)) return false;
    if (column->type != TYPE_BIGINT_UNSIGNED || value.kind != KIND_U64) {
        struct value fitted;
        if (value_fit(column, value, &fitted)) return false;
        if (value.kind == KIND_F64 && fitted.f != value.f) return false;
        value = fitted;
    }
    *ret_value = value;
    return true;
}

/* ---- routing ---- */

/* The slot of row i's key. False: it matches nothing. */
static bool slot_of(const struct exec_source *source, const struct vector *const *keys, uint32_t i,
                    uint16_t *ret_slot)
{
    const struct table_def *table = source->table;
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    for (uint8_t p = 0; p < table->partition_column_count; p++)
        if (!fit_key(source, keys, source->slot_keys[p], i, &values[p])) return false;
    return table_slot(table, values, ret_slot) == ERR_NONE;
}

/* The common case, a key that is an inode number or a slot, without a call for each row. */
static bool slots_by_shift(const struct query_exec *exec, const struct exec_source *source,
                           const struct vector *const *keys, struct batch *batch,
                           uint16_t *restrict partitions)
{
    const struct vector *key = keys[source->slot_keys[0]];
    const struct table_def *table = source->table;
    unsigned shift = table->partition_by == PARTITION_BY_HOME ? HOME_SHIFT : 0;
    if (table->partition_by == PARTITION_BY_KEY || key->kind != KIND_U64 || key->has_nulls ||
        table->columns[table->partition_columns[0]].type != TYPE_BIGINT_UNSIGNED)
        return false;
    uint16_t mask = (uint16_t)(exec->host.partition_count - 1);
    for (uint32_t i = 0; i < batch->count; i++)
        partitions[i] = (uint16_t)(key->u[i] >> shift) & mask;
    return true;
}

/* Counting sort of the rows by partition. */
static void sort_routing(const struct query_exec *exec, struct routing *routing,
                         const uint16_t *rows, uint32_t count)
{
    uint16_t starts[PARTITIONS_MAX + 1];
    memset(starts, 0, (exec->host.partition_count + 1u) * sizeof(*starts));
    for (uint32_t i = 0; i < count; i++)
        starts[routing->partitions[rows[i]] + 1]++;
    for (uint32_t p = 0; p < exec->host.partition_count; p++)
        starts[p + 1] = (uint16_t)(starts[p + 1] + starts[p]);
    for (uint32_t i = 0; i < count; i++)
        routing->order[starts[routing->partitions[rows[i]]]++] = rows[i];
}

static enum step_result prepare_routing(struct query_exec *exec, uint16_t s, struct batch *batch,
                                        struct routing *routing)
{
    const struct exec_source *source = &exec->sources[s];
    const struct vector *keys[SCHEMA_KEY_COLUMNS_MAX];
    uint16_t rows[QUERY_VECTOR_ROWS];
    uint32_t count = 0;
    routing->next = 0;
    routing->ready = true;
    if (source->broadcast) {
        for (uint32_t i = 0; i < batch->count; i++)
            routing->order[i] = (uint16_t)i;
        routing->count = batch->count;
        return STEP_DONE;
    }
    if (eval_keys(exec, batch, s, keys)) return STEP_FAILED;
    if (slots_by_shift(exec, source, keys, batch, routing->partitions)) {
        for (uint32_t i = 0; i < batch->count; i++)
            rows[count++] = (uint16_t)i;
    } else {
        for (uint32_t i = 0; i < batch->count; i++) {
            uint16_t slot;
            if (!slot_of(source, keys, i, &slot)) continue;
            routing->partitions[i] = slot & (uint16_t)(exec->host.partition_count - 1);
            rows[count++] = (uint16_t)i;
        }
    }
    sort_routing(exec, routing, rows, count);
    routing->count = count;
    return STEP_DONE;
}

/* Rows picks[0..count) of the batch go to the join box, to be looked up in this partition. */
static enum step_result begin_join(struct query_exec *exec, uint16_t s, struct batch *batch,
                                   const uint16_t *picks, uint32_t count, uint16_t partition)
{
    struct stage *stage = &exec->stages[s];
    ASSERT(!stage->join.count);
    bool whole = exec->sources[s].query->local || !exec->sources[s].broadcast;
    if (whole && count == batch->count) {
        batch_move(&stage->join, batch);
    } else {
        enum err err =
            batch_copy(exec, &stage->join, batch, picks, count, exec->sources[s].key_step - 1);
        if (err) return exec_fail(exec, err, "%s", err_text(err));
    }
    stage->join.partition = partition;
    stage->join_next = 0;
    stage->cursor_open = false;
    stage->last_match = UINT32_MAX;
    return STEP_DONE;
}

static void end_routing(struct query_exec *exec, struct batch *batch, struct routing *routing)
{
    batch_clear(exec, batch);
    routing->ready = false;
}

/* The next partition of ours that a broadcast batch visits; partition_count when there is none. */
static uint32_t next_own_partition(const struct query_exec *exec, uint32_t from)
{
    while (from < exec->host.partition_count &&
           !exec->host.partition(exec->host.context, (uint16_t)from))
        from++;
    return from;
}

/* Positions: first our partitions by number, then partition_count + worker * QUERY_VECTOR_ROWS +
 * row. */
static enum step_result broadcast_step(struct query_exec *exec, uint16_t s, struct batch *batch,
                                       struct routing *routing, bool here_only)
{
    uint32_t own = next_own_partition(exec, routing->next);
    uint32_t partition_count = exec->host.partition_count;
    if (routing->next < partition_count && own < partition_count) {
        if (exec->stages[s].join.count) return STEP_NOTHING;
        routing->next = own + 1;
        return begin_join(exec, s, batch, routing->order, batch->count, (uint16_t)own);
    }
    if (routing->next < partition_count) routing->next = partition_count;
    uint32_t at = routing->next - partition_count;
    uint16_t worker = (uint16_t)(at / QUERY_VECTOR_ROWS);
    uint32_t row = at % QUERY_VECTOR_ROWS;
    if (here_only || worker >= exec->host.worker_count) {
        end_routing(exec, batch, routing);
        return STEP_DONE;
    }
    uint32_t taken = batch->count - row;
    if (worker != exec->host.worker) {
        enum step_result result =
            move_rows(exec, batch, s, worker, routing->order + row, batch->count - row, &taken);
        if (result != STEP_DONE) return result;
    }
    row += taken;
    routing->next = row == batch->count
                        ? partition_count + (worker + 1u) * QUERY_VECTOR_ROWS
                        : partition_count + worker * (uint32_t)QUERY_VECTOR_ROWS + row;
    return STEP_DONE;
}

static enum step_result routing_step(struct query_exec *exec, uint16_t s, struct batch *batch,
                                     struct routing *routing, bool here_only)
{
    if (!routing->ready) {
        enum step_result result = prepare_routing(exec, s, batch, routing);
        if (result == STEP_FAILED) return result;
    }
    if (exec->sources[s].broadcast) return broadcast_step(exec, s, batch, routing, here_only);
    if (routing->next == routing->count) {
        end_routing(exec, batch, routing);
        return STEP_DONE;
    }
    const uint16_t *run = routing->order + routing->next;
    uint16_t partition = routing->partitions[run[0]];
    uint32_t count = 1;
    while (routing->next + count < routing->count && routing->partitions[run[count]] == partition)
        count++;
    if (exec->host.partition(exec->host.context, partition)) {
        if (exec->stages[s].join.count) return STEP_NOTHING;
        enum step_result result = begin_join(exec, s, batch, run, count, partition);
        routing->next += count;
        if (!batch->count) routing->ready = false; /* it went as a whole */
        return result;
    }
    if (here_only) return exec_fail(exec, ERR_WRONG_PARTITION, "%s", err_text(ERR_WRONG_PARTITION));
    uint32_t taken;
    enum step_result result = move_rows(
        exec, batch, s, exec->host.owner(exec->host.context, partition), run, count, &taken);
    if (result == STEP_DONE) routing->next += taken;
    return result;
}

enum step_result route_step(struct query_exec *exec, uint16_t s)
{
    struct stage *stage = &exec->stages[s];
    if (!exec->sources[s].query->local)
        return routing_step(exec, s, &stage->route, &stage->routing, false);
    if (stage->join.count) return STEP_NOTHING;
    return begin_join(exec, s, &stage->route, NULL, stage->route.count, stage->route.partition);
}

/* Makes the oldest batch in the inbox the one that arrives. */
static void take_from_inbox(struct stage *stage, uint16_t s)
{
    struct moved *moved = stage->inbox;
    stage->inbox = moved->next;
    if (!stage->inbox) stage->inbox_end = &stage->inbox;
    struct batch *batch = &stage->arrive;
    batch->count = moved->row_count;
    batch->source_count = s;
    batch->moved = moved; /* with the inbox's reference */
    for (uint16_t k = 0; k < s; k++)
        batch->sources[k].form = BATCH_MOVED;
    for (uint32_t i = 0; i < moved->row_count; i++)
        batch->moved_rows[i] = (uint16_t)i;
    stage->arriving.ready = false;
}

enum step_result arrive_step(struct query_exec *exec, uint16_t s)
{
    struct stage *stage = &exec->stages[s];
    if (!stage->arrive.count) take_from_inbox(stage, s);
    return routing_step(exec, s, &stage->arrive, &stage->arriving, true);
}

/* ---- lookups ---- */

struct lookup {
    struct query_exec *exec;
    struct stage *stage;
    const struct exec_source *source;
    struct fragment *fragment;
    uint32_t count; /* matches found */
    uint16_t *picks;
    uint32_t *rows;
};

/* Key values of row i, in the order of the index; false: it matches nothing. */
static bool row_key(const struct lookup *lookup, uint32_t i, struct value *values)
{
    for (uint16_t k = 0; k < lookup->source->query->key_count; k++)
        if (!fit_key(lookup->source, lookup->stage->key_vectors, k, i, &values[k])) return false;
    return true;
}

static void prefetch_group(const struct lookup *lookup, uint32_t first)
{
    const struct stage *stage = lookup->stage;
    for (uint32_t i = first; i < first + PREFETCH_GROUP && i < stage->join.count; i++) {
        struct value values[SCHEMA_KEY_COLUMNS_MAX];
        if (row_key(lookup, i, values)) fragment_prefetch(lookup->fragment, values);
    }
}

/* Row i has the same numbers as the row before: then what was found for that one holds for this
 * one. */
static bool same_key_as_before(const struct lookup *lookup, uint32_t i)
{
    if (i == 0) return false;
    for (uint16_t k = 0; k < lookup->source->query->key_count; k++) {
        const struct vector *key = lookup->stage->key_vectors[k];
        if (key->kind == KIND_STR || key->has_nulls || key->u[i] != key->u[i - 1]) return false;
    }
    return true;
}

static enum err open_cursor(const struct lookup *lookup, uint32_t i, bool *ret_open)
{
    struct value values[SCHEMA_KEY_COLUMNS_MAX];
    *ret_open = false;
    if (!row_key(lookup, i, values)) return ERR_NONE;
    struct index_bounds bounds = {.eq = values, .eq_count = lookup->source->query->key_count};
    enum err err =
        index_cursor_open(lookup->stage->cursor, lookup->fragment, lookup->source->query->index,
                          &bounds, false, lookup->exec->run.ts, NULL);
    if (err == ERR_TOO_BIG) return ERR_NONE; /* longer than any key */
    if (!err) *ret_open = true;
    return err;
}

/* At most one match: no cursor stays open. */
static enum err find_unique(struct lookup *lookup, uint32_t i)
{
    struct stage *stage = lookup->stage;
    if (!same_key_as_before(lookup, i)) {
        bool open;
        stage->last_match = UINT32_MAX;
        enum err err = open_cursor(lookup, i, &open);
        if (err) return err;
        if (open) {
            uint32_t row;
            err = index_cursor_next(stage->cursor, &row);
            if (err && err != ERR_END) return err;
            if (!err) stage->last_match = row;
        }
    }
    if (stage->last_match != UINT32_MAX) {
        lookup->picks[lookup->count] = (uint16_t)i;
        lookup->rows[lookup->count++] = stage->last_match;
    }
    stage->join_next++;
    return ERR_NONE;
}

static enum err find_many(struct lookup *lookup, uint32_t i)
{
    struct stage *stage = lookup->stage;
    if (!stage->cursor_open) {
        enum err err = open_cursor(lookup, i, &stage->cursor_open);
        if (err) return err;
    }
    while (stage->cursor_open && lookup->count < QUERY_VECTOR_ROWS) {
        uint32_t row;
        enum err err = index_cursor_next(stage->cursor, &row);
        if (err == ERR_END) {
            stage->cursor_open = false;
        } else if (err) {
            return err;
        } else {
            lookup->picks[lookup->count] = (uint16_t)i;
            lookup->rows[lookup->count++] = row;
        }
    }
    if (!stage->cursor_open) stage->join_next++;
    return ERR_NONE;
}

static enum err lookup_rows(struct lookup *lookup)
{
    struct stage *stage = lookup->stage;
    bool unique = lookup->source->unique;
    while (stage->join_next < stage->join.count && lookup->count < QUERY_VECTOR_ROWS) {
        uint32_t i = stage->join_next;
        if (unique && i % PREFETCH_GROUP == 0) prefetch_group(lookup, i);
        enum err err = unique ? find_unique(lookup, i) : find_many(lookup, i);
        if (err) return err;
    }
    return ERR_NONE;
}

enum step_result join_step(struct query_exec *exec, uint16_t s)
{
    struct stage *stage = &exec->stages[s];
    struct batch *out = exec_box(exec, (uint16_t)(s + 1));
    const struct exec_source *source = &exec->sources[s];
    if (out->count) return STEP_NOTHING;
    /* Anew for each step: routing the next batch uses the same registers. */
    if (eval_keys(exec, &stage->join, s, stage->key_vectors)) return STEP_FAILED;
    struct partition *partition = exec->host.partition(exec->host.context, stage->join.partition);
    uint16_t picks[QUERY_VECTOR_ROWS];
    struct lookup lookup = {
        .exec = exec,
        .stage = stage,
        .source = source,
        .fragment = partition ? partition_fragment(partition, source->query->table_id) : NULL,
        .picks = picks,
        .rows = out->sources[s].rows,
    };
    if (!lookup.fragment)
        return exec_fail(exec, ERR_SCHEMA_CHANGED, "%s", err_text(ERR_SCHEMA_CHANGED));
    enum err err = lookup_rows(&lookup);
    if (!err && lookup.count) {
        err = batch_copy(exec, out, &stage->join, picks, lookup.count, source->key_step);
        exec->rows_scanned += lookup.count;
    }
    if (err)
        return exec_fail(exec, err, "%s in the join with table %s", err_text(err),
                         source->table->name);
    uint16_t at = stage->join.partition;
    if (stage->join_next == stage->join.count) batch_clear(exec, &stage->join);
    if (!lookup.count) return STEP_DONE;
    out->source_count = (uint16_t)(s + 1);
    out->partition = at;
    out->sources[s].form = BATCH_ROWS;
    out->sources[s].fragment = lookup.fragment;
    return batch_filter(exec, out);
}
