/* kill -9 under load: what was fsynced is there, and what remains is a prefix of each client's
 * operations.
 *
 * usage: crash TRELLIS STORE MOUNTPOINT ROUNDS SEED
 *
 * Each of CLIENTS processes works in two directories of its own with operations that follow from
 * the seed alone: creations of every kind, renames within and across its directories (over existing
 * names too), links, removals, now and then an fsync. Before and after every operation it counts in
 * shared memory: `issued` operations were started, `acked` have returned, `synced` had returned
 * before an fsync that returned. Every round the server is killed at a random moment, mounted again
 * (with another number of workers), and each client's directories are compared with what its
 * operations make after k steps, for every k from synced to issued: one must fit. The next round
 * goes on from there. Files written and fsynced are compared byte by byte. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 3, NAMES = 40, DIRS = 2, DATA_SIZE_MAX = 20000, MOUNT_WAIT_MS = 30000 };

enum kind { ABSENT, FILE_EMPTY, SYMLINK, DIRECTORY, FIFO };

/* What a client's directories hold: by directory and name number, the kind and an identity that
 * follows renames and links. */
struct model {
    struct entry {
        uint8_t kind;
        uint64_t id;
    } entries[DIRS][NAMES];
};

struct shared {
    struct client {
        _Atomic uint64_t issued, acked, synced;
        _Atomic uint64_t data_synced; /* version of the data file that an fsync covered */
        _Atomic bool stop;
        char failure[200];
    } clients[CLIENTS];
};

static struct shared *shared;
static const char *mountpoint;

static uint64_t mix(uint64_t x)
{
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9u;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct operation {
    enum { CREATE, MAKE_SYMLINK, MAKE_DIRECTORY, MAKE_FIFO, RENAME, LINK, REMOVE, SYNC } what;
    int dir, name, to_dir, to_name;
    uint64_t id;
};

static struct operation operation_at(uint64_t seed, int client, uint64_t index)
{
    uint64_t r = mix(seed ^ mix(index * CLIENTS + (uint64_t)client + 1));
    static const uint8_t choices[] = {
        CREATE, CREATE, CREATE, MAKE_SYMLINK, MAKE_SYMLINK, MAKE_DIRECTORY, MAKE_FIFO, RENAME,
        RENAME, RENAME, RENAME, RENAME,       LINK,         REMOVE,         REMOVE,    REMOVE};
    struct operation operation = {.what = choices[r % 16], .id = index + 1};
    if ((r >> 4) % 128 == 0) operation.what = SYNC;
    operation.dir = (int)((r >> 16) % DIRS);
    operation.name = (int)((r >> 20) % NAMES);
    operation.to_dir = (int)((r >> 30) % DIRS);
    operation.to_name = (int)((r >> 36) % NAMES);
    return operation;
}

/* The effect on the model, and whether the call must succeed: what the manual pages say. */
static bool model_apply(struct model *model, const struct operation *operation)
{
    struct entry *at = &model->entries[operation->dir][operation->name];
    struct entry *to = &model->entries[operation->to_dir][operation->to_name];
    switch (operation->what) {
    case CREATE:
    case MAKE_SYMLINK:
    case MAKE_DIRECTORY:
    case MAKE_FIFO:
        if (at->kind) return false;
        at->kind = operation->what == CREATE           ? FILE_EMPTY
                   : operation->what == MAKE_SYMLINK   ? SYMLINK
                   : operation->what == MAKE_DIRECTORY ? DIRECTORY
                                                       : FIFO;
        at->id = operation->id;
        return true;
    case RENAME:
        if (!at->kind) return false;
        if (at == to || (to->kind && to->id == at->id))
            return true; /* the same inode: nothing happens */
        if (to->kind && (to->kind == DIRECTORY) != (at->kind == DIRECTORY)) return false;
        *to = *at;
        *at = (struct entry){0};
        return true;
    case LINK:
        if (!at->kind || at->kind == DIRECTORY || to->kind) return false;
        *to = *at;
        return true;
    case REMOVE:
        if (!at->kind) return false;
        *at = (struct entry){0};
        return true;
    case SYNC:
        return true;
    }
    return false;
}

static void path_of(char path[600], int client, int dir, int name)
{
    (void)snprintf(path, 600, "%s/client%d/%c/n%02d", mountpoint, client, 'a' + dir, name);
}

static int sync_dir(int client)
{
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/client%d", mountpoint, client);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return -1;
    int result = fsync(fd);
    int saved = errno;
    (void)close(fd);
    errno = saved;
    return result;
}

static int perform(int client, const struct operation *operation, bool is_directory)
{
    char path[600];
    char to[600];
    char target[32];
    path_of(path, client, operation->dir, operation->name);
    path_of(to, client, operation->to_dir, operation->to_name);
    switch (operation->what) {
    case CREATE: {
        int fd = open(path, O_CREAT | O_EXCL | O_WRONLY, 0644);
        return fd < 0 ? -1 : close(fd);
    }
    case MAKE_SYMLINK:
        (void)snprintf(target, sizeof(target), "%lu", operation->id);
        return symlink(target, path);
    case MAKE_DIRECTORY:
        return mkdir(path, 0755);
    case MAKE_FIFO:
        return mkfifo(path, 0644);
    case RENAME:
        return rename(path, to);
    case LINK:
        return linkat(AT_FDCWD, path, AT_FDCWD, to, 0);
    case REMOVE:
        return is_directory ? rmdir(path) : unlink(path);
    case SYNC:
        return sync_dir(client);
    }
    return -1;
}

static bool server_gone(int number)
{
    return number == ENOTCONN || number == ECONNABORTED || number == EIO || number == EINTR ||
           number == ENODEV;
}

static void data_fill(uint8_t *bytes, size_t size, int client, uint64_t version)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)mix(version * 31 + (uint64_t)client * 7 + i / 8 + 1);
}

static size_t data_size(uint64_t version)
{
    return mix(version) % DATA_SIZE_MAX + 1;
}

/* A whole new version of the data file, by the recipe that programs use: write aside, fsync,
 * rename, fsync. */
static bool write_data(int client, uint64_t version)
{
    static uint8_t bytes[DATA_SIZE_MAX + 1];
    char path[600];
    char aside[600];
    (void)snprintf(path, sizeof(path), "%s/client%d/data", mountpoint, client);
    (void)snprintf(aside, sizeof(aside), "%s/client%d/data.new", mountpoint, client);
    size_t size = data_size(version);
    data_fill(bytes, size, client, version);
    int fd = open(aside, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (fd < 0) return false;
    bool good = write(fd, bytes, size) == (ssize_t)size && fsync(fd) == 0;
    good = close(fd) == 0 && good;
    return good && rename(aside, path) == 0 && sync_dir(client) == 0;
}

/* Runs until the server goes away. Exit status 0, or 1 with a failure text. */
static int client_run(int client, uint64_t seed, struct model model, uint64_t start)
{
    struct client *counts = &shared->clients[client];
    for (uint64_t index = start;; index++) {
        if (index % 200 == 199) {
            uint64_t version = counts->data_synced + 1;
            uint64_t acked = counts->acked;
            errno = 0;
            if (!write_data(client, version)) {
                if (server_gone(errno)) return 0;
                (void)snprintf(counts->failure, sizeof(counts->failure), "writing data: %s",
                               strerror(errno));
                return 1;
            }
            counts->data_synced = version;
            counts->synced = acked;
        }
        struct operation operation = operation_at(seed, client, index);
        bool is_directory = model.entries[operation.dir][operation.name].kind == DIRECTORY;
        bool must = model_apply(&model, &operation);
        uint64_t acked = counts->acked;
        counts->issued = index + 1;
        bool did = perform(client, &operation, is_directory) == 0;
        int number = errno;
        if (!did && server_gone(number)) return 0;
        if (did != must) {
            (void)snprintf(counts->failure, sizeof(counts->failure),
                           "operation %lu (kind %d) %s: %s", index, (int)operation.what,
                           did ? "succeeded and must not" : "failed", did ? "" : strerror(number));
            return 1;
        }
        if (operation.what == SYNC) counts->synced = acked;
        counts->acked = index + 1;
    }
}

/* ---- checking after a restart ---- */

/* Identities in the mount are compared through inode numbers: entries of one model identity have
 * one inode. */
static bool state_matches(int client, const struct model *model, char *why, size_t why_size)
{
    uint64_t inos[DIRS][NAMES] = {{0}};
    for (int dir = 0; dir < DIRS; dir++) {
        int found = 0;
        int expected = 0;
        for (int name = 0; name < NAMES; name++) {
            const struct entry *entry = &model->entries[dir][name];
            char path[600];
            struct stat stat_at;
            path_of(path, client, dir, name);
            bool there = lstat(path, &stat_at) == 0;
            mode_t type = there ? stat_at.st_mode & S_IFMT : 0;
            static const mode_t types[] = {[FILE_EMPTY] = S_IFREG,
                                           [SYMLINK] = S_IFLNK,
                                           [DIRECTORY] = S_IFDIR,
                                           [FIFO] = S_IFIFO};
            expected += entry->kind != ABSENT;
            if (there != (entry->kind != ABSENT) || (there && type != types[entry->kind])) {
                (void)snprintf(why, why_size, "%s: expected kind %d, found type %o", path,
                               entry->kind, type);
                return false;
            }
            if (!there) continue;
            inos[dir][name] = stat_at.st_ino;
            if (entry->kind != SYMLINK) continue;
            char target[32] = {0};
            char wanted[32];
            (void)snprintf(wanted, sizeof(wanted), "%lu", entry->id);
            if (readlink(path, target, sizeof(target) - 1) < 0 || strcmp(target, wanted)) {
                (void)snprintf(why, why_size, "%s: link to '%s', expected '%s'", path, target,
                               wanted);
                return false;
            }
        }
        char path[600];
        (void)snprintf(path, sizeof(path), "%s/client%d/%c", mountpoint, client, 'a' + dir);
        DIR *listing = opendir(path);
        const struct dirent *entry;
        while (listing && (entry = readdir(listing)))
            found += entry->d_name[0] != '.';
        if (listing) (void)closedir(listing);
        if (found != expected) {
            (void)snprintf(why, why_size, "%s lists %d names, expected %d", path, found, expected);
            return false;
        }
    }
    for (int a = 0; a < DIRS * NAMES; a++)
        for (int b = 0; b < a; b++) {
            const struct entry *x = &model->entries[a / NAMES][a % NAMES];
            const struct entry *y = &model->entries[b / NAMES][b % NAMES];
            if (!x->kind || !y->kind) continue;
            if ((x->id == y->id) != (inos[a / NAMES][a % NAMES] == inos[b / NAMES][b % NAMES])) {
                (void)snprintf(why, why_size, "names %d and %d share an inode wrongly", a, b);
                return false;
            }
        }
    return true;
}

/* Finds the k that fits; leaves the model there. */
static bool client_check(int client, uint64_t seed, struct model *model, uint64_t *index)
{
    struct client *counts = &shared->clients[client];
    char why[700] = "";
    struct model at = *model;
    uint64_t k = *index;
    for (; k < counts->synced; k++) {
        struct operation operation = operation_at(seed, client, k);
        (void)model_apply(&at, &operation);
    }
    for (;; k++) {
        if (state_matches(client, &at, why, sizeof(why))) break;
        if (k >= counts->issued) {
            (void)printf(
                "client %d: no prefix from %lu (synced) to %lu (issued, %lu answered) fits: "
                "%s\n",
                client, counts->synced, counts->issued, counts->acked, why);
            return false;
        }
        struct operation operation = operation_at(seed, client, k);
        (void)model_apply(&at, &operation);
    }
    *model = at;
    *index = k;
    counts->issued = counts->acked = counts->synced = k;
    return true;
}

/* The version that was fsynced, or, when the kill came within the next writing, the next one. */
static bool data_check(int client)
{
    struct client *counts = &shared->clients[client];
    if (!counts->data_synced) return true;
    static uint8_t found[DATA_SIZE_MAX + 2];
    static uint8_t wanted[DATA_SIZE_MAX + 2];
    char path[600];
    (void)snprintf(path, sizeof(path), "%s/client%d/data", mountpoint, client);
    int fd = open(path, O_RDONLY);
    ssize_t size = fd < 0 ? -1 : read(fd, found, sizeof(found));
    if (fd >= 0) (void)close(fd);
    for (uint64_t version = counts->data_synced; version <= counts->data_synced + 1; version++) {
        data_fill(wanted, data_size(version), client, version);
        if (size == (ssize_t)data_size(version) && memcmp(found, wanted, (size_t)size) == 0) {
            counts->data_synced = version;
            return true;
        }
    }
    (void)printf("client %d: fsynced data version %lu is not there (%zd bytes)\n", client,
                 counts->data_synced, size);
    return false;
}

/* ---- the server ---- */

static bool is_mounted(void)
{
    struct stat at;
    struct stat above;
    char parent[600];
    (void)snprintf(parent, sizeof(parent), "%s/..", mountpoint);
    return stat(mountpoint, &at) == 0 && stat(parent, &above) == 0 && at.st_dev != above.st_dev;
}

static pid_t server_start(const char *trellis, const char *store, unsigned workers)
{
    char count[16];
    (void)snprintf(count, sizeof(count), "%u", workers);
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl(trellis, trellis, "mount", "-f", "--store", store, "--workers", count, "-o",
                    "entry_timeout=0,attr_timeout=0,negative_timeout=0", mountpoint, (char *)NULL);
        _exit(127);
    }
    for (int waited = 0; waited < MOUNT_WAIT_MS; waited += 5) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid) {
            (void)printf("the server ended at its start with status %d\n", status);
            return -1;
        }
        if (is_mounted()) return pid;
        (void)usleep(5000);
    }
    (void)printf("the server did not mount\n");
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return -1;
}

static bool fsck(const char *trellis)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)execl(trellis, trellis, "fsck", "--mount", mountpoint, (char *)NULL);
        _exit(127);
    }
    int status;
    return waitpid(pid, &status, 0) == pid && status == 0;
}

static bool make_directories(void)
{
    for (int client = 0; client < CLIENTS; client++) {
        char path[600];
        (void)snprintf(path, sizeof(path), "%s/client%d", mountpoint, client);
        if (mkdir(path, 0755)) return false;
        for (int dir = 0; dir < DIRS; dir++) {
            (void)snprintf(path, sizeof(path), "%s/client%d/%c", mountpoint, client, 'a' + dir);
            if (mkdir(path, 0755)) return false;
        }
        if (sync_dir(client)) return false;
    }
    return true;
}

/* Load, kill, clients' ends. */
static bool run_load(pid_t server, uint64_t seed, uint64_t round, const struct model *models,
                     const uint64_t *indexes)
{
    pid_t clients[CLIENTS];
    for (int client = 0; client < CLIENTS; client++) {
        clients[client] = fork();
        if (clients[client] == 0) _exit(client_run(client, seed, models[client], indexes[client]));
    }
    (void)usleep((useconds_t)(mix(seed ^ (round * 77)) % 300000 + 1000));
    (void)kill(server, SIGKILL);
    (void)waitpid(server, NULL, 0);
    bool good = true;
    for (int client = 0; client < CLIENTS; client++) {
        int status;
        (void)waitpid(clients[client], &status, 0);
        if (status == 0) continue;
        (void)printf("client %d: %s (status %d)\n", client, shared->clients[client].failure,
                     status);
        good = false;
    }
    return good;
}

int main(int argc, char **argv)
{
    if (argc != 6) {
        (void)fprintf(stderr, "usage: crash TRELLIS STORE MOUNTPOINT ROUNDS SEED\n");
        return 2;
    }
    const char *trellis = argv[1];
    const char *store = argv[2];
    mountpoint = argv[3];
    uint64_t rounds = strtoull(argv[4], NULL, 10);
    uint64_t seed = strtoull(argv[5], NULL, 10);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) return 1;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);

    static struct model models[CLIENTS];
    uint64_t indexes[CLIENTS] = {0};
    static const unsigned workers[] = {1, 2, 4};
    uint64_t passed = 0;
    uint64_t operations = 0;
    pid_t server = server_start(trellis, store, 1);
    bool good = server > 0 && make_directories();
    for (uint64_t round = 0; good && round < rounds; round++) {
        good = run_load(server, seed, round, models, indexes);
        server = server_start(trellis, store, workers[(round + 1) % 3]);
        if (server < 0) good = false;
        for (int client = 0; good && client < CLIENTS; client++) {
            uint64_t before = indexes[client];
            good =
                client_check(client, seed, &models[client], &indexes[client]) && data_check(client);
            operations += indexes[client] - before;
        }
        good = good && fsck(trellis);
        if (good)
            passed++;
        else
            (void)printf("FAIL round %lu of seed %lu\n", round, seed);
    }
    if (server > 0) {
        (void)kill(server, SIGTERM);
        (void)waitpid(server, NULL, 0);
    }
    (void)umount2(mountpoint, MNT_DETACH);
    (void)printf("%lu rounds, %lu operations survived\n", passed, operations);
    (void)printf("%lu passed, %d failed\n", passed, good ? 0 : 1);
    return good ? 0 : 1;
}
