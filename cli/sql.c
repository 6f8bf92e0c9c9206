/* `trellis sql`: queries from -e, a file, standard input, or a prompt with history. */
#include <getopt.h>
#include <histedit.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "metadata/fs.h"

enum { HISTORY_SIZE = 1000 };

static int run_text(struct cli_store *store, const char *text, size_t size,
                    const struct sql_options *options)
{
    struct diag diag = {.position = UINT32_MAX};
    char *caret = NULL;
    enum err err = cli_store_sql(store, text, size, options, &cli_stdout, &diag, &caret);
    if (fflush(stdout) && !err) err = diag_set(&diag, ERR_IO, "cannot write the result");
    if (!err) return EXIT_OK;
    int status = cli_fail(err, "%s", diag.text);
    if (caret) (void)fprintf(stderr, "%s\n", caret);
    free(caret);
    return status;
}

static const char *prompt_first(EditLine *edit)
{
    (void)edit;
    return "trellis> ";
}

static const char *prompt_more(EditLine *edit)
{
    (void)edit;
    return "      -> ";
}

/* The text holds a whole statement: a ';' outside quotes and comments, with nothing but space
 * behind it. */
static bool is_complete(const char *text)
{
    char quote = 0;
    bool ended = false;
    for (const char *at = text; *at; at++) {
        if (quote) {
            if (*at == '\\' && quote != '`' && at[1])
                at++;
            else if (*at == quote)
                quote = 0;
        } else if (*at == '\'' || *at == '"' || *at == '`') {
            quote = *at;
            ended = false;
        } else if (*at == '#' || (at[0] == '-' && at[1] == '-')) {
            while (at[1] && at[1] != '\n')
                at++;
        } else if (*at == ';') {
            ended = true;
        } else if (*at != ' ' && *at != '\t' && *at != '\n') {
            ended = false;
        }
    }
    return ended;
}

static char *history_path(void)
{
    const char *home = getenv("HOME");
    char *path;
    return home && asprintf(&path, "%s/.trellis_history", home) >= 0 ? path : NULL;
}

static int run_prompt(struct cli_store *store, struct sql_options *options)
{
    EditLine *edit = el_init("trellis", stdin, stdout, stderr);
    History *past = history_init();
    HistEvent event;
    char *path = history_path();
    if (!edit || !past) {
        if (edit) el_end(edit);
        if (past) history_end(past);
        free(path);
        return cli_fail(ERR_NO_MEMORY, "no memory for the prompt");
    }
    (void)history(past, &event, H_SETSIZE, HISTORY_SIZE);
    if (path) (void)history(past, &event, H_LOAD, path);
    (void)el_set(edit, EL_EDITOR, "emacs");
    (void)el_set(edit, EL_SIGNAL, 1);
    (void)el_set(edit, EL_HIST, history, past);
    (void)el_source(edit, NULL);
    (void)printf("RonSQL on live data. Statements end with ; — SHOW TABLES; lists the tables, "
                 "Ctrl-D ends.\n");
    struct cli_collect text;
    cli_collect_init(&text);
    for (;;) {
        (void)el_set(edit, EL_PROMPT, text.size ? prompt_more : prompt_first);
        int count;
        const char *line = el_gets(edit, &count);
        if (!line || count <= 0) break;
        if (!text.size && strspn(line, " \t\n") == (size_t)count) continue;
        if (text.sink.write(&text.sink, line, (size_t)count)) break;
        if (!is_complete(text.bytes)) continue;
        (void)history(past, &event, H_ENTER, text.bytes);
        (void)run_text(store, text.bytes, text.size, options);
        free(text.bytes);
        cli_collect_init(&text);
    }
    (void)fputc('\n', stdout);
    free(text.bytes);
    if (path) (void)history(past, &event, H_SAVE, path);
    free(path);
    history_end(past);
    el_end(edit);
    return EXIT_OK;
}

static int run_source(struct cli_store *store, const char *path, const struct sql_options *options)
{
    struct diag diag;
    char *text;
    size_t size;
    enum err err = cli_read_all(path, SQL_TEXT_SIZE_MAX, &text, &size, &diag);
    if (err) return cli_fail(err, "%s", diag.text);
    int status = run_text(store, text, size, options);
    free(text);
    return status;
}

int cli_sql(int argc, char **argv)
{
    enum { OPTION_FORMAT = 256, OPTION_MODE, OPTION_FILE };
    static const struct option options[] = {
        CLI_TARGET_OPTIONS,
        {"database", required_argument, NULL, 'D'},
        {"execute", required_argument, NULL, 'e'},
        {"execute-file", required_argument, NULL, OPTION_FILE},
        {"output-format", required_argument, NULL, OPTION_FORMAT},
        {"explain-mode", required_argument, NULL, OPTION_MODE},
        {0}};
    struct cli_target target = {0};
    struct sql_options sql = {.format = isatty(STDOUT_FILENO) ? SQL_FORMAT_TABLE : SQL_FORMAT_TEXT,
                              .allow_ddl = true,
                              .keeps = fs_table_is_own};
    const char *query = NULL;
    const char *file = NULL;
    for (int option; (option = getopt_long(argc, argv, ":e:D:", options, NULL)) != -1;) {
        if (cli_target_take(&target, option, optarg)) continue;
        switch (option) {
        case 'D':
            sql.database = optarg;
            break;
        case 'e':
            query = optarg;
            break;
        case OPTION_FILE:
            file = optarg;
            break;
        case OPTION_FORMAT:
            if (!sql_format_by_name(optarg, &sql.format))
                return cli_usage("sql", "no output format '%s'", optarg);
            break;
        case OPTION_MODE:
            if (!sql_explain_mode_by_name(optarg, &sql.explain_mode))
                return cli_usage("sql", "no explain mode '%s'", optarg);
            break;
        case ':':
            return cli_usage("sql", "option %s needs a value", argv[optind - 1]);
        default:
            return cli_usage("sql", "unknown option %s", argv[optind - 1]);
        }
    }
    if (optind < argc) return cli_usage("sql", "unexpected argument '%s'", argv[optind]);
    if (query && file) return cli_usage("sql", "give -e or --execute-file, not both");
    int status = EXIT_OK;
    struct cli_store *store = cli_target_open(&target, "sql", &status);
    if (!store) return status;
    if (query)
        status = run_text(store, query, strlen(query), &sql);
    else if (!file && isatty(STDIN_FILENO))
        status = run_prompt(store, &sql);
    else
        status = run_source(store, file ? file : "-", &sql);
    struct diag diag;
    enum err err = cli_store_close(store, &diag);
    return err && status == EXIT_OK ? cli_fail(err, "%s", diag.text) : status;
}
