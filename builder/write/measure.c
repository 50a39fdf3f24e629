/* From search/points.h to the builder's progress, and to the section. */
#include "measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "error.h"
#include "mem.h"
#include "points.h"

#define FEW_QUERIES 100

struct measuring {
    const struct crew *crew;
    uint64_t rows; /* of progress */
    struct checkpoint *checkpoint;
};

static bool is_stopped(void *context)
{
    const struct measuring *measuring = context;
    return crew_stopped(measuring->crew);
}

static void advance(void *context, uint64_t done, uint64_t total)
{
    const struct measuring *measuring = context;
    crew_advance(measuring->crew, done * measuring->rows / total);
}

/* ---- what is kept ---- */

static bool is_due(void *context, uint64_t bytes)
{
    const struct measuring *measuring = context;
    return checkpoint_due(measuring->checkpoint, bytes);
}

static int save(void *context, const char *name, const struct points_part *parts, unsigned count,
                struct fathom_error *err)
{
    const struct measuring *measuring = context;
    struct checkpoint *checkpoint = measuring->checkpoint;
    struct work_writer *writer;
    uint64_t start = env_clock_ns(checkpoint->work.env), bytes = 0;
    int status = work_create(&writer, &checkpoint->work, name, err);
    if (status != 0)
        return status;
    for (unsigned i = 0; i < count && status == 0; i++) {
        status = work_append(writer, parts[i].at, parts[i].bytes, err);
        bytes += parts[i].bytes;
    }
    return checkpoint_finish(checkpoint, writer, status, start, bytes, err);
}

static int read_parts(struct work_file *file, const char *name, const struct points_part *parts,
                      unsigned count, struct fathom_error *err)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += parts[i].bytes;
    int status = bytes == work_bytes(file) ? 0 : checkpoint_malformed(name, err);
    for (unsigned i = 0; i < count && status == 0; i++)
        status = work_next(file, parts[i].at, parts[i].bytes, err);
    return status;
}

static int load(void *context, const char *name, const struct points_part *parts, unsigned count,
                struct fathom_error *err)
{
    const struct measuring *measuring = context;
    struct checkpoint *checkpoint = measuring->checkpoint;
    struct work_file *file;
    int status = work_open(&file, &checkpoint->work, name, err);
    if (status == 0) {
        status = read_parts(file, name, parts, count, err);
        work_close(file);
    }
    return status == 0 ? 1 : checkpoint_unusable(checkpoint, name, status, err);
}

/* ---- the section ---- */

static int append_points(struct index_writer *writer, const struct operating_point *points,
                         uint32_t count, struct usual usual, struct fathom_error *err)
{
    index_writer_set_usual(writer, usual);
    int status = index_writer_begin(writer, SECTION_POINTS, 0, err);
    if (status == 0)
        status = index_writer_append(writer, points, count * sizeof *points, err);
    return status == 0 ? index_writer_end(writer, err) : status;
}

/* What is promised of few queries leaves room for their luck. */
static void note_few(const struct crew *crew, uint32_t queries)
{
    char text[160];
    if (queries >= FEW_QUERIES)
        return;
    snprintf(text, sizeof text,
             "operating points are measured on only %" PRIu32
             " queries: searches by target recall will do more than is needed; give some hundreds",
             queries);
    crew_note(crew, text);
}

int measure_add_points(struct index_writer *writer, const struct crew *crew,
                       const struct measure_options *options, struct fathom_error *err)
{
    struct operating_point *points = mem_alloc_array(POINTS_MAX, sizeof *points);
    struct measuring measuring = {
        .crew = crew,
        .rows = (uint64_t)((1 - options->shares.verify) * (double)options->rows),
        .checkpoint = options->checkpoint};
    struct points_keeper keeper = {
        .due = is_due, .save = save, .load = load, .context = &measuring};
    struct points_queries offer;
    struct points_options how = {.threads = crew->threads,
                                 .budget_bytes = options->budget_bytes,
                                 .sample_share = options->shares.sample,
                                 .sample = options->sample,
                                 .watch = {.stopped = is_stopped,
                                           .advance = advance,
                                           .context = &measuring,
                                           .keeper = options->checkpoint ? &keeper : NULL}};
    struct usual usual;
    uint32_t count = 0;
    if (!points)
        return error_set(err, -ENOMEM, "no memory for operating points");
    if (options->queries) {
        offer = queries_offer(options->queries);
        how.queries = &offer;
        note_few(crew, offer.count);
    }
    int status =
        points_measure(options->env, index_writer_path(writer), &how, points, &count, &usual, err);
    if (status == 0 && count == 0)
        crew_note(crew, "the memory budget is too small to measure operating points: without them "
                        "searches by target recall take a default search list");
    if (status == 0 && count > 0)
        status = append_points(writer, points, count, usual, err);
    mem_free(points);
    return status;
}
