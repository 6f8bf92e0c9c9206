/* Frames on a control socket: see control_wire.h for the layout. */
#include "cli/control_wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { FRAME_HEADER_SIZE = 5 };

static enum err send_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0) return errno == EPIPE || errno == ECONNRESET ? ERR_CLOSED : ERR_IO;
        bytes += sent;
        size -= (size_t)sent;
    }
    return ERR_NONE;
}

enum err control_send(int fd, enum control_frame type, const void *bytes, size_t size)
{
    const uint8_t *next = bytes;
    /* An output longer than a frame goes in several; the others are never that long. */
    do {
        uint32_t part = size < CONTROL_FRAME_SIZE_MAX ? (uint32_t)size : CONTROL_FRAME_SIZE_MAX;
        uint8_t header[FRAME_HEADER_SIZE] = {(uint8_t)type};
        memcpy(header + 1, &part, sizeof(part));
        enum err err = send_all(fd, header, sizeof(header));
        if (!err) err = send_all(fd, next, part);
        if (err) return err;
        next += part;
        size -= part;
    } while (size);
    return ERR_NONE;
}

static enum err receive_all(int fd, uint8_t *bytes, size_t size)
{
    while (size) {
        ssize_t got = recv(fd, bytes, size, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return errno == ECONNRESET ? ERR_CLOSED : errno == EAGAIN ? ERR_TIMEOUT : ERR_IO;
        if (got == 0) return ERR_CLOSED;
        bytes += got;
        size -= (size_t)got;
    }
    return ERR_NONE;
}

enum err control_receive(int fd, uint8_t *ret_type, char **ret_bytes, size_t *ret_size)
{
    uint8_t header[FRAME_HEADER_SIZE];
    enum err err = receive_all(fd, header, sizeof(header));
    if (err) return err;
    uint32_t size;
    memcpy(&size, header + 1, sizeof(size));
    if (header[0] < CONTROL_REQUEST || header[0] > CONTROL_END || size > CONTROL_FRAME_SIZE_MAX)
        return ERR_BAD_SIGNAL;
    char *bytes = malloc((size_t)size + 1);
    if (!bytes) return ERR_NO_MEMORY;
    err = receive_all(fd, (uint8_t *)bytes, size);
    if (err) {
        free(bytes);
        return err;
    }
    bytes[size] = 0;
    *ret_type = header[0];
    *ret_bytes = bytes;
    *ret_size = size;
    return ERR_NONE;
}
