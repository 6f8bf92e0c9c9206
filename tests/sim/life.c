/* The simulated node: what a real one does with partitions and logs, reduced to its rules.
 *
 *   - Each worker has a hybrid clock, which jumps ahead by chance and follows what it hears.
 *   - A transaction executes on every worker it touches and takes a prepare timestamp there; it
 * commits at the greatest of them. The first share is committed at once, the others by chance
 * later, among other transactions.
 *   - A flush promises the clock, or less when a share prepared earlier is still open.
 *   - A checkpoint starts when its worker has nothing open and is published when all logs have
 * reached it.
 *
 * Every choice comes from the simulator's random stream. */
#include "tests/sim/life.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum { COLUMN_SLOT, COLUMN_KEY, COLUMN_VERSION, COLUMN_BODY, COLUMN_COUNT };
enum { TABLE_ID = 3, BODY_SIZE_MAX = 200, RECORD_SIZE_MAX = 8192 };

static uint64_t below(struct life *life, uint64_t count)
{
    return sim_random(life->sim) % count;
}

/* ---- rows ---- */

/* What a version looks like; body has room for BODY_SIZE_MAX bytes. */
static void row_values(uint16_t partition, uint16_t key, uint64_t version, uint8_t *body,
                       struct value values[COLUMN_COUNT])
{
    uint64_t seed = hash_u64(version);
    uint32_t size = (uint32_t)(seed % BODY_SIZE_MAX);
    for (uint32_t i = 0; i < size; i++)
        body[i] = (uint8_t)(seed >> (i % 8 * 8)) ^ (uint8_t)i;
    values[COLUMN_SLOT] = value_u64(partition);
    values[COLUMN_KEY] = value_u64(key);
    values[COLUMN_VERSION] = value_u64(version);
    values[COLUMN_BODY] = version % 5 == 0 ? value_null() : value_str(body, size);
}

static bool row_is_version(const struct fragment *fragment, uint32_t row, uint64_t version)
{
    struct value version_found = fragment_value(fragment, row, COLUMN_VERSION);
    if (version_found.kind != KIND_U64 || version_found.u != version) return false;
    uint8_t body[BODY_SIZE_MAX];
    struct value values[COLUMN_COUNT];
    row_values(0, 0, version, body, values);
    struct value found = fragment_value(fragment, row, COLUMN_BODY);
    if (values[COLUMN_BODY].kind != found.kind) return false;
    if (found.kind == KIND_NULL) return true;
    return found.size == values[COLUMN_BODY].size && !memcmp(found.bytes, body, found.size);
}

bool life_matches(struct life *life, char reason[256])
{
    for (uint16_t i = 0; i < life->partition_count; i++) {
        struct fragment *fragment = partition_fragment(life->partitions[i], TABLE_ID);
        ASSERT(fragment);
        uint64_t expected = 0;
        for (uint16_t key = 0; key < MODEL_KEYS; key++) {
            uint64_t version = life->model->versions[i][key];
            expected += version != 0;
            const struct value values[2] = {value_u64(i), value_u64(key)};
            uint32_t row;
            enum err err = fragment_find(fragment, NULL, values, &row);
            bool same =
                version ? !err && row_is_version(fragment, row, version) : err == ERR_NOT_FOUND;
            if (same) continue;
            struct value found = err ? value_null() : fragment_value(fragment, row, COLUMN_VERSION);
            snprintf(reason, 256, "partition %u key %u should have version %llu: %s, version %llu",
                     (unsigned)i, (unsigned)key, (unsigned long long)version, err_name(err),
                     err ? 0 : (unsigned long long)found.u);
            return false;
        }
        struct diag diag;
        if (fragment_row_count(fragment) != expected) {
            snprintf(reason, 256, "partition %u has %llu rows and not %llu", (unsigned)i,
                     (unsigned long long)fragment_row_count(fragment),
                     (unsigned long long)expected);
            return false;
        }
        if (fragment_verify(fragment, &diag)) {
            snprintf(reason, 256, "partition %u: %.200s", (unsigned)i, diag.text);
            return false;
        }
    }
    return true;
}

/* ---- beginning and end ---- */

void life_init(struct life *life, struct sim *sim, struct model *model,
               const struct catalog *catalog, uint16_t partition_count, uint16_t worker_count)
{
    *life = (struct life){
        .sim = sim,
        .model = model,
        .catalog = catalog,
        .partition_count = partition_count,
        .worker_count = worker_count,
    };
    for (uint16_t i = 0; i < worker_count; i++) {
        enum err err = ldm_create(0, &life->workers[i].ldm);
        ASSERT(!err);
    }
    for (uint16_t i = 0; i < partition_count; i++) {
        life->partition_ldm[i] = life->workers[i % worker_count].ldm;
        enum err err = partition_create(life->partition_ldm[i], i, &life->partitions[i]);
        ASSERT(!err);
        err = partition_set_catalog(life->partitions[i], catalog);
        ASSERT(!err);
        life->checkpoints[i].life = life;
    }
}

enum err life_start(struct life *life, const struct recovery_result *result,
                    uint64_t segment_size_max)
{
    life->durable = result->cut;
    for (uint16_t i = 0; i < life->partition_count; i++)
        life->published[i] = result->checkpoint_ts[i];
    for (uint16_t i = 0; i < life->worker_count; i++) {
        life->workers[i].clock = result->clock;
        const struct redo_config config = {
            .env = sim_env(life->sim),
            .worker = i,
            .worker_count = life->worker_count,
            .first_segment = result->next_segment,
            .segment_size_max = segment_size_max,
        };
        enum err err = redo_create(&config, &life->workers[i].redo);
        if (err) return err;
    }
    return ERR_NONE;
}

void life_fini(struct life *life)
{
    for (unsigned i = 0; i < life->waiting_count; i++) {
        change_set_rollback(life->waiting[i].changes);
        change_set_destroy(life->waiting[i].changes);
    }
    for (uint16_t i = 0; i < life->partition_count; i++) {
        if (!life->checkpoints[i].checkpoint) continue;
        checkpoint_destroy(life->checkpoints[i].checkpoint);
    }
    for (uint16_t i = 0; i < life->worker_count; i++) {
        redo_destroy(life->workers[i].redo);
        ldm_destroy(life->workers[i].ldm);
    }
}

/* ---- transactions ---- */

struct attempt {
    struct life_share shares[LIFE_WORKERS_MAX];
    unsigned share_count;
    struct model_transaction transaction;
};

static uint64_t clock_tick(struct life *life, struct life_worker *worker)
{
    worker->clock += 1 + below(life, 20) * (below(life, 4) == 0);
    return worker->clock;
}

static void clock_observe(struct life_worker *worker, uint64_t ts)
{
    if (ts > worker->clock) worker->clock = ts;
}

static struct life_share *share_get(struct life *life, struct attempt *attempt, uint16_t worker)
{
    for (unsigned i = 0; i < attempt->share_count; i++)
        if (attempt->shares[i].worker == worker) return &attempt->shares[i];
    struct life_share *share = &attempt->shares[attempt->share_count++];
    *share = (struct life_share){.worker = worker};
    enum err err = change_set_create(life->workers[worker].ldm, &share->changes);
    ASSERT(!err);
    return share;
}

static void attempt_abort(struct attempt *attempt)
{
    for (unsigned i = 0; i < attempt->share_count; i++) {
        change_set_rollback(attempt->shares[i].changes);
        change_set_destroy(attempt->shares[i].changes);
    }
}

/* Changes a random row. */
static enum err change_make(struct life *life, struct attempt *attempt, uint16_t partition)
{
    uint16_t worker = (uint16_t)(partition % life->worker_count);
    enum err err = redo_check(life->workers[worker].redo, RECORD_SIZE_MAX);
    if (err) return err;
    struct change_set *changes = share_get(life, attempt, worker)->changes;
    struct fragment *fragment = partition_fragment(life->partitions[partition], TABLE_ID);
    uint16_t key = (uint16_t)below(life, MODEL_KEYS);
    uint64_t version = ++life->model->version;
    uint8_t body[BODY_SIZE_MAX];
    struct value values[COLUMN_COUNT];
    row_values(partition, key, version, body, values);
    uint32_t row;
    err = fragment_find(fragment, changes, values, &row);
    if (err == ERR_NOT_FOUND) {
        err = fragment_insert(fragment, changes, values, &row);
    } else if (!err && below(life, 3)) {
        static const uint16_t columns[] = {COLUMN_VERSION, COLUMN_BODY};
        err = fragment_update(fragment, changes, row, columns, &values[COLUMN_VERSION], 2);
    } else if (!err) {
        err = fragment_delete(fragment, changes, row);
        version = 0;
    }
    if (err) return err;
    attempt->transaction.changes[attempt->transaction.change_count++] =
        (struct model_change){.partition = partition, .key = key, .version = version};
    return ERR_NONE;
}

/* Writes a decided share to its log and makes it visible. */
static void share_commit(struct life *life, struct life_share *share)
{
    struct life_worker *worker = &life->workers[share->worker];
    clock_observe(worker, share->commit_ts);
    struct buf body;
    buf_init(&body);
    change_set_encode(share->changes, &body);
    ASSERT(!body.failed && body.size <= RECORD_SIZE_MAX);
    enum err err = redo_append(worker->redo, share->commit_ts, body.bytes, (uint32_t)body.size);
    buf_fini(&body);
    if (err) {
        life->failed = true;
        change_set_rollback(share->changes);
    } else {
        change_set_commit(share->changes, share->commit_ts);
    }
    change_set_destroy(share->changes);
}

static void waiting_commit(struct life *life, unsigned index)
{
    struct life_share share = life->waiting[index];
    life->waiting[index] = life->waiting[--life->waiting_count];
    life->workers[share.worker].open_count--;
    share_commit(life, &share);
}

static void transaction_run(struct life *life)
{
    struct attempt attempt = {0};
    unsigned partitions = 1 + (below(life, 3) == 0) * (unsigned)(1 + below(life, 2));
    for (unsigned i = 0; i < partitions; i++) {
        uint16_t partition = (uint16_t)below(life, life->partition_count);
        for (unsigned changes = 1 + (unsigned)below(life, 4); changes; changes--) {
            if (!change_make(life, &attempt, partition)) continue;
            attempt_abort(&attempt);
            return;
        }
    }
    if (below(life, 12) == 0 || life->waiting_count + attempt.share_count > LIFE_WAITING_MAX) {
        attempt_abort(&attempt);
        return;
    }
    uint64_t commit_ts = 0;
    for (unsigned i = 0; i < attempt.share_count; i++) {
        struct life_share *share = &attempt.shares[i];
        share->prepare_ts = clock_tick(life, &life->workers[share->worker]);
        if (share->prepare_ts > commit_ts) commit_ts = share->prepare_ts;
    }
    attempt.transaction.ts = commit_ts;
    model_add(life->model, &attempt.transaction);
    bool slow = below(life, 2) == 0;
    for (unsigned i = 0; i < attempt.share_count; i++) {
        struct life_share *share = &attempt.shares[i];
        share->commit_ts = commit_ts;
        if (i == 0 || !slow) {
            share_commit(life, share);
        } else {
            life->workers[share->worker].open_count++;
            life->waiting[life->waiting_count++] = *share;
        }
    }
}

/* ---- flushes ---- */

static void durable_note(struct life *life)
{
    uint64_t least = UINT64_MAX;
    for (uint16_t i = 0; i < life->worker_count; i++) {
        uint64_t horizon = redo_horizon_durable(life->workers[i].redo);
        if (horizon < least) least = horizon;
    }
    if (least > life->durable) life->durable = least;
}

static void flushed(void *context, enum err err, uint64_t horizon)
{
    struct life *life = context;
    (void)err;
    (void)horizon;
    durable_note(life);
}

static void flush_start(struct life *life, uint16_t number)
{
    struct life_worker *worker = &life->workers[number];
    uint64_t horizon = worker->clock;
    for (unsigned i = 0; i < life->waiting_count; i++) {
        const struct life_share *share = &life->waiting[i];
        if (share->worker == number && share->prepare_ts <= horizon)
            horizon = share->prepare_ts - 1;
    }
    redo_flush(worker->redo, horizon, flushed, life);
}

static void flush_all(struct life *life)
{
    uint64_t now = 0;
    for (uint16_t i = 0; i < life->worker_count; i++)
        if (life->workers[i].clock > now) now = life->workers[i].clock;
    for (uint16_t i = 0; i < life->worker_count; i++) {
        clock_observe(&life->workers[i], now);
        flush_start(life, i);
    }
}

/* ---- checkpoints ---- */

static uint16_t checkpoint_partition(const struct life_checkpoint *slot)
{
    return (uint16_t)(slot - slot->life->checkpoints);
}

static void checkpoint_end(struct life_checkpoint *slot)
{
    struct life *life = slot->life;
    checkpoint_destroy(slot->checkpoint);
    ldm_unpin(life->partition_ldm[checkpoint_partition(slot)], slot->ts);
    *slot = (struct life_checkpoint){.life = life};
}

static void checkpoint_published(void *context, enum err err)
{
    struct life_checkpoint *slot = context;
    struct life *life = slot->life;
    if (!err) {
        life->published[checkpoint_partition(slot)] = slot->ts;
        life->checkpoint_count++;
    }
    checkpoint_end(slot);
    if (!err)
        for (uint16_t i = 0; i < life->worker_count; i++)
            redo_trim(life->workers[i].redo, UINT64_MAX);
}

static void checkpoint_begin(struct life *life, struct life_checkpoint *slot)
{
    uint16_t number = checkpoint_partition(slot);
    struct life_worker *worker = &life->workers[number % life->worker_count];
    if (worker->open_count) return;
    uint64_t ts = clock_tick(life, worker);
    enum err err = ldm_pin(worker->ldm, ts);
    ASSERT(!err);
    err = checkpoint_create(sim_env(life->sim), life->partitions[number], ts,
                            (uint16_t)(number % life->worker_count), &slot->checkpoint);
    ASSERT(!err);
    slot->ts = ts;
}

static void checkpoint_work(struct life_checkpoint *slot)
{
    struct life *life = slot->life;
    if (!slot->checkpoint) {
        if (below(life, 4) == 0) checkpoint_begin(life, slot);
        return;
    }
    if (slot->publishing) return;
    if (!slot->written) {
        enum err err = checkpoint_step(slot->checkpoint);
        slot->written = err == ERR_END;
        if (err && err != ERR_BUSY && err != ERR_END && checkpoint_is_idle(slot->checkpoint))
            checkpoint_end(slot);
    } else if (slot->ts <= life->durable) {
        slot->publishing = true;
        checkpoint_publish(slot->checkpoint, checkpoint_published, slot);
    }
}

/* ---- steps ---- */

void life_step(struct life *life)
{
    uint64_t choice = below(life, 100);
    if (choice < 45)
        transaction_run(life);
    else if (choice < 55 && life->waiting_count)
        waiting_commit(life, (unsigned)below(life, life->waiting_count));
    else if (choice < 60)
        flush_start(life, (uint16_t)below(life, life->worker_count));
    else if (choice < 66)
        flush_all(life);
    else if (choice < 80)
        checkpoint_work(&life->checkpoints[below(life, life->partition_count)]);
    else if (choice < 82)
        ldm_collect(life->workers[below(life, life->worker_count)].ldm, 10, NULL, NULL);
    else
        sim_step(life->sim);
    for (uint16_t i = 0; i < life->worker_count; i++) {
        enum err err = redo_check(life->workers[i].redo, 1);
        if (err && err != ERR_BUSY && err != ERR_NO_SPACE) life->failed = true;
    }
}

bool life_close(struct life *life)
{
    while (life->waiting_count)
        waiting_commit(life, 0);
    while (sim_step(life->sim))
        ;
    bool closed = !life->failed;
    for (uint16_t i = 0; i < life->worker_count; i++)
        closed &= redo_close(life->workers[i].redo) == ERR_NONE;
    return closed;
}
