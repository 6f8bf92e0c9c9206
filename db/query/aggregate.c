/* Aggregate states and their loops: see aggregate.h.
 *
 * A vector's rows either belong to different groups, then a loop adds each to its group's state, or
 * all to one, which is common (no GROUP BY; neighbouring rows with one owner): then the vector is
 * reduced in registers first. Sums of integers are exact in 128 bits; for one group, the high and
 * the low halves of the numbers are summed apart, each of which fits 64 bits for 1,024 rows. */
#include "db/query/aggregate.h"

#include <math.h>

#include "base/check.h"
#include "db/query/distinct.h"

enum { CAPACITY_MIN = 64 };
#define DEC_LIMIT INT64_C(1000000000000000000) /* a DEC has at most 18 digits */

struct aggregate_text {
    uint8_t *bytes;
    uint32_t size;
    uint32_t capacity;
};

static bool is_extreme(const struct aggregate *aggregate)
{
    return aggregate->fn == AGG_MIN || aggregate->fn == AGG_MAX;
}

static bool is_sum(const struct aggregate *aggregate)
{
    return aggregate->fn == AGG_SUM || aggregate->fn == AGG_AVG;
}

static size_t state_width(const struct aggregate *aggregate)
{
    if (is_sum(aggregate)) return sizeof(__int128);
    if (is_extreme(aggregate))
        return aggregate->kind == KIND_STR ? sizeof(struct aggregate_text) : sizeof(uint64_t);
    return 0;
}
_Static_assert(sizeof(struct aggregate_float) == sizeof(__int128), "one width for sums");

enum err aggregate_init(struct aggregate *aggregate, struct query_memory *memory,
                        const struct query_aggregate *definition, struct query_type argument)
{
    *aggregate = (struct aggregate){
        .memory = memory,
        .fn = definition->fn,
        .kind = definition->kind,
        .scale = definition->kind == KIND_DEC && argument.scale != QUERY_SCALE_ANY ? argument.scale
                                                                                   : (uint8_t)0,
        .out_kind = definition->out_kind,
        .out_scale = definition->out_scale,
        .collation = definition->collation,
    };
    if (definition->fn != AGG_COUNT_DISTINCT) return ERR_NONE;
    void *at;
    enum err err = query_alloc(memory, sizeof(*aggregate->distinct), &at);
    if (err) return err;
    aggregate->distinct = at;
    distinct_init(aggregate->distinct, memory, definition->collation == COLLATION_CASE_INSENSITIVE);
    return ERR_NONE;
}

void aggregate_fini(struct aggregate *aggregate)
{
    struct query_memory *memory = aggregate->memory;
    if (!memory) return;
    if (is_extreme(aggregate) && aggregate->kind == KIND_STR)
        for (uint32_t i = 0; i < aggregate->count; i++)
            query_free(memory, aggregate->texts[i].bytes, aggregate->texts[i].capacity);
    query_free(memory, aggregate->counts, aggregate->counts_size);
    query_free(memory, aggregate->states, aggregate->states_size);
    if (aggregate->distinct) {
        distinct_fini(aggregate->distinct);
        query_free(memory, aggregate->distinct, sizeof(*aggregate->distinct));
    }
    *aggregate = (struct aggregate){0};
}

enum err aggregate_resize(struct aggregate *aggregate, uint32_t group_count)
{
    size_t width = state_width(aggregate);
    if (group_count > aggregate->capacity) {
        uint32_t capacity = aggregate->capacity ? aggregate->capacity : CAPACITY_MIN;
        while (capacity < group_count)
            capacity *= 2;
        void *at = aggregate->counts;
        enum err err = query_grow(aggregate->memory, &at, &aggregate->counts_size,
                                  capacity * sizeof(uint64_t));
        aggregate->counts = at;
        at = aggregate->states;
        if (!err)
            err = query_grow(aggregate->memory, &at, &aggregate->states_size, capacity * width);
        aggregate->states = at;
        if (err) return err;
        aggregate->capacity = capacity;
    }
    if (group_count > aggregate->count) {
        uint32_t added = group_count - aggregate->count;
        memset(aggregate->counts + aggregate->count, 0, added * sizeof(uint64_t));
        if (width)
            memset((uint8_t *)aggregate->states + aggregate->count * width, 0, added * width);
        aggregate->count = group_count;
    }
    return ERR_NONE;
}

/* ---- COUNT ---- */

void aggregate_count_by_rows(struct aggregate *aggregate)
{
    aggregate->by_rows = aggregate->fn != AGG_COUNT_DISTINCT && !is_extreme(aggregate);
}

/* Rows of one group, or of many. */
static void add_counts(uint64_t *restrict counts, const uint8_t *skip, const uint32_t *restrict ids,
                       bool one_group, uint32_t count)
{
    if (one_group) {
        uint64_t some = count;
        for (uint32_t i = 0; skip && i < count; i++)
            some -= skip[i];
        counts[ids[0]] += some;
    } else if (skip) {
        for (uint32_t i = 0; i < count; i++)
            counts[ids[i]] += !skip[i];
    } else {
        for (uint32_t i = 0; i < count; i++)
            counts[ids[i]]++;
    }
}

static void update_counts(struct aggregate *aggregate, const struct vector *argument,
                          const uint32_t *ids, bool one_group, uint32_t count)
{
    const uint8_t *nulls = argument && argument->has_nulls ? argument->nulls : NULL;
    bool all_null = argument && argument->kind == KIND_NULL;
    if (!aggregate->by_rows) {
        if (!all_null) add_counts(aggregate->counts, nulls, ids, one_group, count);
    } else if (all_null) {
        add_counts(aggregate->counts, NULL, ids, one_group, count);
    } else if (nulls) {
        for (uint32_t i = 0; i < count; i++)
            if (nulls[i]) aggregate->counts[ids[i]]++;
    }
}

/* ---- SUM, AVG ---- */

/* The sum of count numbers, their high and low halves added up apart. */
#define REDUCE(name, type)                                                                         \
    static __int128 name(const type *numbers, const uint8_t *nulls, uint32_t count)                \
    {                                                                                              \
        uint64_t low = 0;                                                                          \
        type high = 0;                                                                             \
        if (nulls) {                                                                               \
            for (uint32_t i = 0; i < count; i++) {                                                 \
                type number = nulls[i] ? 0 : numbers[i];                                           \
                low += (uint32_t)number;                                                           \
                high += number >> 32;                                                              \
            }                                                                                      \
        } else {                                                                                   \
            for (uint32_t i = 0; i < count; i++) {                                                 \
                low += (uint32_t)numbers[i];                                                       \
                high += numbers[i] >> 32;                                                          \
            }                                                                                      \
        }                                                                                          \
        return (__int128)high * ((__int128)1 << 32) + low;                                         \
    }
REDUCE(reduce_i64, int64_t)
REDUCE(reduce_u64, uint64_t)
#undef REDUCE

static __int128 reduce_integers(const struct vector *argument, uint32_t count)
{
    const uint8_t *nulls = argument->has_nulls ? argument->nulls : NULL;
    return argument->kind == KIND_U64 ? reduce_u64(argument->u, nulls, count)
                                      : reduce_i64(argument->i, nulls, count);
}

static void update_integer_sums(struct aggregate *aggregate, const struct vector *argument,
                                const uint32_t *restrict ids, bool one_group, uint32_t count)
{
    __int128 *restrict sums = aggregate->sums;
    if (one_group) {
        sums[ids[0]] += reduce_integers(argument, count);
    } else if (argument->has_nulls) {
        for (uint32_t i = 0; i < count; i++) {
            if (argument->nulls[i]) continue;
            sums[ids[i]] += argument->kind == KIND_U64 ? (__int128)argument->u[i] : argument->i[i];
        }
    } else if (argument->kind == KIND_U64) {
        for (uint32_t i = 0; i < count; i++)
            sums[ids[i]] += argument->u[i];
    } else {
        for (uint32_t i = 0; i < count; i++)
            sums[ids[i]] += argument->i[i];
    }
}

static void float_add(struct aggregate_float *state, double value)
{
    double sum = state->sum + value;
    if (fabs(state->sum) >= fabs(value))
        state->lost += (state->sum - sum) + value;
    else
        state->lost += (value - sum) + state->sum;
    state->sum = sum;
}

static void update_float_sums(struct aggregate *aggregate, const struct vector *argument,
                              const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!vector_is_null(argument, i)) float_add(&aggregate->floats[ids[i]], argument->f[i]);
}

/* ---- MIN, MAX ---- */

static bool is_better(const struct aggregate *aggregate, struct value value, struct value than)
{
    int order = value_compare(value, than, (enum collation)aggregate->collation);
    return aggregate->fn == AGG_MIN ? order < 0 : order > 0;
}

static void offer_number(struct aggregate *aggregate, uint32_t group, uint64_t bits)
{
    uint64_t *extreme = &aggregate->extremes[group];
    struct value value = {.kind = aggregate->kind, .scale = aggregate->scale, .u = bits};
    struct value than = {.kind = aggregate->kind, .scale = aggregate->scale, .u = *extreme};
    if (!aggregate->counts[group]++ || is_better(aggregate, value, than)) *extreme = bits;
}

static enum err offer_text(struct aggregate *aggregate, uint32_t group, struct value value)
{
    struct aggregate_text *text = &aggregate->texts[group];
    if (aggregate->counts[group] &&
        !is_better(aggregate, value, value_str(text->bytes, text->size))) {
        aggregate->counts[group]++;
        return ERR_NONE;
    }
    if (value.size > text->capacity) {
        uint32_t capacity = value.size < 16 ? 16 : value.size;
        void *at = text->bytes;
        enum err err = query_realloc(aggregate->memory, &at, text->capacity, capacity);
        if (err) return err;
        text->bytes = at;
        text->capacity = capacity;
    }
    if (value.size) memcpy(text->bytes, value.bytes, value.size);
    text->size = value.size;
    aggregate->counts[group]++;
    return ERR_NONE;
}

#define EXTREME_LOOP(name, type, member)                                                           \
    static void name(struct aggregate *aggregate, const struct vector *argument,                   \
                     const uint32_t *ids, uint32_t count)                                          \
    {                                                                                              \
        type *extremes = (type *)(void *)aggregate->extremes;                                      \
        bool min = aggregate->fn == AGG_MIN;                                                       \
        for (uint32_t i = 0; i < count; i++) {                                                     \
            if (argument->has_nulls && argument->nulls[i]) continue;                               \
            uint32_t group = ids[i];                                                               \
            type value = argument->member[i];                                                      \
            bool first = !aggregate->counts[group]++;                                              \
            if (first || (min ? value < extremes[group] : value > extremes[group]))                \
                extremes[group] = value;                                                           \
        }                                                                                          \
    }
EXTREME_LOOP(update_extremes_i64, int64_t, i)
EXTREME_LOOP(update_extremes_u64, uint64_t, u)
#undef EXTREME_LOOP

static enum err update_extremes(struct aggregate *aggregate, const struct vector *argument,
                                const uint32_t *ids, uint32_t count)
{
    switch (aggregate->kind) {
    case KIND_I64:
    case KIND_DEC:
        update_extremes_i64(aggregate, argument, ids, count);
        return ERR_NONE;
    case KIND_U64:
        update_extremes_u64(aggregate, argument, ids, count);
        return ERR_NONE;
    case KIND_F64:
        for (uint32_t i = 0; i < count; i++)
            if (!vector_is_null(argument, i)) offer_number(aggregate, ids[i], argument->u[i]);
        return ERR_NONE;
    default:
        break;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (vector_is_null(argument, i)) continue;
        enum err err = offer_text(aggregate, ids[i], vector_value(argument, i));
        if (err) return err;
    }
    return ERR_NONE;
}

/* ---- COUNT DISTINCT ---- */

static enum err add_distinct(struct aggregate *aggregate, uint32_t group, struct value value)
{
    bool added;
    enum err err;
    if (value.kind == KIND_STR)
        err = distinct_add_bytes(aggregate->distinct, group, value.bytes, value.size, &added);
    else
        err = distinct_add_number(aggregate->distinct, group, distinct_bits(value.kind, value.u),
                                  &added);
    if (!err) aggregate->counts[group] += added;
    return err;
}

enum err aggregate_update(struct aggregate *aggregate, const struct vector *argument,
                          const uint32_t *ids, bool one_group, uint32_t count)
{
    ASSERT(count && count <= QUERY_VECTOR_ROWS);
    switch ((enum aggregate_fn)aggregate->fn) {
    case AGG_COUNT_STAR:
        update_counts(aggregate, NULL, ids, one_group, count);
        return ERR_NONE;
    case AGG_COUNT:
        update_counts(aggregate, argument, ids, one_group, count);
        return ERR_NONE;
    case AGG_SUM:
    case AGG_AVG:
        update_counts(aggregate, argument, ids, one_group, count);
        if (aggregate->kind == KIND_F64)
            update_float_sums(aggregate, argument, ids, count);
        else
            update_integer_sums(aggregate, argument, ids, one_group, count);
        return ERR_NONE;
    case AGG_MIN:
    case AGG_MAX:
        if (aggregate->kind == KIND_NULL) return ERR_NONE;
        return update_extremes(aggregate, argument, ids, count);
    case AGG_COUNT_DISTINCT:
        break;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (vector_is_null(argument, i)) continue;
        enum err err = add_distinct(aggregate, ids[i], vector_value(argument, i));
        if (err) return err;
    }
    return ERR_NONE;
}

/* ---- states on the wire ---- */

void aggregate_encode(const struct aggregate *aggregate, const uint64_t *rows, uint32_t first,
                      uint32_t count, struct buf *buf)
{
    ASSERT(first + count <= aggregate->count);
    for (uint32_t group = first; group < first + count; group++) {
        if (aggregate->distinct) continue;
        buf_put_u64(buf, aggregate->by_rows ? rows[group] - aggregate->counts[group]
                                            : aggregate->counts[group]);
        if (is_sum(aggregate)) {
            buf_put(buf, &aggregate->sums[group], sizeof(__int128));
        } else if (is_extreme(aggregate) && aggregate->counts[group]) {
            if (aggregate->kind == KIND_STR)
                buf_put_bytes(buf, aggregate->texts[group].bytes, aggregate->texts[group].size);
            else
                buf_put_u64(buf, aggregate->extremes[group]);
        }
    }
}

static enum err merge_extreme(struct aggregate *aggregate, struct reader *reader, uint32_t group,
                              uint64_t count)
{
    uint64_t before = aggregate->counts[group];
    if (!count) return ERR_NONE;
    if (aggregate->kind == KIND_STR) {
        size_t size = 0;
        const uint8_t *bytes = reader_bytes(reader, UINT32_MAX, &size);
        if (reader->failed) return ERR_BAD_SIGNAL;
        enum err err = offer_text(aggregate, group, value_str(bytes, (uint32_t)size));
        if (err) return err;
    } else {
        uint64_t bits = reader_u64(reader);
        if (reader->failed) return ERR_BAD_SIGNAL;
        offer_number(aggregate, group, bits);
    }
    aggregate->counts[group] = before + count;
    return ERR_NONE;
}

enum err aggregate_merge(struct aggregate *aggregate, struct reader *reader, const uint32_t *ids,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (aggregate->distinct) return ERR_NONE;
        uint64_t counted = reader_u64(reader);
        if (is_extreme(aggregate)) {
            enum err err = merge_extreme(aggregate, reader, ids[i], counted);
            if (err) return err;
            continue;
        }
        aggregate->counts[ids[i]] += counted;
        if (!is_sum(aggregate)) continue;
        const uint8_t *at = reader_take(reader, sizeof(__int128));
        if (!at) return ERR_BAD_SIGNAL;
        if (aggregate->kind == KIND_F64) {
            struct aggregate_float part;
            memcpy(&part, at, sizeof(part));
            float_add(&aggregate->floats[ids[i]], part.sum);
            aggregate->floats[ids[i]].lost += part.lost;
        } else {
            unsigned __int128 part;
            memcpy(&part, at, sizeof(part));
            aggregate->sums[ids[i]] = (__int128)((unsigned __int128)aggregate->sums[ids[i]] + part);
        }
    }
    return reader->failed ? ERR_BAD_SIGNAL : ERR_NONE;
}

/* ---- results ---- */

static enum err dec_result(__int128 digits, uint8_t scale, struct value *ret_value)
{
    if (digits <= -(__int128)DEC_LIMIT || digits >= DEC_LIMIT) return ERR_OUT_OF_RANGE;
    *ret_value = value_dec((int64_t)digits, scale);
    return ERR_NONE;
}

static enum err sum_result(const struct aggregate *aggregate, __int128 sum, struct value *ret_value)
{
    switch (aggregate->out_kind) {
    case KIND_I64:
        if (sum < INT64_MIN || sum > INT64_MAX) return ERR_OUT_OF_RANGE;
        *ret_value = value_i64((int64_t)sum);
        return ERR_NONE;
    case KIND_U64:
        if (sum < 0 || sum > (__int128)UINT64_MAX) return ERR_OUT_OF_RANGE;
        *ret_value = value_u64((uint64_t)sum);
        return ERR_NONE;
    default:
        break;
    }
    for (uint8_t scale = aggregate->scale; scale < aggregate->out_scale; scale++) {
        if (sum <= -(__int128)DEC_LIMIT || sum >= DEC_LIMIT) return ERR_OUT_OF_RANGE;
        sum *= 10;
    }
    return dec_result(sum, aggregate->out_scale, ret_value);
}

/* Whole part and remainder apart, so that nothing passes 128 bits. */
static enum err average_result(const struct aggregate *aggregate, __int128 sum, uint64_t count,
                               struct value *ret_value)
{
    __int128 whole = sum / (__int128)count;
    __int128 rest = sum % (__int128)count;
    __int128 power = 1;
    for (uint8_t scale = aggregate->scale; scale < aggregate->out_scale; scale++)
        power *= 10;
    if (whole <= -(__int128)DEC_LIMIT || whole >= DEC_LIMIT) return ERR_OUT_OF_RANGE;
    /* count < 2^63 and power <= 10^18 < 2^60: the products fit. */
    __int128 scaled = rest * power;
    __int128 fraction = scaled / (__int128)count;
    __int128 left = scaled % (__int128)count;
    if (2 * (left < 0 ? -left : left) >= (__int128)count) fraction += sum < 0 ? -1 : 1;
    return dec_result(whole * power + fraction, aggregate->out_scale, ret_value);
}

enum err aggregate_result(const struct aggregate *aggregate, uint32_t group,
                          struct value *ret_value)
{
    ASSERT(group < aggregate->count);
    uint64_t count = aggregate->counts[group];
    switch ((enum aggregate_fn)aggregate->fn) {
    case AGG_COUNT_STAR:
    case AGG_COUNT:
    case AGG_COUNT_DISTINCT:
        if (count > INT64_MAX) return ERR_OUT_OF_RANGE;
        *ret_value = value_i64((int64_t)count);
        return ERR_NONE;
    default:
        break;
    }
    if (!count) {
        *ret_value = value_null();
        return ERR_NONE;
    }
    if (is_extreme(aggregate)) {
        if (aggregate->kind == KIND_STR)
            *ret_value = value_str(aggregate->texts[group].bytes, aggregate->texts[group].size);
        else
            *ret_value = (struct value){.kind = aggregate->kind,
                                        .scale = aggregate->scale,
                                        .u = aggregate->extremes[group]};
        return ERR_NONE;
    }
    if (aggregate->kind == KIND_F64) {
        const struct aggregate_float *state = &aggregate->floats[group];
        double sum = state->sum + state->lost;
        if (aggregate->fn == AGG_AVG) sum /= (double)count;
        if (!isfinite(sum)) return ERR_OUT_OF_RANGE;
        *ret_value = value_f64(sum);
        return ERR_NONE;
    }
    if (count > INT64_MAX) return ERR_OUT_OF_RANGE; /* no peer has counted that many */
    if (aggregate->fn == AGG_SUM) return sum_result(aggregate, aggregate->sums[group], ret_value);
    return average_result(aggregate, aggregate->sums[group], count, ret_value);
}
