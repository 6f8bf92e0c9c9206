/* The bytes on a control socket. A request is one frame of JSON; the answer is any number of OUTPUT
 * frames and one END frame of JSON {"err": number, "text": …, "position": …, "caret": …}. A frame:
 * u8 type, u32 size (little-endian), bytes. */
#ifndef CLI_CONTROL_WIRE_H
#define CLI_CONTROL_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum control_frame { CONTROL_REQUEST = 1, CONTROL_OUTPUT = 2, CONTROL_END = 3 };
enum { CONTROL_FRAME_SIZE_MAX = 4 << 20 };
#define CONTROL_SOCKET_NAME "trellis.sock"

/* Blocking; whole frames or ERR_CLOSED / ERR_IO. */
MUST_USE enum err control_send(int fd, enum control_frame type, const void *bytes, size_t size);
/* *ret_bytes is heap memory with a NUL behind it. ERR_CLOSED at a clean end, ERR_BAD_FRAME-like
 * sizes give ERR_BAD_SIGNAL. */
MUST_USE enum err control_receive(int fd, uint8_t *ret_type, char **ret_bytes, size_t *ret_size);

#endif
