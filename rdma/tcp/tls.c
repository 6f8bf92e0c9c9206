/* TLS 1.3 by OpenSSL, with a key that both sides derive from the cluster's secret (an external
 * pre-shared key, RFC 8446 section 2.2) together with an ephemeral key exchange (psk_dhe_ke): there
 * are no certificates to make, and what was recorded stays secret even if the secret leaks later.
 *
 * The core's own handshake runs inside as everywhere; TLS adds secrecy and protection of every
 * batch from change on the way. A connection that was not made by the key is refused on both sides,
 * whatever else the peer offers.
 *
 * OpenSSL works on two memory BIOs, so that the socket is read and written by this back end as
 * without TLS, one recv and one send. */
#include "rdma/tcp/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"

enum { KEY_SIZE = 32 };
static const char IDENTITY[] = "trellis link";
/* The key is bound to the cipher's hash, SHA-256. */
static const char CIPHER[] = "TLS_AES_128_GCM_SHA256";
static const unsigned char CIPHER_ID[2] = {0x13, 0x01};

struct tls_context {
    SSL_CTX *ssl;
    uint8_t key[KEY_SIZE];
    uint8_t *plain; /* TCP_RECEIVE_SIZE: what was decrypted */
};

struct tls {
    SSL *ssl;
    BIO *in, *out; /* of the ssl */
};

/* ---- the key ---- */

static SSL_SESSION *key_session(SSL *ssl)
{
    struct tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, CIPHER_ID);
    SSL_SESSION *session = SSL_SESSION_new();
    if (cipher && session && SSL_SESSION_set1_master_key(session, context->key, KEY_SIZE) &&
        SSL_SESSION_set_cipher(session, cipher) &&
        SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION) &&
        SSL_SESSION_set1_id_context(session, (const unsigned char *)IDENTITY, sizeof(IDENTITY) - 1))
        return session;
    SSL_SESSION_free(session);
    return NULL;
}

static int key_use(SSL *ssl, const EVP_MD *md, const unsigned char **ret_identity, size_t *ret_size,
                   SSL_SESSION **ret_session)
{
    if (md && EVP_MD_get_type(md) != NID_sha256) return 0;
    SSL_SESSION *session = key_session(ssl);
    if (!session) return 0;
    *ret_identity = (const unsigned char *)IDENTITY;
    *ret_size = sizeof(IDENTITY) - 1;
    *ret_session = session;
    return 1;
}

static int key_find(SSL *ssl, const unsigned char *identity, size_t size, SSL_SESSION **ret_session)
{
    *ret_session = NULL;
    if (size == sizeof(IDENTITY) - 1 && !memcmp(identity, IDENTITY, size))
        *ret_session = key_session(ssl);
    return 1; /* without a session there will be no common key, and the handshake fails */
}

/* ---- contexts ---- */

static bool context_setup(struct tls_context *context)
{
    SSL_CTX *ssl = context->ssl;
    if (!SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION)) return false;
    if (!SSL_CTX_set_ciphersuites(ssl, CIPHER)) return false;
    if (!SSL_CTX_set_num_tickets(ssl, 0)) return false;
    SSL_CTX_set_options(ssl, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_quiet_shutdown(ssl, 1);
    /* No certificate of anyone is believed. */
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    if (!SSL_CTX_set_session_id_context(ssl, (const unsigned char *)IDENTITY, sizeof(IDENTITY) - 1))
        return false;
    SSL_CTX_set_app_data(ssl, context);
    SSL_CTX_set_psk_use_session_callback(ssl, key_use);
    SSL_CTX_set_psk_find_session_callback(ssl, key_find);
    return true;
}

static const char *ssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    return reason ? reason : "unknown reason";
}

enum err tls_context_of(struct tcp *tcp, struct diag *diag)
{
    if (tcp->tls) return ERR_NONE;
    struct tls_context *context = calloc(1, sizeof(*context));
    if (!context) return diag_set(diag, ERR_NO_MEMORY, "%s", err_text(ERR_NO_MEMORY));
    secret_derive(port_secret(tcp->head.port), "trellis tls 1 key", context->key);
    context->plain = malloc(TCP_RECEIVE_SIZE);
    ERR_clear_error();
    context->ssl = SSL_CTX_new(TLS_method());
    if (!context->plain || !context->ssl || !context_setup(context)) {
        enum err err = context->plain ? ERR_IO : ERR_NO_MEMORY;
        diag_set(diag, err, "TLS cannot be set up: %s", ssl_reason());
        tls_context_destroy(context);
        return err;
    }
    tcp->tls = context;
    return ERR_NONE;
}

void tls_context_destroy(struct tls_context *context)
{
    if (!context) return;
    SSL_CTX_free(context->ssl);
    sodium_memzero(context->key, sizeof(context->key));
    free(context->plain);
    free(context);
}

struct tls *tls_create(struct tcp *tcp, bool accepting)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (!tls) return NULL;
    tls->ssl = SSL_new(tcp->tls->ssl);
    tls->in = BIO_new(BIO_s_mem());
    tls->out = BIO_new(BIO_s_mem());
    if (!tls->ssl || !tls->in || !tls->out) {
        BIO_free(tls->in);
        BIO_free(tls->out);
        SSL_free(tls->ssl);
        free(tls);
        return NULL;
    }
    /* An empty BIO is no end of file. */
    BIO_set_mem_eof_return(tls->in, -1);
    BIO_set_mem_eof_return(tls->out, -1);
    SSL_set_bio(tls->ssl, tls->in, tls->out);
    if (accepting)
        SSL_set_accept_state(tls->ssl);
    else
        SSL_set_connect_state(tls->ssl);
    return tls;
}

void tls_destroy(struct tls *tls)
{
    if (!tls) return;
    SSL_free(tls->ssl); /* and its BIOs */
    free(tls);
}

/* ---- bytes ---- */

/* Everything that OpenSSL has to say, to the wire. */
static void out_take(struct tcp_link *tcp_link)
{
    BIO *out = tcp_link->tls->out;
    while (BIO_ctrl_pending(out)) {
        struct tcp_buffer *buffer = tcp_buffer_take(tcp_link->tcp);
        if (!buffer) {
            tcp_link->send_errno = ENOMEM;
            shutdown(tcp_link->fd, SHUT_RDWR);
            return;
        }
        int size = BIO_read(out, buffer->bytes, TCP_BATCH_SIZE_MAX);
        ASSERT(size > 0);
        buffer->size = (uint32_t)size;
        tcp_wire_append(tcp_link, buffer);
    }
}

static void tls_lost(struct tcp_link *tcp_link)
{
    if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_WRONG_VERSION_NUMBER)
        core_lost(tcp_link->link, ERR_BAD_FRAME, "TLS: that is no TLS: is it a tcp: address?");
    else if (tcp_link->state == TCP_SECURING)
        core_lost(tcp_link->link, ERR_DENIED,
                  "TLS: the peer does not know this cluster's secret (%s)", ssl_reason());
    else
        core_lost(tcp_link->link, ERR_IO, "TLS: %s", ssl_reason());
}

bool tls_handshake(struct tcp_link *tcp_link)
{
    struct tls *tls = tcp_link->tls;
    ERR_clear_error();
    int done = SSL_do_handshake(tls->ssl);
    int error = SSL_get_error(tls->ssl, done);
    out_take(tcp_link); /* also the alert that says why it failed */
    tcp_send(tcp_link);
    if (done != 1 && error == SSL_ERROR_WANT_READ) return true;
    if (done != 1 || !SSL_session_reused(tls->ssl)) {
        tls_lost(tcp_link);
        return false;
    }
    tcp_link->state = TCP_OPEN;
    if (link_is_accepted(tcp_link->link)) return true;
    struct tcp *tcp = tcp_link->tcp;
    core_connected(tcp_link->link);
    return tcp->serving == tcp_link;
}

void tls_receive(struct tcp_link *tcp_link, size_t size)
{
    struct tcp *tcp = tcp_link->tcp;
    struct tls *tls = tcp_link->tls;
    if (BIO_write(tls->in, tcp->receive, (int)size) != (int)size) {
        core_lost(tcp_link->link, ERR_NO_MEMORY, "no memory for what arrived");
        return;
    }
    if (tcp_link->state == TCP_SECURING && !tls_handshake(tcp_link)) return;
    if (tcp_link->state == TCP_SECURING) return;
    for (;;) {
        ERR_clear_error();
        int got = SSL_read(tls->ssl, tcp->tls->plain, TCP_RECEIVE_SIZE);
        if (got <= 0) {
            int error = SSL_get_error(tls->ssl, got);
            if (error == SSL_ERROR_WANT_READ) break;
            tls_lost(tcp_link);
            return;
        }
        if (!tcp_take(tcp_link, tcp->tls->plain, (size_t)got)) return;
    }
    if (!BIO_ctrl_pending(tls->out)) return;
    out_take(tcp_link); /* an answer to a key update */
    tcp_send(tcp_link);
}

void tls_encrypt(struct tcp_link *tcp_link, struct tcp_buffer *buffer)
{
    struct tls *tls = tcp_link->tls;
    ERR_clear_error();
    int written = SSL_write(tls->ssl, buffer->bytes, (int)buffer->size);
    bool whole = written == (int)buffer->size;
    tcp_buffer_give(tcp_link->tcp, buffer);
    if (!whole) {
        tcp_link->send_errno = ENOMEM;
        shutdown(tcp_link->fd, SHUT_RDWR);
        return;
    }
    out_take(tcp_link);
}
