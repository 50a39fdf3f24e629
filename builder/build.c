/* The build from start to end; each stage is a file of its own. What a stage no longer needs is
 * freed before the next. */
#include <cblas.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "builder.h"
#include "degree.h"
#include "error.h"
#include "ids.h"
#include "lock.h"
#include "order.h"
#include "points.h"
#include "predict.h"
#include "write.h"

#define MEASURED_ROWS_MIN 2000

struct build {
    struct build_options options; /* with R and L once chosen */
    double probed_degree;
    struct crew crew;
    int lock;
    struct input input;
    uint64_t *ids;
    struct cells cells;
    struct graph graph;
    struct trained trained;
    struct encoded_codes codes;
    struct encoded_lists lists;
    struct index_writer *writer; /* written, not published yet */
    double mean_degree;
    struct build_report *report;
};

struct build_options build_options_default(void)
{
    return (struct build_options){.metric = FATHOM_METRIC_L2,
                                  .alpha = 1.2,
                                  .code_bits = PLANES_MAX,
                                  .threads = 1,
                                  .env = env_os()};
}

const char *build_stage_name(enum build_stage stage)
{
    static const char *const names[BUILD_STAGES] = {"read",  "cells",  "order", "graph",
                                                    "train", "encode", "write", "measure"};
    return stage < BUILD_STAGES ? names[stage] : "?";
}

/* ---- before ---- */

static int check_options(const struct build_options *o, struct fathom_error *err)
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

/* For what must be known before the data is: the larger of what may be chosen. */
static struct build_options assume_degree(const struct build_options *options)
{
    struct build_options assumed = *options;
    if (!assumed.degree)
        assumed.degree = DEGREE_HARD;
    if (!assumed.build_list)
        assumed.build_list = 2 * assumed.degree;
    return assumed;
}

int build_predict(const struct build_options *options, struct build_estimate *out,
                  struct fathom_error *err)
{
    struct build_options assumed = assume_degree(options);
    int status = check_options(options, err);
    if (status == 0 && options->input) {
        struct vector_file *file;
        status = vector_file_open(&file, options->env, options->input, NULL, err);
        if (status == 0) {
            struct vector_info info = vector_file_info(file);
            *out = (struct build_estimate){.rows = info.rows, .dim = info.dim, .dtype = info.dtype};
            vector_file_close(file);
        }
    }
    if (status != 0)
        return status;
    if (out->rows < 1 || out->rows >= UINT32_MAX || out->dim < 1 || out->dim > FATHOM_DIM_MAX ||
        fathom_dtype_bytes(out->dtype) == 0)
        return error_set(err, FATHOM_EARGUMENT,
                         "rows must be in 1..%" PRIu32 " and the dimension in 1..%d",
                         UINT32_MAX - 1, FATHOM_DIM_MAX);
    predict_shape(&assumed, out);
    return 0;
}

static int check_budget(const struct build *build, struct fathom_error *err)
{
    struct build_options assumed = assume_degree(&build->options), *options = &assumed;
    struct build_estimate estimate = {.rows = build->input.info.rows,
                                      .dim = build->input.info.dim,
                                      .dtype = build->input.info.dtype};
    predict_shape(options, &estimate);
    if (options->memory_budget_bytes == 0 || estimate.peak_bytes <= options->memory_budget_bytes)
        return 0;
    return error_set(
        err, FATHOM_EBUDGET,
        "%s: a build in memory needs about %" PRIu64 " MiB, more than the memory budget of %" PRIu64
        " MiB; raise --memory-budget, or lower --degree or --code-bits",
        options->input, (estimate.peak_bytes >> 20) + 1, options->memory_budget_bytes >> 20);
}

/* ---- stages ---- */

static int stage_read(struct build *build, struct fathom_error *err)
{
    const struct build_options *options = &build->options;
    int status = input_open(&build->input, options->env, options->input, options->metric, err);
    if (status == 0)
        status = check_budget(build, err);
    if (status == 0 && options->ids)
        status = ids_read(&build->ids, options->env, options->ids, build->input.info.rows, err);
    if (status == 0)
        status = lock_directory(options->env, options->out, err);
    if (status < 0)
        return status;
    build->lock = status;
    return input_read(&build->input, &build->crew, options->skip_zero_rows, err);
}

static int stage_cells(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "cells", build->input.rows.count, "rows");
    return cells_build(&build->cells, &build->crew, &build->input.rows, build->options.seed, err);
}

static int stage_order(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "order", build->input.rows.count, "rows");
    int status = order_build(&build->cells, &build->crew, &build->input.rows, err);
    return status == 0 ? order_apply(&build->input.rows, build->cells.rows, err) : status;
}

static int stage_graph(struct build *build, struct fathom_error *err)
{
    struct build_options *options = &build->options;
    crew_phase(&build->crew, "graph", build->input.rows.count, "rows");
    int status =
        degree_choose(options, &build->crew, &build->input.rows, &build->probed_degree, err);
    if (status != 0)
        return status;
    struct graph_options graph = {.degree = options->degree,
                                  .list = options->build_list,
                                  .alpha = options->alpha,
                                  .seed = options->seed};
    status = graph_build(&build->graph, &build->crew, &build->input.rows, build->cells.first,
                         build->cells.count, &graph, err);
    uint64_t edges = 0;
    for (uint32_t row = 0; row < build->input.rows.count && status == 0; row++)
        edges += graph_list(&build->graph, row)[0];
    build->mean_degree = (double)edges / build->input.rows.count;
    return status;
}

static int stage_train(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "train", 0, "rows");
    return train_build(&build->trained, &build->crew, &build->input.rows, &build->cells,
                       &build->graph, build->options.code_bits, err);
}

static int stage_encode(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "encode", build->input.rows.count, "rows");
    int status = encode_lists(&build->lists, &build->crew, &build->graph, err);
    mem_free(build->graph.lists); /* encoded now; the entries are still needed */
    build->graph.lists = NULL;
    if (status != 0)
        return status;
    return encode_codes(&build->codes, &build->crew, &build->trained, &build->input.rows,
                        &build->cells, err);
}

static int stage_write(struct build *build, struct fathom_error *err)
{
    struct product product = {.options = &build->options,
                              .crew = &build->crew,
                              .input = &build->input,
                              .cells = &build->cells,
                              .graph = &build->graph,
                              .trained = &build->trained,
                              .codes = &build->codes,
                              .lists = &build->lists,
                              .ids = build->ids,
                              .build_list = build->options.build_list,
                              .probed_degree = build->probed_degree,
                              .mean_degree = build->mean_degree};
    crew_phase(&build->crew, "write", build->input.rows.count, "rows");
    build->report->rows = build->input.rows.count;
    int status = write_index(&product, &build->writer, &build->report->generation, err);
    build->report->list_bytes = build->lists.bytes;
    /* Measuring opens the index: its memory takes this one's place. */
    encoded_codes_fini(&build->codes);
    encoded_lists_fini(&build->lists);
    rows8_fini(&build->input.rows);
    return status;
}

/* Operating points, from the file as it will be published. Small indexes do without: their default
 * search list covers them. */
static int add_points(struct build *build, struct fathom_error *err)
{
    struct operating_point *points = mem_alloc_array(POINTS_MAX, sizeof *points);
    uint32_t count = 0;
    if (!points)
        return error_set(err, -ENOMEM, "no memory for operating points");
    int status = index_writer_checkpoint(build->writer, err);
    if (status == 0)
        status = points_measure(build->options.env, index_writer_path(build->writer),
                                build->crew.threads, points, &count, err);
    if (status == 0)
        status = index_writer_begin(build->writer, SECTION_POINTS, 0, err);
    if (status == 0)
        status = index_writer_append(build->writer, points, count * sizeof *points, err);
    if (status == 0)
        status = index_writer_end(build->writer, err);
    mem_free(points);
    return status;
}

static int stage_measure(struct build *build, struct fathom_error *err)
{
    int status = 0;
    crew_phase(&build->crew, "measure", 0, "rows");
    if (build->report->rows >= MEASURED_ROWS_MIN)
        status = add_points(build, err);
    if (status == 0 && crew_stopped(&build->crew))
        status = error_set(err, FATHOM_EINTERRUPTED, "measure: %s",
                           fathom_strerror(FATHOM_EINTERRUPTED));
    if (status != 0)
        return status; /* build_fini abandons the writer */
    struct index_writer *writer = build->writer;
    build->writer = NULL; /* publishing frees it in any case */
    return index_writer_publish(writer, err);
}

static int (*const stages[BUILD_STAGES])(struct build *build, struct fathom_error *err) = {
    stage_read,  stage_cells,  stage_order, stage_graph,
    stage_train, stage_encode, stage_write, stage_measure};

/* ---- the whole ---- */

static int run_stages(struct build *build, struct fathom_error *err)
{
    const struct env *env = build->options.env;
    for (int stage = 0; stage < BUILD_STAGES; stage++) {
        uint64_t start = env_clock_ns(env);
        int status = crew_stopped(&build->crew)
                         ? error_set(err, FATHOM_EINTERRUPTED, "stopped before the stage %s",
                                     build_stage_name(stage))
                         : stages[stage](build, err);
        if (status != 0)
            return status;
        build->report->stage_ns[stage] = env_clock_ns(env) - start;
    }
    return 0;
}

static int published_bytes(const struct build *build, uint64_t *out, struct fathom_error *err)
{
    struct index_file file;
    int status = index_file_open(&file, build->options.env, build->options.out, err);
    if (status == 0) {
        *out = file.super.file_pages * PAGE_BYTES;
        index_file_close(&file);
    }
    return status;
}

static int fill_report(struct build *build, uint64_t start, struct fathom_error *err)
{
    struct build_report *report = build->report;
    const struct input *input = &build->input;
    report->dim = input->info.dim;
    report->cells = build->cells.count;
    report->degree = build->options.degree;
    report->build_list = build->options.build_list;
    report->raw_bytes = report->rows * input->info.dim * vectors_scalar_bytes(input->info.dtype);
    report->zero_row_count = input->zero_count;
    report->zero_rows = input->zero_rows;
    build->input.zero_rows = NULL; /* the report's now */
    report->peak_bytes = env_peak_rss_bytes();
    report->total_ns = env_clock_ns(build->options.env) - start;
    return published_bytes(build, &report->index_bytes, err);
}

static void build_fini(struct build *build)
{
    index_writer_abandon(build->writer);
    encoded_lists_fini(&build->lists);
    encoded_codes_fini(&build->codes);
    train_fini(&build->trained);
    graph_fini(&build->graph);
    cells_fini(&build->cells);
    mem_free(build->ids);
    input_close(&build->input);
    file_close(build->options.env, build->lock);
}

int build_run(const struct build_options *options, struct build_report *report,
              struct fathom_error *err)
{
    struct build build = {.options = *options, .lock = -1, .report = report};
    *report = (struct build_report){0};
    int status = check_options(options, err);
    if (status != 0)
        return status;
    uint64_t start = env_clock_ns(options->env);
    build.crew = (struct crew){.threads = options->threads, .watch = options->watch};
    /* Codes hold up to 6 bits a dimension; more come from the 8-bit rows themselves. */
    if (options->code_bits > PLANES_MAX)
        build.options.code_bits = PLANES_MAX;
    openblas_set_num_threads(1); /* blocks of work are ours to spread */
    status = run_stages(&build, err);
    if (status == 0)
        status = fill_report(&build, start, err);
    build_fini(&build);
    if (status != 0)
        build_report_fini(report);
    return status;
}

void build_report_fini(struct build_report *report)
{
    mem_free(report->zero_rows);
    *report = (struct build_report){0};
}
