/* The worker's event loop.
 *
 * A turn: signals (at most TURN_SIGNALS_MAX, so that a flood of them does not starve the watches),
 * finished jobs, due timers, one step of one task. On a thread the loop adds posted functions, the
 * turns of bound clients and the watches, and sleeps in epoll when nothing is left to do, until the
 * next timer if there is one. A worker with nothing to do is woken by nothing. A watch whose
 * requests follow each other closely is looked at without asking epoll, and for a moment before
 * sleeping (watch_spin.c).
 *
 * Going to sleep: the mailbox's announcement covers jobs and posts too, since those who queue them
 * wake through it; so after announcing, all three are looked at once more (mailbox.c has the
 * argument). */
#include "db/node/worker_private.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"

enum {
    TURN_SIGNALS_MAX = 256,
    EPOLL_EVENTS_MAX = 16,
    LOOKS_PER_EPOLL = 16, /* at the hot watch, before the others are asked for */
};

/* ---- making and ending ---- */

enum err worker_create(struct node *node, uint16_t index, struct worker **ret_worker)
{
    const struct node_config *config = &node->config;
    struct worker *worker = calloc(1, sizeof(*worker));
    if (!worker) return ERR_NO_MEMORY;
    worker->node = node;
    worker->index = index;
    worker->epoll_fd = -1;
    worker->partition_mask = (uint16_t)(node->partition_count - 1);
    worker->mailbox.wake_fd = -1;
    arena_init(&worker->arena, 0);
    buf_init(&worker->redo_body);
    buf_init(&worker->reply);
    watch_spin_init(&worker->spin);
    enum err err = mailbox_init(&worker->mailbox, config->threads);
    if (err) goto fail;
    if (config->threads) {
        worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN};
        err = ERR_BUSY;
        if (worker->epoll_fd < 0) goto fail;
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->mailbox.wake_fd, &event)) goto fail;
    }
    uint64_t memory_max = config->memory_max / node->worker_count;
    if (config->memory_max && !memory_max) memory_max = 1;
    err = ldm_create(memory_max, &worker->ldm);
    if (err) goto fail;
    participants_init(&worker->prepared, worker->ldm);
    err = change_set_create(worker->ldm, &worker->changes);
    if (err) goto fail;
    err = ERR_NO_MEMORY;
    worker->partitions = calloc(node->partition_count, sizeof(struct partition *));
    if (!worker->partitions) goto fail;
    worker->executor = (struct executor){
        .partitions = worker->partitions,
        .partition_count = node->partition_count,
        .arena = &worker->arena,
    };
    *ret_worker = worker;
    return ERR_NONE;

fail:
    worker_destroy(worker);
    return err;
}

void worker_destroy(struct worker *worker)
{
    if (!worker) return;
    struct post *post = atomic_exchange(&worker->posts, NULL);
    while (post) {
        struct post *next = post->next;
        free(post);
        post = next;
    }
    if (worker->redo) redo_destroy(worker->redo);
    participants_fini(&worker->prepared);
    if (worker->changes) {
        change_set_rollback(worker->changes);
        change_set_destroy(worker->changes);
    }
    ldm_destroy(worker->ldm);
    catalog_destroy(worker->catalog);
    free(worker->partitions);
    mailbox_fini(&worker->mailbox);
    if (worker->epoll_fd >= 0) close(worker->epoll_fd);
    buf_fini(&worker->reply);
    buf_fini(&worker->redo_body);
    arena_fini(&worker->arena);
    free(worker);
}

/* ---- accessors ---- */

uint16_t worker_index(const struct worker *worker)
{
    return worker->index;
}

struct node *worker_node(const struct worker *worker)
{
    return worker->node;
}

struct env *worker_env(const struct worker *worker)
{
    return worker->node->env;
}

struct ldm *worker_ldm(const struct worker *worker)
{
    return worker->ldm;
}

struct redo *worker_redo(const struct worker *worker)
{
    return worker->redo;
}

struct partition *worker_partition(const struct worker *worker, uint16_t number)
{
    return number < worker->node->partition_count ? worker->partitions[number] : NULL;
}

uint16_t worker_partition_count(const struct worker *worker)
{
    return worker->node->partition_count;
}

uint16_t worker_count(const struct worker *worker)
{
    return worker->node->worker_count;
}

uint16_t worker_partition_owner(const struct worker *worker, uint16_t number)
{
    return node_partition_owner(worker->node, number);
}

uint16_t worker_slot_owner(const struct worker *worker, uint16_t slot)
{
    return node_slot_owner(worker->node, slot);
}

const struct catalog *worker_catalog(const struct worker *worker)
{
    return worker->catalog;
}

uint64_t worker_query_memory_max(const struct worker *worker)
{
    return worker->node->config.query_memory_max;
}

uint64_t worker_clock_next(struct worker *worker)
{
    return hlc_next(&worker->clock, worker_realtime(worker));
}

void worker_clock_observe(struct worker *worker, uint64_t ts)
{
    if (hlc_is_plausible(&worker->clock, ts, worker_realtime(worker)))
        hlc_observe(&worker->clock, ts);
}

uint64_t worker_horizon(struct worker *worker)
{
    uint64_t now = worker_clock_next(worker);
    uint64_t oldest = participants_oldest_ts(&worker->prepared);
    return oldest <= now ? oldest - 1 : now;
}

uint64_t worker_monotonic_ns(const struct worker *worker)
{
    return worker->node->env->ops->monotonic_ns(worker->node->env);
}

static unsigned module_at(const struct worker *worker, const struct worker_module *module)
{
    unsigned at = 0;
    while (worker->node->config.modules[at] != module) {
        at++;
        ASSERT(at < NODE_MODULES_MAX);
    }
    return at;
}

void *worker_module_state(const struct worker *worker, const struct worker_module *module)
{
    return worker->module_states[module_at(worker, module)];
}

void worker_set_module_state(struct worker *worker, const struct worker_module *module, void *state)
{
    worker->module_states[module_at(worker, module)] = state;
}

/* ---- signals ---- */

void worker_on(struct worker *worker, enum signal_type type, worker_signal_fn *fn)
{
    ASSERT(type <= SIGNAL_TYPE_MAX && !worker->handlers[type]);
    worker->handlers[type] = fn;
}

void worker_send(struct worker *worker, struct signal *signal, uint32_t body_size)
{
    ASSERT(body_size <= signal->capacity);
    struct signal_header *header = &signal->header;
    header->size = (uint32_t)sizeof(*header) + body_size;
    header->version = SIGNAL_VERSION;
    header->source = worker->index;
    header->clock = worker->clock.last;
    header->reserved = 0;
    node_send(worker->node, signal);
}

enum err worker_send_new(struct worker *worker, uint32_t destination, enum signal_type type,
                         uint64_t request, uint64_t client, const void *body, uint32_t body_size)
{
    struct signal *signal = signal_create(body_size);
    if (!signal) return ERR_NO_MEMORY;
    signal->header.type = (uint16_t)type;
    signal->header.destination = destination;
    signal->header.request = request;
    signal->header.client = client;
    if (body_size) memcpy(signal->body, body, body_size);
    worker_send(worker, signal, body_size);
    return ERR_NONE;
}

void worker_reply(struct worker *worker, struct signal *signal, enum signal_type type, enum err err,
                  const void *body, uint32_t body_size)
{
    if (body_size > signal->capacity) {
        struct signal *larger = signal_create(body_size);
        if (larger) {
            larger->header = signal->header;
            signal_destroy(signal);
            signal = larger;
        } else {
            err = body_size > SIGNAL_BODY_SIZE_MAX ? ERR_TOO_BIG : ERR_NO_MEMORY;
            body_size = 0;
        }
    }
    signal->header.destination = signal->header.source;
    signal->header.type = (uint16_t)type;
    signal->header.err = (uint16_t)err;
    if (body_size) memcpy(signal->body, body, body_size);
    worker_send(worker, signal, body_size);
}

/* For a client on this thread, or one that its links reach. */
static void dispatch_bound(struct worker *worker, struct signal *signal)
{
    uint32_t number = signal->header.destination;
    struct endpoint *endpoint = NULL;
    if (number >= ENDPOINT_CLIENT_FIRST)
        endpoint = atomic_load_explicit(&worker->node->endpoints[number - ENDPOINT_CLIENT_FIRST],
                                        memory_order_acquire);
    if (endpoint && endpoint->worker == worker &&
        atomic_load_explicit(&endpoint->open, memory_order_relaxed) &&
        endpoint->client == signal->header.client) {
        endpoint->receive(endpoint, signal);
        return;
    }
    worker->counters.signals_dropped++;
    signal_destroy(signal);
}

void worker_dispatch(struct worker *worker, struct signal *signal)
{
    const struct signal_header *header = &signal->header;
    worker->counters.signals++;
    if (signal_check(header, header->size) || signal_body_size(signal) > signal->capacity ||
        !hlc_is_plausible(&worker->clock, header->clock, worker_realtime(worker))) {
        worker->counters.signals_dropped++;
        signal_destroy(signal);
        return;
    }
    hlc_observe(&worker->clock, header->clock);
    if (header->destination != worker->index) {
        dispatch_bound(worker, signal);
        return;
    }
    worker_signal_fn *handler = worker->handlers[header->type];
    if (!handler) {
        worker->counters.signals_dropped++;
        signal_destroy(signal);
        return;
    }
    handler(worker, signal);
}

static bool run_signals(struct worker *worker)
{
    for (unsigned i = 0; i < TURN_SIGNALS_MAX; i++) {
        struct signal *signal = mailbox_pop(&worker->mailbox);
        if (!signal) return i > 0;
        worker_dispatch(worker, signal);
    }
    return true;
}

/* ---- jobs, posts ---- */

static bool run_jobs(struct worker *worker)
{
    if (!atomic_load_explicit(&worker->jobs, memory_order_relaxed)) return false;
    struct env_job *newest = atomic_exchange(&worker->jobs, NULL);
    struct env_job *oldest = NULL;
    while (newest) {
        struct env_job *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    while (oldest) {
        struct env_job *job = oldest;
        oldest = job->next;
        job->done(job);
    }
    checkpointer_kick(worker);
    return true;
}

static bool run_posts(struct worker *worker)
{
    if (!atomic_load_explicit(&worker->posts, memory_order_relaxed)) return false;
    struct post *newest = atomic_exchange(&worker->posts, NULL);
    struct post *oldest = NULL;
    while (newest) {
        struct post *older = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = older;
    }
    while (oldest) {
        struct post *post = oldest;
        oldest = post->next;
        post->fn(post->context);
        free(post);
    }
    return true;
}

/* ---- tasks ---- */

void worker_task_start(struct worker *worker, struct worker_task *task)
{
    if (task->started) return;
    task->started = true;
    if (worker->tasks) {
        task->next = worker->tasks->next;
        worker->tasks->next = task;
    } else {
        task->next = task;
    }
    worker->tasks = task;
}

void worker_task_stop(struct worker *worker, struct worker_task *task)
{
    if (!task->started) return;
    task->started = false;
    struct worker_task *before = worker->tasks;
    while (before->next != task)
        before = before->next;
    before->next = task->next;
    if (worker->tasks == task) worker->tasks = before == task ? NULL : before;
    task->next = NULL;
}

static bool run_task(struct worker *worker)
{
    if (!worker->tasks) return false;
    struct worker_task *task = worker->tasks->next;
    worker_task_stop(worker, task);
    if (task->step(task)) worker_task_start(worker, task);
    return true;
}

/* ---- timers ---- */

void worker_timer_arm(struct worker *worker, struct worker_timer *timer, uint64_t at_ns)
{
    worker_timer_disarm(worker, timer);
    timer->at_ns = at_ns;
    timer->armed = true;
    struct worker_timer **link = &worker->timers;
    while (*link && (*link)->at_ns <= at_ns)
        link = &(*link)->next;
    timer->next = *link;
    *link = timer;
}

void worker_timer_disarm(struct worker *worker, struct worker_timer *timer)
{
    if (!timer->armed) return;
    struct worker_timer **link = &worker->timers;
    while (*link != timer)
        link = &(*link)->next;
    *link = timer->next;
    timer->next = NULL;
    timer->armed = false;
}

uint64_t worker_timer_next(const struct worker *worker)
{
    return worker->timers ? worker->timers->at_ns : UINT64_MAX;
}

static bool run_timers(struct worker *worker)
{
    if (!worker->timers) return false;
    uint64_t now = worker_monotonic_ns(worker);
    bool fired = false;
    while (worker->timers && worker->timers->at_ns <= now) {
        struct worker_timer *timer = worker->timers;
        worker_timer_disarm(worker, timer);
        timer->fire(timer);
        fired = true;
    }
    return fired;
}

/* ---- turns ---- */

bool worker_turn(struct worker *worker)
{
    if (worker->has_ttl) ldm_set_now(worker->ldm, worker_realtime(worker));
    bool busy = worker->links && links_poll(worker->links);
    busy |= run_signals(worker);
    busy |= run_jobs(worker);
    busy |= run_timers(worker);
    busy |= run_task(worker);
    if (worker->links) links_flush(worker->links);
    return busy;
}

bool worker_is_idle(const struct worker *worker)
{
    return redo_is_idle(worker->redo) && checkpointer_is_idle(worker) && ddl_is_idle(worker) &&
           !atomic_load(&worker->jobs);
}

/* The thread may end: it was told to, and nobody needs it any more. */
static bool may_end(const struct worker *worker)
{
    return atomic_load(&worker->stopping) && atomic_load(&worker->node->open) == 0 &&
           worker_is_idle(worker);
}

bool worker_is_ready(const struct worker *worker)
{
    return worker->tasks || !mailbox_is_empty(&worker->mailbox) || atomic_load(&worker->jobs) ||
           worker_timer_next(worker) <= worker_monotonic_ns(worker) ||
           (worker->links && links_is_ready(worker->links));
}

/* How long it may sleep, in milliseconds for poll: -1 without limit. */
static int sleep_ms(const struct worker *worker, uint64_t timeout_ns)
{
    uint64_t timer = worker_timer_next(worker);
    if (worker->links && links_timer_ns(worker->links) < timer)
        timer = links_timer_ns(worker->links);
    if (timer != UINT64_MAX) {
        uint64_t now = worker_monotonic_ns(worker);
        uint64_t left = timer > now ? timer - now : 0;
        if (left < timeout_ns) timeout_ns = left;
    }
    if (timeout_ns == UINT64_MAX) return -1;
    uint64_t ms = timeout_ns / 1000000 + (timeout_ns % 1000000 != 0);
    return ms > 60000 ? 60000 : (int)ms;
}

/* Takes the announcement back. */
static void sleep_end(struct worker *worker, bool links_ready)
{
    mailbox_awake(&worker->mailbox);
    if (worker->links) links_awake(worker->links, links_ready);
}

/* Announces sleep; false when there is something to do after all. */
static bool sleep_begin(struct worker *worker, bool posts_too)
{
    if (!mailbox_sleep(&worker->mailbox)) return false;
    if (worker->links && !links_sleep(worker->links)) {
        mailbox_awake(&worker->mailbox);
        return false;
    }
    if (!atomic_load(&worker->jobs) && !(posts_too && atomic_load(&worker->posts)) &&
        !may_end(worker)) {
        worker->counters.sleeps++;
        return true;
    }
    sleep_end(worker, false);
    return false;
}

void worker_nested_turn(struct worker *worker, uint64_t timeout_ns)
{
    ASSERT(worker->depth == 0); /* only outer code waits */
    worker->depth++;
    if (!worker_turn(worker) && timeout_ns && worker->mailbox.wake_fd >= 0 &&
        sleep_begin(worker, false)) {
        struct pollfd fds[2] = {{.fd = worker->mailbox.wake_fd, .events = POLLIN}};
        if (worker->links) fds[1] = (struct pollfd){links_fd(worker->links), POLLIN, 0};
        int ready = poll(fds, worker->links ? 2 : 1, sleep_ms(worker, timeout_ns));
        ASSERT(ready >= 0 || errno == EINTR);
        sleep_end(worker, ready > 0 && fds[1].revents);
        if (ready > 0 && fds[0].revents) mailbox_drain(&worker->mailbox);
    }
    worker->depth--;
}

/* Calls the watches that are readable; waits for one as long as is asked. */
static void run_watches(struct worker *worker, int timeout_ms)
{
    struct epoll_event events[EPOLL_EVENTS_MAX];
    int count = epoll_wait(worker->epoll_fd, events, EPOLL_EVENTS_MAX, timeout_ms);
    ASSERT(count >= 0 || errno == EINTR);
    bool links_ready = false;
    for (int i = 0; i < count; i++)
        links_ready |= worker->links && events[i].data.ptr == worker->links;
    if (timeout_ms) sleep_end(worker, links_ready);
    if (count > 0 && worker->has_ttl) ldm_set_now(worker->ldm, worker_realtime(worker));
    for (int i = 0; i < count; i++) {
        if (worker->links && events[i].data.ptr == worker->links) continue;
        struct watch *watch = events[i].data.ptr;
        if (!watch) mailbox_drain(&worker->mailbox);
        if (!watch || atomic_load_explicit(&worker->stopping, memory_order_relaxed)) continue;
        uint32_t found = watch->found ? *watch->found : 0;
        uint64_t now = watch->found ? worker_monotonic_ns(worker) : 0;
        if (!watch->ready(watch->context)) {
            node_unwatch(worker->node, watch);
        } else if (watch->found && *watch->found != found) {
            worker->hot = watch;
            watch_spin_found(&worker->spin, now);
        }
    }
}

/* Looks at the hot watch without being told. True: it found something, or it should be looked at
 * again rather than sleep. */
static bool run_hot(struct worker *worker)
{
    struct watch *watch = worker->hot;
    uint64_t now = worker_monotonic_ns(worker);
    if (!watch_spin_again(&worker->spin, now)) return false;
    /* The one who will send the next request may be waiting for this core. */
    (void)sched_yield();
    uint32_t found = *watch->found;
    now = worker_monotonic_ns(worker);
    if (!watch->ready(watch->context))
        node_unwatch(worker->node, watch);
    else if (*watch->found != found)
        watch_spin_found(&worker->spin, now);
    return true;
}

/* To clients in other processes, when nothing is under way any more. */
static void last_answers(struct worker *worker)
{
    if (!worker->links) return;
    struct signal *signal;
    while ((signal = mailbox_pop(&worker->mailbox))) {
        if (signal->header.destination == worker->index)
            signal_destroy(signal);
        else
            worker_dispatch(worker, signal);
    }
    links_flush(worker->links);
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    crowd_init(&worker->spin.crowd);
    while (!may_end(worker)) {
        bool busy = worker_turn(worker);
        busy |= run_posts(worker);
        for (struct endpoint *endpoint = worker->bound; endpoint; endpoint = endpoint->next_bound)
            if (endpoint->turn && atomic_load_explicit(&endpoint->open, memory_order_relaxed))
                endpoint->turn(endpoint);
        int timeout_ms = 0;
        bool spins = worker->links && links_spin(worker->links, busy);
        bool again = busy || worker->tasks || spins;
        if (worker->hot && !atomic_load_explicit(&worker->stopping, memory_order_relaxed) &&
            run_hot(worker)) {
            if (++worker->looks % LOOKS_PER_EPOLL) continue;
            again = true;
        }
        if (spins && ++worker->looks % LOOKS_PER_EPOLL) continue;
        if (!again && sleep_begin(worker, true)) {
            timeout_ms = sleep_ms(worker, UINT64_MAX);
            if (timeout_ms == 0) sleep_end(worker, false);
        }
        run_watches(worker, timeout_ms);
    }
    last_answers(worker);
    crowd_fini(&worker->spin.crowd);
    return NULL;
}

enum err worker_start_thread(struct worker *worker)
{
    int failed = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (failed) return ERR_NO_MEMORY;
    worker->thread_started = true;
    char name[16];
    snprintf(name, sizeof(name), "trellis-w%u", (unsigned)worker->index);
    pthread_setname_np(worker->thread, name);
    if (worker->node->config.pin_workers) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)(worker->index % (cores > 0 ? cores : 1)), &set);
        pthread_setaffinity_np(worker->thread, sizeof(set), &set);
    }
    return ERR_NONE;
}

void worker_join(struct worker *worker)
{
    if (!worker->thread_started) return;
    atomic_store(&worker->stopping, true);
    mailbox_wake(&worker->mailbox);
    pthread_join(worker->thread, NULL);
    worker->thread_started = false;
}
