/* Which rows' lists searches need most: those are kept in memory first. */
#ifndef BUILDER_HEAT_H
#define BUILDER_HEAT_H

#include "graph.h"

#define HEAT_SAMPLE_MAX 200000 /* searches at the most */

/* The heat of each row, of the finished graph: how often searches for a sample of the rows, and for
 * given queries (count 0: none), expand it, and among equals how many lists it is in. */
int heat_measure(uint32_t **out, const struct crew *crew, const struct graph *graph,
                 const struct rows8 *rows, const struct rows8 *queries,
                 struct fathom_error *err) FATHOM_MUST_USE;

/* Ranks of FORMAT_HEAT_RANKS equal shares of the lists' bytes, the hottest first. lengths: of each
 * row's list; bytes: their sum. */
int heat_ranks(uint8_t *ranks, const struct crew *crew, const uint32_t *heat,
               const uint16_t *lengths, uint32_t rows, uint64_t bytes) FATHOM_MUST_USE;

#endif
