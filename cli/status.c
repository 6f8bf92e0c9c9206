/* `trellis status`: the counters of a store, as a table for people or as JSON. */
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

/* Objects become indented sections, so that every counter is on a line of its own with its path's
 * last name. */
static void print_value(const char *name, const json_t *value, int depth)
{
    const char *key;
    json_t *member;
    size_t index;
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        if (name) (void)printf("%*s%s\n", depth * 2, "", name);
        json_object_foreach((json_t *)(uintptr_t)value, key, member)
            print_value(key, member, name ? depth + 1 : depth);
        break;
    case JSON_ARRAY:
        json_array_foreach(value, index, member)
        {
            char label[96];
            (void)snprintf(label, sizeof(label), "%s %zu", name ? name : "", index);
            print_value(label, member, depth);
        }
        break;
    default: {
        char *text = json_dumps(value, JSON_ENCODE_ANY);
        (void)printf("%*s%-*s %s\n", depth * 2, "", 32 - depth * 2, name ? name : "",
                     json_is_string(value) ? json_string_value(value)
                     : text                ? text
                                           : "?");
        free(text);
    }
    }
}

int cli_status(int argc, char **argv)
{
    static const struct option options[] = {{"store", required_argument, NULL, 's'},
                                            {"mount", required_argument, NULL, 'm'},
                                            {"json", no_argument, NULL, 'j'},
                                            {0}};
    struct cli_target target = {0};
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        switch (option) {
        case 's':
            target.store = optarg;
            break;
        case 'm':
            target.mount = optarg;
            break;
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
    struct diag diag = {.position = UINT32_MAX};
    struct cli_collect text;
    cli_collect_init(&text);
    enum err err = cli_store_ask(store, "status", NULL, &text.sink, &diag);
    json_t *json = err || !text.bytes ? NULL : json_loads(text.bytes, 0, NULL);
    if (err)
        status = cli_fail(err, "%s", diag.text);
    else if (!json)
        status = cli_fail(ERR_BAD_SIGNAL, "malformed status");
    else if (as_json)
        (void)printf("%s\n", text.bytes);
    else
        print_value(NULL, json, 0);
    json_decref(json);
    free(text.bytes);
    err = cli_store_close(store, &diag);
    return err && status == EXIT_OK ? cli_fail(err, "%s", diag.text) : status;
}
