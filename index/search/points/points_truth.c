/* The truth behind operating points (points_sample.h): each piece of the file's 8-bit records is
 * compared with the whole sample while it is in the cache (points_seek.c). Where the file has full
 * vectors, they say in which order the nearest really are. */
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

#define RANKED 26 /* neighbours with an exact rank, where few are asked for */

/* A pass over the file, which may be kept on its way. */
struct search {
    const struct points_sample *sample;
    const struct fathom_index *index;
    const struct sample_watch *watch;
    struct points_seek *seek;
};

/* ---- the sample ---- */

static size_t row_bytes_max(const struct fathom_index *index)
{
    size_t records = index->records->row_bytes;
    return index->vectors && index->vectors->row_bytes > records ? index->vectors->row_bytes
                                                                 : records;
}

int points_failed(const struct fathom_index *index, int status, struct fathom_error *err)
{
    return error_set(err, status, "%s: measuring operating points: %s", index->file.path,
                     fathom_strerror(status));
}

int points_reader_init(struct points_reader *reader, const struct fathom_index *index)
{
    const struct properties *p = &index->properties;
    struct query_capacity capacity = {.dim = p->dim, .k = 1, .candidates = 1};
    struct navigator_capacity scratch = {.work_dim = p->work_dim,
                                         .cells = p->cells,
                                         .ranked = p->cells,
                                         .looked_at = 1,
                                         .candidates = 1};
    *reader = (struct points_reader){.query = {.index = index}};
    reader->bytes = mem_alloc(row_bytes_max(index));
    return reader->bytes && navigator_reserve(&reader->navigator, scratch) == 0 &&
                   query_reserve(&reader->query, index, capacity) == 0
               ? 0
               : -ENOMEM;
}

void points_reader_fini(struct points_reader *reader)
{
    mem_free(reader->query.memory);
    navigator_fini(&reader->navigator);
    mem_free(reader->bytes);
}

int points_reader_load(struct points_reader *reader, uint32_t row, float *out,
                       struct fathom_error *err)
{
    const struct fathom_index *index = reader->query.index;
    const struct properties *p = &index->properties;
    const struct section *section = index->vectors ? index->vectors : index->records;
    uint8_t *bytes = reader->bytes;
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

void points_reader_prepare(struct points_reader *reader, int8_t *weights, struct row8_query *out)
{
    const struct properties *p = &reader->query.index->properties;
    reader->query.hi = weights;
    reader->query.lo = weights + size_round_up(p->work_dim, MEM_ALIGN);
    navigator_prepare(&reader->navigator, &reader->query);
    *out = reader->query.row8;
}

/* picked: which ones is known. */
static int take_rows(struct points_sample *sample, const struct sample_options *options,
                     bool picked, struct points_reader *reader, const struct sample_watch *watch,
                     struct fathom_error *err)
{
    const struct fathom_index *index = reader->query.index;
    uint64_t rows = index->properties.rows, offered = (uint64_t)sample->count * POINTS_OFFERED;
    struct points_offer offer = {.count = (uint32_t)(offered < rows ? offered : rows),
                                 .threads = options->threads};
    int status = picked ? 0 : points_pick(index, &offer, sample->rows, sample->count, watch, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++)
        status = watch->stopped(watch->context)
                     ? points_failed(index, FATHOM_EINTERRUPTED, err)
                     : points_reader_load(reader, sample->rows[i],
                                          sample->vectors + (size_t)i * sample->dim, err);
    return status;
}

/* All that are offered are in memory until the sample is taken. */
static int take_queries(struct points_sample *sample, const struct fathom_index *index,
                        const struct sample_options *options, bool picked,
                        const struct sample_watch *watch, struct fathom_error *err)
{
    const struct points_queries *queries = options->queries;
    size_t dim = sample->dim;
    float *all = mem_alloc_array(queries->count * dim, sizeof *all);
    struct points_offer offer = {
        .queries = all, .count = queries->count, .threads = options->threads};
    int status =
        all ? queries->load(queries->context, all, err) : points_failed(index, -ENOMEM, err);
    if (status == 0 && !picked)
        status = points_pick(index, &offer, sample->rows, sample->count, watch, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++)
        memcpy(sample->vectors + i * dim, all + sample->rows[i] * dim, dim * sizeof *all);
    mem_free(all);
    return status;
}

/* ---- their neighbours ---- */

static float nearest_cell(struct points_reader *reader)
{
    (void)rank_nearest(&reader->navigator, &reader->query, 1);
    return reader->navigator.cell_distance[reader->navigator.cell_order[0]];
}

static int prepare_seek(struct search *search, unsigned threads, struct points_reader *reader,
                        struct fathom_error *err)
{
    const struct sample_watch *watch = search->watch;
    int status = points_seek_create(&search->seek, search->sample, search->index, threads);
    for (uint32_t i = 0; i < search->sample->count && status == 0; i++) {
        if (watch->stopped(watch->context)) {
            status = FATHOM_EINTERRUPTED;
        } else {
            points_seek_set(search->seek, reader, i);
            search->sample->nearest_cells[i] = nearest_cell(reader);
        }
    }
    return status ? points_failed(search->index, status, err) : 0;
}

static void look(void *context, const struct record_piece *piece, unsigned worker)
{
    struct search *search = context;
    points_seek_look(search->seek, piece, worker);
}

static int compare_rows(const void *a, const void *b)
{
    const struct sample_neighbour *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static void forget_truth(struct points_sample *sample)
{
    for (size_t i = 0; i < (size_t)sample->count * SAMPLE_TRUTH; i++)
        sample->truth[i] = (struct sample_neighbour){
            .row = UINT32_MAX, .rank = i % SAMPLE_TRUTH, .distance = INFINITY, .exact = NAN};
}

/* ---- what is kept ---- */

#define KEPT_NAME "sample"

uint64_t points_sample_bytes(uint64_t rows)
{
    uint64_t count = rows < SAMPLE_ROWS ? rows : SAMPLE_ROWS;
    return sizeof(struct points_kept) +
           count * (sizeof(uint32_t) + SAMPLE_TRUTH * sizeof(struct sample_neighbour));
}

/* Which rows were picked, and their neighbours as far as the file was looked through. */
static void parts_of(const struct points_sample *sample, struct points_part out[2])
{
    size_t truth = (size_t)sample->count * SAMPLE_TRUTH;
    out[0] = (struct points_part){sample->rows, sample->count * sizeof *sample->rows};
    out[1] = (struct points_part){sample->truth, truth * sizeof *sample->truth};
}

static int keep(void *context, uint64_t next, struct fathom_error *err)
{
    const struct search *search = context;
    struct points_kept kept = {.generation = search->index->properties.generation, .next = next};
    struct points_part parts[2];
    parts_of(search->sample, parts);
    return points_keep(search->watch->keeper, KEPT_NAME, &kept, parts, 2, err);
}

static bool is_sample(const struct points_sample *sample, uint64_t rows)
{
    for (uint32_t i = 0; i < sample->count; i++)
        if (sample->rows[i] >= (sample->given ? sample->offered : rows))
            return false;
    return true;
}

/* *first: the row from which on neighbours are still to be looked for. 0: all is to be done. */
static int load_sample(struct points_sample *sample, const struct fathom_index *index,
                       const struct sample_watch *watch, uint64_t *first, struct fathom_error *err)
{
    struct points_kept kept;
    struct points_part parts[2];
    parts_of(sample, parts);
    int status = points_load_kept(watch->keeper, KEPT_NAME, index->properties.generation, &kept,
                                  parts, 2, err);
    if (status < 0)
        return status;
    *first = kept.next;
    if (status > 0 && points_pass_begins(index, kept.next) &&
        is_sample(sample, index->properties.rows))
        return 0;
    *first = 0;
    forget_truth(sample);
    return 0;
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
    uint32_t wanted = points_sample_has(sample, SAMPLE_LARGE_K, i) ? SAMPLE_TRUTH : RANKED;
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
    return status ? points_failed(index, status, err) : 0;
}

/* Puts values in order; of 99 in 100 none is larger than what it returns. */
static float usual_of(float *values, uint32_t count)
{
    uint32_t rank = count - 1 - count / 100;
    select_floats(values, count, rank);
    return values[rank];
}

/* What queries are like that operating points speak for. */
static void find_usual(struct points_sample *sample)
{
    float nearest[SAMPLE_ROWS];
    for (uint32_t i = 0; i < sample->count; i++) {
        nearest[i] = INFINITY;
        for (uint32_t t = 0; t < sample->truth_count; t++)
            nearest[i] = fminf(nearest[i], sample->truth[(size_t)i * SAMPLE_TRUTH + t].distance);
    }
    sample->usual = (struct usual){.row = usual_of(nearest, sample->count),
                                   .cell = usual_of(sample->nearest_cells, sample->count)};
}

static int find_truth(struct points_sample *sample, const struct fathom_index *index,
                      unsigned threads, const struct sample_watch *watch,
                      struct points_reader *reader, uint64_t first, struct fathom_error *err)
{
    struct search search = {.sample = sample, .index = index, .watch = watch};
    struct points_pass pass = {.first = first, .look = look, .keep = keep, .context = &search};
    int status = prepare_seek(&search, threads, reader, err);
    if (status == 0)
        status = points_stream(index, threads, watch, &pass, err);
    points_seek_destroy(search.seek);
    if (status == 0)
        status = rank_exactly(sample, index, threads, watch, err);
    for (uint32_t i = 0; i < sample->count && status == 0; i++)
        qsort(sample->truth + (size_t)i * SAMPLE_TRUTH, sample->truth_count, sizeof *sample->truth,
              compare_rows);
    if (status == 0)
        find_usual(sample);
    return status;
}

/* How many there are of what, and of neighbours: a row is none of its own. */
static struct points_sample sample_of(const struct properties *p,
                                      const struct sample_options *options)
{
    bool given = options->queries != NULL;
    uint64_t offered = given ? options->queries->count : p->rows,
             others = given ? p->rows : p->rows - 1;
    uint32_t count = offered < options->count ? (uint32_t)offered : options->count;
    return (struct points_sample){.count = count,
                                  .dim = p->dim,
                                  .offered = given ? (uint32_t)offered : POINTS_OFFERED * count,
                                  .given = given,
                                  .truth_count =
                                      others < SAMPLE_TRUTH ? (uint32_t)others : SAMPLE_TRUTH};
}

int points_sample_make(struct points_sample *out, const struct fathom_index *index,
                       const struct sample_options *options, const struct sample_watch *watch,
                       struct fathom_error *err)
{
    struct points_reader reader = {0};
    uint64_t first = 0;
    *out = sample_of(&index->properties, options);
    out->rows = mem_alloc_array(out->count, sizeof *out->rows);
    out->vectors = mem_alloc_array((size_t)out->count * out->dim, sizeof *out->vectors);
    out->truth = mem_alloc_array((size_t)out->count * SAMPLE_TRUTH, sizeof *out->truth);
    out->nearest_cells = mem_alloc_array(out->count, sizeof *out->nearest_cells);
    int status = points_reader_init(&reader, index);
    if (status != 0 || !out->rows || !out->vectors || !out->truth || !out->nearest_cells)
        status = points_failed(index, -ENOMEM, err);
    if (status == 0)
        status = load_sample(out, index, watch, &first, err);
    if (status == 0 && first > 0)
        watch->advance(watch->context, index->properties.rows); /* they were picked */
    if (status == 0)
        status = out->given ? take_queries(out, index, options, first > 0, watch, err)
                            : take_rows(out, options, first > 0, &reader, watch, err);
    if (status == 0 && out->truth_count)
        status = find_truth(out, index, options->threads, watch, &reader, first, err);
    points_reader_fini(&reader);
    return status;
}

float points_sample_reach(const struct points_sample *sample, uint32_t k)
{
    uint64_t found = 0;
    uint32_t count = 0;
    for (uint32_t i = 0; i < sample->count; i++) {
        if (!points_sample_has(sample, k, i))
            continue;
        const struct sample_neighbour *truth = sample->truth + (size_t)i * SAMPLE_TRUTH;
        float distances[SAMPLE_TRUTH];
        for (uint32_t t = 0; t < sample->truth_count; t++)
            distances[t] = truth[t].distance;
        select_floats(distances, sample->truth_count, k - 1);
        for (uint32_t t = 0; t < sample->truth_count; t++)
            found += truth[t].rank < k && truth[t].distance <= distances[k - 1];
        count++;
    }
    return count ? (float)((double)found / ((double)count * k)) : 1;
}

void points_sample_fini(struct points_sample *sample)
{
    mem_free(sample->rows);
    mem_free(sample->vectors);
    mem_free(sample->truth);
    mem_free(sample->nearest_cells);
    *sample = (struct points_sample){0};
}
