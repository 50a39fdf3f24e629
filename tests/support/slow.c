/* Engines behind fault plans (see slow.h). */
#include "slow.h"

#include "fathom_test.h"
#include "index.h"

#define DEADLINE_NS 50000000

struct fathom_engine *slow_engine(struct fault_env *fault, enum fathom_io io, const char *plan)
{
    struct fathom_engine_options options = {.io = io, .inflight = SLOW_INFLIGHT};
    struct fathom_engine *engine;
    struct fathom_error err = {0};
    if (fault_init(fault, env_os(), plan, &err) != 0 ||
        engine_create_with(&engine, &fault->env, &options, &err) != 0)
        fail_msg("an engine behind %s: %s", plan, err.msg);
    return engine;
}

struct fathom_engine *slow_past_deadline(struct fault_env *fault, const char *plan,
                                         const struct fathom_index *index,
                                         struct fathom_query request,
                                         uint32_t (*reads)(const struct fathom_query_stats *),
                                         uint32_t least_reads)
{
    for (;;) {
        struct fathom_engine *engine = slow_engine(fault, FATHOM_IO_URING, plan);
        struct fathom_result result;
        request.deadline_ns = env_clock_ns(env_os()) + DEADLINE_NS;
        assert_int_equal(fathom_engine_submit(engine, index, &request, NULL), 0);
        assert_int_equal(fathom_engine_poll(engine, &result, 1, true), 1);
        assert_int_equal(result.status, FATHOM_EDEADLINE);
        assert_int_equal(result.count, 0);
        if (reads(&result.stats) >= least_reads)
            return engine;
        fault_release(fault);
        fathom_engine_destroy(engine);
    }
}

void slow_end_early(enum fathom_io io, const char *plan, struct fathom_index *index,
                    const struct fathom_query *requests, uint32_t count, int polls)
{
    struct fault_env fault;
    struct fathom_engine *engine = slow_engine(&fault, io, plan);
    for (uint32_t q = 0; q < count; q++)
        assert_int_equal(fathom_engine_submit(engine, index, &requests[q], NULL), 0);
    for (int i = 0; i < polls; i++) {
        struct fathom_result result;
        assert_true(fathom_engine_poll(engine, &result, 1, false) >= 0);
    }
    fathom_index_close(index);
    fathom_engine_destroy(engine);
}
