/* The byte stream of a socket: batches out of what arrives, and out into it.
 *
 * The size in a batch's header frames the stream. It is checked as soon as it is there, against
 * the back end's limit and against what the core expects of this peer, before any memory is taken
 * for the batch; all other checks are the core's. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "base/check.h"
#include "rdma/tcp/tcp_private.h"
#include "rdma/tcp/tls.h"

enum { SEND_PIECES_MAX = 16 };

/* ---- out ---- */

void tcp_wire_append(struct tcp_link *tcp_link, struct tcp_buffer *buffer)
{
    *tcp_link->wire_tail = buffer;
    tcp_link->wire_tail = &buffer->next;
    tcp_link->wire_count++;
}

static void wire_sent(struct tcp_link *tcp_link, size_t size)
{
    while (tcp_link->wire) {
        struct tcp_buffer *buffer = tcp_link->wire;
        size_t left = buffer->size - buffer->sent;
        if (size < left) {
            buffer->sent += (uint32_t)size;
            return;
        }
        size -= left;
        tcp_link->wire = buffer->next;
        tcp_link->wire_count--;
        tcp_buffer_give(tcp_link->tcp, buffer);
    }
    tcp_link->wire_tail = &tcp_link->wire;
}

static ssize_t wire_send(struct tcp_link *tcp_link, size_t *ret_wanted)
{
    struct tcp_buffer *first = tcp_link->wire;
    if (!first->next) {
        *ret_wanted = first->size - first->sent;
        return send(tcp_link->fd, first->bytes + first->sent, *ret_wanted, MSG_NOSIGNAL);
    }
    struct iovec pieces[SEND_PIECES_MAX];
    struct msghdr message = {.msg_iov = pieces};
    size_t wanted = 0;
    for (struct tcp_buffer *buffer = first; buffer && message.msg_iovlen < SEND_PIECES_MAX;
         buffer = buffer->next) {
        struct iovec *piece = &pieces[message.msg_iovlen++];
        *piece = (struct iovec){buffer->bytes + buffer->sent, buffer->size - buffer->sent};
        wanted += piece->iov_len;
    }
    *ret_wanted = wanted;
    return sendmsg(tcp_link->fd, &message, MSG_NOSIGNAL);
}

void tcp_send(struct tcp_link *tcp_link)
{
    while (tcp_link->wire && !tcp_link->send_errno) {
        size_t wanted;
        ssize_t sent = wire_send(tcp_link, &wanted);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno != EAGAIN) {
            /* Whatever the peer said before it went is still to be read: the receiving side finds
             * the end, which this makes sure is there. */
            tcp_link->send_errno = errno;
            shutdown(tcp_link->fd, SHUT_RDWR);
            break;
        }
        if (sent > 0) wire_sent(tcp_link, (size_t)sent);
        if (sent < 0 || (size_t)sent < wanted) {
            tcp_want(tcp_link, EPOLLIN | EPOLLOUT);
            return;
        }
    }
    tcp_want(tcp_link, EPOLLIN);
}

/* ---- in ---- */

static bool batch_size_is_sound(const struct tcp_link *tcp_link, uint32_t size)
{
    return size >= BATCH_HEADER_SIZE && size % 8 == 0 && size <= TCP_BATCH_SIZE_MAX &&
           size <= core_batch_size_max(tcp_link->link);
}

/* These return false when the link is gone, or has to wait for nothing more. */

static bool batch_give(struct tcp_link *tcp_link, const uint8_t *bytes, uint32_t size)
{
    struct tcp *tcp = tcp_link->tcp;
    core_batch(tcp_link->link, bytes, size);
    return tcp->serving == tcp_link;
}

static bool size_refuse(struct tcp_link *tcp_link)
{
    core_lost(tcp_link->link, ERR_BAD_FRAME, "a malformed frame: its size cannot be right");
    return false;
}

/* Where the batch that came in part is kept. */
static uint8_t *part_bytes(struct tcp_link *tcp_link)
{
    return tcp_link->large ? tcp_link->large->bytes : tcp_link->small;
}

/* The header of the batch in part is there: how much is needed, and room for it. */
static bool part_begin(struct tcp_link *tcp_link)
{
    uint32_t size = batch_size_peek(tcp_link->small);
    if (!batch_size_is_sound(tcp_link, size)) return size_refuse(tcp_link);
    tcp_link->need = size;
    if (size <= sizeof(tcp_link->small)) return true;
    tcp_link->large = tcp_buffer_take(tcp_link->tcp);
    if (!tcp_link->large) {
        core_lost(tcp_link->link, ERR_NO_MEMORY, "no memory for a batch of %u bytes", size);
        return false;
    }
    memcpy(tcp_link->large->bytes, tcp_link->small, tcp_link->have);
    return true;
}

/* Hands the batch in part on when it is whole. */
static bool part_end(struct tcp_link *tcp_link)
{
    if (!tcp_link->need || tcp_link->have < tcp_link->need) return true;
    uint32_t size = tcp_link->need;
    struct tcp_buffer *large = tcp_link->large;
    tcp_link->have = tcp_link->need = 0;
    /* Closing the link meanwhile must not free the bytes under the core. */
    tcp_link->large = NULL;
    struct tcp *tcp = tcp_link->tcp;
    uint8_t small[HANDSHAKE_BATCH_SIZE_MAX] __attribute__((aligned(8)));
    if (!large) memcpy(small, tcp_link->small, size);
    bool alive = batch_give(tcp_link, large ? large->bytes : small, size);
    tcp_buffer_give(tcp, large);
    return alive;
}

static bool part_add(struct tcp_link *tcp_link, const uint8_t **bytes, size_t *size)
{
    uint32_t upto = tcp_link->need ? tcp_link->need : BATCH_HEADER_SIZE;
    size_t part = upto - tcp_link->have;
    if (part > *size) part = *size;
    memcpy(part_bytes(tcp_link) + tcp_link->have, *bytes, part);
    tcp_link->have += (uint32_t)part;
    *bytes += part;
    *size -= part;
    if (tcp_link->have < upto) return true;
    if (!tcp_link->need && !part_begin(tcp_link)) return false;
    return part_end(tcp_link);
}

bool tcp_take(struct tcp_link *tcp_link, const uint8_t *bytes, size_t size)
{
    while (size) {
        if (tcp_link->have || size < BATCH_HEADER_SIZE) {
            if (!part_add(tcp_link, &bytes, &size)) return false;
            continue;
        }
        uint32_t whole = batch_size_peek(bytes);
        if (!batch_size_is_sound(tcp_link, whole)) return size_refuse(tcp_link);
        if (whole > size) {
            if (!part_add(tcp_link, &bytes, &size)) return false;
            continue;
        }
        if (!batch_give(tcp_link, bytes, whole)) return false;
        bytes += whole;
        size -= whole;
    }
    return true;
}

static void receive_over(struct tcp_link *tcp_link, ssize_t size)
{
    int number = size < 0 ? errno : tcp_link->send_errno;
    if (size < 0 && (number == EAGAIN || number == EINTR)) return;
    if (!number || number == EPIPE || number == ECONNRESET)
        core_lost(tcp_link->link, ERR_CLOSED, "the peer closed the connection");
    else
        core_lost(tcp_link->link, err_from_errno(number), "%s", strerror(number));
}

void tcp_receive(struct tcp_link *tcp_link)
{
    struct tcp *tcp = tcp_link->tcp;
    if (!tcp_link->need || tcp_link->tls) {
        ssize_t size = recv(tcp_link->fd, tcp->receive, TCP_RECEIVE_SIZE, 0);
        if (size <= 0)
            receive_over(tcp_link, size);
        else if (tcp_link->tls)
            tls_receive(tcp_link, (size_t)size);
        else
            (void)tcp_take(tcp_link, tcp->receive, (size_t)size);
        return;
    }
    /* The rest of a batch goes where its start is; what follows to the common area. */
    size_t rest = tcp_link->need - tcp_link->have;
    struct iovec pieces[2] = {{part_bytes(tcp_link) + tcp_link->have, rest},
                              {tcp->receive, TCP_RECEIVE_SIZE}};
    ssize_t size = readv(tcp_link->fd, pieces, 2);
    if (size <= 0) {
        receive_over(tcp_link, size);
        return;
    }
    size_t part = (size_t)size < rest ? (size_t)size : rest;
    tcp_link->have += (uint32_t)part;
    if (part_end(tcp_link)) (void)tcp_take(tcp_link, tcp->receive, (size_t)size - part);
}
