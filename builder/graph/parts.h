/* The graph in parts, for builds that may not hold all neighbour lists in memory at once. A part is
 * a contiguous range of cells in their final order. Its graph is built over its own rows and a
 * halo: those of the foreign cells that are nearest to its own, and a sample of all rows. They come
 * from the work file of rows, lists go to one of the part. Since every file is in the order of
 * rows, the lists of all parts are merged in one pass through all of them (merge.h). */
#ifndef BUILDER_PARTS_H
#define BUILDER_PARTS_H

#include "checkpoint.h"
#include "encode.h"

#define PARTS_MAX  512
#define PARTS_NEAR 16 /* cells, of each cell: those of other parts are candidates for the halo */

struct part {
    uint32_t cell, cell_end, row, row_end;
};

struct parts {
    uint32_t count;
    struct part *list;
    struct checkpoint *checkpoint;
    const struct crew *crew;
    const struct cells *cells;
    uint32_t rows, dim;
    uint32_t pause_rows; /* merged between two looks at whether to save; 0: as many as are quick */
    uint32_t *near;      /* cells x PARTS_NEAR, while graphs are built */
    /* Of the merged graph. */
    uint64_t edges;
    uint32_t entry_count;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

/* Rows of the halo at the most, of those of its part, when there are so many parts. */
double parts_halo(uint32_t count);

/* Cuts rows into count parts of about equal size. */
int parts_init(struct parts *parts, struct checkpoint *checkpoint, const struct cells *cells,
               uint32_t rows, uint32_t dim, uint32_t count,
               struct fathom_error *err) FATHOM_MUST_USE;
void parts_fini(struct parts *parts);

/* Builds the graphs of the parts that have no work file yet, and merges them. The lists' pages are
 * in a work file; the rest is in lists. */
int parts_graph(struct parts *parts, const struct graph_options *options,
                struct encoded_lists *lists, struct fathom_error *err) FATHOM_MUST_USE;
/* Codes and factors of every part, each to a work file. */
int parts_encode(struct parts *parts, const struct trained *trained,
                 struct fathom_error *err) FATHOM_MUST_USE;

/* ---- merge.c, joined.c ---- */

/* Leaves the work files lists, thin and joined. merged: the lists of all parts are in one file
 * already, as parts_has_merged (1) says. */
int parts_merge(struct parts *parts, bool merged, uint32_t degree, struct encoded_lists *lists,
                struct fathom_error *err) FATHOM_MUST_USE;
int parts_has_merged(const struct parts *parts, struct fathom_error *err) FATHOM_MUST_USE;
/* 1 when all was done before, by a build that was killed. */
int parts_load_merged(struct parts *parts, struct encoded_lists *lists,
                      struct fathom_error *err) FATHOM_MUST_USE;

/* A part's file: this, then for every member in the order of rows a record and its neighbours. All
 * numbers are of the whole graph. */
struct part_header {
    uint32_t members, entry_count;
    uint32_t entries[GRAPH_ENTRIES_MAX];
};

struct part_record {
    uint32_t row, heat, count;
};

#endif
