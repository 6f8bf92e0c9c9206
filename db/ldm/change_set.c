/* A change set: one transaction's changes on one worker, as a list of undo records in the order of
 * the changes.
 *
 * Commit gives every record the commit timestamp, then drops those that nobody needs: all of them
 * while nothing is pinned, and those of other partitions while only a checkpoint's is. The others
 * go to the queue, in order of commit, where ldm_collect finds them when pins go. A record whose
 * older neighbour in its row's chain ends a version that no pin can read is merged with it, so that
 * a row changed a million times under one snapshot keeps one record, not a million.
 *
 * Room for a record in the list and in the queue is reserved before the change is made. */
#include "db/ldm/ldm.h"

enum { RECORDS_MIN = 32, RECORDS_KEPT = 4096 };

enum err change_set_create(struct ldm *ldm, struct change_set **ret_changes)
{
    struct change_set *changes = mem_zalloc(&ldm->memory.other, sizeof(*changes));
    if (!changes) return ERR_NO_MEMORY;
    changes->ldm = ldm;
    changes->mark = TS_LOCKED | ldm->change_set_count++;
    *ret_changes = changes;
    return ERR_NONE;
}

void change_set_destroy(struct change_set *changes)
{
    if (!changes) return;
    ASSERT(changes->count == 0);
    mem_free(&changes->ldm->memory.other, changes->records);
    mem_free(&changes->ldm->memory.other, changes);
}

bool change_set_is_empty(const struct change_set *changes)
{
    return changes->count == 0;
}

enum err change_set_reserve(struct change_set *changes)
{
    struct ldm *ldm = changes->ldm;
    enum err err = ldm_queue_reserve(ldm, 1);
    if (err) return err;
    if (changes->count < changes->capacity) return ERR_NONE;
    if (changes->capacity > UINT32_MAX / 8) return ERR_NO_MEMORY;
    uint32_t capacity = changes->capacity ? changes->capacity * 2 : RECORDS_MIN;
    uint32_t *records =
        mem_realloc(&ldm->memory.other, changes->records, capacity * sizeof(*records));
    if (!records) return ERR_NO_MEMORY;
    changes->records = records;
    changes->capacity = capacity;
    return ERR_NONE;
}

void change_set_add(struct change_set *changes, struct fragment *fragment, uint32_t row,
                    uint32_t ref)
{
    struct undo *undo = undo_at(changes->ldm, ref);
    undo->ts = changes->mark;
    undo->fragment = fragment;
    undo->row = row;
    row_link(fragment, row, ref);
    changes->records[changes->count++] = ref;
    fragment->uncommitted_count++;
    changes->ldm->uncommitted_count++;
}

/* A huge transaction must not keep its list for ever. */
static void records_trim(struct change_set *changes)
{
    if (changes->count || changes->capacity <= RECORDS_KEPT) return;
    mem_free(&changes->ldm->memory.other, changes->records);
    changes->records = NULL;
    changes->capacity = 0;
}

void change_set_revert_to(struct change_set *changes, uint32_t count)
{
    struct ldm *ldm = changes->ldm;
    while (changes->count > count) {
        uint32_t ref = changes->records[--changes->count];
        undo_at(ldm, ref)->fragment->uncommitted_count--;
        ldm->uncommitted_count--;
        undo_revert(ldm, ref);
    }
}

void change_set_rollback(struct change_set *changes)
{
    change_set_revert_to(changes, 0);
    records_trim(changes);
}

void change_set_commit(struct change_set *changes, uint64_t ts)
{
    struct ldm *ldm = changes->ldm;
    ASSERT(ts < TS_LOCKED);
    for (uint32_t i = 0; i < changes->count; i++) {
        struct undo *undo = undo_at(ldm, changes->records[i]);
        undo->ts = ts;
        undo->fragment->uncommitted_count--;
    }
    ldm->uncommitted_count -= changes->count;
    for (uint32_t i = 0; i < changes->count; i++) {
        uint32_t ref = changes->records[i];
        const struct undo *undo = undo_at(ldm, ref);
        if (undo->older == 0 &&
            (ts <= ldm->pin_min || !ldm_version_needed(ldm, undo->fragment->partition, 0, ts)))
            undo_drop(ldm, ref);
        else if (!undo_merge(ldm, ref))
            ldm_queue_push(ldm, ref);
    }
    changes->count = 0;
    records_trim(changes);
}
