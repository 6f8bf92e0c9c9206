/* Sessions: a hash of answers per client, and a list of the clients that are gone.
 *
 * Requests of a client carry growing numbers, and a link keeps their order, so those that were sent
 * for the first time over a link are greater than all that came before it. Only a request that is
 * sent again can thus be at or below `forgotten`; when it is not known there, it was either lost
 * with its link or done and forgotten, and nobody can tell. Above `forgotten` everything that was
 * done is known, so what is not known was never done, or changed nothing, and may be run.
 *
 * When an answer cannot be kept for want of memory, it counts as forgotten at once: so nothing here
 * can fail after the change was made. */
#include "db/node/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"

enum { BUCKETS_FIRST = 64 };

struct answer {
    struct answer *next;  /* of its bucket */
    struct answer *newer; /* when answered */
    uint64_t request;
    struct signal_header *bytes; /* header and body; NULL: under way */
};

/* ---- answers ---- */

static uint64_t answer_cost(const struct answer *answer)
{
    return sizeof(*answer) + answer->bytes->size;
}

static struct answer **answer_link(struct session *session, uint64_t request)
{
    struct answer **link = &session->buckets[hash_u64(request) & (session->bucket_count - 1)];
    while (*link && (*link)->request != request)
        link = &(*link)->next;
    return link;
}

static struct answer *answer_find(struct session *session, uint64_t request)
{
    return session->buckets ? *answer_link(session, request) : NULL;
}

static void answer_remove(struct session *session, struct answer *answer)
{
    *answer_link(session, answer->request) = answer->next;
    session->entry_count--;
    free(answer->bytes);
    free(answer);
}

/* Without memory the chains only get longer, but for the first. */
static bool buckets_grow(struct session *session)
{
    if (session->buckets && session->entry_count < session->bucket_count) return true;
    uint32_t count = session->buckets ? session->bucket_count * 2 : BUCKETS_FIRST;
    struct answer **buckets = calloc(count, sizeof(struct answer *));
    if (!buckets) return session->buckets != NULL;
    for (uint32_t i = 0; i < session->bucket_count; i++) {
        while (session->buckets[i]) {
            struct answer *answer = session->buckets[i];
            session->buckets[i] = answer->next;
            struct answer **bucket = &buckets[hash_u64(answer->request) & (count - 1)];
            answer->next = *bucket;
            *bucket = answer;
        }
    }
    free(session->buckets);
    session->buckets = buckets;
    session->bucket_count = count;
    return true;
}

static void forget_oldest(struct session *session)
{
    struct answer *answer = session->oldest;
    session->oldest = answer->newer;
    if (!session->oldest) session->newest = NULL;
    session->answer_count--;
    session->answer_bytes -= answer_cost(answer);
    if (answer->request > session->forgotten) session->forgotten = answer->request;
    answer_remove(session, answer);
}

enum session_verdict session_request(struct session *session, uint64_t request, bool again,
                                     const struct signal_header **ret_answer)
{
    struct answer *answer = answer_find(session, request);
    if (answer && !answer->bytes) return SESSION_WAIT;
    if (answer) {
        *ret_answer = answer->bytes;
        return SESSION_ANSWER;
    }
    if (again && request <= session->forgotten) return SESSION_UNKNOWN;
    if (session->under_way >= SESSION_UNDER_WAY_MAX || !buckets_grow(session)) return SESSION_FULL;
    answer = malloc(sizeof(*answer));
    if (!answer) return SESSION_FULL;
    *answer = (struct answer){.request = request};
    *answer_link(session, request) = answer;
    session->entry_count++;
    session->under_way++;
    return SESSION_RUN;
}

bool session_answered(struct session *session, const struct signal_header *bytes, bool keep)
{
    struct answer *answer = answer_find(session, bytes->request);
    if (!answer || answer->bytes) return false;
    session->under_way--;
    if (keep && !session->ended) answer->bytes = malloc(bytes->size);
    if (!answer->bytes) {
        if (keep && bytes->request > session->forgotten) session->forgotten = bytes->request;
        answer_remove(session, answer);
        return true;
    }
    memcpy(answer->bytes, bytes, bytes->size);
    if (session->newest)
        session->newest->newer = answer;
    else
        session->oldest = answer;
    session->newest = answer;
    session->answer_count++;
    session->answer_bytes += answer_cost(answer);
    /* The newest stays, however large. */
    while (session->answer_count > SESSION_ANSWERS_MAX ||
           (session->answer_bytes > SESSION_ANSWER_BYTES_MAX && session->oldest != answer))
        forget_oldest(session);
    return true;
}

/* ---- sessions ---- */

void sessions_init(struct sessions *sessions)
{
    memset(sessions, 0, sizeof(*sessions));
}

static struct session **session_link(struct sessions *sessions, uint64_t client)
{
    struct session **link = &sessions->buckets[hash_u64(client) % SESSION_BUCKETS];
    while (*link && (*link)->client != client)
        link = &(*link)->next;
    return link;
}

static void session_free(struct session *session)
{
    for (uint32_t i = 0; i < session->bucket_count; i++) {
        while (session->buckets[i]) {
            struct answer *answer = session->buckets[i];
            session->buckets[i] = answer->next;
            free(answer->bytes);
            free(answer);
        }
    }
    free(session->buckets);
    free(session);
}

void sessions_fini(struct sessions *sessions)
{
    for (unsigned i = 0; i < SESSION_BUCKETS; i++) {
        while (sessions->buckets[i]) {
            struct session *session = sessions->buckets[i];
            sessions->buckets[i] = session->next;
            session_free(session);
        }
    }
}

static void gone_remove(struct sessions *sessions, struct session *session)
{
    if (session->gone_older)
        session->gone_older->gone_newer = session->gone_newer;
    else
        sessions->gone_oldest = session->gone_newer;
    if (session->gone_newer)
        session->gone_newer->gone_older = session->gone_older;
    else
        sessions->gone_newest = session->gone_older;
    session->gone_older = session->gone_newer = NULL;
    session->gone_ns = 0;
    sessions->gone_count--;
    sessions->gone_bytes -= session->answer_bytes;
}

static void session_drop(struct sessions *sessions, struct session *session)
{
    *session_link(sessions, session->client) = session->next;
    sessions->count--;
    session_free(session);
}

enum err session_acquire(struct sessions *sessions, uint64_t client, struct session **ret_session)
{
    struct session **link = session_link(sessions, client);
    struct session *session = *link;
    if (session) {
        if (session->gone_ns) gone_remove(sessions, session);
        *ret_session = session;
        return ERR_NONE;
    }
    session = calloc(1, sizeof(*session));
    if (!session) return ERR_NO_MEMORY;
    session->client = client;
    session->fresh = true;
    *link = session;
    sessions->count++;
    *ret_session = session;
    return ERR_NONE;
}

void session_gone(struct sessions *sessions, struct session *session, uint64_t now_ns)
{
    ASSERT(!session->gone_ns && !session->under_way);
    if (session->ended) {
        session_drop(sessions, session);
        return;
    }
    session->gone_ns = now_ns ? now_ns : 1;
    session->gone_older = sessions->gone_newest;
    if (sessions->gone_newest)
        sessions->gone_newest->gone_newer = session;
    else
        sessions->gone_oldest = session;
    sessions->gone_newest = session;
    sessions->gone_count++;
    sessions->gone_bytes += session->answer_bytes;
    (void)sessions_expire(sessions, now_ns);
}

uint64_t sessions_expire(struct sessions *sessions, uint64_t now_ns)
{
    for (;;) {
        struct session *oldest = sessions->gone_oldest;
        if (!oldest) return UINT64_MAX;
        if (sessions->gone_count <= SESSIONS_GONE_MAX &&
            sessions->gone_bytes <= SESSIONS_GONE_BYTES_MAX &&
            now_ns < oldest->gone_ns + SESSION_GONE_NS_MAX)
            return oldest->gone_ns + SESSION_GONE_NS_MAX;
        gone_remove(sessions, oldest);
        session_drop(sessions, oldest);
    }
}
