/* The cells nearest to a query, and the centroids that say so. The cells navigator keeps them as
 * the file has them, half a byte a dimension: the distance to a centroid is that to the low of its
 * clump, and what the steps above it add, which one kernel sums up for all cells (nibble_sums). The
 * graph, which needs one here and one there, keeps 8-bit rows. */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "navigate.h"
#include "query.h"
#include "select.h"

#define CELL_BUCKETS NAVIGATOR_BUCKETS
#define SAMPLE       SCORE_BATCH /* distances that the limit is estimated from */

/* ---- at open ---- */

uint64_t rank_part_bytes(const struct properties *p, enum fathom_navigator navigator)
{
    if (navigator == FATHOM_NAVIGATOR_GRAPH)
        return size_round_up((uint64_t)p->cells * p->work_dim + 64, MEM_ALIGN);
    return size_round_up(centroids_bytes(p->cells, p->work_dim), MEM_ALIGN) +
           size_round_up(centroids_blocks(p->cells) * KERNEL_LANES * sizeof(float), MEM_ALIGN);
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
    index->ranks = (struct cell_ranks){centroids_of(bytes, p->cells, p->work_dim), excess};
    return status ? status : find_excess(index, excess, err);
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

/* ---- a query ---- */

/* The distances of the cells of one clump, of whose low the score is known. */
static void measure_clump(struct navigator *n, const struct query *query, uint32_t first,
                          uint32_t count, const struct kernel_score8 *low)
{
    const struct cell_ranks *ranks = &query->index->ranks;
    uint32_t dim = ranks->centroids.dim;
    const float *excess = ranks->excess + first;
    float *out = n->cell_distance + first;
    kernels_get()->nibble_sums(n->scores, n->weights, centroids_low(&ranks->centroids, first) + dim,
                               centroids_block(&ranks->centroids, first), dim,
                               centroids_blocks(count));
    float base = row8_distance(&query->row8, low), factor = 2 * 16 * query->row8.quantum;
    for (uint32_t i = 0; i < count; i++) {
        float distance = base + excess[i] - factor * n->scores[i];
        distance = distance > 0 ? distance : 0; /* what is not a number as well */
        out[i] = distance < FLT_MAX ? distance : FLT_MAX;
    }
}

static void measure_cells(struct navigator *n, const struct query *query)
{
    const struct kernel_query8 *weights = &query->row8.weights;
    const struct centroids *centroids = &query->index->ranks.centroids;
    uint32_t dim = centroids->dim, clumps = (uint32_t)centroids_clumps(centroids->cells);
    for (uint32_t d = 0; d < size_round_up(dim, 64); d++)
        n->weights[d] = (int16_t)(weights->hi[d] * 128 + weights->lo[d]);
    for (uint32_t clump = 0; clump < clumps; clump += CLUMPS_AT_ONCE) {
        uint32_t some = clumps - clump < CLUMPS_AT_ONCE ? clumps - clump : CLUMPS_AT_ONCE;
        kernels_get()->score8_rows(n->row_scores, weights,
                                   centroids->clumps + (size_t)clump * 2 * dim, 2 * (size_t)dim,
                                   some);
        for (uint32_t i = 0; i < some; i++) {
            uint32_t first = (clump + i) * CENTROIDS_CLUMP, left = centroids->cells - first;
            measure_clump(n, query, first, left < CENTROIDS_CLUMP ? left : CENTROIDS_CLUMP,
                          &n->row_scores[i]);
        }
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

/* Puts the wanted first of the count cells of cell_order, by distance up to a bucket's width, which
 * is all that a scan needs, at its front. */
static void bucket_sort(struct navigator *n, uint32_t count, uint32_t wanted)
{
    uint32_t *spare = n->cell_spare;
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
    for (uint32_t i = 0; i < count; i++) {
        uint32_t cell = n->cell_order[i],
                 at = n->bucket[(uint32_t)((n->cell_distance[cell] - low) * scale)]++;
        if (at < wanted)
            spare[at] = cell;
    }
    memcpy(n->cell_order, spare, wanted * sizeof *spare);
}

/* The wanted nearest cells, or a few more, into cell_order, in no order. Returns how many. The
 * limit comes from a sample: looking at each distance again would cost more than a few cells too
 * many. */
static uint32_t cells_below(struct navigator *n, uint32_t cells, uint32_t wanted)
{
    uint32_t count = 0;
    double share = 1.25 * wanted / cells;
    for (float limit = -INFINITY; count < wanted && limit < INFINITY; share *= 2) {
        limit = wanted == cells ? INFINITY : sample_rank(n, cells, share);
        count = (uint32_t)kernels_get()->below_f32(n->cell_order, n->cell_distance, cells, limit);
    }
    return count;
}

uint32_t rank_nearest(struct navigator *n, const struct query *query, uint32_t wanted)
{
    measure_cells(n, query);
    uint32_t count = cells_below(n, query->index->properties.cells, wanted);
    wanted = count < wanted ? count : wanted;
    bucket_sort(n, count, wanted);
    return wanted;
}
