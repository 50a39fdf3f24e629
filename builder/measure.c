/* From search/points.h to the builder's progress, and to the section. */
#include "measure.h"

#include <errno.h>

#include "error.h"
#include "mem.h"
#include "points.h"

struct measuring {
    const struct crew *crew;
    uint64_t rows;
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

static int append_points(struct index_writer *writer, const struct operating_point *points,
                         uint32_t count, struct fathom_error *err)
{
    int status = index_writer_begin(writer, SECTION_POINTS, 0, err);
    if (status == 0)
        status = index_writer_append(writer, points, count * sizeof *points, err);
    return status == 0 ? index_writer_end(writer, err) : status;
}

int measure_add_points(struct index_writer *writer, const struct env *env, const struct crew *crew,
                       uint64_t rows, uint64_t budget_bytes, struct fathom_error *err)
{
    struct operating_point *points = mem_alloc_array(POINTS_MAX, sizeof *points);
    struct measuring measuring = {.crew = crew, .rows = rows};
    struct points_watch watch = {.stopped = is_stopped, .advance = advance, .context = &measuring};
    uint32_t count = 0;
    if (!points)
        return error_set(err, -ENOMEM, "no memory for operating points");
    int status = points_measure(env, index_writer_path(writer), crew->threads, budget_bytes, &watch,
                                points, &count, err);
    if (status == 0 && count == 0)
        crew_note(crew, "the memory budget is too small to measure operating points: searches by "
                        "target recall take a default search list");
    if (status == 0 && count > 0)
        status = append_points(writer, points, count, err);
    mem_free(points);
    return status;
}
