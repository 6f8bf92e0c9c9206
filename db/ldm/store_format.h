/* Private to the durability files of db/ldm: what the files of a store have in common, that is the
 * frame that every one begins with, their names, whole-file reading and replacing, and how damage
 * is named.
 *
 * All functions block (they make file calls) but for the codecs. */
#ifndef DB_LDM_STORE_FORMAT_H
#define DB_LDM_STORE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/diag.h"
#include "db/ldm/redo.h"
#include "db/node/env.h"

enum {
    STORE_ID_SIZE = 16,
    STORE_PATH_SIZE = 64,           /* of every path of the store, with its NUL */
    STORE_FRAME_SIZE = 48,          /* of the head of a frame */
    STORE_BODY_SIZE_MAX = 64 << 20, /* of a frame's body */
};

/* A frame: magic[8], u32 version, u32 body size, store id[16], u64 checksum of the body, u64
 * checksum of the 40 bytes before; then the body. The head has this form in every version of every
 * file, so that a newer version is told from damage. */
enum store_kind {
    STORE_SUPERBLOCK,
    STORE_CATALOG,
    STORE_HISTORY,
    STORE_SEGMENT,
    STORE_SEGMENT_END,
    STORE_CHECKPOINT,
};

/* Appends a frame. */
void store_frame_put(struct buf *buf, enum store_kind kind, const uint8_t id[STORE_ID_SIZE],
                     const void *body, size_t body_size);
/* Takes a frame off the reader, whose bytes begin at `offset` of the file `path` (for the
 * diagnostic). The body is borrowed from the reader. id: what the store's must be, or NULL.
 * ERR_CORRUPT, ERR_VERSION. */
MUST_USE enum err store_frame_get(struct reader *reader, enum store_kind kind, const uint8_t *id,
                                  const char *path, uint64_t offset, const uint8_t **ret_body,
                                  size_t *ret_size, struct diag *diag);
/* The store id in a frame's head that store_frame_get has accepted. */
const uint8_t *store_frame_id(const uint8_t *frame);
/* The checksum of such a head, which depends on everything in the frame. */
uint64_t store_frame_checksum(const uint8_t *frame);

/* Names the place and the reason: "redo/0.3: offset 512: …". Returns ERR_CORRUPT. */
enum err store_damaged(struct diag *diag, const char *path, uint64_t offset, const char *format,
                       ...) __attribute__((format(printf, 4, 5)));
/* A failed file call: "redo/0.3: no space left". Returns err. */
enum err store_failed(struct diag *diag, enum err err, const char *path);

/* Reads the whole file, at most size_max bytes of it, into the empty buf. ERR_NOT_FOUND,
 * ERR_TOO_BIG, ERR_NO_MEMORY, ERR_IO; sets diag but for ERR_NOT_FOUND. */
MUST_USE enum err store_file_read(struct env *env, const char *path, uint64_t size_max,
                                  struct buf *buf, struct diag *diag);
/* Writes path.tmp, syncs it, renames it to path and syncs the directory `dir`: after a crash either
 * the old or the new content is there, after success the new. On failure the temporary file is
 * removed where possible, and *ret_renamed, which may be NULL, says whether the new content may
 * nevertheless be what a later start finds: the directory could not be synced. */
MUST_USE enum err store_file_replace(struct env *env, const char *dir, const char *path,
                                     const struct buf *bytes, bool *ret_renamed, struct diag *diag);
/* Reads and checks the superblock alone. ERR_INVALID (there is none), ERR_VERSION, ERR_CORRUPT. */
MUST_USE enum err store_read_info(struct env *env, struct store_info *ret_info, struct diag *diag);

/* A file read through a window of memory that moves along it. */
struct store_window {
    struct env *env;
    struct env_file *file;
    const char *path; /* borrowed, for diagnostics */
    uint64_t file_size;
    uint8_t *bytes;
    size_t capacity;
    size_t size;
    uint64_t at;
};
/* Opens the file. ERR_NOT_FOUND (diag is not set), ERR_NO_MEMORY, ERR_IO. To be closed after
 * success. */
MUST_USE enum err store_window_open(struct store_window *window, struct env *env, const char *path,
                                    struct diag *diag);
void store_window_close(struct store_window *window);
/* Gives up to size bytes at offset, borrowed until the next call; fewer only at the end of the
 * file. ERR_NO_MEMORY, ERR_IO. */
MUST_USE enum err store_window_get(struct store_window *window, uint64_t offset, size_t size,
                                   const uint8_t **ret_bytes, size_t *ret_size, struct diag *diag);

/* "redo/W.N", "checkpoint/P.T", "checkpoint/P.T.tmp". */
void store_segment_path(uint16_t worker, uint64_t number, char path[STORE_PATH_SIZE]);
void store_checkpoint_path(uint16_t partition, uint64_t ts, bool temporary,
                           char path[STORE_PATH_SIZE]);
/* "redo/life.W.N": the logs of a life, W of them from segment N on, have been used. */
void store_life_path(uint16_t worker_count, uint64_t life, char path[STORE_PATH_SIZE]);
/* Parses such a name without its directory. */
bool store_life_parse(const char *name, uint16_t *ret_worker_count, uint64_t *ret_life);
/* Parses "A.B" of plain decimal numbers as we write them; false for any other name. */
bool store_name_parse(const char *name, uint16_t *ret_first, uint64_t *ret_second);
bool store_name_is_temporary(const char *name);

/* Lists checkpoint/: the newest timestamp of each partition, 0 where there is none. ERR_CORRUPT for
 * a partition that the store does not have. */
MUST_USE enum err store_list_checkpoints(struct env *env, uint16_t partition_count,
                                         uint64_t ret_ts[PARTITIONS_MAX], struct diag *diag);
/* The smallest: every transaction up to it is in a checkpoint. */
uint64_t store_checkpoints_min(const uint64_t *ts, uint16_t partition_count);

#endif
