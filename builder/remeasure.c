/* Operating points of an index that is there, measured anew: on queries that are given now, or on
 * rows of it.
 *
 * A published file never changes, and each of its pages is bound to its generation, which is a hash
 * of what the index was made from. So all sections are copied, page by page, to a new generation;
 * that is measured, verified and published as a build's is. Whoever has the old file open keeps it,
 * and a run that ends anywhere leaves the old index or the new one. Nothing is saved on the way:
 * what is lost is less than what may be done twice of a build (docs/adr/0051). */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "builder.h"
#include "error.h"
#include "lock.h"
#include "measure.h"
#include "pace.h"
#include "mem.h"
#include "predict.h"
#include "queries.h"
#include "write.h"

struct remeasure {
    struct build_options options; /* with the metric of the index */
    struct crew crew;
    struct format_stop stop;
    int lock;
    struct index_file from;
    struct queries queries; /* to measure with, if there are */
    struct manifest_text manifest;
    struct index_writer *writer;
    uint64_t copied; /* pages */
    struct predict_points predicted;
    struct points_report *report;
};

static bool is_stopped(void *context)
{
    return crew_stopped(context);
}

/* ---- the index that is there, and what it is to be measured on ---- */

/* Locked first: another build may be about to publish. */
static int open_index(struct remeasure *re, struct fathom_error *err)
{
    const struct build_options *options = &re->options;
    int status = re->lock = lock_present(options->env, options->out, err);
    if (status >= 0)
        status = index_file_open(&re->from, options->env, options->out, err);
    if (status != 0)
        return status;
    const struct properties *properties = &re->from.super.properties;
    re->from.stop = &re->stop;
    re->options.metric = properties->metric;
    re->report->rows = properties->rows;
    re->report->previous_generation = properties->generation;
    if (properties->rows >= BUILD_MEASURED_ROWS)
        return 0;
    return error_set(err, FATHOM_EARGUMENT,
                     "%s: an index of %" PRIu64 " rows has no operating points: they are measured "
                     "from %d rows on, and its default search list covers fewer",
                     re->from.path, properties->rows, BUILD_MEASURED_ROWS);
}

static int read_queries(struct remeasure *re, struct fathom_error *err)
{
    struct queries *queries = &re->queries;
    int status = queries_open(queries, &re->options, &re->crew, re->from.super.properties.dim, err);
    if (status != 0 || !queries->file)
        return status;
    status = queries_check(queries, re->options.skip_zero_rows, err);
    re->report->queries = queries->info.rows - queries->zero_count;
    return status;
}

static int make_manifest(struct remeasure *re, struct fathom_error *err)
{
    const struct section *section = superblock_find(&re->from.super, SECTION_MANIFEST);
    char *before = mem_alloc(section->bytes + 1); /* never none */
    int status = before ? index_file_read(&re->from, section, 0, before, section->bytes, err)
                        : error_set(err, -ENOMEM, "%s: no memory for its manifest", re->from.path);
    if (status == 0)
        status =
            manifest_renew(before, section->bytes, &re->options, &re->queries, &re->manifest, err);
    mem_free(before);
    re->report->generation = re->manifest.generation;
    return status;
}

/* The pace of a copy is that of a disk, and says nothing of what follows. */
static int expect(struct remeasure *re, struct fathom_error *err)
{
    const struct properties *properties = &re->from.super.properties;
    struct predict_known known = {
        .probe = re->manifest.probe, .slowness = 1, .queries = re->report->queries};
    re->predicted = predict_points(&re->options, properties, &known);
    int status = pace_of(&re->crew, re->options.env, re->predicted.measuring, &known.slowness, err);
    if (status != 0)
        return status;
    re->predicted = predict_points(&re->options, properties, &known);
    const struct build_phase phases[] = {
        {.name = "write", .seconds = re->predicted.copying, .waits = true},
        {.name = "measure", .seconds = re->predicted.measuring}};
    crew_expect(&re->crew, phases, sizeof phases / sizeof *phases);
    return 0;
}

/* ---- a copy ---- */

static int write_manifest(struct remeasure *re, struct fathom_error *err)
{
    int status = index_writer_begin(re->writer, SECTION_MANIFEST, 0, err);
    if (status == 0)
        status = index_writer_append(re->writer, re->manifest.text, strlen(re->manifest.text), err);
    return status == 0 ? index_writer_end(re->writer, err) : status;
}

static void advance(void *context, uint64_t pages)
{
    struct remeasure *re = context;
    crew_advance(&re->crew, re->copied += pages);
}

/* All but points, which are what is measured. */
static int copy_sections(struct remeasure *re, struct fathom_error *err)
{
    const struct superblock *super = &re->from.super;
    int status = write_manifest(re, err);
    for (uint32_t i = 0; i < super->section_count && status == 0; i++) {
        const struct section *section = &super->sections[i];
        if (section->kind != SECTION_MANIFEST && section->kind != SECTION_POINTS)
            status = index_writer_copy(re->writer, &re->from, section, advance, re, err);
    }
    return status == 0 ? index_writer_checkpoint(re->writer, err) : status;
}

static int copy_index(struct remeasure *re, struct fathom_error *err)
{
    const struct build_options *options = &re->options;
    struct properties properties = re->from.super.properties;
    properties.generation = re->manifest.generation;
    properties.usual = (struct usual){0};
    crew_phase(&re->crew, "write", re->from.super.file_pages, "pages");
    int status = index_writer_create(&re->writer, options->env, options->out, &properties, err);
    return status == 0 ? copy_sections(re, err) : status;
}

/* ---- measuring ---- */

/* What opened indexes may take; 0: no limit. */
static uint64_t measuring_budget(const struct remeasure *re)
{
    uint64_t budget = re->options.memory_budget_bytes,
             standing = predict_program(re->from.super.properties.work_dim);
    return budget == 0 ? 0 : budget > standing ? budget - standing : 1;
}

/* Under a budget that is too small nothing was measured, and then what there was is better. */
static int check_measured(const struct remeasure *re, struct fathom_error *err)
{
    uint64_t budget = re->options.memory_budget_bytes;
    if (index_writer_has(re->writer, SECTION_POINTS))
        return 0;
    return error_set(err, FATHOM_EBUDGET,
                     "%s: nothing of it can be measured within %.6g MiB, so it stays as it is; "
                     "raise --memory-budget",
                     re->from.path, (double)budget / (1 << 20));
}

static int measure(struct remeasure *re, struct fathom_error *err)
{
    struct measure_options options = {.env = re->options.env,
                                      .rows = re->report->rows,
                                      .budget_bytes = measuring_budget(re),
                                      .queries = re->queries.file ? &re->queries : NULL,
                                      .sample = re->options.measured,
                                      .shares = re->predicted.shares};
    crew_phase(&re->crew, "measure", options.rows, "rows");
    int status = measure_add_points(re->writer, &re->crew, &options, err);
    return status == 0 ? check_measured(re, err) : status;
}

/* What the report says of the file is found out before it is published: what fails then has not. */
static int publish(struct remeasure *re, struct fathom_error *err)
{
    struct index_progress progress;
    int status = index_writer_progress(re->writer, &progress, err);
    if (status != 0)
        return status;
    const struct section *points = superblock_find(&progress.super, SECTION_POINTS);
    re->report->points = points->bytes / FORMAT_POINT_BYTES;
    re->report->index_bytes = progress.super.file_pages * PAGE_BYTES;
    status = index_writer_publish(re->writer, &re->stop, err);
    if (status != FATHOM_EINTERRUPTED)
        re->writer = NULL; /* freed, published or not */
    return status;
}

/* ---- the whole ---- */

static int (*const steps[])(struct remeasure *re, struct fathom_error *err) = {
    open_index, read_queries, make_manifest, expect, copy_index, measure, publish};
#define STEPS (sizeof steps / sizeof *steps)

static int run_steps(struct remeasure *re, struct fathom_error *err)
{
    int status = 0;
    for (size_t step = 0; step < STEPS && status == 0; step++)
        status = crew_stopped(&re->crew)
                     ? error_set(err, FATHOM_EINTERRUPTED, "%s: %s", re->options.out,
                                 fathom_strerror(FATHOM_EINTERRUPTED))
                     : steps[step](re, err);
    return status;
}

static void remeasure_fini(struct remeasure *re)
{
    index_writer_abandon(re->writer);
    free(re->manifest.text);
    queries_close(&re->queries);
    index_file_close(&re->from);
    file_close(re->options.env, re->lock);
}

int build_points(const struct build_options *options, struct points_report *report,
                 struct fathom_error *err)
{
    struct remeasure re = {.options = *options,
                           .crew = {.threads = options->threads, .watch = options->watch},
                           .lock = -1,
                           .from = {.env = options->env, .fd = -1},
                           .report = report};
    *report = (struct points_report){0};
    int status = build_options_check(options, err);
    if (status != 0)
        return status;
    uint64_t start = env_clock_ns(options->env), cpu = env_process_cpu_ns();
    if (options->memory_budget_bytes && re.crew.threads > PREDICT_BUDGET_THREADS)
        re.crew.threads = PREDICT_BUDGET_THREADS;
    re.stop = (struct format_stop){.stopped = is_stopped, .context = &re.crew};
    status = run_steps(&re, err);
    remeasure_fini(&re);
    report->total_ns = env_clock_ns(options->env) - start;
    report->cpu_ns = env_process_cpu_ns() - cpu;
    report->peak_bytes = env_peak_rss_bytes();
    return status;
}
