/* The cell navigator where the codes lie on SSD: centroids say which cells are near, those which
 * pages of section scan are worth reading, and these bring codes with factors, all of them asked
 * for at once. Some of the pages may be in memory. What is found depends neither on which those
 * are, nor on the order in which the others come: candidates are kept by (estimate, row), a total
 * order. Each query keeps what a page needs to be scored, since the engine's navigator serves
 * others meanwhile. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "heap.h"
#include "mem.h"
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

static uint32_t cell_end(const struct fathom_index *index, uint32_t cell)
{
    return index->cell_first[cell + 1];
}

/* ---- candidates: a heap of the best, the worst of them on top ---- */

static bool candidate_after(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->estimate != y->estimate ? x->estimate > y->estimate : x->row > y->row;
}

static void keep(struct query *query, struct candidate candidate)
{
    heap_offer(query->candidates, &query->candidate_count, query->candidate_limit, &candidate,
               sizeof candidate, candidate_after);
    if (query->candidate_count == query->candidate_limit)
        query->scan_threshold = query->candidates[0].estimate;
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

void scan_page(struct navigator *n, struct query *query, uint32_t page, const uint8_t *payload)
{
    const struct fathom_index *index = query->index;
    const struct section *section = index->scan.section;
    uint64_t begin = (uint64_t)page * section->rows_per_page, end = begin + section->rows_per_page;
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

/* ---- which pages to read ----
 *
 * One comes for the nearest cells, but the cells beside them on a page, and those a little farther
 * away, cost next to nothing once the page is there. So the rows of the r-th nearest cell are worth
 * ((w + 10) / (r + 10))^2, of w that the search list is for, a page is worth the sum over its rows,
 * and read are those pages of which worth less price is largest in all. On these the rows of all
 * cells that were ranked are scored (docs/adr/0058). */

#define WORTH_RANKS 10   /* the nearest of so many are worth about the same */
#define PAGE_PRICE  2.5f /* of a read of one page, in cells as far away as the list's last */

/* On average; cells are of about the same size. */
static uint64_t pages_of_cells(uint64_t cells, const struct properties *p)
{
    uint64_t row_bytes_most = p->work_dim / 8 + 1 + sizeof(uint32_t); /* format_scan_bytes */
    return (cells * (p->rows * row_bytes_most / PAGE_PAYLOAD + 1) + p->cells - 1) / p->cells;
}

uint32_t scan_pages_most(uint32_t search_list, const struct properties *p)
{
    uint32_t cells = scan_cells_of(search_list, p->cells);
    return cells + (uint32_t)pages_of_cells(cells, p);
}

uint32_t scan_pages_weighed(uint32_t search_list, const struct properties *p)
{
    uint32_t cells = scan_cells_ranked(search_list, p->cells);
    return cells + cells / 2 + (uint32_t)pages_of_cells(cells, p);
}

static bool cell_after(const void *a, const void *b)
{
    const struct scan_cell *x = a, *y = b;
    return x->cell > y->cell;
}

/* Those that have rows, as far as the pages that they lie on can be weighed, in the order of the
 * file. */
static void list_cells(struct navigator *n, struct query *query, uint32_t ranked, uint32_t wanted)
{
    const struct fathom_index *index = query->index;
    uint32_t per_page = index->scan.section->rows_per_page,
             room = scan_pages_weighed(query->search_list, &index->properties);
    query->scan_cell_count = 0;
    for (uint32_t r = 0; r < ranked; r++) {
        uint32_t cell = n->cell_order[r], first = index->cell_first[cell];
        if (first == cell_end(index, cell))
            continue;
        uint32_t pages = (cell_end(index, cell) - 1) / per_page - first / per_page + 1;
        if (pages > room)
            break;
        room -= pages;
        float worth = (float)(wanted + WORTH_RANKS) / (float)(r + WORTH_RANKS);
        query->scan_cells[query->scan_cell_count++] =
            (struct scan_cell){.cell = cell, .worth = worth * worth};
    }
    heap_sort(query->scan_cells, query->scan_cell_count, sizeof *query->scan_cells, cell_after);
}

/* The pages on which the cells lie into page slots, in the order of the file; counted from the
 * first of the section. Returns how many. */
static uint32_t weigh_pages(struct navigator *n, const struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t per_page = index->scan.section->rows_per_page, count = 0;
    float cell_rows = (float)index->properties.rows / (float)index->properties.cells,
          whole = cell_rows < (float)per_page ? cell_rows : (float)per_page;
    for (uint32_t c = 0; c < query->scan_cell_count; c++) {
        uint32_t first = index->cell_first[query->scan_cells[c].cell],
                 last = cell_end(index, query->scan_cells[c].cell);
        for (uint32_t end; first < last; first = end) {
            uint32_t page = first / per_page, left = per_page - first % per_page;
            end = last - first < left ? last : first + left;
            if (count == 0 || n->page_slots[count - 1].page != page)
                n->page_slots[count++] = (struct page_slot){.page = page};
            n->page_slots[count - 1].gain +=
                query->scan_cells[c].worth * (float)(end - first) / whole;
        }
    }
    return count;
}

/* Marks those to be read; returns how many. */
static uint32_t pick_pages(struct navigator *n, uint32_t count, float price)
{
    struct run_picker picker = run_picker_start(price, 1);
    uint32_t picked = 0;
    for (uint32_t i = 0; i < count; i++)
        n->page_slots[i].chosen = run_weigh(&picker, n->page_slots[i].page, n->page_slots[i].gain);
    bool read = run_read_last(&picker);
    for (uint32_t i = count; i-- > 0;) {
        uint32_t ways = n->page_slots[i].chosen;
        n->page_slots[i].chosen = read;
        picked += read;
        read = run_read_before(ways, read);
    }
    return picked;
}

/* Of the cells, those that lie on a page to be read, now with distances. */
static void keep_cells(struct navigator *n, struct query *query, uint32_t pages)
{
    const struct fathom_index *index = query->index;
    uint32_t per_page = index->scan.section->rows_per_page, kept = 0, at = 0;
    for (uint32_t c = 0; c < query->scan_cell_count; c++) {
        uint32_t cell = query->scan_cells[c].cell, first = index->cell_first[cell] / per_page,
                 last = (cell_end(index, cell) - 1) / per_page;
        bool read = false;
        while (n->page_slots[at].page < first)
            at++;
        for (uint32_t i = at; i < pages && n->page_slots[i].page <= last; i++)
            read = read || n->page_slots[i].chosen;
        if (read)
            query->scan_cells[kept++] =
                (struct scan_cell){.cell = cell, .distance = n->cell_distance[cell]};
    }
    query->scan_cell_count = kept;
}

/* Of the nearest cells, which are ranked. All of them when all cells are wanted. */
static uint32_t choose_pages(struct navigator *n, struct query *query, uint32_t ranked,
                             uint32_t wanted)
{
    const struct properties *p = &query->index->properties;
    list_cells(n, query, ranked, wanted);
    uint32_t count = weigh_pages(n, query), most = scan_pages_most(query->search_list, p);
    float price = wanted == p->cells ? 0 : PAGE_PRICE;
    while (pick_pages(n, count, price) > most) /* cells are of very different sizes */
        price = 2 * price + 1;
    keep_cells(n, query, count);
    return count;
}

/* ---- a query ---- */

/* Its own copy of what the navigator has prepared. */
static void keep_planes(const struct navigator *n, struct query *query)
{
    size_t bytes = size_round_up(n->planes.weights.dim, 64); /* with the zeros that kernels read */
    memcpy(query->scan_hi, n->planes.weights.hi, bytes);
    memcpy(query->scan_lo, n->planes.weights.lo, bytes);
    query->scan_planes = n->planes;
    query->scan_planes.weights.hi = query->scan_hi;
    query->scan_planes.weights.lo = query->scan_lo;
}

void scan_start(struct navigator *n, struct query *query)
{
    const struct fathom_index *index = query->index;
    uint32_t cells = index->properties.cells, ranked = rank_for_list(n, query, scan_cells_ranked),
             wanted = scan_cells_of(query->search_list, cells),
             pages = choose_pages(n, query, ranked, wanted);
    keep_planes(n, query);
    query->scan_threshold = INFINITY;
    query->stats.navigator = FATHOM_NAVIGATOR_CELLS;
    query->stats.hops = query->scan_cell_count;
    query->stats.stop_reason = wanted == cells ? "exhausted" : "limit";
    for (uint32_t i = 0; i < pages; i++) {
        uint32_t page = n->page_slots[i].page;
        const uint8_t *payload =
            n->page_slots[i].chosen ? resident_payload(&index->scan, page) : NULL;
        if (payload)
            scan_page(n, query, page, payload);
        else if (n->page_slots[i].chosen)
            query->pages[query->page_count++] = page;
    }
}

void scan_end(struct query *query)
{
    heap_sort(query->candidates, query->candidate_count, sizeof *query->candidates,
              candidate_after);
}
