/* Texts, names and classes of enum err, all made from ERR_LIST so that none can be forgotten.
 *
 * The list is short and looked up only when something failed or a number arrives from outside, so a
 * switch (a jump table or a binary search, the compiler's choice) serves every question. */
#include "base/err.h"

#include <errno.h>
#include <stddef.h>

const char *err_text(enum err err)
{
#define ERR_CASE(name, number, text)                                                               \
    case name:                                                                                     \
        return text;
    switch (err) {
        ERR_LIST(ERR_CASE)
    }
#undef ERR_CASE
    return "unknown error";
}

const char *err_name(enum err err)
{
#define ERR_CASE(name, number, text)                                                               \
    case name:                                                                                     \
        return #name;
    switch (err) {
        ERR_LIST(ERR_CASE)
    }
#undef ERR_CASE
    return "ERR_UNKNOWN";
}

bool err_is_known(unsigned number)
{
#define ERR_CASE(name, value, text) case value:
    switch (number) {
        ERR_LIST(ERR_CASE)
        return true;
    }
#undef ERR_CASE
    return false;
}

enum err err_from_errno_cold(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_SPACE;
    case ENOMEM:
        return ERR_NO_MEMORY;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
        return ERR_DENIED;
    default:
        return ERR_IO;
    }
}

int err_to_errno(enum err err)
{
    /* No Linux errno is above 4095, the kernel's MAX_ERRNO; a number beyond it is not one. */
    enum { ERRNO_MAX = 4095 };
    int number = (int)err;
    if (number > ERR_POSIX_BASE && number <= ERR_POSIX_BASE + ERRNO_MAX)
        return number - ERR_POSIX_BASE;
    switch (err) {
    case ERR_NONE:
        return 0;
    case ERR_NO_SPACE:
        return ENOSPC;
    case ERR_NO_MEMORY:
        return ENOMEM;
    case ERR_BUSY:
    case ERR_CONFLICT:
    case ERR_STALE:
        return EAGAIN;
    case ERR_NOT_FOUND:
        return ENOENT;
    case ERR_EXISTS:
        return EEXIST;
    default:
        return EIO;
    }
}

bool err_is_retryable(enum err err)
{
    switch (err) {
    case ERR_BUSY:
    case ERR_CONFLICT:
    case ERR_STALE:
    case ERR_OLD_TERM:
    case ERR_SCHEMA_CHANGED:
    case ERR_LINK_LOST:
        return true;
    default:
        return false;
    }
}

/* The ERR_E… numbers are 1000 + the errno of this platform, which must therefore be Linux's. */
_Static_assert(ERR_EPERM == ERR_POSIX_BASE + EPERM, "errno numbers");
_Static_assert(ERR_ENOENT == ERR_POSIX_BASE + ENOENT, "errno numbers");
_Static_assert(ERR_EIO == ERR_POSIX_BASE + EIO, "errno numbers");
_Static_assert(ERR_ENXIO == ERR_POSIX_BASE + ENXIO, "errno numbers");
_Static_assert(ERR_EBADF == ERR_POSIX_BASE + EBADF, "errno numbers");
_Static_assert(ERR_EAGAIN == ERR_POSIX_BASE + EAGAIN, "errno numbers");
_Static_assert(ERR_EACCES == ERR_POSIX_BASE + EACCES, "errno numbers");
_Static_assert(ERR_EBUSY == ERR_POSIX_BASE + EBUSY, "errno numbers");
_Static_assert(ERR_EEXIST == ERR_POSIX_BASE + EEXIST, "errno numbers");
_Static_assert(ERR_EXDEV == ERR_POSIX_BASE + EXDEV, "errno numbers");
_Static_assert(ERR_ENOTDIR == ERR_POSIX_BASE + ENOTDIR, "errno numbers");
_Static_assert(ERR_EISDIR == ERR_POSIX_BASE + EISDIR, "errno numbers");
_Static_assert(ERR_EINVAL == ERR_POSIX_BASE + EINVAL, "errno numbers");
_Static_assert(ERR_ETXTBSY == ERR_POSIX_BASE + ETXTBSY, "errno numbers");
_Static_assert(ERR_EFBIG == ERR_POSIX_BASE + EFBIG, "errno numbers");
_Static_assert(ERR_ENOSPC == ERR_POSIX_BASE + ENOSPC, "errno numbers");
_Static_assert(ERR_EROFS == ERR_POSIX_BASE + EROFS, "errno numbers");
_Static_assert(ERR_EMLINK == ERR_POSIX_BASE + EMLINK, "errno numbers");
_Static_assert(ERR_ERANGE == ERR_POSIX_BASE + ERANGE, "errno numbers");
_Static_assert(ERR_ENAMETOOLONG == ERR_POSIX_BASE + ENAMETOOLONG, "errno numbers");
_Static_assert(ERR_ENOTEMPTY == ERR_POSIX_BASE + ENOTEMPTY, "errno numbers");
_Static_assert(ERR_ELOOP == ERR_POSIX_BASE + ELOOP, "errno numbers");
_Static_assert(ERR_ENODATA == ERR_POSIX_BASE + ENODATA, "errno numbers");
_Static_assert(ERR_EOVERFLOW == ERR_POSIX_BASE + EOVERFLOW, "errno numbers");
_Static_assert(ERR_EOPNOTSUPP == ERR_POSIX_BASE + EOPNOTSUPP, "errno numbers");
_Static_assert(ERR_ESTALE == ERR_POSIX_BASE + ESTALE, "errno numbers");
_Static_assert(ERR_EDQUOT == ERR_POSIX_BASE + EDQUOT, "errno numbers");
