#include <criterion/criterion.h>

#include "db/txn/participant.h"

Test(participant, oldest_is_the_least_prepare_timestamp_still_open)
{
    struct ldm *ldm;
    struct participants all;
    struct participant *ones[600];
    cr_assert_eq(ldm_create(0, &ldm), ERR_NONE);
    participants_init(&all, ldm);
    cr_assert_eq(participants_oldest_ts(&all), UINT64_MAX);
    for (uint64_t i = 0; i < 600; i++) {
        cr_assert_eq(participant_create(&all, &ones[i]), ERR_NONE);
        ones[i]->txn = i * 256; /* many in one bucket */
        ones[i]->prepare_ts = 1000 + i;
        buf_put(&ones[i]->redo, "xy", 2);
        participants_add(&all, ones[i]);
    }
    cr_assert_eq(all.redo_size, 1200);
    cr_assert_eq(participants_oldest_ts(&all), 1000);
    cr_assert_eq(participants_find(&all, 5 * 256), ones[5]);
    cr_assert_null(participants_find(&all, 5));
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t which = i % 2 ? 300 - i : i; /* from both ends */
        participants_remove(&all, ones[which]);
        participant_destroy(&all, ones[which]);
        cr_assert_null(participants_find(&all, which * 256));
    }
    cr_assert_eq(participants_oldest_ts(&all), 1300);
    cr_assert_eq(all.count, 300);
    cr_assert_eq(all.redo_size, 600);
    struct participant *again;
    cr_assert_eq(participant_create(&all, &again), ERR_NONE);
    cr_assert_eq(again->redo.size, 0, "a reused one is clean");
    participant_destroy(&all, again);
    participants_fini(&all);
    ldm_destroy(ldm);
}

Test(participant, count_is_bounded)
{
    struct ldm *ldm;
    struct participants all;
    struct participant *one;
    cr_assert_eq(ldm_create(0, &ldm), ERR_NONE);
    participants_init(&all, ldm);
    for (uint64_t i = 0; i < PARTICIPANTS_MAX; i++) {
        cr_assert_eq(participant_create(&all, &one), ERR_NONE);
        one->txn = i;
        one->prepare_ts = i + 1;
        participants_add(&all, one);
    }
    cr_assert_eq(participant_create(&all, &one), ERR_BUSY);
    participants_fini(&all);
    ldm_destroy(ldm);
}
