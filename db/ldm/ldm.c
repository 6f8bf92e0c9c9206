/* What the partitions of one worker share: memory accounting, pins, the queue of old versions, the
 * clock for TTL, and the collector that takes away what is no longer needed.
 *
 * The queue holds the committed undo records that pins kept at commit, in order of commit. Along a
 * row's chain that is also the order from the oldest to the newest, since a row is locked from its
 * change to its commit; so the record at the front of the queue is always the oldest of its row,
 * and once its timestamp is no later than the oldest pin it can be dropped, without a look at the
 * rest of the chain.
 *
 * Expired rows are looked for page by page from where the last call stopped, a bounded number of
 * pages a call. */
#include "db/ldm/ldm.h"

#include <stdlib.h>

enum { QUEUE_MIN = 64, PINS_MIN = 8, EXPIRY_PAGES_MAX = 64 };

enum err ldm_create(uint64_t memory_max, struct ldm **ret_ldm)
{
    struct ldm *ldm = calloc(1, sizeof(*ldm));
    if (!ldm) return ERR_NO_MEMORY;
    ldm->memory_max = memory_max;
    ldm->pin_min = TS_UNCOMMITTED;
    page_pool_init(&ldm->pages);
    undo_pool_init(&ldm->undo, &ldm->memory.versions, &ldm->pages);
    *ret_ldm = ldm;
    return ERR_NONE;
}

void ldm_destroy(struct ldm *ldm)
{
    if (!ldm) return;
    while (ldm->partitions)
        partition_destroy(ldm->partitions);
    undo_pool_fini(&ldm->undo);
    page_pool_fini(&ldm->pages);
    mem_free(&ldm->memory.versions, ldm->queue);
    mem_free(&ldm->memory.other, ldm->pins);
    free(ldm);
}

void ldm_memory(const struct ldm *ldm, struct ldm_memory *ret_memory)
{
    *ret_memory = ldm->memory;
}

void ldm_set_now(struct ldm *ldm, uint64_t realtime_ns)
{
    ldm->now_us = (int64_t)(realtime_ns / 1000);
}

/* ---- pins ---- */

static void pins_changed(struct ldm *ldm)
{
    ldm->pin_min = TS_UNCOMMITTED;
    for (uint32_t i = 0; i < ldm->pin_count; i++)
        if (ldm->pins[i].ts < ldm->pin_min) ldm->pin_min = ldm->pins[i].ts;
}

enum err ldm_pin(struct ldm *ldm, uint64_t ts)
{
    if (ldm->pin_count == ldm->pin_capacity) {
        uint32_t capacity = ldm->pin_capacity ? ldm->pin_capacity * 2 : PINS_MIN;
        struct pin *pins = mem_realloc(&ldm->memory.other, ldm->pins, capacity * sizeof(*pins));
        if (!pins) return ERR_NO_MEMORY;
        ldm->pins = pins;
        ldm->pin_capacity = capacity;
    }
    ldm->pins[ldm->pin_count++] = (struct pin){.ts = ts};
    pins_changed(ldm);
    return ERR_NONE;
}

/* Pins that are alike in all three are as good as each other; a restricted one, which keeps less,
 * must not be taken for a whole one. */
static struct pin *pin_find(const struct ldm *ldm, uint64_t ts, bool exact,
                            const struct partition *only)
{
    for (uint32_t i = 0; i < ldm->pin_count; i++) {
        struct pin *pin = &ldm->pins[i];
        if (pin->ts == ts && pin->exact == exact && pin->only == only) return pin;
    }
    return NULL;
}

static void pin_remove(struct ldm *ldm, struct pin *pin)
{
    ASSERT(pin);
    *pin = ldm->pins[--ldm->pin_count];
    pins_changed(ldm);
}

void ldm_pin_settle(struct ldm *ldm, uint64_t from, uint64_t ts)
{
    struct pin *pin = pin_find(ldm, from, false, NULL);
    ASSERT(pin && ts >= from);
    *pin = (struct pin){.ts = ts, .exact = true};
    pins_changed(ldm);
}

void ldm_pin_restrict(struct ldm *ldm, uint64_t ts, const struct partition *partition)
{
    struct pin *pin = pin_find(ldm, ts, true, NULL);
    ASSERT(pin);
    pin->only = partition;
}

void ldm_unpin(struct ldm *ldm, uint64_t ts)
{
    struct pin *pin = pin_find(ldm, ts, true, NULL);
    if (!pin) pin = pin_find(ldm, ts, false, NULL);
    pin_remove(ldm, pin);
}

void ldm_unpin_restricted(struct ldm *ldm, uint64_t ts, const struct partition *partition)
{
    pin_remove(ldm, pin_find(ldm, ts, true, partition));
}

bool ldm_version_needed(const struct ldm *ldm, const struct partition *partition, uint64_t from,
                        uint64_t to)
{
    if (from >= to) return false; /* changes of one transaction */
    for (uint32_t i = 0; i < ldm->pin_count; i++) {
        const struct pin *pin = &ldm->pins[i];
        if (pin->only && pin->only != partition) continue;
        if (pin->ts < to && (!pin->exact || pin->ts >= from)) return true;
    }
    return false;
}

/* ---- the queue ---- */

enum err ldm_queue_reserve(struct ldm *ldm, uint32_t count)
{
    uint64_t need = (uint64_t)ldm->queue_count + ldm->uncommitted_count + count;
    if (need <= ldm->queue_capacity) return ERR_NONE;
    if (need > UINT32_MAX / 2) return ERR_NO_MEMORY;
    uint32_t capacity = ldm->queue_capacity ? ldm->queue_capacity : QUEUE_MIN;
    while (capacity < need)
        capacity *= 2;
    uint32_t *queue = mem_alloc(&ldm->memory.versions, capacity * sizeof(*queue));
    if (!queue) return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < ldm->queue_count; i++)
        queue[i] = ldm->queue[(ldm->queue_first + i) & (ldm->queue_capacity - 1)];
    mem_free(&ldm->memory.versions, ldm->queue);
    ldm->queue = queue;
    ldm->queue_capacity = capacity;
    ldm->queue_first = 0;
    return ERR_NONE;
}

void ldm_queue_push(struct ldm *ldm, uint32_t ref)
{
    ASSERT(ldm->queue_count < ldm->queue_capacity);
    ldm->queue[(ldm->queue_first + ldm->queue_count++) & (ldm->queue_capacity - 1)] = ref;
}

static uint32_t queue_pop(struct ldm *ldm)
{
    uint32_t ref = ldm->queue[ldm->queue_first];
    ldm->queue_first = (ldm->queue_first + 1) & (ldm->queue_capacity - 1);
    ldm->queue_count--;
    return ref;
}

void ldm_queue_purge(struct ldm *ldm, const struct fragment *fragment)
{
    uint32_t count = ldm->queue_count;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t ref = queue_pop(ldm);
        if (undo_at(ldm, ref)->fragment == fragment)
            undo_free(&ldm->undo, ref);
        else
            ldm_queue_push(ldm, ref);
    }
}

/* A long snapshot's queue goes back when it is empty. */
static void queue_trim(struct ldm *ldm)
{
    if (ldm->queue_count || ldm->uncommitted_count || ldm->queue_capacity <= 64 * QUEUE_MIN) return;
    mem_free(&ldm->memory.versions, ldm->queue);
    ldm->queue = NULL;
    ldm->queue_capacity = 0;
    ldm->queue_first = 0;
}

static uint32_t collect_versions(struct ldm *ldm, uint32_t budget)
{
    uint32_t done = 0;
    while (done < budget && ldm->queue_count) {
        uint32_t ref = ldm->queue[ldm->queue_first];
        const struct undo *undo = undo_at(ldm, ref);
        bool gone = undo->flags & UNDO_GONE;
        if (!gone && undo->ts > ldm->pin_min) break;
        (void)queue_pop(ldm);
        if (gone)
            undo_free(&ldm->undo, ref);
        else
            undo_drop(ldm, ref);
        done++;
    }
    queue_trim(ldm);
    return done;
}

/* ---- expired rows ---- */

/* The next page of a table with TTL, from where the search stands; false at the end of a round,
 * after which it starts over. */
static bool expiry_next(struct ldm *ldm, struct fragment **ret_fragment, uint32_t *ret_page)
{
    if (!ldm->expiry_partition) {
        ldm->expiry_partition = ldm->partitions;
        ldm->expiry_fragment = 0;
        ldm->expiry_page = 0;
    }
    while (ldm->expiry_partition) {
        const struct partition *partition = ldm->expiry_partition;
        for (; ldm->expiry_fragment < partition->fragment_count; ldm->expiry_fragment++) {
            struct fragment *fragment = partition->fragments[ldm->expiry_fragment];
            if (fragment->table->ttl_seconds && ldm->expiry_page < fragment->page_count) {
                *ret_fragment = fragment;
                *ret_page = ldm->expiry_page++;
                return true;
            }
            ldm->expiry_page = 0;
        }
        ldm->expiry_partition = partition->next;
        ldm->expiry_fragment = 0;
    }
    return false;
}

/* Expired rows of the page that no transaction is changing. */
static uint32_t expired_rows(const struct fragment *fragment, uint32_t number,
                             uint32_t rows[FRAGMENT_PAGE_ROWS])
{
    const struct page *page = &fragment->pages[number];
    uint32_t count = 0;
    for (uint32_t slot = 0; page->used_count && slot < FRAGMENT_PAGE_ROWS; slot++) {
        uint32_t row = number << PAGE_SHIFT | slot;
        if (page_is_live(page, slot) && fragment_row_expired(fragment, row) &&
            !row_is_locked(fragment, row, NULL))
            rows[count++] = row;
    }
    return count;
}

static bool row_is_purgeable(const struct fragment *fragment, uint32_t row)
{
    const struct page *page = row_page(fragment, row);
    return page->bytes && page_is_live(page, row_slot(row)) &&
           fragment_row_expired(fragment, row) && !row_is_locked(fragment, row, NULL);
}

static uint32_t collect_expired(struct ldm *ldm, uint32_t budget,
                                void (*purge)(void *context, struct fragment *fragment,
                                              uint32_t row),
                                void *context)
{
    uint32_t done = 0;
    for (uint32_t pages = 0; pages < EXPIRY_PAGES_MAX && done < budget; pages++) {
        struct fragment *fragment;
        uint32_t page;
        if (!expiry_next(ldm, &fragment, &page)) break;
        uint32_t rows[FRAGMENT_PAGE_ROWS];
        uint32_t count = expired_rows(fragment, page, rows);
        for (uint32_t i = 0; i < count; i++) {
            if (done == budget) {
                ldm->expiry_page = page;
                break;
            }
            /* purge changes the fragment, and may have met this row with an earlier one. */
            if (!row_is_purgeable(fragment, rows[i])) continue;
            purge(context, fragment, rows[i]);
            done++;
        }
    }
    return done;
}

uint32_t ldm_collect(struct ldm *ldm, uint32_t budget,
                     void (*purge)(void *context, struct fragment *fragment, uint32_t row),
                     void *context)
{
    uint32_t done = collect_versions(ldm, budget);
    if (purge && done < budget) done += collect_expired(ldm, budget - done, purge, context);
    return done;
}
