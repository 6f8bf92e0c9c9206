/* The check that every signal passes before a handler sees it, whatever way it came: nothing of the
 * header is used before. Bodies are the business of their codecs. */
#include "db/wire/signal.h"

#include "db/wire/schema.h"

enum err signal_check(const struct signal_header *header, uint64_t size)
{
    if (size < sizeof(*header) || size > SIGNAL_SIZE_MAX) return ERR_BAD_SIGNAL;
    if (header->size != size || header->version != SIGNAL_VERSION) return ERR_BAD_SIGNAL;
    if (header->type == 0 || header->type > SIGNAL_TYPE_MAX) return ERR_BAD_SIGNAL;
    if (header->source >= ENDPOINTS_MAX || header->destination >= ENDPOINTS_MAX)
        return ERR_BAD_SIGNAL;
    if (header->partition >= PARTITIONS_MAX || header->reserved != 0) return ERR_BAD_SIGNAL;
    if (!err_is_known(header->err)) return ERR_BAD_SIGNAL;
    return ERR_NONE;
}
