/* Principal axes: second moments of a sample of residuals by BLAS, eigenvectors by LAPACK, rows
 * rounded to int8. The moments are summed in a fixed number of lanes, so that no sum depends on the
 * threads. */
#include <cblas.h>
#include <errno.h>
#include <lapacke.h>
#include <math.h>

#include "train.h"

#define LANE_ROWS   512 /* of one product */
#define STATS_BLOCK 512
#define WEIGHT_POWER                                                                               \
    1.7 /* an axis matters by its variance for the error, and again, less so, for queries */

struct moments {
    const struct train_rows *rows;
    const struct cells *cells;
    uint32_t sample, lanes;
    float **sums; /* lanes x dim x dim, upper triangles */
};

static uint32_t lane_count(uint32_t dim)
{
    return dim <= 1024 ? TRAIN_LANES_MAX : dim <= 2048 ? 4 : 2;
}

/* The matrix and those of the lanes; later the matrix, and the work space of LAPACK. */
uint64_t train_axes_bytes(uint32_t dim)
{
    return (uint64_t)(1 + lane_count(dim)) * dim * dim * sizeof(float);
}

/* A lane takes every lanes-th product. */
static int lane_block(void *context, uint64_t lane, unsigned worker)
{
    (void)worker;
    struct moments *m = context;
    uint32_t dim = m->rows->rows->dim;
    float *residuals = mem_alloc_array((size_t)LANE_ROWS * dim, sizeof *residuals);
    if (!residuals)
        return -ENOMEM;
    for (uint32_t begin = (uint32_t)lane * LANE_ROWS; begin < m->sample;
         begin += m->lanes * LANE_ROWS) {
        uint32_t count = m->sample - begin < LANE_ROWS ? m->sample - begin : LANE_ROWS;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t row = train_sample_row(m->rows->count, begin + i, m->sample);
            const uint8_t *x = train_row(m->rows, row);
            const uint8_t *c = rows8_at(&m->cells->centroids, cell_of_row(m->cells, row));
            for (uint32_t d = 0; d < dim; d++)
                residuals[(size_t)i * dim + d] = (float)((int32_t)x[d] - c[d]);
        }
        cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, dim, count, 1.0f, residuals, dim, 1.0f,
                    m->sums[lane], dim);
    }
    mem_free(residuals);
    return 0;
}

/* The second moments over the sample, as an upper triangle by rows. */
static int second_moments(const struct crew *crew, const struct train_rows *rows,
                          const struct cells *cells, float *out)
{
    struct moments m = {.rows = rows, .cells = cells};
    size_t cells_of_matrix = (size_t)rows->rows->dim * rows->rows->dim;
    m.sample = rows->count < TRAIN_AXES_ROWS ? rows->count : TRAIN_AXES_ROWS;
    m.lanes = lane_count(rows->rows->dim);
    float *lanes[TRAIN_LANES_MAX] = {0};
    m.sums = lanes;
    int status = 0;
    for (uint32_t l = 0; l < m.lanes && status == 0; l++) {
        lanes[l] = mem_alloc_array(cells_of_matrix, sizeof(float));
        status = lanes[l] ? 0 : -ENOMEM;
    }
    if (status == 0)
        status = crew_run(crew, m.lanes, lane_block, &m);
    for (uint32_t l = 0; l < m.lanes; l++) {
        for (size_t i = 0; i < cells_of_matrix && status == 0; i++)
            out[i] += lanes[l][i];
        mem_free(lanes[l]);
    }
    return status;
}

/* One axis to int8, its largest component positive, whatever sign LAPACK chose. */
static void quantise_axis(const float *axis, uint32_t dim, int8_t *out, float *scale)
{
    uint32_t largest = 0;
    for (uint32_t d = 1; d < dim; d++)
        if (fabsf(axis[d]) > fabsf(axis[largest]))
            largest = d;
    float peak = axis[largest];
    *scale = fabsf(peak) / 127;
    for (uint32_t d = 0; d < dim; d++)
        out[d] = (int8_t)lrintf(axis[d] / peak * 127);
}

/* With a workspace of our own: LAPACKE_ssyevd passes its size through a float, too coarse from
 * 2,897 dimensions on. */
static int eigenvectors(float *matrix, uint32_t dim, float *variance)
{
    lapack_int n = (lapack_int)dim, work_count = 1 + 6 * n + 2 * n * n;
    lapack_int integer_count = 3 + 5 * n;
    float *work = mem_alloc_array((size_t)work_count, sizeof *work);
    lapack_int *integers = mem_alloc_array((size_t)integer_count, sizeof *integers);
    int status = -ENOMEM;
    if (work && integers &&
        LAPACKE_ssyevd_work(LAPACK_COL_MAJOR, 'V', 'L', n, matrix, n, variance, work, work_count,
                            integers, integer_count) == 0)
        status = 0;
    mem_free(work);
    mem_free(integers);
    return status;
}

static int find_axes(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                     const struct cells *cells)
{
    uint32_t dim = rows->rows->dim;
    float *matrix = mem_alloc_array((size_t)dim * dim, sizeof *matrix);
    float *variance = mem_alloc_array(dim, sizeof *variance);
    int status = matrix && variance ? second_moments(crew, rows, cells, matrix) : -ENOMEM;
    /* An upper triangle by rows is a lower one by columns; the eigenvectors come back one after the
     * other, rising. */
    if (status == 0)
        status = eigenvectors(matrix, dim, variance);
    for (uint32_t d = 0; d < dim && status == 0; d++)
        quantise_axis(matrix + (size_t)(dim - 1 - d) * dim, dim, out->rotation + (size_t)d * dim,
                      &out->rotation_scale[d]);
    mem_free(matrix);
    mem_free(variance);
    return status;
}

/* ---- variances along the axes ---- */

struct stats {
    struct trained *trained;
    const struct train_rows *rows;
    const struct cells *cells;
    uint32_t sample;
    double *sums; /* blocks x 2 x code_dim: y^2, and (y / |y|)^2 */
};

static int stats_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct stats *stats = context;
    const struct planes_model *planes = &stats->trained->planes;
    uint32_t code_dim = planes->code_dim, begin = (uint32_t)block * STATS_BLOCK;
    uint32_t dim = stats->rows->rows->dim;
    double *plain = stats->sums + block * 2 * code_dim, *scaled = plain + code_dim;
    struct residual residual = {0};
    int status = residual_init(&residual, dim, code_dim);
    for (uint32_t i = begin; i < begin + STATS_BLOCK && i < stats->sample && status == 0; i++) {
        uint32_t row = train_sample_row(stats->rows->count, i, stats->sample);
        const uint8_t *centroid =
            rows8_at(&stats->cells->centroids, cell_of_row(stats->cells, row));
        residual_set_row(&residual, stats->trained, train_row(stats->rows, row), centroid, dim);
        double norm_sq = 0;
        for (uint32_t d = 0; d < code_dim; d++)
            norm_sq += (double)residual.y[d] * residual.y[d];
        for (uint32_t d = 0; d < code_dim && norm_sq > 0; d++) {
            double square = (double)residual.y[d] * residual.y[d];
            plain[d] += square;
            scaled[d] += square / norm_sq;
        }
    }
    residual_fini(&residual);
    return status;
}

static int measure_axes(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                        const struct cells *cells)
{
    struct stats stats = {.trained = out, .rows = rows, .cells = cells};
    uint32_t code_dim = out->planes.code_dim;
    stats.sample = rows->count < TRAIN_STATS_ROWS ? rows->count : TRAIN_STATS_ROWS;
    uint32_t blocks = (uint32_t)crew_blocks(stats.sample, STATS_BLOCK);
    stats.sums = mem_alloc_array((size_t)blocks * 2 * code_dim, sizeof *stats.sums);
    if (!stats.sums)
        return -ENOMEM;
    int status = crew_run(crew, blocks, stats_block, &stats);
    double length_sq =
        0; /* mean of |y|^2: sigma is in row units, so that the length of a row is about 1 to it */
    for (uint32_t d = 0; d < code_dim && status == 0; d++) {
        double plain = 0, scaled = 0;
        for (uint32_t b = 0; b < blocks; b++) {
            plain += stats.sums[(size_t)b * 2 * code_dim + d];
            scaled += stats.sums[((size_t)b * 2 + 1) * code_dim + d];
        }
        length_sq += plain / stats.sample;
        out->sigma[d] = (float)sqrt(scaled / stats.sample);
        out->weight[d] = pow(plain / stats.sample, WEIGHT_POWER);
        if (d > 0 && out->weight[d] > out->weight[d - 1])
            out->weight[d] = out->weight[d - 1];
    }
    for (uint32_t d = 0; d < code_dim; d++)
        out->sigma[d] *= (float)sqrt(length_sq);
    mem_free(stats.sums);
    return status;
}

int train_rotation(struct trained *out, const struct crew *crew, const struct train_rows *rows,
                   const struct cells *cells)
{
    struct planes_model *planes = &out->planes;
    uint32_t code_dim = planes->code_dim;
    out->rotation = mem_alloc_array(code_dim, rows->rows->dim);
    out->rotation_scale = mem_alloc_array(code_dim, sizeof *out->rotation_scale);
    out->sigma = mem_alloc_array(code_dim, sizeof *out->sigma);
    out->weight = mem_alloc_array(code_dim, sizeof *out->weight);
    if (!out->rotation || !out->rotation_scale || !out->sigma || !out->weight)
        return -ENOMEM;
    planes->rotation = out->rotation;
    planes->rotation_scale = out->rotation_scale;
    planes->sigma = out->sigma;
    int status = find_axes(out, crew, rows, cells);
    return status == 0 ? measure_axes(out, crew, rows, cells) : status;
}
