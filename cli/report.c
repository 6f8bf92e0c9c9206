/* `trellis report`: named reports over the live namespace. A report is one statement; `du` has two,
 * walked level by level from a directory, because its rows are found by following them. Inode
 * numbers in a column called `directory` are shown as paths from the root of the file system. */
#include <getopt.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/paths.h"
#include "cli/reports.h"

/* Inode numbers per IN list: bounds the statement's size. */
enum { DIRECTORIES_PER_QUERY = 4096 };

struct inos {
    uint64_t *items;
    size_t count;
    size_t capacity;
};

static const struct report *find_report(const char *name)
{
    for (size_t i = 0; i < report_count; i++)
        if (strcmp(reports[i].name, name) == 0) return &reports[i];
    return NULL;
}

static int list_reports(bool names_only)
{
    for (size_t i = 0; i < report_count; i++) {
        const char *text = reports[i].text;
        size_t size = strcspn(text, "\n");
        if (names_only)
            (void)printf("%s\n", reports[i].name);
        else
            (void)printf("%-12s %.*s\n", reports[i].name, (int)(size > 3 ? size - 3 : 0), text + 3);
    }
    return EXIT_OK;
}

static bool inos_add(struct inos *inos, uint64_t ino)
{
    if (inos->count == inos->capacity) {
        size_t capacity = inos->capacity ? inos->capacity * 2 : 1024;
        uint64_t *grown = realloc(inos->items, capacity * sizeof(*grown));
        if (!grown) return false;
        inos->items = grown;
        inos->capacity = capacity;
    }
    inos->items[inos->count++] = ino;
    return true;
}

/* The statement with :directories replaced by the list; heap. NULL without memory. */
static char *substitute(const char *statement, size_t size, const uint64_t *inos, size_t count)
{
    static const char mark[] = ":directories";
    char *text = malloc(size + count * 21 + 1);
    if (!text) return NULL;
    size_t used = 0;
    for (size_t at = 0; at < size;) {
        if (size - at < sizeof(mark) - 1 || memcmp(statement + at, mark, sizeof(mark) - 1)) {
            text[used++] = statement[at++];
            continue;
        }
        for (size_t i = 0; i < count; i++)
            used += (size_t)sprintf(text + used, "%s%lu", i ? "," : "", inos[i]);
        at += sizeof(mark) - 1;
    }
    text[used] = 0;
    return text;
}

/* Runs one statement and gives its rows: the array under "data". */
static enum err query_rows(struct cli_store *store, const char *text, json_t **ret_root,
                           json_t **ret_rows, struct diag *diag)
{
    const struct sql_options options = {.format = SQL_FORMAT_JSON};
    struct cli_collect output;
    cli_collect_init(&output);
    enum err err = cli_store_sql(store, text, strlen(text), &options, &output.sink, diag, NULL);
    json_t *root = err || !output.bytes ? NULL : json_loads(output.bytes, 0, NULL);
    free(output.bytes);
    if (err) return err;
    json_t *rows = json_object_get(root, "data");
    if (!json_is_array(rows)) {
        json_decref(root);
        return diag_set(diag, ERR_BAD_SIGNAL, "malformed result");
    }
    *ret_root = root;
    *ret_rows = rows;
    return ERR_NONE;
}

struct du_total {
    uint64_t entries, bytes, on_disk;
};

static uint64_t number_of(const json_t *row, const char *name)
{
    const json_t *value = json_object_get(row, name);
    if (json_is_integer(value)) return (uint64_t)json_integer_value(value);
    return json_is_string(value) ? strtoull(json_string_value(value), NULL, 10) : 0;
}

/* One list of directories: their subdirectories are added to inos, what lies in them to total. */
static enum err du_part(struct cli_store *store, const char *text, size_t first_size,
                        struct inos *inos, size_t from, size_t count, struct du_total *total,
                        struct diag *diag)
{
    for (int part = 0; part < 2; part++) {
        const char *statement = part == 0 ? text : text + first_size;
        char *query = substitute(statement, part == 0 ? first_size : strlen(statement),
                                 inos->items + from, count);
        json_t *root = NULL;
        json_t *rows = NULL;
        enum err err = query ? query_rows(store, query, &root, &rows, diag)
                             : diag_set(diag, ERR_NO_MEMORY, "no memory for the query");
        free(query);
        if (err) return err;
        size_t index;
        json_t *row;
        json_array_foreach(rows, index, row)
        {
            if (part == 0) {
                if (!inos_add(inos, number_of(row, "ino")))
                    err = diag_set(diag, ERR_NO_MEMORY, "no memory for the directories");
            } else {
                total->entries += number_of(row, "entries");
                total->bytes += number_of(row, "bytes");
                total->on_disk += number_of(row, "on_disk");
            }
        }
        json_decref(root);
        if (err) return err;
    }
    return ERR_NONE;
}

static void print_du(enum sql_format format, const char *path, const struct du_total *total)
{
    if (format == SQL_FORMAT_JSON || format == SQL_FORMAT_JSON_ASCII) {
        json_t *row = json_pack("{s:[{s:s, s:I, s:I, s:I}]}", "data", "path", path, "entries",
                                (json_int_t)total->entries, "bytes", (json_int_t)total->bytes,
                                "on_disk", (json_int_t)total->on_disk);
        char *text = json_dumps(row, JSON_COMPACT |
                                         (format == SQL_FORMAT_JSON_ASCII ? JSON_ENSURE_ASCII : 0));
        (void)printf("%s\n", text ? text : "{}");
        free(text);
        json_decref(row);
        return;
    }
    if (format == SQL_FORMAT_TABLE) {
        (void)printf("%12s %16s %16s  %s\n", "entries", "bytes", "on_disk", "path");
        (void)printf("%12lu %16lu %16lu  %s\n", total->entries, total->bytes, total->on_disk, path);
        return;
    }
    char separator = format == SQL_FORMAT_CSV ? ',' : '\t';
    if (format != SQL_FORMAT_TEXT_NOHEADER)
        (void)printf("entries%cbytes%con_disk%cpath\n", separator, separator, separator);
    (void)printf("%lu%c%lu%c%lu%c%s\n", total->entries, separator, total->bytes, separator,
                 total->on_disk, separator, path);
}

/* The directory's inode number: from the mounted path itself, or, for a store, by asking. */
static enum err find_directory(struct cli_store *store, const struct cli_target *target,
                               const char *path, uint64_t *ret_ino, struct diag *diag)
{
    struct stat stat_at;
    if (!target->store && !target->cluster) {
        if (stat(path, &stat_at) < 0 || !S_ISDIR(stat_at.st_mode))
            return diag_set(diag, ERR_NOT_FOUND, "%s is not a directory", path);
        *ret_ino = stat_at.st_ino;
        return ERR_NONE;
    }
    struct cli_collect answer;
    cli_collect_init(&answer);
    enum err err = cli_store_ask(store, "path", path, &answer.sink, diag);
    json_t *json = err || !answer.bytes ? NULL : json_loads(answer.bytes, 0, NULL);
    if (!err && !json) err = diag_set(diag, ERR_BAD_SIGNAL, "malformed answer");
    if (!err) *ret_ino = number_of(json, "ino");
    json_decref(json);
    free(answer.bytes);
    return err;
}

/* Where the statements begin: behind the heading's comment lines, which may hold anything. */
static const char *statements_of(const struct report *report)
{
    const char *at = report->text;
    while (at[0] == '-' && at[1] == '-')
        at += strcspn(at, "\n") + 1;
    return at;
}

static int run_du(struct cli_store *store, const struct report *report,
                  const struct cli_target *target, const char *path, enum sql_format format)
{
    struct diag diag = {.position = UINT32_MAX};
    struct inos inos = {0};
    struct du_total total = {0};
    uint64_t ino = 0;
    enum err err = find_directory(store, target, path, &ino, &diag);
    if (!err && !inos_add(&inos, ino)) err = diag_set(&diag, ERR_NO_MEMORY, "no memory");
    const char *statements = statements_of(report);
    size_t first_size = (size_t)(strchr(statements, ';') - statements) + 1;
    for (size_t at = 0; !err && at < inos.count;) {
        size_t count = inos.count - at;
        if (count > DIRECTORIES_PER_QUERY) count = DIRECTORIES_PER_QUERY;
        err = du_part(store, statements, first_size, &inos, at, count, &total, &diag);
        at += count;
        if (!err) cli_progress(NULL, "directories", at, inos.count);
    }
    free(inos.items);
    if (err) return cli_fail(err, "%s", diag.text);
    print_du(format, path, &total);
    return EXIT_OK;
}

static int run_report(struct cli_store *store, const struct report *report, enum sql_format format)
{
    struct sql_options options = {.format = format};
    struct diag diag = {.position = UINT32_MAX};
    enum err err = paths_create("directory", &options.labels);
    if (err) return cli_fail(err, "no memory for the report");
    err = cli_store_sql(store, report->text, strlen(report->text), &options, &cli_stdout, &diag,
                        NULL);
    paths_destroy(options.labels);
    if (fflush(stdout) && !err) err = diag_set(&diag, ERR_IO, "cannot write the report");
    return err ? cli_fail(err, "%s", diag.text) : EXIT_OK;
}

int cli_report(int argc, char **argv)
{
    enum { OPTION_FORMAT = 256, OPTION_SHOW, OPTION_NAMES };
    static const struct option options[] = {
        CLI_TARGET_OPTIONS,
        {"output-format", required_argument, NULL, OPTION_FORMAT},
        {"show", no_argument, NULL, OPTION_SHOW},
        {"names", no_argument, NULL, OPTION_NAMES},
        {0}};
    struct cli_target target = {0};
    enum sql_format format = isatty(STDOUT_FILENO) ? SQL_FORMAT_TABLE : SQL_FORMAT_TEXT;
    bool show = false;
    for (int option; (option = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (cli_target_take(&target, option, optarg)) continue;
        switch (option) {
        case OPTION_SHOW:
            show = true;
            break;
        case OPTION_NAMES:
            return list_reports(true);
        case OPTION_FORMAT:
            if (!sql_format_by_name(optarg, &format))
                return cli_usage("report", "no output format '%s'", optarg);
            break;
        case ':':
            return cli_usage("report", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("report", "unknown option %s", argv[optind - 1]);
        }
    }
    if (optind == argc) return list_reports(false);
    const struct report *report = find_report(argv[optind]);
    if (!report)
        return cli_usage("report", "no report '%s'; `trellis report` lists them", argv[optind]);
    if (show) {
        (void)fputs(report->text, stdout);
        return EXIT_OK;
    }
    bool is_du = strstr(report->text, ":directories") != NULL;
    int arguments = argc - optind - 1;
    if (arguments != (is_du ? 1 : 0))
        return cli_usage("report", "report %s takes %s", report->name,
                         is_du ? "one directory" : "no arguments");
    if (is_du && !target.store && !target.mount && !target.cluster) target.mount = argv[optind + 1];
    int status = EXIT_OK;
    struct cli_store *store = cli_target_open(&target, "report", &status);
    if (!store) return status;
    status = is_du ? run_du(store, report, &target, argv[optind + 1], format)
                   : run_report(store, report, format);
    struct diag diag;
    enum err err = cli_store_close(store, &diag);
    return err && status == EXIT_OK ? cli_fail(err, "%s", diag.text) : status;
}
