/* Answers to the questions that are not SQL: status, fsck, path, flush, checkpoint, asked of a
 * database in this process or another. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "metadata/fs.h"
#include "metadata/fsck.h"

static enum err write_text(struct sql_sink *sink, const char *text)
{
    return sink->write(sink, text, strlen(text));
}

static enum err answer_status(struct db_client *client, struct sql_sink *sink, struct diag *diag)
{
    char *json;
    enum err err = db_status_json(client, &json);
    if (err) return diag_set(diag, err, "no status: %s", err_text(err));
    err = write_text(sink, json);
    free(json);
    return err;
}

static enum err answer_path(struct db_client *client, const char *path, struct sql_sink *sink,
                            struct diag *diag)
{
    struct fs_attr attr;
    if (!path || path[0] != '/')
        return diag_set(diag, ERR_INVALID, "give a path from the root of the file system");
    enum err err = fs_path_find(client, path, &attr);
    if (err) return diag_set(diag, err, "%s: %s", path, err_text(err));
    char text[64];
    (void)snprintf(text, sizeof(text), "{\"ino\":%lu}", attr.ino);
    return write_text(sink, text);
}

struct fsck_output {
    struct sql_sink *sink;
    enum err err; /* of writing */
};

static void print_finding(void *context, const char *line)
{
    struct fsck_output *output = context;
    if (!output->err) output->err = write_text(output->sink, line);
    if (!output->err) output->err = write_text(output->sink, "\n");
}

static enum err answer_fsck(struct db_client *client, struct sql_sink *sink, struct diag *diag)
{
    struct fsck_output output = {.sink = sink};
    uint64_t findings = 0;
    enum err err = fsck_run(client, print_finding, &output, &findings, diag);
    if (!err) err = output.err;
    if (!err && findings)
        err = diag_set(diag, ERR_CORRUPT, "%lu finding%s: the file system is not consistent",
                       findings, findings > 1 ? "s" : "");
    return err;
}

enum err answer_ask(struct db_client *client, const char *question, const char *argument,
                    struct sql_sink *sink, struct diag *diag)
{
    enum err err;
    if (strcmp(question, "status") == 0) return answer_status(client, sink, diag);
    if (strcmp(question, "fsck") == 0) return answer_fsck(client, sink, diag);
    if (strcmp(question, "path") == 0) return answer_path(client, argument, sink, diag);
    if (strcmp(question, "flush") == 0)
        err = db_flush(client);
    else if (strcmp(question, "checkpoint") == 0)
        err = db_checkpoint(client);
    else
        return diag_set(diag, ERR_BAD_SIGNAL, "no such question: %s", question);
    return err ? diag_set(diag, err, "%s: %s", question, err_text(err)) : ERR_NONE;
}
