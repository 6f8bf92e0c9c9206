/* Sessions: which requests are run, waited for, answered again, or beyond knowing. */
#include <criterion/criterion.h>
#include <string.h>

#include "db/node/session.h"

#define CLIENT UINT64_C(0x8000000000000007)

static struct session *open_session(struct sessions *sessions, uint64_t client)
{
    struct session *session;
    cr_assert_eq(session_acquire(sessions, client, &session), ERR_NONE);
    return session;
}

struct answered {
    struct signal_header header;
    uint64_t value;
};

static struct answered answer_of(uint64_t request, uint64_t value)
{
    return (struct answered){.header = {.size = sizeof(struct answered), .request = request},
                             .value = value};
}

static void run(struct session *session, uint64_t request, uint64_t value, bool keep)
{
    const struct signal_header *answer;
    cr_assert_eq(session_request(session, request, false, &answer), SESSION_RUN);
    struct answered bytes = answer_of(request, value);
    cr_assert(session_answered(session, &bytes.header, keep));
}

static void expect_again(struct session *session, uint64_t request, uint64_t value)
{
    const struct signal_header *answer;
    cr_assert_eq(session_request(session, request, true, &answer), SESSION_ANSWER);
    cr_assert_eq(answer->request, request);
    cr_assert_eq(((const struct answered *)answer)->value, value);
}

Test(session, a_change_that_comes_again_gets_the_first_answer)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    const struct signal_header *answer;
    cr_assert_eq(session_request(session, 5, false, &answer), SESSION_RUN);
    cr_assert_eq(session->under_way, 1);
    cr_assert_eq(session_request(session, 5, true, &answer), SESSION_WAIT);
    struct answered bytes = answer_of(5, 77);
    cr_assert(session_answered(session, &bytes.header, true));
    cr_assert_eq(session->under_way, 0);
    cr_assert_not(session_answered(session, &bytes.header, true), "it was answered already");
    expect_again(session, 5, 77);
    expect_again(session, 5, 77);
    sessions_fini(&sessions);
}

Test(session, what_changed_nothing_is_run_again)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    run(session, 1, 10, false);
    const struct signal_header *answer;
    cr_assert_eq(session_request(session, 1, true, &answer), SESSION_RUN);
    sessions_fini(&sessions);
}

Test(session, what_never_arrived_is_run_however_late_it_comes)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    for (uint64_t request = 2; request < 100; request += 2)
        run(session, request, request, true);
    const struct signal_header *answer;
    cr_assert_eq(session_request(session, 51, true, &answer), SESSION_RUN);
    sessions_fini(&sessions);
}

Test(session, answers_beyond_the_window_are_unknown_and_only_those)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    const uint64_t count = SESSION_ANSWERS_MAX + 1000;
    for (uint64_t request = 1; request <= count; request++)
        run(session, request, request * 3, true);
    cr_assert_eq(session->answer_count, SESSION_ANSWERS_MAX);
    const struct signal_header *answer;
    for (uint64_t request = 1; request <= 1000; request++)
        cr_assert_eq(session_request(session, request, true, &answer), SESSION_UNKNOWN);
    for (uint64_t request = 1001; request <= count; request++)
        expect_again(session, request, request * 3);
    /* A new one is never unknown. */
    cr_assert_eq(session_request(session, count + 1, false, &answer), SESSION_RUN);
    sessions_fini(&sessions);
}

Test(session, large_answers_are_bounded_by_their_bytes)
{
    static uint8_t block[1 << 20];
    struct signal_header *header = (struct signal_header *)(void *)block;
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    const struct signal_header *answer;
    for (uint64_t request = 1; request <= 20; request++) {
        cr_assert_eq(session_request(session, request, false, &answer), SESSION_RUN);
        *header = (struct signal_header){.size = sizeof(block), .request = request};
        cr_assert(session_answered(session, header, true));
        cr_assert_leq(session->answer_bytes, SESSION_ANSWER_BYTES_MAX);
    }
    cr_assert_eq(session_request(session, 20, true, &answer), SESSION_ANSWER);
    cr_assert_eq(session_request(session, 1, true, &answer), SESSION_UNKNOWN);
    sessions_fini(&sessions);
}

Test(session, too_many_under_way_are_refused_and_leave_room_again)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    const struct signal_header *answer;
    for (uint64_t request = 1; request <= SESSION_UNDER_WAY_MAX; request++)
        cr_assert_eq(session_request(session, request, false, &answer), SESSION_RUN);
    cr_assert_eq(session_request(session, SESSION_UNDER_WAY_MAX + 1, false, &answer), SESSION_FULL);
    struct answered bytes = answer_of(1, 1);
    cr_assert(session_answered(session, &bytes.header, false));
    cr_assert_eq(session_request(session, SESSION_UNDER_WAY_MAX + 1, false, &answer), SESSION_RUN);
    sessions_fini(&sessions);
}

Test(session, a_session_outlives_its_links_for_a_while)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    cr_assert(session->fresh);
    session->fresh = false;
    run(session, 9, 90, true);
    session_gone(&sessions, session, 1000);
    cr_assert_eq(sessions.gone_count, 1);
    cr_assert_eq(sessions_expire(&sessions, 2000), 1000 + SESSION_GONE_NS_MAX);
    session = open_session(&sessions, CLIENT);
    cr_assert_eq(sessions.gone_count, 0);
    cr_assert_not(session->fresh);
    expect_again(session, 9, 90);
    session_gone(&sessions, session, 5000);
    cr_assert_eq(sessions_expire(&sessions, 5000 + SESSION_GONE_NS_MAX), UINT64_MAX);
    cr_assert_eq(sessions.count, 0);
    cr_assert(open_session(&sessions, CLIENT)->fresh);
    sessions_fini(&sessions);
}

Test(session, the_oldest_of_too_many_that_are_gone_go)
{
    struct sessions sessions;
    sessions_init(&sessions);
    for (uint64_t i = 0; i < SESSIONS_GONE_MAX + 10; i++) {
        struct session *session = open_session(&sessions, CLIENT + i);
        session->fresh = false;
        run(session, 1, i, true);
        session_gone(&sessions, session, i + 1);
    }
    cr_assert_eq(sessions.gone_count, SESSIONS_GONE_MAX);
    cr_assert_eq(sessions.count, SESSIONS_GONE_MAX);
    cr_assert(open_session(&sessions, CLIENT + 9)->fresh);
    cr_assert_not(open_session(&sessions, CLIENT + 10)->fresh);
    sessions_fini(&sessions);
}

Test(session, a_client_that_says_it_ends_is_forgotten_at_once)
{
    struct sessions sessions;
    sessions_init(&sessions);
    struct session *session = open_session(&sessions, CLIENT);
    run(session, 1, 1, true);
    session->ended = true;
    session_gone(&sessions, session, 1);
    cr_assert_eq(sessions.count, 0);
    cr_assert_eq(sessions.gone_bytes, 0);
    sessions_fini(&sessions);
}
