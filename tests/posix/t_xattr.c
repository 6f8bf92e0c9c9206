/* Extended attributes: setxattr(2), getxattr(2), listxattr(2), removexattr(2), xattr(7). */
#include "tests/posix/suite.h"

#include <linux/xattr.h>
#include <stdlib.h>
#include <sys/xattr.h>

/* The list holds the name. */
static bool listed(const char *path, const char *name)
{
    char list[65536];
    long size = EXPECT_OK(llistxattr(path, list, sizeof(list)));
    for (long at = 0; at < size; at += (long)strlen(list + at) + 1)
        if (strcmp(list + at, name) == 0) return true;
    return false;
}

static void expect_value(const char *path, const char *name, const char *value)
{
    char found[256] = {0};
    long size = EXPECT_OK(lgetxattr(path, name, found, sizeof(found) - 1));
    EXPECT_EQ(size, strlen(value));
    EXPECT_STR(found, value);
}

/* Skips where attributes of users are not supported at all. */
static void need_user_attributes(void)
{
    make_file("probe", 0644, NULL);
    if (setxattr("probe", "user.probe", "", 0, 0) == -1 && errno == EOPNOTSUPP)
        case_skip("no user attributes");
    REQUIRE_OK(unlink("probe"));
}

CASE(xattr, is_set_got_listed_and_removed)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    EXPECT_OK(setxattr("f", "user.one", "first", 5, 0));
    EXPECT_OK(setxattr("f", "user.two", "second", 6, 0));
    expect_value("f", "user.one", "first");
    expect_value("f", "user.two", "second");
    EXPECT(listed("f", "user.one") && listed("f", "user.two"));
    EXPECT_OK(removexattr("f", "user.one"));
    EXPECT(!listed("f", "user.one") && listed("f", "user.two"));
    char value[8];
    EXPECT_ERR(getxattr("f", "user.one", value, 8), ENODATA);
    EXPECT_ERR(removexattr("f", "user.one"), ENODATA);
    expect_value("f", "user.two", "second");
}

CASE(xattr, is_replaced)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    static const char *const values[] = {"short", "a longer value than before", "", "x", "last"};
    for (unsigned i = 0; i < 5; i++) {
        EXPECT_OK(setxattr("f", "user.a", values[i], strlen(values[i]), 0));
        expect_value("f", "user.a", values[i]);
    }
}

CASE(xattr, create_and_replace_flags)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    EXPECT_ERR(setxattr("f", "user.a", "v", 1, XATTR_REPLACE), ENODATA);
    EXPECT_OK(setxattr("f", "user.a", "v", 1, XATTR_CREATE));
    EXPECT_ERR(setxattr("f", "user.a", "w", 1, XATTR_CREATE), EEXIST);
    expect_value("f", "user.a", "v");
    EXPECT_OK(setxattr("f", "user.a", "w", 1, XATTR_REPLACE));
    expect_value("f", "user.a", "w");
    EXPECT_ERR(setxattr("f", "user.a", "v", 1, 0x10), EINVAL);
}

CASE(xattr, sizes_are_told_and_too_small_buffers_refused)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    REQUIRE_OK(setxattr("f", "user.a", "0123456789", 10, 0));
    char value[16] = {0};
    EXPECT_EQ(getxattr("f", "user.a", NULL, 0), 10);
    EXPECT_EQ(getxattr("f", "user.a", value, 0), 10);
    EXPECT_ERR(getxattr("f", "user.a", value, 9), ERANGE);
    EXPECT_ERR(getxattr("f", "user.a", value, 1), ERANGE);
    EXPECT_EQ(getxattr("f", "user.a", value, 10), 10);
    EXPECT_STR(value, "0123456789");
    EXPECT_EQ(getxattr("f", "user.a", value, 16), 10);
    long size = EXPECT_OK(listxattr("f", NULL, 0));
    EXPECT(size >= 7);
    char list[1000];
    EXPECT_ERR(listxattr("f", list, 3), ERANGE);
    EXPECT_ERR(listxattr("f", list, (size_t)size - 1), ERANGE);
    EXPECT_EQ(listxattr("f", list, (size_t)size), size);
    EXPECT_EQ(list[size - 1], 0);
}

CASE(xattr, empty_value_is_not_no_value)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    EXPECT_OK(setxattr("f", "user.empty", "", 0, 0));
    EXPECT_OK(setxattr("f", "user.null", NULL, 0, 0));
    char value[4];
    EXPECT_EQ(getxattr("f", "user.empty", value, 4), 0);
    EXPECT_EQ(getxattr("f", "user.null", value, 4), 0);
    EXPECT_EQ(getxattr("f", "user.empty", NULL, 0), 0);
    EXPECT(listed("f", "user.empty"));
    EXPECT_ERR(setxattr("f", "user.empty", "", 0, XATTR_CREATE), EEXIST);
    EXPECT_OK(removexattr("f", "user.empty"));
    EXPECT_ERR(getxattr("f", "user.empty", value, 4), ENODATA);
}

CASE(xattr, binary_values)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    static const size_t sizes[] = {1, 16, 100, 255, 256, 1000, 2000, 3000};
    char value[3000];
    char found[3000];
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        pattern_fill(value, sizes[i], 0, i);
        value[0] = 0;
        EXPECT_OK(setxattr("f", "user.binary", value, sizes[i], 0));
        EXPECT_EQ(getxattr("f", "user.binary", found, sizeof(found)), sizes[i]);
        EXPECT(memcmp(value, found, sizes[i]) == 0);
    }
}

CASE(xattr, values_up_to_the_limit)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    char *value = malloc(XATTR_SIZE_MAX + 1);
    char *found = malloc(XATTR_SIZE_MAX + 1);
    REQUIRE(value && found);
    pattern_fill(value, XATTR_SIZE_MAX + 1, 0, 1);
    EXPECT_ERR(setxattr("f", "user.big", value, XATTR_SIZE_MAX + 1, 0), E2BIG);
    EXPECT(!listed("f", "user.big"));
    static const size_t sizes[] = {4096, 10000, 32768, 65000, 65535, 65536};
    for (unsigned i = 0; i < 6; i++) {
        /* A file system may have less room for attributes, and then says so. */
        if (setxattr("f", "user.big", value, sizes[i], 0) == 0) {
            EXPECT_EQ(getxattr("f", "user.big", found, XATTR_SIZE_MAX + 1), sizes[i]);
            EXPECT(memcmp(value, found, sizes[i]) == 0);
        } else {
            EXPECT(errno == ENOSPC || errno == E2BIG || errno == ERANGE);
        }
    }
    free(value);
    free(found);
}

CASE(xattr, names_up_to_the_limit)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    char name[300] = "user.";
    memset(name + 5, 'n', 250);
    EXPECT_OK(setxattr("f", name, "v", 1, 0)); /* 255 bytes in all */
    expect_value("f", name, "v");
    EXPECT(listed("f", name));
    name[254] = 'm';
    EXPECT_OK(setxattr("f", name, "w", 1, 0));
    expect_value("f", name, "w");
    name[255] = 'n';
    char value[8];
    EXPECT_ERR(setxattr("f", name, "v", 1, 0), ERANGE);
    EXPECT_ERR(getxattr("f", name, value, 8), ERANGE);
    EXPECT_ERR(removexattr("f", name), ERANGE);
    EXPECT_ERR(setxattr("f", "", "v", 1, 0), ERANGE);
}

CASE(xattr, names_that_are_no_attributes)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    char value[8];
    EXPECT_ERR2(setxattr("f", "user", "v", 1, 0), EOPNOTSUPP, EINVAL);
    EXPECT_ERR2(setxattr("f", "user.", "v", 1, 0), EINVAL, EOPNOTSUPP);
    EXPECT_ERR2(setxattr("f", "unknown.a", "v", 1, 0), EOPNOTSUPP, EINVAL);
    EXPECT_ERR2(setxattr("f", "noprefix", "v", 1, 0), EOPNOTSUPP, EINVAL);
    EXPECT_ERR2(getxattr("f", "unknown.a", value, 8), EOPNOTSUPP, ENODATA);
    EXPECT_ERR2(removexattr("f", "unknown.a"), EOPNOTSUPP, ENODATA);
}

CASE(xattr, many_on_one_file)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    enum { COUNT = 60 };
    char name[32];
    char value[32];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "user.attribute-%d", i);
        snprintf(value, sizeof(value), "value %d", i);
        EXPECT_OK(setxattr("f", name, value, strlen(value), XATTR_CREATE));
    }
    for (int i = 0; i < COUNT; i += 2) {
        snprintf(name, sizeof(name), "user.attribute-%d", i);
        EXPECT_OK(removexattr("f", name));
    }
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "user.attribute-%d", i);
        snprintf(value, sizeof(value), "value %d", i);
        EXPECT_EQ(listed("f", name), i % 2);
        if (i % 2) expect_value("f", name, value);
    }
}

CASE(xattr, of_directories)
{
    need_user_attributes();
    make_dir("d", 0755);
    EXPECT_OK(setxattr("d", "user.a", "value", 5, 0));
    make_file("d/f", 0644, "x");
    make_dir("d/e", 0755);
    EXPECT(!listed("d/f", "user.a") && !listed("d/e", "user.a")); /* not inherited */
    REQUIRE_OK(rename("d", "g"));
    expect_value("g", "user.a", "value");
    EXPECT_OK(removexattr("g", "user.a"));
}

CASE(xattr, go_with_the_inode)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    REQUIRE_OK(setxattr("f", "user.a", "value", 5, 0));
    REQUIRE_OK(link("f", "g"));
    expect_value("g", "user.a", "value");
    REQUIRE_OK(rename("f", "h"));
    REQUIRE_OK(unlink("g"));
    expect_value("h", "user.a", "value");
    REQUIRE_OK(truncate("h", 0));
    expect_value("h", "user.a", "value");
    REQUIRE_OK(unlink("h"));
    make_file("h", 0644, "x"); /* a new file of the name has none */
    EXPECT(!listed("h", "user.a"));
}

CASE(xattr, through_descriptors_and_symlinks)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    REQUIRE_OK(symlink("f", "l"));
    int fd = open_file("f", O_RDONLY, 0);
    EXPECT_OK(fsetxattr(fd, "user.a", "value", 5, 0));
    char value[16] = {0};
    EXPECT_EQ(fgetxattr(fd, "user.a", value, 16), 5);
    EXPECT_OK(setxattr("l", "user.b", "value", 5, 0)); /* follows */
    expect_value("f", "user.b", "value");
    EXPECT(flistxattr(fd, NULL, 0) >= 14);
    EXPECT_OK(fremovexattr(fd, "user.a"));
    EXPECT_OK(removexattr("l", "user.b"));
    EXPECT_ERR(fgetxattr(fd, "user.a", value, 16), ENODATA);
    EXPECT_ERR(fsetxattr(99, "user.a", "v", 1, 0), EBADF);
    EXPECT_ERR(fsetxattr(open_file("f", O_PATH, 0), "user.a", "v", 1, 0), EBADF);
}

CASE(xattr, user_attributes_only_on_files_and_directories)
{
    need_user_attributes();
    static const mode_t types[] = {S_IFLNK, S_IFIFO, S_IFSOCK, S_IFCHR};
    char value[8];
    for (unsigned i = 0; i < (geteuid() == 0 ? 4 : 3); i++) {
        make_node("node", types[i]);
        EXPECT_ERR(lsetxattr("node", "user.a", "v", 1, 0), EPERM);
        EXPECT_ERR(lgetxattr("node", "user.a", value, 8), ENODATA);
        EXPECT(!listed("node", "user.a"));
        if (geteuid() == 0) {
            EXPECT_OK(lsetxattr("node", "trusted.a", "value", 5, 0));
            expect_value("node", "trusted.a", "value");
            EXPECT(listed("node", "trusted.a"));
            EXPECT_OK(lremovexattr("node", "trusted.a"));
        }
        REQUIRE_OK(remove("node"));
    }
}

CASE(xattr, user_attributes_follow_the_permissions)
{
    need_root();
    need_user_attributes();
    make_file("readable", 0644, "x");
    make_file("writable", 0622, "x");
    make_file("secret", 0600, "x");
    REQUIRE_OK(setxattr("readable", "user.a", "value", 5, 0));
    REQUIRE_OK(setxattr("writable", "user.a", "value", 5, 0));
    REQUIRE_OK(setxattr("secret", "user.a", "value", 5, 0));
    AS(user_a)
    {
        char value[8];
        expect_value("readable", "user.a", "value");
        EXPECT_ERR(setxattr("readable", "user.a", "v", 1, 0), EACCES);
        EXPECT_ERR(removexattr("readable", "user.a"), EACCES);
        EXPECT_ERR(getxattr("writable", "user.a", value, 8), EACCES);
        EXPECT_OK(setxattr("writable", "user.b", "v", 1, 0));
        EXPECT_OK(removexattr("writable", "user.b"));
        EXPECT_ERR(getxattr("secret", "user.a", value, 8), EACCES);
        EXPECT_ERR(setxattr("secret", "user.a", "v", 1, 0), EACCES);
        EXPECT(listed("readable", "user.a")); /* names are no secret */
    }
}

CASE(xattr, user_attributes_of_sticky_directories_are_the_owner_s)
{
    need_root();
    need_user_attributes();
    make_dir("d", 0777);
    make_dir("sticky", 0777);
    REQUIRE_OK(chmod("sticky", 01777));
    AS(user_a)
    {
        EXPECT_OK(setxattr("d", "user.a", "v", 1, 0));
        EXPECT_ERR(setxattr("sticky", "user.a", "v", 1, 0), EPERM);
    }
    EXPECT_OK(setxattr("sticky", "user.a", "v", 1, 0));
}

CASE(xattr, trusted_attributes_are_root_s)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    EXPECT_OK(setxattr("f", "trusted.a", "value", 5, 0));
    expect_value("f", "trusted.a", "value");
    EXPECT(listed("f", "trusted.a"));
    AS(user_a)
    {
        char value[8];
        EXPECT_ERR(getxattr("f", "trusted.a", value, 8), ENODATA);
        EXPECT_ERR(setxattr("f", "trusted.a", "v", 1, 0), EPERM);
        EXPECT_ERR(setxattr("f", "trusted.b", "v", 1, 0), EPERM);
        EXPECT_ERR(removexattr("f", "trusted.a"), EPERM);
        EXPECT(!listed("f", "trusted.a"));
    }
    EXPECT_OK(removexattr("f", "trusted.a"));
}

CASE(xattr, security_attributes)
{
    need_root();
    make_file("f", 0666, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    EXPECT_OK(setxattr("f", "security.note", "value", 5, 0));
    expect_value("f", "security.note", "value");
    EXPECT(listed("f", "security.note"));
    AS(user_a)
    {
        expect_value("f", "security.note", "value"); /* read by everybody */
        EXPECT_ERR(setxattr("f", "security.note", "v", 1, 0), EPERM);
        EXPECT_ERR(removexattr("f", "security.note"), EPERM);
    }
    EXPECT_OK(removexattr("f", "security.note"));
}

/* A VFS capability as capabilities(7) lays it out: revision 2, with CAP_NET_RAW permitted. */
static const struct {
    uint32_t magic, permitted, inheritable, permitted_high, inheritable_high;
} capability = {0x02000001, 1u << 13, 0, 0, 0};

CASE(xattr, file_capabilities_go_with_a_write)
{
    need_root();
    make_file("f", 0777, "x");
    REQUIRE_OK(chown("f", UID_A, GID_A));
    REQUIRE_OK(setxattr("f", "security.capability", &capability, sizeof(capability), 0));
    EXPECT(listed("f", "security.capability"));
    AS(user_a)
    {
        int fd = open_file("f", O_WRONLY, 0);
        write_all(fd, "changed", 7);
    }
    char value[64];
    EXPECT_ERR(getxattr("f", "security.capability", value, sizeof(value)), ENODATA);
}

CASE(xattr, file_capabilities_go_with_a_change_of_owner)
{
    need_root();
    make_file("f", 0777, "x");
    REQUIRE_OK(setxattr("f", "security.capability", &capability, sizeof(capability), 0));
    EXPECT_OK(chown("f", UID_A, GID_A));
    char value[64];
    EXPECT_ERR(getxattr("f", "security.capability", value, sizeof(value)), ENODATA);
}

CASE(xattr, setting_changes_only_ctime)
{
    need_user_attributes();
    make_file("f", 0644, "x");
    struct stat before = STAT("f");
    tick();
    EXPECT_OK(setxattr("f", "user.a", "value", 5, 0));
    EXPECT_TIMES(before, STAT("f"), "c");
    before = STAT("f");
    tick();
    EXPECT_OK(removexattr("f", "user.a"));
    EXPECT_TIMES(before, STAT("f"), "c");
    before = STAT("f");
    tick();
    EXPECT_ERR(removexattr("f", "user.a"), ENODATA);
    EXPECT_ERR(setxattr("f", "user.a", "v", 1, XATTR_REPLACE), ENODATA);
    EXPECT_TIMES(before, STAT("f"), "");
}

CASE(xattr, access_control_lists_work_or_are_not_supported)
{
    make_file("f", 0644, "x");
    /* A version 2 list that says no more than the mode 0640: owner, group, other. */
    static const unsigned char list[] = {2,    0,   0, 0, 1,   0,   6,   0,   255, 255,
                                         255,  255, 4, 0, 4,   0,   255, 255, 255, 255,
                                         0x20, 0,   0, 0, 255, 255, 255, 255};
    if (setxattr("f", "system.posix_acl_access", list, sizeof(list), 0) == -1) {
        EXPECT_EQ(errno, EOPNOTSUPP);
        EXPECT_EQ(PERMS("f"), 0644);
    } else {
        EXPECT_EQ(PERMS("f"), 0640);
    }
}
