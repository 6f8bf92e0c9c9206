/* Writing a checkpoint of a partition while it serves.
 *
 * The worker's loop encodes pages as of the pinned timestamp, a few per step, into one of two
 * slots. A full slot goes to a job, which compresses it, checksums it and appends it to
 * checkpoint/P.T.tmp; meanwhile the loop fills the other. So memory is bounded by two blocks and
 * the compressed form of one, and the loop only copies. The jobs of a checkpoint have one order:
 * they run one after the other, as the file's chained checksums need.
 *
 * Publishing: the file is complete and synced before it gets its name, and older ones go only after
 * the directory was synced. So there is always a whole checkpoint with a durable name, and the log
 * is trimmed only by names that are durable (redo_trim.c).
 *
 * A row visible at the timestamp lies in a page that existed when the checkpoint began, so page
 * counts are taken then. A table that is dropped meanwhile is left out from there on; its blocks so
 * far are skipped when loaded. */
#include <lz4.h>
#include <stdlib.h>

#include "base/check.h"
#include "db/ldm/checkpoint_format.h"
#include "db/ldm/redo_log.h"

enum {
    BLOCK_SIZE = 256 << 10, /* raw bytes after which a block is closed */
    STEP_PAGES = 4,         /* pages with rows that one step encodes */
    STEP_PAGES_SEEN = 256,  /* pages that one step looks at */
    SLOT_COUNT = 2,
};

struct slot {
    struct env_job job;
    struct checkpoint *checkpoint;
    struct buf raw;
    struct block_head head; /* but for codec and sizes */
    enum err
        err; /* of the jobs up to this one: what a later job finds is not looked at by done() */
    bool busy;
};

struct checkpoint {
    struct env *env;
    struct partition *partition;
    uint64_t ts;
    uint64_t catalog_version;
    uint16_t number; /* of the partition */
    uint16_t worker;

    /* loop */
    uint32_t tables[SCHEMA_TABLES_MAX];
    uint32_t pages[SCHEMA_TABLES_MAX];
    uint32_t table_count;
    uint32_t table; /* index of the one being encoded */
    uint32_t page;  /* next of it */
    struct slot slots[SLOT_COUNT];
    struct slot *filling; /* or NULL */
    bool ended;           /* the end job was submitted */
    bool complete;        /* and is done */
    bool publishing;
    enum err err;
    void (*published_fn)(void *context, enum err err);
    void *published_context;

    /* job */
    uint8_t id[STORE_ID_SIZE];
    struct env_file *file;
    bool created;   /* the temporary file exists */
    bool published; /* it has its final name */
    uint64_t offset;
    uint64_t chain;
    uint64_t block_count;
    uint64_t row_count;
    struct buf packed;
    struct buf out;
    enum err job_err; /* the first; later jobs do nothing */
    struct env_job end_job;
    struct env_job publish_job;
};

/* ---- jobs ---- */

static enum err file_append(struct checkpoint *checkpoint)
{
    if (checkpoint->out.failed) return ERR_NO_MEMORY;
    enum err err = checkpoint->env->ops->file_write(checkpoint->file, checkpoint->out.bytes,
                                                    checkpoint->out.size, checkpoint->offset);
    checkpoint->offset += checkpoint->out.size;
    return err;
}

static enum err file_begin(struct checkpoint *checkpoint)
{
    if (checkpoint->file) return ERR_NONE;
    struct store_info info;
    enum err err = store_read_info(checkpoint->env, &info, NULL);
    if (err) return err;
    memcpy(checkpoint->id, info.id, sizeof(checkpoint->id));
    char path[STORE_PATH_SIZE];
    store_checkpoint_path(checkpoint->number, checkpoint->ts, true, path);
    err = checkpoint->env->ops->file_open(checkpoint->env, path,
                                          ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_TRUNCATE,
                                          &checkpoint->file);
    if (err) return err;
    checkpoint->created = true;
    buf_clear(&checkpoint->out);
    checkpoint_header_put(&checkpoint->out, checkpoint->id,
                          &(struct checkpoint_header){
                              .ts = checkpoint->ts,
                              .catalog_version = checkpoint->catalog_version,
                              .partition = checkpoint->number,
                          },
                          &checkpoint->chain);
    return file_append(checkpoint);
}

static enum err block_write(struct checkpoint *checkpoint, const struct slot *slot)
{
    enum err err = file_begin(checkpoint);
    if (err) return err;
    struct block_head head = slot->head;
    int bound = LZ4_compressBound((int)slot->raw.size);
    ASSERT(bound > 0);
    buf_clear(&checkpoint->packed);
    uint8_t *packed = buf_add(&checkpoint->packed, (size_t)bound);
    if (!packed) return ERR_NO_MEMORY;
    int size = LZ4_compress_default((const char *)slot->raw.bytes, (char *)packed,
                                    (int)slot->raw.size, bound);
    bool shrunk = size > 0 && (size_t)size < slot->raw.size;
    head.codec = shrunk ? BLOCK_LZ4 : BLOCK_PLAIN;
    head.raw_size = (uint32_t)slot->raw.size;
    head.stored_size = shrunk ? (uint32_t)size : head.raw_size;
    buf_clear(&checkpoint->out);
    block_put(&checkpoint->out, &head, shrunk ? packed : slot->raw.bytes, checkpoint->offset,
              &checkpoint->chain);
    checkpoint->block_count++;
    checkpoint->row_count += head.row_count;
    return file_append(checkpoint);
}

static void block_run(struct env_job *job)
{
    struct slot *slot = CONTAINER_OF(job, struct slot, job);
    struct checkpoint *checkpoint = slot->checkpoint;
    if (!checkpoint->job_err) checkpoint->job_err = block_write(checkpoint, slot);
    slot->err = checkpoint->job_err;
}

static void block_done(struct env_job *job)
{
    struct slot *slot = CONTAINER_OF(job, struct slot, job);
    slot->busy = false;
    if (!slot->checkpoint->err) slot->checkpoint->err = slot->err;
}

static enum err end_write(struct checkpoint *checkpoint)
{
    enum err err = file_begin(checkpoint);
    if (err) return err;
    const struct block_head head = {
        .kind = BLOCK_END, .raw_size = BLOCK_END_SIZE, .stored_size = BLOCK_END_SIZE};
    const uint64_t body[3] = {checkpoint->block_count, checkpoint->row_count,
                              checkpoint->offset + BLOCK_HEAD_SIZE + BLOCK_END_SIZE};
    static_assert(sizeof(body) == BLOCK_END_SIZE, "disk format");
    buf_clear(&checkpoint->out);
    block_put(&checkpoint->out, &head, body, checkpoint->offset, &checkpoint->chain);
    err = file_append(checkpoint);
    return err ? err : checkpoint->env->ops->file_sync(checkpoint->file);
}

static void end_run(struct env_job *job)
{
    struct checkpoint *checkpoint = CONTAINER_OF(job, struct checkpoint, end_job);
    if (!checkpoint->job_err) checkpoint->job_err = end_write(checkpoint);
}

static void end_done(struct env_job *job)
{
    struct checkpoint *checkpoint = CONTAINER_OF(job, struct checkpoint, end_job);
    checkpoint->complete = true;
    if (!checkpoint->err) checkpoint->err = checkpoint->job_err;
}

/* ---- the loop's side ---- */

enum err checkpoint_create(struct env *env, struct partition *partition, uint64_t ts,
                           uint16_t worker, struct checkpoint **ret_checkpoint)
{
    struct checkpoint *checkpoint = calloc(1, sizeof(*checkpoint));
    if (!checkpoint) return ERR_NO_MEMORY;
    checkpoint->env = env;
    checkpoint->partition = partition;
    checkpoint->ts = ts;
    checkpoint->number = partition_number(partition);
    checkpoint->worker = worker;
    const struct catalog *catalog = partition_catalog(partition);
    checkpoint->catalog_version = catalog ? catalog->version : 0;
    for (uint32_t i = 0; catalog && i < catalog->table_count; i++) {
        uint32_t id = catalog->tables[i]->id;
        struct fragment *fragment = partition_fragment(partition, id);
        if (!fragment) continue;
        checkpoint->tables[checkpoint->table_count] = id;
        checkpoint->pages[checkpoint->table_count++] = fragment_page_count(fragment);
    }
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        checkpoint->slots[i].checkpoint = checkpoint;
        checkpoint->slots[i].job =
            (struct env_job){.run = block_run, .done = block_done, .worker = worker};
    }
    checkpoint->end_job = (struct env_job){.run = end_run, .done = end_done, .worker = worker};
    *ret_checkpoint = checkpoint;
    return ERR_NONE;
}

static void job_submit(struct checkpoint *checkpoint, struct env_job *job)
{
    checkpoint->env->ops->submit(checkpoint->env, job,
                                 CHECKPOINT_JOB_ORDER + (uint32_t)checkpoint->number);
}

static void filling_submit(struct checkpoint *checkpoint)
{
    struct slot *slot = checkpoint->filling;
    checkpoint->filling = NULL;
    if (!slot) return;
    slot->busy = true;
    job_submit(checkpoint, &slot->job);
}

/* The slot that pages of this table go into; NULL when both are with jobs. */
static struct slot *filling_get(struct checkpoint *checkpoint, const struct table_def *table)
{
    if (checkpoint->filling) return checkpoint->filling;
    for (unsigned i = 0; i < SLOT_COUNT; i++) {
        struct slot *slot = &checkpoint->slots[i];
        if (slot->busy) continue;
        buf_clear(&slot->raw);
        slot->head = (struct block_head){
            .kind = BLOCK_ROWS, .table_id = table->id, .table_version = table->version};
        checkpoint->filling = slot;
        return slot;
    }
    return NULL;
}

static enum err page_encode(struct checkpoint *checkpoint, struct fragment *fragment,
                            uint32_t row_count)
{
    const struct table_def *table = fragment_table(fragment);
    /* One block has rows of one version of the table. */
    if (checkpoint->filling && checkpoint->filling->head.table_version != table->version)
        filling_submit(checkpoint);
    struct slot *slot = filling_get(checkpoint, table);
    if (!slot) return ERR_BUSY;
    fragment_page_encode(fragment, checkpoint->page, checkpoint->ts, &slot->raw);
    if (slot->raw.failed) return ERR_NO_MEMORY;
    if (slot->raw.size > BLOCK_RAW_SIZE_MAX) return ERR_TOO_BIG;
    slot->head.row_count += row_count;
    if (slot->raw.size >= BLOCK_SIZE) filling_submit(checkpoint);
    return ERR_NONE;
}

static enum err pages_encode(struct checkpoint *checkpoint)
{
    uint32_t encoded = 0;
    for (uint32_t seen = 0; seen < STEP_PAGES_SEEN && encoded < STEP_PAGES; seen++) {
        if (checkpoint->table == checkpoint->table_count) break;
        struct fragment *fragment =
            partition_fragment(checkpoint->partition, checkpoint->tables[checkpoint->table]);
        uint32_t pages = fragment ? fragment_page_count(fragment) : 0;
        if (pages > checkpoint->pages[checkpoint->table])
            pages = checkpoint->pages[checkpoint->table];
        if (checkpoint->page >= pages) {
            filling_submit(checkpoint);
            checkpoint->table++;
            checkpoint->page = 0;
            continue;
        }
        uint32_t count = fragment_page_rows(fragment, checkpoint->page, checkpoint->ts);
        if (count) {
            enum err err = page_encode(checkpoint, fragment, count);
            if (err) return err;
            encoded++;
        }
        checkpoint->page++;
    }
    return ERR_NONE;
}

enum err checkpoint_step(struct checkpoint *checkpoint)
{
    if (checkpoint->err) return checkpoint->err;
    if (checkpoint->complete) return ERR_END;
    if (checkpoint->ended) return ERR_BUSY;
    if (checkpoint->table < checkpoint->table_count) {
        enum err err = pages_encode(checkpoint);
        if (err && err != ERR_BUSY) checkpoint->err = err;
        return err;
    }
    checkpoint->ended = true;
    job_submit(checkpoint, &checkpoint->end_job);
    return ERR_BUSY;
}

/* ---- publishing ---- */

/* Removal is housekeeping: what stays is removed after the next checkpoint or by recovery. */
static enum err older_remove(void *context, const char *name)
{
    struct checkpoint *checkpoint = context;
    uint16_t partition;
    uint64_t ts;
    if (store_name_parse(name, &partition, &ts) && partition == checkpoint->number &&
        ts < checkpoint->ts) {
        char path[STORE_PATH_SIZE];
        store_checkpoint_path(partition, ts, false, path);
        (void)!checkpoint->env->ops->remove(checkpoint->env, path);
    }
    return ERR_NONE;
}

static void publish_run(struct env_job *job)
{
    struct checkpoint *checkpoint = CONTAINER_OF(job, struct checkpoint, publish_job);
    const struct env_ops *ops = checkpoint->env->ops;
    char from[STORE_PATH_SIZE], to[STORE_PATH_SIZE];
    store_checkpoint_path(checkpoint->number, checkpoint->ts, true, from);
    store_checkpoint_path(checkpoint->number, checkpoint->ts, false, to);
    enum err err = ops->rename(checkpoint->env, from, to);
    checkpoint->published = !err;
    if (!err) err = ops->dir_sync(checkpoint->env, "checkpoint");
    if (!err) (void)!ops->dir_list(checkpoint->env, "checkpoint", older_remove, checkpoint);
    checkpoint->job_err = err;
}

static void publish_done(struct env_job *job)
{
    struct checkpoint *checkpoint = CONTAINER_OF(job, struct checkpoint, publish_job);
    checkpoint->publishing = false;
    checkpoint->published_fn(checkpoint->published_context, checkpoint->job_err);
}

void checkpoint_publish(struct checkpoint *checkpoint, void (*done)(void *context, enum err err),
                        void *context)
{
    ASSERT(checkpoint->complete && !checkpoint->err && !checkpoint->publishing);
    checkpoint->publishing = true;
    checkpoint->published_fn = done;
    checkpoint->published_context = context;
    checkpoint->publish_job =
        (struct env_job){.run = publish_run, .done = publish_done, .worker = checkpoint->worker};
    job_submit(checkpoint, &checkpoint->publish_job);
}

bool checkpoint_is_idle(const struct checkpoint *checkpoint)
{
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        if (checkpoint->slots[i].busy) return false;
    return checkpoint->ended == checkpoint->complete && !checkpoint->publishing;
}

void checkpoint_destroy(struct checkpoint *checkpoint)
{
    if (!checkpoint) return;
    checkpoint->env->ops->file_close(checkpoint->file);
    if (checkpoint->created && !checkpoint->published) {
        /* Rare (the checkpoint failed or the node stops), so not worth a job that outlives its
         * object. */
        char path[STORE_PATH_SIZE];
        store_checkpoint_path(checkpoint->number, checkpoint->ts, true, path);
        (void)!checkpoint->env->ops->remove(checkpoint->env, path);
    }
    for (unsigned i = 0; i < SLOT_COUNT; i++)
        buf_fini(&checkpoint->slots[i].raw);
    buf_fini(&checkpoint->packed);
    buf_fini(&checkpoint->out);
    free(checkpoint);
}
