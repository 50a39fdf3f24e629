/* What k-means over rows in memory (cells.c) and over rows in a work file (cells_stored.c) share.
 * Both make the same cells of the same rows: assigning looks at one row at a time, and sums are
 * exact. */
#ifndef BUILDER_KMEANS_H
#define BUILDER_KMEANS_H

#include "assign.h"
#include "bisect.h"
#include "cells.h"

/* Of the rounds over cells, in the first ones a group sees its own only, then near ones' too. */
#define KMEANS_ALONE_ROUNDS 4
#define KMEANS_GROUP_ROUNDS 8
#define KMEANS_UPDATE_BLOCK 16  /* cells */
#define KMEANS_SPLIT_DEPTH  256 /* parts of a cell that is cut shrink by 7/8 */

/* Rows by cluster: members[first[c]] .. members[first[c + 1] - 1]. */
struct grouping {
    uint32_t *first, *members;
};

/* -ENOMEM; grouping_fini accepts what is left. */
int grouping_init(struct grouping *grouping, uint32_t keys, uint32_t count) FATHOM_MUST_USE;
void grouping_fini(struct grouping *grouping);
/* Counting sort of ids (NULL: 0..count-1) by the key at the same place; stable. */
void grouping_fill(struct grouping *grouping, uint32_t keys, const uint32_t *key,
                   const uint32_t *ids, uint32_t count);

/* Places [begin, end) of the rows listed by group. */
struct span {
    uint32_t group, begin, end;
};

struct kmeans {
    const struct crew *crew;
    const struct rows8 *rows; /* in memory: all, or a block of them */
    uint64_t seed;
    const struct cells_keeper *keeper;
    struct fathom_error *err;
    uint32_t *ids; /* 0..rows-1 */
    uint32_t sample_count;
    uint32_t *sample;      /* rising rows that groups come from */
    uint32_t *group_seeds; /* places in the sample that groups begin as */
    struct rows8 groups, centroids;
    struct grouping by_group, by_cell;
    uint32_t *cell_first; /* groups + 1: the cells of a group */
    uint32_t *near;       /* groups x some, a group itself first */
    uint32_t probes;
    struct span *spans;
    uint32_t span_count;
    uint32_t *nearest; /* of a row, or of a place in by_group.members */
    struct assign *workers;
};

/* Cells that so many rows get, about. */
uint32_t kmeans_target(uint32_t rows);
/* Scratch for `held` rows at a time of `count`, or for the sample, and the numbers of the sample.
 * -ENOMEM; kmeans_fini accepts what is left. */
int kmeans_init(struct kmeans *km, uint32_t held, uint32_t count, uint32_t dim) FATHOM_MUST_USE;
void kmeans_fini(struct kmeans *km);

/* Groups of a killed build. False: there are none. */
bool kmeans_resume_groups(struct kmeans *km);
/* Groups by the sample, whose rows among km->rows are ids. */
int kmeans_make_groups(struct kmeans *km, const uint32_t *ids) FATHOM_MUST_USE;
/* The group of each of ids, into nearest. */
int kmeans_assign_groups(struct kmeans *km, const uint32_t *ids, uint32_t count) FATHOM_MUST_USE;
/* Shares cells out by the rows of groups, group_first as in grouping, and makes room for them. */
int kmeans_init_cells(struct kmeans *km, const uint32_t *group_first,
                      uint32_t target) FATHOM_MUST_USE;
/* Rounds that a killed build has done, with its centroids; 0: seeds are to be chosen. */
unsigned kmeans_resume_cells(struct kmeans *km);
/* The row that each cell begins as. */
void kmeans_pick_seeds(const struct kmeans *km, const struct grouping *by_group, uint32_t *rows);
/* The cell of each place of by_group, into nearest. */
int kmeans_assign_cells(struct kmeans *km, unsigned round) FATHOM_MUST_USE;
int kmeans_save_round(struct kmeans *km, unsigned done) FATHOM_MUST_USE;
/* How far the stage is when so many rounds are done, by the time that they take, of its rows. */
uint64_t kmeans_progress(uint64_t rows, unsigned done);

/* A cluster without rows, and the row that it takes. */
struct kmeans_repair {
    uint32_t cluster, row;
};

/* An empty cluster takes a row of a large one: the largest for the first, and so on. out: one for
 * each cluster. *count receives how many there are. */
int kmeans_pick_repairs(const struct kmeans *km, const struct grouping *grouping, uint32_t clusters,
                        unsigned round, struct kmeans_repair *out, uint32_t *count) FATHOM_MUST_USE;

/* Room in out for the cells that there may be at the most, when the largest are split. */
int kmeans_init_result(const struct kmeans *km, const uint32_t *first,
                       struct cells *out) FATHOM_MUST_USE;
/* Appends a cell of count rows. ids are those in bisect->rows: put in order where the cell is so
 * large that it is cut in two until no part is. scratch:
 * KMEANS_SPLIT_DEPTH x stride. */
void kmeans_append_cell(struct cells *out, struct bisect *bisect, uint32_t *ids, uint32_t count,
                        const uint8_t *centroid, uint8_t *scratch);

#endif
