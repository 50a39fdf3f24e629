/* Selection of the best candidates (quickselect); shared by the cell navigator and refine. */
#ifndef SEARCH_SELECT_H
#define SEARCH_SELECT_H

#include "navigate.h"

/* Moves the keep candidates with the smallest (estimate, row) to the front; the order within is not
 * defined. */
void select_best(struct candidate *candidates, uint32_t count, uint32_t keep);

/* Where to cut count values so that keep (< count) remain: all below limit, and the first `equal`
 * of those equal to it. No value is NaN. */
struct cut {
    float limit;
    uint32_t equal;
};
struct cut select_cut(const float *values, uint32_t count, uint32_t keep);

/* Puts the value of that rank (from 0) in its place, smaller ones before it. */
void select_floats(float *values, uint32_t count, uint32_t rank);

#endif
