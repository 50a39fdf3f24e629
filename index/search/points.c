/* Measuring operating points (see points.h): opens the index once per residency that a budget could
 * ask for, and searches it for a sample of its own rows; the truth is an exact scan over the 8-bit
 * rows. points_choose.c uses what is found here. */
#include "points.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bits.h"
#include "error.h"
#include "index.h"
#include "mem.h"
#include "navigate.h"
#include "query.h"

#define SAMPLE_ROWS       160
#define SAMPLE_LARGE_K    40     /* of it, for the largest k: each query has many results */
#define TRUTH             100    /* neighbours of the truth; the largest k measured */
#define RECALL_ENOUGH     0.99f  /* no larger search list is tried above it */
#define RECALL_GAIN       0.001f /* nor once a step brings less */
#define SPREAD            37 /* odd and not a multiple of 5, so without a common factor with SAMPLE_ROWS */
#define SCAN_ROWS         256
#define INFLIGHT          8
#define THRIFTY_THRESHOLD 0.13f
#define CAREFUL_THRESHOLD 0.025f
#define READS_THAT_MATTER 1.5f
#define PLANS_AT_ONCE     2  /* each keeps an opened index in memory */
#define PLAN_STEPS        64 /* of progress: a residency takes as long as so many truths, about */

/* Codes that are measured, in bits a dimension: from where a navigator begins to be of use to the
 * longest. */
static const double graph_bits[] = {1.75, 2.25, 2.75, 3.5, 4.5, 6};
static const double cell_bits[] = {0.75, 1, 1.25, 1.5, 1.75, 2.25, 3, 4, 5.5};
#define PLANS_MAX                                                                                  \
    (sizeof graph_bits / sizeof *graph_bits + sizeof cell_bits / sizeof *cell_bits + 1)

static const uint32_t search_lists[] = {10, 16, 24, 40, 64, 100, 160, 256, 400};
static const uint32_t ks[] = {10, 100};

struct measure {
    const struct env *env;
    const char *path;
    unsigned threads;
    uint32_t sample, dim, truth_count;
    uint32_t *rows;  /* the sample */
    float *vectors;  /* sample x dim, user space */
    uint64_t *truth; /* sample x TRUTH ids */
    struct operating_point *out;
    uint32_t count;
    const struct points_watch *watch;
    uint64_t steps; /* of the whole: truths, and PLAN_STEPS for each residency */
    atomic_uint done;
};

static bool is_stopped(const struct measure *m)
{
    return m->watch->stopped && m->watch->stopped(m->watch->context);
}

/* Relaxed: it only counts. */
static void advance(struct measure *m, unsigned steps)
{
    unsigned done = atomic_fetch_add_explicit(&m->done, steps, memory_order_relaxed) + steps;
    if (m->watch->advance)
        m->watch->advance(m->watch->context, done, m->steps);
}

/* ---- the sample and its truth ---- */

static void sample_vector(const struct measure *m, const struct fathom_index *index, uint32_t i)
{
    const struct properties *p = &index->properties;
    const uint8_t *record = index->rows8 + (size_t)m->rows[i] * index->records->row_bytes;
    float scale = row8_record_scale(record, p->work_dim, p->records_exact) * index->model.row8.step;
    for (uint32_t d = 0; d < p->dim;
         d++) /* under ip the last dimension of work space is left out */
        m->vectors[(size_t)i * p->dim + d] =
            index->model.row8.mean[d] + scale * ((int)record[d] - 128);
}

struct nearest {
    float distance[TRUTH];
    uint32_t row[TRUTH], count;
};

static void nearest_insert(struct nearest *best, uint32_t limit, float distance, uint32_t row)
{
    uint32_t at = best->count < limit ? best->count++ : limit - 1;
    if (at == limit - 1 && best->count == limit && best->distance[at] <= distance &&
        best->row[at] != UINT32_MAX)
        return;
    for (; at > 0 && best->distance[at - 1] > distance; at--) {
        best->distance[at] = best->distance[at - 1];
        best->row[at] = best->row[at - 1];
    }
    best->distance[at] = distance;
    best->row[at] = row;
}

/* Exact neighbours of sample i among all rows but itself. */
static void find_truth(const struct measure *m, const struct fathom_index *index,
                       struct navigator *navigator, struct query *query, uint32_t i)
{
    const struct properties *p = &index->properties;
    size_t bytes = index->records->row_bytes;
    struct nearest best = {.count = 0};
    for (uint32_t t = 0; t < TRUTH; t++) {
        best.distance[t] = INFINITY;
        best.row[t] = UINT32_MAX;
    }
    best.count = m->truth_count;
    memcpy(query->vector, m->vectors + (size_t)i * p->dim, p->dim * sizeof(float));
    navigator_prepare(navigator, query);
    for (uint64_t first = 0; first < p->rows; first += SCAN_ROWS) {
        uint32_t count = p->rows - first < SCAN_ROWS ? (uint32_t)(p->rows - first) : SCAN_ROWS;
        const uint8_t *rows = index->rows8 + first * bytes;
        kernels_get()->score8_rows(navigator->row_scores, &query->row8.weights, rows, bytes, count);
        for (uint32_t r = 0; r < count; r++) {
            float distance =
                record_distance(&query->row8, index, &navigator->row_scores[r], rows + r * bytes);
            if (distance < best.distance[m->truth_count - 1] && first + r != m->rows[i])
                nearest_insert(&best, m->truth_count, distance, (uint32_t)(first + r));
        }
    }
    for (uint32_t t = 0; t < m->truth_count; t++)
        m->truth[(size_t)i * TRUTH + t] = best.row[t] == UINT32_MAX
                                              ? FATHOM_ID_NONE
                                              : bits_load(index->ids, p->id_bits, best.row[t]);
}

struct truth_job {
    struct measure *measure;
    const struct fathom_index *index;
    atomic_int failed;
};

static void truth_worker(void *context, unsigned worker)
{
    struct truth_job *job = context;
    struct measure *m = job->measure;
    const struct properties *p = &job->index->properties;
    struct navigator navigator = {0};
    struct query query = {.index = job->index};
    struct query_capacity capacity = {.dim = p->dim, .k = 1, .candidates = 1};
    struct navigator_capacity scratch = {
        .work_dim = p->work_dim, .cells = 1, .degree = 1, .search_list = 1, .candidates = 1};
    if (navigator_reserve(&navigator, scratch) || query_reserve(&query, job->index, capacity))
        atomic_store(&job->failed, -ENOMEM);
    for (uint32_t i = worker; i < m->sample && !atomic_load(&job->failed); i += m->threads) {
        if (is_stopped(m))
            atomic_store(&job->failed, FATHOM_EINTERRUPTED);
        else
            find_truth(m, job->index, &navigator, &query, i);
        advance(m, 1);
    }
    mem_free(query.memory);
    navigator_fini(&navigator);
}

static int open_plan(const struct measure *m, struct fathom_index **out,
                     enum fathom_navigator navigator, uint32_t code_bytes, struct fathom_error *err)
{
    struct fathom_open_options options = fathom_open_options_default();
    options.navigator = navigator;
    options.code_bytes = code_bytes;
    options.inflight = INFLIGHT;
    return index_open_file(out, m->env, m->path, &options, err);
}

/* The sample, evenly spaced over the file, and its truth; also which code sizes there are. */
static int prepare(struct measure *m, uint32_t *levels, uint32_t *level_count,
                   struct fathom_error *err)
{
    struct fathom_index *index;
    int status = open_plan(m, &index, FATHOM_NAVIGATOR_GRAPH, 0, err);
    if (status)
        return status;
    const struct properties *p = &index->properties;
    m->dim = p->dim;
    m->sample = p->rows < SAMPLE_ROWS ? (uint32_t)p->rows : SAMPLE_ROWS;
    m->truth_count = p->rows - 1 < TRUTH ? (uint32_t)(p->rows - 1) : TRUTH;
    m->rows = mem_alloc_array(m->sample, sizeof *m->rows);
    m->vectors = mem_alloc_array((size_t)m->sample * p->dim, sizeof *m->vectors);
    m->truth = mem_alloc_array((size_t)m->sample * TRUTH, sizeof *m->truth);
    if (!m->rows || !m->vectors || !m->truth) {
        fathom_index_close(index);
        return error_set(err, -ENOMEM, "%s: no memory to measure operating points", m->path);
    }
    for (uint32_t i = 0; i < m->sample; i++) {
        /* Evenly spaced, in an order of which every prefix is spread evenly too, more or less. */
        uint64_t place = (uint64_t)i * SPREAD % m->sample;
        m->rows[i] = (uint32_t)((2 * place + 1) * p->rows / (2 * m->sample));
        sample_vector(m, index, i);
    }
    *level_count = index->level_count;
    memcpy(levels, index->level_bytes, *level_count * sizeof *levels);
    struct truth_job job = {.measure = m, .index = index};
    m->steps = m->sample + (uint64_t)PLAN_STEPS * PLANS_MAX;
    if (m->truth_count)
        status = env_run_parallel(m->threads, truth_worker, &job);
    fathom_index_close(index);
    if (status == 0)
        status = atomic_load(&job.failed);
    return status ? error_set(err, status, "%s: measuring operating points: %s", m->path,
                              fathom_strerror(status))
                  : 0;
}

/* ---- searching the sample ---- */

/* One residency, measured by one worker with an engine of its own, so that workers share nothing
 * but the sample. */
struct plan_job {
    enum fathom_navigator navigator;
    uint32_t code_bytes; /* 0: the 8-bit rows */
    struct operating_point points[POINTS_RESIDENT_MAX];
    uint32_t count;
    int status;
};

struct searcher {
    const struct measure *measure;
    struct fathom_index *index;
    struct fathom_engine *engine;
    float recall[SAMPLE_ROWS], reads[SAMPLE_ROWS]; /* recall below 0: not usable */
};

static bool usable(const struct measure *m, uint32_t i)
{
    for (uint32_t d = 0; d < m->dim; d++)
        if (m->vectors[(size_t)i * m->dim + d] != 0)
            return true;
    return false; /* the zero vector: no query under cosine */
}

static float recall_of(const struct measure *m, uint32_t i, const struct fathom_result *result,
                       uint32_t k)
{
    uint32_t found = 0;
    for (uint32_t r = 0; r < result->count; r++)
        for (uint32_t t = 0; t < k; t++)
            found += result->ids[r] == m->truth[(size_t)i * TRUTH + t];
    return (float)found / (float)k;
}

/* Takes finished queries; user points into recall. */
static int collect(struct searcher *s, uint32_t k, bool wait)
{
    struct fathom_result results[INFLIGHT];
    int count = fathom_engine_poll(s->engine, results, INFLIGHT, wait);
    for (int r = 0; r < count; r++) {
        uint32_t i = (uint32_t)((float *)results[r].user - s->recall);
        if (results[r].status)
            return results[r].status;
        s->recall[i] = recall_of(s->measure, i, &results[r], k);
        s->reads[i] = (float)results[r].stats.reads;
    }
    return count < 0 ? count : 0;
}

/* Evenly spaced rows come first in the sample's order (prepare), so a prefix is a sample too. */
static uint32_t sample_for(const struct measure *m, uint32_t k)
{
    return k == TRUTH && m->sample > SAMPLE_LARGE_K ? SAMPLE_LARGE_K : m->sample;
}

static int search_sample(struct searcher *s, uint32_t k, uint32_t search_list,
                         float refine_threshold)
{
    const struct measure *m = s->measure;
    int status = 0;
    uint32_t sample = sample_for(m, k);
    for (uint32_t i = sample; i < m->sample; i++)
        s->recall[i] = -1;
    for (uint32_t i = 0; i < sample && status == 0; i++) {
        struct fathom_query query = fathom_query_default();
        query.vector = m->vectors + (size_t)i * m->dim;
        query.k = k;
        query.search_list = search_list;
        query.refine_threshold = refine_threshold;
        query.user = &s->recall[i];
        s->recall[i] = -1;
        if (is_stopped(m))
            return FATHOM_EINTERRUPTED;
        if (!usable(m, i))
            continue;
        while ((status = engine_submit_excluding(s->engine, s->index, &query, m->rows[i], NULL)) ==
                   FATHOM_EBUSY &&
               (status = collect(s, k, true)) == 0) {
        }
    }
    while (status == 0 && fathom_engine_running(s->engine))
        status = collect(s, k, true);
    return status;
}

static void summarise(const struct searcher *s, struct operating_point *point)
{
    double sum = 0, squares = 0, reads = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < s->measure->sample; i++) {
        if (s->recall[i] < 0)
            continue;
        sum += s->recall[i];
        squares += (double)s->recall[i] * s->recall[i];
        reads += s->reads[i];
        count++;
    }
    double mean = count ? sum / count : 0,
           variance = count > 1 ? (squares - count * mean * mean) / (count - 1) : 0;
    point->recall = (float)mean;
    point->recall_low = (float)(mean - 1.645 * sqrt(variance > 0 ? variance / count : 0));
    point->reads = (float)(count ? reads / count : 0);
}

static int measure_k(struct searcher *s, struct plan_job *job, uint32_t k, float refine_threshold)
{
    float before = -1;
    for (size_t l = 0; l < sizeof search_lists / sizeof *search_lists; l++) {
        if (search_lists[l] < query_least_list(k))
            continue;
        int status = search_sample(s, k, search_lists[l], refine_threshold);
        if (status)
            return status;
        struct operating_point *point = &job->points[job->count++];
        *point = (struct operating_point){
            .navigator = job->navigator,
            .k = k,
            .search_list = search_lists[l],
            .refine_threshold = refine_threshold,
            .code_bytes = s->index->plan.rows8 ? s->index->records->row_bytes : job->code_bytes};
        summarise(s, point);
        if (point->recall_low >= RECALL_ENOUGH || point->recall - before < RECALL_GAIN)
            break;
        before = point->recall;
    }
    return 0;
}

/* With the usual threshold; where reads are what a query costs, with one that reads less and so
 * wants a longer walk for the same recall; and where the usual one stays below what most ask for,
 * with one that reads more. */
static int measure_thresholds(struct searcher *s, struct plan_job *job, uint32_t k)
{
    int status = measure_k(s, job, k, 0);
    if (status != 0 || job->count == 0)
        return status;
    struct operating_point last = job->points[job->count - 1];
    if (last.reads > READS_THAT_MATTER)
        status = measure_k(s, job, k, THRIFTY_THRESHOLD);
    if (status == 0 && last.recall_low < FATHOM_TARGET_RECALL)
        status = measure_k(s, job, k, CAREFUL_THRESHOLD);
    return status;
}

static int measure_plan(const struct measure *m, struct plan_job *job)
{
    struct fathom_engine_options options = {.io = FATHOM_IO_AUTO, .inflight = INFLIGHT};
    struct searcher *s = mem_alloc(sizeof *s);
    if (!s)
        return -ENOMEM;
    s->measure = m;
    int status = open_plan(m, &s->index, job->navigator, job->code_bytes, NULL);
    if (status == 0)
        status = engine_create_with(&s->engine, m->env, &options, NULL);
    for (size_t i = 0; i < sizeof ks / sizeof *ks && status == 0; i++)
        if (ks[i] <= m->truth_count)
            status = measure_thresholds(s, job, ks[i]);
    fathom_engine_destroy(s->engine);
    fathom_index_close(s->index);
    mem_free(s);
    return status;
}

struct plan_jobs {
    struct measure *measure;
    struct plan_job *jobs;
    uint32_t count;
    atomic_uint next;
};

static void plan_worker(void *context, unsigned worker)
{
    struct plan_jobs *all = context;
    (void)worker;
    for (unsigned i; (i = atomic_fetch_add(&all->next, 1)) < all->count;) {
        all->jobs[i].status = measure_plan(all->measure, &all->jobs[i]);
        advance(all->measure, PLAN_STEPS);
    }
}

/* The largest level of at most so many bits a dimension, or the smallest there is. */
static uint32_t level_of_bits(const struct measure *m, const uint32_t *levels, uint32_t level_count,
                              double bits)
{
    uint32_t best = levels[0];
    for (uint32_t l = 1; l < level_count && 8 * levels[l] <= bits * m->dim; l++)
        best = levels[l];
    return best;
}

static void list_plans(struct plan_jobs *all, enum fathom_navigator navigator, const double *bits,
                       size_t count, const uint32_t *levels, uint32_t level_count)
{
    uint32_t last = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t code_bytes = level_of_bits(all->measure, levels, level_count, bits[i]);
        if (code_bytes != last)
            all->jobs[all->count++] =
                (struct plan_job){.navigator = navigator, .code_bytes = code_bytes};
        last = code_bytes;
    }
}

static int measure_plans(struct measure *m, const uint32_t *levels, uint32_t level_count,
                         struct fathom_error *err)
{
    struct plan_jobs all = {.measure = m, .jobs = mem_alloc_array(PLANS_MAX, sizeof *all.jobs)};
    int status = all.jobs ? 0 : -ENOMEM;
    if (status == 0) {
        list_plans(&all, FATHOM_NAVIGATOR_GRAPH, graph_bits, sizeof graph_bits / sizeof *graph_bits,
                   levels, level_count);
        all.jobs[all.count++] = (struct plan_job){.navigator = FATHOM_NAVIGATOR_GRAPH};
        list_plans(&all, FATHOM_NAVIGATOR_CELLS, cell_bits, sizeof cell_bits / sizeof *cell_bits,
                   levels, level_count);
        m->steps = m->sample + (uint64_t)PLAN_STEPS * all.count;
        status = env_run_parallel(m->threads < PLANS_AT_ONCE ? m->threads : PLANS_AT_ONCE,
                                  plan_worker, &all);
    }
    for (uint32_t i = 0; i < all.count && status == 0; i++) {
        status = all.jobs[i].status;
        memcpy(m->out + m->count, all.jobs[i].points, all.jobs[i].count * sizeof *m->out);
        m->count += all.jobs[i].count;
    }
    mem_free(all.jobs);
    return status ? error_set(err, status, "%s: measuring operating points: %s", m->path,
                              fathom_strerror(status))
                  : 0;
}

int points_measure(const struct env *env, const char *path, unsigned threads,
                   const struct points_watch *watch, struct operating_point *out, uint32_t *count,
                   struct fathom_error *err)
{
    struct measure m = {.env = env, .path = path, .threads = threads, .watch = watch, .out = out};
    uint32_t levels[PLANES_LEVELS_MAX], level_count = 0;
    int status = prepare(&m, levels, &level_count, err);
    if (status == 0 && m.truth_count > 0)
        status = measure_plans(&m, levels, level_count, err);
    *count = m.count;
    mem_free(m.rows);
    mem_free(m.vectors);
    mem_free(m.truth);
    return status;
}
