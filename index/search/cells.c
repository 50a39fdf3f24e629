/* The cell navigator: ranks all centroids, scans the codes of the nearest cells, keeps the best
 * estimates. Few, independent, parallel reads follow: what the graph needs lists in memory for,
 * this does with codes alone. */
#include <math.h>
#include <string.h>

#include "navigate.h"
#include "query.h"
#include "select.h"

#define CELL_BUCKETS          NAVIGATOR_BUCKETS
#define SAMPLE                SCORE_BATCH /* distances that the limit of the scan is estimated from */
#define CELLS_PER_SEARCH_LIST 4           /* cells scanned for each unit of search list */

/* ---- ranking ---- */

static void rank_cells(struct navigator *n, const struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t dim = index->properties.work_dim, cells = index->properties.cells;
    for (uint32_t first = 0; first < cells; first += SCORE_BATCH) {
        uint32_t count = cells - first < SCORE_BATCH ? cells - first : SCORE_BATCH;
        kernels_get()->score8_rows(n->row_scores, &query->row8.weights,
                                   index->centroids + (size_t)first * dim, dim, count);
        for (uint32_t i = 0; i < count; i++)
            n->cell_distance[first + i] = row8_distance(&query->row8, &n->row_scores[i]);
    }
}

/* The value of a rank (from 0) among the distances of about SAMPLE cells; INFINITY when the rank is
 * beyond them. */
static float sample_rank(struct navigator *n, uint32_t cells, double share)
{
    uint32_t stride = cells / SAMPLE > 1 ? cells / SAMPLE : 1, count = 0;
    float *sample = n->scores;
    for (uint32_t c = 0; c < cells && count < SAMPLE; c += stride)
        sample[count++] = n->cell_distance[c];
    uint32_t rank = (uint32_t)(share * count) + 4;
    if (rank >= count)
        return INFINITY;
    select_floats(sample, count, rank);
    return sample[rank];
}

/* Sorts the count cells of cell_order by distance, up to a bucket's width: all that a scan needs.
 * spare: room for count. */
static void bucket_sort(struct navigator *n, uint32_t count, uint32_t *spare)
{
    float low = INFINITY, high = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        float distance = n->cell_distance[n->cell_order[i]];
        low = distance < low ? distance : low;
        high = distance > high ? distance : high;
    }
    float scale = high > low ? (CELL_BUCKETS - 1) / (high - low) : 0;
    memset(n->bucket, 0, (CELL_BUCKETS + 1) * sizeof *n->bucket);
    for (uint32_t i = 0; i < count; i++)
        n->bucket[1 + (uint32_t)((n->cell_distance[n->cell_order[i]] - low) * scale)]++;
    for (uint32_t b = 0; b < CELL_BUCKETS; b++)
        n->bucket[b + 1] += n->bucket[b];
    for (uint32_t i = 0; i < count; i++)
        spare[n->bucket[(uint32_t)((n->cell_distance[n->cell_order[i]] - low) * scale)]++] =
            n->cell_order[i];
    memcpy(n->cell_order, spare, count * sizeof *spare);
}

/* The wanted nearest cells into cell_order, nearest first. Returns how many. The limit comes from a
 * sample: looking at each distance again would cost more than scanning a few cells too many. */
static uint32_t nearest_cells(struct navigator *n, uint32_t cells, uint32_t wanted)
{
    uint32_t count = 0;
    double share = 1.25 * wanted / cells;
    for (float limit = -INFINITY; count < wanted && limit < INFINITY; share *= 2) {
        limit = wanted == cells ? INFINITY : sample_rank(n, cells, share);
        count = (uint32_t)kernels_get()->below_f32(n->cell_order, n->cell_distance, cells, limit);
    }
    bucket_sort(n, count, n->cell_spare);
    return count < wanted ? count : wanted;
}

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

static void scan_codes(struct navigator *n, const struct query *query, uint32_t first,
                       uint32_t count, float base)
{
    const struct fathom_index *index = query->index;
    kernels_get()->codes_rows(n->scores, &index->codes_plan, &n->planes.weights,
                              index->codes + (size_t)first * index->level.code_bytes, count);
    planes_estimate_cell(
        n->estimates, &index->level, &n->planes, base, n->scores,
        (const uint8_t *)index->factors + (size_t)first * index->level.factor_bytes, count);
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

/* The first lines: the processor fetches on by itself once it sees the run. */
static void prefetch_cell(const struct fathom_index *index, uint32_t cell)
{
    size_t first = index->cell_first[cell];
    const uint8_t *at = index->codes ? index->codes + first * index->level.code_bytes
                                     : index->rows8 + first * index->records->row_bytes;
    __builtin_prefetch(at);
    __builtin_prefetch(at + 64);
    if (index->codes)
        __builtin_prefetch((const uint8_t *)index->factors + first * index->level.factor_bytes);
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
    uint64_t wanted = (uint64_t)query->search_list * CELLS_PER_SEARCH_LIST;
    query->stats.navigator = FATHOM_NAVIGATOR_CELLS;
    rank_cells(n, query);
    uint32_t order = nearest_cells(n, cells, wanted < cells ? (uint32_t)wanted : cells);
    struct scan scan = {.estimates = n->kept_estimates,
                        .rows = n->kept_rows,
                        .keep = query->candidate_limit / 2,
                        .threshold = INFINITY,
                        .excluded = query->excluded};
    for (uint32_t i = 0; i < order; i++) {
        if (i + 1 < order)
            prefetch_cell(index, n->cell_order[i + 1]);
        scan_cell(n, query, &scan, n->cell_order[i]);
    }
    keep_candidates(n, query, &scan);
    query->stats.stop_reason = order == cells ? "exhausted" : "limit";
}
