/* Results some of whose numbers are shown as text. Private to sql/. */
#ifndef SQL_LABELS_H
#define SQL_LABELS_H

#include <stdint.h>

#include "base/arena.h"
#include "db/api/db.h"
#include "sql/format.h"
#include "sql/sql.h"

enum { LABELLED_NONE = UINT32_MAX };

/* The column whose numbers are replaced, or LABELLED_NONE. Labels may be NULL. */
uint32_t labels_column(const struct sql_labels *labels, const struct format_column *columns,
                       uint32_t column_count);

/* Reads the whole query, closes it (also after an error), replaces the numbers of the column and
 * writes the rows. Memory from the arena. */
MUST_USE enum err labels_write(struct sql_labels *labels, uint32_t column, struct db_client *client,
                               struct db_query *query, struct format_column *columns,
                               uint32_t column_count, enum sql_format format, struct sql_sink *sink,
                               struct arena *arena, struct diag *diag);

#endif
