/* The cell navigator: ranks all centroids, scans the codes of the nearest cells, keeps the best estimates. Few, independent,
 * parallel reads follow: what the graph needs lists in memory for, this does with codes alone. */
#include <math.h>
#include <string.h>

#include "navigate.h"
#include "query.h"
#include "select.h"

#define CELL_BUCKETS 2048
#define CELLS_PER_SEARCH_LIST 4 /* cells scanned for each unit of search list */

/* ---- ranking ---- */

static void rank_cells(struct navigator *n, const struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t dim = index->properties.work_dim, cells = index->properties.cells;
    for (uint32_t first = 0; first < cells; first += SCORE_BATCH) {
        uint32_t count = cells - first < SCORE_BATCH ? cells - first : SCORE_BATCH;
        kernels_get()->score8_rows(n->row_scores, &query->row8.weights, index->centroids + (size_t)first * dim, dim,
                                   count);
        for (uint32_t i = 0; i < count; i++)
            n->cell_distance[first + i] = row8_distance(&query->row8, &n->row_scores[i]);
    }
}

/* The wanted nearest cells into cell_order, nearest first up to a bucket's width: a counting sort by distance, which is all
 * that a scan needs. Returns how many. */
static uint32_t nearest_cells(struct navigator *n, uint32_t cells, uint32_t wanted)
{
    float low = INFINITY;
    double sum = 0;
    for (uint32_t c = 0; c < cells; c++) {
        low = fminf(low, n->cell_distance[c]);
        sum += n->cell_distance[c];
    }
    float span = (float)(sum / cells) - low;
    float scale = span > 0 ? (wanted < cells / 2 ? 1.0f : 0.25f) * CELL_BUCKETS / span : 0;
    memset(n->bucket, 0, (CELL_BUCKETS + 1) * sizeof *n->bucket);
    for (uint32_t c = 0; c < cells; c++) {
        float place = (n->cell_distance[c] - low) * scale;
        n->bucket[place < CELL_BUCKETS - 1 ? (uint32_t)place : CELL_BUCKETS - 1]++;
    }
    uint32_t last = 0, total = 0;
    for (; last < CELL_BUCKETS && total < wanted; last++) {
        uint32_t count = n->bucket[last];
        n->bucket[last] = total;
        total += count;
    }
    for (uint32_t c = 0; c < cells; c++) {
        float place = (n->cell_distance[c] - low) * scale;
        uint32_t b = place < CELL_BUCKETS - 1 ? (uint32_t)place : CELL_BUCKETS - 1;
        if (b < last)
            n->cell_order[n->bucket[b]++] = c;
    }
    return total < wanted ? total : wanted;
}

/* ---- candidates: appended below a threshold, halved when full ---- */

struct scan {
    struct candidate *candidates;
    uint32_t count, keep; /* room for 2 * keep */
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
        scan->threshold = fmaxf(scan->threshold, scan->candidates[i].estimate);
}

static void scan_rows(struct navigator *n, struct query *query, struct scan *scan, uint32_t first, uint32_t count,
                      float base)
{
    const struct fathom_index *index = query->index;
    const uint32_t *factors = index->factors + first;
    float root = index->level.kappa * sqrtf(fmaxf(base, 0));
    kernels_get()->codes_rows(n->scores, &index->codes_plan, &n->planes.weights,
                              index->codes + (size_t)first * index->level.code_bytes, count);
    planes_estimate_cell(n->estimates, &index->level, &n->planes, base, n->scores, factors, count);
    for (uint32_t i = 0; i < count; i++) {
        if (n->estimates[i] >= scan->threshold)
            continue;
        struct planes_factors unpacked = planes_unpack_factors(&index->level, factors[i]);
        scan->candidates[scan->count++] = (struct candidate){
            .estimate = n->estimates[i], .sigma = root * unpacked.scale, .row = first + i};
        if (scan->count == 2 * scan->keep)
            scan_shrink(scan);
    }
}

/* The 8-bit rows are resident but lists are not: exact distances of the cell's rows. */
static void scan_rows8(struct navigator *n, struct query *query, struct scan *scan, uint32_t first, uint32_t count)
{
    const struct fathom_index *index = query->index;
    size_t bytes = index->records->row_bytes;
    const uint8_t *rows = index->rows8 + first * bytes;
    kernels_get()->score8_rows(n->row_scores, &query->row8.weights, rows, bytes, count);
    for (uint32_t i = 0; i < count; i++) {
        float estimate = record_distance(&query->row8, index, &n->row_scores[i], rows + i * bytes);
        if (estimate >= scan->threshold)
            continue;
        scan->candidates[scan->count++] = (struct candidate){
            .estimate = estimate, .sigma = navigate_row_sigma(index, first + i, estimate), .row = first + i};
        if (scan->count == 2 * scan->keep)
            scan_shrink(scan);
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
    struct scan scan = {.candidates = query->candidates, .keep = query->capacity.candidates / 2, .threshold = INFINITY};
    for (uint32_t i = 0; i < order; i++) {
        uint32_t cell = n->cell_order[i], first = index->cell_first[cell], end = index->cell_first[cell + 1];
        if (i + 1 < order)
            __builtin_prefetch(index->codes ? index->codes + (size_t)index->cell_first[n->cell_order[i + 1]] *
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
