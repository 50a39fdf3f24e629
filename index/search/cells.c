/* The cell navigator: ranks all centroids, scans the codes of the nearest cells, keeps the best
 * estimates. Few, independent, parallel reads follow: what the graph needs lists in memory for,
 * this does with codes alone. */
#include <emmintrin.h>
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

/* Cells below a limit into cell_order, in any order. */
static uint32_t cells_below(struct navigator *n, uint32_t cells, float limit)
{
    uint32_t count = 0;
    for (uint32_t c = cells; c % 4; c++)
        n->cell_distance[c] = INFINITY; /* four at a time; the array has room */
    for (uint32_t c = 0; c < cells; c += 4) {
        __m128 four = _mm_loadu_ps(n->cell_distance + c);
        for (int below = _mm_movemask_ps(_mm_cmplt_ps(four, _mm_set1_ps(limit))); below;
             below &= below - 1)
            n->cell_order[count++] = c + (uint32_t)__builtin_ctz((unsigned)below);
    }
    return count;
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
        count = cells_below(n, cells, limit);
    }
    bucket_sort(n, count, n->cell_spare);
    return count < wanted ? count : wanted;
}

/* ---- candidates: appended below a threshold, halved when full ---- */

struct scan {
    struct candidate *candidates;
    uint32_t count, keep; /* room for 2 * keep */
    uint32_t excluded;
    float threshold;
};

static void scan_shrink(struct scan *scan)
{
    if (scan->count <= scan->keep)
        return;
    select_best(scan->candidates, scan->count, scan->keep);
    scan->count = scan->keep;
    scan->threshold = -INFINITY;
    for (uint32_t i = 0; i < scan->keep; i++)
        if (scan->candidates[i].estimate > scan->threshold)
            scan->threshold = scan->candidates[i].estimate;
}

static void append(struct scan *scan, float estimate, float sigma, uint32_t row)
{
    if (row == scan->excluded)
        return;
    scan->candidates[scan->count++] =
        (struct candidate){.estimate = estimate, .sigma = sigma, .row = row};
    if (scan->count == 2 * scan->keep)
        scan_shrink(scan);
}

static void scan_rows(struct navigator *n, struct query *query, struct scan *scan, uint32_t first,
                      uint32_t count, float base)
{
    const struct fathom_index *index = query->index;
    const uint32_t *factors = index->factors + first;
    float root = index->level.kappa * sqrtf(base > 0 ? base : 0);
    kernels_get()->codes_rows(n->scores, &index->codes_plan, &n->planes.weights,
                              index->codes + (size_t)first * index->level.code_bytes, count);
    planes_estimate_cell(n->estimates, &index->level, &n->planes, base, n->scores, factors, count);
    n->estimates[count] = n->estimates[count + 1] = n->estimates[count + 2] = INFINITY;
    for (uint32_t i = 0; i < count; i += 4) {
        /* Nearly all rows are beyond the threshold: four at a time. */
        __m128 four = _mm_loadu_ps(n->estimates + i);
        for (int below = _mm_movemask_ps(_mm_cmplt_ps(four, _mm_set1_ps(scan->threshold))); below;
             below &= below - 1) {
            uint32_t at = i + (uint32_t)__builtin_ctz((unsigned)below);
            append(scan, n->estimates[at],
                   root * planes_unpack_factors(&index->level, factors[at]).scale, first + at);
        }
    }
}

/* The 8-bit rows are resident but lists are not: exact distances of the cell's rows. */
static void scan_rows8(struct navigator *n, struct query *query, struct scan *scan, uint32_t first,
                       uint32_t count)
{
    const struct fathom_index *index = query->index;
    size_t bytes = index->records->row_bytes;
    const uint8_t *rows = index->rows8 + first * bytes;
    kernels_get()->score8_rows(n->row_scores, &query->row8.weights, rows, bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        float estimate = record_distance(&query->row8, index, &n->row_scores[i], rows + i * bytes);
        if (estimate >= scan->threshold)
            continue;
        append(scan, estimate, navigate_row_sigma(index, first + i, estimate), first + i);
    }
}

void cells_navigate(struct navigator *n, struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t cells = index->properties.cells;
    uint64_t wanted = (uint64_t)query->search_list * CELLS_PER_SEARCH_LIST;
    query->stats.navigator = FATHOM_NAVIGATOR_CELLS;
    query->stats.stop_reason = "limit";
    rank_cells(n, query);
    uint32_t order = nearest_cells(n, cells, wanted < cells ? (uint32_t)wanted : cells);
    struct scan scan = {.candidates = query->candidates,
                        .keep = query->capacity.candidates / 2,
                        .threshold = INFINITY,
                        .excluded = query->excluded};
    for (uint32_t i = 0; i < order; i++) {
        uint32_t cell = n->cell_order[i], first = index->cell_first[cell],
                 end = index->cell_first[cell + 1];
        if (i + 1 < order)
            __builtin_prefetch(index->codes ? index->codes +
                                                  (size_t)index->cell_first[n->cell_order[i + 1]] *
                                                      index->level.code_bytes
                                            : index->rows8);
        for (; first < end; first += SCORE_BATCH) {
            uint32_t count = end - first < SCORE_BATCH ? end - first : SCORE_BATCH;
            if (index->rows8)
                scan_rows8(n, query, &scan, first, count);
            else
                scan_rows(n, query, &scan, first, count, n->cell_distance[cell]);
            query->stats.code_distances += count;
        }
        query->stats.hops++;
    }
    scan_shrink(&scan);
    query->candidate_count = scan.count;
    if (order == cells)
        query->stats.stop_reason = "exhausted";
}
