/* Loops of a process that uses a database in another process.
 *
 * A turn: the channel's (answers that have arrived), posted functions, the clients' turns
 * (submitted programs that are finished or due), watches. With nothing left to do the loop looks
 * again for as long as the port says that this pays, then announces sleep, to the port's peers and
 * to those who post, looks once more and sleeps in epoll, where the port is one descriptor among
 * the watches.
 *
 * A client that waits inside db_run gives turns to the channel only: no watch, no posted function
 * and no finished program is called within another one, as on a worker.
 *
 * Posting: a stack that any thread pushes on and the loop takes whole; the argument that no wake-up
 * is lost is the mailbox's (db/node/mailbox.c). */
#include "db/api/loop.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"
#include "db/api/db_private.h"

enum { EVENTS_MAX = 16, SPIN_TURNS = 8 /* between looks at the watches */ };

struct loop_post {
    struct loop_post *next;
    void (*fn)(void *context);
    void *context;
};

struct loop_watch {
    struct loop_watch *next;
    struct db_watch *watch;
    int fd;
};

struct loop {
    struct remote *remote;
    struct channel *channel;
    struct db_client *clients; /* on this thread */
    int epoll_fd;
    int wake_fd;
    pthread_t thread;
    bool thread_started;
    uint64_t idle_ns; /* since when there is nothing to do; 0: there was */
    unsigned spins;

    pthread_mutex_t mutex;
    struct loop_watch *watches; /* guarded */
    _Atomic(struct loop_post *) posts;
    atomic_bool sleeping;
    atomic_bool stopping;
};

/* ---- from other threads ---- */

static void wake(struct loop *loop)
{
    if (!atomic_load(&loop->sleeping) || !atomic_exchange(&loop->sleeping, false)) return;
    uint64_t one = 1;
    ssize_t written = write(loop->wake_fd, &one, sizeof(one));
    ASSERT(written == (ssize_t)sizeof(one) || errno == EAGAIN);
}

enum err loop_post(struct loop *loop, void (*fn)(void *context), void *context)
{
    struct loop_post *post = malloc(sizeof(*post));
    if (!post) return ERR_NO_MEMORY;
    *post = (struct loop_post){.fn = fn, .context = context};
    struct loop_post *head = atomic_load_explicit(&loop->posts, memory_order_relaxed);
    do {
        post->next = head;
    } while (!atomic_compare_exchange_weak(&loop->posts, &head, post));
    wake(loop);
    return ERR_NONE;
}

static void unwatch(struct loop *loop, struct loop_watch *watch)
{
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    pthread_mutex_lock(&loop->mutex);
    struct loop_watch **link = &loop->watches;
    while (*link != watch)
        link = &(*link)->next;
    *link = watch->next;
    pthread_mutex_unlock(&loop->mutex);
    free(watch);
}

enum err loop_watch(struct loop *loop, struct db_watch *watch)
{
    struct loop_watch *entry = malloc(sizeof(*entry));
    if (!entry) return ERR_NO_MEMORY;
    *entry = (struct loop_watch){.watch = watch, .fd = watch->fd};
    pthread_mutex_lock(&loop->mutex);
    entry->next = loop->watches;
    loop->watches = entry;
    pthread_mutex_unlock(&loop->mutex);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = entry};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, watch->fd, &event) == 0) return ERR_NONE;
    unwatch(loop, entry);
    return ERR_IO;
}

/* ---- the clients on it ---- */

bool loop_is_own_thread(const struct loop *loop)
{
    return loop->thread_started && pthread_equal(loop->thread, pthread_self());
}

struct channel *loop_channel(struct loop *loop)
{
    return loop->channel;
}

void loop_join(struct loop *loop, struct db_client *client)
{
    client->loop_next = loop->clients;
    loop->clients = client;
}

void loop_leave(struct loop *loop, struct db_client *client)
{
    struct db_client **link = &loop->clients;
    while (*link != client)
        link = &(*link)->loop_next;
    *link = client->loop_next;
}

/* ---- the thread ---- */

static bool run_posts(struct loop *loop)
{
    if (!atomic_load_explicit(&loop->posts, memory_order_relaxed)) return false;
    struct loop_post *newest = atomic_exchange(&loop->posts, NULL);
    struct loop_post *oldest = NULL;
    while (newest) {
        struct loop_post *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    while (oldest) {
        struct loop_post *post = oldest;
        oldest = post->next;
        post->fn(post->context);
        free(post);
    }
    return true;
}

static bool run_clients(struct loop *loop)
{
    bool busy = false;
    struct db_client *next;
    for (struct db_client *client = loop->clients; client; client = next) {
        next = client->loop_next;
        busy |= submit_turn(client) > 0;
    }
    return busy;
}

/* When something is due that no descriptor tells of. */
static uint64_t due_ns(struct loop *loop)
{
    uint64_t due = channel_due_ns(loop->channel);
    uint64_t timer = port_timer_ns(loop->channel->port);
    if (timer < due) due = timer;
    for (const struct db_client *client = loop->clients; client; client = client->loop_next) {
        uint64_t at = submit_due_ns(client);
        if (at < due) due = at;
    }
    return due;
}

/* Announces sleep to everybody who could have something for us; false when somebody has. */
static bool sleep_begin(struct loop *loop)
{
    atomic_store(&loop->sleeping, true);
    if (!atomic_load(&loop->posts) && !atomic_load(&loop->stopping) &&
        port_sleep(loop->channel->port))
        return true;
    atomic_store(&loop->sleeping, false);
    return false;
}

static int sleep_ms(struct loop *loop)
{
    uint64_t due = due_ns(loop);
    if (due == UINT64_MAX) return -1;
    uint64_t now = remote_now(loop->remote);
    uint64_t left = due > now ? due - now : 0;
    uint64_t ms = left / 1000000 + (left % 1000000 != 0);
    return ms > 60000 ? 60000 : (int)ms;
}

/* Nothing to do: look again at once, or sleep? */
static bool spins(struct loop *loop)
{
    uint64_t spin_ns = port_spin_ns(loop->channel->port);
    if (!spin_ns) return false;
    uint64_t now = remote_now(loop->remote);
    if (!loop->idle_ns) loop->idle_ns = now;
    return now - loop->idle_ns < spin_ns;
}

/* Calls the watches that are readable; waits for one as long as is asked. */
static bool run_watches(struct loop *loop, int timeout_ms, bool slept)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(loop->epoll_fd, events, EVENTS_MAX, timeout_ms);
    ASSERT(count >= 0 || errno == EINTR);
    bool port_ready = false;
    for (int i = 0; i < count; i++)
        port_ready |= events[i].data.ptr == loop->channel;
    if (slept) {
        atomic_store(&loop->sleeping, false);
        port_awake(loop->channel->port, port_ready);
    }
    bool busy = false;
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == loop->channel) continue;
        busy = true;
        if (!events[i].data.ptr) {
            uint64_t woken;
            ssize_t got = read(loop->wake_fd, &woken, sizeof(woken));
            ASSERT(got == (ssize_t)sizeof(woken) || errno == EAGAIN);
            continue;
        }
        struct loop_watch *watch = events[i].data.ptr;
        if (atomic_load_explicit(&loop->stopping, memory_order_relaxed)) continue;
        if (!watch->watch->ready(watch->watch)) unwatch(loop, watch);
    }
    return busy || port_ready;
}

static void *loop_main(void *context)
{
    struct loop *loop = context;
    while (!atomic_load_explicit(&loop->stopping, memory_order_relaxed)) {
        bool busy = channel_turn(loop->channel, 0) > 0;
        busy |= run_posts(loop);
        busy |= run_clients(loop);
        /* What all of them have sent leaves before anything else is waited for. */
        port_flush(loop->channel->port);
        if (busy) loop->idle_ns = 0;
        int timeout_ms = 0;
        bool slept = false;
        if (!busy && !spins(loop)) {
            /* What is due is looked at before the announcement: both may take what has come. */
            timeout_ms = sleep_ms(loop);
            slept = timeout_ms && sleep_begin(loop);
            if (!slept) timeout_ms = 0;
        } else if (++loop->spins % SPIN_TURNS) {
            continue;
        }
        if (run_watches(loop, timeout_ms, slept)) loop->idle_ns = 0;
    }
    run_posts(loop);
    return NULL;
}

/* ---- making and ending ---- */

static enum err loop_watch_own(struct loop *loop)
{
    struct epoll_event wake_event = {.events = EPOLLIN};
    struct epoll_event port_event = {.events = EPOLLIN, .data.ptr = loop->channel};
    int port = port_fd(loop->channel->port);
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->wake_fd, &wake_event) ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, port, &port_event))
        return ERR_BUSY;
    return ERR_NONE;
}

enum err loop_create(struct remote *remote, uint16_t index, struct loop **ret_loop,
                     struct diag *diag)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    loop->remote = remote;
    pthread_mutex_init(&loop->mutex, NULL);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum err err = ERR_BUSY;
    if (loop->epoll_fd < 0 || loop->wake_fd < 0) {
        diag_set(diag, err, "no descriptors left for a loop");
        goto fail;
    }
    err = channel_create(remote, &loop->channel, diag);
    if (err) goto fail;
    err = loop_watch_own(loop);
    if (err) {
        diag_set(diag, err, "a loop cannot watch its port");
        goto fail;
    }
    if (pthread_create(&loop->thread, NULL, loop_main, loop)) {
        err = diag_set(diag, ERR_NO_MEMORY, "cannot start a loop's thread");
        goto fail;
    }
    loop->thread_started = true;
    char name[16];
    snprintf(name, sizeof(name), "trellis-l%u", (unsigned)index);
    pthread_setname_np(loop->thread, name);
    *ret_loop = loop;
    return ERR_NONE;

fail:
    loop_destroy(loop);
    return err;
}

void loop_destroy(struct loop *loop)
{
    if (!loop) return;
    if (loop->thread_started) {
        atomic_store(&loop->stopping, true);
        wake(loop);
        pthread_join(loop->thread, NULL);
    }
    while (loop->watches) {
        struct loop_watch *watch = loop->watches;
        loop->watches = watch->next;
        free(watch);
    }
    struct loop_post *post = atomic_exchange(&loop->posts, NULL);
    while (post) {
        struct loop_post *next = post->next;
        free(post);
        post = next;
    }
    channel_destroy(loop->channel);
    if (loop->wake_fd >= 0) close(loop->wake_fd);
    if (loop->epoll_fd >= 0) close(loop->epoll_fd);
    pthread_mutex_destroy(&loop->mutex);
    free(loop);
}
