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
#include "le.h"
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
 * the beginning of its share: those before a page. */
static uint64_t clumped_before(uint64_t marked, uint64_t pages, uint64_t page)
{
    uint64_t clumps = (marked + CLUMP_PAGES - 1) / CLUMP_PAGES;
    if (clumps == 0)
        return 0;
    uint64_t clump = ((page + 1) * clumps - 1) / pages; /* the last that begins here or before */
    uint64_t first = clump * marked / clumps, last = (clump + 1) * marked / clumps,
             offset = page - clump * pages / clumps;
    return offset < last - first ? first + offset : last;
}

/* Resident pages before this one. They lie in clumps, or the others do, so that those that must be
 * read have neighbours that must be read too (runs.h). */
static uint64_t resident_before(const struct scan_store *scan, uint64_t page)
{
    uint64_t pages = scan->section->page_count;
    if (scan->resident <= pages / 2)
        return clumped_before(scan->resident, pages, page);
    return page - clumped_before(pages - scan->resident, pages, page);
}

static const uint8_t *resident_payload(const struct scan_store *scan, uint64_t page)
{
    uint64_t place = resident_before(scan, page);
    return resident_before(scan, page + 1) > place ? scan->payloads + place * PAGE_PAYLOAD : NULL;
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
        uint64_t place = resident_before(copy->scan, copy->page);
        if (resident_before(copy->scan, copy->page + 1) > place)
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
    while (step_away(query, &cursor, &next) && run_takes(*page, end, next, 1))
        end = next + 1;
    return (uint32_t)(end - *page);
}

void scan_issued(struct query *query, uint32_t pages)
{
    uint64_t page;
    if (step_away(query, &query->scan_cursor, &page))
        query->scan_cursor.page = page + pages;
}

/* ---- candidates ---- */

static int compare_candidates(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->estimate != y->estimate)
        return x->estimate < y->estimate ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

static void keep_best(struct query *query)
{
    uint32_t keep = query->candidate_limit / 2;
    qsort(query->candidates, query->candidate_count, sizeof *query->candidates, compare_candidates);
    if (query->candidate_count <= keep)
        return;
    query->candidate_count = keep;
    query->scan_threshold = query->candidates[keep - 1].estimate;
}

/* As good as the worst that is kept may still be better by its row. */
static void offer(struct query *query, uint32_t row, float estimate, float sigma)
{
    if (row == query->excluded || !(estimate <= query->scan_threshold))
        return;
    query->candidates[query->candidate_count++] =
        (struct candidate){.estimate = estimate, .sigma = sigma, .row = row};
    if (query->candidate_count == query->candidate_limit)
        keep_best(query);
}

/* ---- scoring ---- */

/* count (<= JOINED_CODES) rows of one cell. */
static void score_rows(struct navigator *n, struct query *query, const struct scan_cell *cell,
                       const uint8_t *rows, uint32_t first, uint32_t count)
{
    const struct fathom_index *index = query->index;
    const struct planes_level *level = &index->level;
    uint32_t row_bytes = index->scan.section->row_bytes;
    float spread = level->kappa * sqrtf(fmaxf(cell->distance, 0));
    planes_repack(&index->model.planes, level, rows, row_bytes, n->joined, count);
    kernels_get()->codes_rows(n->scores, &index->codes_plan, &query->scan_planes.weights, n->joined,
                              count);
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *packed = rows + (size_t)i * row_bytes + level->code_bytes;
        struct planes_factors factors = planes_unpack_factors(
            level, level->factor_bytes == 2 ? le_load16(packed) : le_load32(packed));
        float product = query->scan_planes.factor * n->scores[i] + query->scan_planes.bias;
        offer(query, first + i, cell->distance + factors.offset - 2 * factors.scale * product,
              spread * factors.scale);
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
        for (; first < last; first += JOINED_CODES) {
            uint32_t count = last - first < JOINED_CODES ? (uint32_t)(last - first) : JOINED_CODES;
            score_rows(n, query, cell, payload + (first - begin) * section->row_bytes,
                       (uint32_t)first, count);
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
    keep_best(query);
    return true;
}
