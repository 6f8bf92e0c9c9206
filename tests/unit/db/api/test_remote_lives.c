/* What a client makes of the lives of its node, and of a node that comes back with another number
 * of workers, where the order of events cannot be brought about from outside. */
#include "tests/unit/db/api/remote_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

#include "db/api/db_private.h"
#include "db/query/finish.h"
#include "tests/unit/db/query/build.h"

/* ---- which life is newer, and what was lost ---- */

static struct remote *remote_make(void)
{
    struct remote *remote;
    struct diag diag = {0};
    struct port_address address = {.kind = LINK_TCP, .port = 1};
    strcpy(address.host, "127.0.0.1");
    struct db_connect_config config = {.addresses = &address, .address_count = 1};
    cr_assert_eq(remote_create(&config, &remote, &diag), ERR_NONE, "%s", diag.text);
    return remote;
}

static enum err greet(struct remote *remote, uint64_t life)
{
    struct greeting_node greeting = {.worker_count = 1, .life = life};
    return remote_greeted(remote, &greeting);
}

/* What life number start_count of the node says when it asks; they are numbered from 1. */
static enum err learn_list(struct remote *remote, uint64_t asked, const struct info_start *starts,
                           uint8_t start_count)
{
    struct node_info info = {.worker_count = 1, .partition_count = 8, .start_count = start_count};
    memcpy(info.starts, starts, start_count * sizeof(starts[0]));
    struct catalog *catalog = NULL;
    if (!catalogs_version(&remote->catalogs)) {
        catalog = calloc(1, sizeof(*catalog));
        cr_assert_not_null(catalog);
        catalog->version = 1;
    }
    return remote_learned(remote, asked, &info, catalog);
}

/* All lives before it kept what was done up to 10 times their numbers. */
static enum err learn(struct remote *remote, uint64_t asked, uint64_t life, uint64_t cut)
{
    struct info_start starts[INFO_STARTS_MAX];
    for (uint64_t i = 1; i < life; i++)
        starts[i - 1] = (struct info_start){.life = i, .cut = 10 * i};
    starts[life - 1] = (struct info_start){.life = life, .cut = cut};
    return learn_list(remote, asked, starts, (uint8_t)life);
}

static uint64_t now(const struct remote *remote)
{
    return atomic_load(&remote->learned_count);
}

Test(remote_lives, a_late_answer_of_an_earlier_life_is_not_news)
{
    struct remote *remote = remote_make();
    cr_assert_eq(greet(remote, 1), ERR_NONE);
    uint64_t early = now(remote);
    cr_assert_eq(learn(remote, early, 1, 10), ERR_NONE);
    remote_acknowledged(remote, 1, 50);
    uint64_t asked = now(remote); /* of the first life, by another thread */
    cr_assert_eq(greet(remote, 2), ERR_NONE);
    cr_assert_eq(learn(remote, now(remote), 2, 60), ERR_NONE);
    remote_acknowledged(remote, 2, 100);
    cr_assert_eq(learn(remote, asked, 1, 10), ERR_BUSY);
    cr_assert_eq(learn(remote, REMOTE_UNASKED, 1, 10), ERR_BUSY);
    cr_assert_eq(atomic_load(&remote->losses), 0);
    cr_assert_eq(atomic_load(&remote->learned_life), 2);
    /* Nor is a greeting of it; one that was never learned is not known to be old. */
    cr_assert_eq(greet(remote, 1), ERR_CLOSED);
    cr_assert_eq(remote_life(remote), 2);
    /* Of the life that is known, also what nobody asked for counts. */
    cr_assert_eq(learn(remote, REMOTE_UNASKED, 2, 60), ERR_NONE);
    cr_assert_eq(learn(remote, now(remote), 3, 99), ERR_NONE);
    cr_assert_eq(atomic_load(&remote->losses), 1);
    remote_destroy(remote);
}

Test(remote_lives, a_loss_that_was_slept_through_is_told_when_the_client_wakes)
{
    struct remote *remote = remote_make();
    cr_assert_eq(learn(remote, now(remote), 1, 0), ERR_NONE);
    remote_acknowledged(remote, 1, 50);
    /* Life 2 kept what was done until 20; those after it ended in order. */
    cr_assert_eq(learn(remote, now(remote), 4, 500), ERR_NONE);
    cr_assert_eq(atomic_load(&remote->losses), 1);
    /* Nothing was acknowledged since. */
    cr_assert_eq(learn(remote, now(remote), 5, 510), ERR_NONE);
    cr_assert_eq(atomic_load(&remote->losses), 1);
    remote_destroy(remote);
}

Test(remote_lives, starts_that_kept_everything_are_no_loss)
{
    struct remote *remote = remote_make();
    cr_assert_eq(learn(remote, now(remote), 1, 0), ERR_NONE);
    remote_acknowledged(remote, 1, 20);
    cr_assert_eq(learn(remote, now(remote), 7, 60), ERR_NONE);
    remote_acknowledged(remote, 7, 80);
    cr_assert_eq(learn(remote, now(remote), 9, 85), ERR_NONE);
    cr_assert_eq(atomic_load(&remote->losses), 0);
    remote_destroy(remote);
}

Test(remote_lives, a_list_that_does_not_reach_back_is_a_loss_if_anything_was_acknowledged)
{
    static const struct info_start later[] = {{.life = 30, .cut = 900}, {.life = 31, .cut = 910}};
    static const struct info_start much_later[] = {{.life = 60, .cut = 990}};
    for (uint64_t acknowledged = 0; acknowledged < 2; acknowledged++) {
        struct remote *remote = remote_make();
        cr_assert_eq(learn(remote, now(remote), 1, 0), ERR_NONE);
        if (acknowledged) remote_acknowledged(remote, 1, acknowledged);
        cr_assert_eq(learn_list(remote, now(remote), later, 2), ERR_NONE);
        cr_assert_eq(atomic_load(&remote->losses), acknowledged);
        cr_assert_eq(learn_list(remote, now(remote), much_later, 1), ERR_NONE);
        cr_assert_eq(atomic_load(&remote->losses), acknowledged, "it is told once");
        remote_destroy(remote);
    }
}

/* Each life that acknowledged something is judged by the start after it. */
Test(remote_lives, lives_between_that_were_never_learned_are_judged_too)
{
    for (uint64_t kept = 0; kept < 2; kept++) {
        struct remote *remote = remote_make();
        cr_assert_eq(learn(remote, now(remote), 1, 0), ERR_NONE);
        remote_acknowledged(remote, 1, 15);
        cr_assert_eq(greet(remote, 3), ERR_NONE);
        remote_acknowledged(remote, 3, kept ? 40 : 41);
        cr_assert_eq(learn(remote, now(remote), 6, 600), ERR_NONE);
        cr_assert_eq(atomic_load(&remote->losses), kept ? 0 : 1);
        /* So is what another thread hands out only now. */
        remote_acknowledged(remote, 1, 20);
        cr_assert_eq(atomic_load(&remote->losses), kept ? 0 : 1);
        remote_acknowledged(remote, 1, 21);
        cr_assert_eq(atomic_load(&remote->losses), kept ? 1 : 2);
        remote_destroy(remote);
    }
}

struct racer {
    struct remote *remote;
    pthread_barrier_t barrier;
};

static void *acknowledge(void *context)
{
    struct racer *racer = context;
    pthread_barrier_wait(&racer->barrier);
    remote_acknowledged(racer->remote, 1, 100);
    return NULL;
}

Test(remote_lives, an_acknowledgement_while_the_next_life_is_learned_is_not_forgotten)
{
    for (int round = 0; round < 3000; round++) {
        struct racer racer = {.remote = remote_make()};
        pthread_t thread;
        pthread_barrier_init(&racer.barrier, NULL, 2);
        cr_assert_eq(learn(racer.remote, 0, 1, 10), ERR_NONE);
        cr_assert_eq(pthread_create(&thread, NULL, acknowledge, &racer), 0);
        pthread_barrier_wait(&racer.barrier);
        cr_assert_eq(learn(racer.remote, now(racer.remote), 2, 60), ERR_NONE);
        pthread_join(thread, NULL);
        cr_assert_geq(atomic_load(&racer.remote->losses), 1, "round %d", round);
        pthread_barrier_destroy(&racer.barrier);
        remote_destroy(racer.remote);
    }
}

Test(remote_lives, a_flush_by_a_life_that_cannot_be_asked_about_is_unknown)
{
    struct remote_fixture fx;
    remote_begin(&fx, LINK_SHM, 2, 0);
    struct remote *remote = fx.far.db->remote;
    cr_assert_eq(account_create(&fx.far, 1, 1, 1), ERR_NONE);
    cr_assert_eq(db_flush(fx.far.client), ERR_NONE);
    /* As if the life that answers were not the known one, whose info is refused. */
    uint64_t life = atomic_exchange(&remote->learned_life, 12345);
    remote->partition_count = 16;
    cr_assert_eq(db_flush(fx.far.client), ERR_OUTCOME_UNKNOWN);
    remote->partition_count = 8;
    atomic_store(&remote->learned_life, life);
    cr_assert_eq(db_flush(fx.far.client), ERR_NONE);
    remote_end(&fx);
}

/* ---- queries, and the number of workers ---- */

static struct remote *count_changes; /* while its next query is opened */

enum err __real_query_finish_create(const struct query_tree *tree, const struct catalog *catalog,
                                    uint64_t memory_max, struct query_finish **ret_finish,
                                    struct diag *diag);
enum err __wrap_query_finish_create(const struct query_tree *tree, const struct catalog *catalog,
                                    uint64_t memory_max, struct query_finish **ret_finish,
                                    struct diag *diag);
enum err __wrap_query_finish_create(const struct query_tree *tree, const struct catalog *catalog,
                                    uint64_t memory_max, struct query_finish **ret_finish,
                                    struct diag *diag)
{
    if (count_changes) atomic_store(&count_changes->worker_count, 8);
    return __real_query_finish_create(tree, catalog, memory_max, ret_finish, diag);
}

static enum err query_open(struct fixture *f, struct db_query **ret_query)
{
    struct builder b;
    struct diag diag = {0};
    build_begin(&b);
    build_scan(&b, f->account->id)->table_version = f->account->version;
    build_output_column(&b, KIND_U64, 0, ACCOUNT_ID);
    enum err err = db_query_open(f->client, &b.tree, ret_query, &diag);
    build_end(&b);
    return err;
}

static void fill(struct fixture *f, uint32_t rows)
{
    for (uint32_t id = 0; id < rows;) {
        program_begin(&f->program);
        for (uint16_t slot = 0; slot < 8; slot++) {
            program_section(&f->program, slot);
            for (int i = 0; i < 8; i++, id++)
                account_insert(&f->program, f->account, slot, id, 1);
        }
        cr_assert_eq(db_run(f->client, &f->program, &f->reply), ERR_NONE);
    }
}

Test(remote_lives, a_query_opened_while_the_number_of_workers_changes_ends, .timeout = 30)
{
    struct remote_fixture fx;
    remote_begin(&fx, LINK_SHM, 2, 0);
    fill(&fx.far, 64);
    struct db_query *query;
    count_changes = fx.far.db->remote;
    cr_assert_eq(query_open(&fx.far, &query), ERR_LINK_LOST);
    count_changes = NULL;
    atomic_store(&fx.far.db->remote->worker_count, 2);
    cr_assert_eq(query_open(&fx.far, &query), ERR_NONE);
    const struct value *row;
    struct diag diag = {0};
    uint32_t count = 0;
    while (!db_query_next(query, &row, &diag))
        count++;
    cr_assert_eq(count, 64);
    db_query_close(query);
    remote_end(&fx);
}

Test(remote_lives, a_query_ends_when_one_of_its_workers_is_not_there_any_more, .timeout = 30)
{
    struct remote_fixture fx;
    remote_begin(&fx, LINK_SHM, 2, 0);
    fill(&fx.far, 200000); /* more than the windows of two workers */
    struct db_query *query;
    cr_assert_eq(query_open(&fx.far, &query), ERR_NONE);
    atomic_store(&fx.far.db->remote->worker_count, 1);
    const struct value *row;
    struct diag diag = {0};
    enum err err;
    while (!(err = db_query_next(query, &row, &diag)))
        continue;
    cr_assert_eq(err, ERR_LINK_LOST, "%s", err_name(err));
    db_query_close(query);
    atomic_store(&fx.far.db->remote->worker_count, 2);
    remote_end(&fx);
}

static atomic_bool stands_still;
static atomic_bool standing;

static void stand_still(void *context)
{
    (void)context;
    atomic_store(&standing, true);
    while (atomic_load(&stands_still))
        usleep(1000);
}

static void on_done(void *context, struct program_reply *reply)
{
    (void)reply;
    ++*(uint32_t *)context;
}

static bool pins_are_gone(struct fixture *f)
{
    char *status;
    cr_assert_eq(db_status_json(f->client, &status), ERR_NONE);
    bool gone = strstr(status, "\"pins\": 0,") != NULL;
    free(status);
    return gone;
}

Test(remote_lives, a_query_closed_over_a_full_link_gives_its_snapshot_back, .timeout = 60)
{
    struct remote_fixture fx;
    remote_begin(&fx, LINK_SHM, 1, 0);
    fill(&fx.far, 200000);
    struct db_query *query;
    cr_assert_eq(query_open(&fx.far, &query), ERR_NONE);
    const struct value *row;
    struct diag diag = {0};
    cr_assert_eq(db_query_next(query, &row, &diag), ERR_NONE);
    cr_assert_not(pins_are_gone(&fx.node));
    atomic_store(&stands_still, true);
    cr_assert_eq(db_post(fx.node.db, 0, stand_still, NULL), ERR_NONE);
    while (!atomic_load(&standing))
        usleep(1000);
    uint32_t begun = 0, done = 0;
    char note[401];
    memset(note, 'x', 400);
    note[400] = 0;
    while (!fx.far.client->channel->conns[0]->unsent) {
        program_begin(&fx.far.program);
        program_section(&fx.far.program, 1);
        for (uint32_t i = 0; i < PROGRAM_STEPS_MAX; i++) {
            struct operand values[4] = {
                operand_value(value_u64(1)),
                operand_value(value_u64(1000000 + begun * PROGRAM_STEPS_MAX + i)),
                operand_value(value_i64(1)), operand_value(value_text(note))};
            program_insert(&fx.far.program, fx.far.account, values, ERR_EXISTS);
        }
        cr_assert_eq(db_submit(fx.far.client, &fx.far.program, on_done, &done), ERR_NONE);
        begun++;
    }
    db_query_close(query);
    atomic_store(&stands_still, false);
    bool gone = false;
    for (int tries = 0; tries < 5000 && !(gone && done == begun); tries++) {
        db_poll(fx.far.client, 1);
        if (tries % 100 == 99) gone = pins_are_gone(&fx.node);
    }
    cr_assert(gone);
    cr_assert_eq(done, begun);
    remote_end(&fx);
}

static void *count_tell(void *context)
{
    struct remote *remote = context;
    usleep(200000);
    atomic_store(&remote->worker_count, 2);
    atomic_store(&stands_still, false);
    return NULL;
}

Test(remote_lives, what_all_workers_are_asked_is_asked_of_all_when_there_are_more, .timeout = 30)
{
    struct remote_fixture fx;
    remote_begin(&fx, LINK_SHM, 2, 0);
    struct remote *remote = fx.far.db->remote;
    pthread_t thread;
    char *status;
    atomic_store(&stands_still, true);
    cr_assert_eq(db_post(fx.node.db, 0, stand_still, NULL), ERR_NONE);
    while (!atomic_load(&standing))
        usleep(1000);
    /* As if it had had one worker before: the number is told while the first one is waited for. */
    atomic_store(&remote->worker_count, 1);
    cr_assert_eq(pthread_create(&thread, NULL, count_tell, remote), 0);
    cr_assert_eq(db_status_json(fx.far.client, &status), ERR_NONE);
    pthread_join(thread, NULL);
    cr_assert_not_null(strstr(status, "{\"worker\": 0,"));
    cr_assert_not_null(strstr(status, "{\"worker\": 1,"));
    free(status);
    remote_end(&fx);
}
