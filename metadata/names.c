/* Names: what is one, and its hash.
 *
 * A directory's entries are ordered by (hash, name). The hash is keyed (SipHash with the store's
 * key), so nobody who does not know the key can choose names that collide. Its 59 upper bits are
 * the name's; the 4 low ones are zero and belong to directory cookies (dir.c), where they tell
 * apart the names that share a hash: in a directory of a million names two share one with a chance
 * of about one in a million. It stays below 2^63, since a cookie is a signed offset to the kernel,
 * and above the cookies of "." and "..". */
#include "metadata/client.h"

#include <string.h>

#include "base/hash.h"

static uint64_t name_hash(const struct fs *fs, const char *bytes, uint32_t size)
{
    uint64_t hash = hash_keyed(bytes, size, fs->name_key) & fs->name_hash_mask;
    hash = (hash >> (NAME_RANK_BITS + 1)) << NAME_RANK_BITS;
    return hash ? hash : 1 << NAME_RANK_BITS;
}

static enum err name_measure(const struct fs *fs, const char *bytes, struct name *ret_name)
{
    size_t size = strnlen(bytes, FS_NAME_SIZE_MAX + 1);
    if (size == 0) return ERR_ENOENT;
    if (size > FS_NAME_SIZE_MAX) return ERR_ENAMETOOLONG;
    *ret_name = (struct name){
        .bytes = bytes, .size = (uint32_t)size, .hash = name_hash(fs, bytes, (uint32_t)size)};
    return ERR_NONE;
}

static bool name_is_dots(const struct name *name)
{
    return name->bytes[0] == '.' && (name->size == 1 || (name->size == 2 && name->bytes[1] == '.'));
}

enum err name_check(const struct fs *fs, const char *bytes, struct name *ret_name)
{
    struct name name;
    enum err err = name_measure(fs, bytes, &name);
    if (err) return err;
    if (memchr(name.bytes, '/', name.size)) return ERR_ENOENT;
    *ret_name = name;
    return ERR_NONE;
}

enum err name_check_new(const struct fs *fs, const char *bytes, enum err on_dots,
                        struct name *ret_name)
{
    struct name name;
    enum err err = name_measure(fs, bytes, &name);
    if (err) return err;
    if (name_is_dots(&name)) return on_dots;
    if (memchr(name.bytes, '/', name.size)) return ERR_EINVAL;
    *ret_name = name;
    return ERR_NONE;
}
