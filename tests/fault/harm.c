/* Shared by the tests of faults; see harm.h. */
#include "harm.h"

#include <errno.h>
#include <string.h>

int harm_open(struct fathom_index **out, const struct env *env, const char *dir,
              enum harm_residency residency, struct fathom_error *err)
{
    struct fathom_open_options options = {
        .threads = 1, .inflight = 4, .navigator = FATHOM_NAVIGATOR_GRAPH};
    *err = (struct fathom_error){0};
    if (residency == HARM_PARTLY)
        return partly_open(out, env, dir, 0.3f, 4, err);
    if (residency == HARM_SCAN)
        return scan_open(out, env, dir, 0.4f, 4, err);
    if (residency == HARM_LEAST)
        return least_open(out, env, dir, 4, NULL, err);
    if (residency == HARM_CELLS)
        options.navigator = FATHOM_NAVIGATOR_CELLS;
    int status = index_open_with(out, env, dir, &options, err);
    if (status || residency == HARM_ROWS)
        return status;
    /* Middling codes: short enough for doubts, which reads must settle. */
    options.code_bytes = (*out)->level_bytes[(*out)->level_count / 2];
    fathom_index_close(*out);
    return index_open_with(out, env, dir, &options, err);
}

void harm_ask(struct answers *out, const struct small_index *small, struct fathom_engine *engine,
              const struct fathom_index *index, uint32_t count, bool exact)
{
    struct fathom_query request = fathom_query_default();
    request.dtype = small->options.dtype;
    request.search_list = 40;
    request.exact_distances = exact;
    answers_get(out, engine, index, &request, small->raw_queries, small->options.dim, count, 4);
}

struct fathom_engine *harm_engine(struct fault_env *fault, enum fathom_io io, unsigned inflight,
                                  const char *plan)
{
    struct fathom_engine_options options = {.io = io, .inflight = inflight};
    struct fathom_engine *engine = NULL;
    struct fathom_error err = {0};
    if (fault_init(fault, env_os(), plan, &err) != 0 ||
        engine_create_with(&engine, &fault->env, &options, &err) != 0)
        fail_msg("%s: %s", plan, err.msg);
    return engine;
}

uint32_t harm_count(const struct answers *right, const struct answers *got, const char *what,
                    int *status)
{
    uint32_t failed = 0;
    for (uint32_t q = 0; q < got->count; q++) {
        const struct answer *answer = &got->all[q];
        if (answer->status == 0) {
            if (!answer_same(right, got, q))
                fail_msg("%s: query %u is answered wrongly", what, q);
            continue;
        }
        failed++;
        if (status)
            *status = answer->status;
        /* What the OS said is passed on in its words. */
        const char *said = answer->status > FATHOM_ECORRUPT ? fathom_strerror(answer->status) : "";
        if (!strstr(answer->detail, FORMAT_FILE_NAME) || !strstr(answer->detail, "page ") ||
            !strstr(answer->detail, said))
            fail_msg("%s: query %u: %d does not name file, page and cause: '%s'", what, q,
                     answer->status, answer->detail);
    }
    return failed;
}
