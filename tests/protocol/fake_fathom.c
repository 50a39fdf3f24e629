/* A libfathom that answers from arithmetic, so that the server can be held to account for what a
 * disk rarely does on request: queries that take a second, fail, or do not come back until they are
 * let go.
 *
 * An index is a directory with a file "fake": lines of `key value`, read at open:
 *
 *     rows 1000   dim 4   generation 7   what the index claims; row i is (i, i, ..., i)
 *     delay_us 0                         how long each query takes
 *     stuck 0                            1: none comes back while the directory has a file "hold"
 *     status 0                           what each ends with: a code of fathom/error.h, or -errno
 *     open 0                             what opening ends with
 *
 * A query is a point on the diagonal, its first value; distances are squared Euclidean. */
#include "fathom/fathom.h"

#include "error.h"
#include "mem.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define HOLD_LOOK_NS 1000000 /* between two looks at whether "hold" is still there */

struct fathom_index {
    atomic_int references;
    long long rows, dim, generation, delay_us, stuck, status, open;
    uint64_t bytes, budget;
    float plan_recall;
    unsigned inflight;
    char log[4096];  /* where opens and closes are noted, when there is such a file */
    char hold[4096]; /* while there is such a file, a stuck device gives nothing back */
};

#define SCRATCH_BYTES 4096

struct fake_slot {
    bool taken, cancelled;
    const struct fathom_index *index;
    void *user;
    uint64_t due_ns, deadline_ns, started_ns;
    uint32_t k;
    float at;
    uint64_t ids[FATHOM_K_MAX];
    float distances[FATHOM_K_MAX];
};

struct fathom_engine {
    int fd; /* a timer that is always set to the next slot that is due */
    unsigned inflight;
    struct fake_slot *slots;
};

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

const char *fathom_cpu_level(void)
{
    return "scalar";
}

/* ---- indexes ---- */

struct fathom_open_options fathom_open_options_default(void)
{
    return (struct fathom_open_options){.threads = 1};
}

static void read_fake(struct fathom_index *index, FILE *file)
{
    const struct {
        const char *key;
        long long *value;
    } keys[] = {{"rows", &index->rows},
                {"dim", &index->dim},
                {"generation", &index->generation},
                {"delay_us", &index->delay_us},
                {"stuck", &index->stuck},
                {"status", &index->status},
                {"open", &index->open}};
    char key[32];
    long long value;
    while (fscanf(file, "%31s %lld", key, &value) == 2) {
        for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
            if (strcmp(key, keys[i].key) == 0)
                *keys[i].value = value;
        }
    }
}

static uint64_t budget_of(const struct fathom_index *index,
                          const struct fathom_open_options *options)
{
    double raw = (double)(index->rows * index->dim * 4);
    return options->dram_budget_share > 0 ? (uint64_t)(options->dram_budget_share * raw)
                                          : options->dram_budget_bytes;
}

/* Eight bytes a row are best, one is the least, what the budget gives is taken. */
static int fit(struct fathom_index *index, uint64_t budget, struct fathom_error *err)
{
    const uint64_t rows = (uint64_t)index->rows;
    index->budget = budget;
    index->bytes = 8 * rows;
    if (budget && budget < rows + SCRATCH_BYTES)
        return error_set(err, FATHOM_EBUDGET, "a DRAM budget of %llu bytes is too small",
                         (unsigned long long)budget);
    if (budget && index->bytes > budget - SCRATCH_BYTES)
        index->bytes = budget - SCRATCH_BYTES;
    return 0;
}

/* As asked for, or those of the engines that are there; or one for each KiB of a budget, 16 at the
 * most. */
static unsigned inflight_of(const struct fathom_index *index,
                            const struct fathom_open_options *options)
{
    if (options->inflight || options->engines_of)
        return options->inflight ? options->inflight : options->engines_of->inflight;
    return index->budget && index->budget < 16 << 10 ? (unsigned)(index->budget >> 10) : 16;
}

int fathom_index_outlook(const char *dir, const struct fathom_open_options *options,
                         struct fathom_outlook *out, struct fathom_error *err)
{
    struct fathom_index index = {.rows = 0};
    char path[4096];
    *out = (struct fathom_outlook){.scratch_bytes = SCRATCH_BYTES};
    snprintf(path, sizeof path, "%s/fake", dir);
    FILE *file = fopen(path, "r");
    if (!file)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    read_fake(&index, file);
    fclose(file);
    int status = fit(&index, budget_of(&index, options), err);
    out->least_bytes = (uint64_t)index.rows + SCRATCH_BYTES;
    out->raw_bytes = (uint64_t)(index.rows * index.dim * 4);
    out->budget_bytes = index.budget;
    out->total_bytes = status ? 0 : index.bytes + SCRATCH_BYTES;
    out->inflight = inflight_of(&index, options);
    return status;
}

/* So that a test sees what was open at the same time: "open BYTES" and "close BYTES". */
static void note(const struct fathom_index *index, const char *what)
{
    FILE *log = fopen(index->log, "r+");
    if (!log)
        return;
    fseek(log, 0, SEEK_END);
    fprintf(log, "%s %llu\n", what, (unsigned long long)index->bytes);
    fclose(log);
}

int fathom_index_open(struct fathom_index **out, const char *dir,
                      const struct fathom_open_options *options, struct fathom_error *err)
{
    char path[4096];
    *out = NULL;
    snprintf(path, sizeof path, "%s/fake", dir);
    FILE *file = fopen(path, "r");
    if (!file)
        return error_set(err, -errno, "%s: %s", path, strerror(errno));
    struct fathom_index *index = mem_alloc(sizeof *index);
    if (index)
        read_fake(index, file);
    fclose(file);
    if (!index)
        return error_set(err, -ENOMEM, "no memory");
    if (index->open < 0) {
        int rc = (int)index->open;
        mem_free(index);
        return error_set(err, rc, "%s: %s at offset 4096", path, fathom_strerror(rc));
    }
    int status = fit(index, budget_of(index, options), err);
    if (status) {
        mem_free(index);
        return status;
    }
    index->plan_recall = options->plan_recall;
    index->inflight = inflight_of(index, options);
    atomic_init(&index->references, 1);
    snprintf(index->log, sizeof index->log, "%s/log", dir);
    snprintf(index->hold, sizeof index->hold, "%s/hold", dir);
    note(index, "open");
    *out = index;
    return 0;
}

struct fathom_index *fathom_index_retain(struct fathom_index *index)
{
    atomic_fetch_add(&index->references, 1);
    return index;
}

void fathom_index_close(struct fathom_index *index)
{
    if (!index || atomic_fetch_sub(&index->references, 1) != 1)
        return;
    note(index, "close");
    mem_free(index);
}

void fathom_index_get_info(const struct fathom_index *index, struct fathom_index_info *out)
{
    *out = (struct fathom_index_info){.rows = (uint64_t)index->rows,
                                      .generation = (uint64_t)index->generation,
                                      .dim = (uint32_t)index->dim,
                                      .dtype = FATHOM_F32,
                                      .metric = FATHOM_METRIC_L2,
                                      .navigator = FATHOM_NAVIGATOR_GRAPH,
                                      .raw_bytes = (uint64_t)(index->rows * index->dim * 4),
                                      .format_version = 1,
                                      .inflight = index->inflight,
                                      .plan_recall = index->plan_recall};
}

void fathom_index_get_ledger(const struct fathom_index *index, struct fathom_ledger *out)
{
    *out = (struct fathom_ledger){.parts = {{"codes", index->bytes}},
                                  .part_count = 1,
                                  .index_bytes = index->bytes,
                                  .scratch_bytes = SCRATCH_BYTES,
                                  .total_bytes = index->bytes + SCRATCH_BYTES,
                                  .budget_bytes = index->budget};
}

/* ---- the engine ---- */

struct fathom_engine_options fathom_engine_options_default(void)
{
    return (struct fathom_engine_options){.io = FATHOM_IO_AUTO, .inflight = 16};
}

struct fathom_query fathom_query_default(void)
{
    return (struct fathom_query){.dtype = FATHOM_F32, .k = 10};
}

int fathom_engine_create(struct fathom_engine **out, const struct fathom_engine_options *options,
                         struct fathom_error *err)
{
    struct fathom_engine *engine = mem_alloc(sizeof *engine);
    *out = engine;
    if (!engine || !(engine->slots = mem_alloc_array(options->inflight, sizeof *engine->slots)))
        return error_set(err, -ENOMEM, "no memory for an engine");
    engine->inflight = options->inflight;
    engine->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return 0;
}

void fathom_engine_destroy(struct fathom_engine *engine)
{
    if (!engine)
        return;
    close(engine->fd);
    mem_free(engine->slots);
    mem_free(engine);
}

static bool is_held(const struct fathom_index *index)
{
    return index->stuck && access(index->hold, F_OK) == 0;
}

/* What is due and has not been given back is looked at again in a moment. */
static void set_timer(struct fathom_engine *engine)
{
    uint64_t due_ns = 0, soon_ns = clock_ns() + HOLD_LOOK_NS;
    for (unsigned i = 0; i < engine->inflight; i++) {
        const struct fake_slot *slot = &engine->slots[i];
        uint64_t at_ns = slot->taken && is_held(slot->index) ? soon_ns : slot->due_ns;
        if (slot->taken && (due_ns == 0 || at_ns < due_ns))
            due_ns = at_ns;
    }
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(due_ns / 1000000000),
                                           .tv_nsec = (long)(due_ns % 1000000000)}};
    timerfd_settime(engine->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

int fathom_engine_submit(struct fathom_engine *engine, const struct fathom_index *index,
                         const struct fathom_query *query, struct fathom_error *err)
{
    if (query->dim != (uint32_t)index->dim)
        return error_set(err, FATHOM_EDIM, "dimension %u, not %lld", query->dim, index->dim);
    for (unsigned i = 0; i < engine->inflight; i++) {
        struct fake_slot *slot = &engine->slots[i];
        if (slot->taken)
            continue;
        slot->taken = true;
        slot->cancelled = false;
        slot->index = index;
        slot->user = query->user;
        slot->started_ns = clock_ns();
        slot->due_ns = slot->started_ns + (uint64_t)index->delay_us * 1000 + 1;
        slot->deadline_ns = query->deadline_ns;
        slot->k = query->k;
        if (query->dtype == FATHOM_F32)
            memcpy(&slot->at, query->vector, sizeof slot->at);
        else
            slot->at = *(const uint8_t *)query->vector;
        set_timer(engine);
        return 0;
    }
    return error_set(err, FATHOM_EBUSY, "every slot is taken");
}

/* The k rows nearest to a point on the diagonal: outwards from it, on whichever side is nearer. */
static uint32_t answer(struct fake_slot *slot)
{
    long long rows = slot->index->rows, low, high;
    float at = fminf(fmaxf(slot->at, 0), (float)(rows - 1));
    low = (long long)floorf(at);
    high = low + 1;
    uint32_t count = 0;
    while (count < slot->k && (low >= 0 || high < rows)) {
        bool take_low =
            high >= rows || (low >= 0 && slot->at - (float)low <= (float)high - slot->at);
        long long row = take_low ? low-- : high++;
        float step = slot->at - (float)row;
        slot->ids[count] = (uint64_t)row;
        slot->distances[count++] = step * step * (float)slot->index->dim;
    }
    return count;
}

static void finish(struct fake_slot *slot, struct fathom_result *out)
{
    int status = slot->cancelled ? FATHOM_ECANCELLED : (int)slot->index->status;
    uint32_t count = status < 0 ? 0 : answer(slot);
    slot->taken = false;
    *out = (struct fathom_result){.user = slot->user,
                                  .status = status,
                                  .detail = status < 0 ? "fake: section vectors, page 5" : NULL,
                                  .count = count,
                                  .ids = slot->ids,
                                  .distances = slot->distances,
                                  .stats = {.navigator = FATHOM_NAVIGATOR_GRAPH,
                                            .hops = 3,
                                            .rounds = 1,
                                            .reads = 2,
                                            .bytes = 8192,
                                            .total_ns = clock_ns() - slot->started_ns,
                                            .stop_reason = "converged"}};
}

/* Unlike the real engine this one never looks at deadlines: a device that stalls answers late, and
 * the server must not wait for it. */
int fathom_engine_poll(struct fathom_engine *engine, struct fathom_result *out, unsigned max,
                       bool wait)
{
    unsigned count = 0;
    uint64_t now_ns = clock_ns(), expirations;
    (void)wait;
    ssize_t got = read(engine->fd, &expirations, sizeof expirations);
    (void)got;
    for (unsigned i = 0; i < engine->inflight && count < max; i++) {
        struct fake_slot *slot = &engine->slots[i];
        if (slot->taken && slot->due_ns <= now_ns && !is_held(slot->index))
            finish(slot, &out[count++]);
    }
    set_timer(engine);
    return (int)count;
}

void fathom_engine_cancel(struct fathom_engine *engine, void *user)
{
    for (unsigned i = 0; i < engine->inflight; i++) {
        if (engine->slots[i].taken && engine->slots[i].user == user)
            engine->slots[i].cancelled = true;
    }
}

unsigned fathom_engine_running(const struct fathom_engine *engine)
{
    unsigned running = 0;
    for (unsigned i = 0; i < engine->inflight; i++)
        running += engine->slots[i].taken;
    return running;
}

int fathom_engine_event_fd(const struct fathom_engine *engine)
{
    return engine->fd;
}

enum fathom_io fathom_engine_io(const struct fathom_engine *engine)
{
    (void)engine;
    return FATHOM_IO_PREAD;
}

const char *fathom_engine_io_note(const struct fathom_engine *engine)
{
    (void)engine;
    return NULL;
}
