/* What a build is asked for, and what that would take. */
#include <errno.h>
#include <inttypes.h>

#include "builder.h"
#include "degree.h"
#include "error.h"
#include "metric.h"
#include "planes.h"
#include "predict.h"
#include "queries.h"
#include "survey.h"
#include "vectors.h"

#define CHECKPOINT_NS 5000000000ull

struct build_options build_options_default(void)
{
    return (struct build_options){.metric = FATHOM_METRIC_L2,
                                  .alpha = 1.2,
                                  .code_bits = PLANES_MAX,
                                  .threads = 1,
                                  .checkpoint_ns = CHECKPOINT_NS,
                                  .env = env_os()};
}

int build_options_check(const struct build_options *o, struct fathom_error *err)
{
    if (o->metric < FATHOM_METRIC_L2 || o->metric > FATHOM_METRIC_COS)
        return error_set(err, FATHOM_EARGUMENT, "metric must be l2, ip or cos");
    if (o->degree && (o->degree < BUILD_DEGREE_MIN || o->degree > BUILD_DEGREE_MAX))
        return error_set(err, FATHOM_EARGUMENT, "degree %" PRIu32 " is not in %d..%d", o->degree,
                         BUILD_DEGREE_MIN, BUILD_DEGREE_MAX);
    if (o->build_list && (o->build_list < BUILD_LIST_MIN || o->build_list > BUILD_LIST_MAX))
        return error_set(err, FATHOM_EARGUMENT, "build list %" PRIu32 " is not in %d..%d",
                         o->build_list, BUILD_LIST_MIN, BUILD_LIST_MAX);
    if (!(o->alpha >= 1 && o->alpha <= 2))
        return error_set(err, FATHOM_EARGUMENT, "alpha %g is not in 1..2", o->alpha);
    if (o->code_bits < 1 || o->code_bits > 8)
        return error_set(err, FATHOM_EARGUMENT, "code bits %" PRIu32 " are not in 1..8",
                         o->code_bits);
    if (o->threads < 1 || o->threads > BUILD_THREADS_MAX)
        return error_set(err, FATHOM_EARGUMENT, "threads %u are not in 1..%d", o->threads,
                         BUILD_THREADS_MAX);
    return 0;
}

int build_options_check_budget(const struct build_options *options, uint64_t rows, uint32_t dim,
                               enum fathom_dtype dtype, struct fathom_error *err)
{
    bool exact = options->metric == FATHOM_METRIC_L2 && (dtype == FATHOM_U8 || dtype == FATHOM_I8);
    uint64_t least = predict_least(options, rows, metric_work_dim(options->metric, dim),
                                   exact ? 0 : dim * fathom_dtype_bytes(dtype));
    if (options->memory_budget_bytes == 0 || least <= options->memory_budget_bytes)
        return 0;
    return error_set(err, FATHOM_EBUDGET,
                     "%s%sa build of these rows needs about %" PRIu64
                     " MiB at the least, more than the memory budget of %" PRIu64 " MiB; "
                     "raise --memory-budget",
                     options->input ? options->input : "", options->input ? ": " : "",
                     (least >> 20) + 1, options->memory_budget_bytes >> 20);
}

/* By the header of their file. */
static int count_queries(const struct build_options *options, uint32_t dim, uint64_t *count,
                         struct fathom_error *err)
{
    struct queries queries;
    int status = queries_open(&queries, options, NULL, dim, err);
    *count = status == 0 ? queries.info.rows : 0;
    if (status == 0)
        queries_close(&queries);
    return status;
}

static int predict_input(const struct build_options *options, struct build_estimate *out,
                         struct fathom_error *err)
{
    struct build_options chosen = *options;
    struct predict_known known = {.slowness = 1};
    struct vector_file *file;
    int status = vector_file_open(&file, options->env, options->input, NULL, err);
    if (status != 0)
        return status;
    struct vector_info info = vector_file_info(file);
    *out = (struct build_estimate){.rows = info.rows, .dim = info.dim, .dtype = info.dtype};
    vector_file_close(file);
    chosen.code_bits =
        degree_code_bits(options, info.rows, metric_work_dim(options->metric, info.dim));
    status = build_options_check_budget(&chosen, info.rows, info.dim, info.dtype, err);
    if (status == 0)
        status = count_queries(options, info.dim, &known.queries, err);
    if (status == 0)
        status = survey_run(&chosen, &known, err);
    if (status == 0)
        predict_shape(&chosen, &known, NULL, out);
    return status;
}

int build_predict(const struct build_options *options, struct build_estimate *out,
                  struct fathom_error *err)
{
    struct build_options assumed = *options;
    int status = build_options_check(options, err);
    if (status != 0)
        return status;
    if (assumed.code_bits > PLANES_MAX)
        assumed.code_bits = PLANES_MAX;
    if (options->input)
        return predict_input(&assumed, out, err);
    if (out->rows < 1 || out->rows >= UINT32_MAX || out->dim < 1 || out->dim > FATHOM_DIM_MAX ||
        fathom_dtype_bytes(out->dtype) == 0)
        return error_set(err, FATHOM_EARGUMENT,
                         "rows must be in 1..%" PRIu32 " and the dimension in 1..%d",
                         UINT32_MAX - 1, FATHOM_DIM_MAX);
    assumed.code_bits =
        degree_code_bits(&assumed, out->rows, metric_work_dim(options->metric, out->dim));
    status = build_options_check_budget(&assumed, out->rows, out->dim, out->dtype, err);
    if (status != 0)
        return status;
    if (!assumed.degree)
        assumed.degree = DEGREE_USUAL;
    if (!assumed.build_list)
        assumed.build_list = degree_list(assumed.degree);
    struct predict_known known = {.slowness = 1};
    status = count_queries(options, out->dim, &known.queries, err);
    if (status == 0)
        predict_shape(&assumed, &known, NULL, out);
    return status;
}
