/* The truth behind operating points (points_sample.h): the file's 8-bit records are streamed once,
 * and each piece of them is compared with the whole sample while it is in the cache. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "mem.h"
#include "navigate.h"
#include "points_sample.h"
#include "query.h"

#define SPREAD    37 /* prime, and no divisor of a sample's usual size */
#define SCAN_ROWS 256

struct nearest {
    float distance[SAMPLE_TRUTH];
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

static int load_vector(struct points_sample *sample, const struct fathom_index *index, uint32_t i,
                       uint8_t *record, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    int status = index_file_read_row(&index->file, index->records, sample->rows[i], record, err);
    if (status != 0)
        return status;
    float scale = row8_record_scale(record, p->work_dim, p->records_exact) * index->model.row8.step;
    for (uint32_t d = 0; d < p->dim;
         d++) /* under ip the last dimension of work space is left out */
        sample->vectors[(size_t)i * p->dim + d] =
            index->model.row8.mean[d] + scale * ((int)record[d] - 128);
    return 0;
}

static int no_memory(const struct fathom_index *index, struct fathom_error *err)
{
    return error_set(err, -ENOMEM, "%s: no memory to measure operating points", index->file.path);
}

static int choose_rows(struct points_sample *sample, const struct fathom_index *index,
                       struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    uint8_t *record = mem_alloc(index->records->row_bytes);
    int status = record ? 0 : no_memory(index, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++) {
        uint64_t place = (uint64_t)i * SPREAD % sample->count;
        sample->rows[i] = (uint32_t)((2 * place + 1) * p->rows / (2 * sample->count));
        status = load_vector(sample, index, i, record, err);
    }
    mem_free(record);
    return status;
}

/* ---- a piece of the file ---- */

static void nearest_insert(struct nearest *best, float distance, uint32_t row)
{
    uint32_t at = best->count - 1;
    for (; at > 0 && best->distance[at - 1] > distance; at--) {
        best->distance[at] = best->distance[at - 1];
        best->row[at] = best->row[at - 1];
    }
    best->distance[at] = distance;
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
                nearest_insert(best, distance, row);
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
        .work_dim = p->work_dim, .cells = 1, .degree = 1, .search_list = 1, .candidates = 1};
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
        truth[t] = (struct sample_neighbour){
            .row = best->row[t], .rank = t, .distance = best->distance[t]};
    qsort(truth, sample->truth_count, sizeof *truth, compare_rows);
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

void points_sample_fini(struct points_sample *sample)
{
    mem_free(sample->rows);
    mem_free(sample->vectors);
    mem_free(sample->truth);
    *sample = (struct points_sample){0};
}
