/* Mailboxes: the only thing in the database that two threads touch at once, besides the wake-up of
 * job completions.
 *
 * Correctness of sleeping rests on all four accesses being sequentially consistent: the receiver
 * stores `sleeping` and then loads `pushed`; a sender changes `pushed` and then loads `sleeping`.
 * In any single order of these, either the receiver sees the signal or the sender sees the
 * announcement. */
#include "db/node/mailbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/check.h"

struct signal *signal_create(uint32_t body_size)
{
    if (body_size > SIGNAL_BODY_SIZE_MAX) return NULL;
    uint32_t capacity = body_size < SIGNAL_BODY_MIN ? SIGNAL_BODY_MIN : body_size;
    struct signal *signal = malloc(sizeof(*signal) + capacity);
    if (!signal) return NULL;
    *signal = (struct signal){
        .capacity = capacity,
        .header = {.size = (uint32_t)sizeof(signal->header) + body_size, .version = SIGNAL_VERSION},
    };
    return signal;
}

void signal_destroy(struct signal *signal)
{
    free(signal);
}

enum err mailbox_init(struct mailbox *mailbox, bool with_fd)
{
    *mailbox = (struct mailbox){.wake_fd = -1};
    if (!with_fd) return ERR_NONE;
    mailbox->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (mailbox->wake_fd >= 0) return ERR_NONE;
    return errno == ENOMEM ? ERR_NO_MEMORY : ERR_BUSY;
}

void mailbox_fini(struct mailbox *mailbox)
{
    struct signal *signal;
    while ((signal = mailbox_pop(mailbox)))
        signal_destroy(signal);
    if (mailbox->wake_fd >= 0) close(mailbox->wake_fd);
    mailbox->wake_fd = -1;
}

void mailbox_push(struct mailbox *mailbox, struct signal *signal)
{
    atomic_fetch_add_explicit(&mailbox->count, 1, memory_order_relaxed);
    struct signal *head = atomic_load_explicit(&mailbox->pushed, memory_order_relaxed);
    do {
        signal->next = head;
    } while (!atomic_compare_exchange_weak(&mailbox->pushed, &head, signal));
}

void mailbox_wake(struct mailbox *mailbox)
{
    if (!atomic_load(&mailbox->sleeping)) return;
    if (!atomic_exchange(&mailbox->sleeping, false)) return;
    uint64_t one = 1;
    ssize_t written = write(mailbox->wake_fd, &one, sizeof(one));
    /* Only a full counter can refuse, and a full counter wakes as well. */
    ASSERT(written == (ssize_t)sizeof(one) || errno == EAGAIN);
}

unsigned mailbox_count(const struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->count, memory_order_relaxed);
}

struct signal *mailbox_pop(struct mailbox *mailbox)
{
    if (!mailbox->taken) {
        if (!atomic_load_explicit(&mailbox->pushed, memory_order_relaxed)) return NULL;
        struct signal *newest = atomic_exchange(&mailbox->pushed, NULL);
        while (newest) {
            struct signal *older = newest->next;
            newest->next = mailbox->taken;
            mailbox->taken = newest;
            newest = older;
        }
        if (!mailbox->taken) return NULL;
    }
    struct signal *signal = mailbox->taken;
    mailbox->taken = signal->next;
    signal->next = NULL;
    atomic_fetch_sub_explicit(&mailbox->count, 1, memory_order_relaxed);
    return signal;
}

bool mailbox_is_empty(const struct mailbox *mailbox)
{
    return !mailbox->taken && !atomic_load(&mailbox->pushed);
}

bool mailbox_sleep(struct mailbox *mailbox)
{
    ASSERT(mailbox->wake_fd >= 0);
    atomic_store(&mailbox->sleeping, true);
    if (mailbox_is_empty(mailbox)) return true;
    mailbox_awake(mailbox);
    return false;
}

void mailbox_awake(struct mailbox *mailbox)
{
    atomic_store(&mailbox->sleeping, false);
}

void mailbox_drain(struct mailbox *mailbox)
{
    uint64_t count;
    ssize_t got = read(mailbox->wake_fd, &count, sizeof(count));
    ASSERT(got == (ssize_t)sizeof(count) || errno == EAGAIN);
}
