/* The one error enumeration of the project. Numbers are part of the wire and disk formats: never
 * renumber, only add. 1..199 are ours; 1000 + n is the Linux errno n, for what a file system
 * decides.
 *
 * Three classes matter to callers: definite (nothing happened), retryable (nothing happened, the
 * same request may succeed later: err_is_retryable()), and ERR_OUTCOME_UNKNOWN (it may have
 * committed), which is never folded into either. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

#define ERR_LIST(X)                                                                                \
    X(ERR_NONE, 0, "success")                                                                      \
    X(ERR_NO_MEMORY, 1, "out of memory")                                                           \
    X(ERR_BUSY, 2, "busy: a pool or queue is full, try again")                                     \
    X(ERR_INVALID, 3, "invalid argument")                                                          \
    X(ERR_NOT_FOUND, 4, "not found")                                                               \
    X(ERR_EXISTS, 5, "already exists")                                                             \
    X(ERR_TOO_BIG, 6, "larger than its limit")                                                     \
    X(ERR_CORRUPT, 7, "damaged data")                                                              \
    X(ERR_VERSION, 8, "made by a newer version of trellis")                                        \
    X(ERR_IO, 9, "input/output error")                                                             \
    X(ERR_NO_SPACE, 10, "no space left")                                                           \
    X(ERR_DENIED, 11, "permission denied")                                                         \
    X(ERR_TIMEOUT, 12, "timed out")                                                                \
    X(ERR_CANCELLED, 13, "cancelled")                                                              \
    X(ERR_END, 14, "end of data")                                                                  \
    X(ERR_IN_USE, 15, "in use by another process")                                                 \
    X(ERR_CLOSED, 16, "closed")                                                                    \
    X(ERR_UNSUPPORTED, 17, "not supported")                                                        \
    X(ERR_BAD_SIGNAL, 30, "malformed signal")                                                      \
    X(ERR_BAD_PROGRAM, 31, "malformed program")                                                    \
    X(ERR_BAD_QUERY, 32, "malformed query tree")                                                   \
    X(ERR_WRONG_PARTITION, 33, "the row belongs to another partition")                             \
    X(ERR_OLD_TERM, 34, "the partition has a newer primary")                                       \
    X(ERR_CONFLICT, 35, "the row is being changed by another transaction, try again")              \
    X(ERR_OUTCOME_UNKNOWN, 36, "the outcome is unknown: it may have committed")                    \
    X(ERR_STALE, 37, "a row read earlier has changed, try again")                                  \
    X(ERR_SCHEMA_CHANGED, 38, "the table definition has changed, try again")                       \
    X(ERR_GUARD, 39, "a guard of the program failed")                                              \
    X(ERR_BAD_FRAME, 45, "malformed frame from a peer")                                            \
    X(ERR_LINK_LOST, 46, "the link to the database was lost, try again")                           \
    X(ERR_SYNTAX, 60, "syntax error")                                                              \
    X(ERR_BIND, 61, "unknown or unsuitable name or type")                                          \
    X(ERR_NOT_PUSHABLE, 62, "cannot run as a parallel pushdown")                                   \
    X(ERR_OUT_OF_RANGE, 63, "value out of range")                                                  \
    X(ERR_QUERY_MEMORY, 64, "the query needs more memory than it may use")                         \
    X(ERR_TABLE_UNKNOWN, 65, "no such table")                                                      \
    X(ERR_NULL_VALUE, 66, "NULL in a NOT NULL column")                                             \
    X(ERR_EPERM, 1001, "operation not permitted")                                                  \
    X(ERR_ENOENT, 1002, "no such file or directory")                                               \
    X(ERR_EIO, 1005, "input/output error")                                                         \
    X(ERR_ENXIO, 1006, "no such device or address")                                                \
    X(ERR_EBADF, 1009, "bad file descriptor")                                                      \
    X(ERR_EAGAIN, 1011, "resource temporarily unavailable")                                        \
    X(ERR_EACCES, 1013, "permission denied")                                                       \
    X(ERR_EBUSY, 1016, "device or resource busy")                                                  \
    X(ERR_EEXIST, 1017, "file exists")                                                             \
    X(ERR_EXDEV, 1018, "invalid cross-device link")                                                \
    X(ERR_ENOTDIR, 1020, "not a directory")                                                        \
    X(ERR_EISDIR, 1021, "is a directory")                                                          \
    X(ERR_EINVAL, 1022, "invalid argument")                                                        \
    X(ERR_ETXTBSY, 1026, "text file busy")                                                         \
    X(ERR_EFBIG, 1027, "file too large")                                                           \
    X(ERR_ENOSPC, 1028, "no space left on device")                                                 \
    X(ERR_EROFS, 1030, "read-only file system")                                                    \
    X(ERR_EMLINK, 1031, "too many links")                                                          \
    X(ERR_ERANGE, 1034, "numerical result out of range")                                           \
    X(ERR_ENAMETOOLONG, 1036, "file name too long")                                                \
    X(ERR_ENOTEMPTY, 1039, "directory not empty")                                                  \
    X(ERR_ELOOP, 1040, "too many levels of symbolic links")                                        \
    X(ERR_ENODATA, 1061, "no data available")                                                      \
    X(ERR_EOVERFLOW, 1075, "value too large for defined data type")                                \
    X(ERR_EOPNOTSUPP, 1095, "operation not supported")                                             \
    X(ERR_ESTALE, 1116, "stale file handle")                                                       \
    X(ERR_EDQUOT, 1122, "disk quota exceeded")

#define ERR_ENUM(name, number, text) name = number,
enum err { ERR_LIST(ERR_ENUM) };
#undef ERR_ENUM

enum { ERR_POSIX_BASE = 1000 };

/* Put before every function that returns enum err: `MUST_USE enum err table_find(…)`. */
#define MUST_USE __attribute__((warn_unused_result))

/* Static text, never NULL; "unknown error" for a number not in the list. */
const char *err_text(enum err err);
/* The symbolic name, such as "ERR_NOT_FOUND"; static, never NULL. */
const char *err_name(enum err err);
/* A positive errno of a failed system call, as one of ours: ENOSPC/EDQUOT -> ERR_NO_SPACE, ENOMEM
 * -> ERR_NO_MEMORY, ENOENT -> ERR_NOT_FOUND, EEXIST -> ERR_EXISTS, EACCES/EPERM -> ERR_DENIED, the
 * rest ERR_IO. For errors that go back to a file-system caller use the ERR_E… values instead. */
enum err err_from_errno_cold(int number);
/* Inline only so that the compiler sees that a failed call never becomes success. */
static inline enum err err_from_errno(int number)
{
    enum err err = err_from_errno_cold(number);
    return err ? err : ERR_IO;
}
/* What a file-system caller gets: ERR_Exxx -> xxx; ERR_NONE -> 0; ours -> the closest errno
 * (ERR_NO_SPACE -> ENOSPC, ERR_NO_MEMORY -> ENOMEM, ERR_BUSY/CONFLICT/STALE -> EAGAIN,
 * ERR_NOT_FOUND -> ENOENT, ERR_EXISTS -> EEXIST, the rest EIO). Positive. */
int err_to_errno(enum err err);
/* Nothing happened and the same request may succeed later: ERR_BUSY, ERR_CONFLICT, ERR_STALE,
 * ERR_OLD_TERM, ERR_SCHEMA_CHANGED, ERR_LINK_LOST. */
bool err_is_retryable(enum err err);
/* The number is one of the list: the check for an err read from outside. */
bool err_is_known(unsigned number);

#endif
