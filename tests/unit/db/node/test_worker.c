/* One worker in the simulator, driven by hand: turns, timers, tasks, pins, signals. */
#include <criterion/criterion.h>

#include "db/node/sim_node.h"
#include "db/node/worker_private.h"

struct fixture {
    struct sim *sim;
    struct sim_node *sim_node;
    struct node *node;
    struct worker *worker;
};

static void setup(struct fixture *fx, uint16_t workers)
{
    struct sim_config config = {
        .seed = 7, .disk_latency_ns_min = 1000, .disk_latency_ns_max = 100000};
    struct sim_node_config node = {
        .worker_count = workers,
        .partition_count = 4,
        .flush_interval_ms = 5,
        .checkpoint_log_bytes = 1 << 20,
    };
    struct diag diag = {0};
    cr_assert_eq(sim_create(&config, &fx->sim), ERR_NONE);
    node.sim = fx->sim;
    cr_assert_eq(sim_node_create(&node, &fx->sim_node, &diag), ERR_NONE, "%s", diag.text);
    fx->node = sim_node_node(fx->sim_node);
    fx->worker = fx->node->workers[0];
}

static void teardown(struct fixture *fx)
{
    struct diag diag = {0};
    cr_assert_eq(sim_node_stop(fx->sim_node, &diag), ERR_NONE, "%s", diag.text);
    sim_destroy(fx->sim);
}

static void settle(struct fixture *fx)
{
    while (sim_node_step(fx->sim_node))
        continue;
}

/* ---- tasks and timers ---- */

struct counting {
    struct worker_task task;
    struct worker_timer timer;
    struct worker *worker;
    int steps_left;
    int steps;
    int *order;
    int *order_at;
    int number;
};

static bool count_step(struct worker_task *task)
{
    struct counting *counting = task->context;
    counting->steps++;
    if (counting->order) counting->order[(*counting->order_at)++] = counting->number;
    return --counting->steps_left > 0;
}

Test(worker, tasks_take_turns_and_park)
{
    struct fixture fx;
    setup(&fx, 1);
    int order[16], at = 0;
    struct counting tasks[3];
    for (int i = 0; i < 3; i++) {
        tasks[i] =
            (struct counting){.steps_left = i + 1, .order = order, .order_at = &at, .number = i};
        tasks[i].task = (struct worker_task){.step = count_step, .context = &tasks[i]};
        worker_task_start(fx.worker, &tasks[i].task);
        worker_task_start(fx.worker, &tasks[i].task); /* no change */
    }
    while (worker_turn(fx.worker))
        continue;
    const int expected[] = {0, 1, 2, 1, 2, 2};
    cr_assert_eq(at, 6);
    cr_assert_eq(memcmp(order, expected, sizeof(expected)), 0);
    tasks[0].steps_left = tasks[1].steps_left = 5;
    worker_task_start(fx.worker, &tasks[0].task);
    worker_task_start(fx.worker, &tasks[1].task);
    worker_turn(fx.worker);
    worker_task_stop(fx.worker, &tasks[0].task);
    worker_task_stop(fx.worker, &tasks[0].task);
    while (worker_turn(fx.worker))
        continue;
    cr_assert_eq(tasks[0].steps_left, 4);
    cr_assert_eq(tasks[1].steps_left, 0);
    teardown(&fx);
}

static void count_fire(struct worker_timer *timer)
{
    struct counting *counting = timer->context;
    counting->order[(*counting->order_at)++] = counting->number;
}

Test(worker, timers_fire_once_in_order_of_time)
{
    struct fixture fx;
    setup(&fx, 1);
    int order[16], at = 0;
    struct counting timers[4];
    uint64_t now = worker_monotonic_ns(fx.worker);
    const uint64_t delays[] = {3000, 1000, 2000, 9000};
    for (int i = 0; i < 4; i++) {
        timers[i] = (struct counting){.order = order, .order_at = &at, .number = i};
        timers[i].timer = (struct worker_timer){.fire = count_fire, .context = &timers[i]};
        worker_timer_arm(fx.worker, &timers[i].timer, now + delays[i]);
    }
    cr_assert_eq(worker_timer_next(fx.worker), now + 1000);
    worker_turn(fx.worker);
    cr_assert_eq(at, 0);
    worker_timer_disarm(fx.worker, &timers[3].timer);
    worker_timer_arm(fx.worker, &timers[1].timer, now + 2500); /* moved */
    sim_advance(fx.sim, 10000);
    worker_turn(fx.worker);
    worker_turn(fx.worker);
    const int expected[] = {2, 1, 0};
    cr_assert_eq(at, 3);
    cr_assert_eq(memcmp(order, expected, sizeof(expected)), 0);
    cr_assert_eq(worker_timer_next(fx.worker), UINT64_MAX);
    teardown(&fx);
}

/* ---- the clock ---- */

Test(worker, clock_goes_up_whatever_happens)
{
    struct fixture fx;
    setup(&fx, 1);
    uint64_t first = worker_clock_next(fx.worker);
    cr_assert_gt(worker_clock_next(fx.worker), first);
    worker_clock_observe(fx.worker, first + 5000000000u);
    uint64_t later = worker_clock_next(fx.worker);
    cr_assert_gt(later, first + 5000000000u);
    worker_clock_observe(fx.worker, 5);
    cr_assert_gt(worker_clock_next(fx.worker), later);
    cr_assert_gt(worker_horizon(fx.worker), later);
    teardown(&fx);
}

/* ---- signals ---- */

struct sent {
    struct signal *last;
    unsigned count;
};
static struct sent sent;

static void remember(struct worker *worker, struct signal *signal)
{
    (void)worker;
    signal_destroy(sent.last);
    sent.last = signal;
    sent.count++;
}

static struct signal *to_worker(enum signal_type type, uint32_t size)
{
    struct signal *signal = signal_create(size);
    memset(signal->body, 0xab, size);
    signal->header.type = (uint16_t)type;
    signal->header.source = 1;
    return signal;
}

Test(worker, drops_and_counts_what_is_malformed_unknown_or_from_the_future)
{
    struct fixture fx;
    setup(&fx, 2);
    worker_on(fx.worker, SIGNAL_QUERY_MOVED, remember);
    node_deliver(fx.node, to_worker(SIGNAL_QUERY_MOVED, 5));
    worker_turn(fx.worker);
    cr_assert_eq(sent.count, 1);
    cr_assert_eq(signal_body_size(sent.last), 5);
    struct signal *signal = to_worker(SIGNAL_QUERY_MOVED, 5);
    signal->header.version = 9;
    node_deliver(fx.node, signal);
    signal = to_worker(SIGNAL_QUERY_MOVED, 5);
    signal->header.size = 1 << 20; /* more than the block holds */
    node_deliver(fx.node, signal);
    signal = to_worker(SIGNAL_QUERY_MOVED, 5);
    signal->header.clock = UINT64_MAX;
    node_deliver(fx.node, signal);
    signal = to_worker(SIGNAL_QUERY_MOVED, 5);
    signal->header.clock = worker_clock_next(fx.worker) + HLC_AHEAD_NS_MAX + 1000000000u;
    node_deliver(fx.node, signal);
    node_deliver(fx.node, to_worker((enum signal_type)60, 5));
    signal = to_worker(SIGNAL_QUERY_MOVED, 5);
    signal->header.destination = ENDPOINT_CLIENT_FIRST + 7; /* nobody: not even delivered */
    node_deliver(fx.node, signal);
    worker_turn(fx.worker);
    cr_assert_eq(sent.count, 1);
    cr_assert_eq(fx.worker->counters.signals_dropped, 5);
    signal_destroy(sent.last);
    teardown(&fx);
}

Test(worker, replies_in_the_request_s_block_or_a_larger_one)
{
    struct fixture fx;
    setup(&fx, 2);
    memset(&sent, 0, sizeof(sent));
    worker_on(fx.worker, SIGNAL_QUERY_MOVED, remember);
    struct signal *request = to_worker(SIGNAL_QUERY_MOVE, 8);
    request->header.source = 0;
    request->header.request = 42;
    worker_reply(fx.node->workers[1], request, SIGNAL_QUERY_MOVED, ERR_NOT_FOUND, "abc", 3);
    settle(&fx);
    cr_assert_eq(sent.count, 1);
    cr_assert_eq(sent.last, request, "no new memory");
    cr_assert_eq(sent.last->header.request, 42);
    cr_assert_eq(sent.last->header.err, ERR_NOT_FOUND);
    cr_assert_eq(sent.last->header.source, 1);
    static char large[5000];
    request = to_worker(SIGNAL_QUERY_MOVE, 8);
    request->header.source = 0;
    worker_reply(fx.node->workers[1], request, SIGNAL_QUERY_MOVED, ERR_NONE, large, sizeof(large));
    settle(&fx);
    cr_assert_eq(signal_body_size(sent.last), sizeof(large));
    signal_destroy(sent.last);
    teardown(&fx);
}

/* ---- durability ---- */

struct durable {
    struct worker_durable durable;
    bool called;
    enum err err;
};

static void on_durable(struct worker_durable *durable, enum err err)
{
    struct durable *self = durable->context;
    self->called = true;
    self->err = err;
}

Test(worker, a_round_makes_all_logs_durable)
{
    struct fixture fx;
    setup(&fx, 3);
    struct durable one = {.durable = {.ready = on_durable, .context = &one}};
    one.durable.ts = worker_clock_next(fx.worker);
    worker_when_durable(fx.worker, &one.durable);
    cr_assert_not(one.called, "never at once");
    settle(&fx);
    cr_assert(one.called);
    cr_assert_eq(one.err, ERR_NONE);
    for (uint16_t i = 0; i < 3; i++)
        cr_assert_geq(redo_horizon_durable(fx.node->workers[i]->redo), one.durable.ts);
    teardown(&fx);
}

Test(worker, a_prepared_transaction_holds_horizons_snapshots_and_flushes_up)
{
    struct fixture fx;
    setup(&fx, 2);
    struct participant *prepared;
    cr_assert_eq(participant_create(&fx.worker->prepared, &prepared), ERR_NONE);
    prepared->txn = 1;
    prepared->prepare_ts = worker_clock_next(fx.worker);
    participants_add(&fx.worker->prepared, prepared);
    uint64_t pinned;
    cr_assert_eq(worker_pin(fx.worker, &pinned), ERR_NONE);
    cr_assert_gt(pinned, prepared->prepare_ts);
    cr_assert_not(worker_is_settled(fx.worker, pinned));
    cr_assert(worker_is_settled(fx.worker, prepared->prepare_ts - 1));
    cr_assert_eq(worker_horizon(fx.worker), prepared->prepare_ts - 1);
    struct durable later = {.durable = {.ready = on_durable, .context = &later, .ts = pinned}};
    worker_when_durable(fx.node->workers[1], &later.durable);
    for (int i = 0; i < 2000; i++)
        sim_node_step(fx.sim_node);
    cr_assert_not(later.called);
    participants_remove(&fx.worker->prepared, prepared);
    participant_destroy(&fx.worker->prepared, prepared);
    snapshot_resolved(fx.worker);
    settle(&fx);
    cr_assert(later.called);
    cr_assert_eq(later.err, ERR_NONE);
    worker_unpin(fx.worker, pinned);
    teardown(&fx);
}

Test(worker, a_failed_log_is_known_and_stays_failed)
{
    struct fixture fx;
    setup(&fx, 2);
    struct durable one = {.durable = {.ready = on_durable, .context = &one}};
    sim_fault_arm(fx.sim, 1, ERR_IO);
    one.durable.ts = worker_clock_next(fx.worker);
    worker_when_durable(fx.worker, &one.durable);
    settle(&fx);
    cr_assert(one.called);
    cr_assert_eq(one.err, ERR_IO);
    cr_assert_eq(node_health(fx.node), ERR_IO);
    cr_assert_neq(fx.node->health_diag.text[0], '\0');
    struct durable two = {.durable = {.ready = on_durable, .context = &two}};
    two.durable.ts = worker_clock_next(fx.worker);
    worker_when_durable(fx.worker, &two.durable);
    settle(&fx);
    cr_assert_eq(two.err, ERR_IO, "no later flush can make up for it");
    struct diag diag = {0};
    cr_assert_eq(sim_node_stop(fx.sim_node, &diag), ERR_IO);
    sim_destroy(fx.sim);
}

Test(worker, a_full_disk_stalls_until_there_is_space)
{
    struct fixture fx;
    setup(&fx, 1);
    struct durable one = {.durable = {.ready = on_durable, .context = &one}};
    sim_fault_arm(fx.sim, 1, ERR_NO_SPACE);
    one.durable.ts = worker_clock_next(fx.worker);
    worker_when_durable(fx.worker, &one.durable);
    for (int i = 0; i < 200 && !one.called; i++)
        sim_node_step(fx.sim_node);
    cr_assert_eq(one.err, ERR_NO_SPACE);
    cr_assert_eq(node_health(fx.node), ERR_NO_SPACE);
    sim_advance(fx.sim, 2000000000u); /* it tries again by itself */
    for (int i = 0; i < 200; i++)
        sim_node_step(fx.sim_node);
    cr_assert_eq(node_health(fx.node), ERR_NONE);
    teardown(&fx);
}

static uint32_t fill_with_linked(struct fixture *fx, uint16_t worker)
{
    struct endpoint *endpoint;
    enum err err;
    uint32_t count = 0;
    while (!(
        err = node_endpoint_open_linked(fx->node, fx->node->workers[worker], count + 1, &endpoint)))
        count++;
    cr_assert_eq(err, ERR_BUSY);
    return count;
}

Test(worker, clients_of_other_processes_leave_endpoints_to_all_others)
{
    struct fixture fx;
    setup(&fx, 3);
    struct endpoint *endpoint;
    for (uint16_t w = 0; w < 3; w++)
        cr_assert_eq(fill_with_linked(&fx, w), node_linked_max(fx.node));
    for (uint32_t i = 0; i < ENDPOINTS_LOCAL; i++)
        cr_assert_eq(node_endpoint_open(fx.node, NULL, &endpoint), ERR_NONE);
    /* One that ends makes room for the next of its kind. */
    node_endpoint_close(fx.node, endpoint);
    cr_assert_eq(node_endpoint_open(fx.node, NULL, &endpoint), ERR_NONE);
    teardown(&fx);
}
