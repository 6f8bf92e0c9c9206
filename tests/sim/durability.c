/* The durability simulation: stores that live and crash, from a seed each.
 *
 *     durability [--seeds N] [--first SEED] [--jobs N]    many seeds (default 1000 from 1, one job
 * per processor) durability --seed SEED                              one, telling what happens
 *
 * A seed makes a store and lets it live several lives (tests/sim/life.c). A life ends in one of
 * these ways: the power goes between two steps, or in the middle of a job; the process is killed;
 * it is closed in order. By chance file calls fail, or the disk is full for a moment or for longer.
 * Then the store is recovered, perhaps with further power cuts during recovery, perhaps after one
 * bit of one of its files was flipped. What is checked:
 *
 *   - Everything that was acknowledged as durable is there, and after an orderly close everything.
 *   - What is there is exactly the transactions up to the cut: no part of a later one, none of them
 * missing, and transactions over several logs are whole.
 *   - The clock is not behind anything that was kept.
 *   - A flipped bit is reported with the name of its file, or the state is still that of some cut,
 * and after an orderly close the complete one. A recovery that refuses changes nothing: with the
 * bit flipped back it succeeds.
 *   - A disk that is full at the start is refused as such, and what it holds is there once there is
 * space. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "tests/sim/life.h"

enum { LIVES_MAX = 8, STEPS_MAX = 700, JOBS_MAX = 16, REASON_SIZE = 512 };

struct run {
    struct sim *sim;
    struct model model;
    struct catalog *catalog;
    struct life life;
    uint64_t seed;
    uint16_t partition_count;
    uint64_t segment_size_max;
    bool verbose;
    bool is_small;    /* the disk */
    bool has_ballast; /* a file on it that can be given up when it is full */
    bool refused;     /* it is full without it, too: the seed ends */
    bool closed;      /* the last life ended in order */
    bool flipped;     /* a bit is wrong somewhere */
    uint64_t durable; /* at the end of the last life */
    char reason[REASON_SIZE];
};

__attribute__((format(printf, 2, 3))) static bool fail(struct run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(run->reason, sizeof(run->reason), format, args);
    va_end(args);
    return false;
}

#define SAY(run, ...)                                                                              \
    do {                                                                                           \
        if ((run)->verbose) printf(__VA_ARGS__);                                                   \
    } while (0)

static uint64_t below(struct run *run, uint64_t count)
{
    return sim_random(run->sim) % count;
}

/* ---- the store ---- */

static void column_set(struct column_def *column, const char *name, enum column_type type)
{
    snprintf(column->name, sizeof(column->name), "%s", name);
    column->type = (uint8_t)type;
}

/* One table with a primary key over the slot, an ordered index and a body that may be NULL. */
static struct catalog *catalog_make(void)
{
    struct catalog *catalog = calloc(1, sizeof(*catalog));
    struct table_def *table = calloc(1, sizeof(*table));
    struct column_def *columns = calloc(4, sizeof(*columns));
    ASSERT(catalog && table && columns);
    column_set(&columns[0], "slot", TYPE_INT_UNSIGNED);
    column_set(&columns[1], "k", TYPE_BIGINT_UNSIGNED);
    column_set(&columns[2], "version", TYPE_BIGINT_UNSIGNED);
    column_set(&columns[3], "body", TYPE_VARBINARY);
    columns[3].nullable = true;
    columns[3].size_max = 300;
    *table = (struct table_def){
        .database = "sim",
        .name = "t",
        .id = 3,
        .version = 1,
        .column_count = 4,
        .index_count = 2,
        .next_index_id = 2,
        .partition_by = PARTITION_BY_SLOT,
        .partition_column_count = 1,
        .columns = columns,
    };
    table->indexes[0] = (struct index_def){.name = "PRIMARY",
                                           .kind = INDEX_ORDERED,
                                           .has_hash = true,
                                           .unique = true,
                                           .column_count = 2,
                                           .columns = {0, 1}};
    table->indexes[1] = (struct index_def){
        .name = "version", .id = 1, .kind = INDEX_ORDERED, .column_count = 1, .columns = {2}};
    struct diag diag;
    enum err err = table_def_check(table, &diag);
    ASSERT(!err);
    *catalog =
        (struct catalog){.version = 2, .next_table_id = 4, .table_count = 1, .tables = {table}};
    return catalog;
}

static bool file_write_whole(struct run *run, const char *path, const uint8_t *bytes, size_t size)
{
    const struct env_ops *ops = sim_env(run->sim)->ops;
    struct env_file *file;
    unsigned flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE;
    if (ops->file_open(sim_env(run->sim), path, flags, &file)) return false;
    bool written = !ops->file_write(file, bytes, size, 0) && !ops->file_sync(file);
    ops->file_close(file);
    return written;
}

static bool store_make(struct run *run)
{
    struct diag diag = {.text = ""};
    struct env *env = sim_env(run->sim);
    enum err err = store_create(env, run->partition_count, &diag);
    if (!err) err = store_write_catalog(env, run->catalog, &diag);
    if (err) return fail(run, "no store: %s", diag.text);
    if (!run->has_ballast) return true;
    static const uint8_t ballast[64 << 10];
    if (!file_write_whole(run, "ballast", ballast, sizeof(ballast))) return fail(run, "no ballast");
    return env->ops->dir_sync(env, ".") ? fail(run, "no ballast") : true;
}

/* ---- damage ---- */

struct victim {
    char path[128];
    uint64_t offset;
    uint8_t bit;
};

struct pick {
    struct run *run;
    const char *dir;
    unsigned seen;
    struct victim *victim;
};

static enum err victim_listed(void *context, const char *name)
{
    struct pick *pick = context;
    if (below(pick->run, ++pick->seen) == 0)
        snprintf(pick->victim->path, sizeof(pick->victim->path), "%s%.100s", pick->dir, name);
    return ERR_NONE;
}

static bool victim_flip(struct run *run, const struct victim *victim)
{
    const struct env_ops *ops = sim_env(run->sim)->ops;
    struct env_file *file;
    if (ops->file_open(sim_env(run->sim), victim->path, ENV_OPEN_WRITE, &file)) return false;
    uint8_t byte;
    size_t read;
    bool done = !ops->file_read(file, &byte, 1, victim->offset, &read) && read == 1;
    byte ^= (uint8_t)(1u << victim->bit);
    done = done && !ops->file_write(file, &byte, 1, victim->offset) && !ops->file_sync(file);
    ops->file_close(file);
    return done;
}

/* Flips one bit of a random file. False: there was nothing to flip. */
static bool damage_do(struct run *run, struct victim *ret_victim)
{
    const struct env_ops *ops = sim_env(run->sim)->ops;
    *ret_victim = (struct victim){.bit = (uint8_t)below(run, 8)};
    struct pick pick = {.run = run, .dir = "redo/", .victim = ret_victim};
    enum err err = ERR_NONE;
    if (below(run, 4)) {
        err = ops->dir_list(sim_env(run->sim), "redo", victim_listed, &pick);
        pick.dir = "checkpoint/";
        if (!err) err = ops->dir_list(sim_env(run->sim), "checkpoint", victim_listed, &pick);
    } else {
        snprintf(ret_victim->path, sizeof(ret_victim->path), "%s",
                 below(run, 2) ? "catalog" : "trellis");
    }
    struct env_file *file;
    if (err || ops->file_open(sim_env(run->sim), ret_victim->path, ENV_OPEN_READ, &file))
        return false;
    uint64_t size = 0;
    err = ops->file_size(file, &size);
    ops->file_close(file);
    if (err || !size) return false;
    ret_victim->offset =
        below(run, 2) ? below(run, size) : size - 1 - below(run, size) % 200 % size;
    return victim_flip(run, ret_victim);
}

/* ---- recovery ---- */

/* Opens the store and recovers it into a new life. */
static enum err recover_once(struct run *run, struct recovery_result *ret_result, struct diag *diag)
{
    struct env *env = sim_env(run->sim);
    struct store_info info;
    struct catalog *catalog;
    enum err err = store_open(env, &info, &catalog, diag);
    if (err) return err;
    ASSERT(catalog->version == run->catalog->version &&
           info.partition_count == run->partition_count);
    catalog_destroy(catalog);
    const struct recovery_config config = {
        .env = env,
        .partition_count = run->partition_count,
        .partitions = run->life.partitions,
        .partition_ldm = run->life.partition_ldm,
        .threads = 1,
    };
    return recovery_run(&config, ret_result, diag);
}

static void life_renew(struct run *run, bool first)
{
    if (!first) life_fini(&run->life);
    uint16_t workers = (uint16_t)(1 + below(run, LIFE_WORKERS_MAX));
    if (workers > run->partition_count) workers = run->partition_count;
    life_init(&run->life, run->sim, &run->model, run->catalog, run->partition_count, workers);
}

/* Recovers, with power cuts in between and the damage, if any, undone when it is refused. */
static bool recover(struct run *run, const struct victim *victim,
                    struct recovery_result *ret_result)
{
    run->flipped = victim != NULL;
    unsigned halts = below(run, 2) ? (unsigned)below(run, 4) : 0;
    for (;;) {
        struct diag diag = {.text = ""};
        if (halts) sim_halt_arm(run->sim, 1 + below(run, 60));
        enum err err = recover_once(run, ret_result, &diag);
        bool halted = sim_halted(run->sim);
        sim_halt_arm(run->sim, 0);
        if (!err && !halted) return true;
        if (halted) {
            SAY(run, "  power cut during recovery\n");
            halts--;
            sim_crash(run->sim);
        } else if (run->flipped && (err == ERR_CORRUPT || err == ERR_VERSION)) {
            SAY(run, "  refused: %s\n", diag.text);
            if (!strstr(diag.text, victim->path))
                return fail(run, "damage in %s was reported as: %s", victim->path, diag.text);
            if (!victim_flip(run, victim)) return fail(run, "%s is gone", victim->path);
            run->flipped = false;
        } else if (err == ERR_NO_SPACE && run->has_ballast) {
            SAY(run, "  refused: %s\n", diag.text);
            struct env *env = sim_env(run->sim);
            if (env->ops->remove(env, "ballast")) return fail(run, "the ballast is stuck");
            run->has_ballast = false;
        } else if (err == ERR_NO_SPACE && run->is_small) {
            SAY(run, "  refused: %s\n", diag.text);
            run->refused = true;
            return true;
        } else {
            return fail(run, "recovery: %s: %s", err_name(err), diag.text);
        }
        life_renew(run, false);
    }
}

static bool recovered_check(struct run *run, const struct recovery_result *result)
{
    uint64_t ts_max = model_ts_max(&run->model);
    SAY(run, "  cut %llu of %llu, durable %llu, clock %llu, %llu replayed, %llu dropped\n",
        (unsigned long long)result->cut, (unsigned long long)ts_max,
        (unsigned long long)run->durable, (unsigned long long)result->clock,
        (unsigned long long)result->replayed_count, (unsigned long long)result->dropped_count);
    if (!run->flipped && result->cut < run->durable)
        return fail(run, "what was durable up to %llu was cut at %llu",
                    (unsigned long long)run->durable, (unsigned long long)result->cut);
    if (run->closed && result->cut < ts_max)
        return fail(run, "a closed store was cut at %llu of %llu", (unsigned long long)result->cut,
                    (unsigned long long)ts_max);
    if (result->clock < result->cut)
        return fail(run, "the clock %llu is behind the cut %llu", (unsigned long long)result->clock,
                    (unsigned long long)result->cut);
    model_cut(&run->model, result->cut);
    char reason[256];
    if (!life_matches(&run->life, reason)) return fail(run, "%s", reason);
    return true;
}

/* ---- lives ---- */

enum ending { POWER_CUT, POWER_CUT_IN_A_JOB, KILL, CLOSE, ENDINGS };
static const char *const ending_names[] = {"power cut", "power cut in a job", "kill", "close"};

/* Lets the life go on for a while and ends it. */
static void life_spend(struct run *run)
{
    struct life *life = &run->life;
    enum ending ending = (enum ending)below(run, ENDINGS);
    uint64_t steps = below(run, STEPS_MAX);
    bool faults = below(run, 8) == 0;
    sim_faults(run->sim, faults);
    if (ending == POWER_CUT_IN_A_JOB) sim_halt_arm(run->sim, 1 + below(run, 200));
    for (uint64_t i = 0; i < steps && !life->failed && !sim_halted(run->sim); i++) {
        if (ending != POWER_CUT_IN_A_JOB && below(run, 200) == 0)
            sim_fault_arm(run->sim, 1 + below(run, 6), ERR_NO_SPACE);
        life_step(life);
    }
    if (ending == KILL) {
        while (sim_step(run->sim))
            ;
    }
    run->closed = ending == CLOSE && life_close(life);
    sim_faults(run->sim, false);
    sim_fault_arm(run->sim, 0, ERR_NONE);
    sim_halt_arm(run->sim, 0);
    run->durable = life->durable;
    SAY(run, "  %llu checkpoints, ended by %s%s\n", (unsigned long long)life->checkpoint_count,
        ending_names[ending],
        life->failed  ? " after a failure"
        : run->closed ? ", closed"
                      : "");
    /* A killed process leaves the disk alone; a closed one may see a power cut later. */
    bool cut = ending == POWER_CUT || ending == POWER_CUT_IN_A_JOB || life->failed ||
               (ending == CLOSE && (!run->closed || below(run, 2)));
    if (cut) sim_crash(run->sim);
    life_renew(run, false);
}

static bool run_lives(struct run *run)
{
    life_renew(run, true);
    bool good = true;
    unsigned lives = 2 + (unsigned)below(run, LIVES_MAX - 1);
    for (unsigned i = 0; i < lives && good; i++) {
        struct victim victim;
        bool damaged = i && below(run, 4) == 0 && damage_do(run, &victim);
        SAY(run, "life %u: %u workers%s%s\n", i + 1, (unsigned)run->life.worker_count,
            damaged ? ", damage in " : "", damaged ? victim.path : "");
        struct recovery_result result;
        good = recover(run, damaged ? &victim : NULL, &result);
        if (!good || run->refused) break;
        good = recovered_check(run, &result);
        if (!good || i + 1 == lives) break;
        run->durable = result.cut;
        run->closed = false;
        if (below(run, 10) == 0) sim_halt_arm(run->sim, 1 + below(run, 12));
        enum err err = life_start(&run->life, &result, run->segment_size_max);
        if (err) {
            bool excused = sim_halted(run->sim) || err == ERR_NO_SPACE;
            sim_halt_arm(run->sim, 0);
            SAY(run, "  did not start: %s\n", err_name(err));
            if (!excused) good = fail(run, "no logs: %s", err_name(err));
            sim_crash(run->sim);
            life_renew(run, false);
            continue;
        }
        sim_halt_arm(run->sim, 0);
        life_spend(run);
    }
    life_fini(&run->life);
    return good;
}

static bool seed_run(uint64_t seed, bool verbose, char reason[REASON_SIZE])
{
    struct run run = {.seed = seed, .verbose = verbose, .catalog = catalog_make()};
    struct sim_config config = {
        .seed = seed,
        .disk_latency_ns_min = 10000,
        .disk_latency_ns_max = 2000000,
        .fault_per_million = 4000,
    };
    run.is_small = run.has_ballast = seed % 8 == 0;
    if (run.is_small) config.disk_size_max = (96u << 10) + seed * 977 % (64u << 10);
    enum err err = sim_create(&config, &run.sim);
    ASSERT(!err);
    run.partition_count = (uint16_t)(1u << below(&run, 4));
    static const uint64_t segment_sizes[] = {700, 2000, 8000, 0};
    run.segment_size_max = segment_sizes[below(&run, 4)];
    SAY(&run, "seed %llu: %u partitions, segments of %llu bytes%s\n", (unsigned long long)seed,
        (unsigned)run.partition_count, (unsigned long long)run.segment_size_max,
        run.is_small ? ", a small disk" : "");
    bool good = store_make(&run) && run_lives(&run);
    if (!good) memcpy(reason, run.reason, sizeof(run.reason));
    model_fini(&run.model);
    catalog_destroy(run.catalog);
    sim_destroy(run.sim);
    return good;
}

/* ---- many seeds ---- */

/* Shared with the processes that run seeds; one of them may die of an assertion. */
struct board {
    struct lane {
        uint64_t seed; /* being run, 0: all are done */
        uint64_t passed;
        uint64_t failed;
    } lanes[JOBS_MAX];
};

struct options {
    uint64_t first;
    uint64_t count;
    uint64_t only; /* 0: all */
    unsigned jobs;
    const char *program;
};

static void lane_fail(struct lane *lane, const struct options *options, const char *reason)
{
    printf("seed %llu: %s\n    again: %s --seed %llu\n", (unsigned long long)lane->seed, reason,
           options->program, (unsigned long long)lane->seed);
    fflush(stdout);
    lane->failed++;
}

/* Runs the lane's seeds from lane->seed on. */
static void lane_run(struct lane *lane, const struct options *options)
{
    uint64_t end = options->first + options->count;
    while (lane->seed < end) {
        char reason[REASON_SIZE];
        if (seed_run(lane->seed, false, reason))
            lane->passed++;
        else
            lane_fail(lane, options, reason);
        lane->seed += options->jobs;
    }
    lane->seed = 0;
}

static pid_t lane_start(struct lane *lane, const struct options *options)
{
    fflush(stdout);
    pid_t pid = fork();
    ASSERT(pid >= 0);
    if (pid) return pid;
    lane_run(lane, options);
    exit(0);
}

static int seeds_run(const struct options *options)
{
    struct board *board =
        mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(board != MAP_FAILED);
    pid_t pids[JOBS_MAX];
    for (unsigned i = 0; i < options->jobs; i++) {
        board->lanes[i].seed = options->first + i;
        pids[i] = lane_start(&board->lanes[i], options);
    }
    uint64_t passed = 0, failed = 0;
    for (unsigned i = 0; i < options->jobs; i++) {
        struct lane *lane = &board->lanes[i];
        int status;
        while (waitpid(pids[i], &status, 0) == pids[i] && status) {
            /* It died (an assertion, a sanitizer): that seed has failed, go on behind it. */
            if (lane->seed) {
                lane_fail(lane, options, "the process died");
                lane->seed += options->jobs;
            } else {
                lane->failed++;
                printf("a process failed at its end\n");
                break;
            }
            pids[i] = lane_start(lane, options);
        }
        passed += lane->passed;
        failed += lane->failed;
    }
    printf("%llu passed, %llu failed\n", (unsigned long long)passed, (unsigned long long)failed);
    return failed != 0;
}

static bool number_parse(const char *text, uint64_t *ret_number)
{
    char *end;
    *ret_number = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end;
}

int main(int argc, char **argv)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct options options = {.first = 1, .count = 1000, .program = argv[0]};
    uint64_t jobs = processors < 1 ? 1 : (uint64_t)processors;
    for (int i = 1; i < argc; i += 2) {
        uint64_t *number = !strcmp(argv[i], "--seeds")   ? &options.count
                           : !strcmp(argv[i], "--first") ? &options.first
                           : !strcmp(argv[i], "--seed")  ? &options.only
                           : !strcmp(argv[i], "--jobs")  ? &jobs
                                                         : NULL;
        if (!number || i + 1 == argc || !number_parse(argv[i + 1], number)) {
            fprintf(stderr, "usage: %s [--seeds N] [--first SEED] [--jobs N] | --seed SEED\n",
                    argv[0]);
            return 2;
        }
    }
    if (options.only) {
        char reason[REASON_SIZE];
        bool good = seed_run(options.only, true, reason);
        if (!good) printf("seed %llu: %s\n", (unsigned long long)options.only, reason);
        printf("%d passed, %d failed\n", good, !good);
        return !good;
    }
    options.jobs = jobs < 1 ? 1 : jobs > JOBS_MAX ? JOBS_MAX : (unsigned)jobs;
    if (!options.first) options.first = 1;
    return seeds_run(&options);
}
