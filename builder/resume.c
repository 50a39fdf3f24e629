/* What a build saves of itself on its way, and how the next one goes on from there. When to save is
 * the checkpoint's matter (checkpoint.h), what a stage does is build.c's. */
#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "provenance.h"
#include "state.h"
#include "write.h"

static int save_input(struct build *build, struct fathom_error *err)
{
    return build->checkpoint.begun
               ? 0
               : checkpoint_save_input(&build->checkpoint, build->identity, &build->input, err);
}

/* Between two rounds of k-means. */
int build_save_cells(void *context, const struct cells_state *state, struct fathom_error *err)
{
    struct build *build = context;
    if (!checkpoint_due(&build->checkpoint, state->centroids.count * state->centroids.stride))
        return 0;
    int status = save_input(build, err);
    return status == 0 ? checkpoint_save_cells(&build->checkpoint, state, err) : status;
}

/* Without what reading found out, the file of rows would be of no use. */
int build_save_raw(struct build *build, struct fathom_error *err)
{
    int status = save_input(build, err);
    build->raw_saved = status == 0;
    return status;
}

/* Between two ranges of the order. */
static int save_ordered(void *context, uint32_t done, struct fathom_error *err)
{
    struct build *build = context;
    const struct cells *cells = &build->cells;
    uint64_t bytes =
        4 * (uint64_t)cells->first[cells->count] + cells->count * (uint64_t)cells->centroids.dim;
    if (!checkpoint_due(&build->checkpoint, bytes))
        return 0;
    int status = save_input(build, err);
    if (status == 0 && build->rows_written)
        status = work_flush(build->rows_written, err);
    if (status == 0)
        status = checkpoint_save_ordered(&build->checkpoint, cells, done, err);
    build->order_saved |= status == 0;
    return status;
}

struct order_keeper build_order_keeper(struct build *build)
{
    return (struct order_keeper){.sorted = build->cells_loaded,
                                 .done = build->ordered,
                                 .save = save_ordered,
                                 .context = build};
}

/* Rows that stay in a file are put in order on the way to another. */
static int order_raw(struct build *build, struct fathom_error *err)
{
    struct checkpoint *checkpoint = &build->checkpoint;
    struct order_keeper keeper = build_order_keeper(build);
    struct stored_rows raw;
    int status = stored_rows_open(&raw, &build->raw, INPUT_RAW, err);
    if (status == 0 && !build->rows_written)
        status =
            checkpoint_begin_rows(checkpoint, &build->cells, raw.count, &build->rows_written, err);
    if (status == 0)
        status = order_build_stored(&build->cells, &build->crew, &raw, build->held, &keeper,
                                    build->rows_written, err);
    if (status == 0)
        status = checkpoint_end_rows(checkpoint, &build->rows_written, &build->cells, err);
    if (status != 0 && !build->order_saved) { /* nothing says how much of it is good */
        work_abandon(build->rows_written);
        build->rows_written = NULL;
    }
    stored_rows_close(&raw);
    return status;
}

int build_save_rows(struct build *build, struct fathom_error *err)
{
    int status = save_input(build, err);
    if (status == 0)
        status = build->held ? order_raw(build, err)
                             : checkpoint_save_rows(&build->checkpoint, &build->input.rows,
                                                    &build->cells, err);
    build->rows_saved = status == 0;
    if (status == 0)
        work_remove(&build->checkpoint.work, CHECKPOINT_CELLS);
    if (status == 0)
        work_remove(&build->checkpoint.work, CHECKPOINT_ORDERED);
    if (status == 0 && build->held)
        work_remove(&build->raw, INPUT_RAW);
    return status;
}

/* Between two steps of the graph. Lists are of no use without the rows. A build that has begun to
 * save, or was thought to, keeps all lists and all codes as well: what is on disk then does not
 * hang on the clock. */
int build_save_graph(void *context, const struct graph *graph, uint32_t done,
                     struct fathom_error *err)
{
    struct build *build = context;
    uint64_t list_bytes = 4 * (uint64_t)(graph->degree_max + 1);
    uint64_t row_bytes = build->rows_saved ? 0 : build->input.work_dim;
    bool planned = build->rows_saved || !build->checkpoint.unplanned;
    bool last = planned && done == GRAPH_DONE;
    if (!last && !checkpoint_due(&build->checkpoint, graph->rows * (list_bytes + row_bytes)))
        return 0;
    int status = build->rows_saved ? 0 : build_save_rows(build, err);
    build->graph_state.done = done;
    return status == 0 ? checkpoint_save_graph(&build->checkpoint, CHECKPOINT_GRAPH, graph,
                                               &build->graph_state, err)
                       : status;
}

int build_save_written(struct build *build, struct fathom_error *err)
{
    const struct build_report *report = build->report;
    struct written written = {.generation = report->generation,
                              .rows = report->rows,
                              .list_bytes = report->list_bytes,
                              .cells = build->cells.count,
                              .degree = build->options.degree,
                              .build_list = build->options.build_list,
                              .parts = build->parts.count};
    if (!build->checkpoint.begun && !checkpoint_due(&build->checkpoint, PAGE_BYTES))
        return 0;
    int status = save_input(build, err);
    return status == 0 ? checkpoint_save_written(&build->checkpoint, &written, err) : status;
}

/* ---- resuming ---- */

static bool format_stopped(void *context)
{
    return crew_stopped(context);
}

struct format_stop build_format_stop(struct build *build)
{
    return (struct format_stop){.stopped = format_stopped, .context = &build->crew};
}

/* An index that needs but its operating points. */
static int resume_written(struct build *build, struct fathom_error *err)
{
    struct format_stop stop = build_format_stop(build);
    struct written written;
    struct fathom_error why = {0};
    int status = checkpoint_load_written(&build->checkpoint, &written, err);
    if (status <= 0)
        return status;
    status = index_writer_reopen(&build->writer, build->options.env, build->options.out,
                                 written.generation, &stop, &why);
    if (status == FATHOM_EINTERRUPTED)
        return error_set(err, status, "%s", why.msg);
    if (status != 0) {
        crew_note(&build->crew, why.msg);
        return 0;
    }
    build->written = build->measured_saved = true;
    build->cells.count = written.cells;
    build->graph_state = (struct graph_state){.degree = written.degree, .list = written.build_list};
    build->report->generation = written.generation;
    build->report->rows = written.rows;
    build->report->parts = written.parts;
    build->report->list_bytes = written.list_bytes;
    return 0;
}

static uint32_t rows_kept(const struct input *input)
{
    return (uint32_t)(input->info.rows - input->zero_count);
}

static int resume_rows(struct build *build, struct fathom_error *err)
{
    struct input *input = &build->input;
    int status = checkpoint_load_rows(&build->checkpoint, build->held > 0, &input->rows,
                                      &build->cells, input->work_dim, err);
    build->rows_loaded = build->rows_saved = status > 0;
    if (status > 0 && input->rows.count != rows_kept(input))
        return error_set(err, FATHOM_ECORRUPT, "%s: checkpoints do not belong together",
                         build->options.out);
    return status < 0 ? status : 0;
}

/* Rows of the input that need not be read again. */
static int resume_raw(struct build *build, struct fathom_error *err)
{
    struct checkpoint raw = build->checkpoint;
    raw.work = build->raw;
    int status = checkpoint_has(&raw, INPUT_RAW, err);
    build->raw_saved = status > 0;
    if (status > 0)
        build->input.rows =
            (struct rows8){.count = rows_kept(&build->input), .dim = build->input.work_dim};
    return status < 0 ? status : 0;
}

/* An order that was on its way. In a file of rows it is of use with what is written of these, and
 * they with it: the rest of the order depends on that of what comes before. */
static int resume_ordered(struct build *build, struct fathom_error *err)
{
    struct checkpoint *checkpoint = &build->checkpoint;
    struct cells *cells = &build->cells;
    uint32_t rows = rows_kept(&build->input), dim = build->input.work_dim;
    int status = checkpoint_load_ordered(checkpoint, cells, &build->ordered, rows, dim, err);
    if (status <= 0)
        return status;
    status = !build->held ? 0
                          : checkpoint_reopen_rows(checkpoint, cells->first[build->ordered], dim,
                                                   &build->rows_written, err);
    build->cells_loaded = build->order_saved = status == 0;
    if (status == 0)
        return 0;
    cells_fini(cells);
    build->ordered = 0;
    /* The file of rows is what is missing, but only the order can be made again. */
    return checkpoint_unusable(checkpoint, CHECKPOINT_ORDERED,
                               status == -ENOENT ? FATHOM_ECORRUPT : status, err);
}

/* Rows that are in their final order, or on their way there. */
static int resume_before_graph(struct build *build, struct fathom_error *err)
{
    int status = resume_rows(build, err);
    if (status == 0 && !build->rows_loaded && build->held)
        status = resume_raw(build, err);
    return status == 0 && !build->rows_loaded ? resume_ordered(build, err) : status;
}

bool build_is_done(const struct build *build, enum build_stage stage)
{
    if (build->written)
        return stage > BUILD_READ && stage < BUILD_MEASURE;
    return (build->cells_loaded && stage == BUILD_CELLS) ||
           (build->rows_loaded && (stage == BUILD_CELLS || stage == BUILD_ORDER));
}

int build_resume(struct build *build, char **identity, struct fathom_error *err)
{
    struct checkpoint *checkpoint = &build->checkpoint;
    char *now = identity_text(build, false);
    int status = now ? checkpoint_load_state(checkpoint, now, identity, err)
                     : error_set(err, -ENOMEM, "no memory to resume a build");
    free(now);
    if (status <= 0)
        return status;
    status = checkpoint_load_input(checkpoint, &build->input, err);
    checkpoint->begun = status > 0;
    if (status > 0)
        status = resume_written(build, err);
    if (status == 0 && checkpoint->begun && !build->written)
        status = resume_before_graph(build, err);
    if (status == 0 && !build->written && !build->rows_loaded && !build->raw_saved)
        input_forget(&build->input);
    return status;
}
