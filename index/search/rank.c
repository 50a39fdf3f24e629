/* The cells nearest to a query. With codes resident, all centroids are looked at first by 4 bits in
 * each of a few leading dimensions, sliced (codec/coarse.h says why that is fast), and only the
 * best are measured; with 8-bit rows resident, all are measured. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "error.h"
#include "navigate.h"
#include "query.h"
#include "select.h"

#define CELL_BUCKETS NAVIGATOR_BUCKETS
#define SAMPLE       SCORE_BATCH /* distances that the limit is estimated from */
#define LOOKED_FOR   3           /* cells measured for each that is wanted */
#define LEVELS       16          /* of a dimension */

/* ---- at open ---- */

/* A quarter of them ranks well: as principal axes they have most of the distance. */
static uint32_t rank_dims(const struct properties *p, const struct planes_level *level)
{
    uint32_t coded = planes_coded_dim(level), dims = p->work_dim / 4;
    dims = dims < RANK_DIMS_LEAST ? RANK_DIMS_LEAST : dims > RANK_DIMS_MAX ? RANK_DIMS_MAX : dims;
    return coded < dims ? coded : dims;
}

uint64_t rank_part_bytes(const struct properties *p, const struct planes_level *level)
{
    uint64_t lanes = size_round_up(p->cells, KERNEL_LANES);
    return size_round_up(lanes * ((rank_dims(p, level) + 1) / 2), MEM_ALIGN) +
           size_round_up(lanes * sizeof(float), MEM_ALIGN) +
           size_round_up(2 * RANK_DIMS_MAX * sizeof(float), MEM_ALIGN);
}

/* The leading dimensions of a centroid, from the origin. Returns the squared distance from there in
 * these dimensions: with those that the query is not compared in, ranks are much worse. */
static float rotate_centroid(const struct fathom_index *index, uint32_t cell, float *units,
                             uint32_t dims, float *y)
{
    const struct planes_model *model = &index->model.planes;
    const uint8_t *centroid = index->centroids + (size_t)cell * model->dim;
    float norm = 0;
    for (uint32_t d = 0; d < model->dim; d++)
        units[d] = (float)((int32_t)centroid[d] - model->origin[d]);
    kernels_get()->matvec_i8(y, model->rotation, model->rotation_scale, units, dims, model->dim);
    for (uint32_t d = 0; d < dims; d++)
        norm += y[d] * y[d];
    return norm;
}

static void find_ranges(const struct fathom_index *index, float *units, uint32_t dims, float *low,
                        float *step)
{
    float y[RANK_DIMS_MAX], high[RANK_DIMS_MAX];
    for (uint32_t cell = 0; cell < index->properties.cells; cell++) {
        rotate_centroid(index, cell, units, dims, y);
        for (uint32_t d = 0; d < dims; d++) {
            low[d] = cell == 0 || y[d] < low[d] ? y[d] : low[d];
            high[d] = cell == 0 || y[d] > high[d] ? y[d] : high[d];
        }
    }
    for (uint32_t d = 0; d < dims; d++)
        step[d] = (high[d] - low[d]) / (LEVELS - 1);
}

static void slice_centroids(const struct fathom_index *index, float *units, uint32_t dims,
                            uint8_t *blocks, float *norms)
{
    const float *low = index->ranks.low, *step = index->ranks.step;
    uint32_t columns = (dims + 1) / 2;
    for (uint32_t cell = 0; cell < index->properties.cells; cell++) {
        float y[RANK_DIMS_MAX];
        norms[cell] = rotate_centroid(index, cell, units, dims, y);
        uint8_t *at =
            blocks + (size_t)(cell / KERNEL_LANES) * columns * KERNEL_LANES + cell % KERNEL_LANES;
        for (uint32_t d = 0; d < dims; d++) {
            float level = step[d] > 0 ? (y[d] - low[d]) / step[d] + 0.5f : 0;
            unsigned nibble = level < LEVELS - 1 ? (unsigned)level : LEVELS - 1;
            at[d / 2 * KERNEL_LANES] |= (uint8_t)(nibble << 4 * (d % 2));
        }
    }
}

int rank_load(struct fathom_index *index, struct fathom_error *err)
{
    uint32_t dims = rank_dims(&index->properties, &index->level), columns = (dims + 1) / 2;
    uint64_t lanes = size_round_up(index->properties.cells, KERNEL_LANES);
    uint8_t *blocks = residency_take(index, PART_CELLS, lanes * columns, err);
    float *norms = residency_take(index, PART_CELLS, lanes * sizeof *norms, err);
    float *ranges = residency_take(index, PART_CELLS, 2 * RANK_DIMS_MAX * sizeof *ranges, err);
    float *units = mem_alloc(index->model.planes.dim * sizeof *units);
    int status = blocks && norms && ranges && units ? 0 : -ENOMEM;
    if (status == 0) {
        memset(blocks, 0, lanes * columns);
        index->ranks = (struct cell_ranks){.dims = dims,
                                           .blocks = blocks,
                                           .norms = norms,
                                           .low = ranges,
                                           .step = ranges + RANK_DIMS_MAX};
        find_ranges(index, units, dims, ranges, ranges + RANK_DIMS_MAX);
        slice_centroids(index, units, dims, blocks, norms);
    } else {
        error_set(err, status, "%s: no memory to rank cells", index->file.path);
    }
    mem_free(units);
    return status;
}

/* ---- a query ---- */

/* Tables for <P (q - o), P (c - o)> in the leading dimensions: it is factor * sum and a constant,
 * which does not matter for ranking. Returns factor. */
static float rank_tables(struct navigator *n, const struct cell_ranks *ranks)
{
    uint32_t columns = (ranks->dims + 1) / 2;
    uint8_t *high = n->rank_tables + coarse_table_bytes(columns) / 2;
    float widest = 0;
    for (uint32_t d = 0; d < ranks->dims; d++)
        widest = fmaxf(widest, fabsf(n->rotated[d]) * ranks->step[d] * (LEVELS - 1));
    float factor = coarse_step(widest);
    memset(n->rank_tables, 0, coarse_table_bytes(columns));
    for (uint32_t d = 0; d < ranks->dims; d++) {
        float slope = n->rotated[d] * ranks->step[d] / factor;
        uint8_t *table = (d % 2 ? high : n->rank_tables) + (size_t)(d / 2) * LEVELS;
        for (int level = 0; level < LEVELS; level++)
            table[level] = coarse_entry(slope < 0 ? -slope * (float)(LEVELS - 1 - level)
                                                  : slope * (float)level);
    }
    return factor;
}

/* cell_distance of all cells, less a constant, by what a first look tells. */
static void look_at_cells(struct navigator *n, const struct fathom_index *index)
{
    const struct cell_ranks *ranks = &index->ranks;
    uint32_t cells = index->properties.cells, columns = (ranks->dims + 1) / 2;
    float factor = -2 * rank_tables(n, ranks);
    for (uint32_t first = 0; first < cells; first += SCORE_BATCH) {
        uint32_t count = cells - first < SCORE_BATCH ? cells - first : SCORE_BATCH;
        kernels_get()->sliced_sums(n->scores, n->rank_tables,
                                   ranks->blocks + (size_t)first * columns, columns,
                                   (count + KERNEL_LANES - 1) / KERNEL_LANES);
        for (uint32_t i = 0; i < count; i++)
            n->cell_distance[first + i] = ranks->norms[first + i] + factor * n->scores[i];
    }
}

/* Measures the count cells of cell_order. */
static void measure_cells(struct navigator *n, const struct query *query, uint32_t count)
{
    const struct fathom_index *index = query->index;
    for (uint32_t first = 0; first < count; first += SCORE_BATCH) {
        uint32_t some = count - first < SCORE_BATCH ? count - first : SCORE_BATCH;
        const uint32_t *cells = n->cell_order + first;
        kernels_get()->score8_gather(n->row_scores, &query->row8.weights, index->centroids,
                                     index->properties.work_dim, cells, some);
        for (uint32_t i = 0; i < some; i++)
            n->cell_distance[cells[i]] = row8_distance(&query->row8, &n->row_scores[i]);
    }
}

static void measure_all(struct navigator *n, const struct query *query)
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
    const struct fathom_index *index = query->index;
    uint32_t cells = index->properties.cells, count;
    if (index->ranks.blocks && (uint64_t)LOOKED_FOR * wanted < cells) {
        look_at_cells(n, index);
        count = cells_below(n, cells, LOOKED_FOR * wanted);
        measure_cells(n, query, count);
    } else {
        measure_all(n, query);
        count = cells_below(n, cells, wanted);
    }
    bucket_sort(n, count, n->cell_spare);
    return count < wanted ? count : wanted;
}
