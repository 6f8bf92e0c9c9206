/* Lives.
 *
 * Each opening of a store is a life with a number, which every inode made in it carries as its
 * generation and every object as part of its path. After a crash, recovery may take back inodes
 * made shortly before it, while their objects, written by the operating system in its own time,
 * stay. Such an object is of the life that crashed, no other; so the next life sweeps the objects
 * of lives that did not end cleanly, in the background, and removes those without an inode.
 *
 * A removal cannot leave an object behind: see orphan.c for the order. */
#include "metadata/life.h"

#include "metadata/device.h"

static const char life_name[] = "life";
static const char clean_name[] = "life_clean";

uint16_t counter_slot(const struct fs_client *client, const char *name)
{
    struct value value = value_text(name);
    uint16_t slot = 0;
    enum err err = table_slot(client_table(client, TABLE_COUNTER), &value, &slot);
    ASSERT(err == ERR_NONE); /* names are ours */
    return slot;
}

static enum err counter_read_once(struct fs_client *client, const char *name, uint64_t *ret_value)
{
    struct program *program = client_begin(client, counter_slot(client, name));
    struct operand key = operand_value(value_text(name));
    uint8_t step = program_read(program, client_table(client, TABLE_COUNTER), &key, ERR_NONE);
    program_flags(program, STEP_OPTIONAL);
    const uint16_t columns[] = {COUNTER_VALUE};
    program_output(program, columns, 1);
    enum err err = client_run(client);
    if (err) return err;
    const struct value *row = client_row(client, step);
    *ret_value = row ? row[0].u : 0;
    return ERR_NONE;
}

enum err counter_read(struct fs_client *client, const char *name, uint64_t *ret_value)
{
    struct retry retry = {0};
    enum err err;
    do
        err = counter_read_once(client, name, ret_value);
    while (client_again(client, &retry, &err));
    return err;
}

static enum err counter_set(struct fs_client *client, const char *name, uint64_t value)
{
    struct retry retry = {0};
    enum err err;
    do {
        struct program *program = client_begin(client, counter_slot(client, name));
        const struct operand values[COUNTER_COLUMNS] = {
            [COUNTER_NAME] = operand_value(value_text(name)),
            [COUNTER_VALUE] = operand_u64(value),
        };
        (void)program_upsert(program, client_table(client, TABLE_COUNTER), values);
        set_u64(program, COUNTER_VALUE, value);
        err = client_run(client);
    } while (client_again(client, &retry, &err));
    return err;
}

enum err life_begin(struct fs_client *client, uint32_t *ret_unclean_first)
{
    uint64_t last;
    uint64_t clean;
    enum err err = counter_read(client, life_name, &last);
    if (!err) err = counter_read(client, clean_name, &clean);
    if (err) return err;
    if (last >= UINT32_MAX || clean > last) return ERR_CORRUPT;
    err = counter_set(client, life_name, last + 1);
    /* Objects of this life must never meet those of one that crashed before its number was on disk.
     */
    if (!err) err = client_flush(client);
    if (err) return err;
    client->fs->life = (uint32_t)last + 1;
    *ret_unclean_first = clean < last ? (uint32_t)clean + 1 : 0;
    return ERR_NONE;
}

enum err life_clean(struct fs_client *client, uint32_t life)
{
    return counter_set(client, clean_name, life);
}

/* ---- sweeping ---- */

enum { SWEEP_BATCH = 60 };

struct sweep {
    struct fs_client *client;
    uint32_t life;
    const atomic_bool *ending;
    uint64_t inos[SWEEP_BATCH];
    size_t count;
};

static enum err sweep_batch(struct sweep *sweep)
{
    struct fs_attr attrs[SWEEP_BATCH];
    bool found[SWEEP_BATCH];
    enum err err = inodes_read(sweep->client, sweep->inos, sweep->count, attrs, found);
    for (size_t i = 0; i < sweep->count && !err; i++) {
        if (found[i] && attrs[i].generation == sweep->life) continue;
        struct object_id id = {.ino = sweep->inos[i], .life = sweep->life};
        err = object_remove(sweep->client->fs->device, id);
    }
    sweep->count = 0;
    return err;
}

static enum err sweep_object(void *context, struct object_id id)
{
    struct sweep *sweep = context;
    if (atomic_load(sweep->ending)) return ERR_CANCELLED;
    if (id.ino >> INO_BITS) return ERR_NONE; /* no inode of ours can have had it */
    sweep->inos[sweep->count++] = id.ino;
    return sweep->count == SWEEP_BATCH ? sweep_batch(sweep) : ERR_NONE;
}

enum err life_sweep(struct fs_client *client, uint32_t life, const atomic_bool *ending)
{
    struct sweep sweep = {.client = client, .life = life, .ending = ending};
    enum err err = device_each(client->fs->device, life, sweep_object, &sweep);
    return err || sweep.count == 0 ? err : sweep_batch(&sweep);
}
