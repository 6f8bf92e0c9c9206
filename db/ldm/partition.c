/* Partitions: the fragments of one slice of every table, and how they follow the catalog.
 *
 * partition_set_catalog makes everything that the new catalog needs and the partition does not have
 * (fragments, index trees) before it changes anything, then swaps it in without a step that can
 * fail. A table's columns never change: a definition with other columns under the same id is
 * refused. A dropped table's fragment goes with its rows and old versions; one that an open
 * transaction is changing is ERR_BUSY. */
#include "db/ldm/ldm.h"

#include "db/wire/schema.h"

enum err partition_create(struct ldm *ldm, uint16_t number, struct partition **ret)
{
    struct partition *partition = mem_zalloc(&ldm->memory.other, sizeof(*partition));
    if (!partition) return ERR_NO_MEMORY;
    partition->ldm = ldm;
    partition->number = number;
    partition->next = ldm->partitions;
    partition->previous_next = &ldm->partitions;
    if (partition->next) partition->next->previous_next = &partition->next;
    ldm->partitions = partition;
    *ret = partition;
    return ERR_NONE;
}

void partition_destroy(struct partition *partition)
{
    if (!partition) return;
    struct ldm *ldm = partition->ldm;
    for (uint32_t i = 0; i < partition->fragment_count; i++)
        fragment_destroy(partition->fragments[i]);
    if (ldm->expiry_partition == partition) ldm->expiry_partition = NULL;
    if (partition->next) partition->next->previous_next = partition->previous_next;
    *partition->previous_next = partition->next;
    mem_free(&ldm->memory.other, partition);
}

uint16_t partition_number(const struct partition *partition)
{
    return partition->number;
}

uint64_t partition_term(const struct partition *partition)
{
    return partition->term;
}

void partition_set_term(struct partition *partition, uint64_t term)
{
    partition->term = term;
}

const struct catalog *partition_catalog(const struct partition *partition)
{
    return partition->catalog;
}

static uint32_t bucket_of(uint32_t table_id)
{
    return table_id % PARTITION_BUCKETS;
}

struct fragment *partition_fragment(struct partition *partition, uint32_t table_id)
{
    uint32_t bucket = bucket_of(table_id);
    struct fragment *fragment;
    while ((fragment = partition->by_id[bucket]) && fragment->table_id != table_id)
        bucket = (bucket + 1) % PARTITION_BUCKETS;
    return fragment;
}

/* ---- following the catalog ---- */

/* What becomes of a table's fragment. */
struct fragment_plan {
    struct fragment *fragment;
    const struct table_def *table;
    bool is_new;
    /* The new indexes in order; those marked were made for this plan, the others are the
     * fragment's. */
    struct index *indexes[SCHEMA_INDEXES_MAX];
    bool index_is_new[SCHEMA_INDEXES_MAX];
};

static bool columns_are_same(const struct table_def *a, const struct table_def *b)
{
    if (a->column_count != b->column_count) return false;
    for (uint32_t i = 0; i < a->column_count; i++) {
        const struct column_def *x = &a->columns[i];
        const struct column_def *y = &b->columns[i];
        if (x->type != y->type || x->collation != y->collation || x->precision != y->precision ||
            x->scale != y->scale || x->nullable != y->nullable || x->size_max != y->size_max)
            return false;
    }
    return true;
}

static bool index_is_same(const struct index_def *a, const struct index_def *b)
{
    return a->kind == b->kind && a->has_hash == b->has_hash && a->column_count == b->column_count &&
           memcmp(a->columns, b->columns, a->column_count * sizeof(a->columns[0])) == 0;
}

static enum err plan_indexes(struct fragment_plan *plan)
{
    struct fragment *fragment = plan->fragment;
    const struct table_def *old = fragment->table;
    const struct table_def *table = plan->table;
    if (!index_is_same(&old->indexes[0], &table->indexes[0])) return ERR_UNSUPPORTED;
    plan->indexes[0] = fragment->indexes[0];
    for (uint32_t i = 1; i < table->index_count; i++) {
        for (uint32_t j = 1; j < fragment->index_count; j++)
            if (fragment->indexes[j]->id == table->indexes[i].id)
                plan->indexes[i] = fragment->indexes[j];
        if (plan->indexes[i]) continue;
        enum err err = index_create(fragment, &table->indexes[i], false, &plan->indexes[i]);
        if (err) return err;
        plan->index_is_new[i] = true;
        err = index_build(plan->indexes[i]);
        if (err) return err;
    }
    return ERR_NONE;
}

static enum err plan_make(struct partition *partition, const struct table_def *table,
                          struct fragment_plan *plan)
{
    plan->table = table;
    plan->fragment = partition_fragment(partition, table->id);
    if (!plan->fragment) {
        plan->is_new = true;
        return fragment_create(partition, table, &plan->fragment);
    }
    if (!columns_are_same(plan->fragment->table, table)) return ERR_UNSUPPORTED;
    return plan_indexes(plan);
}

static void plan_discard(struct fragment_plan *plan)
{
    if (plan->is_new) fragment_destroy(plan->fragment);
    for (uint32_t i = 0; i < SCHEMA_INDEXES_MAX; i++)
        if (plan->index_is_new[i]) index_destroy(plan->indexes[i]);
}

/* Takes the plan's indexes over; cannot fail. */
static void plan_apply(struct fragment_plan *plan)
{
    struct fragment *fragment = plan->fragment;
    fragment->table = plan->table;
    if (plan->is_new) return;
    for (uint32_t i = 1; i < fragment->index_count; i++) {
        bool kept = false;
        for (uint32_t j = 1; j < plan->table->index_count; j++)
            kept |= plan->indexes[j] == fragment->indexes[i];
        if (!kept) index_destroy(fragment->indexes[i]);
    }
    fragment->index_count = plan->table->index_count;
    memcpy(fragment->indexes, plan->indexes, sizeof(fragment->indexes));
    fragment_indexed_update(fragment);
}

static enum err check_dropped(const struct partition *partition, const struct catalog *catalog)
{
    for (uint32_t i = 0; i < partition->fragment_count; i++) {
        const struct fragment *fragment = partition->fragments[i];
        if (fragment->uncommitted_count && !catalog_find_id(catalog, fragment->table_id))
            return ERR_BUSY;
    }
    return ERR_NONE;
}

static void fragments_replace(struct partition *partition, const struct catalog *catalog,
                              struct fragment_plan *plans)
{
    for (uint32_t i = 0; i < partition->fragment_count; i++)
        if (!catalog_find_id(catalog, partition->fragments[i]->table_id))
            fragment_destroy(partition->fragments[i]);
    memset(partition->by_id, 0, sizeof(partition->by_id));
    partition->fragment_count = catalog->table_count;
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        plan_apply(&plans[i]);
        struct fragment *fragment = plans[i].fragment;
        partition->fragments[i] = fragment;
        uint32_t bucket = bucket_of(fragment->table_id);
        while (partition->by_id[bucket])
            bucket = (bucket + 1) % PARTITION_BUCKETS;
        partition->by_id[bucket] = fragment;
    }
    partition->catalog = catalog;
    /* The search for expired rows stands at a fragment by number. */
    partition->ldm->expiry_partition = NULL;
}

enum err partition_set_catalog(struct partition *partition, const struct catalog *catalog)
{
    struct ldm *ldm = partition->ldm;
    enum err err = check_dropped(partition, catalog);
    if (err) return err;
    size_t size = (catalog->table_count + 1) * sizeof(struct fragment_plan);
    struct fragment_plan *plans = mem_zalloc(&ldm->memory.other, size);
    if (!plans) return ERR_NO_MEMORY;
    uint32_t count = 0;
    while (!err && count < catalog->table_count) {
        err = plan_make(partition, catalog->tables[count], &plans[count]);
        count++;
    }
    if (err) {
        while (count--)
            plan_discard(&plans[count]);
    } else {
        fragments_replace(partition, catalog, plans);
    }
    mem_free(&ldm->memory.other, plans);
    return err;
}
