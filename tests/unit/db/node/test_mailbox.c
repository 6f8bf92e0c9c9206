#include <criterion/criterion.h>
#include <poll.h>
#include <pthread.h>

#include "db/node/mailbox.h"

static struct signal *numbered(uint32_t source, uint64_t request)
{
    struct signal *signal = signal_create(0);
    signal->header.source = source;
    signal->header.request = request;
    return signal;
}

Test(mailbox, gives_signals_in_the_order_they_came)
{
    struct mailbox mailbox;
    cr_assert_eq(mailbox_init(&mailbox, false), ERR_NONE);
    cr_assert(mailbox_is_empty(&mailbox));
    cr_assert_null(mailbox_pop(&mailbox));
    for (uint64_t i = 0; i < 10; i++)
        mailbox_push(&mailbox, numbered(0, i));
    cr_assert_eq(mailbox_count(&mailbox), 10);
    for (uint64_t i = 0; i < 10; i++) {
        struct signal *signal = mailbox_pop(&mailbox);
        cr_assert_eq(signal->header.request, i);
        signal_destroy(signal);
        if (i == 4) mailbox_push(&mailbox, numbered(0, 10));
    }
    cr_assert_not(mailbox_is_empty(&mailbox));
    mailbox_fini(&mailbox); /* with one in it */
}

Test(mailbox, signals_have_a_size_limit)
{
    struct signal *signal = signal_create(SIGNAL_BODY_SIZE_MAX);
    cr_assert_not_null(signal);
    cr_assert_eq(signal->header.size, SIGNAL_SIZE_MAX);
    signal_destroy(signal);
    cr_assert_null(signal_create(SIGNAL_BODY_SIZE_MAX + 1));
    signal = signal_create(3);
    cr_assert_geq(signal->capacity, SIGNAL_BODY_MIN, "room for an answer");
    signal_destroy(signal);
}

Test(mailbox, an_awake_receiver_costs_no_wake_up)
{
    struct mailbox mailbox;
    cr_assert_eq(mailbox_init(&mailbox, true), ERR_NONE);
    struct pollfd fd = {.fd = mailbox.wake_fd, .events = POLLIN};
    mailbox_push(&mailbox, numbered(0, 1));
    mailbox_wake(&mailbox);
    cr_assert_eq(poll(&fd, 1, 0), 0);
    cr_assert_not(mailbox_sleep(&mailbox), "something is there");
    signal_destroy(mailbox_pop(&mailbox));
    cr_assert(mailbox_sleep(&mailbox));
    mailbox_push(&mailbox, numbered(0, 2));
    mailbox_wake(&mailbox);
    cr_assert_eq(poll(&fd, 1, 0), 1);
    mailbox_awake(&mailbox);
    mailbox_drain(&mailbox);
    cr_assert_eq(poll(&fd, 1, 0), 0);
    mailbox_fini(&mailbox);
}

enum { SENDERS = 3, EACH = 20000 };

struct sender {
    struct mailbox *mailbox;
    uint32_t number;
    pthread_t thread;
};

static void *send_all(void *context)
{
    struct sender *sender = context;
    for (uint64_t i = 0; i < EACH; i++) {
        mailbox_push(sender->mailbox, numbered(sender->number, i));
        mailbox_wake(sender->mailbox);
    }
    return NULL;
}

/* Senders race with a receiver that sleeps whenever it finds nothing: none is lost, each sender's
 * order is kept, and no wake-up is missed (a missed one would end the test by its time limit). */
Test(mailbox, no_signal_and_no_wake_up_is_lost_between_threads)
{
    struct mailbox mailbox;
    struct sender senders[SENDERS];
    uint64_t next[SENDERS] = {0};
    cr_assert_eq(mailbox_init(&mailbox, true), ERR_NONE);
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (struct sender){.mailbox = &mailbox, .number = i};
        cr_assert_eq(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    uint64_t got = 0;
    while (got < SENDERS * EACH) {
        struct signal *signal = mailbox_pop(&mailbox);
        if (!signal) {
            if (!mailbox_sleep(&mailbox)) continue;
            struct pollfd fd = {.fd = mailbox.wake_fd, .events = POLLIN};
            cr_assert_eq(poll(&fd, 1, 10000), 1, "a wake-up was missed");
            mailbox_awake(&mailbox);
            mailbox_drain(&mailbox);
            continue;
        }
        cr_assert_eq(signal->header.request, next[signal->header.source]++);
        signal_destroy(signal);
        got++;
    }
    for (uint32_t i = 0; i < SENDERS; i++)
        pthread_join(senders[i].thread, NULL);
    cr_assert_eq(mailbox_count(&mailbox), 0);
    mailbox_fini(&mailbox);
}
