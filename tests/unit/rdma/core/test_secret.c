#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rdma/port.h"

static char folder[256], path[300];

static void setup(void)
{
    const char *place = getenv("TMPDIR");
    snprintf(folder, sizeof(folder), "%s/trellis-secret-XXXXXX", place ? place : "/tmp");
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/secret", folder);
}

static void teardown(void)
{
    (void)unlink(path);
    cr_assert_eq(rmdir(folder), 0, "something else was left there");
}

TestSuite(secret, .init = setup, .fini = teardown);

static void file_write(const char *text, mode_t mode)
{
    (void)unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    cr_assert_eq(chmod(path, mode), 0);
}

#define DIGITS "00112233445566778899aabbccddeeffFFEEDDCCBBAA99887766554433221100"

Test(secret, a_good_file_is_read)
{
    static const char *const texts[] = {DIGITS, DIGITS "\n"};
    for (unsigned i = 0; i < 2; i++) {
        uint8_t secret[PORT_SECRET_SIZE] = {0};
        struct diag diag;
        file_write(texts[i], i ? 0400 : 0600);
        cr_assert_eq(port_secret_read(path, secret, &diag), ERR_NONE, "%s", diag.text);
        cr_assert(secret[0] == 0 && secret[1] == 0x11 && secret[15] == 0xff && secret[30] == 0x11);
    }
}

Test(secret, a_bad_file_is_refused)
{
    static const char *const texts[] = {
        "", "\n", "00", DIGITS "0", DIGITS "\n\n", DIGITS " ", " " DIGITS, "0x" DIGITS};
    uint8_t secret[PORT_SECRET_SIZE] = {77}, before[PORT_SECRET_SIZE] = {77};
    struct diag diag;
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        file_write(texts[i], 0600);
        cr_assert_eq(port_secret_read(path, secret, &diag), ERR_INVALID, "%u", i);
        cr_assert_not_null(strstr(diag.text, path));
    }
    char text[] = DIGITS;
    text[33] = 'g';
    file_write(text, 0600);
    cr_assert_eq(port_secret_read(path, secret, &diag), ERR_INVALID);
    (void)unlink(path);
    cr_assert_eq(port_secret_read(path, secret, &diag), ERR_NOT_FOUND);
    cr_assert_eq(port_secret_read(folder, secret, &diag), ERR_INVALID, "%s", diag.text);
    cr_assert_eq(memcmp(secret, before, sizeof(secret)), 0, "nothing is written on failure");
}

Test(secret, a_file_that_others_may_read_is_refused)
{
    static const mode_t modes[] = {0640, 0604, 0644, 0660, 0601};
    for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        uint8_t secret[PORT_SECRET_SIZE];
        struct diag diag;
        file_write(DIGITS, modes[i]);
        cr_assert_eq(port_secret_read(path, secret, &diag), ERR_DENIED);
        cr_assert_not_null(strstr(diag.text, "chmod 600"), "%s", diag.text);
    }
}

Test(secret, a_file_of_another_user_is_refused)
{
    if (geteuid()) cr_skip_test("only root can give files away");
    uint8_t secret[PORT_SECRET_SIZE];
    struct diag diag;
    file_write(DIGITS, 0600);
    cr_assert_eq(chown(path, 65534, 65534), 0);
    cr_assert_eq(port_secret_read(path, secret, &diag), ERR_DENIED);
}

Test(secret, one_that_is_made_stays_the_same)
{
    uint8_t first[PORT_SECRET_SIZE], again[PORT_SECRET_SIZE], zero[PORT_SECRET_SIZE] = {0};
    struct diag diag;
    cr_assert_eq(port_secret_make(path, first, &diag), ERR_NONE, "%s", diag.text);
    cr_assert_neq(memcmp(first, zero, sizeof(zero)), 0);
    struct stat stat_;
    cr_assert_eq(stat(path, &stat_), 0);
    cr_assert_eq(stat_.st_mode & 07777, 0600);
    cr_assert_eq(port_secret_make(path, again, &diag), ERR_NONE);
    cr_assert_eq(memcmp(first, again, sizeof(first)), 0);
    cr_assert_eq(port_secret_read(path, again, &diag), ERR_NONE);
    cr_assert_eq(memcmp(first, again, sizeof(first)), 0);
    cr_assert_eq(port_secret_make("/nonexistent/folder/secret", again, &diag), ERR_NOT_FOUND);
}

Test(secret, processes_that_make_one_at_once_agree)
{
    enum { COUNT = 8 };
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    for (unsigned i = 0; i < COUNT; i++) {
        if (fork()) continue;
        uint8_t secret[PORT_SECRET_SIZE];
        struct diag diag;
        if (port_secret_make(path, secret, &diag)) _exit(1);
        _exit(write(pipes[1], secret, sizeof(secret)) == (ssize_t)sizeof(secret) ? 0 : 1);
    }
    uint8_t first[PORT_SECRET_SIZE], other[PORT_SECRET_SIZE];
    for (unsigned i = 0; i < COUNT; i++) {
        int status;
        cr_assert_gt(wait(&status), 0);
        cr_assert_eq(status, 0);
        cr_assert_eq(read(pipes[0], i ? other : first, sizeof(first)), (ssize_t)sizeof(first));
        if (i) cr_assert_eq(memcmp(first, other, sizeof(first)), 0);
    }
    close(pipes[0]);
    close(pipes[1]);
}
