/* The query state machine (see query.h): checks, memory, hits, phases. Pure but for the kernels; no
 * ring, no clock. */
#include "query.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "bits.h"
#include "error.h"
#include "heap.h"
#include "layout.h"
#include "mem.h"
#include "metric.h"

/* Estimates that cells keep, at least; and of a search list: codes that are read have a bit a
 * dimension, with which the last neighbours come far behind (docs/adr/0068). */
#define CELLS_CANDIDATES    64
#define SCAN_CANDIDATES     4
#define SCAN_CANDIDATES_MAX (SCAN_CANDIDATES * QUERY_RESERVED_SCAN)
_Static_assert(SCAN_CANDIDATES_MAX <= QUERY_RESERVED_CANDIDATES / 2, "all candidates have room");

/* ---- memory ---- */

/* What only a scan of pages needs lies where the result will be, and what exact distances are
 * computed in where candidates were: a query keeps its memory while it waits, so that a slot has
 * none twice (docs/adr/0062). */
static void lay_out(struct query *query, struct query_capacity c, struct layout *layout)
{
    uint64_t padded = size_round_up((uint64_t)c.dim + 1, 64);
    uint32_t keep = query_keep_max(c.k), pages = c.candidates > keep ? c.candidates : keep;
    query->vector = layout_piece(layout, padded, sizeof(float));
    query->hi = layout_piece(layout, padded, 1);
    query->lo = layout_piece(layout, padded, 1);
    query->pages = layout_piece(layout, c.pages > pages ? c.pages : pages, sizeof *query->pages);
    struct layout exact = *layout, scan;
    query->candidates = layout_piece(layout, c.candidates, sizeof *query->candidates);
    query->scratch = layout_piece(&exact, padded, sizeof(float));
    layout_join(layout, &exact);
    scan = *layout;
    query->scan_cells = layout_piece(&scan, c.cells, sizeof *query->scan_cells);
    query->scan_hi = layout_piece(&scan, c.cells ? padded : 0, 1);
    query->scan_lo = layout_piece(&scan, c.cells ? padded : 0, 1);
    query->hits = layout_piece(layout, keep, sizeof *query->hits);
    query->ids = layout_piece(layout, c.k, sizeof *query->ids);
    query->distances = layout_piece(layout, c.k, sizeof *query->distances);
    layout_join(layout, &scan);
}

uint64_t query_memory_bytes(struct query_capacity capacity)
{
    struct query measured;
    struct layout layout = {0};
    lay_out(&measured, capacity, &layout);
    return layout.at;
}

static bool covers(const struct query_capacity *have, const struct query_capacity *want)
{
    return have->dim >= want->dim && have->k >= want->k && have->candidates >= want->candidates &&
           have->cells >= want->cells && have->pages >= want->pages;
}

int query_reserve(struct query *query, const struct fathom_index *index, struct query_capacity want)
{
    struct query_capacity standard = query_reserved(&index->properties, index->plan.scan_reads);
    struct query_capacity capacity = covers(&standard, &want) ? standard : want;
    if (query->memory && covers(&query->capacity, &want) && query->borrowed == 0)
        return 0;
    int64_t extra = (int64_t)query_memory_bytes(capacity) - (int64_t)query_memory_bytes(standard);
    if (extra > 0 && !index_take_budget(index, extra))
        return FATHOM_EBUDGET;
    struct layout layout = {.base = mem_alloc(query_memory_bytes(capacity))};
    if (!layout.base) {
        index_take_budget(index, extra > 0 ? -extra : 0);
        return -ENOMEM;
    }
    mem_free(query->memory);
    query->memory = layout.base;
    query->capacity = capacity;
    query->borrowed = extra > 0 ? extra : 0;
    lay_out(query, capacity, &layout);
    query->memory_bytes = layout.at;
    return 0;
}

void query_unreserve(struct query *query, const struct fathom_index *index)
{
    if (query->borrowed == 0)
        return;
    index_take_budget(index, -query->borrowed);
    mem_free(query->memory);
    query->memory = NULL;
    query->memory_bytes = 0;
    query->borrowed = 0;
    memset(&query->capacity, 0, sizeof query->capacity);
}

void query_release(struct query *query)
{
    query_unreserve(query, query->index);
    query->index = NULL;
    query->phase = QUERY_FREE;
}

/* ---- requests ---- */

static int check_vector(const struct fathom_index *index, const struct fathom_query *request,
                        struct fathom_error *err)
{
    float piece_of[64];
    const uint8_t *at = request->vector;
    const uint32_t dim = index->properties.dim, metric = index->properties.metric;
    const double step = index->model.row8.step;
    double norm = 0;
    for (uint32_t first = 0; first < dim; first += 64) {
        uint32_t count = dim - first < 64 ? dim - first : 64;
        metric_to_f32(request->dtype, at + first * fathom_dtype_bytes(request->dtype), count,
                      piece_of);
        for (uint32_t i = 0; i < count; i++) {
            if (!isfinite(piece_of[i]))
                return error_set(err, FATHOM_EARGUMENT,
                                 "vector: component %u is not a finite number", first + i);
            norm += (double)piece_of[i] * piece_of[i];
        }
    }
    if (norm == 0 && metric == FATHOM_METRIC_COS)
        return error_set(err, FATHOM_EARGUMENT,
                         "vector: all components are zero, and cosine is undefined there");
    /* Distances are floats, on the way in units of the step. */
    if (metric == FATHOM_METRIC_L2 && (norm > FLT_MAX / 8 || norm / (step * step) > FLT_MAX / 8))
        return error_set(err, FATHOM_EARGUMENT,
                         "vector: it is too long (%g) for its squared distances to fit a float",
                         sqrt(norm));
    return 0;
}

int query_check(const struct fathom_index *index, const struct fathom_query *request,
                struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    if (!request->vector || fathom_dtype_bytes(request->dtype) == 0)
        return error_set(err, FATHOM_EARGUMENT,
                         "vector is missing, or dtype is none of f32 f16 i8 u8");
    if (request->dim && request->dim != p->dim)
        return error_set(err, FATHOM_EDIM, "the vector has %u dimensions, the index %u",
                         request->dim, p->dim);
    if (request->k < 1 || request->k > FATHOM_K_MAX)
        return error_set(err, FATHOM_ELIMIT, "k is %u; it must be 1 to %d", request->k,
                         FATHOM_K_MAX);
    if (request->search_list > FATHOM_SEARCH_LIST_MAX)
        return error_set(err, FATHOM_ELIMIT, "search_list is %u; it must be at most %d",
                         request->search_list, FATHOM_SEARCH_LIST_MAX);
    if (!(request->target_recall >= 0 && request->target_recall < 1))
        return error_set(err, FATHOM_EARGUMENT,
                         "target_recall is %g; it must be above 0 and below 1",
                         (double)request->target_recall);
    if ((unsigned)request->rerank > FATHOM_RERANK_ON)
        return error_set(err, FATHOM_EARGUMENT, "rerank is %u; it must be a fathom_rerank",
                         (unsigned)request->rerank);
    return check_vector(index, request, err);
}

uint32_t query_candidates(const struct fathom_index *index, uint32_t search_list, uint32_t k)
{
    if (index->plan.navigator == FATHOM_NAVIGATOR_GRAPH)
        return search_list;
    uint32_t least = 4 * k > CELLS_CANDIDATES ? 4 * k : CELLS_CANDIDATES;
    if (!index->plan.scan_reads) /* room to append before the worse half is dropped */
        return 2 * (search_list > least ? search_list : least);
    uint32_t keep =
        search_list < QUERY_RESERVED_SCAN ? SCAN_CANDIDATES * search_list : SCAN_CANDIDATES_MAX;
    return keep > least ? keep : least;
}

/* ---- hits: a bounded max-heap ---- */

static bool hit_after(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    return x->key != y->key ? x->key > y->key : x->row > y->row;
}

void hits_push(struct query *query, struct hit hit)
{
    heap_offer(query->hits, &query->hit_count, query->keep, &hit, sizeof hit, hit_after);
}

void hits_sort(struct query *query)
{
    heap_sort(query->hits, query->hit_count, sizeof *query->hits, hit_after);
}

/* ---- distances ---- */

float query_user_distance(const struct query *query, double key)
{
    const struct fathom_index *index = query->index;
    double step = index->model.row8.step, scale = query->work_scale;
    float distance =
        metric_user_distance(index->properties.metric, key * step * step,
                             query->norm_sq * scale * scale, index->properties.max_norm);
    if (query->norm_sq == 0 && index->properties.metric == FATHOM_METRIC_IP)
        return 0; /* whatever rounding says */
    return (float)(distance / scale);
}

/* ---- phases ---- */

const struct section *query_section(const struct query *query)
{
    const struct fathom_index *index = query->index;
    if (query->phase == QUERY_SCAN)
        return index->scan.section;
    if (query->phase == QUERY_IDS)
        return index->id_section;
    if (query->phase == QUERY_EXACT)
        return index->vectors ? index->vectors : index->records;
    /* 8-bit rows in memory say all that records could; only exact distances need the full vectors.
     */
    return index->rows8 ? NULL : index->records;
}

/* The candidates are known: which rows are read? */
static void refine(struct query *query, struct navigator *navigator)
{
    query->phase = QUERY_REFINE;
    query->page_count = query->pages_issued = query->pages_done = 0;
    if (query->probe) {
        query->probe->take(query->probe->context, query, navigator);
        query->phase = QUERY_DONE;
        return;
    }
    refine_choose(query, navigator);
    query->stats.rounds += query->page_count > 0;
    if (query->page_count == 0)
        query_next(query, navigator);
}

/* Squared distances beyond so many times what is usual, and how much longer lists are then
 * (docs/adr/0071). */
#define UNUSUAL 1.1f
#define WIDEN   4

static bool has_room(const struct query *query, const struct navigator *navigator, uint32_t list)
{
    const struct properties *p = &query->index->properties;
    const struct query_capacity *own = &query->capacity;
    const struct navigator_capacity *scratch = &navigator->capacity;
    uint32_t candidates = query_candidates(query->index, list, query->k);
    if (candidates > own->candidates || candidates > scratch->candidates)
        return false;
    if (query->index->plan.navigator == FATHOM_NAVIGATOR_GRAPH)
        return list <= scratch->search_list;
    if (!query->index->plan.scan_reads)
        return LOOKED_AT * candidates <= scratch->looked_at;
    return scan_cells_ranked(list, p->cells) <= own->cells &&
           scan_pages_most(list, p) <= own->pages &&
           scan_cells_ranked(list, p->cells) <= scratch->ranked &&
           scan_pages_weighed(list, p) <= scratch->weighed;
}

bool query_widen(struct query *query, const struct navigator *navigator, float distance,
                 float usual)
{
    uint32_t list = WIDEN * query->search_list, rows = (uint32_t)query->index->properties.rows;
    if (!query->may_widen || usual == 0 || !(distance > UNUSUAL * usual))
        return false;
    query->may_widen = false;
    list = list < rows ? list : rows;
    while (list > query->search_list && !has_room(query, navigator, list))
        list = list * 7 / 8;
    if (list <= query->search_list)
        return false;
    query->search_list = list;
    query->candidate_limit = query_candidates(query->index, list, query->k);
    query->stats.widened = 1;
    return true;
}

/* Each stop of the walk is a round of reads; one that only goes on waiting is none. */
static int walk(struct query *query, struct navigator *navigator, uint32_t beam)
{
    uint32_t hops = query->stats.hops;
    bool over = graph_step(navigator, query, beam);
    if (query->status == 0 && over &&
        query_widen(query, navigator, graph_nearest(navigator),
                    query->index->properties.usual.row)) {
        graph_restart(navigator, query);
        over = graph_step(navigator, query, beam);
    }
    if (query->status)
        return query->status;
    if (over) {
        refine(query, navigator);
        return 0;
    }
    query->stats.rounds += query->phase != QUERY_WALK || query->stats.hops > hops;
    query->phase = QUERY_WALK;
    return 0;
}

int query_list_page(struct query *query, uint32_t i, const uint8_t *payload, uint32_t beam)
{
    graph_page(&query->own, i, payload);
    return walk(query, &query->own, beam);
}

static void end_scan(struct query *query, struct navigator *navigator)
{
    scan_end(query);
    refine(query, navigator);
}

void query_code_page(struct query *query, struct navigator *navigator, uint32_t i,
                     const uint8_t *payload)
{
    scan_page(navigator, query, query->pages[i], payload);
    if (++query->pages_done == query->page_count)
        end_scan(query, navigator);
}

static void scan(struct query *query, struct navigator *navigator)
{
    scan_start(navigator, query);
    query->phase = QUERY_SCAN;
    if (query->page_count == 0)
        end_scan(query, navigator);
    else
        query->stats.rounds++;
}

int query_begin(struct query *query, struct navigator *navigator,
                const struct fathom_query *request, uint32_t beam)
{
    const struct fathom_index *index = query->index;
    query->exact_distances = request->exact_distances;
    query->k = request->k < index->properties.rows ? request->k : (uint32_t)index->properties.rows;
    query->keep = query->exact_distances || query->rerank ? query_keep_max(query->k) : query->k;
    query->hit_count = query->candidate_count = 0;
    query->page_count = query->pages_issued = query->pages_done = 0;
    query->status = 0;
    query->cancelled = false;
    metric_to_f32(request->dtype, request->vector, index->properties.dim, query->vector);
    navigator_prepare(navigator, query);
    if (index->plan.navigator == FATHOM_NAVIGATOR_GRAPH) {
        graph_start(navigator, query);
        return walk(query, navigator, beam);
    }
    if (index->plan.scan_reads) {
        scan(query, navigator);
        return 0;
    }
    cells_navigate(navigator, query);
    refine(query, navigator);
    return 0;
}

static void refine_page(struct query *query, uint32_t page, const uint8_t *payload,
                        struct kernel_score8 *scores)
{
    const struct section *section = query_section(query);
    uint32_t per_page = section->rows_per_page ? section->rows_per_page : 1;
    uint64_t first = (uint64_t)page * per_page, left = query->index->properties.rows - first;
    uint32_t count = left < per_page ? (uint32_t)left : per_page;
    query->stats.full_distances += count;
    for (uint32_t at = 0; at < count; at += QUERY_PAGE_BATCH) {
        uint32_t batch = count - at < QUERY_PAGE_BATCH ? count - at : QUERY_PAGE_BATCH;
        kernels_get()->score8_rows(scores, &query->row8.weights,
                                   payload + (size_t)at * section->row_bytes, section->row_bytes,
                                   batch);
        for (uint32_t i = 0; i < batch; i++) {
            const uint8_t *record = payload + (size_t)(at + i) * section->row_bytes;
            float key = record_distance(&query->row8, query->index, &scores[i], record);
            hits_push(query, (struct hit){.key = key,
                                          .row = (uint32_t)first + at + i,
                                          .sigma = record_sigma(query->index, record, key)});
        }
    }
}

/* The exact distance of a hit whose full vector starts at bytes. */
static float exact_distance(const struct query *query, const uint8_t *bytes,
                            struct kernel_score8 *scores)
{
    const struct fathom_index *index = query->index;
    const struct properties *p = &index->properties;
    if (index->vectors)
        return metric_exact_distance(p->metric, p->dim, query->vector, query->norm_sq, p->dtype,
                                     bytes, query->scratch);
    kernels_get()->score8_rows(scores, &query->row8.weights, bytes, p->work_dim, 1);
    return query_user_distance(query, row8_distance(&query->row8, scores));
}

static void exact_page(struct query *query, uint32_t i, const uint8_t *payload,
                       struct kernel_score8 *scores)
{
    const struct section *section = query_section(query);
    uint64_t page = query_page_at(query, i);
    for (i = 0; i < query->hit_count; i++) {
        struct row_place place = section_row_place(section, query->hits[i].row);
        if (query->hits[i].sigma == 0 || place.page != page)
            continue;
        query->hits[i].distance = exact_distance(query, payload + place.byte, scores);
        query->hits[i].sigma = 0;
        query->stats.full_distances++;
    }
}

static void id_page(struct query *query, uint32_t page, const uint8_t *payload)
{
    uint64_t first = (uint64_t)page * PAGE_PAYLOAD;
    for (uint32_t i = 0; i < query->hit_count; i++)
        query->ids[i] |= bits_load_piece(payload, first, PAGE_PAYLOAD,
                                         query->index->properties.id_bits, query->hits[i].row);
}

void query_page(struct query *query, uint32_t i, const uint8_t *payload,
                struct kernel_score8 *scores)
{
    if (query->phase == QUERY_REFINE)
        refine_page(query, query->pages[i], payload, scores);
    else if (query->phase == QUERY_EXACT)
        exact_page(query, i, payload, scores);
    else
        id_page(query, query->pages[i], payload);
    query->pages_done++;
}

static bool page_after(const void *a, const void *b)
{
    return *(const uint32_t *)a > *(const uint32_t *)b;
}

void query_sort_pages(struct query *query, uint32_t count)
{
    uint32_t unique = 0;
    heap_sort(query->pages, count, sizeof *query->pages, page_after);
    for (uint32_t i = 0; i < count; i++)
        if (i == 0 || query->pages[i] != query->pages[i - 1])
            query->pages[unique++] = query->pages[i];
    query->page_count = unique;
}

/* The pages of hits whose distance is not exact yet. */
static void choose_exact_pages(struct query *query)
{
    const struct section *section = query_section(query);
    uint32_t count = 0;
    for (uint32_t i = 0; i < query->hit_count; i++)
        if (query->hits[i].sigma > 0)
            query->pages[count++] = query_place(section, query->hits[i].row);
    query_sort_pages(query, count);
}

/* The pages that hold ids of the hits: one may lie on two. */
static void choose_id_pages(struct query *query)
{
    unsigned width = query->index->properties.id_bits;
    uint32_t count = 0;
    for (uint32_t i = 0; i < query->hit_count; i++) {
        uint32_t first = (uint32_t)(bits_first_byte(width, query->hits[i].row) / PAGE_PAYLOAD),
                 last = (uint32_t)(bits_last_byte(width, query->hits[i].row) / PAGE_PAYLOAD);
        query->pages[count++] = first;
        if (last > first)
            query->pages[count++] = last;
    }
    query_sort_pages(query, count);
}

/* Ranks the hits and keeps k of them; their ids, where those are in memory. */
static void rank_hits(struct query *query)
{
    const struct fathom_index *index = query->index;
    if (query->exact_distances || query->rerank) /* by what the user sees */
        for (uint32_t i = 0; i < query->hit_count; i++)
            query->hits[i].key = query->hits[i].distance;
    hits_sort(query);
    if (query->hit_count > query->k)
        query->hit_count = query->k;
    for (uint32_t i = 0; i < query->capacity.k; i++) {
        bool valid = i < query->hit_count;
        query->ids[i] = !valid ? FATHOM_ID_NONE
                        : index->ids
                            ? bits_load(index->ids, index->properties.id_bits, query->hits[i].row)
                            : 0;
        query->distances[i] = valid ? query->hits[i].distance : INFINITY;
    }
}

/* Whether pages are wanted for the next phase. */
static bool wants_pages(struct query *query)
{
    query->pages_issued = query->pages_done = 0;
    query->stats.rounds += query->page_count > 0;
    return query->page_count > 0;
}

void query_next(struct query *query, struct navigator *navigator)
{
    if (query->status || query->cancelled) {
        query->phase = QUERY_DONE;
        return;
    }
    if (query->phase == QUERY_REFINE) {
        for (uint32_t i = 0; i < query->hit_count; i++)
            query->hits[i].distance = query_user_distance(query, query->hits[i].key);
        if (query->exact_distances || query->rerank) {
            query->phase = QUERY_EXACT;
            if (query->exact_distances)
                choose_exact_pages(query);
            else
                refine_choose_vectors(query, navigator);
            if (wants_pages(query))
                return;
        }
    }
    if (query->phase != QUERY_IDS) {
        rank_hits(query);
        if (!query->index->ids) {
            query->phase = QUERY_IDS;
            choose_id_pages(query);
            if (wants_pages(query))
                return;
        }
    }
    query->phase = QUERY_DONE;
}
