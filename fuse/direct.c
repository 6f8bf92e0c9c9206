/* LOOKUP and GETATTR, which are most of what a kernel asks, answered without the way through
 * libfuse: no request object, no list of buffers, one write. What is answered is what op_lookup and
 * op_getattr would (ops_name.c, ops_attr.c), which serve a kernel that speaks another version.
 *
 * Only requests that are answered before the next one is read come here, so an INTERRUPT never
 * finds one under way. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fuse/serve.h"

/* False: the kernel did not take it, since who asked was interrupted. */
static bool reply(const struct server *server, const uint8_t *bytes, size_t size)
{
    if (write(server->watch.fd, bytes, size) >= 0) return true;
    if (errno != ENOENT && errno != ENODEV)
        log_line(LOG_ERROR, "cannot answer a request: %s", strerror(errno));
    return false;
}

static void lookup(const struct server *server, const struct wire_request *request,
                   const char *name)
{
    const struct wire_timeouts *timeouts = &server->mount->timeouts;
    uint8_t bytes[WIRE_REPLY_SIZE_MAX];
    struct fs_attr attr;
    enum err err = fs_lookup(server->fs, request->node, name, &attr);
    size_t size;
    if (!err)
        size = wire_put_entry(bytes, request->unique, &attr, timeouts);
    else if (err == ERR_ENOENT && server->mount->settings.negative_timeout_s > 0)
        size = wire_put_no_entry(bytes, request->unique, timeouts);
    else
        size = wire_put_error(bytes, request->unique, err_to_errno(err));
    if (!reply(server, bytes, size) && !err) fs_forget(server->fs, attr.ino, 1);
}

static void getattr(const struct server *server, const struct wire_request *request)
{
    uint8_t bytes[WIRE_REPLY_SIZE_MAX];
    struct fs_attr attr;
    enum err err = fs_getattr(server->fs, request->node, &attr);
    size_t size = err ? wire_put_error(bytes, request->unique, err_to_errno(err))
                      : wire_put_attr(bytes, request->unique, &attr, &server->mount->timeouts);
    (void)reply(server, bytes, size);
}

bool serve_direct(const struct server *server, const uint8_t *bytes, size_t size)
{
    struct wire_request request;
    if (!wire_request_parse(bytes, size, &request)) return false;
    if (wire_is_getattr(request.opcode)) {
        getattr(server, &request);
        return true;
    }
    if (!wire_is_lookup(request.opcode)) return false;
    const char *name = wire_request_name(&request);
    if (!name) return false;
    lookup(server, &request, name);
    return true;
}
