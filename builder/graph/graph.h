/* The neighbour graph: Vamana (Jayaram Subramanya et al., NeurIPS 2019), built in batches against a
 * frozen graph as in ParlayANN (Manohar et al., PPoPP 2024), so that the result does not depend on
 * the threads. Over 8-bit rows in their final order; distances are exact integers. */
#ifndef BUILDER_GRAPH_H
#define BUILDER_GRAPH_H

#include "cells.h"
#include "crew.h"
#include "rows8.h"

#define GRAPH_ENTRIES_MAX 64 /* a hop or two is saved; more cost more than that to score */

#define GRAPH_NONE UINT32_MAX /* no row */

struct graph {
    uint32_t rows, degree_max;
    size_t stride;   /* of a row's list, in uint32_t: the count first, then the neighbours */
    uint32_t *lists; /* rows x stride */
    uint32_t entry_count;
    uint32_t
        entries[GRAPH_ENTRIES_MAX]; /* the first is the medoid, from which every row is reachable */
};

#define GRAPH_DONE UINT32_MAX

struct graph_options {
    uint32_t degree, list; /* R, L */
    double alpha;
    uint64_t seed;
    double lid; /* as degree_probe has it, for progress; 0: not known */
    /* Where a killed build had come to: out holds its lists and entries, as save was last given
     * them. 0: nowhere. */
    uint32_t done;
    /* May be NULL. Called between steps: the lists, done and the other options are all that the
     * rest of the work depends on. done grows, and is GRAPH_DONE at the end. */
    int (*save)(void *context, const struct graph *graph, uint32_t done, struct fathom_error *err);
    void *save_context;
};

static inline uint32_t *graph_list(const struct graph *graph, uint32_t row)
{
    return graph->lists + row * graph->stride;
}

/* Empty lists. graph_fini accepts what is left after -ENOMEM. */
int graph_init(struct graph *out, uint32_t rows, uint32_t degree) FATHOM_MUST_USE;
/* cell_first: count + 1 rows where cells begin, for the spread of entries. */
int graph_build(struct graph *out, const struct crew *crew, const struct rows8 *rows,
                const uint32_t *cell_first, uint32_t cell_count,
                const struct graph_options *options, struct fathom_error *err) FATHOM_MUST_USE;
void graph_fini(struct graph *graph);

/* ---- parts, each in its own file ---- */

/* Entries (entries.c): the medoid, and rows in the middle of equal stretches of cells. */
int graph_choose_entries(struct graph *graph, const struct crew *crew, const struct rows8 *rows,
                         const uint32_t *cell_first, uint32_t cell_count) FATHOM_MUST_USE;

/* Reachability (connect.c). Rows equal to the row before them are no part of the search graph
 * proper: they hang in a tree below the first of their run. */
uint32_t graph_run_end(const struct rows8 *rows, uint32_t row);
uint32_t graph_run_fanout(uint32_t degree);
void graph_hang_run(struct graph *graph, uint32_t begin, uint32_t end);
/* Adds an edge from a near, reachable row to each row that entries[0] does not reach. */
int graph_connect(struct graph *graph, const struct rows8 *rows, uint32_t list) FATHOM_MUST_USE;

#endif
