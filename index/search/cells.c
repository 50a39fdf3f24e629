/* The cell navigator: ranks all centroids, scans the codes of the nearest cells, keeps the best
 * estimates. Few, independent, parallel reads follow: what the graph needs lists in memory for,
 * this does with codes alone. */
#include <math.h>
#include <string.h>

#include "navigate.h"
#include "query.h"
#include "select.h"

/* ---- candidates: appended below a threshold, halved when full ---- */

struct scan {
    float *estimates;
    uint32_t *rows;
    uint32_t count, keep; /* room for 2 * keep */
    uint32_t excluded;
    float threshold;
};

/* Keeps the best, and lets in only what is better than the worst of them. */
static void scan_shrink(struct scan *scan)
{
    if (scan->count <= scan->keep)
        return;
    struct cut cut = select_cut(scan->estimates, scan->count, scan->keep);
    uint32_t kept = 0, equal = 0;
    for (uint32_t i = 0; i < scan->count; i++) {
        float estimate = scan->estimates[i];
        bool wanted = estimate < cut.limit || (estimate == cut.limit && equal < cut.equal);
        equal += estimate == cut.limit;
        scan->estimates[kept] = estimate;
        scan->rows[kept] = scan->rows[i];
        kept += wanted;
    }
    scan->count = kept;
    scan->threshold = cut.limit;
}

static void append(struct scan *scan, float estimate, uint32_t row)
{
    if (row == scan->excluded || !(estimate < scan->threshold))
        return;
    scan->estimates[scan->count] = estimate;
    scan->rows[scan->count++] = row;
    if (scan->count == 2 * scan->keep)
        scan_shrink(scan);
}

/* Nearly all rows are beyond the threshold. */
static void append_rows(struct navigator *n, struct scan *scan, uint32_t first, uint32_t count)
{
    size_t below = kernels_get()->below_f32(n->ids, n->estimates, count, scan->threshold);
    for (size_t i = 0; i < below; i++)
        append(scan, n->estimates[n->ids[i]], first + n->ids[i]);
}

/* A first look at the codes of a cell's rows. */
static void scan_codes(struct navigator *n, const struct query *query, uint32_t first,
                       uint32_t count, float base)
{
    const struct coarse_codes *coarse = &query->index->coarse;
    uint32_t columns = coarse->level.code_bytes, block = first / KERNEL_LANES,
             end = (first + count + KERNEL_LANES - 1) / KERNEL_LANES;
    kernels_get()->sliced_sums(n->scores, n->tables,
                               coarse->blocks + (size_t)block * columns * KERNEL_LANES, columns,
                               end - block);
    planes_estimate_cell(
        n->estimates, &coarse->level, &n->coarse, base, n->scores + first % KERNEL_LANES,
        (const uint8_t *)coarse->factors + (size_t)first * coarse->level.factor_bytes, count);
}

/* The 8-bit rows are resident but lists are not: exact distances of the cell's rows. */
static void scan_rows8(struct navigator *n, const struct query *query, uint32_t first,
                       uint32_t count)
{
    const struct fathom_index *index = query->index;
    size_t bytes = index->records->row_bytes;
    const uint8_t *rows = index->rows8 + first * bytes;
    kernels_get()->score8_rows(n->row_scores, &query->row8.weights, rows, bytes, count);
    for (uint32_t i = 0; i < count; i++)
        n->estimates[i] = record_distance(&query->row8, index, &n->row_scores[i], rows + i * bytes);
}

#define PREFETCH_MOST 2048 /* bytes of a cell: the processor fetches on by itself */
#define CELLS_AHEAD   2

static void prefetch_bytes(const uint8_t *from, const uint8_t *to)
{
    if (to - from > PREFETCH_MOST)
        to = from + PREFETCH_MOST;
    for (; from < to; from += 64)
        __builtin_prefetch(from);
}

/* What a scan reads first of a cell, while the one before is scanned. */
static void prefetch_cell(const struct fathom_index *index, uint32_t cell)
{
    size_t first = index->cell_first[cell], end = index->cell_first[cell + 1];
    const struct coarse_codes *coarse = &index->coarse;
    if (index->rows8) {
        size_t bytes = index->records->row_bytes;
        prefetch_bytes(index->rows8 + first * bytes, index->rows8 + end * bytes);
        return;
    }
    const uint8_t *factors = coarse->factors;
    uint32_t columns = coarse->level.code_bytes, factor_bytes = coarse->level.factor_bytes;
    first = first / KERNEL_LANES * KERNEL_LANES;
    prefetch_bytes(coarse->blocks + first * columns, coarse->blocks + end * columns);
    prefetch_bytes(factors + first * factor_bytes, factors + end * factor_bytes);
}

static void scan_cell(struct navigator *n, struct query *query, struct scan *scan, uint32_t cell)
{
    const struct fathom_index *index = query->index;
    uint32_t first = index->cell_first[cell], end = index->cell_first[cell + 1];
    for (; first < end; first += SCORE_BATCH) {
        uint32_t count = end - first < SCORE_BATCH ? end - first : SCORE_BATCH;
        if (index->rows8)
            scan_rows8(n, query, first, count);
        else
            scan_codes(n, query, first, count, n->cell_distance[cell]);
        append_rows(n, scan, first, count);
        query->stats.code_distances += count;
    }
    query->stats.hops++;
}

/* ---- whole codes ---- */

static void prefetch_codes(const struct fathom_index *index, const uint32_t *rows, uint32_t count)
{
    const struct coarse_codes *coarse = &index->coarse;
    for (uint32_t i = 0; i < count; i++) {
        size_t start =
            (size_t)rows[i] * coarse->rest_bytes; /* of nothing when no code has a rest */
        for (uint32_t at = 0; at < coarse->rest_bytes; at += 64)
            __builtin_prefetch(coarse->rest + start + at);
        __builtin_prefetch((const uint8_t *)index->factors +
                           (size_t)rows[i] * index->level.factor_bytes);
    }
}

static uint32_t batch_at(uint32_t at, uint32_t count)
{
    return at < count ? count - at < JOINED_CODES ? count - at : JOINED_CODES : 0;
}

/* Estimates from whole codes take the place of those of the first look; then the best are kept. */
static void score_codes(struct navigator *n, const struct query *query, struct scan *scan)
{
    const struct fathom_index *index = query->index;
    prefetch_codes(index, scan->rows, batch_at(0, scan->count));
    for (uint32_t at = 0, next; at < scan->count; at = next) {
        uint32_t some = batch_at(at, scan->count);
        const uint32_t *rows = scan->rows + at;
        next = at + some;
        prefetch_codes(index, scan->rows + next, batch_at(next, scan->count));
        codes_join(index, rows, some, n->joined);
        kernels_get()->codes_rows(n->scores, &index->codes_plan, &n->planes.weights, n->joined,
                                  some);
        for (uint32_t i = 0; i < some; i++) {
            struct planes_factors factors = planes_unpack_factors(
                &index->level, planes_factors_at(&index->level, index->factors, rows[i]));
            float base = n->cell_distance[index_cell_of(index, rows[i])];
            float product = n->planes.factor * n->scores[i] + n->planes.bias;
            scan->estimates[at + i] = base + factors.offset - 2 * factors.scale * product;
        }
    }
    scan->keep = query->candidate_limit / 2;
}

static float candidate_sigma(const struct navigator *n, const struct fathom_index *index,
                             uint32_t row, float estimate)
{
    if (index->rows8)
        return navigate_row_sigma(index, row, estimate);
    float base = n->cell_distance[index_cell_of(index, row)];
    struct planes_factors factors =
        planes_unpack_factors(&index->level, planes_factors_at(&index->level, index->factors, row));
    return index->level.kappa * factors.scale * sqrtf(base > 0 ? base : 0);
}

static void keep_candidates(const struct navigator *n, struct query *query, struct scan *scan)
{
    scan_shrink(scan);
    for (uint32_t i = 0; i < scan->count; i++)
        query->candidates[i] = (struct candidate){
            .estimate = scan->estimates[i],
            .sigma = candidate_sigma(n, query->index, scan->rows[i], scan->estimates[i]),
            .row = scan->rows[i]};
    query->candidate_count = scan->count;
}

void cells_navigate(struct navigator *n, struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t cells = index->properties.cells;
    query->stats.navigator = FATHOM_NAVIGATOR_CELLS;
    uint32_t order = rank_for_list(n, query, scan_cells_of);
    struct scan scan = {.estimates = n->kept_estimates,
                        .rows = n->kept_rows,
                        .keep = (index->rows8 ? 1 : LOOKED_AT) * query->candidate_limit / 2,
                        .threshold = INFINITY,
                        .excluded = query->excluded};
    for (uint32_t i = 0; i < CELLS_AHEAD && i < order; i++)
        prefetch_cell(index, n->cell_order[i]);
    for (uint32_t i = 0; i < order; i++) {
        if (i + CELLS_AHEAD < order)
            prefetch_cell(index, n->cell_order[i + CELLS_AHEAD]);
        scan_cell(n, query, &scan, n->cell_order[i]);
    }
    scan_shrink(&scan);
    if (!index->rows8)
        score_codes(n, query, &scan);
    keep_candidates(n, query, &scan);
    query->stats.stop_reason = order == cells ? "exhausted" : "limit";
}
