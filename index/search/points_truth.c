/* The truth behind operating points (points_sample.h): the file's 8-bit records are streamed once,
 * and each piece of them is compared with the whole sample while it is in the cache. Where the file
 * has full vectors, they say in which order the nearest really are. */
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "metric.h"
#include "navigate.h"
#include "points_sample.h"
#include "query.h"
#include "select.h"

#define SPREAD    37 /* prime, and no divisor of a sample's usual size */
#define SCAN_ROWS 256
#define RANKED    26 /* neighbours with an exact rank, where few are asked for */

struct nearest {
    float distance[SAMPLE_TRUTH], sigma[SAMPLE_TRUTH];
    uint32_t row[SAMPLE_TRUTH], count;
};

/* A row of the sample as a prepared query, and what it has found so far. */
struct seeker {
    struct row8_query query;
    struct nearest best;
};

struct search {
    const struct points_sample *sample;
    const struct fathom_index *index;
    const struct sample_watch *watch;
    unsigned threads;
    struct seeker *seekers;       /* of each row of the sample */
    int8_t *weights;              /* of their queries */
    struct kernel_score8 *scores; /* threads x SCAN_ROWS */
    /* The piece of the file that is being searched: whole records, without padding. */
    uint8_t *rows;
    uint64_t first; /* its first row */
    uint32_t count;
    size_t tail; /* bytes behind these: of a record that spans pages and has not come whole yet */
};

/* ---- the sample ---- */

/* A row as it was given, or what its 8-bit form says where that is all. bytes has room for either.
 */
static int load_vector(const struct fathom_index *index, uint32_t row, uint8_t *bytes, float *out,
                       struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    const struct section *section = index->vectors ? index->vectors : index->records;
    int status = index_file_read_row(&index->file, section, row, bytes, err);
    if (status != 0)
        return status;
    if (index->vectors) {
        metric_to_f32(p->dtype, bytes, p->dim, out);
        return 0;
    }
    float scale = row8_record_scale(bytes, p->work_dim, p->records_exact) * index->model.row8.step;
    for (uint32_t d = 0; d < p->dim; d++) /* under ip the last of work space is left out */
        out[d] = index->model.row8.mean[d] + scale * ((int)bytes[d] - 128);
    return 0;
}

static size_t row_bytes_max(const struct fathom_index *index)
{
    size_t records = index->records->row_bytes;
    return index->vectors && index->vectors->row_bytes > records ? index->vectors->row_bytes
                                                                 : records;
}

static int no_memory(const struct fathom_index *index, struct fathom_error *err)
{
    return error_set(err, -ENOMEM, "%s: no memory to measure operating points", index->file.path);
}

static int choose_rows(struct points_sample *sample, const struct fathom_index *index,
                       struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    uint8_t *bytes = mem_alloc(row_bytes_max(index));
    int status = bytes ? 0 : no_memory(index, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++) {
        uint64_t place = (uint64_t)i * SPREAD % sample->count;
        sample->rows[i] = (uint32_t)((2 * place + 1) * p->rows / (2 * sample->count));
        status =
            load_vector(index, sample->rows[i], bytes, sample->vectors + (size_t)i * p->dim, err);
    }
    mem_free(bytes);
    return status;
}

/* ---- a piece of the file ---- */

static void nearest_insert(struct nearest *best, float distance, float sigma, uint32_t row)
{
    uint32_t at = best->count - 1;
    for (; at > 0 && best->distance[at - 1] > distance; at--) {
        best->distance[at] = best->distance[at - 1];
        best->sigma[at] = best->sigma[at - 1];
        best->row[at] = best->row[at - 1];
    }
    best->distance[at] = distance;
    best->sigma[at] = sigma;
    best->row[at] = row;
}

static void seek_rows(const struct search *search, uint32_t i, struct kernel_score8 *scores)
{
    struct seeker *seeker = &search->seekers[i];
    struct nearest *best = &seeker->best;
    size_t bytes = search->index->records->row_bytes;
    for (uint32_t at = 0; at < search->count; at += SCAN_ROWS) {
        uint32_t left = search->count - at, count = left < SCAN_ROWS ? left : SCAN_ROWS;
        const uint8_t *rows = search->rows + at * bytes;
        kernels_get()->score8_rows(scores, &seeker->query.weights, rows, bytes, count);
        for (uint32_t r = 0; r < count; r++) {
            uint32_t row = (uint32_t)search->first + at + r;
            float distance =
                record_distance(&seeker->query, search->index, &scores[r], rows + r * bytes);
            if (distance < best->distance[best->count - 1] && row != search->sample->rows[i])
                nearest_insert(best, distance,
                               record_sigma(search->index, rows + r * bytes, distance), row);
        }
    }
}

static void seek_worker(void *context, unsigned worker)
{
    struct search *search = context;
    for (uint32_t i = worker; i < search->sample->count; i += search->threads)
        seek_rows(search, i, search->scores + (size_t)worker * SCAN_ROWS);
}

/* Rows of the pages of a piece, one behind the other, without the rest of each page. */
static void collect_rows(struct search *search, const uint8_t *payload, size_t bytes)
{
    const struct section *records = search->index->records;
    uint64_t left = search->index->properties.rows - search->first;
    uint8_t *out = search->rows;
    search->count = 0;
    for (size_t at = 0; at < bytes && search->count < left; at += PAGE_PAYLOAD) {
        if (records->rows_per_page) {
            uint64_t rows = left - search->count;
            rows = rows < records->rows_per_page ? rows : records->rows_per_page;
            memcpy(out, payload + at, rows * records->row_bytes);
            out += rows * records->row_bytes;
            search->count += (uint32_t)rows;
            continue;
        }
        size_t rest = records->row_bytes - search->tail;
        size_t take = rest < PAGE_PAYLOAD ? rest : PAGE_PAYLOAD;
        memcpy(out + search->tail, payload + at, take);
        search->tail += take;
        if (take == rest) {
            out += records->row_bytes;
            search->count++;
            search->tail = 0;
        }
    }
}

static int visit_piece(void *context, const uint8_t *payload, size_t bytes,
                       struct fathom_error *err)
{
    struct search *search = context;
    const struct sample_watch *watch = search->watch;
    size_t row_bytes = search->index->records->row_bytes;
    if (watch->stopped(watch->context))
        return error_set(err, FATHOM_EINTERRUPTED, "%s: measuring operating points: %s",
                         search->index->file.path, fathom_strerror(FATHOM_EINTERRUPTED));
    collect_rows(search, payload, bytes);
    int status = env_run_parallel(search->threads, seek_worker, search);
    if (status != 0)
        return error_set(err, status, "%s: measuring operating points: %s",
                         search->index->file.path, fathom_strerror(status));
    /* The beginning of a record whose end is in the next piece. */
    memmove(search->rows, search->rows + search->count * row_bytes, search->tail);
    search->first += search->count;
    watch->advance(watch->context, search->first);
    return 0;
}

/* ---- the whole ---- */

static int prepare_seekers(struct search *search)
{
    const struct points_sample *sample = search->sample;
    const struct properties *p = &search->index->properties;
    struct navigator navigator = {0};
    struct query query = {.index = search->index};
    struct query_capacity capacity = {.dim = p->dim, .k = 1, .candidates = 1};
    struct navigator_capacity scratch = {
        .work_dim = p->work_dim, .cells = 1, .looked_at = 1, .candidates = 1};
    size_t padded = size_round_up(p->work_dim, MEM_ALIGN);
    bool ready = navigator_reserve(&navigator, scratch) == 0 &&
                 query_reserve(&query, search->index, capacity) == 0;
    for (uint32_t i = 0; i < sample->count && ready; i++) {
        struct seeker *seeker = &search->seekers[i];
        memcpy(query.vector, sample->vectors + (size_t)i * p->dim, p->dim * sizeof(float));
        query.hi = search->weights + 2 * padded * i;
        query.lo = query.hi + padded;
        navigator_prepare(&navigator, &query);
        seeker->query = query.row8;
        seeker->best.count = sample->truth_count;
        for (uint32_t t = 0; t < SAMPLE_TRUTH; t++) {
            seeker->best.distance[t] = INFINITY;
            seeker->best.row[t] = UINT32_MAX;
        }
    }
    mem_free(query.memory);
    navigator_fini(&navigator);
    return ready ? 0 : -ENOMEM;
}

static int search_init(struct search *search)
{
    const struct section *records = search->index->records;
    const struct points_sample *sample = search->sample;
    size_t padded = size_round_up(search->index->properties.work_dim, MEM_ALIGN);
    /* A piece, and the part of a record that its end may cut off. */
    size_t bytes = FORMAT_STREAM_PAGES * PAGE_PAYLOAD + records->row_bytes;
    search->rows = mem_alloc(bytes);
    search->seekers = mem_alloc_array(sample->count, sizeof *search->seekers);
    search->weights = mem_alloc_array(sample->count, 2 * padded);
    search->scores = mem_alloc_array((size_t)search->threads * SCAN_ROWS, sizeof *search->scores);
    if (!search->rows || !search->seekers || !search->weights || !search->scores)
        return -ENOMEM;
    return prepare_seekers(search);
}

static void search_fini(struct search *search)
{
    mem_free(search->rows);
    mem_free(search->seekers);
    mem_free(search->weights);
    mem_free(search->scores);
}

static int compare_rows(const void *a, const void *b)
{
    const struct sample_neighbour *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static void keep_truth(struct points_sample *sample, uint32_t i, const struct nearest *best)
{
    struct sample_neighbour *truth = sample->truth + (size_t)i * SAMPLE_TRUTH;
    for (uint32_t t = 0; t < sample->truth_count; t++)
        truth[t] = (struct sample_neighbour){.row = best->row[t],
                                             .rank = t,
                                             .distance = best->distance[t],
                                             .sigma = best->sigma[t],
                                             .exact = NAN};
}

/* ---- exact ranks ---- */

struct ranking {
    const struct points_sample *sample;
    const struct fathom_index *index;
    const struct sample_watch *watch;
    unsigned threads;
    atomic_int status; /* of the first failure that was noticed */
};

struct ranked {
    float distance;
    uint32_t at; /* place by the 8-bit form */
};

static int compare_ranked(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance > y->distance ? 1 : -1;
    return (x->at > y->at) - (x->at < y->at);
}

/* Puts the nearest of a row of the sample in their exact order. Their 8-bit distances stay in
 * theirs, so that a neighbour keeps its own. */
static int rank_row(const struct ranking *ranking, uint32_t i, uint8_t *bytes, float *vector,
                    struct sample_neighbour *truth)
{
    const struct properties *p = &ranking->index->properties;
    const struct points_sample *sample = ranking->sample;
    const float *own = sample->vectors + (size_t)i * p->dim;
    uint32_t wanted = i < SAMPLE_LARGE ? SAMPLE_TRUTH : RANKED;
    uint32_t count = wanted < sample->truth_count ? wanted : sample->truth_count;
    struct ranked ranked[SAMPLE_TRUTH];
    double norm_sq = 0;
    for (uint32_t d = 0; d < p->dim; d++)
        norm_sq += (double)own[d] * own[d];
    for (uint32_t t = 0; t < count; t++) {
        int status = index_file_read_row(&ranking->index->file, ranking->index->vectors,
                                         truth[t].row, bytes, NULL);
        if (status != 0)
            return status;
        ranked[t] = (struct ranked){
            metric_exact_distance(p->metric, p->dim, own, norm_sq, p->dtype, bytes, vector), t};
    }
    qsort(ranked, count, sizeof *ranked, compare_ranked);
    for (uint32_t t = 0; t < count; t++) {
        truth[ranked[t].at].rank = t;
        truth[ranked[t].at].exact = ranked[t].distance;
    }
    return 0;
}

static void rank_worker(void *context, unsigned worker)
{
    struct ranking *ranking = context;
    const struct properties *p = &ranking->index->properties;
    uint8_t *bytes = mem_alloc(row_bytes_max(ranking->index));
    float *vector = mem_alloc_array(p->dim, sizeof *vector);
    int status = bytes && vector ? 0 : -ENOMEM;
    for (uint32_t i = worker; i < ranking->sample->count && status == 0; i += ranking->threads)
        status = ranking->watch->stopped(ranking->watch->context)
                     ? FATHOM_EINTERRUPTED
                     : rank_row(ranking, i, bytes, vector,
                                ranking->sample->truth + (size_t)i * SAMPLE_TRUTH);
    if (status != 0)
        atomic_store(&ranking->status, status);
    mem_free(bytes);
    mem_free(vector);
}

/* Before the truth is put in the order of rows. */
static int rank_exactly(struct points_sample *sample, const struct fathom_index *index,
                        unsigned threads, const struct sample_watch *watch,
                        struct fathom_error *err)
{
    if (!index->vectors)
        return 0;
    struct ranking ranking = {.sample = sample, .index = index, .watch = watch, .threads = threads};
    int status = env_run_parallel(threads, rank_worker, &ranking);
    if (status == 0)
        status = atomic_load(&ranking.status);
    return status ? error_set(err, status, "%s: measuring operating points: %s", index->file.path,
                              fathom_strerror(status))
                  : 0;
}

static int find_truth(struct points_sample *sample, const struct fathom_index *index,
                      unsigned threads, const struct sample_watch *watch, struct fathom_error *err)
{
    struct search search = {.sample = sample, .index = index, .watch = watch, .threads = threads};
    int status = search_init(&search) == 0 ? 0 : no_memory(index, err);
    if (status == 0)
        status = index_file_stream(&index->file, index->records, visit_piece, &search, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++)
        keep_truth(sample, i, &search.seekers[i].best);
    search_fini(&search);
    if (status == 0)
        status = rank_exactly(sample, index, threads, watch, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++)
        qsort(sample->truth + (size_t)i * SAMPLE_TRUTH, sample->truth_count, sizeof *sample->truth,
              compare_rows);
    return status;
}

int points_sample_make(struct points_sample *out, const struct fathom_index *index, uint32_t count,
                       unsigned threads, const struct sample_watch *watch, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    *out = (struct points_sample){.dim = p->dim};
    out->count = p->rows < count ? (uint32_t)p->rows : count;
    out->truth_count = p->rows - 1 < SAMPLE_TRUTH ? (uint32_t)(p->rows - 1) : SAMPLE_TRUTH;
    out->rows = mem_alloc_array(out->count, sizeof *out->rows);
    out->vectors = mem_alloc_array((size_t)out->count * p->dim, sizeof *out->vectors);
    out->truth = mem_alloc_array((size_t)out->count * SAMPLE_TRUTH, sizeof *out->truth);
    if (!out->rows || !out->vectors || !out->truth)
        return no_memory(index, err);
    int status = choose_rows(out, index, err);
    return status == 0 && out->truth_count ? find_truth(out, index, threads, watch, err) : status;
}

float points_sample_reach(const struct points_sample *sample, uint32_t count, uint32_t k)
{
    uint64_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct sample_neighbour *truth = sample->truth + (size_t)i * SAMPLE_TRUTH;
        float distances[SAMPLE_TRUTH];
        for (uint32_t t = 0; t < sample->truth_count; t++)
            distances[t] = truth[t].distance;
        select_floats(distances, sample->truth_count, k - 1);
        for (uint32_t t = 0; t < sample->truth_count; t++)
            found += truth[t].rank < k && truth[t].distance <= distances[k - 1];
    }
    return count ? (float)((double)found / ((double)count * k)) : 1;
}

void points_sample_fini(struct points_sample *sample)
{
    mem_free(sample->rows);
    mem_free(sample->vectors);
    mem_free(sample->truth);
    *sample = (struct points_sample){0};
}
