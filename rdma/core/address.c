/* Addresses as text: parsed strictly, and formatted so that parsing gives the same again. */
#include "rdma/address.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

static const char *const kind_names[LINK_KINDS] = {
    [LINK_TCP] = "tcp", [LINK_SHM] = "shm", [LINK_VERBS] = "verbs", [LINK_SIM] = "sim"};

const char *link_kind_name(enum link_kind kind)
{
    ASSERT((unsigned)kind < LINK_KINDS);
    return kind_names[kind];
}

/* A decimal number of digits only, at most `max`. */
static bool number_parse(const char *text, uint64_t max, uint64_t *ret_value)
{
    if (!*text) return false;
    uint64_t value = 0;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max) return false;
    }
    *ret_value = value;
    return true;
}

/* Letters that names and addresses are made of; in brackets also colons and a zone's percent. */
static bool host_is_sound(const char *host, size_t size, bool bracketed)
{
    for (size_t i = 0; i < size; i++) {
        char c = host[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '.' || c == '-' || c == '_';
        if (!plain && !(bracketed && (c == ':' || c == '%'))) return false;
    }
    return true;
}

static enum err host_port_parse(const char *text, const char *rest, struct port_address *address,
                                struct diag *diag)
{
    bool bracketed = *rest == '[';
    const char *host = bracketed ? rest + 1 : rest;
    const char *end = bracketed ? strchr(host, ']') : strchr(host, ':');
    if (!end)
        return diag_set(diag, ERR_INVALID, "'%s': expected HOST:PORT after '%.*s'", text,
                        (int)(rest - text), text);
    const char *colon = bracketed ? end + 1 : end;
    size_t size = (size_t)(end - host);
    if (!size || *colon != ':')
        return diag_set(diag, ERR_INVALID, "'%s': expected HOST:PORT after '%.*s'", text,
                        (int)(rest - text), text);
    if (size > PORT_HOST_SIZE_MAX)
        return diag_set(diag, ERR_INVALID, "'%s': a host name has at most %d characters", text,
                        PORT_HOST_SIZE_MAX);
    if (!host_is_sound(host, size, bracketed))
        return diag_set(diag, ERR_INVALID,
                        "'%s': '%.*s' is no host name or address (IPv6 addresses go in brackets)",
                        text, (int)size, host);
    uint64_t port;
    if (!number_parse(colon + 1, UINT16_MAX, &port))
        return diag_set(diag, ERR_INVALID, "'%s': '%s' is no port (0 to 65535)", text, colon + 1);
    memcpy(address->host, host, size);
    address->host[size] = '\0';
    address->port = (uint16_t)port;
    return ERR_NONE;
}

enum err port_address_parse(const char *text, struct port_address *ret_address, struct diag *diag)
{
    struct port_address address = {0};
    const char *colon = strchr(text, ':');
    const char *rest = colon ? colon + 1 : text;
    size_t size = colon ? (size_t)(colon - text) : 0;
    unsigned kind;
    for (kind = 0; kind < LINK_KINDS; kind++)
        if (size == strlen(kind_names[kind]) && !memcmp(text, kind_names[kind], size)) break;
    if (kind == LINK_KINDS && size == 3 && !memcmp(text, "tls", 3)) {
        address.tls = true;
        kind = LINK_TCP;
    }
    if (kind == LINK_KINDS)
        return diag_set(diag, ERR_INVALID,
                        "'%s' is no address: expected tcp:HOST:PORT, tls:HOST:PORT, "
                        "verbs:HOST:PORT or shm:PATH",
                        text);
    address.kind = (enum link_kind)kind;
    uint64_t number;
    switch (address.kind) {
    case LINK_TCP:
    case LINK_VERBS: {
        enum err err = host_port_parse(text, rest, &address, diag);
        if (err) return err;
        break;
    }
    case LINK_SHM:
        size = strlen(rest);
        if (!size) return diag_set(diag, ERR_INVALID, "'%s': expected a path after 'shm:'", text);
        if (size > PORT_PATH_SIZE_MAX)
            return diag_set(diag, ERR_INVALID, "shm: the path is longer than %d bytes",
                            PORT_PATH_SIZE_MAX);
        memcpy(address.path, rest, size + 1);
        break;
    case LINK_SIM:
        if (!number_parse(rest, UINT32_MAX, &number))
            return diag_set(diag, ERR_INVALID, "'%s': expected a number after 'sim:'", text);
        address.sim = (uint32_t)number;
        break;
    case LINK_KINDS:
        ASSERT(false);
    }
    *ret_address = address;
    return ERR_NONE;
}

void port_address_format(const struct port_address *address, char text[PORT_ADDRESS_TEXT_SIZE])
{
    const char *name = address->tls ? "tls" : link_kind_name(address->kind);
    switch (address->kind) {
    case LINK_TCP:
    case LINK_VERBS:
        if (strchr(address->host, ':'))
            snprintf(text, PORT_ADDRESS_TEXT_SIZE, "%s:[%s]:%u", name, address->host,
                     address->port);
        else
            snprintf(text, PORT_ADDRESS_TEXT_SIZE, "%s:%s:%u", name, address->host, address->port);
        break;
    case LINK_SHM:
        snprintf(text, PORT_ADDRESS_TEXT_SIZE, "%s:%s", name, address->path);
        break;
    case LINK_SIM:
        snprintf(text, PORT_ADDRESS_TEXT_SIZE, "%s:%u", name, address->sim);
        break;
    case LINK_KINDS:
        ASSERT(false);
    }
}
