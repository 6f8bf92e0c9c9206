#include "tests/unit/rdma/harness.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/hash.h"
#include "tests/unit/sanitized.h"

uint64_t rounds(uint64_t count)
{
    const char *scale = getenv("TRELLIS_TEST_SCALE");
    uint64_t divisor = scale ? strtoull(scale, NULL, 10) : 0;
    if (!divisor) divisor = 1;
    if (SANITIZED) divisor *= 10;
    return count / divisor ? count / divisor : 1;
}

uint64_t until_patience(void)
{
    return SANITIZED || getenv("TRELLIS_TEST_SCALE") ? 5 : 1;
}

uint64_t clock_now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* ---- content ---- */

uint32_t size_small(uint64_t number)
{
    (void)number;
    return 64;
}

uint32_t size_mixed(uint64_t number)
{
    uint64_t random = hash_u64(number + 1);
    if (random % 64 == 0) return 1 + (uint32_t)(random >> 32) % 20000;
    return 1 + (uint32_t)(random >> 32) % 300;
}

void content_fill(uint64_t number, uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i += 8) {
        uint64_t word = hash_u64((number << 24) + i + size);
        memcpy(bytes + i, &word, size - i < 8 ? size - i : 8);
    }
}

bool content_is_right(uint64_t number, const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i += 8) {
        uint64_t word = hash_u64((number << 24) + i + size);
        if (memcmp(bytes + i, &word, size - i < 8 ? size - i : 8)) return false;
    }
    return true;
}

/* ---- events ---- */

static uint32_t endpoint_size_of(const struct endpoint *endpoint, uint64_t number)
{
    return endpoint->size_of ? endpoint->size_of(number) : size_mixed(number);
}

static struct flow *flow_of(struct endpoint *endpoint, struct link *link)
{
    struct flow *flow = link_context(link);
    if (flow) return flow;
    for (unsigned i = 0; i < FLOWS_MAX; i++) {
        flow = &endpoint->flows[i];
        if (flow->used) continue;
        *flow = (struct flow){.endpoint = endpoint, .used = true};
        link_set_context(link, flow);
        return flow;
    }
    ASSERT(false);
    return NULL;
}

static enum err on_up(void *context, struct link *link)
{
    struct endpoint *endpoint = context;
    ASSERT(link_is_up(link));
    if (endpoint->up_answer && link_is_accepted(link)) return endpoint->up_answer;
    struct flow *flow = flow_of(endpoint, link);
    flow->link = link;
    flow->sent = flow->received = 0; /* a new connection starts afresh */
    flow->ups++;
    endpoint->ups++;
    if (endpoint->on_up) endpoint->on_up(flow);
    return endpoint->up_answer;
}

static void on_down(void *context, struct link *link, const struct diag *reason)
{
    struct endpoint *endpoint = context;
    ASSERT(!link_is_up(link));
    endpoint->downs++;
    endpoint->last_down = *reason;
    struct flow *flow = link_context(link);
    ASSERT(flow);
    flow->link = NULL;
    flow->downs++;
    if (endpoint->on_down) endpoint->on_down(flow);
    if (link_is_accepted(link) && !endpoint->keep_links) flow->used = false;
}

static void *on_alloc(void *context, struct link *link, uint32_t size)
{
    struct endpoint *endpoint = context;
    ASSERT(link_is_up(link) && size && size <= PORT_MESSAGE_SIZE_MAX);
    if (endpoint->refuse_alloc) return NULL;
    atomic_fetch_add(&endpoint->messages_alive, 1);
    return malloc(size);
}

static void on_message(void *context, struct link *link, void *message, uint32_t size)
{
    struct endpoint *endpoint = context;
    struct flow *flow = link_context(link);
    atomic_fetch_sub(&endpoint->messages_alive, 1);
    endpoint->received++;
    if (endpoint->on_message) {
        endpoint->on_message(flow, message, size);
        return;
    }
    uint64_t number = flow->received++;
    flow->received_bytes += size;
    if (size != endpoint_size_of(endpoint, number) || !content_is_right(number, message, size))
        flow->broken = endpoint->broken = true;
    if (endpoint->echo) {
        struct link_piece piece = {message, size};
        enum err err = link_send(link, &piece, 1);
        ASSERT(!err);
    }
    free(message);
}

static void on_release(void *context, struct link *link, void *message)
{
    struct endpoint *endpoint = context;
    (void)link;
    atomic_fetch_sub(&endpoint->messages_alive, 1);
    free(message);
}

static const struct port_events endpoint_events = {on_up, on_down, on_alloc, on_message,
                                                   on_release};

/* ---- worlds ---- */

void world_init(struct world *world, enum test_backend_number backend)
{
    *world = (struct world){.backend = backend};
    if (backend != TEST_SIM) return;
    struct sim_net_config config = {.seed = 1, .delay_ns_min = 1000, .delay_ns_max = 50000};
    cr_assert_eq(sim_net_create(&config, &world->net), ERR_NONE);
}

void world_fini(struct world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        struct endpoint *endpoint = world->endpoints[i];
        endpoint_stop(endpoint);
        /* The others take the farewell, or each would wait in vain for an answer to its own. */
        for (unsigned other = i + 1; other < world->count; other++)
            if (world->endpoints[other]->port) port_poll(world->endpoints[other]->port);
        cr_assert_not(endpoint->broken, "a message was wrong");
        cr_assert_eq(atomic_load(&endpoint->messages_alive), 0, "memory of messages was lost");
        free(endpoint);
    }
    sim_net_destroy(world->net);
}

uint64_t world_now_ns(const struct world *world)
{
    return world->net ? sim_net_now_ns(world->net) : clock_now_ns();
}

static void world_advance(struct world *world)
{
    enum { STEP_NS = 1000 * 1000 };
    uint64_t now = sim_net_now_ns(world->net);
    uint64_t next = sim_net_next_ns(world->net);
    for (unsigned i = 0; i < world->count; i++) {
        const struct endpoint *endpoint = world->endpoints[i];
        if (!endpoint->port || endpoint->paused) continue;
        uint64_t timer = port_timer_ns(endpoint->port);
        if (timer < next) next = timer;
    }
    /* What waits for a port that is not polled stays due. */
    uint64_t step = next > now ? next - now : 1000;
    sim_net_advance(world->net, step < STEP_NS ? step : STEP_NS);
}

/* How many messages came. */
static uint32_t world_look(struct world *world)
{
    uint32_t messages = 0;
    for (unsigned i = 0; i < world->count; i++) {
        struct endpoint *endpoint = world->endpoints[i];
        if (!endpoint->port || endpoint->paused) continue;
        messages += port_poll(endpoint->port);
        port_flush(endpoint->port);
    }
    if (world->net) world_advance(world);
    return messages;
}

void world_turn(struct world *world)
{
    (void)world_look(world);
}

void world_rest(struct world *world)
{
    static const struct timespec pause = {.tv_nsec = 50 * 1000};
    if (!world_look(world) && !world->net) nanosleep(&pause, NULL);
}

void turn_for_ms(struct world *world, uint64_t ms)
{
    uint64_t until = world_now_ns(world) + ms * 1000000u;
    while (world_now_ns(world) < until)
        world_rest(world);
}

/* ---- endpoints ---- */

struct endpoint *endpoint_create(struct world *world)
{
    struct endpoint *endpoint = calloc(1, sizeof(*endpoint));
    cr_assert_not_null(endpoint);
    endpoint->world = world;
    endpoint->config = (struct port_config){
        .events = &endpoint_events,
        .context = endpoint,
        .hello = "hello",
        .hello_size = 5,
        .sim = world->net,
        .sim_node = world->count,
    };
    memset(endpoint->config.secret, 0x5a, sizeof(endpoint->config.secret));
    test_backend_address(world->backend, world->count, &endpoint->bound);
    ASSERT(world->count < ENDPOINTS_MAX);
    world->endpoints[world->count++] = endpoint;
    return endpoint;
}

void endpoint_start(struct endpoint *endpoint)
{
    struct diag diag;
    cr_assert_eq(port_create(&endpoint->config, &endpoint->port, &diag), ERR_NONE, "%s", diag.text);
}

void endpoint_stop(struct endpoint *endpoint)
{
    port_destroy(endpoint->port);
    endpoint->port = NULL;
    for (unsigned i = 0; i < FLOWS_MAX; i++)
        endpoint->flows[i] = (struct flow){0};
}

void endpoint_listen(struct endpoint *endpoint)
{
    struct diag diag;
    struct port_address bound;
    enum err err = port_listen(endpoint->port, &endpoint->bound, &bound, &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    endpoint->bound = bound;
}

struct flow *endpoint_connect(struct endpoint *endpoint, const struct endpoint *to,
                              const struct link_options *options)
{
    struct link_options own = options ? *options : (struct link_options){0};
    struct flow *flow = NULL;
    for (unsigned i = 0; !flow && i < FLOWS_MAX; i++)
        if (!endpoint->flows[i].used) flow = &endpoint->flows[i];
    ASSERT(flow);
    *flow = (struct flow){.endpoint = endpoint, .used = true};
    own.context = flow;
    struct link *link;
    struct diag diag;
    enum err err = port_connect(endpoint->port, &to->bound, &own, &link, &diag);
    cr_assert_eq(err, ERR_NONE, "%s", diag.text);
    return flow;
}

struct flow *world_pair(struct world *world, struct endpoint **ret_a, struct endpoint **ret_b)
{
    struct endpoint *a = endpoint_create(world), *b = endpoint_create(world);
    endpoint_start(a);
    endpoint_start(b);
    endpoint_listen(b);
    struct flow *flow = endpoint_connect(a, b, NULL);
    UNTIL(world, flow->link && endpoint_up_count(b));
    *ret_a = a;
    *ret_b = b;
    return flow;
}

unsigned endpoint_up_count(const struct endpoint *endpoint)
{
    unsigned count = 0;
    for (unsigned i = 0; i < FLOWS_MAX; i++)
        count += endpoint->flows[i].used && endpoint->flows[i].link;
    return count;
}

struct flow *endpoint_flow(struct endpoint *endpoint)
{
    cr_assert_eq(endpoint_up_count(endpoint), 1);
    for (unsigned i = 0; i < FLOWS_MAX; i++)
        if (endpoint->flows[i].used && endpoint->flows[i].link) return &endpoint->flows[i];
    return NULL;
}

enum err flow_send(struct flow *flow)
{
    enum { WHOLE = 1 << 15 };
    static _Thread_local uint8_t area[WHOLE];
    uint32_t size = endpoint_size_of(flow->endpoint, flow->sent);
    uint8_t *bytes = size > WHOLE ? malloc(size) : area;
    ASSERT(bytes);
    content_fill(flow->sent, bytes, size);
    /* In two pieces, so that gathering is used as well. */
    uint32_t first = size / 3;
    struct link_piece pieces[2] = {{bytes, first}, {bytes + first, size - first}};
    enum err err = link_send(flow->link, pieces, 2);
    if (bytes != area) free(bytes);
    if (!err) flow->sent++;
    return err;
}
