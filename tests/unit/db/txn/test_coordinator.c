#include <criterion/criterion.h>

#include "db/txn/coordinator.h"

/* Sections 0 and 2 on worker 1, section 1 on worker 4, section 3 on worker 0. */
static void begin(struct coordinator *coordinator, bool only_reads)
{
    struct program_outline outline = {.section_count = 4, .only_reads = only_reads};
    const uint16_t owners[4] = {1, 4, 1, 0};
    coordinator_init(coordinator, 99, &outline, owners);
}

static enum coordinator_next vote(struct coordinator *coordinator, uint16_t worker, enum err err,
                                  uint64_t ts, const char *outputs)
{
    struct buf reply;
    enum coordinator_next next = COORDINATOR_WAIT;
    buf_init(&reply);
    program_reply_begin(&reply);
    program_reply_end(&reply, 0, err, 3, ts);
    buf_put(&reply, outputs, strlen(outputs));
    cr_assert_eq(
        coordinator_vote(coordinator, worker, ERR_NONE, reply.bytes, (uint32_t)reply.size, &next),
        ERR_NONE);
    buf_fini(&reply);
    return next;
}

static enum coordinator_next acknowledge(struct coordinator *coordinator, uint16_t worker)
{
    enum coordinator_next next = COORDINATOR_WAIT;
    cr_assert_eq(coordinator_acknowledge(coordinator, worker, &next), ERR_NONE);
    return next;
}

Test(coordinator, commits_at_the_greatest_prepare_timestamp)
{
    struct coordinator coordinator;
    begin(&coordinator, false);
    cr_assert_eq(coordinator.part_count, 3);
    cr_assert_eq(coordinator_part_of(&coordinator, 1)->sections, 5);
    cr_assert_null(coordinator_part_of(&coordinator, 2));
    cr_assert_eq(vote(&coordinator, 4, ERR_NONE, 70, "b"), COORDINATOR_WAIT);
    cr_assert_eq(vote(&coordinator, 1, ERR_NONE, 90, "a"), COORDINATOR_WAIT);
    cr_assert_eq(vote(&coordinator, 0, ERR_NONE, 80, "c"), COORDINATOR_COMMIT);
    cr_assert_eq(coordinator.commit_ts, 90);
    cr_assert_eq(acknowledge(&coordinator, 0), COORDINATOR_WAIT);
    cr_assert_eq(acknowledge(&coordinator, 1), COORDINATOR_WAIT);
    cr_assert_eq(acknowledge(&coordinator, 4), COORDINATOR_DONE);
    const struct buf *reply = coordinator_reply(&coordinator);
    cr_assert_eq(reply->size, PROGRAM_REPLY_HEADER_SIZE + 3);
    cr_assert_eq(memcmp(reply->bytes + PROGRAM_REPLY_HEADER_SIZE, "bac", 3), 0);
    struct reader reader = reader_of(reply->bytes, reply->size);
    cr_assert_eq(reader_u16(&reader), ERR_NONE);
    reader_u8(&reader);
    cr_assert_eq(reader_u64(&reader), 90);
    coordinator_fini(&coordinator);
}

Test(coordinator, aborts_those_that_voted_yes_and_tells_the_definite_error)
{
    struct coordinator coordinator;
    begin(&coordinator, false);
    cr_assert_eq(vote(&coordinator, 4, ERR_CONFLICT, 0, ""), COORDINATOR_WAIT);
    cr_assert_eq(vote(&coordinator, 1, ERR_NONE, 90, "a"), COORDINATOR_WAIT);
    cr_assert_eq(vote(&coordinator, 0, ERR_ENOENT, 0, ""), COORDINATOR_ABORT);
    enum coordinator_next next;
    cr_assert_eq(coordinator_acknowledge(&coordinator, 4, &next), ERR_BAD_SIGNAL,
                 "it voted no: it is not asked");
    cr_assert_eq(acknowledge(&coordinator, 1), COORDINATOR_DONE);
    cr_assert_eq(coordinator.err, ERR_ENOENT);
    const struct buf *reply = coordinator_reply(&coordinator);
    cr_assert_eq(reply->size, PROGRAM_REPLY_HEADER_SIZE, "no outputs of a program that failed");
    coordinator_fini(&coordinator);
}

Test(coordinator, is_done_at_once_when_all_voted_no)
{
    struct coordinator coordinator;
    enum coordinator_next next;
    begin(&coordinator, false);
    cr_assert_eq(vote(&coordinator, 4, ERR_CONFLICT, 0, ""), COORDINATOR_WAIT);
    cr_assert_eq(coordinator_vote(&coordinator, 1, ERR_NO_MEMORY, NULL, 0, &next), ERR_NONE);
    cr_assert_eq(next, COORDINATOR_WAIT);
    cr_assert_eq(vote(&coordinator, 0, ERR_CONFLICT, 0, ""), COORDINATOR_DONE);
    cr_assert_eq(coordinator.err, ERR_NO_MEMORY);
    coordinator_fini(&coordinator);
}

Test(coordinator, a_reading_program_has_no_commit_timestamp)
{
    struct coordinator coordinator;
    begin(&coordinator, true);
    for (uint16_t worker = 0; worker < 2; worker++)
        vote(&coordinator, worker, ERR_NONE, 5, "");
    cr_assert_eq(vote(&coordinator, 4, ERR_NONE, 5, ""), COORDINATOR_COMMIT);
    const struct buf *reply = coordinator_reply(&coordinator);
    uint64_t ts;
    memcpy(&ts, reply->bytes + 3, sizeof(ts));
    cr_assert_eq(ts, 0);
    coordinator_fini(&coordinator);
}

Test(coordinator, refuses_votes_that_nobody_asked_for)
{
    struct coordinator coordinator;
    enum coordinator_next next;
    uint8_t yes[PROGRAM_REPLY_HEADER_SIZE] = {0};
    begin(&coordinator, false);
    cr_assert_eq(coordinator_acknowledge(&coordinator, 1, &next), ERR_BAD_SIGNAL);
    cr_assert_eq(coordinator_vote(&coordinator, 3, ERR_NONE, yes, sizeof(yes), &next),
                 ERR_BAD_SIGNAL);
    cr_assert_eq(coordinator_vote(&coordinator, 1, ERR_NONE, yes, sizeof(yes) - 1, &next),
                 ERR_BAD_SIGNAL);
    cr_assert_eq(coordinator_vote(&coordinator, 1, ERR_NONE, yes, sizeof(yes), &next), ERR_NONE);
    cr_assert_eq(coordinator_vote(&coordinator, 1, ERR_NONE, yes, sizeof(yes), &next),
                 ERR_BAD_SIGNAL, "twice");
    coordinator_fini(&coordinator);
}
