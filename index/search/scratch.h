/* Which navigator a query gets, and at whose expense. An engine has one, of the size that plans
 * reserve; a query beyond that has one of its own while it navigates; and where lists are read from
 * SSD each slot has one, since walks wait. */
#ifndef SEARCH_SCRATCH_H
#define SEARCH_SCRATCH_H

#include "query.h"

struct scratch {
    struct navigator navigator;
    struct navigator large; /* of one query beyond what plans reserve, while it navigates */
    int64_t large_bytes;    /* of the budget, for that */
    unsigned resident_runs; /* queries in a row that needed no navigator of their slot */
};

/* What plans reserve for an engine: the navigator, and those of walking queries. */
uint64_t scratch_bytes(const struct properties *properties, unsigned inflight,
                       enum query_waits waits);
/* Finds the navigator for a query. 0, -ENOMEM or FATHOM_EBUDGET. */
int scratch_reserve(struct scratch *scratch, struct query *query, const struct fathom_index *index,
                    uint32_t search_list, uint32_t candidates,
                    struct navigator **out) FATHOM_MUST_USE;
/* A large query has navigated, or its slot is free: what it has borrowed goes back to the budget.
 */
void scratch_release_large(struct scratch *scratch, const struct fathom_index *index);
void scratch_release_walk(struct query *query);
/* True when no query has needed a navigator of its slot for long. */
bool scratch_is_stale(struct scratch *scratch);
void scratch_fini(struct scratch *scratch);

#endif
