/* 2-means order: a space-filling order that follows the data. The rows of one page then lie close
 * together, and the gaps in neighbour lists are small. */
#include "order.h"

#include <errno.h>

#include "bisect.h"
#include "error.h"

#define LEAF_ROWS  3
#define CELL_BLOCK 64 /* cells of one block of work */
#define RANGE      64 /* blocks between two of which the work may be saved */

/* Orders ids in place; previous is the row that comes before them, or NULL. Recursion is as deep as
 * parts that shrink by 7/8. */
static void order_set(struct bisect *bisect, uint32_t *ids, uint32_t count, const uint8_t *previous)
{
    if (count < LEAF_ROWS)
        return;
    uint32_t first = bisect_rows(bisect, ids, count);
    if (first == 0)
        return;
    const struct rows8 *rows = bisect->rows;
    if (previous && rows8_distance(previous, bisect->means[1], rows->dim) <
                        rows8_distance(previous, bisect->means[0], rows->dim)) {
        memcpy(bisect->ids, ids, first * sizeof *ids);
        memmove(ids, ids + first, (count - first) * sizeof *ids);
        memcpy(ids + count - first, bisect->ids, first * sizeof *ids);
        first = count - first;
    }
    order_set(bisect, ids, first, previous);
    order_set(bisect, ids + first, count - first, rows8_at(rows, ids[first - 1]));
}

/* ---- cells ---- */

static int order_cells(struct cells *cells, uint32_t *order)
{
    struct bisect bisect;
    int status = bisect_init(&bisect, &cells->centroids, cells->count);
    if (status != 0)
        return status;
    for (uint32_t c = 0; c < cells->count; c++)
        order[c] = c;
    order_set(&bisect, order, cells->count, NULL);
    bisect_fini(&bisect);
    return 0;
}

/* Rebuilds cells with cell i being what cell order[i] was. */
static int permute_cells(struct cells *cells, const uint32_t *order, uint32_t rows)
{
    struct cells moved = {.count = cells->count};
    moved.first = mem_alloc_array((size_t)cells->count + 1, sizeof *moved.first);
    moved.rows = mem_alloc_array(rows, sizeof *moved.rows);
    if (rows8_init(&moved.centroids, cells->count, cells->centroids.dim) != 0 || !moved.first ||
        !moved.rows) {
        cells_fini(&moved);
        return -ENOMEM;
    }
    for (uint32_t c = 0; c < cells->count; c++) {
        uint32_t from = cells->first[order[c]], count = cells->first[order[c] + 1] - from;
        rows8_set(&moved.centroids, c, rows8_at(&cells->centroids, order[c]));
        memcpy(moved.rows + moved.first[c], cells->rows + from, count * sizeof *moved.rows);
        moved.first[c + 1] = moved.first[c] + count;
    }
    cells_fini(cells);
    *cells = moved;
    return 0;
}

/* ---- rows within cells ---- */

/* Of cells [first, end). */
struct row_pass {
    const struct cells *cells;
    uint32_t first, end;
    const struct rows8 *rows; /* of these cells at the least */
    uint32_t *ids;            /* of their rows among these, cell after cell */
};

static int order_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct row_pass *pass = context;
    const struct cells *cells = pass->cells;
    const uint32_t *first = cells->first;
    struct bisect bisect;
    int status = bisect_init(&bisect, pass->rows, CELLS_ROWS_MAX);
    if (status != 0)
        return status;
    uint32_t begin = pass->first + (uint32_t)block * CELL_BLOCK, end = begin + CELL_BLOCK;
    for (uint32_t c = begin; c < end && c < pass->end; c++)
        order_set(&bisect, pass->ids + (first[c] - first[pass->first]), first[c + 1] - first[c],
                  c > 0 ? rows8_at(&cells->centroids, c - 1) : NULL);
    bisect_fini(&bisect);
    return 0;
}

static int sort_cells(struct cells *cells, uint32_t rows)
{
    uint32_t *order = mem_alloc_array(cells->count, sizeof *order);
    int status = order ? order_cells(cells, order) : -ENOMEM;
    if (status == 0)
        status = permute_cells(cells, order, rows);
    mem_free(order);
    return status;
}

static int order_rows(const struct crew *crew, struct row_pass *pass)
{
    return crew_run(crew, crew_blocks(pass->end - pass->first, CELL_BLOCK), order_block, pass);
}

/* Of which of the cells rows are in order; sorts them when an earlier build has not. */
static int start(struct cells *cells, const struct order_keeper *keeper, uint32_t rows,
                 uint32_t *done, struct fathom_error *err)
{
    *done = keeper ? keeper->done : 0;
    int status = keeper && keeper->sorted ? 0 : sort_cells(cells, rows);
    return status == 0 ? 0 : error_set(err, status, "order: %s", fathom_strerror(status));
}

static int keep(const struct order_keeper *keeper, uint32_t done, struct fathom_error *err)
{
    return keeper ? keeper->save(keeper->context, done, err) : 0;
}

int order_build(struct cells *cells, const struct crew *crew, const struct rows8 *rows,
                const struct order_keeper *keeper, struct fathom_error *err)
{
    struct row_pass pass = {.cells = cells, .rows = rows};
    int status = start(cells, keeper, rows->count, &pass.first, err);
    for (; pass.first < cells->count && status == 0; pass.first = pass.end) {
        uint32_t left = cells->count - pass.first;
        status = keep(keeper, pass.first, err);
        if (status != 0)
            break;
        pass.end = pass.first + (left < RANGE * CELL_BLOCK ? left : RANGE * CELL_BLOCK);
        pass.ids = cells->rows + cells->first[pass.first];
        status = order_rows(crew, &pass);
        if (status != 0)
            return error_set(err, status, "order: %s", fathom_strerror(status));
        crew_advance(crew, cells->first[pass.end]);
    }
    return status;
}

/* ---- of rows in a work file ---- */

/* Rows in their new order to the file; numbers[i] becomes that of the row which is now the ith. */
static int put_rows(const struct row_pass *pass, uint32_t *numbers, uint32_t *before,
                    struct work_writer *out, struct fathom_error *err)
{
    uint32_t count = pass->rows->count;
    int status = 0;
    memcpy(before, numbers, count * sizeof *before);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        numbers[i] = before[pass->ids[i]];
        status = work_append(out, rows8_at(pass->rows, pass->ids[i]), pass->rows->dim, err);
    }
    return status;
}

/* Cells [first, end), whose rows are in memory meanwhile. */
static int order_range(struct cells *cells, const struct crew *crew, struct stored_rows *stored,
                       uint32_t first, uint32_t end, struct work_writer *out,
                       struct fathom_error *err)
{
    uint32_t begin = cells->first[first], count = cells->first[end] - begin;
    uint32_t *numbers = cells->rows + begin;
    struct rows8 rows = {0};
    uint32_t *ids = mem_alloc_array(count, sizeof *ids);
    uint32_t *before = mem_alloc_array(count, sizeof *before);
    int status = ids && before ? rows8_init(&rows, count, stored->dim) : -ENOMEM;
    if (status != 0)
        (void)error_set(err, status, "order: no memory for %u rows", count);
    for (uint32_t i = 0; i < count && status == 0; i++)
        ids[i] = i;
    if (status == 0)
        status = stored_rows_gather(stored, numbers, count, &rows, err);
    struct row_pass pass = {.cells = cells, .first = first, .end = end, .rows = &rows, .ids = ids};
    if (status == 0) {
        status = order_rows(crew, &pass);
        if (status != 0)
            (void)error_set(err, status, "order: %s", fathom_strerror(status));
    }
    if (status == 0)
        status = put_rows(&pass, numbers, before, out, err);
    rows8_fini(&rows);
    mem_free(ids);
    mem_free(before);
    return status;
}

int order_build_stored(struct cells *cells, const struct crew *crew, struct stored_rows *stored,
                       uint32_t held, const struct order_keeper *keeper, struct work_writer *out,
                       struct fathom_error *err)
{
    uint32_t first, end;
    int status = start(cells, keeper, stored->count, &first, err);
    for (; first < cells->count && status == 0; first = end) {
        end = first + 1;
        while (end < cells->count && cells->first[end + 1] - cells->first[first] <= held)
            end++;
        status = keep(keeper, first, err);
        if (status == 0)
            status = order_range(cells, crew, stored, first, end, out, err);
        crew_advance(crew, cells->first[end]);
    }
    return status;
}

/* ---- moving the rows ---- */

/* Follows each cycle of the permutation, so that no second copy of all rows is needed. */
int order_apply(struct rows8 *rows, const uint32_t *old_of_new, struct fathom_error *err)
{
    uint8_t *moved = mem_alloc(rows->count / 8 + 1);
    uint8_t *kept = mem_alloc(rows->stride);
    if (!moved || !kept) {
        mem_free(moved);
        mem_free(kept);
        return error_set(err, -ENOMEM, "order: %s", fathom_strerror(-ENOMEM));
    }
    for (uint32_t start = 0; start < rows->count; start++) {
        if (moved[start / 8] >> start % 8 & 1)
            continue;
        memcpy(kept, rows8_at(rows, start), rows->stride);
        struct row8_terms terms = rows->terms[start];
        uint32_t at = start;
        for (uint32_t from = old_of_new[at]; from != start; from = old_of_new[at]) {
            memcpy(rows->bytes + (size_t)at * rows->stride, rows8_at(rows, from), rows->stride);
            rows->terms[at] = rows->terms[from];
            moved[at / 8] |= (uint8_t)(1u << at % 8);
            at = from;
        }
        memcpy(rows->bytes + (size_t)at * rows->stride, kept, rows->stride);
        rows->terms[at] = terms;
        moved[at / 8] |= (uint8_t)(1u << at % 8);
    }
    mem_free(moved);
    mem_free(kept);
    return 0;
}
