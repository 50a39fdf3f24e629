/* Training, top-down: axes, then bits, then what the levels need to know of their own errors. */
#include "train.h"

#include <errno.h>

#include "error.h"

/* Codes whose factors are packed in two bytes: at the most, and bits a dimension. */
#define SHORT_CODE_BYTES 96
#define SHORT_CODE_BITS  2.75

/* Code sizes that are offered as levels, in bytes for 128 dimensions: fine where budgets decide,
 * coarse above. Other dimensions take them in proportion. */
static const uint32_t level_grid[PLANES_LEVELS_MAX] = {8,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19,
                                                       20, 21, 22, 23, 24, 25, 26, 27, 28, 30, 32,
                                                       34, 36, 40, 44, 48, 56, 64, 72, 80, 96};

/* The sizes for this dimension, rising and unique, the last one a full code. */
static uint32_t choose_levels(uint32_t code_dim, uint32_t order_count, uint32_t *code_bytes)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < PLANES_LEVELS_MAX; i++) {
        uint32_t bytes = (uint32_t)((uint64_t)level_grid[i] * code_dim / 128);
        bytes = bytes < 1 ? 1 : bytes;
        if (bytes < order_count && (count == 0 || bytes > code_bytes[count - 1]))
            code_bytes[count++] = bytes;
    }
    if (count == PLANES_LEVELS_MAX)
        count--;
    code_bytes[count++] = order_count;
    return count;
}

/* Two bytes of factors cost a code of b bits a dimension 1% of its precision at 2 bits, 3% at 2.5,
 * and 20% at 4; two bytes more of code win 10, 7 and 3% at 128 dimensions (docs/adr/0008). */
static uint32_t factor_bytes(uint32_t code_dim, uint32_t code_bytes)
{
    return code_bytes <= SHORT_CODE_BYTES && 8 * code_bytes <= SHORT_CODE_BITS * code_dim ? 2 : 4;
}

uint32_t train_factor_bytes(uint32_t code_dim, uint32_t order_count)
{
    uint32_t code_bytes[PLANES_LEVELS_MAX], bytes = 0;
    uint32_t count = choose_levels(code_dim, order_count, code_bytes);
    for (uint32_t l = 0; l < count; l++)
        bytes += factor_bytes(code_dim, code_bytes[l]);
    return bytes;
}

static int allot(struct trained *out, uint32_t code_bits)
{
    struct planes_model *planes = &out->planes;
    uint32_t code_bytes[PLANES_LEVELS_MAX];
    planes->order_count = code_bits * planes->code_dim / PLANES_GROUP;
    planes->level_count = choose_levels(planes->code_dim, planes->order_count, code_bytes);
    out->order = mem_alloc_array(planes->order_count, sizeof *out->order);
    out->levels = mem_alloc_array(planes->level_count, sizeof *out->levels);
    if (!out->order || !out->levels)
        return -ENOMEM;
    planes_allot(planes->code_dim, out->weight, planes->order_count, out->order,
                 planes->level_count, code_bytes, out->levels);
    for (uint32_t l = 0; l < planes->level_count; l++)
        out->levels[l].factor_bytes = factor_bytes(planes->code_dim, code_bytes[l]);
    planes->order = out->order;
    planes->levels = out->levels;
    return 0;
}

/* The mean of the centroids, to the nearest step. */
static int train_origin(struct trained *out, const struct cells *cells)
{
    uint32_t dim = cells->centroids.dim;
    out->origin = mem_alloc(dim);
    out->planes.origin = out->origin;
    for (uint32_t d = 0; d < dim && out->origin; d++) {
        uint64_t sum = 0;
        for (uint32_t c = 0; c < cells->count; c++)
            sum += rows8_at(&cells->centroids, c)[d];
        out->origin[d] = (uint8_t)((sum + cells->count / 2) / cells->count);
    }
    return out->origin ? 0 : -ENOMEM;
}

/* ---- rows by their numbers ---- */

static uint32_t place_of(const uint32_t *numbers, uint32_t count, uint32_t number)
{
    uint32_t low = 0, high = count;
    if (!numbers)
        return number;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (numbers[middle] <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

const uint8_t *train_row(const struct train_rows *rows, uint32_t number)
{
    return rows8_at(rows->rows, place_of(rows->row_numbers, rows->rows->count, number));
}

static const uint32_t *list_of(const struct train_rows *rows, uint32_t number)
{
    return graph_list(rows->graph, place_of(rows->list_numbers, rows->graph->rows, number));
}

/* Neighbours and theirs, at an even stride. */
uint32_t train_near_rows(const struct train_rows *rows, uint32_t number, uint32_t *out)
{
    const uint32_t *list = list_of(rows, number);
    uint32_t count = 0;
    for (uint32_t i = 1; i <= list[0] && count < TRAIN_PAIRS; i++) {
        out[count++] = list[i];
        const uint32_t *second = list_of(rows, list[i]);
        uint32_t pick = second[0] ? second[1 + (number + i) % second[0]] : number;
        if (pick != number && count < TRAIN_PAIRS)
            out[count++] = pick;
    }
    return count;
}

/* ---- the whole ---- */

int train_build(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                const struct cells *cells, uint32_t code_bits, struct fathom_error *err)
{
    uint32_t dim = rows->rows->dim;
    *out = (struct trained){.planes.dim = dim};
    out->planes.code_dim = size_round_up(dim, PLANES_GROUP);
    planes_thresholds(out->thresholds);
    out->level_bytes = mem_alloc(128);
    out->planes.level_bytes = out->level_bytes;
    int status = out->level_bytes ? train_origin(out, cells) : -ENOMEM;
    if (status == 0) {
        planes_level_table(out->level_bytes, &out->planes.level_quantum);
        status = train_rotation(out, crew, rows, cells);
    }
    if (status == 0)
        status = allot(out, code_bits);
    if (status == 0)
        status = train_ranges(out, crew, rows, cells);
    if (status == 0)
        status = train_kappa(out, crew, rows, cells);
    if (status == 0)
        return 0;
    train_fini(out);
    return error_set(err, status, "train: %s", fathom_strerror(status));
}

void train_fini(struct trained *trained)
{
    mem_free(trained->rotation);
    mem_free(trained->rotation_scale);
    mem_free(trained->sigma);
    mem_free(trained->weight);
    mem_free(trained->order);
    mem_free(trained->levels);
    mem_free(trained->level_bytes);
    mem_free(trained->origin);
    *trained = (struct trained){0};
}

/* ---- residuals ---- */

int residual_init(struct residual *residual, uint32_t dim, uint32_t code_dim)
{
    residual->units = mem_alloc_array(dim, sizeof(float));
    residual->y = mem_alloc_array(code_dim, sizeof(float));
    residual->rotated_centroid = mem_alloc_array(code_dim, sizeof(float));
    residual->bits6 = mem_alloc(code_dim);
    if (residual->units && residual->y && residual->rotated_centroid && residual->bits6)
        return 0;
    residual_fini(residual);
    return -ENOMEM;
}

void residual_fini(struct residual *residual)
{
    mem_free(residual->units);
    mem_free(residual->y);
    mem_free(residual->rotated_centroid);
    mem_free(residual->bits6);
    *residual = (struct residual){0};
}

void residual_set_cell(struct residual *residual, const struct planes_model *planes,
                       const uint8_t *centroid, uint32_t dim)
{
    for (uint32_t d = 0; d < dim; d++)
        residual->units[d] = (float)((int32_t)centroid[d] - planes->origin[d]);
    planes_rotate(planes, residual->units, residual->rotated_centroid);
}

void residual_set_row(struct residual *residual, const struct trained *trained, const uint8_t *row,
                      const uint8_t *centroid, uint32_t dim)
{
    int64_t norm_sq = 0;
    for (uint32_t d = 0; d < dim; d++) {
        int32_t difference = (int32_t)row[d] - centroid[d];
        residual->units[d] = (float)difference;
        norm_sq += difference * difference;
    }
    residual->norm_sq = (double)norm_sq;
    planes_rotate(&trained->planes, residual->units, residual->y);
    planes_quantise(&trained->planes, trained->thresholds, residual->y, residual->bits6);
}

uint32_t cell_of_row(const struct cells *cells, uint32_t row)
{
    uint32_t low = 0, high = cells->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (cells->first[middle] <= row)
            low = middle;
        else
            high = middle;
    }
    return low;
}
