/* Small indexes that are open; see opened.h. */
#include "opened.h"

#include <stdlib.h>

#include "fathom_test.h"
#include "index.h"
#include "slow.h"

#define INFLIGHT    16
#define EARLY_SHARE 0.1f /* so that there is much to read */

static const enum fathom_io engines[] = {FATHOM_IO_PREAD, FATHOM_IO_URING};

struct fathom_index *index_opened(const struct env *env, const char *dir,
                                  const struct fathom_open_options *options)
{
    struct fathom_index *index;
    struct fathom_error err = {0};
    if (index_open_with(&index, env, dir, options, &err) != 0)
        fail_msg("%s", err.msg);
    return index;
}

struct fathom_open_options reading_options(const char *dir)
{
    struct fathom_open_options options = {
        .threads = 1, .inflight = INFLIGHT, .navigator = FATHOM_NAVIGATOR_CELLS};
    struct fathom_index *index = index_opened(env_os(), dir, &options);
    options.code_bytes = index->level_bytes[0];
    fathom_index_close(index);
    return options;
}

struct fathom_index *reading_opened(const char *dir)
{
    struct fathom_open_options options = reading_options(dir);
    return index_opened(env_os(), dir, &options);
}

/* ---- opened once ---- */

int opened_make(void **state, const struct small_options *options)
{
    struct opened *opened = calloc(1, sizeof *opened);
    assert_non_null(opened);
    small_index_make(&opened->small, options);
    *state = opened;
    return 0;
}

int opened_make_reading(void **state, const struct small_options *options)
{
    int status = opened_make(state, options);
    struct opened *opened = *state;
    opened->index = reading_opened(opened->small.dir);
    return status;
}

int opened_free(void **state)
{
    struct opened *opened = *state;
    fathom_index_close(opened->index);
    small_index_remove(&opened->small);
    free(opened);
    return 0;
}

/* ---- by shares ---- */

int shares_make(void **state, const struct small_options *options, const struct shares_how *how)
{
    struct shares *shares = calloc(1, sizeof *shares);
    struct fathom_open_options whole = {
        .threads = 1, .inflight = INFLIGHT, .navigator = how->navigator};
    struct fathom_error err;
    assert_non_null(shares);
    shares->how = how;
    small_index_make(&shares->small, options);
    for (int s = 0; s < SHARES; s++)
        if (how->open(&shares->partly[s], env_os(), shares->small.dir, how->shares[s], INFLIGHT,
                      &err) != 0)
            fail_msg("%s", err.msg);
    whole.code_bytes = shares->partly[0]->level.code_bytes;
    shares->whole = index_opened(env_os(), shares->small.dir, &whole);
    struct fathom_engine *engine = engine_make(FATHOM_IO_PREAD, 1);
    shares_ask(&shares->right, shares, engine,
               how->whole_is_right ? shares->whole : shares->partly[0], 1);
    fathom_engine_destroy(engine);
    *state = shares;
    return 0;
}

int shares_free(void **state)
{
    struct shares *shares = *state;
    answers_free(&shares->right);
    fathom_index_close(shares->whole);
    fathom_index_close(shares->least);
    for (int s = 0; s < SHARES; s++)
        fathom_index_close(shares->partly[s]);
    small_index_remove(&shares->small);
    free(shares);
    return 0;
}

void shares_ask(struct answers *out, const struct shares *shares, struct fathom_engine *engine,
                const struct fathom_index *index, unsigned inflight)
{
    const struct small_index *small = &shares->small;
    struct fathom_query request = small_request(small, 0);
    if (shares->how->search_list)
        request.search_list = shares->how->search_list;
    answers_get(out, engine, index, &request, small->raw_queries, small->options.dim,
                small->options.queries, inflight);
}

void shares_expect_right(const struct shares *shares, const struct fathom_index *index)
{
    for (size_t e = 0; e < 2; e++)
        for (unsigned inflight = 1; inflight <= INFLIGHT && io_works(engines[e]); inflight *= 4) {
            struct answers answers;
            struct fathom_engine *engine = engine_make(engines[e], inflight);
            shares_ask(&answers, shares, engine, index, inflight);
            answers_assert_same(&shares->right, &answers);
            answers_free(&answers);
            fathom_engine_destroy(engine);
        }
}

void shares_expect_usable(const struct shares *shares, struct fathom_engine *engine)
{
    struct answers answers;
    shares_ask(&answers, shares, engine, shares->partly[1], 3);
    answers_assert_same(&shares->right, &answers);
    answers_free(&answers);
}

void shares_expect_deadline(const struct shares *shares,
                            uint32_t (*reads)(const struct fathom_query_stats *))
{
    struct fault_env fault;
    if (!io_works(FATHOM_IO_URING))
        skip();
    struct fathom_engine *engine = slow_past_deadline(&fault, SLOW_STUCK(2), shares->partly[0],
                                                      small_request(&shares->small, 0), reads, 2);
    shares_expect_usable(shares, engine); /* the read is still out */
    fault_release(&fault);
    fathom_engine_destroy(engine);
}

void shares_expect_end(const struct shares *shares)
{
    struct fathom_query requests[SLOW_INFLIGHT];
    for (uint32_t q = 0; q < SLOW_INFLIGHT; q++)
        requests[q] = small_request(&shares->small, q);
    for (size_t e = 0; e < 2 && io_works(engines[e]); e++)
        for (int polls = 0; polls < 4; polls++) {
            unsigned fds = fd_count();
            struct fathom_index *index;
            assert_int_equal(shares->how->open(&index, env_os(), shares->small.dir, EARLY_SHARE,
                                               SLOW_INFLIGHT, NULL),
                             0);
            slow_end_early(engines[e], "read#3+:stall=10ms", index, requests, SLOW_INFLIGHT, polls);
            assert_int_equal(fd_count(), fds);
        }
}
