/* Work files of rows and cells (checkpoint.h): k-means, the order on its way, and rows in their
 * final order, whole or as they are written piece by piece. */
#include <errno.h>

#include "checkpoint.h"
#include "error.h"

/* ---- 8-bit rows ---- */

static int append_rows8(struct work_writer *writer, const struct rows8 *rows,
                        struct fathom_error *err)
{
    int status = 0;
    for (uint32_t row = 0; row < rows->count && status == 0; row++)
        status = work_append(writer, rows8_at(rows, row), rows->dim, err);
    return status;
}

static int next_rows8(struct work_file *file, struct rows8 *rows, const struct crew *crew,
                      struct fathom_error *err)
{
    uint8_t *row = mem_alloc(rows->dim);
    int status = row ? 0 : error_set(err, -ENOMEM, "no memory to resume a build");
    for (uint32_t i = 0; i < rows->count && status == 0; i++) {
        if (i % 65536 == 0 && crew_stopped(crew))
            status =
                error_set(err, FATHOM_EINTERRUPTED, "%s", fathom_strerror(FATHOM_EINTERRUPTED));
        else
            status = work_next(file, row, rows->dim, err);
        if (status == 0)
            rows8_set(rows, i, row);
    }
    mem_free(row);
    return status;
}

/* ---- cells ---- */

struct cells_header {
    uint32_t round, groups, centroids, dim;
};

int checkpoint_save_cells(struct checkpoint *checkpoint, const struct cells_state *state,
                          struct fathom_error *err)
{
    struct work_writer *writer;
    struct cells_header header = {.round = state->round,
                                  .groups = state->groups.count,
                                  .centroids = state->centroids.count,
                                  .dim = state->groups.dim};
    int status = work_create(&writer, &checkpoint->work, CHECKPOINT_CELLS, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = append_rows8(writer, &state->groups, err);
    if (status == 0)
        status = append_rows8(writer, &state->centroids, err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

static int read_cells(struct checkpoint *checkpoint, struct work_file *file,
                      struct cells_state *state, uint32_t dim, struct fathom_error *err)
{
    struct cells_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (header.dim != dim || header.round == 0 || header.groups == 0 ||
        header.centroids > 2 * CELLS_COUNT_MAX || header.groups > header.centroids)
        return checkpoint_malformed(CHECKPOINT_CELLS, err);
    state->round = header.round;
    if (rows8_init(&state->groups, header.groups, dim) != 0 ||
        rows8_init(&state->centroids, header.centroids, dim) != 0)
        return error_set(err, -ENOMEM, "no memory to resume a build");
    status = next_rows8(file, &state->groups, checkpoint->crew, err);
    return status == 0 ? next_rows8(file, &state->centroids, checkpoint->crew, err) : status;
}

int checkpoint_load_cells(struct checkpoint *checkpoint, struct cells_state *state, uint32_t dim,
                          struct fathom_error *err)
{
    struct work_file *file;
    *state = (struct cells_state){0};
    int status = work_open(&file, &checkpoint->work, CHECKPOINT_CELLS, err);
    if (status == 0) {
        status = read_cells(checkpoint, file, state, dim, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    cells_state_fini(state);
    return checkpoint_unusable(checkpoint, CHECKPOINT_CELLS, status, err);
}

/* ---- rows ---- */

static int append_cells(struct work_writer *writer, const struct cells *cells, uint32_t rows,
                        struct fathom_error *err)
{
    int status = work_append(writer, cells->first, 4 * ((size_t)cells->count + 1), err);
    if (status == 0)
        status = append_rows8(writer, &cells->centroids, err);
    return status == 0 ? work_append(writer, cells->rows, 4 * (size_t)rows, err) : status;
}

int checkpoint_save_rows(struct checkpoint *checkpoint, const struct rows8 *rows,
                         const struct cells *cells, struct fathom_error *err)
{
    struct work_writer *writer;
    struct stored_header header = {.rows = rows->count, .dim = rows->dim, .cells = cells->count};
    uint64_t start = env_clock_ns(checkpoint->work.env);
    int status = work_create(&writer, &checkpoint->work, CHECKPOINT_ROWS, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = append_rows8(writer, rows, err);
    if (status == 0)
        status = append_cells(writer, cells, rows->count, err);
    return checkpoint_finish(checkpoint, writer, status, start, (uint64_t)rows->count * rows->dim,
                             err);
}

int checkpoint_begin_rows(struct checkpoint *checkpoint, const struct cells *cells, uint32_t rows,
                          struct work_writer **out, struct fathom_error *err)
{
    struct stored_header header = {
        .rows = rows, .dim = cells->centroids.dim, .cells = cells->count};
    int status = work_create(out, &checkpoint->work, CHECKPOINT_ROWS, err);
    return status == 0 ? work_append(*out, &header, sizeof header, err) : status;
}

int checkpoint_reopen_rows(struct checkpoint *checkpoint, uint32_t ready, uint32_t dim,
                           struct work_writer **out, struct fathom_error *err)
{
    uint64_t bytes = sizeof(struct stored_header) + (uint64_t)ready * dim;
    return work_reopen(out, &checkpoint->work, CHECKPOINT_ROWS, bytes, err);
}

/* All is written before the file is committed: what stops a build does so while it may stay. */
int checkpoint_end_rows(struct checkpoint *checkpoint, struct work_writer **writer,
                        const struct cells *cells, struct fathom_error *err)
{
    struct work_writer *ended = *writer;
    int status = append_cells(ended, cells, cells->first[cells->count], err);
    if (status == 0)
        status = work_flush(ended, err);
    if (status != 0)
        return status;
    *writer = NULL;
    return checkpoint_finish(checkpoint, ended, 0, 0, 0, err);
}

static bool is_cells(const struct cells *cells, uint32_t rows)
{
    bool good = cells->first[0] == 0 && cells->first[cells->count] == rows;
    for (uint32_t c = 0; c < cells->count && good; c++)
        good = cells->first[c] <= cells->first[c + 1];
    for (uint32_t row = 0; row < rows && good; row++)
        good = cells->rows[row] < rows;
    return good;
}

static int read_cells_in_order(struct checkpoint *checkpoint, struct work_file *file,
                               const struct stored_header *header, struct cells *cells,
                               struct fathom_error *err)
{
    cells->count = header->cells;
    cells->first = mem_alloc_array((size_t)header->cells + 1, sizeof *cells->first);
    cells->rows = mem_alloc_array(header->rows, sizeof *cells->rows);
    if (!cells->first || !cells->rows ||
        rows8_init(&cells->centroids, header->cells, header->dim) != 0)
        return error_set(err, -ENOMEM, "no memory to resume a build");
    int status = work_next(file, cells->first, 4 * ((size_t)header->cells + 1), err);
    if (status == 0)
        status = next_rows8(file, &cells->centroids, checkpoint->crew, err);
    if (status == 0)
        status = work_next(file, cells->rows, 4 * (size_t)header->rows, err);
    return status == 0 && !is_cells(cells, header->rows)
               ? checkpoint_malformed(CHECKPOINT_ROWS, err)
               : status;
}

static int read_rows(struct checkpoint *checkpoint, struct work_file *file, bool stay,
                     struct rows8 *rows, struct cells *cells, uint32_t dim,
                     struct fathom_error *err)
{
    struct stored_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (header.dim != dim || header.rows == 0 || header.cells == 0 || header.cells > header.rows)
        return checkpoint_malformed(CHECKPOINT_ROWS, err);
    if (stay) {
        *rows = (struct rows8){.count = header.rows, .dim = dim};
        work_seek(file, sizeof header + (uint64_t)header.rows * dim);
    } else {
        status = rows8_init(rows, header.rows, dim) == 0
                     ? next_rows8(file, rows, checkpoint->crew, err)
                     : error_set(err, -ENOMEM, "no memory to resume a build");
    }
    return status == 0 ? read_cells_in_order(checkpoint, file, &header, cells, err) : status;
}

int checkpoint_load_rows(struct checkpoint *checkpoint, bool stay, struct rows8 *rows,
                         struct cells *cells, uint32_t dim, struct fathom_error *err)
{
    struct work_file *file;
    *cells = (struct cells){0};
    *rows = (struct rows8){0};
    int has = stay ? checkpoint_has(checkpoint, CHECKPOINT_ROWS, err) : 1;
    if (has <= 0)
        return has;
    int status = work_open(&file, &checkpoint->work, CHECKPOINT_ROWS, err);
    if (status == 0) {
        status = read_rows(checkpoint, file, stay, rows, cells, dim, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    cells_fini(cells);
    rows8_fini(rows);
    return checkpoint_unusable(checkpoint, CHECKPOINT_ROWS, status, err);
}

/* ---- the order on its way ---- */

struct ordered_header {
    struct stored_header rows;
    uint32_t done, reserved;
};

int checkpoint_save_ordered(struct checkpoint *checkpoint, const struct cells *cells, uint32_t done,
                            struct fathom_error *err)
{
    struct work_writer *writer;
    uint32_t rows = cells->first[cells->count];
    struct ordered_header header = {
        .rows = {.rows = rows, .dim = cells->centroids.dim, .cells = cells->count}, .done = done};
    int status = work_create(&writer, &checkpoint->work, CHECKPOINT_ORDERED, err);
    if (status != 0)
        return status;
    status = work_append(writer, &header, sizeof header, err);
    if (status == 0)
        status = append_cells(writer, cells, rows, err);
    return checkpoint_finish(checkpoint, writer, status, 0, 0, err);
}

static int read_ordered(struct checkpoint *checkpoint, struct work_file *file, struct cells *cells,
                        uint32_t *done, uint32_t rows, uint32_t dim, struct fathom_error *err)
{
    struct ordered_header header;
    int status = work_next(file, &header, sizeof header, err);
    if (status != 0)
        return status;
    if (header.rows.rows != rows || header.rows.dim != dim || header.rows.cells == 0 ||
        header.rows.cells > rows || header.done > header.rows.cells)
        return checkpoint_malformed(CHECKPOINT_ORDERED, err);
    *done = header.done;
    return read_cells_in_order(checkpoint, file, &header.rows, cells, err);
}

int checkpoint_load_ordered(struct checkpoint *checkpoint, struct cells *cells, uint32_t *done,
                            uint32_t rows, uint32_t dim, struct fathom_error *err)
{
    struct work_file *file;
    *cells = (struct cells){0};
    int status = work_open(&file, &checkpoint->work, CHECKPOINT_ORDERED, err);
    if (status == 0) {
        status = read_ordered(checkpoint, file, cells, done, rows, dim, err);
        work_close(file);
    }
    if (status == 0)
        return 1;
    cells_fini(cells);
    return checkpoint_unusable(checkpoint, CHECKPOINT_ORDERED, status, err);
}
