/* A database in another process: connecting, what is known of it, and the thread that keeps idle
 * links alive.
 *
 * db_connect makes a channel of its own, asks worker 0 what the node is (SIGNAL_INFO) and leaves
 * the channel to the first client. The addresses are tried in turn: by the channels, each for
 * itself. Only worker 0's are given; the others' follow from them by the rule of db/node/links.h,
 * or, where the system chose the ports, from what worker 0 tells.
 *
 * Acknowledged changes: the greatest commit timestamp that any client was told is remembered, with
 * the life of the node that told it. When the start after that life has kept less (the redo log is
 * flushed at intervals), something acknowledged is lost, and every client's next flush fails once:
 * so fsync(2) through links means what it means on a local disk. The node tells of its latest
 * starts, so what a client was away for is not missed. */
#include "db/api/remote.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/check.h"
#include "db/api/db_private.h"
#include "db/api/loop.h"
#include "db/node/links.h"

enum { TIMEOUT_MS_DEFAULT = 10000, KEEPER_MS = 500 };

static uint64_t real_now(void *context)
{
    (void)context;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void real_random(void *context, void *bytes, size_t size)
{
    (void)context;
    ssize_t got = getrandom(bytes, size, 0);
    ASSERT(got == (ssize_t)size);
}

/* ---- making and ending ---- */

enum err remote_create(const struct db_connect_config *config, struct remote **ret_remote,
                       struct diag *diag)
{
    if (!config->address_count || config->address_count > REMOTE_ADDRESSES_MAX)
        return diag_set(diag, ERR_INVALID, "1 to %d addresses, not %u", REMOTE_ADDRESSES_MAX,
                        config->address_count);
    if (config->loop_count > REMOTE_LOOPS_MAX)
        return diag_set(diag, ERR_INVALID, "at most %d loops, not %u", REMOTE_LOOPS_MAX,
                        (unsigned)config->loop_count);
    struct remote *remote = calloc(1, sizeof(*remote));
    struct port_address *addresses = calloc(config->address_count, sizeof(*addresses));
    if (!remote || !addresses) {
        free(remote);
        free(addresses);
        return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    }
    memcpy(addresses, config->addresses, config->address_count * sizeof(*addresses));
    remote->addresses = addresses;
    remote->address_count = config->address_count;
    memcpy(remote->secret, config->secret, sizeof(remote->secret));
    remote->spin = config->spin;
    uint32_t timeout_ms = config->timeout_ms ? config->timeout_ms : TIMEOUT_MS_DEFAULT;
    remote->timeout_ns = timeout_ms * UINT64_C(1000000);
    remote->monotonic_ns = real_now;
    remote->random = real_random;
    remote->partition_count = 1;
    catalogs_init(&remote->catalogs);
    pthread_mutex_init(&remote->mutex, NULL);
    pthread_mutex_init(&remote->keeper_mutex, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&remote->keeper_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret_remote = remote;
    return ERR_NONE;
}

void remote_destroy(struct remote *remote)
{
    if (!remote) return;
    ASSERT(!remote->channels && !remote->keeper_runs);
    explicit_bzero(remote->secret, sizeof(remote->secret));
    catalogs_fini(&remote->catalogs);
    pthread_cond_destroy(&remote->keeper_wake);
    pthread_mutex_destroy(&remote->keeper_mutex);
    pthread_mutex_destroy(&remote->mutex);
    free(remote->addresses);
    free(remote);
}

/* ---- the keeper ---- */

void channel_keep(struct channel *channel)
{
    struct remote *remote = channel->remote;
    pthread_mutex_lock(&remote->keeper_mutex);
    channel->next = remote->channels;
    remote->channels = channel;
    pthread_mutex_unlock(&remote->keeper_mutex);
}

void channel_unkeep(struct channel *channel)
{
    struct remote *remote = channel->remote;
    pthread_mutex_lock(&remote->keeper_mutex);
    struct channel **link = &remote->channels;
    while (*link && *link != channel)
        link = &(*link)->next;
    if (*link) *link = channel->next;
    pthread_mutex_unlock(&remote->keeper_mutex);
}

static void *keeper_main(void *context)
{
    struct remote *remote = context;
    pthread_mutex_lock(&remote->keeper_mutex);
    while (!remote->keeper_stops) {
        uint64_t now = remote_now(remote);
        /* Each is polled under the mutex that its end waits for. */
        for (struct channel *channel = remote->channels; channel; channel = channel->next)
            channel_tend(channel, now);
        uint64_t until = remote_now(remote) + KEEPER_MS * UINT64_C(1000000);
        struct timespec time = {.tv_sec = (time_t)(until / 1000000000u),
                                .tv_nsec = (long)(until % 1000000000u)};
        pthread_cond_timedwait(&remote->keeper_wake, &remote->keeper_mutex, &time);
    }
    pthread_mutex_unlock(&remote->keeper_mutex);
    return NULL;
}

static void keeper_stop(struct remote *remote)
{
    if (!remote->keeper_runs) return;
    pthread_mutex_lock(&remote->keeper_mutex);
    remote->keeper_stops = true;
    pthread_cond_signal(&remote->keeper_wake);
    pthread_mutex_unlock(&remote->keeper_mutex);
    pthread_join(remote->keeper, NULL);
    remote->keeper_runs = false;
}

/* ---- what is known ---- */

static bool same_listener(const struct info_listener *listener, const struct port_address *address)
{
    return listener->kind == (uint8_t)address->kind && listener->tls == address->tls &&
           listener->ports[0] == address->port;
}

bool remote_address(struct remote *remote, unsigned number, uint16_t worker,
                    struct port_address *ret_address)
{
    *ret_address = remote->addresses[number];
    bool has_port = ret_address->kind == LINK_TCP || ret_address->kind == LINK_VERBS;
    if (has_port && worker) {
        uint16_t port = 0;
        pthread_mutex_lock(&remote->mutex);
        for (uint8_t i = 0; i < remote->info.listener_count; i++)
            if (same_listener(&remote->info.listeners[i], ret_address))
                port = remote->info.listeners[i].ports[worker];
        pthread_mutex_unlock(&remote->mutex);
        if (port) {
            ret_address->port = port;
            return true;
        }
    }
    return links_address(ret_address, worker);
}

static bool life_is_past(const struct remote *remote, uint64_t life)
{
    for (unsigned i = 0; i < REMOTE_UNLEARNED_MAX; i++)
        if (remote->past[i] == life) return true;
    return false;
}

enum err remote_greeted(struct remote *remote, const struct greeting_node *greeting)
{
    enum err err = ERR_NONE;
    pthread_mutex_lock(&remote->mutex);
    if (!remote->store_known) {
        memcpy(remote->store_id, greeting->store_id, sizeof(remote->store_id));
        remote->store_known = true;
    } else if (memcmp(remote->store_id, greeting->store_id, sizeof(remote->store_id)) != 0) {
        err = ERR_INVALID;
    }
    /* The end of such a link is about to be told; until then it would be mistaken for the node. */
    if (!err && life_is_past(remote, greeting->life)) err = ERR_CLOSED;
    if (!err) {
        remote->life = greeting->life;
        /* The first number is learned with the rest. */
        if (remote_is_ready(remote)) atomic_store(&remote->worker_count, greeting->worker_count);
    }
    pthread_mutex_unlock(&remote->mutex);
    return err;
}

uint64_t remote_life(struct remote *remote)
{
    pthread_mutex_lock(&remote->mutex);
    uint64_t life = remote->life;
    pthread_mutex_unlock(&remote->mutex);
    return life;
}

static void acknowledged_raise(struct remote *remote, uint64_t commit_ts)
{
    /* Others raise it without the mutex. */
    uint64_t known = atomic_load(&remote->acknowledged);
    while (known < commit_ts &&
           !atomic_compare_exchange_weak(&remote->acknowledged, &known, commit_ts))
        continue;
}

/* By another life than the one that is known: the next one, and counting it with this one would
 * make it look lost; or an earlier one, whose answer another thread had still to hand out. */
void remote_acknowledged_early(struct remote *remote, uint64_t life, uint64_t commit_ts)
{
    pthread_mutex_lock(&remote->mutex);
    unsigned at = 0;
    if (life_is_past(remote, life)) {
        if (node_info_has_lost(&remote->info, life, commit_ts))
            atomic_fetch_add(&remote->losses, 1);
        pthread_mutex_unlock(&remote->mutex);
        return;
    }
    while (at < REMOTE_UNLEARNED_MAX && remote->unlearned[at].life &&
           remote->unlearned[at].life != life)
        at++;
    if (at == REMOTE_UNLEARNED_MAX || life == atomic_load(&remote->learned_life)) {
        /* With that many unknown lives, a loss too many is told rather than one too few. */
        acknowledged_raise(remote, commit_ts);
    } else {
        remote->unlearned[at].life = life;
        if (commit_ts > remote->unlearned[at].acknowledged)
            remote->unlearned[at].acknowledged = commit_ts;
    }
    pthread_mutex_unlock(&remote->mutex);
}

/* A new life: was more acknowledged before it than its start, and others since, have kept? */
static void life_learned(struct remote *remote, const struct node_info *info)
{
    uint64_t own = 0;
    bool lost = false;
    for (unsigned i = 0; i < REMOTE_UNLEARNED_MAX; i++) {
        uint64_t life = remote->unlearned[i].life;
        uint64_t acknowledged = remote->unlearned[i].acknowledged;
        if (life == node_info_life(info))
            own = acknowledged;
        else if (life)
            lost |= node_info_has_lost(info, life, acknowledged);
        remote->unlearned[i].life = 0;
        remote->unlearned[i].acknowledged = 0;
    }
    uint64_t known = atomic_load(&remote->learned_life);
    remote->past[remote->past_next++ % REMOTE_UNLEARNED_MAX] = known;
    /* From here on whoever acknowledges comes by the mutex (remote_acknowledged). */
    atomic_store(&remote->learned_life, 0);
    uint64_t acknowledged = atomic_load(&remote->acknowledged);
    lost |= acknowledged && node_info_has_lost(info, known, acknowledged);
    if (lost) atomic_fetch_add(&remote->losses, 1);
    /* Told once: what is counted from here on is this life's. */
    atomic_store(&remote->acknowledged, own);
}

enum err remote_learned(struct remote *remote, uint64_t asked, const struct node_info *info,
                        struct catalog *catalog)
{
    enum err err = ERR_NONE;
    pthread_mutex_lock(&remote->mutex);
    uint64_t known = atomic_load(&remote->learned_life);
    bool is_news = known && known != node_info_life(info);
    /* An answer that lay somewhere while its life ended and the next was learned: taken for news,
     * it would make everything that the next one has acknowledged look lost. */
    if (is_news && asked != atomic_load(&remote->learned_count)) err = ERR_BUSY;
    if (!err && known && info->partition_count != remote->partition_count) err = ERR_INVALID;
    if (!err && catalog && catalog->version > catalogs_version(&remote->catalogs)) {
        err = catalogs_publish(&remote->catalogs, catalog);
        if (!err) catalog = NULL;
    }
    if (!err && !catalogs_version(&remote->catalogs)) err = ERR_BAD_SIGNAL;
    if (!err) {
        if (is_news) life_learned(remote, info);
        if (!known) {
            remote->partition_count = info->partition_count;
            memcpy(remote->key, info->key, sizeof(remote->key));
            atomic_store(&remote->worker_count, info->worker_count);
        }
        remote->info = *info;
        if (!known || is_news) atomic_fetch_add(&remote->learned_count, 1);
        atomic_store(&remote->learned_life, node_info_life(info));
    }
    pthread_mutex_unlock(&remote->mutex);
    catalog_destroy(catalog);
    return err;
}

enum err remote_health(struct remote *remote, struct diag *diag)
{
    pthread_mutex_lock(&remote->mutex);
    enum err err = remote->info.health;
    if (err) diag_set(diag, err, "%s", remote->info.health_text);
    pthread_mutex_unlock(&remote->mutex);
    return err;
}

/* ---- connecting ---- */

enum err remote_db(struct remote *remote, struct db **ret_db)
{
    struct db *db = calloc(1, sizeof(*db));
    if (!db) return ERR_NO_MEMORY;
    db->remote = remote;
    db->lock_fd = -1;
    *ret_db = db;
    return ERR_NONE;
}

/* Waits until worker 0 has said what the node is. */
static enum err first_contact(struct remote *remote, struct channel *channel, struct diag *diag)
{
    uint64_t end = remote_now(remote) + remote->timeout_ns;
    channel_reach(channel, 0);
    for (;;) {
        uint64_t now = remote_now(remote);
        channel_turn(channel, now < end ? end - now : 0);
        if (remote_is_ready(remote)) return ERR_NONE;
        struct diag reason;
        channel_reason(channel, 0, &reason);
        if (reason.err == ERR_DENIED || reason.err == ERR_INVALID || reason.err == ERR_VERSION ||
            reason.err == ERR_UNSUPPORTED)
            return diag_set(diag, reason.err, "%s", reason.text);
        if (remote_now(remote) < end) continue;
        char *text = malloc(PORT_ADDRESS_TEXT_SIZE);
        if (text) port_address_format(&remote->addresses[0], text);
        diag_set(diag, ERR_TIMEOUT, "no connection to %.200s%s: %s", text ? text : "the node",
                 remote->address_count > 1 ? " or the other addresses" : "",
                 reason.err ? reason.text : "it does not answer");
        free(text);
        return ERR_TIMEOUT;
    }
}

static enum err loops_start(struct remote *remote, uint16_t count, struct diag *diag)
{
    for (uint16_t i = 0; i < count; i++) {
        enum err err = loop_create(remote, i, &remote->loops[i], diag);
        if (err) return err;
        remote->loop_count++;
    }
    return ERR_NONE;
}

enum err db_connect(const struct db_connect_config *config, struct db **ret_db, struct diag *diag)
{
    struct remote *remote;
    enum err err = remote_create(config, &remote, diag);
    if (err) return err;
    struct db *db = NULL;
    err = remote_db(remote, &db);
    if (err) {
        diag_set(diag, err, "%s", err_text(err));
        goto destroy_remote;
    }
    err = channel_create(remote, &remote->spare, diag);
    if (!err) err = first_contact(remote, remote->spare, diag);
    if (!err) err = loops_start(remote, config->loop_count, diag);
    if (err) goto close_db;
    if (pthread_create(&remote->keeper, NULL, keeper_main, remote)) {
        err = diag_set(diag, ERR_NO_MEMORY, "cannot start the thread that keeps links alive");
        goto close_db;
    }
    pthread_setname_np(remote->keeper, "trellis-keeper");
    remote->keeper_runs = true;
    channel_keep(remote->spare);
    *ret_db = db;
    return ERR_NONE;

close_db:
    remote_close(remote);
    free(db);
    return err;
destroy_remote:
    remote_destroy(remote);
    return err;
}

void remote_close(struct remote *remote)
{
    keeper_stop(remote);
    for (uint16_t i = 0; i < remote->loop_count; i++)
        loop_destroy(remote->loops[i]);
    channel_destroy(remote->spare);
    remote_destroy(remote);
}
