/* K-means over a work file: each round reads it once, block by block, and adds the rows of each
 * cell up. What is kept of a row is its group and its cell. Rows that must be seen at another time,
 * as those that cells begin as, are gathered. */
#include "cells_stored.h"

#include <errno.h>
#include <stdlib.h>

#include "error.h"
#include "kmeans.h"

struct spilled {
    struct kmeans km; /* over the block in memory */
    struct stored_rows *stored;
    uint32_t held;
    struct rows8 block;
    uint32_t first;    /* of the block */
    uint16_t *group;   /* of every row; there are few hundred */
    uint32_t *cell;    /* of every row */
    int64_t *sums;     /* centroids x dim */
    uint32_t *members; /* rows of each cell, in this round */
};

static int no_memory(const struct spilled *s)
{
    return error_set(s->km.err, -ENOMEM, "no memory for %u rows", s->stored->count);
}

/* ---- blocks ---- */

/* Calls visit for every block of rows, which km then works on. */
static int each_block(struct spilled *s, int (*visit)(struct spilled *s))
{
    uint32_t all = s->stored->count;
    int status = 0;
    for (s->first = 0; s->first < all && status == 0; s->first += s->held) {
        s->block.count = all - s->first < s->held ? all - s->first : s->held;
        status = stored_rows_read(s->stored, s->first, s->block.count, &s->block, 0, s->km.err);
        if (status == 0)
            status = visit(s);
    }
    return status;
}

static int group_visit(struct spilled *s)
{
    int status = kmeans_assign_groups(&s->km, s->km.ids, s->block.count);
    for (uint32_t i = 0; i < s->block.count && status == 0; i++)
        s->group[s->first + i] = (uint16_t)s->km.nearest[i];
    return status;
}

static int cell_visit(struct spilled *s, unsigned round)
{
    struct kmeans *km = &s->km;
    for (uint32_t i = 0; i < s->block.count; i++)
        km->nearest[i] = s->group[s->first + i];
    grouping_fill(&km->by_group, km->groups.count, km->nearest, NULL, s->block.count);
    int status = kmeans_assign_cells(km, round);
    for (uint32_t i = 0; i < s->block.count && status == 0; i++)
        s->cell[s->first + km->by_group.members[i]] = km->nearest[i];
    return status;
}

static int sum_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct spilled *s = context;
    const struct grouping *by_cell = &s->km.by_cell;
    uint32_t dim = s->block.dim, begin = (uint32_t)block * KMEANS_UPDATE_BLOCK;
    uint32_t end = begin + KMEANS_UPDATE_BLOCK, cells = s->km.centroids.count;
    for (uint32_t c = begin; c < end && c < cells; c++) {
        int64_t *sums = s->sums + (size_t)c * dim;
        for (uint32_t i = by_cell->first[c]; i < by_cell->first[c + 1]; i++) {
            const uint8_t *row = rows8_at(&s->block, by_cell->members[i]);
            for (uint32_t d = 0; d < dim; d++)
                sums[d] += row[d];
        }
        s->members[c] += by_cell->first[c + 1] - by_cell->first[c];
    }
    return 0;
}

static int add_visit(struct spilled *s, unsigned round)
{
    struct kmeans *km = &s->km;
    int status = cell_visit(s, round);
    if (status != 0)
        return status;
    grouping_fill(&km->by_cell, km->centroids.count, km->nearest, km->by_group.members,
                  s->block.count);
    return crew_run(km->crew, crew_blocks(km->centroids.count, KMEANS_UPDATE_BLOCK), sum_block, s);
}

static int add_alone(struct spilled *s)
{
    return add_visit(s, 0);
}

static int add_wide(struct spilled *s)
{
    return add_visit(s, KMEANS_ALONE_ROUNDS);
}

static int last_visit(struct spilled *s)
{
    return cell_visit(s, CELLS_ROUNDS);
}

/* ---- rows by what they belong to ---- */

/* All rows by group. */
static int group_all(const struct spilled *s, struct grouping *out)
{
    uint32_t groups = s->km.groups.count, all = s->stored->count;
    if (grouping_init(out, groups, all) != 0)
        return no_memory(s);
    for (uint32_t row = 0; row < all; row++)
        out->first[s->group[row] + 1]++;
    for (uint32_t g = 0; g < groups; g++)
        out->first[g + 1] += out->first[g];
    for (uint32_t row = 0; row < all; row++)
        out->members[out->first[s->group[row]]++] = row;
    memmove(out->first + 1, out->first, groups * sizeof *out->first);
    out->first[0] = 0;
    return 0;
}

/* All rows by cell, and within one by group, as k-means in memory leaves them. last: the cell of
 * each row is wanted no more. */
static int cell_all(struct spilled *s, struct grouping *out, bool last)
{
    struct grouping by_group = {0};
    uint32_t all = s->stored->count;
    uint32_t *cells = NULL;
    int status = group_all(s, &by_group);
    if (status == 0) {
        cells = mem_alloc_array(all, sizeof *cells);
        status = cells ? 0 : no_memory(s);
    }
    for (uint32_t i = 0; i < all && status == 0; i++)
        cells[i] = s->cell[by_group.members[i]];
    if (last) {
        mem_free(s->cell);
        s->cell = NULL;
    }
    if (status == 0 && grouping_init(out, s->km.centroids.count, all) != 0)
        status = no_memory(s);
    if (status == 0)
        grouping_fill(out, s->km.centroids.count, cells, by_group.members, all);
    mem_free(cells);
    grouping_fini(&by_group);
    return status;
}

/* ---- rounds ---- */

static int mean_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct spilled *s = context;
    uint32_t dim = s->block.dim, begin = (uint32_t)block * KMEANS_UPDATE_BLOCK;
    uint8_t *mean = mem_alloc(dim);
    for (uint32_t c = begin; mean && c < begin + KMEANS_UPDATE_BLOCK && c < s->km.centroids.count;
         c++) {
        const int64_t *sums = s->sums + (size_t)c * dim;
        uint32_t count = s->members[c];
        for (uint32_t d = 0; d < dim && count; d++)
            mean[d] = (uint8_t)((sums[d] + count / 2) / count);
        if (count)
            rows8_set(&s->km.centroids, c, mean);
    }
    mem_free(mean);
    return mean ? 0 : -ENOMEM;
}

static int repair_cells(struct spilled *s, unsigned round, struct kmeans_repair *repairs,
                        uint32_t *rows)
{
    struct kmeans *km = &s->km;
    struct grouping by_cell = {0};
    struct rows8 taken = {0};
    uint32_t count = 0;
    int status = cell_all(s, &by_cell, false);
    if (status == 0)
        status = kmeans_pick_repairs(km, &by_cell, km->centroids.count, round, repairs, &count);
    grouping_fini(&by_cell);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = repairs[i].row;
    if (status == 0 && rows8_init(&taken, count, s->block.dim) != 0)
        status = no_memory(s);
    if (status == 0)
        status = stored_rows_gather(s->stored, rows, count, &taken, km->err);
    for (uint32_t i = 0; i < count && status == 0; i++)
        rows8_set(&km->centroids, repairs[i].cluster, rows8_at(&taken, i));
    rows8_fini(&taken);
    return status;
}

static int repair_empty(struct spilled *s, unsigned round)
{
    uint32_t cells = s->km.centroids.count, empty = 0;
    for (uint32_t c = 0; c < cells; c++)
        empty += s->members[c] == 0;
    if (empty == 0)
        return 0;
    struct kmeans_repair *repairs = mem_alloc_array(cells, sizeof *repairs);
    uint32_t *rows = mem_alloc_array(cells, sizeof *rows);
    int status = repairs && rows ? repair_cells(s, round, repairs, rows) : no_memory(s);
    mem_free(repairs);
    mem_free(rows);
    return status;
}

/* Sums are there only while they are needed. */
static int do_round(struct spilled *s, unsigned round)
{
    struct kmeans *km = &s->km;
    s->sums = mem_alloc_array((size_t)km->centroids.count * s->block.dim, sizeof *s->sums);
    memset(s->members, 0, km->centroids.count * sizeof *s->members);
    int status =
        s->sums ? each_block(s, round < KMEANS_ALONE_ROUNDS ? add_alone : add_wide) : no_memory(s);
    if (status == 0)
        status = crew_run(km->crew, crew_blocks(km->centroids.count, KMEANS_UPDATE_BLOCK),
                          mean_block, s);
    mem_free(s->sums);
    s->sums = NULL;
    return status == 0 ? repair_empty(s, KMEANS_GROUP_ROUNDS + round) : status;
}

static int do_rounds(struct spilled *s, unsigned done)
{
    struct kmeans *km = &s->km;
    int status = 0;
    for (unsigned round = done; round < CELLS_ROUNDS && status == 0; round++) {
        status = do_round(s, round);
        if (status == 0)
            status = kmeans_save_round(km, round + 1);
        crew_advance(km->crew, kmeans_progress(s->stored->count, round + 1));
    }
    return status == 0 ? each_block(s, last_visit) : status;
}

/* ---- the steps ---- */

/* Groups by the sample in memory, then of every row. */
static int make_groups(struct spilled *s)
{
    struct kmeans *km = &s->km;
    struct rows8 sample = {0};
    int status = 0;
    if (!kmeans_resume_groups(km)) {
        status = rows8_init(&sample, km->sample_count, s->stored->dim) == 0 ? 0 : no_memory(s);
        if (status == 0)
            status = stored_rows_gather(s->stored, km->sample, km->sample_count, &sample, km->err);
        km->rows = &sample;
        if (status == 0)
            status = kmeans_make_groups(km, km->ids);
        rows8_fini(&sample);
    }
    km->rows = &s->block;
    if (status == 0 && rows8_init(&s->block, s->held, s->stored->dim) != 0)
        status = no_memory(s);
    return status == 0 ? each_block(s, group_visit) : status;
}

static int seed_cells(struct spilled *s, const struct grouping *by_group)
{
    struct kmeans *km = &s->km;
    uint32_t *seeds = mem_alloc_array(km->centroids.count, sizeof *seeds);
    if (!seeds)
        return no_memory(s);
    kmeans_pick_seeds(km, by_group, seeds);
    int status = stored_rows_gather(s->stored, seeds, km->centroids.count, &km->centroids, km->err);
    mem_free(seeds);
    return status;
}

static int start_cells(struct spilled *s, unsigned *done)
{
    struct kmeans *km = &s->km;
    struct grouping by_group = {0};
    int status = group_all(s, &by_group);
    if (status == 0 && kmeans_init_cells(km, by_group.first, kmeans_target(s->stored->count)) != 0)
        status = no_memory(s);
    *done = status == 0 ? kmeans_resume_cells(km) : 0;
    if (status == 0 && *done == 0)
        status = seed_cells(s, &by_group);
    grouping_fini(&by_group);
    return status;
}

static int make_cells(struct spilled *s)
{
    struct kmeans *km = &s->km;
    unsigned done;
    int status = start_cells(s, &done);
    if (status != 0)
        return status;
    s->cell = mem_alloc_array(s->stored->count, sizeof *s->cell);
    s->members = mem_alloc_array(km->centroids.count, sizeof *s->members);
    if (!s->cell || !s->members || grouping_init(&km->by_cell, km->centroids.count, s->held) != 0)
        return no_memory(s);
    return do_rounds(s, done);
}

/* ---- the result ---- */

/* A large cell, or a stretch of one that is larger than what may be held. */
static int split_rows(struct spilled *s, struct cells *out, struct bisect *bisect, uint32_t *rows,
                      uint32_t count, const uint8_t *centroid, uint8_t *scratch)
{
    uint32_t *before = s->km.nearest, *ids = s->km.by_group.members;
    s->block.count = count;
    int status = stored_rows_gather(s->stored, rows, count, &s->block, s->km.err);
    if (status != 0)
        return status;
    for (uint32_t i = 0; i < count; i++) {
        before[i] = rows[i];
        ids[i] = i;
    }
    kmeans_append_cell(out, bisect, ids, count, centroid, scratch);
    for (uint32_t i = 0; i < count; i++)
        rows[i] = before[ids[i]];
    return 0;
}

static int append_cells(struct spilled *s, struct cells *out, const uint32_t *first,
                        struct bisect *bisect, uint8_t *scratch)
{
    int status = 0;
    for (uint32_t c = 0; c < s->km.centroids.count && status == 0; c++) {
        const uint8_t *centroid = rows8_at(&s->km.centroids, c);
        uint32_t *rows = out->rows + first[c], left = first[c + 1] - first[c];
        if (left > 0 && left <= CELLS_ROWS_MAX) {
            kmeans_append_cell(out, bisect, rows, left, centroid, scratch);
            continue;
        }
        for (uint32_t take; left > 0 && status == 0; left -= take, rows += take) {
            take = left < s->held ? left : s->held;
            status = split_rows(s, out, bisect, rows, take, centroid, scratch);
        }
    }
    return status;
}

static int finish_cells(struct spilled *s, struct cells *out)
{
    struct kmeans *km = &s->km;
    struct grouping by_cell = {0};
    struct bisect bisect = {0};
    uint8_t *scratch = NULL;
    int status = cell_all(s, &by_cell, true);
    out->rows = by_cell.members;
    by_cell.members = NULL;
    if (status == 0) {
        scratch = mem_alloc_array(KMEANS_SPLIT_DEPTH, s->block.stride);
        bool there = scratch && bisect_init(&bisect, &s->block, s->held) == 0 &&
                     kmeans_init_result(km, by_cell.first, out) == 0;
        status = there ? append_cells(s, out, by_cell.first, &bisect, scratch) : no_memory(s);
    }
    out->centroids.count = out->count;
    mem_free(scratch);
    bisect_fini(&bisect);
    grouping_fini(&by_cell);
    return status;
}

int cells_build_stored(struct cells *out, const struct crew *crew, struct stored_rows *stored,
                       uint32_t held, uint64_t seed, const struct cells_keeper *keeper,
                       struct fathom_error *err)
{
    struct fathom_error why = {0};
    struct spilled s = {.km = {.crew = crew, .seed = seed, .keeper = keeper, .err = &why},
                        .stored = stored,
                        .held = held < stored->count ? held : stored->count};
    *out = (struct cells){0};
    s.group = mem_alloc_array(stored->count, sizeof *s.group);
    int status = s.group ? kmeans_init(&s.km, s.held, stored->count, stored->dim) : -ENOMEM;
    if (status == 0)
        status = make_groups(&s);
    if (status == 0)
        status = make_cells(&s);
    if (status == 0)
        status = finish_cells(&s, out);
    kmeans_fini(&s.km);
    rows8_fini(&s.block);
    mem_free(s.group);
    mem_free(s.cell);
    mem_free(s.members);
    if (status == 0)
        return 0;
    cells_fini(out);
    return error_set(err, status, "cells: %s", why.msg[0] ? why.msg : fathom_strerror(status));
}

/* ---- what it takes ---- */

/* Group and cell of a row; in a round its cell's sums, and between two the rows by group and by
 * cell, and by what. Then order moves the rows' numbers and the centroids. */
uint64_t cells_stored_bytes(uint64_t rows, uint32_t dim)
{
    uint64_t stride = size_round_up(dim, MEM_ALIGN), cells = kmeans_target((uint32_t)rows);
    uint64_t sums = cells * dim * sizeof(int64_t), sorting = 12 * rows;
    uint64_t row = sizeof(uint16_t) + sizeof(uint32_t);
    return rows * row + (sums > sorting ? sums : sorting) + 2 * cells * (stride + 32);
}

/* The row; its place by group and by cell, its cell and number; what bisecting takes. */
uint64_t cells_held_bytes(uint32_t dim)
{
    return size_round_up(dim, MEM_ALIGN) + sizeof(struct row8_terms) + 36;
}
