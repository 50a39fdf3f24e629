/* K-means in two levels. Coarse groups (about the square root of the cells) come from a sample;
 * every group gets cells in proportion to its rows; then Lloyd rounds over all rows, first each
 * group alone, then against the cells of the nearest groups. Probing the near groups finds the
 * nearest of all centroids for nearly every row at a tenth of the work.
 *
 * Centroids are 8-bit rows throughout: their rounding is nothing next to the spread of a cell, and
 * all stays exact. */
#include "kmeans.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "error.h"
#include "prng.h"

#define GROUP_SAMPLE 128 /* sampled rows a coarse group */
#define GROUP_PROBES 12
#define SPAN_ROWS    1024 /* of one block; a multiple of ASSIGN_BLOCK */

enum cells_stream { STREAM_SAMPLE = 0x63656c6c, STREAM_SEEDS, STREAM_REPAIR };

int grouping_init(struct grouping *grouping, uint32_t keys, uint32_t count)
{
    grouping->first = mem_alloc_array((size_t)keys + 1, sizeof *grouping->first);
    grouping->members = mem_alloc_array(count, sizeof *grouping->members);
    return grouping->first && grouping->members ? 0 : -ENOMEM;
}

void grouping_fini(struct grouping *grouping)
{
    mem_free(grouping->first);
    mem_free(grouping->members);
    *grouping = (struct grouping){0};
}

void grouping_fill(struct grouping *grouping, uint32_t keys, const uint32_t *key,
                   const uint32_t *ids, uint32_t count)
{
    uint32_t *first = grouping->first;
    memset(first, 0, ((size_t)keys + 1) * sizeof *first);
    for (uint32_t i = 0; i < count; i++)
        first[key[i] + 1]++;
    for (uint32_t k = 0; k < keys; k++)
        first[k + 1] += first[k];
    for (uint32_t i = 0; i < count; i++)
        grouping->members[first[key[i]]++] = ids ? ids[i] : i;
    memmove(first + 1, first, keys * sizeof *first);
    first[0] = 0;
}

/* ---- rounds ---- */

struct update {
    const struct rows8 *rows;
    const struct grouping *grouping;
    struct rows8 *centroids;
};

static int update_block(void *context, uint64_t block, unsigned worker)
{
    (void)worker;
    struct update *update = context;
    struct rows8 *centroids = update->centroids;
    const uint32_t *first = update->grouping->first;
    int64_t *sums = mem_alloc_array(centroids->dim, sizeof *sums);
    uint8_t *mean = mem_alloc(centroids->stride);
    uint32_t begin = (uint32_t)block * KMEANS_UPDATE_BLOCK, end = begin + KMEANS_UPDATE_BLOCK;
    if (end > centroids->count)
        end = centroids->count;
    for (uint32_t c = begin; sums && mean && c < end; c++) {
        if (first[c + 1] == first[c])
            continue;
        rows8_mean(update->rows, update->grouping->members + first[c], first[c + 1] - first[c],
                   sums, mean);
        rows8_set(centroids, c, mean);
    }
    int status = sums && mean ? 0 : -ENOMEM;
    mem_free(sums);
    mem_free(mean);
    return status;
}

struct by_size {
    uint32_t size, cluster;
};

static int compare_sizes(const void *a, const void *b)
{
    const struct by_size *x = a, *y = b;
    if (x->size != y->size)
        return x->size < y->size ? 1 : -1;
    return x->cluster < y->cluster ? -1 : 1;
}

int kmeans_pick_repairs(const struct kmeans *km, const struct grouping *grouping, uint32_t clusters,
                        unsigned round, struct kmeans_repair *out, uint32_t *count)
{
    struct by_size *order = mem_alloc_array(clusters, sizeof *order);
    *count = 0;
    if (!order)
        return -ENOMEM;
    for (uint32_t c = 0; c < clusters; c++)
        order[c] = (struct by_size){grouping->first[c + 1] - grouping->first[c], c};
    qsort(order, clusters, sizeof *order, compare_sizes);
    struct prng prng;
    prng_init(&prng, km->seed, STREAM_REPAIR + ((uint64_t)round << 32));
    for (uint32_t c = clusters; c-- > 0 && order[c].size == 0;) {
        const struct by_size *from = &order[*count];
        if (from->size < 2)
            break;
        out[(*count)++] = (struct kmeans_repair){
            order[c].cluster,
            grouping->members[grouping->first[from->cluster] + prng_below(&prng, from->size)]};
    }
    mem_free(order);
    return 0;
}

static int repair_empty(struct kmeans *km, const struct grouping *grouping, struct rows8 *centroids,
                        unsigned round)
{
    struct kmeans_repair *repairs = mem_alloc_array(centroids->count, sizeof *repairs);
    uint32_t count = 0;
    int status = repairs
                     ? kmeans_pick_repairs(km, grouping, centroids->count, round, repairs, &count)
                     : -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        rows8_set(centroids, repairs[i].cluster, rows8_at(km->rows, repairs[i].row));
    mem_free(repairs);
    return status;
}

static int update_centroids(struct kmeans *km, const struct grouping *grouping,
                            struct rows8 *centroids, unsigned round)
{
    struct update update = {.rows = km->rows, .grouping = grouping, .centroids = centroids};
    int status = crew_run(km->crew, crew_blocks(centroids->count, KMEANS_UPDATE_BLOCK),
                          update_block, &update);
    return status != 0 ? status : repair_empty(km, grouping, centroids, round);
}

/* ---- coarse groups ---- */

/* count distinct numbers below total, rising: one at random from each of count equal stretches. */
static void pick_spread(struct prng *prng, uint32_t total, uint32_t count, uint32_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t begin = (uint32_t)((uint64_t)i * total / count);
        uint32_t end = (uint32_t)((uint64_t)(i + 1) * total / count);
        out[i] = begin + prng_below(prng, end - begin);
    }
}

struct group_pass {
    struct kmeans *km;
    const uint32_t *ids;
    uint32_t count;
};

static int group_block(void *context, uint64_t block, unsigned worker)
{
    struct group_pass *pass = context;
    struct kmeans *km = pass->km;
    struct assign *assign = &km->workers[worker];
    uint32_t begin = (uint32_t)block * SPAN_ROWS;
    uint32_t count = pass->count - begin < SPAN_ROWS ? pass->count - begin : SPAN_ROWS;
    assign_clear(assign, &km->groups);
    assign_add(assign, 0, km->groups.count);
    assign_rows(assign, km->rows, pass->ids + begin, count, km->nearest + begin);
    return 0;
}

int kmeans_assign_groups(struct kmeans *km, const uint32_t *ids, uint32_t count)
{
    struct group_pass pass = {.km = km, .ids = ids, .count = count};
    return crew_run(km->crew, crew_blocks(count, SPAN_ROWS), group_block, &pass);
}

/* And the ids by group. */
static int group_rows(struct kmeans *km, const uint32_t *ids, uint32_t count)
{
    int status = kmeans_assign_groups(km, ids, count);
    if (status == 0)
        grouping_fill(&km->by_group, km->groups.count, km->nearest, ids, count);
    return status;
}

bool kmeans_resume_groups(struct kmeans *km)
{
    const struct cells_state *before = km->keeper->state;
    bool there = before && before->groups.count == km->groups.count;
    if (there)
        rows8_copy(&km->groups, &before->groups);
    return there;
}

int kmeans_make_groups(struct kmeans *km, const uint32_t *ids)
{
    for (uint32_t g = 0; g < km->groups.count; g++)
        rows8_set(&km->groups, g, rows8_at(km->rows, ids[km->group_seeds[g]]));
    int status = 0;
    for (unsigned round = 0; round < KMEANS_GROUP_ROUNDS && status == 0; round++) {
        status = group_rows(km, ids, km->sample_count);
        if (status == 0)
            status = update_centroids(km, &km->by_group, &km->groups, round);
    }
    return status;
}

struct by_distance {
    uint32_t distance, group;
};

static int compare_distances(const void *a, const void *b)
{
    const struct by_distance *x = a, *y = b;
    if (x->distance != y->distance)
        return x->distance < y->distance ? -1 : 1;
    return x->group < y->group ? -1 : x->group > y->group;
}

/* For each group the nearest ones, itself first even among equals. */
static int find_near_groups(struct kmeans *km)
{
    uint32_t groups = km->groups.count;
    struct by_distance *order = mem_alloc_array(groups, sizeof *order);
    if (!order)
        return -ENOMEM;
    for (uint32_t g = 0; g < groups; g++) {
        for (uint32_t other = 0; other < groups; other++) {
            uint32_t distance = rows8_distance(rows8_at(&km->groups, g),
                                               rows8_at(&km->groups, other), km->groups.dim);
            order[other] = (struct by_distance){other == g ? 0 : distance + 1, other};
        }
        qsort(order, groups, sizeof *order, compare_distances);
        for (uint32_t p = 0; p < km->probes; p++)
            km->near[g * GROUP_PROBES + p] = order[p].group;
    }
    mem_free(order);
    return 0;
}

/* ---- cells ---- */

#define WIDE_TIMES 5 /* as long as a round that looks at its own group alone */

uint64_t kmeans_progress(uint64_t rows, unsigned done)
{
    unsigned alone = done < KMEANS_ALONE_ROUNDS ? done : KMEANS_ALONE_ROUNDS;
    unsigned all = KMEANS_ALONE_ROUNDS + WIDE_TIMES * (CELLS_ROUNDS + 1 - KMEANS_ALONE_ROUNDS);
    return rows * (alone + WIDE_TIMES * (done - alone)) / all;
}

/* Shares the cells out by rows; a group with rows has one at least. Returns how many there are in
 * all. */
static uint32_t share_cells(struct kmeans *km, const uint32_t *group_first, uint32_t target)
{
    uint32_t total = 0, all = group_first[km->groups.count];
    for (uint32_t g = 0; g < km->groups.count; g++) {
        uint32_t rows = group_first[g + 1] - group_first[g];
        uint32_t cells = (uint32_t)((uint64_t)rows * target / all);
        km->cell_first[g] = total;
        total += rows > 0 && cells == 0 ? 1 : cells;
    }
    km->cell_first[km->groups.count] = total;
    return total;
}

static void cut_spans(struct kmeans *km)
{
    km->span_count = 0;
    for (uint32_t g = 0; g < km->groups.count; g++) {
        uint32_t end = km->by_group.first[g + 1];
        for (uint32_t at = km->by_group.first[g]; at < end; at += SPAN_ROWS)
            km->spans[km->span_count++] =
                (struct span){g, at, end - at < SPAN_ROWS ? end : at + SPAN_ROWS};
    }
}

void kmeans_pick_seeds(const struct kmeans *km, const struct grouping *by_group, uint32_t *rows)
{
    for (uint32_t g = 0; g < km->groups.count; g++) {
        uint32_t first = km->cell_first[g], count = km->cell_first[g + 1] - first;
        uint32_t begin = by_group->first[g], members = by_group->first[g + 1] - begin;
        struct prng prng;
        prng_init(&prng, km->seed, STREAM_SEEDS + ((uint64_t)g << 32));
        pick_spread(&prng, members, count, rows + first);
        for (uint32_t c = first; c < first + count; c++)
            rows[c] = by_group->members[begin + rows[c]];
    }
}

struct cell_pass {
    struct kmeans *km;
    uint32_t probes;
};

static int cell_block(void *context, uint64_t block, unsigned worker)
{
    struct cell_pass *pass = context;
    struct kmeans *km = pass->km;
    const struct span *span = &km->spans[block];
    struct assign *assign = &km->workers[worker];
    assign_clear(assign, &km->centroids);
    for (uint32_t p = 0; p < pass->probes; p++) {
        uint32_t near = km->near[span->group * GROUP_PROBES + p];
        assign_add(assign, km->cell_first[near], km->cell_first[near + 1] - km->cell_first[near]);
    }
    assign_rows(assign, km->rows, km->by_group.members + span->begin, span->end - span->begin,
                km->nearest + span->begin);
    return 0;
}

int kmeans_assign_cells(struct kmeans *km, unsigned round)
{
    struct cell_pass pass = {.km = km, .probes = round < KMEANS_ALONE_ROUNDS ? 1 : km->probes};
    cut_spans(km);
    return crew_run(km->crew, km->span_count, cell_block, &pass);
}

static uint32_t most_candidates(const struct kmeans *km)
{
    uint32_t most = 0;
    for (uint32_t g = 0; g < km->groups.count; g++) {
        uint32_t sum = 0;
        for (uint32_t p = 0; p < km->probes; p++) {
            uint32_t near = km->near[g * GROUP_PROBES + p];
            sum += km->cell_first[near + 1] - km->cell_first[near];
        }
        most = sum > most ? sum : most;
    }
    return most;
}

static int workers_init(struct kmeans *km, uint32_t candidates_max)
{
    for (unsigned w = 0; w < km->crew->threads; w++) {
        assign_fini(&km->workers[w]);
        int status = assign_init(&km->workers[w], km->groups.dim, candidates_max);
        if (status != 0)
            return status;
    }
    return 0;
}

int kmeans_init_cells(struct kmeans *km, const uint32_t *group_first, uint32_t target)
{
    uint32_t count = share_cells(km, group_first, target);
    if (find_near_groups(km) != 0 || rows8_init(&km->centroids, count, km->groups.dim) != 0)
        return -ENOMEM;
    return workers_init(km, most_candidates(km));
}

unsigned kmeans_resume_cells(struct kmeans *km)
{
    const struct cells_state *before = km->keeper->state;
    if (!before || before->centroids.count != km->centroids.count)
        return 0;
    rows8_copy(&km->centroids, &before->centroids);
    return before->round;
}

/* Rows of the copies are borrowed. */
int kmeans_save_round(struct kmeans *km, unsigned done)
{
    struct cells_state state = {.round = done, .groups = km->groups, .centroids = km->centroids};
    return km->keeper->save ? km->keeper->save(km->keeper->context, &state, km->err) : 0;
}

static void seed_cells(struct kmeans *km)
{
    uint32_t *seeds = km->nearest; /* free until the first round */
    kmeans_pick_seeds(km, &km->by_group, seeds);
    for (uint32_t c = 0; c < km->centroids.count; c++)
        rows8_set(&km->centroids, c, rows8_at(km->rows, seeds[c]));
}

/* In memory, in by_cell too. */
static int assign_round(struct kmeans *km, unsigned round)
{
    int status = kmeans_assign_cells(km, round);
    if (status == 0)
        grouping_fill(&km->by_cell, km->centroids.count, km->nearest, km->by_group.members,
                      km->rows->count);
    return status;
}

static int make_cells(struct kmeans *km, uint32_t target)
{
    if (kmeans_init_cells(km, km->by_group.first, target) != 0 ||
        grouping_init(&km->by_cell, km->centroids.count, km->rows->count) != 0)
        return -ENOMEM;
    unsigned done = kmeans_resume_cells(km);
    if (done == 0)
        seed_cells(km);
    int status = 0;
    for (unsigned round = done; round < CELLS_ROUNDS && status == 0; round++) {
        status = assign_round(km, round);
        if (status == 0)
            status =
                update_centroids(km, &km->by_cell, &km->centroids, KMEANS_GROUP_ROUNDS + round);
        if (status == 0)
            status = kmeans_save_round(km, round + 1);
        crew_advance(km->crew, kmeans_progress(km->rows->count, round + 1));
    }
    return status != 0 ? status : assign_round(km, CELLS_ROUNDS);
}

/* ---- the result ---- */

static void append_cell(struct cells *out, const uint8_t *centroid, uint32_t rows)
{
    rows8_set(&out->centroids, out->count, centroid);
    out->first[out->count + 1] = out->first[out->count] + rows;
    out->count++;
}

void kmeans_append_cell(struct cells *out, struct bisect *bisect, uint32_t *ids, uint32_t count,
                        const uint8_t *centroid, uint8_t *scratch)
{
    if (count <= CELLS_ROWS_MAX) {
        append_cell(out, centroid, count);
        return;
    }
    uint32_t first = bisect_rows(bisect, ids, count);
    if (first == 0)
        first = count / 2; /* equal rows: any cut will do */
    uint32_t sizes[2] = {first, count - first};
    for (int side = 0; side < 2; side++) {
        uint32_t *part = ids + (side ? first : 0);
        uint8_t *mean = scratch + bisect->rows->stride;
        rows8_mean(bisect->rows, part, sizes[side], bisect->sums, scratch);
        kmeans_append_cell(out, bisect, part, sizes[side], scratch, mean);
    }
}

int kmeans_init_result(const struct kmeans *km, const uint32_t *first, struct cells *out)
{
    uint32_t cells = 0;
    for (uint32_t c = 0; c < km->centroids.count; c++) {
        uint32_t rows = first[c + 1] - first[c];
        cells += rows > CELLS_ROWS_MAX ? 1 + rows / (CELLS_ROWS_MAX / 16) : rows > 0;
    }
    out->first = mem_alloc_array((size_t)cells + 1, sizeof *out->first);
    return out->first ? rows8_init(&out->centroids, cells, km->centroids.dim) : -ENOMEM;
}

/* Copies what k-means found, without empty cells and with the largest ones split. */
static int finish_cells(struct kmeans *km, struct cells *out)
{
    const uint32_t *first = km->by_cell.first;
    uint32_t largest = 0;
    for (uint32_t c = 0; c < km->centroids.count; c++)
        largest = first[c + 1] - first[c] > largest ? first[c + 1] - first[c] : largest;
    struct bisect bisect;
    int status = bisect_init(&bisect, km->rows, largest);
    if (status != 0)
        return status;
    uint8_t *scratch = mem_alloc_array(KMEANS_SPLIT_DEPTH, km->rows->stride);
    out->rows = km->by_cell.members;
    km->by_cell.members = NULL;
    status = scratch ? kmeans_init_result(km, first, out) : -ENOMEM;
    for (uint32_t c = 0; c < km->centroids.count && status == 0; c++)
        if (first[c + 1] > first[c])
            kmeans_append_cell(out, &bisect, out->rows + first[c], first[c + 1] - first[c],
                               rows8_at(&km->centroids, c), scratch);
    out->centroids.count = out->count;
    mem_free(scratch);
    bisect_fini(&bisect);
    return status;
}

void kmeans_fini(struct kmeans *km)
{
    for (unsigned w = 0; w < km->crew->threads && km->workers; w++)
        assign_fini(&km->workers[w]);
    mem_free(km->workers);
    mem_free(km->ids);
    mem_free(km->sample);
    mem_free(km->group_seeds);
    mem_free(km->cell_first);
    mem_free(km->near);
    mem_free(km->spans);
    mem_free(km->nearest);
    rows8_fini(&km->groups);
    rows8_fini(&km->centroids);
    grouping_fini(&km->by_group);
    grouping_fini(&km->by_cell);
}

uint32_t kmeans_target(uint32_t rows)
{
    uint32_t target = rows / CELLS_ROWS;
    return target < 1 ? 1 : target > CELLS_COUNT_MAX ? CELLS_COUNT_MAX : target;
}

static void pick_sample(struct kmeans *km, uint32_t count)
{
    struct prng prng;
    prng_init(&prng, km->seed, STREAM_SAMPLE);
    pick_spread(&prng, count, km->sample_count, km->sample);
    pick_spread(&prng, km->sample_count, km->groups.count, km->group_seeds);
}

int kmeans_init(struct kmeans *km, uint32_t held, uint32_t count, uint32_t dim)
{
    uint32_t groups = (uint32_t)ceil(sqrt(kmeans_target(count)));
    km->probes = groups < GROUP_PROBES ? groups : GROUP_PROBES;
    km->sample_count = count / GROUP_SAMPLE < groups ? count : groups * GROUP_SAMPLE;
    held = held > km->sample_count ? held : km->sample_count;
    km->ids = mem_alloc_array(held, sizeof *km->ids);
    km->sample = mem_alloc_array(km->sample_count, sizeof *km->sample);
    km->group_seeds = mem_alloc_array(groups, sizeof *km->group_seeds);
    km->cell_first = mem_alloc_array((size_t)groups + 1, sizeof *km->cell_first);
    km->near = mem_alloc_array((size_t)groups * GROUP_PROBES, sizeof *km->near);
    km->spans = mem_alloc_array(groups + held / SPAN_ROWS + 1, sizeof *km->spans);
    km->nearest = mem_alloc_array(held, sizeof *km->nearest);
    km->workers = mem_alloc_array(km->crew->threads, sizeof *km->workers);
    if (!km->ids || !km->sample || !km->group_seeds || !km->cell_first || !km->near || !km->spans ||
        !km->nearest || !km->workers || grouping_init(&km->by_group, groups, held) != 0 ||
        rows8_init(&km->groups, groups, dim) != 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < held; i++)
        km->ids[i] = i;
    pick_sample(km, count);
    return workers_init(km, groups);
}

static int make_groups(struct kmeans *km)
{
    int status = kmeans_resume_groups(km) ? 0 : kmeans_make_groups(km, km->sample);
    return status == 0 ? group_rows(km, km->ids, km->rows->count) : status;
}

int cells_build(struct cells *out, const struct crew *crew, const struct rows8 *rows, uint64_t seed,
                const struct cells_keeper *keeper, struct fathom_error *err)
{
    const struct cells_keeper none = {0};
    struct fathom_error why = {0};
    struct kmeans km = {
        .crew = crew, .rows = rows, .seed = seed, .keeper = keeper ? keeper : &none, .err = &why};
    *out = (struct cells){0};
    int status = kmeans_init(&km, rows->count, rows->count, rows->dim);
    if (status == 0)
        status = make_groups(&km);
    if (status == 0)
        status = make_cells(&km, kmeans_target(rows->count));
    if (status == 0)
        status = finish_cells(&km, out);
    kmeans_fini(&km);
    if (status != 0) {
        cells_fini(out);
        return error_set(err, status, "cells: %s", why.msg[0] ? why.msg : fathom_strerror(status));
    }
    return 0;
}

void cells_state_fini(struct cells_state *state)
{
    rows8_fini(&state->groups);
    rows8_fini(&state->centroids);
    *state = (struct cells_state){0};
}

void cells_fini(struct cells *cells)
{
    rows8_fini(&cells->centroids);
    mem_free(cells->first);
    mem_free(cells->rows);
    *cells = (struct cells){0};
}
