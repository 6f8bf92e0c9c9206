/* The model keeps the state at the last recovery and a list of what was committed since. Two
 * transactions on one row have different timestamps, in the order of their commits, so sorting by
 * timestamp gives the order that counts. */
#include "tests/sim/model.h"

#include <stdlib.h>

#include "base/check.h"

void model_fini(struct model *model)
{
    free(model->transactions);
    *model = (struct model){0};
}

void model_add(struct model *model, const struct model_transaction *transaction)
{
    if (model->transaction_count == model->transaction_capacity) {
        size_t capacity = model->transaction_capacity ? model->transaction_capacity * 2 : 256;
        void *items = realloc(model->transactions, capacity * sizeof(model->transactions[0]));
        ASSERT(items);
        model->transactions = items;
        model->transaction_capacity = capacity;
    }
    model->transactions[model->transaction_count++] = *transaction;
}

static int transaction_compare(const void *left, const void *right)
{
    const struct model_transaction *a = left, *b = right;
    return a->ts < b->ts ? -1 : a->ts > b->ts;
}

void model_cut(struct model *model, uint64_t cut)
{
    if (model->transaction_count)
        qsort(model->transactions, model->transaction_count, sizeof(model->transactions[0]),
              transaction_compare);
    for (size_t i = 0; i < model->transaction_count; i++) {
        const struct model_transaction *transaction = &model->transactions[i];
        if (transaction->ts > cut) break;
        for (uint32_t j = 0; j < transaction->change_count; j++) {
            const struct model_change *change = &transaction->changes[j];
            model->versions[change->partition][change->key] = change->version;
        }
    }
    model->transaction_count = 0;
}

uint64_t model_ts_max(const struct model *model)
{
    uint64_t max = 0;
    for (size_t i = 0; i < model->transaction_count; i++)
        if (model->transactions[i].ts > max) max = model->transactions[i].ts;
    return max;
}
