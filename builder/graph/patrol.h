/* Best-first search of the graph under construction for up to sixteen rows at once. What one of
 * them opens is scored for all: rows that are near each other look at the same part of the graph,
 * and a row of it that is in the cache for one of them costs next to nothing for the others. */
#ifndef BUILDER_PATROL_H
#define BUILDER_PATROL_H

#include "fathom/error.h"
#include "graph.h"

#define PATROL_ROWS  KERNEL_PANEL
#define PATROL_CHUNK 64 /* rows scored at a time */

/* The nearest rows that one member has seen. */
struct patrol_beam {
    uint64_t *keys;       /* prune_key; rising as far as rows are opened, and all of them behind
                             patrol_run; the member itself is not among them */
    uint32_t count, next; /* next: none before it is unopened */
};

/* One thread's search. After patrol_run, beams[i] holds the candidates of member i; they are the
 * caller's to use up. */
struct patrol {
    const struct graph *graph;
    const struct rows8 *rows;
    uint32_t list;  /* L: length of a beam */
    uint32_t width; /* rows of a beam that are opened; those behind are candidates only */
    uint32_t member_count;
    const uint32_t *members;
    struct patrol_beam beams[PATROL_ROWS];
    int32_t *limits, *biases; /* PATROL_ROWS: what a beam still takes; the member's row8_terms */
    uint64_t *marks;          /* two bits a row, scored and opened; all zero between runs */
    int8_t *panel;            /* the members, for dot_u8s8_panel */
    uint32_t *ids;            /* all that is marked, in the order in which it was; the first
                                 scored_count have been scored */
    uint32_t id_count, scored_count, id_room;
    uint32_t round_ids; /* that one round may add */
    int32_t *dots;      /* PATROL_CHUNK x PATROL_ROWS */
};

int patrol_init(struct patrol *patrol, const struct graph *graph, const struct rows8 *rows,
                uint32_t list) FATHOM_MUST_USE;
void patrol_fini(struct patrol *patrol);

/* Searches from a start for each member. Members are candidates of each other; their own lists are
 * not looked at. count: 1..PATROL_ROWS, without duplicates. */
int patrol_run(struct patrol *patrol, const uint32_t *members, const uint32_t *starts,
               uint32_t count) FATHOM_MUST_USE;

#endif
