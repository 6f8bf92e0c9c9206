/* `trellis status`: the counters of a store, as tables for people or as JSON.
 *
 * What the database says of itself is shown as it comes, so that a new counter needs nothing here:
 * a counter is a line, an object an indented section, and a list of alike flat objects (tables,
 * links) a table with a column for each member. */
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum { COLUMNS_MAX = 64 };

static void print_value(const char *name, const json_t *value, int depth);

/* The text of a value that is no object or list. */
static const char *scalar_text(const json_t *value, char buffer[64])
{
    if (json_is_string(value)) return json_string_value(value);
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    (void)snprintf(buffer, 64, "%s", text ? text : "?");
    free(text);
    return buffer;
}

static bool is_scalar(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

/* Objects of scalars only, all with the members of the first. */
static bool is_table(const json_t *list)
{
    size_t index;
    json_t *row;
    const char *key;
    json_t *member;
    const json_t *first = json_array_get(list, 0);
    if (!json_is_object(first) || json_object_size(first) > COLUMNS_MAX) return false;
    json_array_foreach((json_t *)(uintptr_t)list, index, row)
    {
        if (!json_is_object(row) || json_object_size(row) != json_object_size(first)) return false;
        json_object_foreach(row, key, member)
        {
            if (!is_scalar(member) || !json_object_get(first, key)) return false;
        }
    }
    return true;
}

static void print_table(const char *name, const json_t *list, int depth)
{
    const char *keys[COLUMNS_MAX];
    int widths[COLUMNS_MAX];
    size_t columns = 0;
    size_t index;
    json_t *row;
    const char *key;
    json_t *member;
    char buffer[64];
    json_object_foreach(json_array_get(list, 0), key, member)
    {
        keys[columns] = key;
        widths[columns++] = (int)strlen(key);
    }
    json_array_foreach((json_t *)(uintptr_t)list, index, row)
    {
        for (size_t i = 0; i < columns; i++) {
            int size = (int)strlen(scalar_text(json_object_get(row, keys[i]), buffer));
            if (size > widths[i]) widths[i] = size;
        }
    }
    (void)printf("%*s%s\n%*s", depth * 2, "", name, depth * 2 + 1, "");
    for (size_t i = 0; i < columns; i++)
        (void)printf(" %-*s", widths[i], keys[i]);
    (void)fputc('\n', stdout);
    json_array_foreach((json_t *)(uintptr_t)list, index, row)
    {
        (void)printf("%*s", depth * 2 + 1, "");
        for (size_t i = 0; i < columns; i++) {
            const json_t *value = json_object_get(row, keys[i]);
            const char *text = scalar_text(value, buffer);
            (void)printf(json_is_string(value) ? " %-*s" : " %*s", widths[i], text);
        }
        (void)fputc('\n', stdout);
    }
}

static void print_list(const char *name, const json_t *list, int depth)
{
    size_t index;
    json_t *member;
    if (is_table(list)) {
        print_table(name, list, depth);
        return;
    }
    json_array_foreach((json_t *)(uintptr_t)list, index, member)
    {
        char label[96];
        (void)snprintf(label, sizeof(label), "%s %zu", name, index);
        print_value(label, member, depth);
    }
}

static void print_value(const char *name, const json_t *value, int depth)
{
    const char *key;
    json_t *member;
    char buffer[64];
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        if (name) (void)printf("%*s%s\n", depth * 2, "", name);
        json_object_foreach((json_t *)(uintptr_t)value, key, member)
            print_value(key, member, name ? depth + 1 : depth);
        break;
    case JSON_ARRAY:
        print_list(name ? name : "", value, depth);
        break;
    default:
        (void)printf("%*s%-*s %s\n", depth * 2, "", 32 - depth * 2, name ? name : "",
                     scalar_text(value, buffer));
    }
}

/* What the database says, and which process of this machine serves it. */
static enum err ask_status(struct cli_store *store, json_t **ret_status, struct diag *diag)
{
    struct cli_collect text;
    cli_collect_init(&text);
    enum err err = cli_store_ask(store, "status", NULL, &text.sink, diag);
    json_t *status = err || !text.bytes ? NULL : json_loads(text.bytes, 0, NULL);
    free(text.bytes);
    if (!err && !json_is_object(status)) err = diag_set(diag, ERR_BAD_SIGNAL, "malformed status");
    pid_t pid = cli_store_pid(store);
    if (!err && pid)
        err = json_object_set_new(status, "process", json_pack("{s:i}", "pid", (int)pid))
                  ? diag_set(diag, ERR_NO_MEMORY, "no memory")
                  : ERR_NONE;
    if (err)
        json_decref(status);
    else
        *ret_status = status;
    return err;
}

static int show(struct cli_store *store, bool as_json)
{
    struct diag diag = {.position = UINT32_MAX};
    json_t *status;
    enum err err = ask_status(store, &status, &diag);
    if (err) return cli_fail(err, "%s", diag.text);
    if (as_json) {
        char *text = json_dumps(status, JSON_COMPACT);
        if (text) (void)printf("%s\n", text);
        err = text ? ERR_NONE : ERR_NO_MEMORY;
        free(text);
    } else {
        print_value(NULL, status, 0);
    }
    json_decref(status);
    if (!err && fflush(stdout)) err = ERR_IO;
    return err ? cli_fail(err, "cannot write the status: %s", err_text(err)) : EXIT_OK;
}

int cli_status(int argc, char **argv)
{
    static const struct option options[] = {
        CLI_TARGET_OPTIONS, {"json", no_argument, NULL, 'j'}, {0}};
    struct cli_target target = {0};
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (cli_target_take(&target, option, optarg)) continue;
        switch (option) {
        case 'j':
            as_json = true;
            break;
        case ':':
            return cli_usage("status", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("status", "unknown option %s", argv[optind - 1]);
        }
    }
    if (optind < argc) return cli_usage("status", "unexpected argument '%s'", argv[optind]);
    int status = EXIT_OK;
    struct cli_store *store = cli_target_open(&target, "status", &status);
    if (!store) return status;
    status = show(store, as_json);
    struct diag diag;
    enum err err = cli_store_close(store, &diag);
    return err && status == EXIT_OK ? cli_fail(err, "%s", diag.text) : status;
}
