/* What both navigators share: scratch memory, the prepared query, and estimates of rows. */
#include "navigate.h"

#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "layout.h"
#include "mem.h"
#include "metric.h"
#include "query.h"

/* ---- memory: one block, laid out once per capacity ---- */

static uint32_t power_of_two_above(uint64_t value)
{
    uint32_t power = 64;
    while (power < value)
        power *= 2;
    return power;
}

/* Rows that a search list can touch: hops run a little past the list, each brings a neighbourhood,
 * half of it known (16 to 22 new rows a hop of 48 neighbours on SIFT). */
uint32_t navigator_visited_slots(uint32_t search_list, uint32_t degree)
{
    return power_of_two_above(((uint64_t)search_list + 32) * degree / 2 + 1024);
}

uint32_t navigator_page_slots(uint32_t candidates)
{
    return power_of_two_above(2 * (uint64_t)candidates);
}

static void lay_out_prepared(struct navigator *n, const struct navigator_capacity *c,
                             struct layout *layout)
{
    uint64_t padded = size_round_up(c->work_dim, 64);
    n->work = layout_piece(layout, padded, sizeof(float));
    n->units = layout_piece(layout, padded, sizeof(float));
    n->rotated = layout_piece(layout, padded, sizeof(float));
    n->code_hi = layout_piece(layout, padded, 1);
    n->code_lo = layout_piece(layout, padded, 1);
    n->weights = layout_piece(layout, c->cells ? padded : 0, sizeof *n->weights);
    n->ids = layout_piece(layout, SCORE_BATCH + 16, sizeof *n->ids); /* see below_f32 */
    n->scores = layout_piece(layout, SCORE_BATCH + 2 * KERNEL_LANES, sizeof *n->scores);
    n->estimates = layout_piece(layout, SCORE_BATCH, sizeof *n->estimates);
}

static void lay_out_walk(struct navigator *n, const struct navigator_capacity *c,
                         struct layout *layout)
{
    bool walks = c->search_list > 0;
    n->pool.estimates = layout_piece(layout, pool_room(c->search_list), sizeof *n->pool.estimates);
    n->pool.rows = layout_piece(layout, c->search_list, sizeof *n->pool.rows);
    n->visited.entries =
        layout_piece(layout, walks ? navigator_visited_slots(c->search_list, c->degree) : 0,
                     sizeof *n->visited.entries);
    n->cells = layout_piece(layout, walks ? SCORE_BATCH : 0, sizeof *n->cells);
    n->missing = layout_piece(layout, walks ? SCORE_BATCH : 0, sizeof *n->missing);
    n->base_cache = layout_piece(layout, walks ? BASE_CACHE : 0, sizeof *n->base_cache);
}

/* Returns where page slots may begin: behind it is what nobody needs once they are filled. */
static struct layout lay_out_cells(struct navigator *n, const struct navigator_capacity *c,
                                   struct layout *layout)
{
    uint32_t code_bytes =
        c->looked_at ? (uint32_t)size_round_up(c->work_dim, 64) / 8 * PLANES_MAX : 0; /* the most */
    uint64_t clumps = centroids_clumps(c->cells), ordered = rank_ordered_clumps(c->cells),
             spare = ordered ? RANK_SPARE(c->ranked) : 0;
    n->cell_distance =
        layout_piece(layout, centroids_blocks(c->cells) * KERNEL_LANES, sizeof *n->cell_distance);
    struct layout over = *layout, whole;
    n->cell_order = layout_piece(layout, (uint64_t)c->cells + 16, sizeof *n->cell_order);
    whole = *layout;
    n->tables = layout_piece(layout, coarse_table_bytes(code_bytes), 1);
    n->joined = layout_piece(
        &whole, code_bytes ? (uint64_t)JOINED_CODES * code_bytes + KERNEL_CODE_SLACK : 0, 1);
    layout_join(layout, &whole); /* whole codes come after the first look, by tables */
    whole = *layout;
    spare = spare > ordered ? spare : ordered;
    n->cell_spare =
        layout_piece(layout, spare > c->ranked ? spare : c->ranked, sizeof *n->cell_spare);
    n->clump_low = layout_piece(layout, clumps, sizeof *n->clump_low);
    n->clump_middle = layout_piece(layout, ordered, sizeof *n->clump_middle);
    n->clump_order = layout_piece(layout, ordered, sizeof *n->clump_order);
    n->bucket = layout_piece(layout, c->cells ? NAVIGATOR_BUCKETS + 1 : 0, sizeof *n->bucket);
    n->kept_estimates = layout_piece(&whole, c->looked_at, sizeof *n->kept_estimates);
    n->kept_rows = layout_piece(&whole, c->looked_at, sizeof *n->kept_rows);
    layout_join(layout, &whole); /* rows are kept when cells are ranked */
    return over;
}

/* Arrays of which a query never needs both share their place: whoever walks ranks no cells, and
 * pages are weighed after either (docs/adr/0062). */
static void lay_out(struct navigator *n, struct navigator_capacity c, struct layout *layout)
{
    lay_out_prepared(n, &c, layout);
    uint32_t scored = c.search_list || c.looked_at ? SCORE_BATCH : CLUMP_ROWS;
    n->row_scores = layout_piece(layout, scored, sizeof *n->row_scores);
    struct layout walk = *layout, pages = lay_out_cells(n, &c, layout);
    lay_out_walk(n, &c, &walk);
    n->page_mask = navigator_page_slots(c.candidates) - 1;
    n->page_slots = layout_piece(&pages, c.weighed > n->page_mask ? c.weighed : n->page_mask + 1,
                                 sizeof *n->page_slots);
    layout_join(layout, &walk);
    layout_join(layout, &pages);
    void *payloads = layout_piece(layout, c.list_pages, LIST_PAYLOAD_BYTES);
    n->list_payloads = c.list_pages ? payloads : NULL;
}

uint64_t navigator_memory_bytes(struct navigator_capacity capacity)
{
    struct navigator measured;
    struct layout layout = {0};
    lay_out(&measured, capacity, &layout);
    return layout.at;
}

int navigator_reserve(struct navigator *navigator, struct navigator_capacity capacity)
{
    uint64_t bytes = navigator_memory_bytes(capacity);
    struct layout layout = {.base = mem_alloc(bytes)};
    if (!layout.base)
        return -ENOMEM;
    mem_free(navigator->memory);
    navigator->memory = layout.base;
    navigator->memory_bytes = bytes;
    navigator->capacity = capacity;
    lay_out(navigator, capacity, &layout);
    for (int i = 0; i < 80; i++)
        navigator->tail[i] = (float)(0.5 * erfc(i / 16.0 * M_SQRT1_2));
    return 0;
}

void navigator_fini(struct navigator *navigator)
{
    mem_free(navigator->memory);
    memset(navigator, 0, sizeof *navigator);
}

/* ---- the prepared query ---- */

/* The length of a query changes nothing of the order of inner products, but squared distances drown
 * the smaller of query and rows in rounding, and rank centroids by the larger: so a query is made
 * as long as the longest row. */
static void scale_query(struct navigator *n, struct query *query)
{
    const struct properties *p = &query->index->properties;
    query->work_scale = 1;
    if (p->metric != FATHOM_METRIC_IP || !(query->norm_sq > 0) || !(p->max_norm > 0))
        return;
    query->work_scale = p->max_norm / sqrt(query->norm_sq);
    for (uint32_t d = 0; d < p->dim; d++)
        n->work[d] = (float)(n->work[d] * query->work_scale);
}

void navigator_prepare(struct navigator *n, struct query *query)
{
    const struct fathom_index *index = query->index;
    const struct properties *p = &index->properties;
    query->norm_sq = metric_work_query(p->metric, p->dim, query->vector, n->work);
    scale_query(n, query);
    row8_query_init(&query->row8, &index->model.row8, n->work, n->units, query->hi, query->lo);
    if (index->rows8)
        return;
    planes_query_init(&n->planes, &index->model.planes, &index->level, n->units, n->rotated,
                      n->code_hi, n->code_lo);
    if (index->coarse.blocks)
        coarse_query_init(&n->coarse, n->tables, &index->model.planes, &index->coarse.level,
                          index->coarse.units, &index->coarse.weights, n->rotated);
    if (index->plan.navigator == FATHOM_NAVIGATOR_GRAPH)
        memset(n->base_cache, 0xff, BASE_CACHE * sizeof *n->base_cache);
}

/* ---- estimates ---- */

/* Scores the centroids that the cache lacks, for all rows of a batch in one call: cells[i] is the
 * cell of rows[i]. */
static void fill_bases(struct navigator *n, const struct query *query, const uint32_t *cells,
                       uint32_t count)
{
    const struct fathom_index *index = query->index;
    uint32_t missing = 0, *wanted = n->missing;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t slot = cells[i] % BASE_CACHE;
        if (n->base_cache[slot].cell == cells[i])
            continue;
        n->base_cache[slot].cell = cells[i];
        wanted[missing++] = cells[i];
    }
    kernels_get()->score8_gather(n->row_scores, &query->row8.weights, index->centroids,
                                 index->properties.work_dim, wanted, missing);
    for (uint32_t i = 0; i < missing;
         i++) /* a later cell may have taken the slot: it stays the slot's owner */
        if (n->base_cache[wanted[i] % BASE_CACHE].cell == wanted[i])
            n->base_cache[wanted[i] % BASE_CACHE].base =
                row8_distance(&query->row8, &n->row_scores[i]);
}

static float cell_base(struct navigator *n, const struct query *query, uint32_t cell)
{
    uint32_t slot = cell % BASE_CACHE;
    if (n->base_cache[slot].cell != cell)
        fill_bases(n, query, &cell, 1);
    return n->base_cache[slot].base;
}

void navigate_estimate(struct navigator *n, const struct query *query, const uint32_t *rows,
                       uint32_t count, float *estimates)
{
    const struct fathom_index *index = query->index;
    if (index->rows8) {
        size_t bytes = index->records->row_bytes;
        kernels_get()->score8_gather(n->row_scores, &query->row8.weights, index->rows8, bytes, rows,
                                     count);
        for (uint32_t i = 0; i < count; i++)
            estimates[i] = record_distance(&query->row8, index, &n->row_scores[i],
                                           index->rows8 + rows[i] * bytes);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        n->cells[i] = index_cell_of(index, rows[i]);
    fill_bases(n, query, n->cells, count);
    kernels_get()->codes_gather(n->scores, &index->codes_plan, &n->planes.weights, index->codes,
                                rows, count);
    for (uint32_t i = 0; i < count; i++) {
        struct planes_factors factors = planes_unpack_factors(
            &index->level, planes_factors_at(&index->level, index->factors, rows[i]));
        float base = cell_base(n, query, n->cells[i]);
        float product = n->planes.factor * n->scores[i] + n->planes.bias;
        estimates[i] = base + factors.offset - 2 * factors.scale * product;
    }
}

float record_sigma(const struct fathom_index *index, const uint8_t *record, float distance)
{
    if (!index->vectors)
        return 0;
    float scale = row8_record_scale(record, index->properties.work_dim, false);
    return fmaxf(index->row_noise * scale * sqrtf(fmaxf(distance, 0)), FLT_MIN);
}

float navigate_row_sigma(const struct fathom_index *index, uint32_t row, float estimate)
{
    return record_sigma(index, index->rows8 + (size_t)row * index->records->row_bytes, estimate);
}

float navigate_sigma(struct navigator *n, const struct query *query, uint32_t row, float estimate)
{
    const struct fathom_index *index = query->index;
    if (index->rows8)
        return navigate_row_sigma(index, row, estimate);
    struct planes_factors factors =
        planes_unpack_factors(&index->level, planes_factors_at(&index->level, index->factors, row));
    float base = cell_base(n, query, index_cell_of(index, row));
    return index->level.kappa * factors.scale * sqrtf(fmaxf(base, 0));
}
