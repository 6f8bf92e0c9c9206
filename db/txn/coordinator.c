/* Two-phase commit seen from the coordinator, after Gray (1978), with every participant in memory.
 *
 * All votes are awaited before anything is decided: a participant that voted no has rolled back
 * already and is not told again, so the decision goes exactly to those that voted yes. The commit
 * timestamp is the greatest prepare timestamp, hence not below any participant's promise. The first
 * no in the order of arrival gives the error, but a definite error beats a retryable one: a guard
 * that fails would fail again. */
#include "db/txn/coordinator.h"

#include "base/check.h"

void coordinator_init(struct coordinator *coordinator, uint64_t txn,
                      const struct program_outline *outline, const uint16_t *owners)
{
    *coordinator = (struct coordinator){
        .txn = txn,
        .phase = COORDINATOR_PREPARING,
        .only_reads = outline->only_reads,
    };
    buf_init(&coordinator->reply);
    program_reply_begin(&coordinator->reply);
    for (uint16_t i = 0; i < outline->section_count; i++) {
        struct coordinator_part *part = coordinator_part_of(coordinator, owners[i]);
        if (!part) {
            part = &coordinator->parts[coordinator->part_count++];
            part->worker = owners[i];
        }
        part->sections |= 1u << i;
    }
    coordinator->missing = coordinator->part_count;
}

void coordinator_fini(struct coordinator *coordinator)
{
    buf_fini(&coordinator->reply);
}

struct coordinator_part *coordinator_part_of(struct coordinator *coordinator, uint16_t worker)
{
    for (uint16_t i = 0; i < coordinator->part_count; i++)
        if (coordinator->parts[i].worker == worker) return &coordinator->parts[i];
    return NULL;
}

static void vote_no(struct coordinator *coordinator, enum err err, uint8_t failed_step)
{
    if (coordinator->err != ERR_NONE &&
        !(err_is_retryable(coordinator->err) && !err_is_retryable(err)))
        return;
    coordinator->err = err;
    coordinator->failed_step = failed_step;
}

static void vote_yes(struct coordinator *coordinator, uint64_t prepare_ts, const uint8_t *outputs,
                     size_t size)
{
    if (prepare_ts > coordinator->commit_ts) coordinator->commit_ts = prepare_ts;
    if (coordinator->reply.size + size > PROGRAM_REPLY_SIZE_MAX)
        vote_no(coordinator, ERR_TOO_BIG, 0);
    else
        buf_put(&coordinator->reply, outputs, size);
    if (coordinator->reply.failed) vote_no(coordinator, ERR_NO_MEMORY, 0);
}

static enum coordinator_next decide(struct coordinator *coordinator)
{
    if (coordinator->err == ERR_NONE) {
        coordinator->phase = COORDINATOR_COMMITTING;
        coordinator->missing = coordinator->part_count;
        return COORDINATOR_COMMIT;
    }
    coordinator->phase = COORDINATOR_ABORTING;
    for (uint16_t i = 0; i < coordinator->part_count; i++)
        coordinator->missing += coordinator->parts[i].voted_yes;
    return coordinator->missing ? COORDINATOR_ABORT : COORDINATOR_DONE;
}

enum err coordinator_vote(struct coordinator *coordinator, uint16_t worker, enum err err,
                          const void *reply, uint32_t size, enum coordinator_next *ret_next)
{
    struct coordinator_part *part = coordinator_part_of(coordinator, worker);
    if (!part || part->voted || coordinator->phase != COORDINATOR_PREPARING) return ERR_BAD_SIGNAL;
    if (err) {
        vote_no(coordinator, err, 0);
    } else {
        struct reader reader = reader_of(reply, size);
        uint16_t number = reader_u16(&reader);
        uint8_t failed_step = reader_u8(&reader);
        uint64_t prepare_ts = reader_u64(&reader);
        if (reader.failed || !err_is_known(number)) return ERR_BAD_SIGNAL;
        if (number == ERR_NONE) {
            part->voted_yes = true;
            vote_yes(coordinator, prepare_ts, reader.next, reader_left(&reader));
        } else {
            vote_no(coordinator, (enum err)number, failed_step);
        }
    }
    part->voted = true;
    coordinator->missing--;
    *ret_next = coordinator->missing ? COORDINATOR_WAIT : decide(coordinator);
    return ERR_NONE;
}

enum err coordinator_acknowledge(struct coordinator *coordinator, uint16_t worker,
                                 enum coordinator_next *ret_next)
{
    struct coordinator_part *part = coordinator_part_of(coordinator, worker);
    if (!part || part->acknowledged || !part->voted_yes ||
        coordinator->phase == COORDINATOR_PREPARING)
        return ERR_BAD_SIGNAL;
    part->acknowledged = true;
    coordinator->missing--;
    *ret_next = coordinator->missing ? COORDINATOR_WAIT : COORDINATOR_DONE;
    return ERR_NONE;
}

const struct buf *coordinator_reply(struct coordinator *coordinator)
{
    struct buf *reply = &coordinator->reply;
    if (coordinator->err) buf_clear(reply);
    if (reply->size < PROGRAM_REPLY_HEADER_SIZE) program_reply_begin(reply);
    if (reply->failed) return reply;
    uint64_t commit_ts = coordinator->err || coordinator->only_reads ? 0 : coordinator->commit_ts;
    program_reply_end(reply, 0, coordinator->err, coordinator->failed_step, commit_ts);
    return reply;
}
