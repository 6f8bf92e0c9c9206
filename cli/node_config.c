/* The configuration file of a cluster's nodes: JSON, the same file on every machine.
 *
 *   {"secret_file": "/etc/trellis/secret",
 *    "nodes": [{"id": 1, "store": "/srv/trellis",
 *               "listen": ["verbs:10.0.0.1:7400", "tcp:0.0.0.0:7400"],
 *               "workers": 2, "partitions": 8, "memory": "4G", "flush": 50}]}
 *
 * `id` and `store` are required. `memory` is a number of bytes or a text such as "4G"; `flush` is a
 * number of milliseconds or "always". Every key is checked by name and type, for all nodes, so that
 * a mistake is found on the first machine it comes to; relative paths are relative to the directory
 * where trellis is started. */
#include "cli/node_config.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { FILE_SIZE_MAX = 1 << 20, NODES_MAX = 1024 };

struct parsing {
    const char *path;
    struct diag *diag;
};

__attribute__((format(printf, 2, 3))) static enum err wrong(const struct parsing *parsing,
                                                            const char *format, ...)
{
    char text[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return diag_set(parsing->diag, ERR_INVALID, "%s: %s", parsing->path, text);
}

static enum err take_text(const struct parsing *parsing, const char *key, const json_t *value,
                          char **ret_text)
{
    const char *text = json_string_value(value);
    if (!text || !*text || strlen(text) != json_string_length(value))
        return wrong(parsing, "\"%s\" is to be a text", key);
    free(*ret_text);
    *ret_text = strdup(text);
    return *ret_text ? ERR_NONE : diag_set(parsing->diag, ERR_NO_MEMORY, "no memory");
}

/* A number, or where `size` a text such as "4G". */
static enum err take_number(const struct parsing *parsing, const char *key, const json_t *value,
                            uint64_t min, uint64_t max, bool size, uint64_t *ret_number)
{
    uint64_t number = 0;
    bool good = json_is_integer(value) && json_integer_value(value) >= 0;
    if (good) number = (uint64_t)json_integer_value(value);
    if (size && json_is_string(value))
        good = cli_parse_size(json_string_value(value), max, &number);
    if (!good || number < min || number > max)
        return wrong(parsing, "\"%s\" is to be a number from %llu to %llu%s", key,
                     (unsigned long long)min, (unsigned long long)max,
                     size ? ", or a text such as \"4G\"" : "");
    *ret_number = number;
    return ERR_NONE;
}

static enum err take_listen(const struct parsing *parsing, const json_t *value,
                            struct service_config *config)
{
    if (!json_is_array(value)) return wrong(parsing, "\"listen\" is to be a list of addresses");
    if (json_array_size(value) > SERVICE_LISTEN_MAX)
        return wrong(parsing, "\"listen\" has more than %d addresses", SERVICE_LISTEN_MAX);
    for (size_t i = 0; i < json_array_size(value); i++) {
        enum err err = take_text(parsing, "listen", json_array_get(value, i), &config->listen[i]);
        if (err) return err;
        config->listen_count = (unsigned)i + 1;
    }
    return ERR_NONE;
}

static enum err take_flush(const struct parsing *parsing, const json_t *value,
                           struct service_config *config)
{
    const char *text = json_string_value(value);
    if (text) {
        if (strcmp(text, "always"))
            return wrong(parsing, "\"flush\" is to be \"always\" or a number of milliseconds");
        config->flush_always = true;
        return ERR_NONE;
    }
    return take_number(parsing, "flush", value, 1, 3600000, false, &config->flush_ms);
}

static enum err take_member(const struct parsing *parsing, const char *key, const json_t *value,
                            uint64_t *id, struct service_config *config)
{
    if (strcmp(key, "id") == 0) return take_number(parsing, key, value, 0, UINT32_MAX, false, id);
    if (strcmp(key, "store") == 0) return take_text(parsing, key, value, &config->store);
    if (strcmp(key, "listen") == 0) return take_listen(parsing, value, config);
    if (strcmp(key, "workers") == 0)
        return take_number(parsing, key, value, 1, 64, false, &config->workers);
    if (strcmp(key, "memory") == 0)
        return take_number(parsing, key, value, 0, UINT64_MAX, true, &config->memory_max);
    if (strcmp(key, "flush") == 0) return take_flush(parsing, value, config);
    if (strcmp(key, "partitions") == 0) {
        enum err err =
            take_number(parsing, key, value, 1, PARTITIONS_MAX, false, &config->partitions);
        if (!err && (config->partitions & (config->partitions - 1)))
            err = wrong(parsing, "\"partitions\" is to be a power of two");
        return err;
    }
    return wrong(parsing, "unknown key \"%s\" of a node", key);
}

static enum err take_node(const struct parsing *parsing, const json_t *node, uint64_t *ret_id,
                          struct service_config *config)
{
    if (!json_is_object(node)) return wrong(parsing, "a node is to be an object");
    if (!json_object_get(node, "id")) return wrong(parsing, "a node has no \"id\"");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)node, key, value)
    {
        enum err err = take_member(parsing, key, value, ret_id, config);
        if (err) return err;
    }
    if (!config->store)
        return wrong(parsing, "node %llu has no \"store\"", (unsigned long long)*ret_id);
    struct diag why;
    if (service_check(config, &why))
        return wrong(parsing, "node %llu: %s", (unsigned long long)*ret_id, why.text);
    return ERR_NONE;
}

/* Checks all, and keeps the one. */
static enum err take_nodes(const struct parsing *parsing, const json_t *nodes, uint64_t id,
                           struct service_config *ret_config)
{
    if (!json_is_array(nodes)) return wrong(parsing, "\"nodes\" is to be a list");
    if (json_array_size(nodes) > NODES_MAX)
        return wrong(parsing, "\"nodes\" has more than %d", NODES_MAX);
    bool found = false;
    for (size_t i = 0; i < json_array_size(nodes); i++) {
        struct service_config config = {.workers = 1};
        uint64_t its_id = 0;
        enum err err = take_node(parsing, json_array_get(nodes, i), &its_id, &config);
        bool is_it = !err && its_id == id;
        if (is_it && found) err = wrong(parsing, "two nodes have id %llu", (unsigned long long)id);
        if (err || !is_it) {
            service_config_fini(&config);
            if (err) return err;
            continue;
        }
        found = true;
        service_config_fini(ret_config);
        *ret_config = config;
    }
    return found ? ERR_NONE : wrong(parsing, "no node has id %llu", (unsigned long long)id);
}

static enum err take_file(const struct parsing *parsing, const json_t *file, uint64_t id,
                          struct service_config *ret_config)
{
    char *secret = NULL;
    const json_t *nodes = NULL;
    const char *key;
    json_t *value;
    enum err err = json_is_object(file) ? ERR_NONE : wrong(parsing, "it is to be a JSON object");
    json_object_foreach((json_t *)(uintptr_t)file, key, value)
    {
        if (err) break;
        if (strcmp(key, "secret_file") == 0)
            err = take_text(parsing, key, value, &secret);
        else if (strcmp(key, "nodes") == 0)
            nodes = value;
        else
            err = wrong(parsing, "unknown key \"%s\"", key);
    }
    if (!err && !nodes) err = wrong(parsing, "it has no \"nodes\"");
    if (!err) err = take_nodes(parsing, nodes, id, ret_config);
    if (err) {
        free(secret);
        return err;
    }
    ret_config->secret = secret;
    return ERR_NONE;
}

enum err node_config_read(const char *path, uint64_t id, struct service_config *ret_config,
                          struct diag *diag)
{
    const struct parsing parsing = {.path = path, .diag = diag};
    char *text;
    size_t size;
    enum err err = cli_read_all(path, FILE_SIZE_MAX, &text, &size, diag);
    if (err) return err;
    json_error_t error;
    json_t *file = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    free(text);
    if (!file) return wrong(&parsing, "line %d: %s", error.line, error.text);
    err = take_file(&parsing, file, id, ret_config);
    json_decref(file);
    return err;
}
