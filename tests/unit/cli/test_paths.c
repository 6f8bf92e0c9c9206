/* Paths of directories from their inode numbers, as reports show them. */
#include "cli/paths.h"

#include "tests/unit/metadata/checker.h"

static struct store s;
static struct sql_labels *paths;
static char output[1 << 20];
static size_t output_size;

static void setup(void)
{
    store_new(&s, 2);
    OK(paths_create("directory", &paths));
}

static void teardown(void)
{
    paths_destroy(paths);
    store_end(&s);
}

static void expect_path(uint64_t ino, const char *wanted)
{
    const char *text = NULL;
    struct diag diag = {0};
    OK(paths->resolve(paths, s.db_client, &ino, 1, &text, &diag));
    cr_assert_str_eq(text, wanted);
}

static void remove_row(uint64_t ino)
{
    struct program *program = client_begin(s.c, ino_home(ino));
    struct operand key = operand_u64(ino);
    (void)program_delete(program, client_table(s.c, TABLE_INODE), &key, ERR_NOT_FOUND);
    OK(client_run(s.c));
}

static enum err collect(struct sql_sink *sink, const char *bytes, size_t size)
{
    (void)sink;
    cr_assert_lt(output_size + size, sizeof(output));
    memcpy(output + output_size, bytes, size);
    output_size += size;
    output[output_size] = 0;
    return ERR_NONE;
}

static enum err ask(const char *text, enum sql_format format, struct diag *diag)
{
    struct sql_sink sink = {.write = collect};
    const struct sql_options options = {.format = format, .labels = paths};
    output_size = 0;
    output[0] = 0;
    return sql_run(s.db_client, text, strlen(text), &options, &sink, diag, NULL);
}

CASE(paths, are_absolute_within_the_file_system)
{
    uint64_t a = make_dir(&s, 1, "a");
    uint64_t b = make_dir(&s, a, "b c");
    uint64_t c = make_dir(&s, b, "it's \xc3\xbc \\ \"");
    const uint64_t numbers[] = {c, 1, a, c, b};
    const char *texts[5];
    struct diag diag = {0};
    OK(paths->resolve(paths, s.db_client, numbers, 5, texts, &diag));
    cr_assert_str_eq(texts[0], "/a/b c/it's \xc3\xbc \\ \"");
    cr_assert_str_eq(texts[1], "/");
    cr_assert_str_eq(texts[2], "/a");
    cr_assert_str_eq(texts[3], texts[0]);
    cr_assert_str_eq(texts[4], "/a/b c");
}

CASE(paths, follow_a_rename)
{
    uint64_t a = make_dir(&s, 1, "a");
    uint64_t b = make_dir(&s, a, "b");
    uint64_t other = make_dir(&s, 1, "other");
    expect_path(b, "/a/b");
    OK(fs_rename(s.c, &root, 1, "a", other, "moved", 0));
    expect_path(b, "/other/moved/b");
}

CASE(paths, end_at_what_was_removed)
{
    char wanted[96];
    uint64_t a = make_dir(&s, 1, "a");
    uint64_t b = make_dir(&s, a, "b");
    uint64_t c = make_dir(&s, b, "c");
    OK(fs_rmdir(s.c, &root, b, "c"));
    (void)snprintf(wanted, sizeof(wanted), "(removed directory %lu)", c);
    expect_path(c, wanted);
    c = make_dir(&s, b, "c");
    /* As when it goes away between one level and the next. */
    remove_row(a);
    (void)snprintf(wanted, sizeof(wanted), "(removed directory %lu)/b/c", a);
    expect_path(c, wanted);
    expect_path(987654321, "(removed directory 987654321)");
    expect_path(0, "");
}

CASE(paths, of_deep_directories_are_cut_in_front)
{
    uint64_t ino = 1;
    static char wanted[PATHS_SIZE_MAX];
    strcpy(wanted, "...");
    for (int i = 0; i < PATHS_DEPTH_MAX + 5; i++) {
        ino = make_dir(&s, ino, "d");
        if (i >= 5) strcat(wanted, "/d");
    }
    expect_path(ino, wanted);
    /* Long names: cut by size. */
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    ino = 1;
    for (int i = 0; i < 20; i++)
        ino = make_dir(&s, ino, name);
    const char *text;
    struct diag diag = {0};
    OK(paths->resolve(paths, s.db_client, &ino, 1, &text, &diag));
    cr_assert_lt(strlen(text), PATHS_SIZE_MAX);
    cr_assert_gt(strlen(text), PATHS_SIZE_MAX / 2);
    cr_assert_eq(strncmp(text, ".../nnn", 7), 0);
}

CASE(paths, stand_in_the_column_of_every_format)
{
    struct diag diag = {0};
    uint64_t a = make_dir(&s, 1, "a");
    uint64_t b = make_dir(&s, a, "x,y\tz");
    (void)make_file(&s, a, "f1");
    (void)make_file(&s, b, "f2");
    (void)make_file(&s, b, "f3");
    static const char text[] = "SELECT parent AS directory, COUNT(*) AS n FROM dentry GROUP BY "
                               "parent ORDER BY n DESC, directory";
    OK(ask(text, SQL_FORMAT_TEXT, &diag));
    cr_assert(strstr(output, "directory\tn\n"), "%s", output);
    cr_assert(strstr(output, "\n/a/x,y\\tz\t2\n"), "%s", output);
    OK(ask(text, SQL_FORMAT_CSV, &diag));
    cr_assert(strstr(output, "\n\"/a/x,y\tz\",2\r\n"), "%s", output);
    OK(ask(text, SQL_FORMAT_JSON, &diag));
    cr_assert(strstr(output, "{\"directory\":\"/a/x,y\\tz\",\"n\":2}"), "%s", output);
    OK(ask(text, SQL_FORMAT_TABLE, &diag));
    cr_assert(strstr(output, "\n/a "), "%s", output);
    /* Other columns, other kinds, NULL and no rows at all are left alone. */
    OK(ask("SELECT parent, name AS directory FROM dentry WHERE parent = 1", SQL_FORMAT_TEXT,
           &diag));
    cr_assert_str_eq(output, "parent\tdirectory\n1\ta\n");
    OK(ask("SELECT NULLIF(parent, 1) AS directory FROM dentry WHERE parent = 1", SQL_FORMAT_TEXT,
           &diag));
    cr_assert_str_eq(output, "directory\nNULL\n");
    OK(ask("SELECT parent AS directory FROM dentry WHERE parent = 7", SQL_FORMAT_TEXT, &diag));
    cr_assert_str_eq(output, "directory\n");
}

static enum err fail(struct sql_labels *labels, struct db_client *client, const uint64_t *numbers,
                     uint32_t count, const char **ret_texts, struct diag *diag)
{
    (void)labels, (void)client, (void)numbers, (void)count, (void)ret_texts;
    return diag_set(diag, ERR_IO, "no such luck");
}

CASE(paths, a_failure_to_find_them_is_the_statements)
{
    struct diag diag = {0};
    struct sql_labels *good = paths;
    struct sql_labels bad = {.column = "directory", .resolve = fail};
    (void)make_dir(&s, 1, "a");
    paths = &bad;
    FAILS(ask("SELECT parent AS directory FROM dentry", SQL_FORMAT_TEXT, &diag), ERR_IO);
    cr_assert_str_eq(diag.text, "no such luck");
    cr_assert_str_eq(output, "");
    paths = good;
    OK(ask("SELECT parent AS directory FROM dentry", SQL_FORMAT_TEXT, &diag));
}
