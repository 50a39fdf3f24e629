/* Measuring operating points (see points.h): opens the index once per residency that a budget could
 * ask for, and walks it for a sample of its own rows or of given queries (points_truth.c). What
 * searches would read and find follows from the candidates (points_replay.c). points_choose.c uses
 * what is found here.
 *
 * Under a budget, what fits half of it is measured side by side with another, and what does not is
 * then measured alone. */
#include "points.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "points_sample.h"
#include "query.h"

#define RECALL_ENOUGH     0.99f  /* no larger search list is tried above it, */
#define REACH_LESS        0.005f /* or so near to what 8-bit distances can reach, */
#define RECALL_GAIN       0.001f /* nor once a step brings less */
#define INFLIGHT          8
#define READS_THAT_MATTER 0.1f
#define PLANS_AT_ONCE     2     /* each keeps an opened index in memory */
#define STEPS             65536 /* of progress */
#define SAMPLE_SHARE      0.25  /* of it, for the sample and its truth, when nobody knows better */
#define OPENING_SHARE     0.3   /* of a residency's, until the first list is tried, */
#define LIST_SHARE        0.11  /* and for each; there are four to eight */

/* Codes that are measured, in bits a dimension: from where a navigator begins to be of use to the
 * longest. Of cells those of section scan, of a bit, are measured as they are read from there, for
 * which other rows are looked at (scan.c); in memory they are taken to lie between their neighbours
 * (points_choose.c). */
static const double graph_bits[] = {1.75, 2.5, 3.5, 6};
static const double cell_bits[] = {0.5, 0.75, 1, 1.25, 1.75, 2.5, 3.5, 5.5};
#define PLANS_MAX                                                                                  \
    (sizeof graph_bits / sizeof *graph_bits + sizeof cell_bits / sizeof *cell_bits + 1)

/* Search lists are measured from the shortest for a k on, each twice as long as the one before, up
 * to this. What lies between follows from those (points_choose.c). */
#define LIST_MOST 400
#define LISTS     8 /* of k 10 at the most: 4 to 400; of k 100: 38 to 400 */
static const float thresholds[] = {0.012f, 0.025f, 0.04f, 0.06f, 0.085f, 0.12f, 0.17f};
#define THRESHOLDS (sizeof thresholds / sizeof *thresholds)
_Static_assert(THRESHOLDS <= REPLAYS_MAX, "a replay has room for all thresholds");
static const uint32_t ks[] = {10, SAMPLE_LARGE_K};

_Static_assert((LISTS + 5) * THRESHOLDS <= POINTS_RESIDENT_MAX, "a residency's points have room");
_Static_assert(PLANS_MAX *(LISTS + 5) * THRESHOLDS <= POINTS_MAX, "all points have room");

struct measure {
    const struct env *env;
    const char *path;
    const struct points_options *options;
    uint64_t budget;    /* of each opened index; 0: none */
    bool lists_in_part; /* may a graph's lists stay in the file? */
    struct points_sample sample;
    struct operating_point *out;
    uint32_t count;
    struct format_stop stop;       /* the watch's, for opening: what is loaded may be GiBs */
    uint64_t row_count, rows_seen; /* of the file; while its records are streamed */
    uint64_t generation;           /* of the file */
    uint32_t scan_bytes;           /* of a code of section scan */
    unsigned truth_steps;          /* of progress, for the sample and its truth, */
    unsigned plan_steps;           /* and for each residency */
    atomic_uint done;
};

static bool is_stopped(const struct measure *m)
{
    const struct points_watch *watch = &m->options->watch;
    return watch->stopped && watch->stopped(watch->context);
}

/* Relaxed: it only counts. */
static void advance(struct measure *m, unsigned steps)
{
    unsigned done = atomic_fetch_add_explicit(&m->done, steps, memory_order_relaxed) + steps;
    const struct points_watch *watch = &m->options->watch;
    if (watch->advance)
        watch->advance(watch->context, done, STEPS);
}

/* ---- the sample ---- */

static bool truth_stopped(void *context)
{
    return is_stopped(context);
}

static void truth_advance(void *context, uint64_t rows)
{
    struct measure *m = context;
    m->rows_seen += rows;
    unsigned done = (unsigned)(m->rows_seen * m->truth_steps / (SAMPLE_PASSES * m->row_count));
    advance(m, done - atomic_load_explicit(&m->done, memory_order_relaxed));
}

/* The least residency there is: the sample and its truth come from the file. */
static int open_least(const struct measure *m, struct fathom_index **out, struct fathom_error *err)
{
    struct fathom_open_options options = fathom_open_options_default();
    struct fathom_outlook outlook;
    options.navigator = FATHOM_NAVIGATOR_CELLS;
    options.inflight = INFLIGHT;
    int status = index_outlook_file(m->env, m->path, &options, &outlook, err);
    if (status != 0)
        return status;
    options.dram_budget_bytes = outlook.least_bytes;
    return m->budget && outlook.least_bytes > m->budget
               ? FATHOM_EBUDGET
               : index_open_file(out, m->env, m->path, &options, &m->stop, err);
}

/* The sample and its truth; also which code sizes there are. */
static int prepare(struct measure *m, uint32_t *levels, uint32_t *level_count,
                   struct fathom_error *err)
{
    struct sample_watch watch = {.stopped = truth_stopped,
                                 .advance = truth_advance,
                                 .context = m,
                                 .keeper = m->options->watch.keeper};
    uint32_t wanted = m->options->sample;
    struct sample_options options = {.count = wanted && wanted < SAMPLE_ROWS ? wanted : SAMPLE_ROWS,
                                     .threads = m->options->threads,
                                     .queries = m->options->queries};
    struct fathom_index *index;
    int status = open_least(m, &index, err);
    if (status != 0)
        return status;
    *level_count = index->level_count;
    memcpy(levels, index->level_bytes, *level_count * sizeof *levels);
    m->row_count = index->properties.rows;
    m->generation = index->properties.generation;
    m->scan_bytes = index->scan_code_bytes;
    double share = m->options->sample_share;
    m->truth_steps = (unsigned)(STEPS * (share > 0 && share < 1 ? share : SAMPLE_SHARE));
    status = points_sample_make(&m->sample, index, &options, &watch, err);
    fathom_index_close(index);
    return status;
}

/* ---- searching the sample ---- */

/* One residency, measured by one worker with an engine of its own, so that workers share nothing
 * but the sample. */
struct plan_job {
    enum fathom_navigator navigator;
    uint32_t code_bytes; /* 0: the 8-bit rows */
    bool scan; /* codes are scored as they lie on their pages, all of which are resident */
    struct operating_point points[POINTS_RESIDENT_MAX];
    uint32_t count;
    int status; /* FATHOM_EBUDGET: not measured yet, or beyond the budget */
};

struct searcher;

/* Searches for one row of the sample, with ever longer lists. */
struct trial {
    struct query_probe probe;
    struct searcher *searcher;
    struct replay replays[THRESHOLDS]; /* with this list */
    struct replay before[THRESHOLDS];  /* and with the one before */
    bool complete;                     /* all that it should find were candidates with this list, */
    bool settled;                      /* or with a shorter one */
};

struct searcher {
    struct measure *measure;
    unsigned lists, told; /* that have been tried for the first k, and steps of progress */
    struct fathom_index *index;
    struct fathom_engine *engine;
    struct trial trials[SAMPLE_ROWS];
    struct points_doubt doubt[THRESHOLDS]; /* that skipping rows has left, up to this list */
};

static bool usable(const struct measure *m, uint32_t i)
{
    for (uint32_t d = 0; d < m->sample.dim; d++)
        if (m->sample.vectors[(size_t)i * m->sample.dim + d] != 0)
            return true;
    return false; /* the zero vector: no query under cosine */
}

static void take_candidates(void *context, struct query *query, struct navigator *navigator)
{
    struct trial *trial = context;
    trial->complete = points_replay(&trial->searcher->measure->sample,
                                    (uint32_t)(trial - trial->searcher->trials), query, navigator,
                                    thresholds, THRESHOLDS, trial->replays);
}

/* Takes finished queries: their probes have seen all there is to see. */
static int collect(struct searcher *s, bool wait)
{
    struct fathom_result results[INFLIGHT];
    int count = fathom_engine_poll(s->engine, results, INFLIGHT, wait);
    for (int r = 0; r < count; r++)
        if (results[r].status)
            return results[r].status;
    return count < 0 ? count : 0;
}

/* ---- rows that need not be searched for again ---- */

/* A row whose neighbours are all among the candidates of a shorter list has little to gain by a
 * longer one, and long lists cost the most. Of such rows only one of so many is searched for,
 * always the same, and tells what has become of the others (docs/adr/0046). */
#define SETTLED_STEP 4

static bool is_skipped(const struct searcher *s, uint32_t i, uint32_t k)
{
    uint32_t place = i / points_sample_step(&s->measure->sample, k);
    return s->trials[i].settled && place % SETTLED_STEP != SETTLED_STEP / 2;
}

/* Those that were skipped fare as those that were settled and yet searched for did on average. */
static void settle(struct searcher *s, uint32_t k)
{
    const struct points_sample *sample = &s->measure->sample;
    struct points_change change[THRESHOLDS] = {0};
    for (uint32_t i = 0; i < sample->count; i++) {
        struct trial *trial = &s->trials[i];
        if (!points_sample_has(sample, k, i) || !trial->settled || is_skipped(s, i, k))
            continue;
        for (unsigned t = 0; t < THRESHOLDS; t++)
            points_change_add(&change[t], &trial->before[t], &trial->replays[t]);
    }
    for (uint32_t i = 0; i < sample->count; i++)
        for (unsigned t = 0; t < THRESHOLDS && is_skipped(s, i, k); t++)
            points_change_apply(&change[t], &s->trials[i].replays[t]);
    for (unsigned t = 0; t < THRESHOLDS; t++)
        points_change_doubt(&change[t], &s->doubt[t]);
    for (uint32_t i = 0; i < sample->count; i++)
        s->trials[i].settled |= s->trials[i].complete;
}

static int search_row(struct searcher *s, uint32_t i, uint32_t k, uint32_t search_list)
{
    const struct measure *m = s->measure;
    struct trial *trial = &s->trials[i];
    struct fathom_query query = fathom_query_default();
    int status;
    query.vector = m->sample.vectors + (size_t)i * m->sample.dim;
    query.k = k;
    query.search_list = search_list;
    trial->searcher = s;
    trial->probe = (struct query_probe){
        .row = points_sample_itself(&m->sample, i), .take = take_candidates, .context = trial};
    memcpy(trial->before, trial->replays, sizeof trial->before);
    while ((status = engine_submit_probe(s->engine, s->index, &query, &trial->probe, NULL)) ==
               FATHOM_EBUSY &&
           (status = collect(s, true)) == 0) {
    }
    return status;
}

static int search_sample(struct searcher *s, uint32_t k, uint32_t search_list)
{
    const struct measure *m = s->measure;
    int status = 0;
    for (uint32_t i = 0; i < m->sample.count && status == 0; i++) {
        if (!points_sample_has(&m->sample, k, i) || !usable(m, i) || is_skipped(s, i, k))
            continue;
        status = is_stopped(m) ? FATHOM_EINTERRUPTED : search_row(s, i, k, search_list);
    }
    while (status == 0 && fathom_engine_running(s->engine))
        status = collect(s, true);
    if (status == 0)
        settle(s, k);
    return status;
}

/* ---- from rows to points ---- */

static void summarise(const struct searcher *s, uint32_t threshold, struct operating_point *point)
{
    const struct points_sample *sample = &s->measure->sample;
    struct points_sums plain = {0}, reranked = {0};
    for (uint32_t i = 0; i < sample->count; i++) {
        const struct replay *replay = &s->trials[i].replays[threshold];
        if (!points_sample_has(sample, point->k, i) || !usable(s->measure, i))
            continue;
        points_sums_add(&plain, replay->recall, replay->reads);
        points_sums_add(&reranked, replay->reranked_recall, replay->reranked_reads);
    }
    point->plain = points_attained(&plain, sample, point->k, s->doubt[threshold].plain);
    point->reranked = points_attained(&reranked, sample, point->k, s->doubt[threshold].reranked);
}

/* The points of one search list, from the most careful threshold to the thriftiest; where next to
 * nothing is read they say the same, and one is enough. Returns the first; behind it is the next.
 */
static const struct operating_point *add_points(const struct searcher *s, struct plan_job *job,
                                                uint32_t k, uint32_t search_list)
{
    struct operating_point *first = &job->points[job->count];
    for (uint32_t t = 0; t < THRESHOLDS; t++) {
        struct operating_point *point = &job->points[job->count++];
        *point = (struct operating_point){
            .navigator = job->navigator,
            .k = k,
            .search_list = search_list,
            .refine_threshold = thresholds[t],
            .code_bytes = s->index->plan.rows8 ? s->index->records->row_bytes : job->code_bytes,
            .measured_on =
                s->measure->sample.given ? FORMAT_MEASURED_ON_QUERIES : FORMAT_MEASURED_ON_ROWS};
        summarise(s, t, point);
        if (first->plain.reads < READS_THAT_MATTER)
            break;
    }
    return first;
}

/* Lists of the first k take about as long as each other, those of others next to nothing. */
static void tell_list(struct searcher *s, uint32_t k)
{
    unsigned before = s->told, all = s->measure->plan_steps;
    s->lists += k == ks[0];
    s->told = (unsigned)(all * fmin(0.95, OPENING_SHARE + LIST_SHARE * s->lists));
    advance(s->measure, s->told - before);
}

static uint32_t next_list(uint32_t list)
{
    return 2 * list < LIST_MOST ? 2 * list : LIST_MOST;
}

static int measure_k(struct searcher *s, struct plan_job *job, uint32_t k)
{
    float before = -1, enough = points_sample_reach(&s->measure->sample, k);
    enough = fminf(RECALL_ENOUGH, enough - REACH_LESS);
    memset(s->trials, 0, sizeof s->trials);
    memset(s->doubt, 0, sizeof s->doubt);
    for (uint32_t list = query_least_list(job->navigator, k);; list = next_list(list)) {
        int status = search_sample(s, k, list);
        if (status != 0)
            return status;
        /* The most careful threshold says whether a longer list finds more; whether that is wanted
         * the next one: with the first alone enough is found by lists that are dear for what they
         * find. */
        tell_list(s, k);
        const struct operating_point *first = add_points(s, job, k, list),
                                     *usual =
                                         first->plain.reads < READS_THAT_MATTER ? first : first + 1;
        if (list == LIST_MOST || usual->plain.recall_low >= enough ||
            first->plain.recall - before < RECALL_GAIN)
            break;
        before = first->plain.recall;
    }
    return 0;
}

/* FATHOM_EBUDGET when the plan that fits is not the one to be measured. */
static int open_plan(const struct measure *m, struct fathom_index **out, const struct plan_job *job)
{
    struct fathom_open_options options = fathom_open_options_default();
    options.navigator = job->navigator;
    options.code_bytes = job->code_bytes;
    options.code_share = job->scan ? 1 : 0;
    options.inflight = INFLIGHT;
    options.dram_budget_bytes = m->budget;
    int status = index_open_file(out, m->env, m->path, &options, &m->stop, NULL);
    if (status != 0)
        return status;
    const struct plan *plan = &(*out)->plan;
    bool in_part = job->navigator == FATHOM_NAVIGATOR_GRAPH && plan->hot_ranks < FORMAT_HEAT_RANKS;
    if (plan->rows8 == (job->code_bytes == 0) && plan->scan_reads == job->scan &&
        (m->lists_in_part || !in_part))
        return 0;
    fathom_index_close(*out);
    *out = NULL;
    return FATHOM_EBUDGET;
}

static int measure_plan(struct measure *m, struct plan_job *job)
{
    struct fathom_engine_options options = {.io = FATHOM_IO_AUTO, .inflight = INFLIGHT};
    struct searcher *s = mem_alloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    s->measure = m;
    job->count = 0;
    int status = open_plan(m, &s->index, job);
    if (status == 0)
        status = engine_create_with(&s->engine, m->env, &options, NULL);
    for (size_t i = 0; i < sizeof ks / sizeof *ks && status == 0; i++)
        if (ks[i] <= m->sample.truth_count)
            status = measure_k(s, job, ks[i]);
    if (status != FATHOM_EBUDGET)
        advance(m, m->plan_steps - s->told);
    fathom_engine_destroy(s->engine);
    fathom_index_close(s->index);
    mem_free(s);
    return status;
}

struct plan_jobs {
    struct measure *measure;
    struct plan_job *jobs;
    struct plan_job *done; /* those that are over, as they are kept */
    pthread_mutex_t lock;  /* of done, and of keeping it */
    uint32_t count;
    uint32_t largest; /* where the 8-bit rows are: measured first, beside the smallest codes */
    atomic_uint next;
};

/* ---- what is kept ---- */

#define KEPT_NAME "points"

uint64_t points_kept_bytes(uint64_t rows)
{
    return points_pick_bytes(rows) + points_sample_bytes(rows) + sizeof(struct points_kept) +
           PLANS_MAX * sizeof(struct plan_job);
}

static struct points_part done_part(const struct plan_jobs *all)
{
    return (struct points_part){all->done, PLANS_MAX * sizeof *all->done};
}

/* Adds a job that is over to what is kept. */
static int keep_job(struct plan_jobs *all, uint32_t i)
{
    struct points_kept kept = {.generation = all->measure->generation, .next = all->count};
    struct points_part part = done_part(all);
    pthread_mutex_lock(&all->lock);
    all->done[i] = all->jobs[i];
    int status = points_keep(all->measure->options->watch.keeper, KEPT_NAME, &kept, &part, 1, NULL);
    pthread_mutex_unlock(&all->lock);
    return status;
}

static bool is_job(const struct plan_job *kept, const struct plan_job *job)
{
    return kept->navigator == job->navigator && kept->code_bytes == job->code_bytes &&
           kept->count <= POINTS_RESIDENT_MAX;
}

/* Takes over the jobs that an earlier measurement has done. */
static int load_jobs(struct plan_jobs *all, struct fathom_error *err)
{
    struct points_kept kept;
    struct points_part part = done_part(all);
    int status = points_load_kept(all->measure->options->watch.keeper, KEPT_NAME,
                                  all->measure->generation, &kept, &part, 1, err);
    bool good = status > 0 && kept.next == all->count;
    for (uint32_t i = 0; i < all->count && good; i++)
        good = is_job(&all->done[i], &all->jobs[i]);
    for (uint32_t i = 0; i < all->count; i++) {
        if (!good)
            all->done[i] = all->jobs[i];
        else if (all->done[i].status == 0)
            advance(all->measure, all->measure->plan_steps);
        all->jobs[i] = all->done[i];
    }
    return status < 0 ? status : 0;
}

/* ---- one after the other, or side by side ---- */

static void plan_worker(void *context, unsigned worker)
{
    struct plan_jobs *all = context;
    (void)worker;
    for (unsigned i; (i = atomic_fetch_add(&all->next, 1)) < all->count;) {
        uint32_t number = (all->largest + i) % all->count;
        struct plan_job *job = &all->jobs[number];
        if (job->status != FATHOM_EBUDGET)
            continue;
        job->status =
            is_stopped(all->measure) ? FATHOM_EINTERRUPTED : measure_plan(all->measure, job);
        if (job->status == 0)
            job->status = keep_job(all, number);
    }
}

/* Measures what has not been yet, as far as it fits a share of the budget. */
static int run_jobs(struct plan_jobs *all, unsigned workers, uint64_t budget)
{
    all->measure->budget = budget / workers;
    all->measure->lists_in_part = budget && workers == 1;
    atomic_store(&all->next, 0);
    return env_run_parallel(workers, plan_worker, all);
}

/* The largest level of at most so many bits a dimension, or the smallest there is. */
static uint32_t level_of_bits(const struct measure *m, const uint32_t *levels, uint32_t level_count,
                              double bits)
{
    uint32_t best = levels[0];
    for (uint32_t l = 1; l < level_count && 8 * levels[l] <= bits * m->sample.dim; l++)
        best = levels[l];
    return best;
}

static void add_plan(struct plan_jobs *all, enum fathom_navigator navigator, uint32_t code_bytes)
{
    all->jobs[all->count++] = (struct plan_job){.navigator = navigator,
                                                .code_bytes = code_bytes,
                                                .scan = navigator == FATHOM_NAVIGATOR_CELLS &&
                                                        code_bytes == all->measure->scan_bytes,
                                                .status = FATHOM_EBUDGET};
}

static void list_plans(struct plan_jobs *all, enum fathom_navigator navigator, const double *bits,
                       size_t count, const uint32_t *levels, uint32_t level_count)
{
    uint32_t last = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t code_bytes = level_of_bits(all->measure, levels, level_count, bits[i]);
        if (code_bytes != last)
            add_plan(all, navigator, code_bytes);
        last = code_bytes;
    }
}

static int measure_plans(struct measure *m, const uint32_t *levels, uint32_t level_count,
                         struct fathom_error *err)
{
    struct plan_jobs all = {.measure = m,
                            .jobs = mem_alloc_array(PLANS_MAX, sizeof *all.jobs),
                            .done = mem_alloc_array(PLANS_MAX, sizeof *all.done),
                            .lock = PTHREAD_MUTEX_INITIALIZER};
    int status = all.jobs && all.done ? 0 : -ENOMEM;
    if (status == 0) {
        list_plans(&all, FATHOM_NAVIGATOR_GRAPH, graph_bits, sizeof graph_bits / sizeof *graph_bits,
                   levels, level_count);
        all.largest = all.count;
        add_plan(&all, FATHOM_NAVIGATOR_GRAPH, 0);
        list_plans(&all, FATHOM_NAVIGATOR_CELLS, cell_bits, sizeof cell_bits / sizeof *cell_bits,
                   levels, level_count);
        m->plan_steps = (STEPS - m->truth_steps) / all.count;
        unsigned threads = m->options->threads,
                 workers = threads < PLANS_AT_ONCE ? threads : PLANS_AT_ONCE;
        uint64_t budget = m->budget;
        status = load_jobs(&all, err);
        if (status == 0)
            status = run_jobs(&all, workers, budget);
        if (status == 0 && budget && workers > 1)
            status = run_jobs(&all, 1, budget);
    }
    for (uint32_t i = 0; i < all.count && status == 0; i++) {
        if (all.jobs[i].status == FATHOM_EBUDGET)
            continue;
        status = all.jobs[i].status;
        memcpy(m->out + m->count, all.jobs[i].points, all.jobs[i].count * sizeof *m->out);
        m->count += all.jobs[i].count;
    }
    mem_free(all.jobs);
    mem_free(all.done);
    return status ? error_set(err, status, "%s: measuring operating points: %s", m->path,
                              fathom_strerror(status))
                  : 0;
}

int points_measure(const struct env *env, const char *path, const struct points_options *options,
                   struct operating_point *out, uint32_t *count, struct usual *usual,
                   struct fathom_error *err)
{
    struct measure m = {
        .env = env,
        .path = path,
        .options = options,
        .budget = options->budget_bytes,
        .stop = {.stopped = options->watch.stopped, .context = options->watch.context},
        .out = out};
    uint32_t levels[PLANES_LEVELS_MAX], level_count = 0;
    int status = prepare(&m, levels, &level_count, err);
    if (status == 0 && m.sample.truth_count > 0)
        status = measure_plans(&m, levels, level_count, err);
    *count = m.count;
    *usual = m.sample.usual;
    points_sample_fini(&m.sample);
    return status == FATHOM_EBUDGET ? 0 : status;
}
