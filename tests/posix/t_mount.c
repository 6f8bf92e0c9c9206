/* What is a mount point cannot be removed or renamed. In a mount namespace of its own. */
#include "tests/posix/suite.h"

#include <sched.h>
#include <sys/mount.h>

static void mount_at(const char *path)
{
    need_root();
    if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
        case_skip("no mount namespaces");
    if (mount("posix", path, "tmpfs", 0, "size=64k") == -1) case_skip("tmpfs cannot be mounted");
}

CASE(mountpoint, is_busy)
{
    make_dir("d", 0755);
    make_dir("d/point", 0755);
    make_dir("empty", 0755);
    mount_at("d/point");
    EXPECT_ERR(rmdir("d/point"), EBUSY);
    EXPECT_ERR2(rename("d/point", "elsewhere"), EBUSY, EXDEV);
    EXPECT_ERR2(rename("empty", "d/point"), EBUSY, EXDEV);
    EXPECT_ERR2(renameat2(AT_FDCWD, "empty", AT_FDCWD, "d/point", RENAME_EXCHANGE), EBUSY, EXDEV);
    EXPECT_ERR2(unlink("d/point"), EISDIR, EBUSY);
    EXPECT_OK(rename("d", "renamed")); /* a directory above moves with what is mounted below */
    make_file("renamed/point/f", 0644, "on the other side");
    EXPECT_CONTENT("renamed/point/f", "on the other side");
    EXPECT_ERR(link("renamed/point/f", "f"), EXDEV);
    EXPECT_ERR(rename("renamed/point/f", "f"), EXDEV);
    REQUIRE_OK(umount2("renamed/point", MNT_DETACH));
    EXPECT_EQ(count_entries("renamed/point"), 0);
    EXPECT_OK(rmdir("renamed/point"));
}

CASE(mountpoint, dot_dot_leads_out_of_it)
{
    make_dir("d", 0755);
    make_dir("d/point", 0755);
    mount_at("d/point");
    EXPECT_EQ(STAT("d/point/..").st_ino, STAT("d").st_ino);
    EXPECT(STAT("d/point").st_dev != STAT("d").st_dev);
    REQUIRE_OK(umount2("d/point", MNT_DETACH));
}

CASE(mountpoint, of_a_file)
{
    make_file("f", 0644, "below");
    make_file("g", 0644, "above");
    need_root();
    if (unshare(CLONE_NEWNS) == -1 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == -1)
        case_skip("no mount namespaces");
    if (mount("g", "f", NULL, MS_BIND, NULL) == -1) case_skip("files cannot be bound");
    EXPECT_CONTENT("f", "above");
    EXPECT_ERR(unlink("f"), EBUSY);
    EXPECT_ERR2(rename("f", "h"), EBUSY, EXDEV);
    EXPECT_ERR2(rename("g", "f"), EBUSY, EXDEV);
    REQUIRE_OK(umount2("f", MNT_DETACH));
    EXPECT_CONTENT("f", "below");
    EXPECT_OK(unlink("f"));
}
