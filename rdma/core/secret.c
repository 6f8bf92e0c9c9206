/* The cluster's secret on disk: 64 hexadecimal digits, in a file that only its owner may read. A
 * new one is written beside, synced, and put in place by link(2), so that of two processes that
 * make it at once one wins and both read the same. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "rdma/port.h"

enum { HEX_SIZE = 2 * PORT_SECRET_SIZE, PATH_SIZE_MAX = 4096 };

static enum err secret_check_owner(int fd, const char *path, struct diag *diag)
{
    struct stat stat;
    if (fstat(fd, &stat)) return diag_set(diag, ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(stat.st_mode)) return diag_set(diag, ERR_INVALID, "%s is no regular file", path);
    if (stat.st_mode & 077)
        return diag_set(diag, ERR_DENIED,
                        "%s: others may read the secret; run: chmod 600 %s, and make a new one if "
                        "they have",
                        path, path);
    if (stat.st_uid != geteuid() && stat.st_uid != 0)
        return diag_set(diag, ERR_DENIED, "%s belongs to another user: its owner knows the secret",
                        path);
    return ERR_NONE;
}

static bool hex_decode(const char *text, uint8_t secret[PORT_SECRET_SIZE])
{
    size_t size;
    const char *end;
    return sodium_hex2bin(secret, PORT_SECRET_SIZE, text, HEX_SIZE, NULL, &size, &end) == 0 &&
           size == PORT_SECRET_SIZE && end == text + HEX_SIZE;
}

enum err port_secret_read(const char *path, uint8_t secret[PORT_SECRET_SIZE], struct diag *diag)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return diag_set(diag, err_from_errno(errno), "secret file %s: %s", path, strerror(errno));
    enum err err = secret_check_owner(fd, path, diag);
    if (err) {
        close(fd);
        return err;
    }
    char text[HEX_SIZE + 2];
    ssize_t size;
    do {
        size = read(fd, text, sizeof(text));
    } while (size < 0 && errno == EINTR);
    int number = errno;
    close(fd);
    uint8_t bytes[PORT_SECRET_SIZE];
    bool whole = size == HEX_SIZE || (size == HEX_SIZE + 1 && text[HEX_SIZE] == '\n');
    if (size < 0)
        err = diag_set(diag, ERR_IO, "secret file %s: %s", path, strerror(number));
    else if (!whole || !hex_decode(text, bytes))
        err = diag_set(diag, ERR_INVALID,
                       "secret file %s: expected %d hexadecimal digits and nothing else", path,
                       HEX_SIZE);
    else
        memcpy(secret, bytes, sizeof(bytes));
    sodium_memzero(bytes, sizeof(bytes));
    sodium_memzero(text, sizeof(text));
    return err;
}

static enum err text_write(int fd, const char *text, size_t size)
{
    while (size) {
        ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return err_from_errno(errno);
        text += written;
        size -= (size_t)written;
    }
    return fsync(fd) ? err_from_errno(errno) : ERR_NONE;
}

static enum err folder_sync(const char *path)
{
    char copy[PATH_SIZE_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_from_errno(errno);
    enum err err = fsync(fd) ? err_from_errno(errno) : ERR_NONE;
    close(fd);
    return err;
}

/* Puts a fresh secret at the path, unless something is there already. */
static enum err secret_place(const char *path, struct diag *diag)
{
    char beside[PATH_SIZE_MAX];
    uint8_t secret[PORT_SECRET_SIZE];
    char text[HEX_SIZE + 2];
    uint32_t salt;
    randombytes_buf(&salt, sizeof(salt));
    int size = snprintf(beside, sizeof(beside), "%s.new-%08x", path, salt);
    if (size < 0 || (size_t)size >= sizeof(beside))
        return diag_set(diag, ERR_INVALID, "the path of the secret file is too long");
    int fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return diag_set(diag, err_from_errno(errno), "secret file %s: %s", beside, strerror(errno));
    randombytes_buf(secret, sizeof(secret));
    sodium_bin2hex(text, sizeof(text), secret, sizeof(secret));
    text[HEX_SIZE] = '\n';
    enum err err = text_write(fd, text, HEX_SIZE + 1);
    sodium_memzero(secret, sizeof(secret));
    sodium_memzero(text, sizeof(text));
    close(fd);
    if (!err && link(beside, path) && errno != EEXIST) err = err_from_errno(errno);
    if (err) diag_set(diag, err, "secret file %s: %s", path, err_text(err));
    unlink(beside);
    if (err) return err;
    err = folder_sync(path);
    return err ? diag_set(diag, err, "the folder of %s: %s", path, err_text(err)) : ERR_NONE;
}

enum err port_secret_make(const char *path, uint8_t secret[PORT_SECRET_SIZE], struct diag *diag)
{
    if (sodium_init() < 0) return diag_set(diag, ERR_IO, "libsodium found no source of randomness");
    if (access(path, F_OK) && errno == ENOENT) {
        enum err err = secret_place(path, diag);
        if (err) return err;
    }
    return port_secret_read(path, secret, diag);
}
