/* The build from start to end; each stage is a file of its own. What a stage no longer needs is
 * freed before the next. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "blas.h"
#include "builder.h"
#include "cells_pack.h"
#include "cells_stored.h"
#include "checkpoint.h"
#include "degree.h"
#include "error.h"
#include "expect.h"
#include "gather.h"
#include "ids.h"
#include "lock.h"
#include "measure.h"
#include "order.h"
#include "predict.h"
#include "provenance.h"
#include "state.h"
#include "write.h"

const char *build_stage_name(enum build_stage stage)
{
    static const char *const names[BUILD_STAGES] = {"read",  "cells",  "order", "graph",
                                                    "train", "encode", "write", "measure"};
    return stage < BUILD_STAGES ? names[stage] : "?";
}

/* ---- reading ---- */

/* Reads the input, or as much of it as shows that it is what the interrupted build has read. */
static int read_input(struct build *build, const char *before, struct fathom_error *err)
{
    const struct build_options *options = &build->options;
    bool known = build->written || build->rows_loaded || build->raw_saved;
    int status = known ? input_rehash(&build->input, &build->crew, err)
                       : input_read(&build->input, &build->crew, options->skip_zero_rows,
                                    build->held ? &build->raw : NULL, err);
    if (status != 0)
        return status;
    build->identity = identity_text(build, true);
    if (!build->identity)
        return error_set(err, -ENOMEM, "%s: no memory to read it", options->input);
    if (before)
        return identity_compare(options->out, before, build->identity, err);
    return build->held ? build_save_raw(build, err) : 0;
}

/* ---- stages ---- */

/* Where rows go that do not fit. What they are of is known before the hash of the input is, so
 * their file is of any input of this shape: without its state, which tells the hash, it is debris.
 */
static int plan_rows(struct build *build, struct fathom_error *err)
{
    char *text = identity_text(build, false);
    if (!text)
        return error_set(err, -ENOMEM, "%s: no memory to read it", build->options.input);
    build->held = predict_held(&build->options, build->input.info.rows, build->input.work_dim);
    build->raw = build->checkpoint.work;
    build->raw.identity = identity_hash(text);
    free(text);
    return 0;
}

/* By the names that builds give: in a directory that holds other files, another program may be
 * writing one just now. */
static int remove_left(const struct build_options *options, struct fathom_error *err)
{
    int status = dir_remove_debris(options->env, options->out, WORK_PREFIX, err);
    return status == 0
               ? dir_remove_debris(options->env, options->out, FORMAT_FILE_NAME ".tmp-", err)
               : status;
}

static int start_reading(struct build *build, struct fathom_error *err)
{
    const struct build_options *options = &build->options;
    char *before = NULL;
    int status = options->resume ? build_resume(build, &before, err) : 0;
    if (status == 0 && options->resume && !before)
        crew_note(&build->crew, "there is nothing to resume; building afresh");
    build->taken_over = before != NULL;
    if (status == 0 && !before)
        status = remove_left(options, err);
    if (status == 0 && !build->written) /* training needs it, which is hours from here */
        status = blas_begin(build->crew.threads, err);
    if (status == 0)
        status = expect_by_shape(build, err);
    if (status == 0)
        status = read_input(build, before, err);
    if (status == 0)
        status = expect_by_glance(build, err);
    if (status == 0 && build->written) { /* not before: it is not what was asked for */
        build->options.degree = build->graph_state.degree;
        build->options.build_list = build->graph_state.list;
    }
    mem_free(before);
    return status;
}

/* Before anything else takes its time, so that they are refused at once. */
static int read_queries(struct build *build, struct fathom_error *err)
{
    const struct build_options *options = &build->options;
    struct queries *queries = &build->queries;
    int status = queries_open(queries, options, &build->crew, build->input.info.dim, err);
    if (status == 0 && queries->file)
        status = queries_check(queries, options->skip_zero_rows, err);
    build->known.queries = queries->info.rows - queries->zero_count;
    return status;
}

static int stage_read(struct build *build, struct fathom_error *err)
{
    const struct build_options *options = &build->options;
    int status = input_open(&build->input, options->env, options->input, options->metric, err);
    if (status == 0) {
        build->options.code_bits =
            degree_code_bits(options, build->input.info.rows, build->input.work_dim);
        const struct vector_info *info = &build->input.info;
        status =
            build_options_check_budget(&build->options, info->rows, info->dim, info->dtype, err);
    }
    if (status == 0)
        status = read_queries(build, err);
    if (status == 0 && options->ids)
        status = ids_read(&build->ids, options->env, options->ids, build->input.info.rows, err);
    if (status == 0)
        status = lock_directory(options->env, options->out, err);
    if (status < 0)
        return status;
    build->lock = status;
    status = plan_rows(build, err);
    return status == 0 ? start_reading(build, err) : status;
}

static int cells_of_raw(struct build *build, const struct cells_keeper *keeper,
                        struct fathom_error *err)
{
    struct stored_rows raw;
    int status = stored_rows_open(&raw, &build->raw, INPUT_RAW, err);
    if (status == 0)
        status = cells_build_stored(&build->cells, &build->crew, &raw, build->held,
                                    build->options.seed, keeper, err);
    stored_rows_close(&raw);
    return status;
}

static int stage_cells(struct build *build, struct fathom_error *err)
{
    struct cells_state before = {0};
    struct cells_keeper keeper = {.save = build_save_cells, .context = build};
    crew_phase(&build->crew, "cells", build->input.rows.count, "rows");
    int status = build->checkpoint.begun ? checkpoint_load_cells(&build->checkpoint, &before,
                                                                 build->input.work_dim, err)
                                         : 0;
    if (status < 0)
        return status;
    if (status > 0)
        keeper.state = &before;
    status = build->held ? cells_of_raw(build, &keeper, err)
                         : cells_build(&build->cells, &build->crew, &build->input.rows,
                                       build->options.seed, &keeper, err);
    cells_state_fini(&before);
    return status;
}

static int stage_order(struct build *build, struct fathom_error *err)
{
    const struct rows8 *rows = &build->input.rows;
    crew_phase(&build->crew, "order", rows->count, "rows");
    if (build->held)
        return build_save_rows(build, err);
    struct order_keeper keeper = build_order_keeper(build);
    int status = order_build(&build->cells, &build->crew, rows, &keeper, err);
    if (status == 0)
        status = order_apply(&build->input.rows, build->cells.rows, err);
    if (status == 0 && checkpoint_due(&build->checkpoint, (uint64_t)rows->count * rows->dim))
        status = build_save_rows(build, err);
    return status;
}

int build_sample(const struct build *build, const struct work *work, const char *name,
                 struct rows8 *out, struct fathom_error *err)
{
    const struct rows8 *rows = &build->input.rows;
    if (!build->held)
        return degree_sample(out, rows) == 0
                   ? 0
                   : error_set(err, -ENOMEM, "no memory for a sample of the rows");
    uint32_t *numbers = mem_alloc_array(DEGREE_PROBE_ROWS, sizeof *numbers);
    uint32_t count = degree_sample_rows(rows->count, numbers);
    struct stored_rows stored = {0};
    int status = numbers && rows8_init(out, count, rows->dim) == 0
                     ? stored_rows_open(&stored, work, name, err)
                     : error_set(err, -ENOMEM, "no memory for a sample of the rows");
    if (status == 0)
        status = stored_rows_gather(&stored, numbers, count, out, err);
    stored_rows_close(&stored);
    mem_free(numbers);
    return status;
}

static int choose_degree(struct build *build, struct fathom_error *err)
{
    struct build_options *options = &build->options;
    struct graph_state *state = &build->graph_state;
    struct rows8 sample = {0};
    uint32_t rows = build->input.rows.count;
    if (options->degree == 0)
        crew_phase(&build->crew, BUILD_PHASE_PROBE, degree_sample_rows(rows, NULL), "rows");
    int status = 0;
    if (options->degree == 0)
        status = build_sample(build, &build->checkpoint.work, CHECKPOINT_ROWS, &sample, err);
    uint64_t start = env_clock_ns(options->env);
    if (status == 0)
        status = degree_choose(options, &build->crew, &sample, rows, build->input.work_dim,
                               &build->known.probe, err);
    rows8_fini(&sample);
    build->probe_ns = build->known.probe.mean > 0 ? env_clock_ns(options->env) - start : 0;
    struct predict_timed timed = {
        .pace = build->pace, .probe_ns = build->probe_ns, .probe = build->known.probe};
    if (!build->taken_over) { /* else some of them may be another run's */
        timed.cells_ns = build->report->stage_ns[BUILD_CELLS];
        timed.order_ns = build->report->stage_ns[BUILD_ORDER];
    }
    build->known.slowness = predict_slowness(options, rows, build->input.work_dim, &timed);
    state->probe = build->known.probe;
    state->degree = options->degree;
    state->list = options->build_list;
    return status;
}

/* What the rest of the build is held against at its end. */
static uint32_t predict_build(struct build *build)
{
    const struct vector_info *info = &build->input.info;
    struct build_estimate *predicted = &build->report->predicted;
    *predicted = (struct build_estimate){
        .rows = build->input.rows.count, .dim = info->dim, .dtype = info->dtype};
    struct spill_progress progress = {.begun = build->checkpoint.begun,
                                      .rows_saved = build->rows_saved,
                                      .since_ns = checkpoint_since_ns(&build->checkpoint)};
    build->known.probe = build->graph_state.probe; /* an earlier run's, maybe */
    predict_shape(&build->options, &build->known, &progress, predicted);
    build->checkpoint.unplanned = !predicted->saves_graph;
    expect_by_probe(build, predicted);
    return predicted->parts;
}

static struct graph_options graph_options_of(struct build *build)
{
    return (struct graph_options){.degree = build->graph_state.degree,
                                  .list = build->graph_state.list,
                                  .alpha = build->options.alpha,
                                  .seed = build->options.seed,
                                  .lid = build->known.probe.lid};
}

static int graph_in_memory(struct build *build, struct fathom_error *err)
{
    struct graph_options options = graph_options_of(build);
    uint32_t rows = build->input.rows.count;
    options.done = build->graph_state.done;
    options.save = build_save_graph;
    options.save_context = build;
    int status = options.done == GRAPH_DONE
                     ? 0
                     : graph_build(&build->graph, &build->crew, &build->input.rows,
                                   build->cells.first, build->cells.count, &options, err);
    if (status != 0)
        return status;
    uint64_t edges = 0;
    for (uint32_t row = 0; row < rows; row++)
        edges += graph_list(&build->graph, row)[0];
    build->mean_degree = (double)edges / rows;
    return 0;
}

/* Rows leave memory, and only parts of them come back until training. */
static int graph_in_parts(struct build *build, uint32_t count, struct fathom_error *err)
{
    struct graph_options options = graph_options_of(build);
    struct rows8 *rows = &build->input.rows;
    struct parts *parts = &build->parts;
    int status = build->rows_saved ? 0 : build_save_rows(build, err);
    if (status == 0)
        status = parts_init(parts, &build->checkpoint, &build->cells, rows->count, rows->dim, count,
                            err);
    if (status != 0)
        return status;
    parts->pause_rows = build->options.piece_rows;
    struct rows8 gone = {.count = rows->count, .dim = rows->dim};
    rows8_fini(rows);
    *rows = gone;
    status = parts_graph(parts, &options, &build->lists, err);
    if (status != 0)
        return status;
    build->graph = (struct graph){
        .rows = gone.count, .degree_max = options.degree, .entry_count = parts->entry_count};
    memcpy(build->graph.entries, parts->entries, sizeof parts->entries);
    build->mean_degree = (double)parts->edges / gone.count;
    return 0;
}

static int stage_graph(struct build *build, struct fathom_error *err)
{
    uint32_t rows = build->input.rows.count;
    struct graph_state *state = &build->graph_state;
    int status = !build->checkpoint.begun
                     ? 0
                     : checkpoint_load_graph(&build->checkpoint, CHECKPOINT_GRAPH, &build->graph,
                                             rows, state, err);
    if (status >= 0 && state->done == 0)
        status = choose_degree(build, err);
    if (status < 0)
        return status;
    build->options.degree = state->degree;
    build->options.build_list = state->list;
    uint32_t parts = predict_build(build);
    crew_phase(&build->crew, "graph", rows, "rows");
    return parts > 1 ? graph_in_parts(build, parts, err) : graph_in_memory(build, err);
}

static int train_in_parts(struct build *build, struct fathom_error *err)
{
    struct parts *parts = &build->parts;
    struct gathered gathered;
    int status = gather_training(&gathered, &parts->checkpoint->work, parts->rows, err);
    if (status == 0)
        status = train_build(&build->trained, &build->crew, &gathered.view, &build->cells,
                             build->options.code_bits, err);
    gathered_fini(&gathered);
    return status;
}

/* Not before: what is saved of cells until then is what k-means found. */
static int stage_train(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "train", 0, "rows");
    int status = cells_pack(&build->cells, &build->crew, &build->centroids, err);
    if (status != 0)
        return status;
    if (build->parts.count)
        return train_in_parts(build, err);
    const struct train_rows rows = {
        .count = build->input.rows.count, .rows = &build->input.rows, .graph = &build->graph};
    return train_build(&build->trained, &build->crew, &rows, &build->cells,
                       build->options.code_bits, err);
}

static int stage_encode(struct build *build, struct fathom_error *err)
{
    crew_phase(&build->crew, "encode", build->input.rows.count, "rows");
    return build->parts.count ? parts_encode(&build->parts, &build->trained, err)
                              : build_encode(build, err);
}

static int stage_write(struct build *build, struct fathom_error *err)
{
    bool saved = build->rows_saved || build->parts.count > 0;
    struct product product = {.options = &build->options,
                              .crew = &build->crew,
                              .checkpoint = saved ? &build->checkpoint : NULL,
                              .stop = build_format_stop(build),
                              .input = &build->input,
                              .cells = &build->cells,
                              .centroids = build->centroids,
                              .graph = &build->graph,
                              .trained = &build->trained,
                              .codes = &build->codes,
                              .lists = &build->lists,
                              .parts = build->parts.count ? &build->parts : NULL,
                              .queries = &build->queries,
                              .ids = build->ids,
                              .build_list = build->options.build_list,
                              .probe = build->graph_state.probe,
                              .mean_degree = build->mean_degree};
    crew_phase(&build->crew, "write", build->input.rows.count, "rows");
    rows8_fini(&build->cells.centroids); /* packed from here on */
    build->report->rows = build->input.rows.count;
    int status = write_index(&product, &build->writer, &build->report->generation, err);
    build->report->list_bytes = build->lists.bytes;
    /* Measuring opens the index: its memory takes this one's place. */
    encoded_codes_fini(&build->codes);
    encoded_lists_fini(&build->lists);
    rows8_fini(&build->input.rows);
    mem_free(build->cells.rows);
    mem_free(build->centroids);
    build->cells.rows = NULL;
    build->centroids = NULL;
    if (status == 0)
        status = index_writer_checkpoint(build->writer, err);
    if (status == 0)
        status = build_save_written(build, err);
    build->measured_saved = saved;
    return status;
}

/* What opened indexes may take; 0: no limit. */
static uint64_t measuring_budget(const struct build *build)
{
    uint64_t budget = build->options.memory_budget_bytes;
    uint64_t row_bytes = (build->ids ? 8 : 0) + (build->input.file_rows ? 4 : 0);
    uint64_t standing = predict_program(build->input.work_dim) + row_bytes * build->input.info.rows;
    return budget == 0 ? 0 : budget > standing ? budget - standing : 1;
}

/* Operating points, from the file as it will be published. Small indexes do without: their default
 * search list covers them. */
static int stage_measure(struct build *build, struct fathom_error *err)
{
    struct measure_options options = {.env = build->options.env,
                                      .rows = build->report->rows,
                                      .budget_bytes = measuring_budget(build),
                                      .queries = build->queries.file ? &build->queries : NULL,
                                      .sample = build->options.measured,
                                      .checkpoint =
                                          build->measured_saved ? &build->checkpoint : NULL,
                                      .shares = build->report->predicted.measuring};
    bool measured = options.rows >= BUILD_MEASURED_ROWS;
    int status = 0;
    crew_phase(&build->crew, "measure", options.rows, "rows");
    if (!measured && options.queries)
        crew_note(&build->crew, "an index of so few rows has no operating points: the queries are "
                                "of no use to it");
    if (measured && !build->options.no_points && !index_writer_has(build->writer, SECTION_POINTS))
        status = measure_add_points(build->writer, &build->crew, &options, err);
    if (status == 0 && crew_stopped(&build->crew))
        status = error_set(err, FATHOM_EINTERRUPTED, "measure: %s",
                           fathom_strerror(FATHOM_EINTERRUPTED));
    if (status != 0)
        return status; /* build_fini abandons the writer */
    struct format_stop stop = build_format_stop(build);
    status = index_writer_publish(build->writer, &stop, err);
    if (status != FATHOM_EINTERRUPTED)
        build->writer = NULL; /* freed, published or not */
    /* The index is there: what cannot be removed is debris, which the next build takes away. */
    if (status == 0 && build->checkpoint.begun)
        (void)!work_remove_all(&build->checkpoint.work, NULL);
    return status;
}

static int (*const stages[BUILD_STAGES])(struct build *build, struct fathom_error *err) = {
    stage_read,  stage_cells,  stage_order, stage_graph,
    stage_train, stage_encode, stage_write, stage_measure};

/* ---- the whole ---- */

static int run_stages(struct build *build, struct fathom_error *err)
{
    const struct env *env = build->options.env;
    for (int stage = 0; stage < BUILD_STAGES; stage++) {
        uint64_t start = env_clock_ns(env), cpu = env_process_cpu_ns();
        if (build_is_done(build, stage))
            continue;
        int status = crew_stopped(&build->crew)
                         ? error_set(err, FATHOM_EINTERRUPTED, "stopped before the stage %s",
                                     build_stage_name(stage))
                         : stages[stage](build, err);
        if (status != 0)
            return status;
        build->report->stage_ns[stage] = env_clock_ns(env) - start;
        build->report->stage_cpu_ns[stage] = env_process_cpu_ns() - cpu;
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
    if (build->parts.count)
        report->parts = build->parts.count; /* or as an earlier run has noted */
    if (report->parts == 0)
        report->parts = 1;
    degree_explain(&build->options, build->graph_state.probe.mean, report->degree_reason);
    report->raw_bytes = report->rows * input->info.dim * vectors_scalar_bytes(input->info.dtype);
    report->zero_row_count = input->zero_count;
    report->zero_rows = input->zero_rows;
    build->input.zero_rows = NULL; /* the report's now */
    report->peak_bytes = env_peak_rss_bytes();
    report->temporary_bytes = build->tally.bytes_max;
    report->total_ns = env_clock_ns(build->options.env) - start;
    return published_bytes(build, &report->index_bytes, err);
}

static void build_fini(struct build *build)
{
    if (build->checkpoint.begun)
        index_writer_suspend(build->writer);
    else
        index_writer_abandon(build->writer);
    work_suspend(build->rows_written);
    free(build->identity);
    encoded_lists_fini(&build->lists);
    encoded_codes_fini(&build->codes);
    train_fini(&build->trained);
    parts_fini(&build->parts);
    graph_fini(&build->graph);
    cells_fini(&build->cells);
    mem_free(build->centroids);
    mem_free(build->ids);
    queries_close(&build->queries);
    input_close(&build->input);
    file_close(build->options.env, build->lock);
}

int build_run(const struct build_options *options, struct build_report *report,
              struct fathom_error *err)
{
    struct build build = {
        .options = *options, .lock = -1, .known = {.slowness = 1}, .report = report};
    *report = (struct build_report){0};
    int status = build_options_check(options, err);
    if (status != 0)
        return status;
    uint64_t start = env_clock_ns(options->env);
    build.crew = (struct crew){.threads = options->threads, .watch = options->watch};
    build.checkpoint = (struct checkpoint){.work = {.env = options->env,
                                                    .dir = options->out,
                                                    .crew = &build.crew,
                                                    .tally = &build.tally},
                                           .crew = &build.crew,
                                           .spacing_ns = options->checkpoint_ns};
    checkpoint_start(&build.checkpoint);
    /* Codes hold up to 6 bits a dimension; more come from the 8-bit rows themselves. */
    if (options->code_bits > PLANES_MAX)
        build.options.code_bits = PLANES_MAX;
    if (options->memory_budget_bytes && build.crew.threads > PREDICT_BUDGET_THREADS)
        build.crew.threads = PREDICT_BUDGET_THREADS;
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
