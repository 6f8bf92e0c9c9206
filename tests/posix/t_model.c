/* Random operations on one file, compared with a model in memory: overlapping writes, appends,
 * truncations, holes, zeroed ranges, copies within the file, stores through mappings,
 * synchronisation, dropped caches, closed and opened descriptors.
 *
 * The model is the array of bytes that the file must hold. Every operation is followed by a look at
 * the size; reads compare what they read; every CHECK_EVERY operations the whole file is compared,
 * with the cache dropped every other time. */
#include "tests/posix/suite.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { CHECK_EVERY = 50, LOG_LINES = 12, PAGE = 4096 };

enum variant_flag { WITH_MAPS = 1, WITH_DIRECT = 2, WITHOUT_NAME = 4, WITH_APPEND = 8 };

struct variant {
    const char *name;
    unsigned flags;
    size_t size_max;  /* of the model */
    size_t piece_max; /* of one operation */
    off_t base;       /* added to all offsets: a hole in front */
    unsigned operations;
};

static const struct variant variants[] = {
    {"small_file", WITH_MAPS | WITH_APPEND, 20000, 3000, 0, 3000},
    {"pages", WITH_MAPS | WITH_APPEND, 300000, 40000, 0, 2000},
    {"large_pieces", WITH_MAPS, 4 << 20, 700000, 0, 250},
    {"written_only", WITH_APPEND, 100000, 10000, 0, 2500},
    {"with_direct_io", WITH_DIRECT, 500000, 60000, 0, 1200},
    {"behind_five_gibibytes", WITH_MAPS, 200000, 30000, (off_t)5 << 30, 1500},
    {"unlinked", WITH_MAPS | WITHOUT_NAME, 100000, 20000, 0, 1500},
};

struct model {
    const struct variant *variant;
    uint64_t random;
    uint8_t *bytes; /* size_max, zeros behind size */
    size_t size;
    int fd;     /* read and written */
    int second; /* another description of the same file */
    int append; /* with O_APPEND, or -1 */
    int direct; /* with O_DIRECT, or -1 */
    uint8_t *aligned;
    unsigned step;
    char log[LOG_LINES][80];
};

static void log_step(struct model *model, const char *format, ...)
{
    char *line = model->log[model->step % LOG_LINES];
    int used = snprintf(line, 80, "%u: ", model->step);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(line + used, (size_t)(80 - used), format, arguments);
    va_end(arguments);
}

_Noreturn static void model_fail(struct model *model, const char *what)
{
    FAIL("step %u: %s; seed %llu, the last steps were", model->step, what,
         (unsigned long long)case_seed());
    for (unsigned i = LOG_LINES; i-- > 0;)
        if (model->step >= i) FAIL("  %s", model->log[(model->step - i) % LOG_LINES]);
    case_abort();
}

static size_t random_below(struct model *model, size_t limit)
{
    return (size_t)(random_next(&model->random) % (limit ? limit : 1));
}

/* An offset up to the end or a little behind it; borders of pages are as likely as all else. */
static size_t random_offset(struct model *model)
{
    size_t limit = model->size + model->variant->piece_max / 4;
    if (limit > model->variant->size_max - 1) limit = model->variant->size_max - 1;
    size_t offset = random_below(model, limit + 1);
    switch (random_below(model, 4)) {
    case 0:
        return offset - offset % PAGE;
    case 1:
        offset -= offset % PAGE;
        return offset ? offset - 1 : 0;
    default:
        return offset;
    }
}

static size_t random_size(struct model *model, size_t offset)
{
    size_t size = 1 + random_below(model, model->variant->piece_max);
    if (random_below(model, 3) == 0) size = size - size % PAGE + PAGE;
    if (size > model->variant->size_max - offset) size = model->variant->size_max - offset;
    return size;
}

static int random_fd(struct model *model)
{
    return random_below(model, 2) ? model->fd : model->second;
}

static void put_pattern(struct model *model, size_t offset, size_t size)
{
    pattern_fill(model->bytes + offset, size, offset, model->step);
    if (offset + size > model->size) model->size = offset + size;
}

/* ---- operations ---- */

static void op_write(struct model *model)
{
    size_t offset = random_offset(model);
    size_t size = random_size(model, offset);
    log_step(model, "write %zu at %zu", size, offset);
    put_pattern(model, offset, size);
    ssize_t done =
        pwrite(random_fd(model), model->bytes + offset, size, model->variant->base + (off_t)offset);
    if (done != (ssize_t)size) model_fail(model, "the write was refused or short");
}

static void op_append(struct model *model)
{
    size_t size = random_size(model, model->size);
    if (model->append == -1 || size == 0) return;
    log_step(model, "append %zu", size);
    put_pattern(model, model->size, size);
    ssize_t done = write(model->append, model->bytes + model->size - size, size);
    if (done != (ssize_t)size) model_fail(model, "the append was refused or short");
}

static void compare(struct model *model, const uint8_t *found, size_t offset, size_t size)
{
    if (memcmp(found, model->bytes + offset, size) == 0) return;
    size_t at = 0;
    while (found[at] == model->bytes[offset + at])
        at++;
    char what[120];
    snprintf(what, sizeof(what), "byte %zu (of %zu) is 0x%02x, not 0x%02x", offset + at,
             model->size, found[at], model->bytes[offset + at]);
    model_fail(model, what);
}

static void read_and_compare(struct model *model, int fd, size_t offset, size_t size)
{
    size_t expected = offset >= model->size ? 0 : model->size - offset;
    if (expected > size) expected = size;
    uint8_t *found = model->aligned;
    ssize_t done = pread(fd, found, size, model->variant->base + (off_t)offset);
    if (done != (ssize_t)expected) model_fail(model, "a read was refused, short or long");
    compare(model, found, offset, expected);
}

static void op_read(struct model *model)
{
    size_t offset = random_offset(model);
    size_t size = random_size(model, offset);
    log_step(model, "read %zu at %zu", size, offset);
    read_and_compare(model, random_fd(model), offset, size);
}

static void set_size(struct model *model, size_t size)
{
    if (size < model->size) memset(model->bytes + size, 0, model->size - size);
    model->size = size;
}

static void op_truncate(struct model *model)
{
    size_t size = random_offset(model);
    log_step(model, "truncate from %zu to %zu", model->size, size);
    if (ftruncate(random_fd(model), model->variant->base + (off_t)size) == -1)
        model_fail(model, "the truncation was refused");
    set_size(model, size);
}

static void op_fallocate(struct model *model)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    int mode = modes[random_below(model, 5)];
    size_t offset = random_offset(model);
    size_t size = random_size(model, offset);
    log_step(model, "fallocate mode %d of %zu at %zu", mode, size, offset);
    if (fallocate(random_fd(model), mode, model->variant->base + (off_t)offset, (off_t)size) ==
        -1) {
        if (errno == EOPNOTSUPP) return;
        model_fail(model, "fallocate was refused");
    }
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        memset(model->bytes + offset, 0, size);
    if (!(mode & FALLOC_FL_KEEP_SIZE) && offset + size > model->size) model->size = offset + size;
}

static void op_copy(struct model *model)
{
    size_t from = random_offset(model);
    size_t to = random_offset(model);
    size_t size = random_size(model, from > to ? from : to);
    if ((from < to ? from + size > to : to + size > from) || from >= model->size) return;
    if (size > model->size - from) size = model->size - from;
    log_step(model, "copy %zu from %zu to %zu", size, from, to);
    off_t in = model->variant->base + (off_t)from;
    off_t out = model->variant->base + (off_t)to;
    for (size_t left = size; left > 0;) {
        ssize_t done = copy_file_range(model->fd, &in, model->second, &out, left, 0);
        if (done <= 0) model_fail(model, "copy_file_range was refused or short");
        left -= (size_t)done;
    }
    memcpy(model->bytes + to, model->bytes + from, size);
    if (to + size > model->size) model->size = to + size;
}

static void op_map(struct model *model)
{
    if (!(model->variant->flags & WITH_MAPS) || model->size == 0) return;
    size_t offset = random_below(model, model->size);
    size_t size = 1 + random_below(model, model->variant->piece_max);
    if (size > model->size - offset) size = model->size - offset;
    bool store = random_below(model, 2) == 0;
    log_step(model, "%s %zu at %zu by a mapping", store ? "store" : "load", size, offset);
    size_t start = offset - offset % PAGE;
    uint8_t *map = mmap(NULL, offset + size - start, PROT_READ | PROT_WRITE, MAP_SHARED,
                        random_fd(model), model->variant->base + (off_t)start);
    if (map == MAP_FAILED) model_fail(model, "mmap was refused");
    if (store) {
        put_pattern(model, offset, size);
        memcpy(map + (offset - start), model->bytes + offset, size);
        if (random_below(model, 2)) (void)msync(map, offset + size - start, MS_SYNC);
    } else {
        compare(model, map + (offset - start), offset, size);
    }
    if (munmap(map, offset + size - start) == -1) model_fail(model, "munmap was refused");
}

static void op_direct(struct model *model)
{
    if (model->direct == -1) return;
    size_t offset = random_offset(model);
    offset -= offset % PAGE;
    size_t size = random_size(model, offset);
    size -= size % PAGE;
    if (size == 0) return;
    if (random_below(model, 2)) {
        log_step(model, "write %zu at %zu directly", size, offset);
        put_pattern(model, offset, size);
        memcpy(model->aligned, model->bytes + offset, size);
        ssize_t done =
            pwrite(model->direct, model->aligned, size, model->variant->base + (off_t)offset);
        if (done != (ssize_t)size) model_fail(model, "the direct write was refused or short");
    } else {
        log_step(model, "read %zu at %zu directly", size, offset);
        read_and_compare(model, model->direct, offset, size);
    }
}

static void open_all(struct model *model)
{
    unsigned flags = model->variant->flags;
    model->fd = open_file("f", O_CREAT | O_RDWR, 0644);
    model->second = open_file("f", O_RDWR, 0);
    model->append = flags & WITH_APPEND ? open_file("f", O_WRONLY | O_APPEND, 0) : -1;
    model->direct = flags & WITH_DIRECT ? open("f", O_RDWR | O_DIRECT) : -1;
}

static void op_sync_or_reopen(struct model *model)
{
    switch (random_below(model, 16)) {
    case 0:
        log_step(model, "fsync");
        if (fsync(random_fd(model)) == -1) model_fail(model, "fsync failed");
        return;
    case 1:
        log_step(model, "fdatasync");
        if (fdatasync(random_fd(model)) == -1) model_fail(model, "fdatasync failed");
        return;
    default:
        log_step(model, "drop the cache");
        cache_drop(random_fd(model));
        return;
    case 2:
    case 3:
    case 4:
        if (model->variant->flags & WITHOUT_NAME) return;
        log_step(model, "close and open");
        (void)close(model->fd);
        (void)close(model->second);
        if (model->append != -1) (void)close(model->append);
        if (model->direct != -1) (void)close(model->direct);
        open_all(model);
    }
}

static void check_size(struct model *model)
{
    struct stat attr;
    if (fstat(random_fd(model), &attr) == -1) model_fail(model, "fstat failed");
    if (attr.st_size == model->variant->base + (off_t)model->size) return;
    char what[100];
    snprintf(what, sizeof(what), "the size is %lld, not %lld", (long long)attr.st_size,
             (long long)model->variant->base + (long long)model->size);
    model_fail(model, what);
}

static void run_model(void)
{
    const struct variant *variant = case_context();
    static void (*const operations[])(struct model *) = {
        op_write,    op_write,  op_write,  op_write,     op_read,      op_read,
        op_read,     op_append, op_map,    op_map,       op_map,       op_copy,
        op_truncate, op_direct, op_direct, op_fallocate, op_fallocate, op_sync_or_reopen};
    struct model model = {.variant = variant, .random = case_seed()};
    model.bytes = calloc(1, variant->size_max + PAGE);
    model.aligned = aligned_alloc(PAGE, (variant->size_max / PAGE + 2) * PAGE);
    REQUIRE(model.bytes && model.aligned);
    open_all(&model);
    REQUIRE_OK(ftruncate(model.fd, variant->base));
    if (variant->flags & WITHOUT_NAME) REQUIRE_OK(unlink("f"));
    for (model.step = 1; model.step <= variant->operations; model.step++) {
        log_step(&model, "nothing");
        operations[random_below(&model, sizeof(operations) / sizeof(operations[0]))](&model);
        check_size(&model);
        if (model.step % CHECK_EVERY) continue;
        if (model.step / CHECK_EVERY % 2) cache_drop(model.fd);
        read_and_compare(&model, model.fd, 0, variant->size_max);
    }
    cache_drop(model.fd);
    read_and_compare(&model, model.second, 0, variant->size_max);
    struct stat attr = FSTAT(model.fd);
    EXPECT(attr.st_blocks * 512 <= (blkcnt_t)(variant->size_max * 2 + (1 << 20)));
    free(model.bytes);
    free(model.aligned);
}

__attribute__((constructor)) static void add_models(void)
{
    enum { COUNT = sizeof(variants) / sizeof(variants[0]) };
    static struct suite_case entries[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        entries[i] = (struct suite_case){.group = "model",
                                         .name = variants[i].name,
                                         .run = run_model,
                                         .context = &variants[i],
                                         .seconds = 60};
        suite_add(&entries[i]);
    }
}
