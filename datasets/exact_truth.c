/* How it flows: queries are loaded in groups; for each group the base is streamed in blocks; for
 * each block every thread takes its own queries (so that no result is shared), multiplies,
 * dismisses, measures, and keeps its queries' heaps.
 *
 * The error bound, with u = 2^-24, n = dim, g = (n + 8) u / (1 - (n + 8) u): a product in any order
 * of additions, fused or not, is within g |q| |b| of q.b (Higham, Accuracy and Stability of
 * Numerical Algorithms, 3.1); the 8 covers operands that were rounded themselves (cos: unit
 * vectors). l2 adds the rounding of |b|^2 and of one subtraction. Products that underflow are off
 * by at most the smallest normal number each. */
#include "exact_truth.h"

#include <cblas.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "blas.h"
#include "error.h"
#include "exact_scan.h"
#include "heap.h"
#include "mem.h"

#define BLOCK_SCALARS   (2u << 20) /* of base rows in memory at a time */
#define BLOCK_ROWS_MAX  4096
#define BLOCK_ROWS_MIN  64
#define QUERY_TILE      64 /* queries multiplied at a time: their products stay in the cache */
#define MEMORY_DEFAULT  (256ull << 20)
#define NORM_SQUARE_MAX 1e37 /* beyond it a distance overflows a float */

struct neighbour {
    double distance;
    uint64_t id;
};

/* The k nearest so far, a heap with the farthest on top. */
struct nearest {
    struct neighbour *entries;
    uint32_t count;
};

/* Vectors in memory with what the bound needs. */
struct rows {
    float *values; /* as in the file */
    float *unit;   /* what is multiplied: cos divides by the norm; otherwise values itself */
    double *norms;
    uint8_t *zero; /* cos: rows of zeros; all 0 otherwise */
    size_t count;
    double norm_max;
};

struct lane {
    float *dots;    /* [QUERY_TILE][block_rows] */
    uint32_t *hits; /* [block_rows] */
    uint64_t measured;
};

struct exact {
    struct exact_options options;
    struct vector_file *base, *queries;
    struct exact_report *report;
    uint32_t dim;
    size_t block_rows, group_rows;
    struct rows block, group;
    uint64_t block_first;
    float *offsets; /* per row of the block: |b|^2 for l2, else 0 */
    struct neighbour *entries;
    struct nearest *nearest; /* of each query of the group */
    struct lane *lanes;
};

struct exact_options exact_options_default(void)
{
    return (struct exact_options){.metric = FATHOM_METRIC_L2, .k = 100, .threads = 1};
}

void exact_report_fini(struct exact_report *report)
{
    mem_free(report->zero_base.rows);
    mem_free(report->zero_queries.rows);
    memset(report, 0, sizeof *report);
}

/* ---- the nearest of a query ---- */

static bool is_farther(const void *a, const void *b)
{
    const struct neighbour *x = a, *y = b;
    return x->distance > y->distance || (x->distance == y->distance && x->id > y->id);
}

/* Empties the nearest into one row of the truth set, nearest first. */
static void nearest_drain(struct nearest *nearest, uint64_t *ids, float *distances)
{
    heap_sort(nearest->entries, nearest->count, sizeof *nearest->entries, is_farther);
    for (uint32_t i = 0; i < nearest->count; i++) {
        ids[i] = nearest->entries[i].id;
        distances[i] = (float)nearest->entries[i].distance;
    }
    nearest->count = 0;
}

/* ---- loading ---- */

static int list_add(struct row_list *list, uint64_t row)
{
    if (list->count == list->room) {
        size_t room = list->room ? 2 * list->room : 64;
        uint64_t *rows = mem_alloc_array(room, sizeof *rows);
        if (!rows)
            return -ENOMEM;
        if (list->count)
            memcpy(rows, list->rows, list->count * sizeof *rows);
        mem_free(list->rows);
        list->rows = rows;
        list->room = room;
    }
    list->rows[list->count++] = row;
    return 0;
}

/* Zero rows under cos: refused, or noted in the report. */
static int judge_zero_rows(const struct exact *exact, const struct rows *rows, uint64_t first,
                           struct vector_file *file, struct row_list *list,
                           struct fathom_error *err)
{
    for (size_t i = 0; i < rows->count; i++) {
        if (!rows->zero[i])
            continue;
        if (!exact->options.skip_zero_rows)
            return error_set(
                err, FATHOM_EINPUT,
                "%s: row %llu is all zeros, for which cosine is undefined; remove it, or leave "
                "such rows out with --zero-rows skip",
                vector_file_path(file), (unsigned long long)(first + i));
        if (list && list_add(list, first + i))
            return error_set(err, -ENOMEM, "no memory to list the zero rows");
    }
    return 0;
}

static int measure_norms(const struct exact *exact, struct rows *rows, uint64_t first,
                         struct vector_file *file, struct fathom_error *err)
{
    bool is_cos = exact->options.metric == FATHOM_METRIC_COS;
    rows->norm_max = 0;
    for (size_t i = 0; i < rows->count; i++) {
        const float *row = rows->values + i * exact->dim;
        double square = exact_dot(row, row, exact->dim), norm = sqrt(square);
        if (!is_cos && square > NORM_SQUARE_MAX)
            return error_set(
                err, FATHOM_EINPUT,
                "%s: row %llu has norm %.3g: distances to it overflow 32-bit floats; scale the "
                "vectors down",
                vector_file_path(file), (unsigned long long)(first + i), norm);
        rows->norms[i] = norm;
        rows->norm_max = norm > rows->norm_max ? norm : rows->norm_max;
        for (uint32_t j = 0; is_cos && j < exact->dim; j++)
            rows->unit[i * exact->dim + j] = norm > 0 ? (float)(row[j] / norm) : 0;
    }
    return 0;
}

static int load(const struct exact *exact, struct rows *rows, struct vector_file *file,
                uint64_t first, size_t count, struct row_list *list, struct fathom_error *err)
{
    rows->count = count;
    int rc = vector_file_read_f32(file, first, count, rows->values, err);
    if (!rc)
        rc = vectors_check_finite(FATHOM_F32, rows->values, first, count, exact->dim,
                                  vector_file_path(file), err);
    if (rc)
        return rc;
    if (exact->options.metric == FATHOM_METRIC_COS) {
        if (vectors_find_zero_rows(FATHOM_F32, rows->values, count, exact->dim, rows->zero))
            rc = judge_zero_rows(exact, rows, first, file, list, err);
        if (rc)
            return rc;
    }
    return measure_norms(exact, rows, first, file, err);
}

/* ---- a block against a tile of queries ---- */

static double distance(const struct exact *exact, size_t query, size_t row)
{
    const float *q = exact->group.values + query * exact->dim;
    const float *b = exact->block.values + row * exact->dim;
    switch (exact->options.metric) {
    case FATHOM_METRIC_L2:
        return exact_l2sq(q, b, exact->dim);
    case FATHOM_METRIC_IP:
        return -exact_dot(q, b, exact->dim);
    case FATHOM_METRIC_COS:
        break;
    }
    return 1.0 -
           exact_dot(q, b, exact->dim) / (exact->group.norms[query] * exact->block.norms[row]);
}

/* A row whose single-precision score is above this cannot be nearer than the k-th best so far. */
static float dismissal_limit(const struct exact *exact, size_t query)
{
    const struct nearest *nearest = &exact->nearest[query];
    if (nearest->count < exact->options.k)
        return INFINITY;
    const double u = 0x1p-24, terms = exact->dim + 8.0, g = terms * u / (1 - terms * u);
    double worst = nearest->entries[0].distance, q = exact->group.norms[query],
           b = exact->block.norm_max;
    double underflow = terms * FLT_MIN, limit;
    switch (exact->options.metric) {
    case FATHOM_METRIC_L2:
        limit = worst - q * q + 2 * g * q * b + 4 * u * b * (b + q) + 2 * underflow;
        limit += 1e-12 * (worst + q * q);
        break;
    case FATHOM_METRIC_IP:
        limit = worst + g * q * b + underflow;
        break;
    default:
        limit = worst - 1 + g + underflow;
        break;
    }
    return nextafterf((float)limit, INFINITY);
}

static void offer_rows(struct exact *exact, struct lane *lane, size_t query, const float *dots)
{
    float factor = exact->options.metric == FATHOM_METRIC_L2 ? 2 : 1;
    for (size_t start = 0; start < exact->block.count; start += 256) {
        size_t count = exact->block.count - start < 256 ? exact->block.count - start : 256;
        size_t found = exact_scan(dots + start, exact->offsets + start, factor,
                                  dismissal_limit(exact, query), count, lane->hits);
        for (size_t i = 0; i < found; i++) {
            size_t row = start + lane->hits[i];
            if (exact->block.zero[row])
                continue;
            struct neighbour candidate = {distance(exact, query, row), exact->block_first + row};
            heap_offer(exact->nearest[query].entries, &exact->nearest[query].count,
                       exact->options.k, &candidate, sizeof candidate, is_farther);
            lane->measured++;
        }
    }
}

/* One thread's share of the queries against the block. */
static void run_lane(void *context, unsigned worker)
{
    struct exact *exact = context;
    struct lane *lane = &exact->lanes[worker];
    size_t first = exact->group.count * worker / exact->options.threads;
    size_t end = exact->group.count * (worker + 1) / exact->options.threads;
    for (; first < end; first += QUERY_TILE) {
        size_t tile = end - first < QUERY_TILE ? end - first : QUERY_TILE;
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tile, (int)exact->block.count,
                    (int)exact->dim, 1.0f, exact->group.unit + first * exact->dim, (int)exact->dim,
                    exact->block.unit, (int)exact->dim, 0.0f, lane->dots, (int)exact->block.count);
        for (size_t i = 0; i < tile; i++) {
            if (!exact->group.zero[first + i])
                offer_rows(exact, lane, first + i, lane->dots + i * exact->block.count);
        }
    }
}

/* ---- setting up ---- */

static bool create_rows(struct rows *rows, size_t count, uint32_t dim, bool is_cos)
{
    rows->values = mem_alloc_array(count, dim * sizeof(float));
    rows->unit = is_cos ? mem_alloc_array(count, dim * sizeof(float)) : rows->values;
    rows->norms = mem_alloc_array(count, sizeof *rows->norms);
    rows->zero = mem_alloc(count);
    return rows->values && rows->unit && rows->norms && rows->zero;
}

static void destroy_rows(struct rows *rows)
{
    if (rows->unit != rows->values)
        mem_free(rows->unit);
    mem_free(rows->values);
    mem_free(rows->norms);
    mem_free(rows->zero);
}

static size_t clamp(uint64_t value, uint64_t low, uint64_t high)
{
    return value < low ? low : value > high ? high : value;
}

static int exact_init(struct exact *exact, struct fathom_error *err)
{
    const struct exact_options *options = &exact->options;
    uint64_t base_rows = vector_file_info(exact->base).rows;
    uint64_t query_rows = vector_file_info(exact->queries).rows;
    uint64_t query_bytes =
        (uint64_t)options->k * sizeof(struct neighbour) + exact->dim * 2 * sizeof(float);
    uint64_t memory = options->memory_bytes ? options->memory_bytes : MEMORY_DEFAULT;
    bool is_cos = options->metric == FATHOM_METRIC_COS;
    exact->block_rows = clamp(BLOCK_SCALARS / exact->dim, BLOCK_ROWS_MIN, BLOCK_ROWS_MAX);
    exact->block_rows = clamp(base_rows, 1, exact->block_rows);
    exact->group_rows = clamp(memory / query_bytes, 1, query_rows);
    exact->offsets = mem_alloc_array(exact->block_rows, sizeof(float));
    exact->entries = mem_alloc_array(exact->group_rows, options->k * sizeof(struct neighbour));
    exact->nearest = mem_alloc_array(exact->group_rows, sizeof *exact->nearest);
    exact->lanes = mem_alloc_array(options->threads, sizeof *exact->lanes);
    bool made = create_rows(&exact->block, exact->block_rows, exact->dim, is_cos) &&
                create_rows(&exact->group, exact->group_rows, exact->dim, is_cos) &&
                exact->offsets && exact->entries && exact->nearest && exact->lanes;
    for (unsigned i = 0; made && i < options->threads; i++) {
        struct lane *lane = &exact->lanes[i];
        lane->dots = mem_alloc_array(QUERY_TILE * exact->block_rows, sizeof(float));
        lane->hits = mem_alloc_array(exact->block_rows, sizeof *lane->hits);
        made = lane->dots && lane->hits;
    }
    for (size_t i = 0; made && i < exact->group_rows; i++)
        exact->nearest[i].entries = exact->entries + i * options->k;
    return made ? 0 : error_set(err, -ENOMEM, "no memory for exact ground truth");
}

static void exact_fini(struct exact *exact)
{
    for (unsigned i = 0; exact->lanes && i < exact->options.threads; i++) {
        mem_free(exact->lanes[i].dots);
        mem_free(exact->lanes[i].hits);
    }
    mem_free(exact->lanes);
    mem_free(exact->nearest);
    mem_free(exact->entries);
    mem_free(exact->offsets);
    destroy_rows(&exact->block);
    destroy_rows(&exact->group);
}

static int check_request(const struct exact *exact, struct fathom_error *err)
{
    struct vector_info base = vector_file_info(exact->base),
                       queries = vector_file_info(exact->queries);
    const char *base_path = vector_file_path(exact->base);
    if (base.dim != queries.dim)
        return error_set(err, FATHOM_EDIM, "%s has dimension %u, but %s has %u", base_path,
                         base.dim, vector_file_path(exact->queries), queries.dim);
    if (exact->options.k < 1 || exact->options.k > FATHOM_K_MAX || exact->options.k > base.rows)
        return error_set(err, FATHOM_ELIMIT,
                         "k is %u: it must be at least 1, at most %d and at most the %llu "
                         "rows of %s",
                         exact->options.k, FATHOM_K_MAX, (unsigned long long)base.rows, base_path);
    if (queries.rows > UINT32_MAX)
        return error_set(err, FATHOM_ELIMIT, "%s: %llu queries do not fit in a truth set",
                         vector_file_path(exact->queries), (unsigned long long)queries.rows);
    return 0;
}

/* ---- the loops ---- */

static int run_block(struct exact *exact, uint64_t first, struct row_list *zeros,
                     struct fathom_error *err)
{
    uint64_t left = vector_file_info(exact->base).rows - first;
    exact->block_first = first;
    int rc = load(exact, &exact->block, exact->base, first, clamp(left, 1, exact->block_rows),
                  zeros, err);
    if (rc)
        return rc;
    for (size_t i = 0; i < exact->block.count; i++) {
        double norm = exact->block.norms[i];
        exact->offsets[i] = exact->options.metric == FATHOM_METRIC_L2 ? (float)(norm * norm) : 0;
    }
    rc = env_run_parallel(exact->options.threads, run_lane, exact);
    return rc ? error_set(err, rc, "a thread cannot be started: %s", fathom_strerror(rc)) : 0;
}

/* Streams the base past the queries [first, first + count). The zero rows of the base are listed by
 * the first pass. */
static int run_group(struct exact *exact, uint64_t first, size_t count, struct truth *truth,
                     struct fathom_error *err)
{
    struct exact_report *report = exact->report;
    uint64_t base_rows = vector_file_info(exact->base).rows;
    struct row_list *zeros = report && first == 0 ? &report->zero_base : NULL;
    int rc = load(exact, &exact->group, exact->queries, first, count,
                  report ? &report->zero_queries : NULL, err);
    for (uint64_t row = 0; !rc && row < base_rows; row += exact->block_rows) {
        rc = run_block(exact, row, zeros, err);
        uint64_t done = row + exact->block.count;
        if (!rc && exact->options.progress &&
            !exact->options.progress(exact->options.context, first * base_rows + done * count))
            rc = error_set(err, FATHOM_EINTERRUPTED, "interrupted; nothing was written");
    }
    for (size_t i = 0; !rc && i < count; i++) {
        size_t place = (size_t)(first + i) * truth->k;
        nearest_drain(&exact->nearest[i], truth->ids + place, truth->distances + place);
    }
    return rc;
}

int exact_truth(struct truth **out, struct vector_file *base, struct vector_file *queries,
                const struct exact_options *options, struct exact_report *report,
                struct fathom_error *err)
{
    struct exact exact = {.options = *options, .base = base, .queries = queries, .report = report};
    uint64_t query_rows = vector_file_info(queries).rows;
    *out = NULL;
    exact.dim = vector_file_info(base).dim;
    int rc = check_request(&exact, err);
    if (rc)
        return rc;
    rc = blas_begin(options->threads, err);
    if (!rc)
        rc = exact_init(&exact, err);
    if (!rc)
        rc = truth_create(out, (uint32_t)query_rows, options->k, err);
    for (uint64_t first = 0; !rc && first < query_rows; first += exact.group_rows)
        rc = run_group(&exact, first, clamp(query_rows - first, 1, exact.group_rows), *out, err);
    for (unsigned i = 0; !rc && report && i < options->threads; i++)
        report->measured += exact.lanes[i].measured;
    exact_fini(&exact);
    if (rc) {
        truth_destroy(*out);
        *out = NULL;
    }
    return rc;
}
