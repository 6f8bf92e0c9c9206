/* Locking a row without changing it.
 *
 * A prepared transaction must still be right when its commit comes, so the rows that it read, or
 * set to the values they had, must stay as they are until then. The lock is an undo record that
 * saves no column: it is held, released, committed and rolled back like any other change, and its
 * net effect is nothing. */
#include "db/ldm/ldm.h"

enum err fragment_lock(struct fragment *fragment, struct change_set *changes, uint32_t row)
{
    if (row_is_locked(fragment, row, changes)) return ERR_CONFLICT;
    if (!page_is_live(row_page(fragment, row), row_slot(row))) return ERR_NOT_FOUND;
    enum err err = change_set_reserve(changes);
    if (err) return err;
    uint32_t ref = undo_alloc(&fragment->ldm->undo, sizeof(struct undo));
    if (!ref) return ERR_NO_MEMORY;
    struct undo *undo = undo_at(fragment->ldm, ref);
    undo->column_count = 0;
    undo->flags = UNDO_WAS_LIVE;
    change_set_add(changes, fragment, row, ref);
    return ERR_NONE;
}
