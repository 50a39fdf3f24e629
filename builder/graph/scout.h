/* Best-first search of the graph under construction, by exact distance of 8-bit rows. */
#ifndef BUILDER_SCOUT_H
#define BUILDER_SCOUT_H

#include "fathom/error.h"
#include "graph.h"
#include "prune.h"

/* One thread's search. After scout_run, path holds the keys of all expanded rows in order of
 * expansion, and beam the nearest. */
struct scout {
    const struct graph *graph;
    const struct rows8 *rows;
    uint32_t list; /* L: width of the beam */
    uint32_t beam_count, path_count;
    uint64_t *beam;    /* list + 1 keys, rising */
    uint8_t *expanded; /* of each place in the beam */
    uint64_t *path;
    uint32_t path_room;
    uint64_t *visited; /* a bit a row; all zero between searches */
    int8_t *query;
    uint32_t *ids;
    int32_t *dots;
    uint64_t distances; /* computed so far; for reports */
};

int scout_init(struct scout *scout, const struct graph *graph, const struct rows8 *rows,
               uint32_t list) FATHOM_MUST_USE;
void scout_fini(struct scout *scout);

/* Searches for a query in 8-bit form (stride bytes, zero-padded) from the given entries. */
int scout_run(struct scout *scout, const uint8_t *query, const uint32_t *entries,
              uint32_t entry_count) FATHOM_MUST_USE;

#endif
