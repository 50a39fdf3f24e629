/* The registry: one lock over names, current editions and the jobs of its thread. The query path
 * takes no lock: it uses a view, and counts users of an edition with atomics. */
#include "registry.h"

#include "env.h"
#include "error.h"
#include "mem.h"
#include "share.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RELOADS_WAITING_MAX 64

/* How an index is opened. share: of the vectors of whatever generation is opened, when above 0;
 * bytes are then what that came to. */
struct terms {
    uint64_t bytes;
    double share;
    float plan_recall;
};

struct entry {
    const char *name, *dir;
    struct edition *current;
    struct terms terms;
    struct reload_counts counts;
};

struct job {
    struct job *next;
    struct reload_request request;
    reload_done_fn *done;
    void *context;
};

struct registry {
    struct log *log;
    struct fathom_open_options open;
    bool inflight_given;
    struct entry *entries;
    unsigned count;
    atomic_uint version; /* of the currents; release by a swap, acquire by registry_view_refresh */
    pthread_mutex_t lock;
    pthread_cond_t wake;          /* by the monotonic clock */
    struct job *jobs, **jobs_end; /* below: under the lock */
    unsigned job_count;
    struct edition *to_close;
    bool running, stopping;
};

/* ---- editions ---- */

struct edition *edition_retain(struct edition *edition)
{
    atomic_fetch_add_explicit(&edition->users, 1, memory_order_relaxed);
    return edition;
}

void edition_release(struct edition *edition)
{
    /* acq_rel: the last user must see everything that the others did with the index. */
    if (!edition || atomic_fetch_sub_explicit(&edition->users, 1, memory_order_acq_rel) != 1)
        return;
    struct registry *registry = edition->registry;
    pthread_mutex_lock(&registry->lock);
    edition->next = registry->to_close;
    registry->to_close = edition;
    pthread_cond_signal(&registry->wake);
    pthread_mutex_unlock(&registry->lock);
}

static void edition_destroy(struct edition *edition)
{
    if (!edition)
        return;
    fathom_index_close(edition->index);
    mem_free(edition);
}

static struct fathom_open_options options_of(const struct registry *registry, struct terms terms)
{
    struct fathom_open_options options = registry->open;
    options.dram_budget_bytes = terms.share > 0 ? 0 : terms.bytes;
    options.dram_budget_share = terms.share;
    options.plan_recall = terms.plan_recall;
    /* The engines are made for the first edition of the first index, and search all others. */
    const struct edition *first = registry->entries[0].current;
    options.engines_of = first ? first->index : NULL;
    return options;
}

static int edition_open(struct edition **out, struct registry *registry, unsigned slot,
                        struct terms terms, struct fathom_error *err)
{
    *out = NULL;
    struct edition *edition = mem_alloc(sizeof *edition);
    if (!edition)
        return error_set(err, -ENOMEM, "no memory to open %s", registry->entries[slot].dir);
    edition->registry = registry;
    edition->slot = slot;
    edition->name = registry->entries[slot].name;
    atomic_init(&edition->users, 1);
    const struct fathom_open_options options = options_of(registry, terms);
    int rc = fathom_index_open(&edition->index, registry->entries[slot].dir, &options, err);
    if (rc < 0) {
        mem_free(edition);
        return rc;
    }
    fathom_index_get_info(edition->index, &edition->info);
    fathom_index_get_ledger(edition->index, &edition->ledger);
    *out = edition;
    return 0;
}

/* ---- opening ---- */

/* What each would take at the least, and all of them. */
static int refuse_budget(const struct registry *registry, const struct fathom_outlook *outlooks,
                         uint64_t budget_bytes, uint64_t least_bytes, struct fathom_error *err)
{
    char each[256] = "";
    size_t at = 0;
    for (unsigned i = 0; i < registry->count && at < sizeof each; i++)
        at += (size_t)snprintf(each + at, sizeof each - at, "%s%s %llu", i ? ", " : "",
                               registry->entries[i].name,
                               (unsigned long long)outlooks[i].least_bytes);
    return error_set(err, FATHOM_EBUDGET,
                     "a DRAM budget of %llu bytes is too small for %u indexes: the least is %llu "
                     "(%s%s); raise --dram-budget or lower --workers and --inflight",
                     (unsigned long long)budget_bytes, registry->count,
                     (unsigned long long)least_bytes, each, at < sizeof each ? "" : "...");
}

static int split_budget(struct registry *registry, uint64_t budget_bytes,
                        struct fathom_outlook *outlooks, struct fathom_error *err)
{
    uint64_t least = 0;
    for (unsigned i = 0; i < registry->count; i++) {
        const struct terms free = {.plan_recall = registry->entries[i].terms.plan_recall};
        const struct fathom_open_options options = options_of(registry, free);
        int rc = fathom_index_outlook(registry->entries[i].dir, &options, &outlooks[i], err);
        if (rc < 0)
            return rc;
        least += outlooks[i].least_bytes;
    }
    if (least > budget_bytes)
        return refuse_budget(registry, outlooks, budget_bytes, least, err);
    share_out(outlooks, registry->count, budget_bytes);
    for (unsigned i = 0; i < registry->count; i++)
        registry->entries[i].terms.bytes = outlooks[i].budget_bytes;
    return 0;
}

/* All indexes share the engines, so these have what the one with the least to spare wants, which
 * the others have room for too. */
static int settle_engines(struct registry *registry, struct fathom_error *err)
{
    struct fathom_open_options *open = &registry->open;
    struct fathom_outlook fewest = {.inflight = UINT_MAX, .page_buffers = UINT_MAX}, outlook;
    for (unsigned i = 0; i < registry->count; i++) {
        const struct fathom_open_options options = options_of(registry, registry->entries[i].terms);
        int rc = fathom_index_outlook(registry->entries[i].dir, &options, &outlook, err);
        if (rc < 0)
            return rc;
        if (outlook.inflight < fewest.inflight)
            fewest.inflight = outlook.inflight;
        if (outlook.page_buffers < fewest.page_buffers)
            fewest.page_buffers = outlook.page_buffers;
    }
    open->inflight = fewest.inflight;
    open->page_buffers = fewest.page_buffers;
    return 0;
}

/* The terms of each index. */
static int settle_terms(struct registry *registry, struct terms terms,
                        const struct registry_index *indexes, struct fathom_error *err)
{
    for (unsigned i = 0; i < registry->count; i++) {
        registry->entries[i].terms = terms;
        registry->entries[i].terms.plan_recall = indexes[i].plan_recall;
    }
    if (terms.share > 0 || terms.bytes == 0 || registry->count == 1)
        return 0;
    struct fathom_outlook *outlooks = mem_alloc_array(registry->count, sizeof *outlooks);
    int rc = outlooks ? split_budget(registry, terms.bytes, outlooks, err)
                      : error_set(err, -ENOMEM, "no memory to divide the budget");
    mem_free(outlooks);
    return rc;
}

static void log_opened(struct registry *registry, const struct edition *edition)
{
    log_line(registry->log, LOG_LEVEL_INFO,
             "index %s: generation %016llx, %llu x %u %s, %s, %s navigator, %llu bytes in memory "
             "(%llu for %u threads x %u queries in flight), %s%s",
             edition->name, (unsigned long long)edition->info.generation,
             (unsigned long long)edition->info.rows, edition->info.dim,
             fathom_dtype_name(edition->info.dtype), fathom_metric_name(edition->info.metric),
             fathom_navigator_name(edition->info.navigator),
             (unsigned long long)edition->ledger.total_bytes,
             (unsigned long long)edition->ledger.scratch_bytes, registry->open.threads,
             edition->info.inflight, edition->info.direct_io ? "direct reads" : "buffered reads",
             edition->info.large_buffers ? ""
                                         : ", page buffers in small pages: the system gave no "
                                           "large ones, or the budget is less than one");
}

static void make_lock(struct registry *registry)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&registry->lock, NULL);
    pthread_cond_init(&registry->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

int registry_open(struct registry **out, const struct registry_options *options, struct log *log,
                  struct fathom_error *err)
{
    *out = NULL;
    struct registry *registry = mem_alloc(sizeof *registry);
    if (!registry)
        return error_set(err, -ENOMEM, "no memory for the registry");
    registry->log = log;
    registry->open = fathom_open_options_default();
    registry->open.threads = options->threads;
    registry->open.inflight = options->inflight;
    registry->inflight_given = options->inflight > 0;
    registry->open.navigator = options->navigator;
    registry->jobs_end = &registry->jobs;
    make_lock(registry);
    int rc = error_set(err, -ENOMEM, "no memory for the registry");
    registry->entries = mem_alloc_array(options->index_count, sizeof *registry->entries);
    if (!registry->entries)
        goto fail;
    registry->count = options->index_count;
    for (unsigned i = 0; i < registry->count; i++) {
        registry->entries[i].name = options->indexes[i].name;
        registry->entries[i].dir = options->indexes[i].dir;
    }
    const struct terms terms = {.bytes = options->dram_budget_bytes,
                                .share = options->dram_budget_share};
    rc = settle_terms(registry, terms, options->indexes, err);
    if (rc == 0 && registry->count > 1)
        rc = settle_engines(registry, err);
    for (unsigned i = 0; rc == 0 && i < registry->count; i++) {
        struct entry *entry = &registry->entries[i];
        rc = edition_open(&entry->current, registry, i, entry->terms, err);
        if (rc == 0) {
            entry->terms.bytes = entry->current->ledger.budget_bytes;
            log_opened(registry, entry->current);
        }
    }
    if (rc < 0)
        goto fail;
    *out = registry;
    return 0;
fail:
    registry_close(registry);
    return rc;
}

static void close_list(struct edition *list)
{
    while (list) {
        struct edition *next = list->next;
        edition_destroy(list);
        list = next;
    }
}

static struct job *take_job_locked(struct registry *registry)
{
    struct job *job = registry->jobs;
    if (job) {
        registry->jobs = job->next;
        if (!registry->jobs)
            registry->jobs_end = &registry->jobs;
        registry->job_count--;
    }
    return job;
}

/* Whoever waits for one is told that it will not come. */
static void refuse_jobs(struct registry *registry)
{
    struct reload_result result = {.milliseconds = 0};
    struct job *job;
    error_set(&result.err, FATHOM_EINTERRUPTED, "the server is shutting down");
    while ((job = take_job_locked(registry))) {
        if (job->done)
            job->done(job->context, &result);
        mem_free(job);
    }
}

void registry_close(struct registry *registry)
{
    if (!registry)
        return;
    for (unsigned i = 0; i < registry->count; i++)
        edition_release(registry->entries[i].current);
    close_list(registry->to_close);
    refuse_jobs(registry);
    pthread_cond_destroy(&registry->wake);
    pthread_mutex_destroy(&registry->lock);
    mem_free(registry->entries);
    mem_free(registry);
}

unsigned registry_count(const struct registry *registry)
{
    return registry->count;
}

int registry_find(const struct registry *registry, const char *name, size_t name_bytes)
{
    for (unsigned i = 0; i < registry->count; i++) {
        const char *known = registry->entries[i].name;
        if (strlen(known) == name_bytes && memcmp(known, name, name_bytes) == 0)
            return (int)i;
    }
    return -1;
}

const char *registry_name(const struct registry *registry, unsigned slot)
{
    return registry->entries[slot].name;
}

/* ---- views ---- */

int registry_view_init(struct registry_view *view, struct registry *registry)
{
    memset(view, 0, sizeof *view);
    view->registry = registry;
    view->editions = mem_alloc_array(registry->count, sizeof *view->editions);
    if (!view->editions)
        return -ENOMEM;
    view->version = atomic_load_explicit(&registry->version, memory_order_relaxed) - 1;
    registry_view_refresh(view);
    return 0;
}

void registry_view_fini(struct registry_view *view)
{
    for (unsigned i = 0; view->editions && i < view->registry->count; i++)
        edition_release(view->editions[i]);
    mem_free(view->editions);
    view->editions = NULL;
}

void registry_view_refresh(struct registry_view *view)
{
    struct registry *registry = view->registry;
    unsigned version = atomic_load_explicit(&registry->version, memory_order_acquire);
    if (version == view->version)
        return;
    for (unsigned i = 0; i < registry->count; i++) {
        pthread_mutex_lock(&registry->lock);
        struct edition *current = edition_retain(registry->entries[i].current);
        pthread_mutex_unlock(&registry->lock);
        edition_release(view->editions[i]);
        view->editions[i] = current;
    }
    view->version = version;
}

/* ---- the registry's thread ---- */

int registry_reload(struct registry *registry, const struct reload_request *request,
                    reload_done_fn *done, void *context)
{
    struct job *job = mem_alloc(sizeof *job);
    if (!job)
        return -ENOMEM;
    *job = (struct job){.request = *request, .done = done, .context = context};
    int rc = -EBUSY;
    pthread_mutex_lock(&registry->lock);
    if (registry->job_count < RELOADS_WAITING_MAX && !registry->stopping) {
        *registry->jobs_end = job;
        registry->jobs_end = &job->next;
        registry->job_count++;
        pthread_cond_signal(&registry->wake);
        rc = 0;
    }
    pthread_mutex_unlock(&registry->lock);
    if (rc < 0)
        mem_free(job);
    return rc;
}

/* Opens an edition beside the current one, which goes on answering, and makes it current. Returns
 * the one before in *old, which the caller releases. */
static int swap_in(struct registry *registry, unsigned slot, struct terms terms,
                   struct edition **old, struct fathom_error *err)
{
    struct entry *entry = &registry->entries[slot];
    struct edition *edition;
    int rc = edition_open(&edition, registry, slot, terms, err);
    if (rc < 0)
        return rc;
    log_opened(registry, edition);
    pthread_mutex_lock(&registry->lock);
    *old = entry->current;
    entry->current = edition;
    atomic_fetch_add_explicit(&registry->version, 1, memory_order_release);
    pthread_mutex_unlock(&registry->lock);
    return 0;
}

/* Lets go of an edition and waits until nobody uses it and it is closed. False when the registry is
 * stopped first. Only this thread closes editions, so the pointer stays valid to compare with. */
static bool release_and_close(struct registry *registry, struct edition *edition)
{
    bool closed = false;
    edition_release(edition);
    pthread_mutex_lock(&registry->lock);
    while (!closed && !registry->stopping) {
        struct edition *unused = registry->to_close;
        registry->to_close = NULL;
        if (!unused) {
            pthread_cond_wait(&registry->wake, &registry->lock);
            continue;
        }
        pthread_mutex_unlock(&registry->lock);
        for (const struct edition *each = unused; each; each = each->next)
            closed |= each == edition;
        close_list(unused);
        pthread_mutex_lock(&registry->lock);
    }
    pthread_mutex_unlock(&registry->lock);
    return closed;
}

/* What the index may take while its budget changes; 0: as much as it likes. */
static uint64_t larger_budget(uint64_t a, uint64_t b)
{
    return a == 0 || b == 0 ? 0 : a > b ? a : b;
}

/* Makes room for an edition of a new budget where two at once would be too much: the least
 * residency serves, alone when this returns. */
static int make_room(struct registry *registry, unsigned slot, struct terms terms,
                     struct fathom_error *err)
{
    struct entry *entry = &registry->entries[slot];
    struct fathom_outlook outlook;
    const struct fathom_open_options options = options_of(registry, terms);
    int rc = fathom_index_outlook(entry->dir, &options, &outlook, err);
    if (rc < 0)
        return rc;
    uint64_t most = larger_budget(entry->terms.bytes, outlook.budget_bytes);
    if (most == 0 || entry->current->ledger.index_bytes + outlook.total_bytes <= most)
        return 0;
    struct edition *old;
    rc = swap_in(registry, slot, (struct terms){.bytes = outlook.least_bytes}, &old, err);
    if (rc == 0 && !release_and_close(registry, old))
        rc = error_set(err, FATHOM_EINTERRUPTED, "%s: the server is shutting down", entry->name);
    return rc;
}

/* Engines belong to the workers and are shared with other indexes, so they stay; whoever gave no
 * number is told when another would suit the new budget (docs/adr/0067). */
static void advise(struct registry *registry, unsigned slot, struct terms terms)
{
    struct entry *entry = &registry->entries[slot];
    struct fathom_open_options options = options_of(registry, terms);
    struct fathom_outlook outlook;
    unsigned have = entry->current->info.inflight;
    options.engines_of = NULL;
    options.inflight = options.page_buffers = 0;
    if (registry->inflight_given ||
        fathom_index_outlook(entry->dir, &options, &outlook, NULL) < 0 || outlook.inflight == have)
        return;
    log_line(registry->log, LOG_LEVEL_INFO,
             "index %s: %u queries in flight a worker stay; under its new budget it would be %u, "
             "after a restart or by --inflight",
             entry->name, have, outlook.inflight);
}

static int change(struct registry *registry, const struct reload_request *request,
                  struct fathom_error *err)
{
    struct entry *entry = &registry->entries[request->slot];
    struct edition *old = NULL;
    const struct terms was = entry->terms;
    struct terms terms = was;
    if (request->new_budget) {
        terms.bytes = request->budget_bytes;
        terms.share = request->budget_share;
    }
    if (request->new_recall)
        terms.plan_recall = request->plan_recall;
    /* A budget that is given, be it again, is kept meanwhile. Otherwise the old edition stays whole
     * until the new one is, whatever is wrong with that. */
    bool changes = request->new_budget || terms.plan_recall != was.plan_recall;
    int rc = changes ? make_room(registry, request->slot, terms, err) : 0;
    if (rc == 0) {
        rc = swap_in(registry, request->slot, terms, &old, err);
        if (rc < 0 && changes)
            log_line(registry->log, LOG_LEVEL_WARN,
                     "%s may be left with the least in memory until it is reloaded", entry->name);
    }
    if (rc < 0)
        return rc;
    entry->terms = terms;
    entry->terms.bytes = entry->current->ledger.budget_bytes;
    edition_release(old);
    if (request->new_budget)
        advise(registry, request->slot, terms);
    return 0;
}

static void reload(struct registry *registry, const struct reload_request *request,
                   struct reload_result *result)
{
    struct entry *entry = &registry->entries[request->slot];
    uint64_t started_ns = env_clock_ns(env_os());
    memset(result, 0, sizeof *result);
    result->previous_generation = entry->current->info.generation;
    int rc = change(registry, request, &result->err);
    result->generation = entry->current->info.generation;
    result->budget_bytes = entry->terms.bytes;
    result->plan_recall = entry->terms.plan_recall;
    result->milliseconds = (env_clock_ns(env_os()) - started_ns) / 1000000;
    result->err.code = rc;
    if (rc < 0)
        log_line(registry->log, LOG_LEVEL_ERROR,
                 "reload of %s failed, generation %016llx stays: %s", entry->name,
                 (unsigned long long)result->generation, result->err.msg);
    pthread_mutex_lock(&registry->lock);
    if (rc < 0)
        entry->counts.failed++;
    else
        entry->counts.ok++;
    pthread_mutex_unlock(&registry->lock);
}

static void run_job(struct registry *registry, struct job *job)
{
    struct reload_result result;
    reload(registry, &job->request, &result);
    if (job->done)
        job->done(job->context, &result);
    mem_free(job);
}

void registry_run(struct registry *registry)
{
    pthread_mutex_lock(&registry->lock);
    registry->running = true;
    while (!registry->stopping) {
        struct edition *unused = registry->to_close;
        registry->to_close = NULL;
        struct job *job = unused ? NULL : take_job_locked(registry);
        if (!unused && !job) {
            pthread_cond_wait(&registry->wake, &registry->lock);
            continue;
        }
        pthread_mutex_unlock(&registry->lock);
        close_list(unused);
        if (job)
            run_job(registry, job);
        pthread_mutex_lock(&registry->lock);
    }
    registry->running = false;
    pthread_cond_signal(&registry->wake);
    pthread_mutex_unlock(&registry->lock);
}

bool registry_stop(struct registry *registry, unsigned patience_s)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += patience_s;
    pthread_mutex_lock(&registry->lock);
    registry->stopping = true;
    pthread_cond_signal(&registry->wake);
    int rc = 0;
    while (registry->running && rc == 0)
        rc = pthread_cond_timedwait(&registry->wake, &registry->lock, &until);
    bool stopped = !registry->running;
    pthread_mutex_unlock(&registry->lock);
    return stopped;
}

void registry_reload_counts(struct registry *registry, unsigned slot, struct reload_counts *out)
{
    pthread_mutex_lock(&registry->lock);
    *out = registry->entries[slot].counts;
    pthread_mutex_unlock(&registry->lock);
}
