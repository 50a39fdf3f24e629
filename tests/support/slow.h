/* Engines whose reads go wrong or come late by a fault plan, and what tests of each kind of read do
 * with them: leave a query by its deadline, and end an engine while reads are on their way. */
#ifndef SUPPORT_SLOW_H
#define SUPPORT_SLOW_H

#include "fathom/fathom.h"
#include "fault.h"

#define SLOW_INFLIGHT 4

/* An engine of SLOW_INFLIGHT queries behind a fault plan, or a failed test. */
struct fathom_engine *slow_engine(struct fault_env *fault, enum fathom_io io, const char *plan);

/* The plan of a device that does not give one read back until fault_release(). */
#define SLOW_STUCK(number) "read#" #number ":stall=3600s"

/* Asks one query, a read of which is held back by the plan; io_uring only. Fails the test unless it
 * answers that the deadline has passed. reads: of what must have been asked for meanwhile; on a
 * machine so busy that the deadline was first it is asked once more. The engine is made here, and
 * its read is still out; the caller releases it, and destroys the engine. */
struct fathom_engine *slow_past_deadline(struct fault_env *fault, const char *plan,
                                         const struct fathom_index *index,
                                         struct fathom_query request,
                                         uint32_t (*reads)(const struct fathom_query_stats *),
                                         uint32_t least_reads);

/* Submits count queries whose reads come late, polls some times, closes the index, which queries in
 * flight hold, and ends the engine. */
void slow_end_early(enum fathom_io io, const char *plan, struct fathom_index *index,
                    const struct fathom_query *requests, uint32_t count, int polls);

#endif
