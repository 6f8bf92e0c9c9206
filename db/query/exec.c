/* The executor's frame: see exec.h.
 *
 * A query is a pipeline of boxes, each holding at most one batch of rows:
 *
 *   scan ─▶ route 1 ─▶ join 1 ─▶ route 2 ─▶ … ─▶ last ─▶ sink
 *              │  ▲      ▲
 *   other      ▼  │      │
 *   workers: outgoing  arrive 1 ◀─ inbox 1
 *
 * A step takes something from one box and puts what comes of it in the next, which must be empty.
 * The scheduler always tries the box furthest along first, so memory is bounded by the boxes, and a
 * step is a bounded piece of work, so that a slice can end after any of them.
 *
 * No deadlock between workers: at most QUERY_MOVE_WINDOW batches for each source are on their way
 * from one worker to another, and each is acknowledged when every row made of it has left the
 * boxes. What arrives for the last source can always be finished, as it needs no other worker; so
 * its senders get their credit back, so what arrives for the source before can be finished, and so
 * on to the first. What waits in inboxes is bounded by the windows, and counted.
 *
 * The end: a worker whose boxes, inboxes and outgoing rows are empty tells the coordinator how many
 * batches it has taken and how many it has sent to whom (QUERY_ROWS_IDLE), again whenever it has
 * become idle again. When for every worker the batches taken equal those sent to it, over the
 * newest reports, all is done. (Suppose not: then some worker took a batch after its report. Take
 * the first such moment in time. Whoever sent that batch sent it before its own report, for after
 * its report it could only have become active by taking a batch still earlier. So the batch is
 * counted as sent. But everything that the taking worker had taken by its report had been sent
 * before that moment, hence is counted as sent as well: so more were sent to it than it took,
 * against the equality.) The coordinator then says finish, and the results are sent. */
#include "db/query/pipeline.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

enum { CONJUNCTS_MAX = 64 };

enum step_result exec_fail(struct query_exec *exec, enum err err, const char *format, ...)
{
    if (exec->err) return STEP_FAILED;
    exec->err = err;
    exec->diag = (struct diag){.err = err, .position = UINT32_MAX};
    va_list args;
    va_start(args, format);
    vsnprintf(exec->diag.text, sizeof(exec->diag.text), format, args);
    va_end(args);
    return STEP_FAILED;
}

enum err exec_alloc(struct query_exec *exec, size_t size, size_t count, void **ret_at)
{
    enum err err = query_arena_alloc(&exec->memory, &exec->arena, size * count, ret_at);
    if (!err) memset(*ret_at, 0, size * count);
    return err;
}

bool query_moves_rows(const struct query_tree *tree)
{
    for (uint16_t i = 1; i < tree->source_count; i++)
        if (!tree->sources[i].local) return true;
    return false;
}

/* ---- creation ---- */

/* Our own definitions: the catalog's may go away while the query runs. */
static enum err copy_tables(struct query_exec *exec, const struct catalog *catalog)
{
    for (uint16_t i = 0; i < exec->tree->source_count; i++) {
        const struct table_def *table = catalog_find_id(catalog, exec->tree->sources[i].table_id);
        if (!table) return ERR_SCHEMA_CHANGED;
        struct exec_source *source = &exec->sources[i];
        source->query = &exec->tree->sources[i];
        source->table = table_def_copy(table);
        if (!source->table) return ERR_NO_MEMORY;
        void *at;
        enum err err = exec_alloc(exec, sizeof(int16_t), table->column_count, &at);
        if (err) return err;
        source->columns = at;
        for (uint16_t c = 0; c < table->column_count; c++)
            source->columns[c] = -1;
    }
    return ERR_NONE;
}

static void scope_of(const struct query_exec *exec, uint16_t source_count,
                     struct query_scope *ret_scope)
{
    *ret_scope = (struct query_scope){.source_count = source_count};
    for (uint16_t i = 0; i < source_count; i++)
        ret_scope->tables[i] = exec->sources[i].table;
}

/* The operands of the filter's outermost ANDs, from the left. */
static uint32_t split_conjuncts(const struct expr *expr, uint16_t roots[CONJUNCTS_MAX])
{
    uint16_t stack[CONJUNCTS_MAX];
    uint32_t depth = 1;
    uint32_t count = 0;
    stack[0] = (uint16_t)(expr->ins_count - 1);
    while (depth) {
        uint16_t reg = stack[--depth];
        const struct expr_ins *ins = &expr->ins[reg];
        if (ins->op == EXPR_AND && depth + 2 + count <= CONJUNCTS_MAX) {
            stack[depth++] = ins->b;
            stack[depth++] = ins->a;
        } else {
            roots[count++] = reg;
        }
    }
    return count;
}

static enum err prepare_filter(struct query_exec *exec, struct exec_source *source,
                               const struct query_scope *scope)
{
    if (!source->query->has_filter) return ERR_NONE;
    uint16_t roots[CONJUNCTS_MAX];
    uint32_t count = split_conjuncts(&source->query->filter, roots);
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct vexpr), count, &at);
    if (err) return err;
    source->conjuncts = at;
    err = exec_alloc(exec, sizeof(uint32_t), count, &at);
    if (err) return err;
    source->conjunct_steps = at;
    for (uint32_t i = 0; i < count; i++) {
        err = vexpr_init(&source->conjuncts[i], &source->query->filter, roots[i], scope,
                         &exec->registers, &exec->memory, &exec->arena);
        if (err) return err;
        source->conjunct_count++;
        source->conjunct_steps[i] = ++exec->step_count;
    }
    return ERR_NONE;
}

/* Do the keys tell in which partition the joined row is? */
static bool find_slot_keys(struct exec_source *source)
{
    const struct table_def *table = source->table;
    const struct index_def *index = &table->indexes[source->query->index];
    for (uint8_t p = 0; p < table->partition_column_count; p++) {
        uint16_t k = 0;
        while (k < source->query->key_count && index->columns[k] != table->partition_columns[p])
            k++;
        if (k == source->query->key_count) return false;
        source->slot_keys[p] = (uint8_t)k;
    }
    return true;
}

static enum err prepare_keys(struct query_exec *exec, struct exec_source *source,
                             const struct query_scope *scope)
{
    const struct query_source *query = source->query;
    if (query->access != ACCESS_JOIN) return ERR_NONE;
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct vexpr), query->key_count, &at);
    if (err) return err;
    source->keys = at;
    for (uint16_t k = 0; k < query->key_count; k++) {
        err =
            vexpr_init(&source->keys[k], &query->keys[k], (uint16_t)(query->keys[k].ins_count - 1),
                       scope, &exec->registers, &exec->memory, &exec->arena);
        if (err) return err;
    }
    source->key_step = ++exec->step_count;
    source->broadcast = !find_slot_keys(source);
    source->unique =
        query->index == 0 && query->key_count == source->table->indexes[0].column_count;
    return ERR_NONE;
}

struct column_use {
    struct query_exec *exec;
    uint32_t step;
};

static void use_column(void *context, uint8_t source, uint16_t column)
{
    struct column_use *use = context;
    struct query_exec *exec = use->exec;
    int16_t *number = &exec->sources[source].columns[column];
    if (*number < 0) {
        const struct column_def *def = &exec->sources[source].table->columns[column];
        uint8_t kind = (uint8_t)column_kind(def);
        *number = (int16_t)exec->column_count++;
        exec->columns[*number] = (struct exec_column){
            .source = source,
            .column = column,
            .type = {.kind = kind, .scale = kind == KIND_DEC ? def->scale : (uint8_t)0}};
    }
    if (exec->columns[*number].last_use < use->step) exec->columns[*number].last_use = use->step;
}

static void use_columns_of(struct query_exec *exec, const struct vexpr *vexpr, uint32_t step)
{
    struct column_use use = {.exec = exec, .step = step};
    if (vexpr->expr) vexpr_columns(vexpr, use_column, &use);
}

static enum err find_columns(struct query_exec *exec)
{
    size_t column_max = 0;
    for (uint16_t s = 0; s < exec->tree->source_count; s++)
        column_max += exec->sources[s].table->column_count;
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct exec_column), column_max, &at);
    if (err) return err;
    exec->columns = at;
    for (uint16_t s = 0; s < exec->tree->source_count; s++) {
        const struct exec_source *source = &exec->sources[s];
        for (uint16_t k = 0; k < source->query->key_count; k++)
            use_columns_of(exec, &source->keys[k], source->key_step);
        for (uint16_t c = 0; c < source->conjunct_count; c++)
            use_columns_of(exec, &source->conjuncts[c], source->conjunct_steps[c]);
    }
    const struct query_tree *tree = exec->tree;
    const struct sink *sink = &exec->sink;
    for (uint16_t i = 0; i < tree->group_count; i++)
        use_columns_of(exec, &sink->groups[i], sink->step);
    for (uint16_t i = 0; i < tree->aggregate_count; i++)
        use_columns_of(exec, &sink->arguments[i], sink->step);
    for (uint16_t i = 0; !tree->has_aggregation && i < tree->output_count; i++)
        use_columns_of(exec, &sink->outputs[i], sink->step);
    return ERR_NONE;
}

static enum err prepare_routing(struct query_exec *exec, struct routing *routing)
{
    void *at;
    enum err err = exec_alloc(exec, sizeof(uint16_t), QUERY_VECTOR_ROWS, &at);
    if (err) return err;
    routing->order = at;
    err = exec_alloc(exec, sizeof(uint16_t), QUERY_VECTOR_ROWS, &at);
    if (err) return err;
    routing->partitions = at;
    return ERR_NONE;
}

static enum err prepare_stage(struct query_exec *exec, uint16_t s)
{
    struct stage *stage = &exec->stages[s];
    stage->inbox_end = &stage->inbox;
    void *at;
    enum err err = exec_alloc(exec, sizeof(struct index_cursor), 1, &at);
    if (err) return err;
    stage->cursor = at;
    err = batch_init(exec, &stage->route, s);
    if (!err) err = batch_init(exec, &stage->join, s);
    if (!err) err = batch_init(exec, &stage->arrive, s);
    if (!err) err = prepare_routing(exec, &stage->routing);
    if (!err) err = prepare_routing(exec, &stage->arriving);
    return err;
}

static enum err prepare(struct query_exec *exec, const struct catalog *catalog)
{
    const struct query_tree *tree = exec->tree;
    struct query_scope scope;
    enum err err = copy_tables(exec, catalog);
    for (uint16_t s = 0; !err && s < tree->source_count; s++) {
        scope_of(exec, s, &scope);
        err = prepare_keys(exec, &exec->sources[s], &scope);
        if (err) break;
        scope_of(exec, (uint16_t)(s + 1), &scope);
        err = prepare_filter(exec, &exec->sources[s], &scope);
    }
    if (err) return err;
    err = sink_init(exec, &scope, ++exec->step_count);
    if (!err) err = find_columns(exec);
    if (err) return err;
    void *at;
    err = exec_alloc(exec, sizeof(struct stage), tree->source_count, &at);
    if (err) return err;
    exec->stages = at;
    for (uint16_t s = 1; !err && s < tree->source_count; s++)
        err = prepare_stage(exec, s);
    if (!err) err = batch_init(exec, &exec->last, tree->source_count);
    if (!err) err = move_init(exec);
    if (!err) err = scan_init(exec);
    return err;
}

enum err query_exec_create(const struct query_exec_config *config, struct query_exec **ret_exec,
                           struct diag *diag)
{
    struct query_exec *exec = calloc(1, sizeof(*exec));
    if (!exec) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    exec->tree = config->tree;
    exec->host = config->host;
    exec->run = config->run;
    exec->row_credits = config->run.window;
    query_memory_init(&exec->memory, config->run.memory_max);
    vector_pool_init(&exec->pool, &exec->memory);
    vector_pool_init(&exec->registers, &exec->memory);
    arena_init(&exec->arena, 0);
    arena_init(&exec->scratch, 0);
    buf_init(&exec->buf);
    enum err err = prepare(exec, config->catalog);
    if (err) {
        query_exec_destroy(exec);
        return diag_set(diag, err, "%s", err_text(err));
    }
    *ret_exec = exec;
    return ERR_NONE;
}

static void fini_vexprs(struct vexpr *vexprs, uint16_t count)
{
    for (uint16_t i = 0; vexprs && i < count; i++)
        vexpr_fini(&vexprs[i]);
}

/* Empties the boxes and inboxes of all stages. */
static void clear_boxes(struct query_exec *exec)
{
    for (uint16_t s = 1; exec->stages && s < exec->tree->source_count; s++) {
        struct stage *stage = &exec->stages[s];
        batch_clear(exec, &stage->route);
        batch_clear(exec, &stage->arrive);
        batch_clear(exec, &stage->join);
        stage->cursor_open = false;
        stage->routing.ready = false;
        stage->arriving.ready = false;
        while (stage->inbox) {
            struct moved *moved = stage->inbox;
            stage->inbox = moved->next;
            moved_release(exec, moved);
        }
        stage->inbox_end = &stage->inbox;
        for (uint16_t w = 0; stage->outgoing && w < exec->host.worker_count; w++)
            collector_clear(&stage->outgoing[w].rows);
    }
}

void query_exec_destroy(struct query_exec *exec)
{
    if (!exec) return;
    exec->host.send_moved = NULL; /* nobody is told any more */
    clear_boxes(exec);
    batch_clear(exec, &exec->last);
    move_fini(exec);
    scan_fini(exec);
    sink_fini(exec);
    for (uint16_t s = 0; s < exec->tree->source_count; s++) {
        struct exec_source *source = &exec->sources[s];
        fini_vexprs(source->conjuncts, source->conjunct_count);
        if (source->query) fini_vexprs(source->keys, source->query->key_count);
        table_def_destroy(source->table);
    }
    vector_pool_fini(&exec->registers);
    vector_pool_fini(&exec->pool);
    query_arena_fini(&exec->memory, &exec->scratch);
    query_arena_fini(&exec->memory, &exec->arena);
    ASSERT(!exec->memory.used);
    buf_fini(&exec->buf);
    free(exec);
}

/* ---- running ---- */

struct batch *exec_box(struct query_exec *exec, uint16_t source)
{
    return source < exec->tree->source_count ? &exec->stages[source].route : &exec->last;
}

/* Values borrowed from pages do not outlive a slice. */
static void pause_boxes(struct query_exec *exec)
{
    for (uint16_t s = 1; s < exec->tree->source_count; s++) {
        struct stage *stage = &exec->stages[s];
        batch_pause(exec, &stage->route);
        batch_pause(exec, &stage->arrive);
        batch_pause(exec, &stage->join);
    }
    batch_pause(exec, &exec->last);
}

static enum step_result step_stages(struct query_exec *exec)
{
    for (uint16_t s = (uint16_t)(exec->tree->source_count - 1); s > 0; s--) {
        struct stage *stage = &exec->stages[s];
        enum step_result result = STEP_NOTHING;
        if (stage->join.count) result = join_step(exec, s);
        if (result == STEP_NOTHING && (stage->arrive.count || stage->inbox))
            result = arrive_step(exec, s);
        if (result == STEP_NOTHING && stage->route.count) result = route_step(exec, s);
        if (result != STEP_NOTHING) return result;
    }
    return STEP_NOTHING;
}

static bool boxes_are_empty(const struct query_exec *exec)
{
    for (uint16_t s = 1; s < exec->tree->source_count; s++) {
        const struct stage *stage = &exec->stages[s];
        if (stage->route.count || stage->arrive.count || stage->join.count || stage->inbox)
            return false;
    }
    return exec->last.count == 0 && exec->scan.done;
}

static enum step_result report_idle(struct query_exec *exec)
{
    exec_rows_begin(exec, QUERY_ROWS_IDLE);
    buf_put_u64(&exec->buf, exec->moves_taken);
    buf_put_u16(&exec->buf, exec->host.worker_count);
    for (uint16_t w = 0; w < exec->host.worker_count; w++)
        buf_put_u64(&exec->buf, exec->moves_sent ? exec->moves_sent[w] : 0);
    exec->idle_told = true;
    return exec_rows_send(exec);
}

/* Nothing is left in the boxes: send what was collected, then the results. */
static enum step_result step_end(struct query_exec *exec)
{
    bool waiting = false;
    enum step_result result = move_flush(exec, &waiting);
    if (result != STEP_NOTHING || waiting) return result;
    if (!exec->finish) {
        if (exec->idle_told) return STEP_NOTHING;
        if (!exec->run.alone) return report_idle(exec);
        exec->finish = true;
    }
    bool end = false;
    result = sink_send(exec, &end);
    if (result == STEP_FAILED || !end) return result;
    exec_rows_begin(exec, QUERY_ROWS_DONE);
    exec->done = true;
    return exec_rows_send(exec);
}

static enum step_result step(struct query_exec *exec)
{
    if (exec->sink.full && !exec->scan.done) {
        exec->scan.done = true;
        clear_boxes(exec);
    }
    enum step_result result = STEP_NOTHING;
    if (exec->last.count) result = sink_step(exec);
    if (result == STEP_NOTHING) result = step_stages(exec);
    if (result == STEP_NOTHING && !exec->scan.done && !exec_box(exec, 1)->count)
        result = scan_step(exec);
    if (result != STEP_NOTHING) {
        exec->idle_told = false;
        return result;
    }
    return boxes_are_empty(exec) ? step_end(exec) : STEP_NOTHING;
}

enum query_exec_state query_exec_run(struct query_exec *exec, uint64_t deadline_ns)
{
    if (exec->done) return QUERY_EXEC_DONE;
    pause_boxes(exec);
    while (!exec->err) {
        enum step_result result = step(exec);
        /* Text made by expressions is consumed within a step. */
        if (exec->scratch.size) query_arena_reset(&exec->memory, &exec->scratch);
        if (result == STEP_FAILED) break;
        if (exec->done) return QUERY_EXEC_DONE;
        if (result == STEP_NOTHING) return QUERY_EXEC_WAIT;
        if (exec->host.monotonic_ns(exec->host.context) >= deadline_ns) return QUERY_EXEC_MORE;
    }
    return QUERY_EXEC_FAILED;
}

void query_exec_more(struct query_exec *exec, const uint8_t *body, size_t size)
{
    struct reader reader = reader_of(body, size);
    struct query_more more;
    enum err err = query_more_decode(&reader, &more);
    if (err || more.credits > exec->run.window - exec->row_credits) {
        exec_fail(exec, ERR_BAD_SIGNAL, "malformed credit for a query");
        return;
    }
    exec->row_credits += more.credits;
    exec->finish |= more.finish;
}

void query_exec_fail(struct query_exec *exec, enum err err, const char *reason)
{
    exec_fail(exec, err, "%s", reason);
}

const struct diag *query_exec_failure(const struct query_exec *exec)
{
    return &exec->diag;
}

void exec_rows_begin(struct query_exec *exec, enum query_rows_kind kind)
{
    struct query_rows rows = {.kind = (uint8_t)kind,
                              .sequence = exec->sequence,
                              .ts = exec->run.ts,
                              .rows_scanned = exec->rows_scanned,
                              .memory_peak = exec->memory.peak};
    buf_clear(&exec->buf);
    query_rows_encode(&rows, &exec->buf);
}

enum step_result exec_rows_send(struct query_exec *exec)
{
    if (exec->buf.failed) return exec_fail(exec, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    if (query_rows_has_payload(exec->buf.bytes[0])) {
        ASSERT(exec->row_credits);
        exec->row_credits--;
    }
    enum err sent = exec->host.send_rows(exec->host.context, &exec->buf);
    if (sent)
        return exec_fail(exec, sent, "%s: a result row is larger than a message", err_text(sent));
    exec->sequence++;
    return STEP_DONE;
}
