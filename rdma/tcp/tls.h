/* TLS 1.3 for the TCP back end; tls.c has the reasoning. Private to rdma/. */
#ifndef RDMA_TCP_TLS_H
#define RDMA_TCP_TLS_H

#include "rdma/tcp/tcp_private.h"

/* The port's; made at the first use. ERR_NO_MEMORY, ERR_IO with OpenSSL's reason. */
MUST_USE enum err tls_context_of(struct tcp *tcp, struct diag *diag);
void tls_context_destroy(struct tls_context *context);
/* For one connection; tls_context_of has succeeded before. NULL: no memory. */
MUST_USE struct tls *tls_create(struct tcp *tcp, bool accepting);
void tls_destroy(struct tls *tls);
/* Starts or goes on with the handshake; sends what it has to say. False: it failed, and the link
 * was given up. */
bool tls_handshake(struct tcp_link *tcp_link);
/* Bytes of the wire are in tcp->receive. */
void tls_receive(struct tcp_link *tcp_link, size_t size);
/* Moves a batch, encrypted, to the wire; the buffer is given back. */
void tls_encrypt(struct tcp_link *tcp_link, struct tcp_buffer *buffer);

#endif
