/* The cells nearest to a query, and the centroids that say so. The cells navigator keeps them as
 * the file has them, half a byte a dimension: the distance to a centroid is that to the low of its
 * clump, and what the steps above it add, which one kernel sums up for a clump (nibble_sums). Where
 * there are many, clumps are measured from the nearest on, until a part of them brings nothing
 * (docs/adr/0052). The graph, which needs one here and one there, keeps 8-bit rows. */
#include <emmintrin.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "navigate.h"
#include "query.h"
#include "select.h"

#define CLUMPS_ORDERED 256 /* from so many on they are measured from the nearest on */
#define CLUMP_PARTS    12  /* of all clumps: one that brings nothing is the last */
#define CELLS_FOR_ONE  128 /* where fewer are there for each that is wanted, all are measured */
#define SAMPLE         SCORE_BATCH /* distances that a limit is estimated from */

static uint32_t clumps_of(uint32_t cells)
{
    return (uint32_t)centroids_clumps(cells);
}

uint32_t rank_ordered_clumps(uint32_t cells)
{
    return clumps_of(cells) >= CLUMPS_ORDERED ? clumps_of(cells) : 0;
}

/* ---- at open ---- */

uint64_t rank_part_bytes(const struct properties *p, enum fathom_navigator navigator)
{
    if (navigator == FATHOM_NAVIGATOR_GRAPH)
        return size_round_up((uint64_t)p->cells * p->work_dim + 64, MEM_ALIGN);
    return size_round_up(centroids_bytes(p->cells, p->work_dim), MEM_ALIGN) +
           size_round_up(centroids_blocks(p->cells) * KERNEL_LANES * sizeof(float), MEM_ALIGN) +
           size_round_up(rank_ordered_clumps(p->cells) * sizeof(float), MEM_ALIGN);
}

static int refuse(const struct fathom_index *index, struct fathom_error *err)
{
    return error_set(err, FATHOM_ECORRUPT,
                     "%s: section centroids: a value is out of range; rebuild the index",
                     index->file.path);
}

/* |c|^2 - |low|^2 of a cell, whose row is c. */
static float excess_of(const uint8_t *low, const uint8_t *row, uint32_t dim)
{
    int64_t sum = 0;
    for (uint32_t d = 0; d < dim; d++)
        sum += (row[d] - low[d]) * (row[d] + low[d] - 256);
    return (float)sum;
}

static int find_excess(const struct fathom_index *index, float *excess, struct fathom_error *err)
{
    const struct centroids *centroids = &index->ranks.centroids;
    uint8_t row[KERNEL_DIM_MAX];
    for (uint32_t cell = 0; cell < centroids->cells; cell++) {
        if (!centroids_decode(centroids, cell, row))
            return refuse(index, err);
        excess[cell] = excess_of(centroids_low(centroids, cell), row, centroids->dim);
    }
    return 0;
}

/* Of the middles, where clumps are ordered. */
static int find_middles(struct fathom_index *index, struct fathom_error *err)
{
    struct cell_ranks *ranks = &index->ranks;
    uint32_t clumps = rank_ordered_clumps(ranks->centroids.cells);
    if (clumps == 0)
        return 0;
    float *middle = residency_take(index, PART_CELLS, clumps * sizeof *middle, err);
    if (!middle)
        return -ENOMEM;
    for (uint32_t clump = 0; clump < clumps; clump++)
        middle[clump] = centroids_middle_excess(&ranks->centroids, clump);
    ranks->middle = middle;
    return 0;
}

int rank_load(struct fathom_index *index, struct fathom_error *err)
{
    const struct properties *p = &index->properties;
    const struct section *section = superblock_find(&index->file.super, SECTION_CENTROIDS);
    uint8_t *bytes = residency_take(index, PART_CELLS, section->bytes, err);
    float *excess = residency_take(index, PART_CELLS,
                                   centroids_blocks(p->cells) * KERNEL_LANES * sizeof *excess, err);
    if (!bytes || !excess)
        return -ENOMEM;
    int status = index_file_read(&index->file, section, 0, bytes, section->bytes, err);
    index->ranks = (struct cell_ranks){.centroids = centroids_of(bytes, p->cells, p->work_dim),
                                       .excess = excess};
    status = status ? status : find_excess(index, excess, err);
    return status ? status : find_middles(index, err);
}

/* A clump at a time, so that centroids are never there twice: part is read as if the clump were all
 * centroids that there are. */
static int read_clump(const struct fathom_index *index, uint32_t first, uint32_t cells,
                      uint8_t *part, struct fathom_error *err)
{
    const struct section *section = superblock_find(&index->file.super, SECTION_CENTROIDS);
    size_t clump_bytes = 2 * (size_t)index->properties.work_dim,
           block_bytes = centroids_block_bytes(index->properties.work_dim);
    uint64_t blocks_at = centroids_clumps(index->properties.cells) * clump_bytes;
    int status = index_file_read(&index->file, section, first / CENTROIDS_CLUMP * clump_bytes, part,
                                 clump_bytes, err);
    return status ? status
                  : index_file_read(&index->file, section,
                                    blocks_at + first / KERNEL_LANES * block_bytes,
                                    part + clump_bytes, centroids_blocks(cells) * block_bytes, err);
}

int rank_load_rows(struct fathom_index *index, struct fathom_error *err)
{
    uint32_t dim = index->properties.work_dim, all = index->properties.cells;
    uint8_t *rows = residency_take(index, PART_CELLS, (uint64_t)all * dim + 64, err);
    uint8_t *part = mem_alloc(centroids_bytes(CENTROIDS_CLUMP, dim));
    int status =
        rows && part ? 0 : error_set(err, -ENOMEM, "%s: no memory for centroids", index->file.path);
    for (uint32_t first = 0; first < all && status == 0; first += CENTROIDS_CLUMP) {
        uint32_t cells = all - first < CENTROIDS_CLUMP ? all - first : CENTROIDS_CLUMP;
        status = read_clump(index, first, cells, part, err);
        struct centroids clump = centroids_of(part, cells, dim);
        for (uint32_t c = 0; c < cells && status == 0; c++)
            if (!centroids_decode(&clump, c, rows + (size_t)(first + c) * dim))
                status = refuse(index, err);
    }
    mem_free(part);
    index->centroids = rows;
    return status;
}

/* ---- a query: clumps ---- */

/* What is not a number is near, what overflows is far. */
static float orderly(float distance)
{
    distance = distance > 0 ? distance : 0;
    return distance < FLT_MAX ? distance : FLT_MAX;
}

/* out[i] = base + excess[i] - factor * scores[i], orderly, blocks of them. */
static void orderly_distances(float *out, float base, const float *excess, const float *scores,
                              float factor, size_t blocks)
{
    const __m128 near = _mm_setzero_ps(), far = _mm_set1_ps(FLT_MAX);
    for (size_t i = 0; i < blocks * KERNEL_LANES; i += 4) {
        __m128 above = _mm_add_ps(_mm_set1_ps(base), _mm_loadu_ps(excess + i)),
               less = _mm_mul_ps(_mm_set1_ps(factor), _mm_loadu_ps(scores + i));
        _mm_storeu_ps(out + i, _mm_min_ps(_mm_max_ps(_mm_sub_ps(above, less), near), far));
    }
}

/* The distances of the lows of clumps first to first + some - 1, and of their middles where clumps
 * are ordered. */
static void measure_corners(struct navigator *n, const struct query *query, uint32_t first,
                            uint32_t some, bool middles)
{
    const struct cell_ranks *ranks = &query->index->ranks;
    const struct row8_query *row8 = &query->row8;
    size_t dim = ranks->centroids.dim, rows = middles ? 2 : 1; /* low, step, low, step... */
    kernels_get()->score8_rows(n->row_scores, &row8->weights,
                               ranks->centroids.clumps + first * 2 * dim, 2 / rows * dim,
                               rows * some);
    for (uint32_t i = 0; i < some; i++) {
        const struct kernel_score8 *low = &n->row_scores[rows * i];
        n->clump_low[first + i] = row8_distance(row8, low);
        if (!middles)
            continue;
        float along = (float)(low[1].hi * 128 + low[1].lo) * row8->quantum;
        n->clump_middle[first + i] = orderly(n->clump_low[first + i] + ranks->middle[first + i] -
                                             2 * CENTROIDS_HALFWAY * along);
    }
}

static void measure_clumps(struct navigator *n, const struct query *query, bool middles)
{
    uint32_t clumps = clumps_of(query->index->ranks.centroids.cells),
             some = middles ? CLUMP_ROWS / 2 : CLUMP_ROWS;
    for (uint32_t first = 0; first < clumps; first += some)
        measure_corners(n, query, first, clumps - first < some ? clumps - first : some, middles);
}

/* The distances of its cells, of which it returns how many there are. The clump next is fetched
 * meanwhile. */
static uint32_t measure_clump(struct navigator *n, const struct query *query, uint32_t clump,
                              uint32_t next)
{
    const struct cell_ranks *ranks = &query->index->ranks;
    const struct centroids *centroids = &ranks->centroids;
    uint32_t first = clump * CENTROIDS_CLUMP, left = centroids->cells - first,
             count = left < CENTROIDS_CLUMP ? left : CENTROIDS_CLUMP;
    kernels_get()->nibble_sums(
        n->scores, n->weights, centroids_low(centroids, first) + centroids->dim,
        centroids_block(centroids, first), centroids_block(centroids, next * CENTROIDS_CLUMP),
        centroids->dim, centroids_blocks(count));
    orderly_distances(n->cell_distance + first, n->clump_low[clump], ranks->excess + first,
                      n->scores, 2 * 16 * query->row8.quantum, centroids_blocks(count));
    return count;
}

/* ---- a query: cells ---- */

/* Puts the wanted first of the count places of order, by their values up to a bucket's width, which
 * is all that a scan needs, at its front. */
static void bucket_sort(struct navigator *n, const float *values, uint32_t *order, uint32_t count,
                        uint32_t wanted)
{
    uint32_t *spare = n->cell_spare, *bucket = n->bucket;
    float low = INFINITY, high = -INFINITY;
    for (uint32_t i = 0; i < count; i++) {
        float value = values[order[i]];
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    float scale = high > low ? (NAVIGATOR_BUCKETS - 1) / (high - low) : 0;
    memset(bucket, 0, (NAVIGATOR_BUCKETS + 1) * sizeof *bucket);
    for (uint32_t i = 0; i < count; i++)
        bucket[1 + (uint32_t)((values[order[i]] - low) * scale)]++;
    for (uint32_t b = 0; b < NAVIGATOR_BUCKETS; b++)
        bucket[b + 1] += bucket[b];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = bucket[(uint32_t)((values[order[i]] - low) * scale)]++;
        if (at < wanted)
            spare[at] = order[i];
    }
    memcpy(order, spare, wanted * sizeof *spare);
}

static void measure_all(struct navigator *n, const struct query *query)
{
    const struct centroids *centroids = &query->index->ranks.centroids;
    uint32_t clumps = clumps_of(centroids->cells);
    for (uint32_t clump = 0; clump < clumps; clump++)
        measure_clump(n, query, clump, clump + 1 < clumps ? clump + 1 : clump);
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

/* The wanted nearest of all cells, or a few more, into cell_order, in no order. Returns how many.
 * The limit comes from a sample: looking at each distance again would cost more than a few cells
 * too many. */
static uint32_t nearest_of_all(struct navigator *n, const struct query *query, uint32_t wanted)
{
    uint32_t cells = query->index->properties.cells, count = 0;
    double share = 1.25 * wanted / cells;
    measure_all(n, query);
    for (float limit = -INFINITY; count < wanted && limit < INFINITY; share *= 2) {
        limit = wanted == cells ? INFINITY : sample_rank(n, cells, share);
        count = (uint32_t)kernels_get()->below_f32(n->cell_order, n->cell_distance, cells, limit);
    }
    return count;
}

/* Of the cells measured so far, in cell_order. */
struct nearest {
    uint32_t wanted, count;
    float limit; /* what is not below it is not among the wanted */
};

/* Keeps the wanted of them. */
static void keep_nearest(struct navigator *n, struct nearest *near)
{
    float *values = n->spare_distance;
    for (uint32_t i = 0; i < near->count; i++)
        values[i] = n->cell_distance[n->cell_order[i]];
    struct cut cut = select_cut(values, near->count, near->wanted);
    uint32_t kept = 0, equal = 0;
    for (uint32_t i = 0; i < near->count; i++) {
        bool wanted = values[i] < cut.limit || (values[i] == cut.limit && equal < cut.equal);
        equal += values[i] == cut.limit;
        n->cell_order[kept] = n->cell_order[i];
        kept += wanted;
    }
    near->count = kept;
    near->limit = cut.limit;
}

/* Measures a clump; returns how many of its cells may be among the wanted. */
static uint32_t take_clump(struct navigator *n, const struct query *query, uint32_t clump,
                           uint32_t next, struct nearest *near)
{
    uint32_t first = clump * CENTROIDS_CLUMP, *more = n->cell_order + near->count,
             count = measure_clump(n, query, clump, next),
             found = (uint32_t)kernels_get()->below_f32(more, n->cell_distance + first, count,
                                                        near->limit);
    for (uint32_t i = 0; i < found; i++)
        more[i] += first;
    near->count += found;
    return found;
}

/* The same, or nearly, from clumps whose middle is near. */
static uint32_t nearest_of_near_clumps(struct navigator *n, const struct query *query,
                                       uint32_t wanted)
{
    const struct centroids *centroids = &query->index->ranks.centroids;
    struct nearest near = {.wanted = wanted, .limit = INFINITY};
    uint32_t clumps = clumps_of(centroids->cells), part = clumps / CLUMP_PARTS + 1,
             *order = n->clump_order, found = 1;
    for (uint32_t i = 0; i < clumps; i++)
        order[i] = i;
    bucket_sort(n, n->clump_middle, order, clumps, clumps);
    for (uint32_t i = 0, end; i < clumps && (found > 0 || near.count < wanted); i = end) {
        end = clumps - i < part ? clumps : i + part;
        found = 0;
        for (uint32_t at = i; at < end; at++) {
            found += take_clump(n, query, order[at], order[at + 1 < clumps ? at + 1 : at], &near);
            if (near.count >= 2 * wanted)
                keep_nearest(n, &near);
        }
    }
    return near.count;
}

uint32_t rank_for_list(struct navigator *n, struct query *query,
                       uint32_t (*cells_of)(uint32_t search_list, uint32_t cells))
{
    const struct properties *p = &query->index->properties;
    uint32_t count = rank_nearest(n, query, cells_of(query->search_list, p->cells));
    return query_widen(query, n, n->cell_distance[n->cell_order[0]], p->usual.cell)
               ? rank_nearest(n, query, cells_of(query->search_list, p->cells))
               : count;
}

uint32_t rank_nearest(struct navigator *n, const struct query *query, uint32_t wanted)
{
    const struct kernel_query8 *weights = &query->row8.weights;
    uint32_t cells = query->index->properties.cells;
    bool ordered = rank_ordered_clumps(cells) > 0 && wanted <= cells / CELLS_FOR_ONE;
    for (uint32_t d = 0; d < size_round_up(weights->dim, 64); d++)
        n->weights[d] = (int16_t)(weights->hi[d] * 128 + weights->lo[d]);
    measure_clumps(n, query, ordered);
    uint32_t count =
        ordered ? nearest_of_near_clumps(n, query, wanted) : nearest_of_all(n, query, wanted);
    wanted = count < wanted ? count : wanted;
    bucket_sort(n, n->cell_distance, n->cell_order, count, wanted);
    return wanted;
}
