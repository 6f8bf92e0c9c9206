/* Path resolution: every call that takes a path fails in the same ways when the path cannot be
 * followed.
 *
 * One group per failure, one case per call; then what is particular to resolution itself. */
#include "tests/posix/calls.h"

static bool any(const struct call *call)
{
    (void)call;
    return true;
}

static bool looks_up(const struct call *call)
{
    return !(call->traits & CALL_CREATES);
}

static bool follows(const struct call *call)
{
    return (call->traits & CALL_FOLLOWS) != 0;
}

static bool makes(const struct call *call)
{
    return (call->traits & CALL_CREATES) && !(call->traits & (CALL_REPLACES | CALL_FOLLOWS));
}

static bool makes_or_takes(const struct call *call)
{
    return (call->traits & (CALL_CREATES | CALL_REMOVES)) && !(call->traits & CALL_ROOT);
}

static bool wants_directory(const struct call *call)
{
    return (call->traits & CALL_DIRECTORY) != 0;
}

static void missing_component(void)
{
    call_prepare();
    EXPECT_ERR(case_call()->run("missing/name"), ENOENT);
    REQUIRE_OK(symlink("missing", "dangling"));
    EXPECT_ERR(case_call()->run("dangling/name"), ENOENT);
}

static void missing_name(void)
{
    call_prepare();
    EXPECT_ERR(case_call()->run("missing"), ENOENT);
    make_dir("d", 0755);
    EXPECT_ERR(case_call()->run("d/missing"), ENOENT);
    EXPECT(!exists("missing"));
}

static void empty_path(void)
{
    call_prepare();
    EXPECT_ERR(case_call()->run(""), ENOENT);
}

static void component_not_directory(void)
{
    call_prepare();
    static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 3; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(case_call()->run("node/name"), ENOTDIR);
        EXPECT_ERR(case_call()->run("node/.."), ENOTDIR);
        REQUIRE_OK(unlink("node"));
    }
    REQUIRE_OK(symlink("source", "link"));
    EXPECT_ERR(case_call()->run("link/name"), ENOTDIR);
}

static void long_component(void)
{
    call_prepare();
    EXPECT_ERR(case_call()->run(long_name(256)), ENAMETOOLONG);
    EXPECT_ERR(case_call()->run(long_name(2000)), ENAMETOOLONG);
    char path[600];
    snprintf(path, sizeof(path), "%s/name", long_name(256));
    EXPECT_ERR(case_call()->run(path), ENAMETOOLONG);
}

static void over_long_path(void)
{
    call_prepare();
    EXPECT_ERR(case_call()->run(long_path(PATH_MAX, "name")), ENAMETOOLONG);
    EXPECT_ERR(case_call()->run(long_path(PATH_MAX + 100, "name")), ENAMETOOLONG);
}

static void loop_in_path(void)
{
    call_prepare();
    REQUIRE_OK(symlink("self", "self"));
    REQUIRE_OK(symlink("two", "one"));
    REQUIRE_OK(symlink("one", "two"));
    EXPECT_ERR(case_call()->run("self/name"), ELOOP);
    EXPECT_ERR(case_call()->run("one/name"), ELOOP);
}

static void loop_at_end(void)
{
    call_prepare();
    REQUIRE_OK(symlink("self", "self"));
    REQUIRE_OK(symlink("two", "one"));
    REQUIRE_OK(symlink("one", "two"));
    EXPECT_ERR(case_call()->run("self"), ELOOP);
    EXPECT_ERR(case_call()->run("two"), ELOOP);
}

static void no_search_permission(void)
{
    need_root();
    make_dir("d", 0755);
    make_dir("d/sub", 0777);
    make_file("d/sub/name", 0777, "x");
    REQUIRE_OK(chmod("d", 0666));
    call_prepare();
    AS(user_a)
    {
        EXPECT_ERR(case_call()->run("d/sub/name"), EACCES);
        EXPECT_ERR(case_call()->run("d/sub/new"), EACCES);
        EXPECT_ERR(case_call()->run("d/name"), EACCES);
    }
}

static void existing_name(void)
{
    call_prepare();
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        make_node("node", types[i]);
        struct stat before = STAT("node");
        EXPECT_ERR(case_call()->run("node"), EEXIST);
        EXPECT_SAME(before, STAT("node"));
        REQUIRE_OK(remove("node"));
    }
    EXPECT_ERR(case_call()->run("."), EEXIST);
    EXPECT_ERR(case_call()->run(".."), EEXIST);
}

static void parent_not_writable(void)
{
    need_root();
    bool creates = (case_call()->traits & CALL_CREATES) != 0;
    static const char *const parents[] = {"r-x", "rwx"};
    for (unsigned i = 0; i < 2; i++) {
        char path[16];
        make_dir(parents[i], 0777);
        snprintf(path, sizeof(path), "%s/name", parents[i]);
        if (!creates) make_node(path, case_call()->traits & CALL_DIRECTORY ? S_IFDIR : S_IFREG);
    }
    call_prepare();
    REQUIRE_OK(chown("source", UID_A, GID_A));
    if (!creates) REQUIRE_OK(chown("rwx/name", UID_A, GID_A));
    REQUIRE_OK(chmod("r-x", 0775));
    struct stat before = STAT("r-x");
    AS(user_a)
    {
        EXPECT_ERR(case_call()->run("r-x/name"), EACCES);
        EXPECT_OK(case_call()->run("rwx/name"));
    }
    EXPECT_SAME(before, STAT("r-x"));
}

static void file_with_slash(void)
{
    call_prepare();
    make_file("file", 0755, "x");
    EXPECT_ERR(case_call()->run("file/"), ENOTDIR);
    EXPECT_ERR(case_call()->run("file/."), ENOTDIR);
}

static void not_a_directory(void)
{
    static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK};
    for (unsigned i = 0; i < 3; i++) {
        make_node("node", types[i]);
        EXPECT_ERR(case_call()->run("node"), ENOTDIR);
        EXPECT(exists("node"));
        REQUIRE_OK(unlink("node"));
    }
}

__attribute__((constructor)) static void add_paths(void)
{
    calls_add("path_component_missing", missing_component, any, false);
    calls_add("path_name_missing", missing_name, looks_up, false);
    calls_add("path_empty", empty_path, any, false);
    calls_add("path_component_is_a_file", component_not_directory, any, false);
    calls_add("path_component_too_long", long_component, any, false);
    calls_add("path_too_long", over_long_path, any, false);
    calls_add("path_loop", loop_in_path, any, false);
    calls_add("path_loop_at_the_end", loop_at_end, follows, false);
    calls_add("path_not_searchable", no_search_permission, any, false);
    calls_add("path_exists", existing_name, makes, false);
    calls_add("path_parent_not_writable", parent_not_writable, makes_or_takes, false);
    calls_add("path_slash_behind_a_file", file_with_slash, looks_up, false);
    calls_add("path_not_a_directory", not_a_directory, wants_directory, false);
}

/* ---- resolution itself ---- */

CASE(path, of_4095_bytes_works)
{
    make_file("name", 0644, "x");
    struct stat direct = STAT("name");
    struct stat attr;
    EXPECT_OK(stat(long_path(PATH_MAX - 1, "name"), &attr));
    EXPECT_EQ(attr.st_ino, direct.st_ino);
    int fd = open_file(long_path(PATH_MAX - 1, "new"), O_CREAT | O_EXCL | O_WRONLY, 0600);
    (void)close(fd);
    EXPECT(exists("new"));
    EXPECT_OK(rename(long_path(PATH_MAX - 1, "new"), "newer"));
    EXPECT_OK(unlink(long_path(PATH_MAX - 2, "newer")));
}

CASE(path, of_40_symlinks_works_and_of_41_does_not)
{
    make_dir("link0", 0755);
    char name[16];
    char target[16];
    for (int i = 1; i <= 41; i++) {
        snprintf(name, sizeof(name), "link%d", i);
        snprintf(target, sizeof(target), "link%d", i - 1);
        REQUIRE_OK(symlink(target, name));
    }
    struct stat attr;
    EXPECT_OK(stat("link40", &attr));
    EXPECT_EQ(attr.st_ino, STAT("link0").st_ino);
    EXPECT_ERR(stat("link41", &attr), ELOOP);
    EXPECT_OK(mkdir("link40/through", 0755));
    EXPECT_ERR(mkdir("link41/through2", 0755), ELOOP);
    EXPECT(exists("link0/through"));
}

CASE(path, ignores_repeated_slashes_and_dots)
{
    make_dir("d", 0755);
    make_dir("d/e", 0755);
    make_file("d/e/f", 0644, "x");
    static const char *const same[] = {"d/e/f",      "d//e/f",     "./d/./e/./f",    "d/e/../e/f",
                                       "d///e////f", "d/../d/e/f", "d/e/../../d/e/f"};
    ino_t ino = STAT("d/e/f").st_ino;
    for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++)
        EXPECT_EQ(STAT(same[i]).st_ino, ino);
    EXPECT_EQ(STAT("d/e/").st_ino, STAT("d/e").st_ino);
    EXPECT_EQ(STAT("d/e/.").st_ino, STAT("d/e").st_ino);
    EXPECT_EQ(STAT("d/e/..").st_ino, STAT("d").st_ino);
    EXPECT_EQ(STAT("d/e//").st_ino, STAT("d/e").st_ino);
}

CASE(path, dot_dot_behind_a_symlink_is_of_its_target)
{
    make_dir("a", 0755);
    make_dir("a/b", 0755);
    make_file("a/f", 0644, "x");
    REQUIRE_OK(symlink("a/b", "link"));
    EXPECT_EQ(STAT("link/../f").st_ino, STAT("a/f").st_ino);
    EXPECT_ERR(access("link/../link", F_OK), ENOENT);
}

CASE(path, slash_behind_a_symlink_follows_it)
{
    make_dir("d", 0755);
    REQUIRE_OK(symlink("d", "link"));
    EXPECT(S_ISLNK(STAT("link").st_mode));
    EXPECT(S_ISDIR(STAT("link/").st_mode));
    EXPECT_EQ(STAT("link/").st_ino, STAT("d").st_ino);
    EXPECT_ERR(unlink("link/"), ENOTDIR);
    EXPECT_ERR(rmdir("link"), ENOTDIR);
    EXPECT(exists("link"));
}

CASE(path, slash_behind_a_new_file_is_refused)
{
    EXPECT_ERR(open("new/", O_CREAT | O_WRONLY, 0644), EISDIR);
    EXPECT_ERR(mknod("new/", S_IFREG | 0644, 0), ENOENT);
    EXPECT_ERR(symlink("x", "new/"), ENOENT);
    make_file("f", 0644, "x");
    EXPECT_ERR(link("f", "new/"), ENOENT);
    EXPECT_ERR(rename("f", "new/"), ENOTDIR);
    EXPECT_EQ(count_entries("."), 1);
}

CASE(path, slash_behind_a_new_directory_is_allowed)
{
    EXPECT_OK(mkdir("d/", 0755));
    EXPECT_OK(mkdir("d/e///", 0755));
    EXPECT_OK(rename("d/e/", "d/g/"));
    EXPECT(exists("d/g"));
    EXPECT_OK(rmdir("d/g/"));
}

CASE(path, absolute_symlink_leaves_the_file_system)
{
    REQUIRE_OK(symlink("/", "root"));
    struct stat attr;
    struct stat root;
    EXPECT_OK(stat("root", &attr));
    EXPECT_OK(stat("/", &root));
    EXPECT_EQ(attr.st_ino, root.st_ino);
    EXPECT_EQ(attr.st_dev, root.st_dev);
}

CASE(path, relative_to_a_descriptor)
{
    make_dir("d", 0755);
    make_file("f", 0644, "x");
    int dir = open_file("d", O_RDONLY | O_DIRECTORY, 0);
    int file = open_file("f", O_RDONLY, 0);
    EXPECT_OK(mkdirat(dir, "e", 0755));
    EXPECT_OK(symlinkat("x", dir, "s"));
    EXPECT_OK(mknodat(dir, "n", S_IFREG | 0600, 0));
    EXPECT_OK(linkat(dir, "n", dir, "m", 0));
    EXPECT_OK(renameat(dir, "m", AT_FDCWD, "m"));
    EXPECT_OK(unlinkat(dir, "e", AT_REMOVEDIR));
    EXPECT(exists("d/s") && exists("d/n") && exists("m"));
    EXPECT_ERR(openat(file, "x", O_RDONLY), ENOTDIR);
    EXPECT_ERR(mkdirat(file, "x", 0755), ENOTDIR);
    EXPECT_ERR(unlinkat(file, "x", 0), ENOTDIR);
    EXPECT_ERR(openat(99, "x", O_RDONLY), EBADF);
    EXPECT_ERR(mkdirat(99, "x", 0755), EBADF);
    /* The directory is found wherever it is moved to. */
    REQUIRE_OK(rename("d", "elsewhere"));
    EXPECT_OK(mkdirat(dir, "late", 0755));
    EXPECT(exists("elsewhere/late"));
}

CASE(path, deep_nesting)
{
    const int depth = 300;
    ino_t inos[300];
    for (int i = 0; i < depth; i++) {
        REQUIRE_OK(mkdir("deep-directory-name", 0755));
        REQUIRE_OK(chdir("deep-directory-name"));
        inos[i] = STAT(".").st_ino;
    }
    make_file("f", 0644, "at the bottom");
    EXPECT_CONTENT("f", "at the bottom");
    char buffer[PATH_MAX * 4];
    EXPECT(getcwd(buffer, sizeof(buffer)) != NULL || errno == ENAMETOOLONG || errno == ERANGE);
    for (int i = depth - 1; i > 0; i--) {
        EXPECT_EQ(STAT("..").st_ino, inos[i - 1]);
        REQUIRE_OK(chdir(".."));
        EXPECT_EQ(STAT(".").st_ino, inos[i - 1]);
    }
}
