/* The sample takes the way of a build up to the probe for R: 8-bit rows, cells, order. Some
 * seconds at the most, whatever the file. */
#include "survey.h"

#include <errno.h>

#include "degree.h"
#include "error.h"
#include "input.h"
#include "metric.h"
#include "order.h"
#include "pace.h"
#include "predict.h"
#include "range8.h"

#define STRETCHES    4096
#define STRETCH_ROWS 4

struct sample {
    struct input input; /* its rows are those of the sample */
    uint32_t count;
    float *values; /* count x work_dim */
};

static void sample_fini(struct sample *sample)
{
    mem_free(sample->values);
    input_close(&sample->input);
}

/* Stretches of rows, evenly spread; or all rows, when there are no more. */
static int read_values(struct sample *sample, struct fathom_error *err)
{
    const struct input *input = &sample->input;
    const struct vector_info *info = &input->info;
    uint64_t rows = info->rows, all = (uint64_t)STRETCHES * STRETCH_ROWS;
    size_t row_bytes = info->dim * vectors_scalar_bytes(info->dtype);
    sample->count = (uint32_t)(rows < all ? rows : all);
    sample->values = mem_alloc_array((size_t)sample->count * input->work_dim, sizeof(float));
    uint8_t *raw = mem_alloc_array(STRETCH_ROWS, row_bytes);
    int status = sample->values && raw ? 0 : error_set(err, -ENOMEM, "no memory for a sample");
    for (uint32_t at = 0, take; at < sample->count && status == 0; at += take) {
        take = sample->count - at < STRETCH_ROWS ? sample->count - at : STRETCH_ROWS;
        uint64_t first = (uint64_t)at * (rows - sample->count) / sample->count + at;
        status = vector_file_read(input->file, first, take, raw, err);
        for (uint32_t i = 0; i < take && status == 0; i++)
            vectors_to_f32(info->dtype, raw + i * row_bytes, info->dim,
                           sample->values + (size_t)(at + i) * input->work_dim);
    }
    mem_free(raw);
    return status;
}

static int make_rows(struct sample *sample, struct fathom_error *err)
{
    struct input *input = &sample->input;
    uint32_t dim = input->work_dim, count = sample->count;
    struct row8_model model = {.dim = dim, .step = 1};
    model.mean = input->mean = mem_alloc_array(dim, sizeof *input->mean);
    uint8_t *row8 = mem_alloc(dim);
    int status = input->mean && row8 ? rows8_init(&input->rows, count, dim) : -ENOMEM;
    for (uint32_t i = 0; i < count && status == 0; i++) {
        double norm =
            metric_work_row(FATHOM_METRIC_L2, input->info.dim, 0, sample->values + (size_t)i * dim,
                            sample->values + (size_t)i * dim);
        if (input->metric == FATHOM_METRIC_IP && norm > input->max_norm * input->max_norm)
            input->max_norm = __builtin_sqrt(norm);
    }
    for (uint32_t i = 0; i < count && status == 0; i++) {
        float *row = sample->values + (size_t)i * dim;
        (void)metric_work_row(input->metric, input->info.dim, input->max_norm, row, row);
    }
    for (uint32_t d = 0; d < dim && status == 0 && input->exact; d++)
        input->mean[d] = input->info.dtype == FATHOM_U8 ? 128 : 0;
    if (status == 0 && !input->exact)
        status = range8_choose(sample->values, count, dim, input->mean, &model.step);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        row8_encode(&model, sample->values + (size_t)i * dim, row8);
        rows8_set(&input->rows, i, row8);
    }
    mem_free(row8);
    return status == 0 ? 0 : error_set(err, status, "sample: %s", fathom_strerror(status));
}

/* R is probed even when it was given: for the time that it takes. */
static int probe(struct sample *sample, struct build_options *options, struct predict_known *out,
                 struct fathom_error *err)
{
    struct crew crew = {.threads = options->threads, .watch = {.stopped = options->watch.stopped}};
    struct build_options probed = *options;
    struct cells cells;
    struct rows8 *rows = &sample->input.rows;
    probed.degree = probed.build_list = 0;
    /* As much of it for each row as the whole will have. */
    probed.dram_budget_bytes = (uint64_t)((double)options->dram_budget_bytes * rows->count /
                                          (double)sample->input.info.rows);
    int status = cells_build(&cells, &crew, rows, options->seed, NULL, err);
    if (status == 0)
        status = order_build(&cells, &crew, rows, NULL, err);
    if (status == 0)
        status = order_apply(rows, cells.rows, err);
    struct rows8 probe_rows = {0};
    if (status == 0 && degree_sample(&probe_rows, rows) != 0)
        status = error_set(err, -ENOMEM, "sample: no memory for its rows");
    uint64_t start = env_clock_ns(options->env);
    if (status == 0)
        status =
            degree_choose(&probed, &crew, &probe_rows, rows->count, rows->dim, &out->probe, err);
    rows8_fini(&probe_rows);
    struct predict_timed timed = {.probe_ns = env_clock_ns(options->env) - start,
                                  .probe = out->probe};
    if (status == 0)
        status = pace_measure(&crew, options->env, &timed.pace, err);
    if (status == 0)
        out->slowness = predict_slowness(&probed, rows->count, rows->dim, &timed);
    cells_fini(&cells);
    options->degree = options->degree ? options->degree : probed.degree;
    return status;
}

int survey_run(struct build_options *options, struct predict_known *out, struct fathom_error *err)
{
    struct sample sample = {0};
    int status = input_open(&sample.input, options->env, options->input, options->metric, err);
    if (status != 0)
        return status;
    status = read_values(&sample, err);
    if (status == 0)
        status = make_rows(&sample, err);
    if (status == 0)
        status = probe(&sample, options, out, err);
    sample_fini(&sample);
    if (status == 0 && options->build_list == 0)
        options->build_list = degree_list(options->degree);
    return status;
}
