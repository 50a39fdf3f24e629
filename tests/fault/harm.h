/* What the tests of faults share: an index that reads a good deal for each query, the answers that
 * it gives when nothing is wrong, and the one rule for all: an answer is that answer, or a typed
 * error that says where. Never another. */
#ifndef FAULT_HARM_H
#define FAULT_HARM_H

#include "fathom_test.h"

#include "answers.h"
#include "fault.h"
#include "index.h"
#include "small_index.h"

/* How much of an index is in memory, from most to least. */
enum harm_residency {
    HARM_ROWS,
    HARM_GRAPH,
    HARM_PARTLY,
    HARM_CELLS,
    HARM_SCAN,
    HARM_LEAST,
    HARM_RESIDENCIES
};

/* Opens or says why not. dir may differ from the index's own, for a damaged copy. */
int harm_open(struct fathom_index **out, const struct env *env, const char *dir,
              enum harm_residency residency, struct fathom_error *err);
/* Asks count of the small index's queries, 4 at a time; each with exact distances or none. */
void harm_ask(struct answers *out, const struct small_index *small, struct fathom_engine *engine,
              const struct fathom_index *index, uint32_t count, bool exact);
/* An engine behind a fault plan. fault must outlive it. */
struct fathom_engine *harm_engine(struct fault_env *fault, enum fathom_io io, unsigned inflight,
                                  const char *plan);

/* Fails the test when an answer is neither right nor a typed error with file and page; returns the
 * number of errors. what goes into the message. status (may be NULL) receives the last error. */
uint32_t harm_count(const struct answers *right, const struct answers *got, const char *what,
                    int *status);

#endif
