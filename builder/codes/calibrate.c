/* What a level must know of its own estimates: the range of the factors that it stores, and how far
 * estimates stray. */
#include <errno.h>
#include <float.h>
#include <math.h>

#include "train.h"

#define RANGE_BLOCK  512
#define QUERY_BLOCK  32
#define SCALE_MARGIN 2.0f  /* beyond the largest of the sample; there are 8 octaves below */
#define OFFSET_SPARE 0.25f /* of the sample's range, on either side */

struct range {
    float scale_max, offset_min, offset_max;
};

struct error_sum {
    double sum, squares,
        widths; /* of errors, their squares, and of what they scale with, squared */
    uint64_t count;
};

struct calibration {
    struct trained *trained;
    const struct train_rows *rows;
    const struct cells *cells;
    uint32_t dim;
    uint32_t sample;
    struct range *ranges;     /* blocks x levels */
    struct error_sum *errors; /* blocks x levels */
};

static uint32_t sample_row(const struct calibration *c, uint32_t i)
{
    return train_sample_row(c->rows->count, i, c->sample);
}

/* ---- ranges of the factors ---- */

static int range_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct calibration *c = context;
    const struct planes_model *planes = &c->trained->planes;
    struct range *ranges = c->ranges + block * planes->level_count;
    for (uint32_t l = 0; l < planes->level_count; l++)
        ranges[l] = (struct range){.offset_min = FLT_MAX, .offset_max = -FLT_MAX};
    struct residual residual = {0};
    int status = residual_init(&residual, c->dim, planes->code_dim);
    uint32_t begin = (uint32_t)block * RANGE_BLOCK, last_cell = UINT32_MAX;
    for (uint32_t i = begin; i < begin + RANGE_BLOCK && i < c->sample && status == 0; i++) {
        uint32_t row = sample_row(c, i), cell = cell_of_row(c->cells, row);
        const uint8_t *centroid = rows8_at(&c->cells->centroids, cell);
        if (cell != last_cell)
            residual_set_cell(&residual, planes, centroid, c->dim);
        last_cell = cell;
        residual_set_row(&residual, c->trained, train_row(c->rows, row), centroid, c->dim);
        struct planes_sums sums = {0};
        for (uint32_t l = 0; l < planes->level_count; l++) {
            planes_sums_advance(planes, l ? &planes->levels[l - 1] : NULL, &planes->levels[l],
                                residual.bits6, residual.y, residual.rotated_centroid, &sums);
            struct planes_factors f = planes_factors(&sums, residual.norm_sq);
            ranges[l].scale_max = fmaxf(ranges[l].scale_max, f.scale);
            ranges[l].offset_min = fminf(ranges[l].offset_min, f.offset);
            ranges[l].offset_max = fmaxf(ranges[l].offset_max, f.offset);
        }
    }
    residual_fini(&residual);
    return status;
}

int train_ranges(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                 const struct cells *cells)
{
    struct calibration c = {.trained = out, .rows = rows, .dim = rows->rows->dim, .cells = cells};
    uint32_t levels = out->planes.level_count;
    c.sample = rows->count < TRAIN_RANGE_ROWS ? rows->count : TRAIN_RANGE_ROWS;
    uint32_t blocks = (uint32_t)crew_blocks(c.sample, RANGE_BLOCK);
    c.ranges = mem_alloc_array((size_t)blocks * levels, sizeof *c.ranges);
    int status = c.ranges ? crew_run(crew, blocks, range_block, &c) : -ENOMEM;
    for (uint32_t l = 0; l < levels && status == 0; l++) {
        struct range all = c.ranges[l];
        for (uint32_t b = 1; b < blocks; b++) {
            const struct range *part = &c.ranges[(size_t)b * levels + l];
            all.scale_max = fmaxf(all.scale_max, part->scale_max);
            all.offset_min = fminf(all.offset_min, part->offset_min);
            all.offset_max = fmaxf(all.offset_max, part->offset_max);
        }
        float spare = OFFSET_SPARE * (all.offset_max - all.offset_min);
        planes_set_ranges(&out->levels[l], SCALE_MARGIN * all.scale_max, all.offset_min - spare,
                          all.offset_max + spare);
    }
    mem_free(c.ranges);
    return status;
}

/* ---- errors of the estimates ---- */

/* <P (q - o), yhat> as a search computes it, but for the rounding of the query. */
static double decoded_product(const struct planes_model *planes, const struct planes_level *level,
                              const float *rotated_query, const uint8_t *bits6)
{
    double product = 0;
    for (uint32_t g = 0; g < level->groups[0]; g++) {
        unsigned bits = 1;
        while (bits < PLANES_MAX && g < level->groups[bits])
            bits++;
        for (uint32_t d = g * PLANES_GROUP; d < (g + 1) * PLANES_GROUP; d++) {
            unsigned index = (bits6[d] >> (6 - bits)) << (7 - bits) | 1u << (6 - bits);
            double decoded = (planes->level_bytes[index] - 128) * (double)planes->level_quantum *
                             planes->sigma[d];
            product += rotated_query[d] * decoded;
        }
    }
    return product;
}

/* Adds the error of one estimate at each level. query->rotated_centroid is the rotated query. */
static void add_errors(const struct calibration *c, const struct residual *query,
                       const uint8_t *query_row, struct residual *near, uint32_t row,
                       struct error_sum *errors)
{
    const struct planes_model *planes = &c->trained->planes;
    const uint8_t *centroid = rows8_at(&c->cells->centroids, cell_of_row(c->cells, row));
    double base = rows8_distance(query_row, centroid, c->dim);
    double truth = rows8_distance(query_row, train_row(c->rows, row), c->dim);
    residual_set_cell(near, planes, centroid, c->dim);
    residual_set_row(near, c->trained, train_row(c->rows, row), centroid, c->dim);
    struct planes_sums sums = {0};
    for (uint32_t l = 0; l < planes->level_count; l++) {
        const struct planes_level *level = &planes->levels[l];
        planes_sums_advance(planes, l ? level - 1 : NULL, level, near->bits6, near->y,
                            near->rotated_centroid, &sums);
        struct planes_factors f =
            planes_unpack_factors(level, planes_pack_factors(level, &sums, near->norm_sq));
        double width = f.scale * sqrt(base);
        if (!(width > 0))
            continue;
        double product = decoded_product(planes, level, query->rotated_centroid, near->bits6);
        double error = base + f.offset - 2 * f.scale * product - truth;
        errors[l].sum += error;
        errors[l].squares += error * error;
        errors[l].widths += width * width;
        errors[l].count++;
    }
}

static int kappa_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct calibration *c = context;
    const struct planes_model *planes = &c->trained->planes;
    struct error_sum *errors = c->errors + block * planes->level_count;
    struct residual query = {0}, near = {0};
    int status = residual_init(&query, c->dim, planes->code_dim);
    if (status == 0)
        status = residual_init(&near, c->dim, planes->code_dim);
    uint32_t begin = (uint32_t)block * QUERY_BLOCK, ids[TRAIN_PAIRS];
    for (uint32_t i = begin; i < begin + QUERY_BLOCK && i < c->sample && status == 0; i++) {
        uint32_t row = sample_row(c, i), count = train_near_rows(c->rows, row, ids);
        const uint8_t *query_row = train_row(c->rows, row);
        residual_set_cell(&query, planes, query_row, c->dim);
        for (uint32_t j = 0; j < count; j++)
            add_errors(c, &query, query_row, &near, ids[j], errors);
    }
    residual_fini(&query);
    residual_fini(&near);
    return status;
}

/* The standard deviation over the width that it scales with, both over all pairs: dividing each
 * error by its own width would let rows that all but sit on their centroid, whose width is next to
 * nothing, speak for all. A bias that near rows share does not change who is nearer, so it does not
 * count. */
static float spread(const struct error_sum *all)
{
    if (all->count == 0 || !(all->widths > 0))
        return 0;
    double variance = all->squares - all->sum * all->sum / (double)all->count;
    return variance > 0 ? (float)sqrt(variance / all->widths) : 0;
}

int train_kappa(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                const struct cells *cells)
{
    struct calibration c = {.trained = out, .rows = rows, .dim = rows->rows->dim, .cells = cells};
    uint32_t levels = out->planes.level_count;
    c.sample = rows->count < TRAIN_QUERY_ROWS ? rows->count : TRAIN_QUERY_ROWS;
    uint32_t blocks = (uint32_t)crew_blocks(c.sample, QUERY_BLOCK);
    c.errors = mem_alloc_array((size_t)blocks * levels, sizeof *c.errors);
    int status = c.errors ? crew_run(crew, blocks, kappa_block, &c) : -ENOMEM;
    for (uint32_t l = 0; l < levels && status == 0; l++) {
        struct error_sum all = {0};
        for (uint32_t b = 0; b < blocks; b++) {
            all.sum += c.errors[(size_t)b * levels + l].sum;
            all.squares += c.errors[(size_t)b * levels + l].squares;
            all.widths += c.errors[(size_t)b * levels + l].widths;
            all.count += c.errors[(size_t)b * levels + l].count;
        }
        out->levels[l].kappa = spread(&all);
    }
    mem_free(c.errors);
    return status;
}
