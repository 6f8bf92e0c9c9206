/* What a worker says about itself: counters as one JSON object.
 *
 * SIGNAL_STATUS  no body. SIGNAL_STATUS_REPLY  body: the text. */
#include "db/node/worker_private.h"

static void put_counter(struct buf *buf, const char *name, uint64_t value)
{
    bool first = buf->size && buf->bytes[buf->size - 1] == '{';
    buf_printf(buf, "%s\"%s\": %llu", first ? "" : ", ", name, (unsigned long long)value);
}

/* Names and addresses have no control characters: only ", \ need care. */
void status_put_text(struct buf *buf, const char *text)
{
    buf_put_u8(buf, '"');
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') buf_put_u8(buf, '\\');
        buf_put_u8(buf, (uint8_t)*text);
    }
    buf_put_u8(buf, '"');
}

static void put_tables(const struct worker *worker, struct buf *buf)
{
    buf_printf(buf, ", \"tables\": [");
    for (uint32_t i = 0; i < worker->catalog->table_count; i++) {
        const struct table_def *table = worker->catalog->tables[i];
        uint64_t rows = 0;
        for (uint32_t p = worker->index; p < worker->node->partition_count;
             p += worker->node->worker_count)
            rows += fragment_row_count(partition_fragment(worker->partitions[p], table->id));
        buf_printf(buf, "%s{\"database\": ", i ? ", " : "");
        status_put_text(buf, table->database);
        buf_printf(buf, ", \"name\": ");
        status_put_text(buf, table->name);
        buf_printf(buf, ", \"rows\": %llu}", (unsigned long long)rows);
    }
    buf_printf(buf, "]");
}

static void on_status(struct worker *worker, struct signal *signal)
{
    const struct worker_counters *counters = &worker->counters;
    struct ldm_memory memory;
    ldm_memory(worker->ldm, &memory);
    struct buf *buf = &worker->reply;
    buf_clear(buf);
    buf_printf(buf, "{");
    put_counter(buf, "worker", worker->index);
    put_counter(buf, "signals", counters->signals);
    put_counter(buf, "signals_dropped", counters->signals_dropped);
    put_counter(buf, "programs", counters->programs);
    put_counter(buf, "programs_failed", counters->programs_failed);
    put_counter(buf, "commits", counters->commits);
    put_counter(buf, "prepares", counters->prepares);
    put_counter(buf, "prepares_refused", counters->prepares_refused);
    put_counter(buf, "coordinated", counters->coordinated);
    put_counter(buf, "coordinated_aborted", counters->coordinated_aborted);
    put_counter(buf, "prepared_open", worker->prepared.count);
    put_counter(buf, "flushes", counters->flushes);
    put_counter(buf, "checkpoints", counters->checkpoints);
    put_counter(buf, "purged", counters->purged);
    put_counter(buf, "sleeps", counters->sleeps);
    put_counter(buf, "pins", worker->pin_count);
    put_counter(buf, "clock", worker->clock.last);
    put_counter(buf, "durable", redo_horizon_durable(worker->redo));
    put_counter(buf, "redo_bytes", redo_bytes_written(worker->redo));
    put_counter(buf, "memory_pages", memory.pages);
    put_counter(buf, "memory_indexes", memory.indexes);
    put_counter(buf, "memory_versions", memory.versions);
    put_counter(buf, "memory_other", memory.other);
    put_tables(worker, buf);
    if (worker->links) links_status(worker->links, buf);
    buf_printf(buf, "}");
    if (buf->failed) {
        worker_reply(worker, signal, SIGNAL_STATUS_REPLY, ERR_NO_MEMORY, NULL, 0);
        return;
    }
    worker_reply(worker, signal, SIGNAL_STATUS_REPLY, ERR_NONE, buf->bytes, (uint32_t)buf->size);
}

void status_start(struct worker *worker)
{
    worker_on(worker, SIGNAL_STATUS, on_status);
}
