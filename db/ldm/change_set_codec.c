/* The redo body of a change set: what a log keeps of a transaction, and its replay.
 *
 *   varint     number of changes, then each change:
 *     u8       bits 0..1: 1 INSERT, 2 UPDATE, 3 DELETE; bit 7: same table and partition as
 *              the change before
 *     varint   partition               without bit 7
 *     varint   table id                without bit 7
 *     varint   table version           without bit 7
 *     varint   size of what follows of this change, bytes: lets a reader pass over what it has
 *              no table for
 *     INSERT:  varint column count, then every column's value
 *     UPDATE:  the primary key's values, u8 number of columns, then u8 column and value of each
 *     DELETE:  the primary key's values
 *
 *   A value: for a nullable column first u8, 1 for NULL (nothing follows) or 0. Then
 *     integers, dates, times   an integer, of signed types in zigzag
 *     DECIMAL                  the same, scaled as the column
 *     DOUBLE, FLOAT            8 or 4 bytes
 *     strings                  an integer size, and the bytes; BINARY without the zero bytes
 *                              at its end
 *
 *   An integer: a byte below f8 is the value; a byte f7 + n stands before its n bytes,
 *   little-endian, no more of them than needed. Columns are mostly small or full-width numbers,
 *   for which this is as short as a varint and takes no loop.
 *
 * Each changed row appears once, where it was first changed, with its net effect: the difference
 * between the version before the transaction and the row in place. A row that was inserted and
 * deleted again does not appear. A row deleted and inserted again is an UPDATE, but when the bytes
 * of its primary key differ (case-insensitive keys): then a DELETE and an INSERT.
 *
 * Replay takes nothing on trust: every count, size, kind and range is checked, each body must be
 * used up exactly, and a change that does not fit the rows (an INSERT of a key that is there, an
 * UPDATE of one that is not) is damage. Rows' expiry plays no part: what the log says happened has
 * happened. */
#include "db/ldm/ldm.h"

#include "db/wire/schema.h"

enum { OP_INSERT = 1, OP_UPDATE = 2, OP_DELETE = 3, OP_MASK = 3, OP_SAME_TABLE = 0x80 };
enum { VALUE_HEAD_SIZE_MAX = 16, INTEGER_SMALL = 0xf8 };
enum { CHANGE_SIZE_MAX = SCHEMA_COLUMNS_MAX * (SCHEMA_VAR_SIZE_MAX + 16) };

static uint64_t zigzag(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static int64_t unzigzag(uint64_t value)
{
    return (int64_t)(value >> 1 ^ (0 - (value & 1)));
}

/* Writes up to 9 bytes behind what is reserved. */
static inline uint8_t *integer_put(uint8_t *at, uint64_t value)
{
    if (value < INTEGER_SMALL) {
        *at = (uint8_t)value;
        return at + 1;
    }
    uint32_t size = (uint32_t)(71 - __builtin_clzll(value)) / 8;
    *at = (uint8_t)(INTEGER_SMALL - 1 + size);
    memcpy(at + 1, &value, sizeof(value));
    return at + 1 + size;
}

static uint64_t integer_get(struct reader *reader)
{
    uint8_t first = reader_u8(reader);
    if (first < INTEGER_SMALL) return first;
    uint32_t size = first - (INTEGER_SMALL - 1u);
    const uint8_t *at = reader_take(reader, size);
    uint64_t value = 0;
    if (!at) return 0;
    memcpy(&value, at, size);
    /* One value has one form. */
    bool is_short = size == 1 ? value >= INTEGER_SMALL : value >> (8 * (size - 1)) != 0;
    if (!is_short) reader->failed = true;
    return value;
}

/* What is not a number without NULLs. */
static void value_encode_slow(const struct column_layout *layout, const struct page *page,
                              uint32_t slot, struct buf *buf)
{
    const uint8_t *raw = page_raw(page, layout, slot);
    bool is_null = page_is_null(page, layout, slot);
    if (layout->null_offset) buf_put_u8(buf, is_null);
    if (is_null || !buf_reserve(buf, VALUE_HEAD_SIZE_MAX)) return;
    uint8_t *at = buf->bytes + buf->size;
    struct value value = page_value(page, layout, raw, false);
    switch ((enum value_kind)layout->kind) {
    case KIND_NULL:
        break;
    case KIND_I64:
    case KIND_DEC:
        at = integer_put(at, zigzag(value.i));
        break;
    case KIND_U64:
        at = integer_put(at, value.u);
        break;
    case KIND_F64:
        memcpy(at, raw, layout->width);
        at += layout->width;
        break;
    case KIND_STR:
        while (layout->form == FORM_BINARY && value.size && !value.bytes[value.size - 1])
            value.size--;
        if (!buf_reserve(buf, VALUE_HEAD_SIZE_MAX + (size_t)value.size)) return;
        at = integer_put(buf->bytes + buf->size, value.size);
        if (value.size) memcpy(at, value.bytes, value.size);
        at += value.size;
        break;
    }
    buf->size = (size_t)(at - buf->bytes);
}

static inline void value_encode(const struct column_layout *layout, const struct page *page,
                                uint32_t slot, struct buf *buf)
{
    if (layout->form > FORM_U64 || layout->null_offset) {
        value_encode_slow(layout, page, slot, buf);
        return;
    }
    if (!buf_reserve(buf, VALUE_HEAD_SIZE_MAX)) return;
    const uint8_t *raw = page_raw(page, layout, slot);
    uint8_t *at = buf->bytes + buf->size;
    uint64_t number =
        layout->form <= FORM_I64 ? zigzag(raw_signed(layout, raw)) : raw_bits(layout, raw);
    buf->size = (size_t)(integer_put(at, number) - buf->bytes);
}

static void value_decode(const struct fragment *fragment, uint16_t column, struct reader *reader,
                         struct value *ret_value)
{
    const struct column_layout *layout = &fragment->layouts[column];
    *ret_value = value_null();
    if (layout->null_offset) {
        uint8_t is_null = reader_u8(reader);
        if (is_null > 1) reader->failed = true;
        if (is_null) return;
    }
    switch ((enum value_kind)layout->kind) {
    case KIND_NULL:
        break;
    case KIND_I64:
        *ret_value = value_i64(unzigzag(integer_get(reader)));
        break;
    case KIND_DEC:
        *ret_value = value_dec(unzigzag(integer_get(reader)), layout->scale);
        break;
    case KIND_U64:
        *ret_value = value_u64(integer_get(reader));
        break;
    case KIND_F64:
        if (layout->form == FORM_F32) {
            uint32_t bits = reader_u32(reader);
            float narrow;
            memcpy(&narrow, &bits, sizeof(narrow));
            *ret_value = value_f64((double)narrow);
        } else {
            ret_value->kind = KIND_F64;
            ret_value->u = reader_u64(reader);
        }
        break;
    case KIND_STR: {
        uint64_t size = integer_get(reader);
        if (size > SCHEMA_VAR_SIZE_MAX) reader->failed = true;
        const uint8_t *bytes = reader_take(reader, size);
        *ret_value = value_str(bytes, bytes ? (uint32_t)size : 0);
        break;
    }
    }
}

/* ---- encoding ---- */

/* What happened to one row. */
struct net_change {
    const struct fragment *fragment;
    uint32_t row;
    bool was_live;
    bool is_live;
    struct column_set columns; /* those any record saved */
};

/* The net change of a row, told at the record that began it. */
static bool net_change_of(const struct change_set *changes, uint32_t ref, struct net_change *net)
{
    const struct ldm *ldm = changes->ldm;
    const struct undo *first = undo_at(ldm, ref);
    if (first->older && undo_at(ldm, first->older)->ts == changes->mark) return false;
    net->fragment = first->fragment;
    net->row = first->row;
    net->was_live = first->flags & UNDO_WAS_LIVE;
    const struct page *page = row_page(first->fragment, first->row);
    net->is_live = page_is_live(page, row_slot(first->row));
    net->columns = (struct column_set){0};
    for (const struct undo *undo = first; undo;
         undo = undo->newer ? undo_at(ldm, undo->newer) : NULL) {
        struct column_set columns = undo_columns(undo);
        net->columns.words[0] |= columns.words[0];
        net->columns.words[1] |= columns.words[1];
    }
    bool changed = (net->columns.words[0] | net->columns.words[1]) != 0;
    return net->was_live != net->is_live || (net->is_live && changed);
}

static bool is_replaced(const struct net_change *net)
{
    return net->was_live && net->is_live &&
           column_set_meets(&net->columns, &net->fragment->key_columns);
}

static void key_encode(const struct net_change *net, struct buf *buf)
{
    const struct index *primary = net->fragment->indexes[0];
    const struct page *page = row_page(net->fragment, net->row);
    for (uint32_t i = 0; i < primary->column_count; i++)
        value_encode(&net->fragment->layouts[primary->columns[i]], page, row_slot(net->row), buf);
}

/* As buf_put_varint; nearly all take one byte. */
static inline void varint_put(struct buf *buf, uint64_t value)
{
    if (value < 0x80)
        buf_put_u8(buf, (uint8_t)value);
    else
        buf_put_varint(buf, value);
}

/* All columns of a row. Runs of numbers are written behind one reservation. */
static void columns_encode(const struct fragment *fragment, const struct page *page, uint32_t slot,
                           struct buf *buf)
{
    uint32_t count = fragment->column_count;
    for (uint32_t i = 0; i < count;) {
        if (!buf_reserve(buf, (size_t)(count - i) * VALUE_HEAD_SIZE_MAX)) return;
        uint8_t *at = buf->bytes + buf->size;
        for (; i < count; i++) {
            const struct column_layout *layout = &fragment->layouts[i];
            if (layout->form > FORM_U64 || layout->null_offset) break;
            uint64_t bits;
            memcpy(&bits, page_raw(page, layout, slot), sizeof(bits));
            bits = ((bits & layout->mask) ^ layout->sign) - layout->sign;
            at = integer_put(at, layout->form <= FORM_I64 ? zigzag((int64_t)bits) : bits);
        }
        buf->size = (size_t)(at - buf->bytes);
        if (i < count) value_encode_slow(&fragment->layouts[i++], page, slot, buf);
    }
}

static void content_encode(const struct net_change *net, uint8_t op, struct buf *buf)
{
    const struct fragment *fragment = net->fragment;
    const struct page *page = row_page(fragment, net->row);
    uint32_t slot = row_slot(net->row);
    if (op == OP_INSERT) {
        varint_put(buf, fragment->column_count);
        columns_encode(fragment, page, slot, buf);
        return;
    }
    key_encode(net, buf);
    if (op == OP_DELETE) return;
    buf_put_u8(buf, (uint8_t)(__builtin_popcountll(net->columns.words[0]) +
                              __builtin_popcountll(net->columns.words[1])));
    for (uint32_t word = 0; word < SCHEMA_COLUMNS_MAX / 64; word++) {
        for (uint64_t bits = net->columns.words[word]; bits; bits &= bits - 1) {
            uint32_t column = word * 64 + (uint32_t)__builtin_ctzll(bits);
            buf_put_u8(buf, (uint8_t)column);
            value_encode(&fragment->layouts[column], page, slot, buf);
        }
    }
}

/* Writes a varint into the byte left for it, moving what follows when it needs more: mostly one is
 * enough. */
static void varint_fill(struct buf *buf, size_t at, uint64_t value)
{
    uint32_t more = 0;
    for (uint64_t left = value >> 7; left; left >>= 7)
        more++;
    if (more) {
        if (!buf_add(buf, more)) return;
        memmove(buf->bytes + at + 1 + more, buf->bytes + at + 1, buf->size - more - at - 1);
    }
    uint8_t *out = buf->bytes + at;
    for (; value >= 0x80; value >>= 7)
        *out++ = (uint8_t)(value | 0x80);
    *out = (uint8_t)value;
}

static void change_encode(const struct net_change *net, uint8_t op, const struct fragment **last,
                          struct buf *buf)
{
    const struct fragment *fragment = net->fragment;
    bool same = *last == fragment;
    *last = fragment;
    buf_put_u8(buf, (uint8_t)(op | (same ? OP_SAME_TABLE : 0)));
    if (!same) {
        varint_put(buf, fragment->partition->number);
        varint_put(buf, fragment->table_id);
        varint_put(buf, fragment->table->version);
    }
    size_t size_at = buf->size;
    buf_put_u8(buf, 0);
    content_encode(net, op, buf);
    if (!buf->failed) varint_fill(buf, size_at, buf->size - size_at - 1);
}

void change_set_encode(const struct change_set *changes, struct buf *buf)
{
    size_t count_at = buf->size;
    buf_put_u8(buf, 0);
    uint64_t count = 0;
    const struct fragment *last = NULL;
    for (uint32_t i = 0; i < changes->count && !buf->failed; i++) {
        struct net_change net;
        if (!net_change_of(changes, changes->records[i], &net)) continue;
        count++;
        if (!net.was_live) {
            change_encode(&net, OP_INSERT, &last, buf);
        } else if (!net.is_live) {
            change_encode(&net, OP_DELETE, &last, buf);
        } else if (is_replaced(&net)) {
            change_encode(&net, OP_DELETE, &last, buf);
            change_encode(&net, OP_INSERT, &last, buf);
            count++;
        } else {
            change_encode(&net, OP_UPDATE, &last, buf);
        }
    }
    if (!buf->failed) varint_fill(buf, count_at, count);
}

/* ---- replay ---- */

/* Problems of the values are damage of the body; those of memory are not. */
static enum err as_damage(enum err err)
{
    return err == ERR_NONE || err == ERR_NO_MEMORY ? err : ERR_CORRUPT;
}

static enum err replay_insert(struct fragment *fragment, struct change_set *changes,
                              struct reader *reader)
{
    struct value values[SCHEMA_COLUMNS_MAX];
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > fragment->column_count) return ERR_CORRUPT;
    for (uint32_t i = 0; i < fragment->column_count; i++) {
        if (i < count)
            value_decode(fragment, (uint16_t)i, reader, &values[i]);
        else
            values[i] = value_null(); /* a column added since */
    }
    if (reader->failed || reader_left(reader)) return ERR_CORRUPT;
    uint32_t row;
    return as_damage(fragment_insert(fragment, changes, values, &row));
}

static enum err replay_find(struct fragment *fragment, struct reader *reader, uint32_t *ret_row)
{
    const struct index *primary = fragment->indexes[0];
    struct value key[SCHEMA_KEY_COLUMNS_MAX];
    for (uint32_t i = 0; i < primary->column_count; i++)
        value_decode(fragment, primary->columns[i], reader, &key[i]);
    if (reader->failed) return ERR_CORRUPT;
    return as_damage(fragment_find_any(fragment, key, ret_row));
}

static enum err replay_update(struct fragment *fragment, struct change_set *changes,
                              struct reader *reader)
{
    uint32_t row;
    enum err err = replay_find(fragment, reader, &row);
    if (err) return err;
    uint16_t columns[SCHEMA_COLUMNS_MAX];
    struct value values[SCHEMA_COLUMNS_MAX];
    uint32_t count = reader_u8(reader);
    if (reader->failed || count > fragment->column_count) return ERR_CORRUPT;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t column = reader_u8(reader);
        if (reader->failed || column >= fragment->column_count) return ERR_CORRUPT;
        columns[i] = (uint16_t)column;
        value_decode(fragment, columns[i], reader, &values[i]);
    }
    if (reader->failed || reader_left(reader)) return ERR_CORRUPT;
    return as_damage(fragment_update(fragment, changes, row, columns, values, count));
}

static enum err replay_delete(struct fragment *fragment, struct change_set *changes,
                              struct reader *reader)
{
    uint32_t row;
    enum err err = replay_find(fragment, reader, &row);
    if (err) return err;
    if (reader_left(reader)) return ERR_CORRUPT;
    return as_damage(fragment_delete(fragment, changes, row));
}

static enum err replay_change(struct fragment *fragment, struct change_set *changes, uint8_t op,
                              struct reader *reader)
{
    switch (op) {
    case OP_INSERT:
        return replay_insert(fragment, changes, reader);
    case OP_UPDATE:
        return replay_update(fragment, changes, reader);
    case OP_DELETE:
        return replay_delete(fragment, changes, reader);
    default:
        return ERR_CORRUPT;
    }
}

struct replay_table {
    bool known;                /* some change has named one */
    struct fragment *fragment; /* NULL: pass over its changes */
};

static enum err replay_table_read(struct reader *reader, struct replay_table *table,
                                  struct partition *(*find)(void *context, uint16_t number),
                                  void *context)
{
    uint64_t number = reader_varint(reader);
    uint64_t id = reader_varint(reader);
    uint64_t version = reader_varint(reader);
    if (reader->failed || number >= PARTITIONS_MAX || id == 0 || id > UINT32_MAX || version == 0 ||
        version > UINT32_MAX)
        return ERR_CORRUPT;
    struct partition *partition = find(context, (uint16_t)number);
    table->known = true;
    table->fragment = partition ? partition_fragment(partition, (uint32_t)id) : NULL;
    /* A catalog is durable before its tables are written to. */
    if (table->fragment && version > table->fragment->table->version) return ERR_CORRUPT;
    return ERR_NONE;
}

static enum err replay_all(struct change_set *changes, struct reader *reader,
                           struct partition *(*find)(void *context, uint16_t number), void *context)
{
    struct replay_table table = {0};
    uint64_t count = reader_varint(reader);
    if (reader->failed || count > reader_left(reader)) return ERR_CORRUPT;
    for (uint64_t i = 0; i < count; i++) {
        uint8_t op = reader_u8(reader);
        if (reader->failed || op & ~(OP_MASK | OP_SAME_TABLE)) return ERR_CORRUPT;
        enum err err = ERR_NONE;
        if (!(op & OP_SAME_TABLE))
            err = replay_table_read(reader, &table, find, context);
        else if (!table.known)
            err = ERR_CORRUPT;
        if (err) return err;
        size_t size;
        const uint8_t *content = reader_bytes(reader, CHANGE_SIZE_MAX, &size);
        op &= OP_MASK;
        if (!content || op == 0) return ERR_CORRUPT;
        if (!table.fragment) continue;
        struct reader inner = reader_of(content, size);
        err = replay_change(table.fragment, changes, op, &inner);
        if (err) return err;
    }
    return ERR_NONE;
}

enum err change_set_replay(struct change_set *changes, struct reader *reader,
                           struct partition *(*find)(void *context, uint16_t number), void *context)
{
    struct ldm *ldm = changes->ldm;
    bool unlimited = ldm->unlimited;
    ldm->unlimited = true;
    enum err err = replay_all(changes, reader, find, context);
    ldm->unlimited = unlimited;
    return err;
}
