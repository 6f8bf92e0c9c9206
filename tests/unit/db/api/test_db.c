#include "fixture.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/wait.h>

static const struct db_config one = {.worker_count = 1, .partition_count = 4};

Test(db, keeps_rows_over_close_and_open)
{
    struct fixture fx;
    fixture_init(&fx, one);
    for (uint32_t id = 0; id < 100; id++)
        cr_assert_eq(account_create(&fx, (uint16_t)(id % 7), id, id * 10), ERR_NONE);
    cr_assert_eq(account_create(&fx, 3, 3, 1), ERR_EXISTS);
    fixture_close(&fx);
    fixture_open(&fx, one);
    for (uint32_t id = 0; id < 100; id++) {
        int64_t balance = -1;
        cr_assert_eq(account_balance(&fx, (uint16_t)(id % 7), id, &balance), ERR_NONE);
        cr_assert_eq(balance, id * 10);
    }
    fixture_fini(&fx);
}
