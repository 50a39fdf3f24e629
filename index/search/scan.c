/* The cell navigator where the codes lie on SSD: centroids say which cells to scan, and the pages
 * of section scan that hold their rows bring codes with factors, all of them asked for at once.
 * Some of the pages may be in memory. What is found depends neither on which those are, nor on the
 * order in which the others come: candidates are kept by (estimate, row), a total order. Each query
 * keeps what a page needs to be scored, since the engine's navigator serves others meanwhile. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "navigate.h"
#include "query.h"
#include "runs.h"

#define CLUMP_PAGES 32 /* of those in memory, or of the others */

/* ---- pages in memory ---- */

uint64_t scan_part_bytes(const struct plan *plan)
{
    return plan->scan_pages ? size_round_up(plan->scan_pages * PAGE_PAYLOAD, MEM_ALIGN) : 0;
}

/* Of marked pages, at most half of all, that lie in clumps spread evenly over the section, each at
 * the beginning of its share: those before a page, and whether that is one of them. */
static bool clumped(uint64_t marked, uint64_t pages, uint64_t page, uint64_t *before)
{
    uint64_t clumps = (marked + CLUMP_PAGES - 1) / CLUMP_PAGES;
    *before = 0;
    if (clumps == 0)
        return false;
    uint64_t clump = ((page + 1) * clumps - 1) / pages; /* the last that begins here or before */
    uint64_t first = clump * marked / clumps, last = (clump + 1) * marked / clumps,
             offset = page - clump * pages / clumps;
    *before = offset < last - first ? first + offset : last;
    return offset < last - first;
}

/* Whether a page is resident, and how many are before it. They lie in clumps, or the others do, so
 * that those that must be read have neighbours that must be read too (runs.h). */
static bool is_resident(const struct scan_store *scan, uint64_t page, uint64_t *before)
{
    uint64_t pages = scan->section->page_count;
    if (scan->resident <= pages / 2)
        return clumped(scan->resident, pages, page, before);
    uint64_t away_before;
    bool away = clumped(pages - scan->resident, pages, page, &away_before);
    *before = page - away_before;
    return !away;
}

static const uint8_t *resident_payload(const struct scan_store *scan, uint64_t page)
{
    uint64_t place;
    return is_resident(scan, page, &place) ? scan->payloads + place * PAGE_PAYLOAD : NULL;
}

struct page_copy {
    const struct scan_store *scan;
    uint8_t *payloads;
    uint64_t page; /* the next */
};

static int copy_resident(void *context, const uint8_t *payload, size_t bytes,
                         struct fathom_error *err)
{
    struct page_copy *copy = context;
    (void)err;
    for (size_t at = 0; at < bytes; at += PAGE_PAYLOAD, copy->page++) {
        uint64_t place;
        if (is_resident(copy->scan, copy->page, &place))
            memcpy(copy->payloads + place * PAGE_PAYLOAD, payload + at, PAGE_PAYLOAD);
    }
    return 0;
}

int scan_load(struct fathom_index *index, struct fathom_error *err)
{
    struct page_copy copy = {.scan = &index->scan};
    index->scan.resident = index->plan.scan_pages;
    if (index->scan.resident == 0)
        return 0;
    copy.payloads = residency_take(index, PART_CODES, index->scan.resident * PAGE_PAYLOAD, err);
    index->scan.payloads = copy.payloads;
    return copy.payloads
               ? index_file_stream(&index->file, index->scan.section, copy_resident, &copy, err)
               : -ENOMEM;
}

/* ---- pages of a query ---- */

static uint32_t cell_end(const struct fathom_index *index, uint32_t cell)
{
    return index->cell_first[cell + 1];
}

/* The next page that holds a row of the query's cells, in the order of the file. */
static bool step(const struct query *query, struct scan_cursor *cursor, uint64_t *page)
{
    const struct fathom_index *index = query->index;
    uint32_t per_page = index->scan.section->rows_per_page;
    for (; cursor->cell < query->scan_cell_count; cursor->cell++) {
        uint32_t cell = query->scan_cells[cursor->cell].cell, first = index->cell_first[cell];
        if (first == cell_end(index, cell))
            continue;
        uint64_t begin = first / per_page, end = (cell_end(index, cell) - 1) / per_page;
        *page = begin > cursor->page ? begin : cursor->page;
        if (*page > end)
            continue;
        cursor->page = *page + 1;
        return true;
    }
    return false;
}

/* The same for pages that are not in memory. */
static bool step_away(const struct query *query, struct scan_cursor *cursor, uint64_t *page)
{
    while (step(query, cursor, page))
        if (!resident_payload(&query->index->scan, *page))
            return true;
    return false;
}

uint32_t scan_wants(const struct query *query, uint64_t *page)
{
    struct scan_cursor cursor = query->scan_cursor;
    uint64_t next;
    if (!step_away(query, &cursor, page))
        return 0;
    uint64_t end = *page + 1;
    while (step_away(query, &cursor, &next) && run_takes(query_runs(query), *page, end, next, 1))
        end = next + 1;
    return (uint32_t)(end - *page);
}

void scan_issued(struct query *query, uint32_t pages)
{
    uint64_t page;
    if (step_away(query, &query->scan_cursor, &page))
        query->scan_cursor.page = page + pages;
}

/* ---- candidates: a heap of the best, the worst of them on top ---- */

static bool is_after(const struct candidate *a, const struct candidate *b)
{
    return a->estimate != b->estimate ? a->estimate > b->estimate : a->row > b->row;
}

static int compare_candidates(const void *a, const void *b)
{
    return is_after(a, b) ? 1 : -1;
}

static void sift_down(struct candidate *heap, uint32_t count, struct candidate moved)
{
    uint32_t at = 0;
    for (uint32_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && is_after(&heap[child + 1], &heap[child]))
            child++;
        if (!is_after(&heap[child], &moved))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void sift_up(struct candidate *heap, uint32_t at, struct candidate moved)
{
    for (; at > 0 && is_after(&moved, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = moved;
}

static void keep(struct query *query, struct candidate candidate)
{
    struct candidate *heap = query->candidates;
    uint32_t most = query->candidate_limit;
    if (query->candidate_count < most)
        sift_up(heap, query->candidate_count++, candidate);
    else if (is_after(&heap[0], &candidate))
        sift_down(heap, most, candidate);
    if (query->candidate_count == most)
        query->scan_threshold = heap[0].estimate;
}

/* ---- scoring ---- */

/* count (<= SCORE_BATCH) rows of one cell, from place `at` of a page on. An estimate as good as the
 * worst that is kept may still be better by its row. */
static void score_rows(struct navigator *n, struct query *query, const struct scan_cell *cell,
                       const uint8_t *payload, uint32_t at, uint32_t first, uint32_t count)
{
    const struct fathom_index *index = query->index;
    const struct planes_level *level = &index->level;
    const uint8_t *factors = payload +
                             format_second_parts(index->scan.section, level->factor_bytes) +
                             (size_t)at * level->factor_bytes;
    float spread = level->kappa * sqrtf(fmaxf(cell->distance, 0));
    kernels_get()->codes_rows(n->scores, &index->codes_plan, &query->scan_planes.weights,
                              payload + (size_t)at * level->code_bytes, count);
    planes_estimate_cell(n->estimates, level, &query->scan_planes, cell->distance, n->scores,
                         factors, count);
    size_t near = kernels_get()->below_f32(n->ids, n->estimates, count,
                                           nextafterf(query->scan_threshold, INFINITY));
    for (size_t i = 0; i < near; i++) {
        uint32_t row = first + n->ids[i];
        float scale =
            planes_unpack_factors(level, planes_factors_at(level, factors, n->ids[i])).scale;
        if (row != query->excluded)
            keep(query, (struct candidate){.estimate = n->estimates[n->ids[i]],
                                           .sigma = spread * scale,
                                           .row = row});
    }
    query->stats.code_distances += count;
}

/* The first of the query's cells that ends behind a row. */
static uint32_t find_cell(const struct query *query, uint32_t row)
{
    uint32_t low = 0, high = query->scan_cell_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (cell_end(query->index, query->scan_cells[middle].cell) <= row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool scan_needs(const struct query *query, uint64_t page)
{
    const struct fathom_index *index = query->index;
    uint64_t begin = page * index->scan.section->rows_per_page,
             end = begin + index->scan.section->rows_per_page;
    if (resident_payload(&index->scan, page))
        return false;
    uint32_t c = find_cell(query, (uint32_t)begin);
    return c < query->scan_cell_count && index->cell_first[query->scan_cells[c].cell] < end;
}

void scan_page(struct navigator *n, struct query *query, uint64_t page, const uint8_t *payload)
{
    const struct fathom_index *index = query->index;
    const struct section *section = index->scan.section;
    uint64_t begin = page * section->rows_per_page, end = begin + section->rows_per_page;
    for (uint32_t c = find_cell(query, (uint32_t)begin); c < query->scan_cell_count; c++) {
        const struct scan_cell *cell = &query->scan_cells[c];
        uint64_t first = index->cell_first[cell->cell], last = cell_end(index, cell->cell);
        if (first >= end)
            break;
        first = first > begin ? first : begin;
        last = last < end ? last : end;
        for (; first < last; first += SCORE_BATCH) {
            uint32_t count = last - first < SCORE_BATCH ? (uint32_t)(last - first) : SCORE_BATCH;
            score_rows(n, query, cell, payload, (uint32_t)(first - begin), (uint32_t)first, count);
        }
    }
}

/* ---- a query ---- */

static int compare_cells(const void *a, const void *b)
{
    const struct scan_cell *x = a, *y = b;
    return (x->cell > y->cell) - (x->cell < y->cell);
}

/* Its own copy of what the navigator has prepared. */
static void keep_planes(const struct navigator *n, struct query *query)
{
    uint32_t bytes = n->planes.weights.dim;
    memcpy(query->scan_hi, n->planes.weights.hi, bytes);
    memcpy(query->scan_lo, n->planes.weights.lo, bytes);
    query->scan_planes = n->planes;
    query->scan_planes.weights.hi = query->scan_hi;
    query->scan_planes.weights.lo = query->scan_lo;
}

void scan_start(struct navigator *n, struct query *query)
{
    uint32_t cells = query->index->properties.cells,
             wanted = scan_cells_of(query->search_list, cells);
    uint64_t page;
    query->scan_cell_count = rank_nearest(n, query, wanted);
    for (uint32_t i = 0; i < query->scan_cell_count; i++)
        query->scan_cells[i] = (struct scan_cell){.cell = n->cell_order[i],
                                                  .distance = n->cell_distance[n->cell_order[i]]};
    qsort(query->scan_cells, query->scan_cell_count, sizeof *query->scan_cells, compare_cells);
    keep_planes(n, query);
    query->scan_threshold = INFINITY;
    query->scan_cursor = (struct scan_cursor){0};
    query->stats.navigator = FATHOM_NAVIGATOR_CELLS;
    query->stats.hops = query->scan_cell_count;
    query->stats.stop_reason = query->scan_cell_count == cells ? "exhausted" : "limit";
    for (struct scan_cursor cursor = {0}; step(query, &cursor, &page);) {
        const uint8_t *payload = resident_payload(&query->index->scan, page);
        if (payload)
            scan_page(n, query, page, payload);
    }
}

bool scan_over(struct query *query)
{
    uint64_t page;
    if (query->navigation_reads_out || scan_wants(query, &page))
        return false;
    qsort(query->candidates, query->candidate_count, sizeof *query->candidates, compare_candidates);
    return true;
}
