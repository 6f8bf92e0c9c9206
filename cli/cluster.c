/* Addresses and secrets of databases in other processes. */
#include "cli/cluster.h"

#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool has_kind(const char *text)
{
    static const char *const kinds[] = {"tcp:", "tls:", "shm:", "verbs:", "sim:"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
        if (strncmp(text, kinds[i], strlen(kinds[i])) == 0) return true;
    return false;
}

enum err cluster_address_parse(const char *text, const char *transport,
                               struct port_address *ret_address, struct diag *diag)
{
    if (!transport) transport = "tcp";
    char full[PORT_ADDRESS_TEXT_SIZE];
    bool whole = has_kind(text);
    int size = whole ? snprintf(full, sizeof(full), "%s", text)
                     : snprintf(full, sizeof(full), "%s:%s", transport, text);
    if (size < 0 || (size_t)size >= sizeof(full))
        return diag_set(diag, ERR_INVALID, "an address is longer than %d bytes",
                        PORT_ADDRESS_TEXT_SIZE - 1);
    struct port_address address;
    enum err err = port_address_parse(full, &address, diag);
    if (err) return err;
    if (address.kind == LINK_SIM)
        return diag_set(diag, ERR_INVALID, "'%s': simulated networks are for tests", text);
    *ret_address = address;
    return ERR_NONE;
}

enum err cluster_parse(const char *text, const char *transport, struct cluster *ret_cluster,
                       struct diag *diag)
{
    ret_cluster->count = 0;
    for (const char *at = text;; at++) {
        size_t size = strcspn(at, ",");
        char one[PORT_ADDRESS_TEXT_SIZE];
        if (size == 0) return diag_set(diag, ERR_INVALID, "'%s': an address is missing", text);
        if (size >= sizeof(one))
            return diag_set(diag, ERR_INVALID, "an address is longer than %zu bytes",
                            sizeof(one) - 1);
        if (ret_cluster->count == CLUSTER_ADDRESSES_MAX)
            return diag_set(diag, ERR_INVALID, "more than %d addresses", CLUSTER_ADDRESSES_MAX);
        memcpy(one, at, size);
        one[size] = 0;
        struct port_address *address = &ret_cluster->addresses[ret_cluster->count];
        enum err err = cluster_address_parse(one, transport, address, diag);
        if (err) return err;
        if (address->kind != LINK_SHM && address->port == 0)
            return diag_set(diag, ERR_INVALID, "'%s': port 0 is only for listening", one);
        ret_cluster->count++;
        at += size;
        if (!*at) return ERR_NONE;
    }
}

enum err cluster_connect(const struct cluster *cluster, const char *secret_path,
                         uint16_t loop_count, uint32_t timeout_ms, struct db **ret_db,
                         struct diag *diag)
{
    struct db_connect_config config = {.addresses = cluster->addresses,
                                       .address_count = cluster->count,
                                       .loop_count = loop_count,
                                       .timeout_ms = timeout_ms};
    enum err err = port_secret_read(secret_path, config.secret, diag);
    if (!err) err = db_connect(&config, ret_db, diag);
    sodium_memzero(config.secret, sizeof(config.secret));
    return err;
}

char *cluster_where(const struct cluster *cluster, const char *secret_path)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < cluster->count; i++) {
        char text[PORT_ADDRESS_TEXT_SIZE];
        port_address_format(&cluster->addresses[i], text);
        if (json_array_append_new(list, json_string(text))) {
            json_decref(list);
            return NULL;
        }
    }
    json_t *where = json_pack("{s:o, s:s?}", "addresses", list, "secret", secret_path);
    char *text = where ? json_dumps(where, JSON_COMPACT) : NULL;
    json_decref(where);
    return text;
}

enum err cluster_from_where(const char *where, struct cluster *ret_cluster, char **ret_secret_path,
                            struct diag *diag)
{
    json_t *json = json_loads(where, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(json, "addresses");
    const char *secret = json_string_value(json_object_get(json, "secret"));
    enum err err = ERR_NONE;
    if (!json_is_array(list) || json_array_size(list) > CLUSTER_ADDRESSES_MAX)
        err = diag_set(diag, ERR_BAD_SIGNAL, "malformed answer from the serving process");
    else if (json_array_size(list) == 0 || !secret)
        err = diag_set(diag, ERR_NOT_FOUND,
                       "the process that serves the store takes no connections; its log says why");
    ret_cluster->count = 0;
    size_t index;
    json_t *text;
    json_array_foreach(list, index, text)
    {
        if (err) break;
        err = json_is_string(text)
                  ? port_address_parse(json_string_value(text),
                                       &ret_cluster->addresses[ret_cluster->count++], diag)
                  : diag_set(diag, ERR_BAD_SIGNAL, "malformed answer from the serving process");
    }
    char *path = err ? NULL : strdup(secret);
    if (!err && !path) err = diag_set(diag, ERR_NO_MEMORY, "no memory");
    json_decref(json);
    if (!err) *ret_secret_path = path;
    return err;
}
